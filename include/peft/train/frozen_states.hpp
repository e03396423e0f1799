// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "peft/adapters/peft_model.hpp"
#include "peft/nn/transformer.hpp"

namespace peft {

namespace detail {
/// Bytes behind one another, in memory or in a file that has no name any more and so goes with the process.
class Heap {
 public:
  explicit Heap(const std::string& directory);
  std::int64_t append(const void* data, std::int64_t bytes);  // where they are
  void read(void* to, std::int64_t at, std::int64_t bytes) const;
  std::int64_t bytes() const { return size_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string directory_;
  std::vector<std::byte> memory_;
  std::unique_ptr<std::FILE, Close> file_;
  std::int64_t size_ = 0;
};
}  // namespace detail

/// The hidden states (tokens, hidden_size) that enter the first trained layer, for each example of a dataset. Below it nothing changes while a
/// model trains, so they are computed once, in the first epoch. With a directory they are kept in a file there, which vanishes at the end.
template <Scalar T>
class FrozenStates {
 public:
  FrozenStates(std::int64_t layer, std::size_t examples, const std::string& directory = "") : layer_(layer), places_(examples, -1), heap_(directory) {}
  std::int64_t layer() const { return layer_; }
  std::int64_t bytes() const { return heap_.bytes(); }
  bool has(std::uint64_t example) const { return places_.at(example) >= 0; }
  /// `rows` without gaps between them.
  void put(std::uint64_t example, View<const T> rows) { places_.at(example) = heap_.append(rows.data, rows.rows * rows.cols * std::int64_t(sizeof(T))); }
  void get(std::uint64_t example, View<T> rows) const { heap_.read(rows.data, places_.at(example), rows.rows * rows.cols * std::int64_t(sizeof(T))); }

 private:
  std::int64_t layer_;
  std::vector<std::int64_t> places_;
  detail::Heap heap_;
};

/// The first block in which a parameter trains or an active adapter sits; as many as there are blocks if all of that is behind them. 0, too,
/// where something in front of the blocks does, or where an adapter puts something in front of sequences.
template <Scalar T>
std::int64_t first_trained_layer(Transformer<T>& transformer, const Active& active = {}) {
  if (!transformer.encoder_layers.empty()) return 0;  // what enters a block of the decoder is not all that it reads
  const std::vector<Block<T>>& layers = transformer.layers;
  std::int64_t first = std::int64_t(layers.size());
  // A block's parameters and sites are within it; what is in front of the blocks is no norm or head behind them.
  const auto found = [&](const void* there) {
    const auto *at = static_cast<const std::byte*>(there), *begin = reinterpret_cast<const std::byte*>(layers.data());
    const auto within = [&](const auto& part) { return at >= reinterpret_cast<const std::byte*>(&part) && at < reinterpret_cast<const std::byte*>(&part + 1); };
    if (at >= begin && at < reinterpret_cast<const std::byte*>(layers.data() + layers.size()))
      first = std::min<std::int64_t>(first, (at - begin) / std::ptrdiff_t(sizeof(Block<T>)));
    else if (!within(transformer.norm) && !within(transformer.head_transform) && !within(transformer.lm_head))
      first = 0;
  };
  for_each_parameter(transformer, [&](const std::string&, const Parameter<T>& parameter) {
    if (parameter.requires_grad()) found(&parameter);
  });
  for_each_site(transformer, [&](const std::string&, const auto& site) {
    if (std::ranges::any_of(active, [&](int id) { return site.adapters.has(id); })) found(&site);
  });
  return first;
}
template <Scalar T>
std::int64_t first_trained_layer(PeftModel<Transformer<T>>& model) {
  const NoGrad guard;
  const Pass<T> pass = model.pass();
  return pass.fronts.empty() && pass.past.empty() ? first_trained_layer(model.model(), model.active()) : 0;
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/train/impl/frozen_states.inl"
#endif
