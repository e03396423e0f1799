// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/on_linear.hpp"
#include "peft/adapters/shira/config.hpp"

namespace peft {

/// SHiRA (Bhardwaj et al. 2024, arXiv:2406.13175): few entries of the weight train, at places that are chosen once.
///
///     y = W x + S x,   S zero but for r (in + out) places
template <Scalar T>
struct Shira {
  Parameter<T> values;   // (K)
  Parameter<T> indices;  // (2, K): rows and columns; frozen, whole numbers
  struct Places {
    std::uint64_t version = ~std::uint64_t{0};
    std::shared_ptr<const ops::SparsePlaces> places;
    std::mutex mutex;
  };
  std::shared_ptr<Places> memo = std::make_shared<Places>();

  std::shared_ptr<const ops::SparsePlaces> places() const {
    const std::lock_guard<std::mutex> lock(memo->mutex);
    if (memo->version != indices.version()) {
      auto places = std::make_shared<ops::SparsePlaces>();
      for (std::int64_t k = 0; k < values.size(); k++)
        places->row.push_back(std::int32_t(indices.value()(0, k))), places->column.push_back(std::int32_t(indices.value()(1, k)));
      memo->places = std::move(places), memo->version = indices.version();
    }
    return memo->places;
  }
  /// Throws AdapterError for places that a file has outside of the weight.
  std::shared_ptr<const ops::SparsePlaces> checked_places(const Linear<T>& base) const {
    const auto at = places();
    for (std::size_t k = 0; k < at->row.size(); k++)
      if (at->row[k] < 0 || at->row[k] >= base.out_features() || at->column[k] < 0 || at->column[k] >= base.in_features())
        throw AdapterError("shira", "shira_indices has (" + std::to_string(at->row[k]) + ", " + std::to_string(at->column[k]) + "), outside of " + base.path);
    return at;
  }
  Variable<T> operator()(const Linear<T>& base, const Variable<T>& x, Variable<T> y) const {
    return sparse_update(std::move(y), x, values.variable(), checked_places(base));
  }
  void merge_into(Linear<T>& fused, const Linear<T>& base) const {
    const auto at = checked_places(base);
    ops::add_entries<T>(fused.weight.value().view(), values.value().data(), *at);
    fused.weight.touch();
  }
  static void describe(auto& self, auto&& visit) {
    visit("shira_weight", self.values);
    visit("shira_indices", self.indices);
  }
};

inline void to_file(ShiraConfig&, AdapterTensors& tensors) {
  for (AdapterTensor& t : tensors)
    if (t.name.ends_with(".shira_indices")) t.dtype = DType::i32;
}

inline void from_file(const ShiraConfig&, AdapterTensors& tensors) {
  for (AdapterTensor& t : tensors)
    if (t.name.ends_with(".shira_indices")) t.dtype = DType::f32;
}

template <Scalar T>
bool attach_adapter(const ShiraConfig& config, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&]([[maybe_unused]] Random random) {
    const std::int64_t in = site.in_features(), out = site.out_features(), n = config.r * (in + out);
    if (n > in * out)
      throw ConfigError("shira.attach", "r is " + std::to_string(config.r) + ", so that " + std::to_string(n) + " entries of " + context.path +
                                            " would train; it has " + std::to_string(in * out));
    if (LeaveUnfilled::on()) return Shira<T>{unfilled<T>({n}), Parameter<T>(Tensor<T>({2, n}))};
    // A sample without repetition, in the order of the weight.
    Random places = random.fork(std::uint64_t(config.random_seed));
    std::vector<std::int64_t> chosen;
    for (std::int64_t seen = 0, left = n; left > 0; seen++)
      if (std::int64_t(places.below(std::uint64_t(in * out - seen))) < left) chosen.push_back(seen), left--;
    Tensor<T> indices({2, n});
    for (std::int64_t k = 0; k < n; k++) indices(0, k) = T(chosen[std::size_t(k)] / in), indices(1, k) = T(chosen[std::size_t(k)] % in);
    Parameter<T> values = config.init_weights ? constant<T>({n}, 0) : drawn_normal<T>({n}, 0, 1, random);
    return Shira<T>{std::move(values), Parameter<T>(std::move(indices))};
  });
}
template <Scalar T>
bool attachable(const ShiraConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
