// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <limits>

#include "peft/autograd/tape.hpp"
#include "peft/generate/language_model.hpp"

namespace peft {

template <Scalar T>
std::int64_t LanguageModel<T>::context_length() const {
  constexpr std::int64_t unlimited = std::numeric_limits<std::int64_t>::max() / 2;  // sums of it and a length are numbers still
  if (config().attention.relative_buckets > 0) return unlimited;
  std::int64_t front = 0;
  for (const Front& f : pass_.fronts) front = std::max(front, f.positions + f.tokens);
  return config().max_position_embeddings > 0 ? config().max_position_embeddings - front : unlimited;
}

template <Scalar T>
const Active& LanguageModel<T>::active(int active) const {
  static const Active none;
  return pass_.lists ? (*pass_.lists)[std::size_t(active)] : none;
}

template <Scalar T>
Front LanguageModel<T>::front(int active) const {
  return std::size_t(active) < pass_.fronts.size() ? pass_.fronts[std::size_t(active)] : Front();
}

template <Scalar T>
std::int64_t LanguageModel<T>::placed_tokens(int active) const {
  const std::vector<Front>& fronts = has_encoder() ? pass_.source_fronts : pass_.fronts;
  return std::size_t(active) < fronts.size() ? fronts[std::size_t(active)].placed : 0;
}

template <Scalar T>
void LanguageModel<T>::check_placed(std::span<const std::int32_t> ids, int active) const {
  if (placed_tokens(active) > 0 && std::ranges::none_of(ids, [&](std::int32_t id) { return id >= config().vocab_size; }))
    throw ConfigError("generate", "a text without any of the virtual tokens that its adapter's token_template places; PlacedPrompt makes such prompts");
}

template <Scalar T>
KvCache<T> LanguageModel<T>::make_cache(std::int64_t capacity, int list, bool whole) const {
  const AttentionConfig& a = config().attention;
  KvCache<T> cache(config().num_hidden_layers, a.num_key_value_heads * a.head_dim, std::max<std::int64_t>(capacity, 1), cache_dtype_,
                   whole ? std::span<const std::int64_t>() : windows_);
  cache.made_by = active(list), cache.prefix = front(list).past;
  return cache;
}

template <Scalar T>
KvCache<T> LanguageModel<T>::continue_cache(std::shared_ptr<const KvCache<T>> from, std::int64_t capacity, int list) const {
  if (from->dtype() == cache_dtype_ && !from->base() && from->rows() > 0) return KvCache<T>::continuing(std::move(from), capacity, windows_);
  KvCache<T> cache = make_cache(from->own_rows() + capacity, list);
  cache.copy_from(*from);
  return cache;
}

template <Scalar T>
void LanguageModel<T>::check_ids(std::span<const std::int32_t> ids, std::int64_t placed) const {
  if (ids.empty()) throw ShapeError("generate", "a sequence without tokens; a prompt needs at least one");
  for (std::int32_t id : ids)
    if (id < 0 || id >= config().vocab_size + placed)
      throw ShapeError("generate",
                       "the token id " + std::to_string(id) + "; allowed: 0 to " + std::to_string(config().vocab_size - 1) + ", the model's vocabulary");
}

template <Scalar T>
std::vector<std::shared_ptr<const KvCache<T>>> LanguageModel<T>::read_sources(std::span<const Source> sources) {
  constexpr std::size_t most = 512;  // rows of one forward; a source is never cut: all of its tokens see each other
  const NoGrad inference;
  const ops::UseKernel use(ops::Kernel::panel);
  for (const Source& source : sources) check_ids(source.ids, placed_tokens(source.active));
  std::vector<std::shared_ptr<const KvCache<T>>> read;
  while (read.size() < sources.size()) {
    std::vector<Sequence, PoolAllocator<Sequence>> sequences;
    std::vector<KvCache<T>> caches;
    ids_.clear();
    for (const Source& source : sources.subspan(read.size())) {
      if (!sequences.empty() && ids_.size() + source.ids.size() > most) break;
      Sequence s;
      s.begin = std::int64_t(ids_.size()), s.active = source.active, s.id = sequences.size();
      ids_.insert(ids_.end(), source.ids.begin(), source.ids.end());
      s.end = std::int64_t(ids_.size());
      sequences.push_back(s);
      caches.push_back(make_cache(s.length(), source.active, true));
    }
    Pass<T> pass = pass_;
    pass.caches.clear();
    model_->encode(pass, std::allocate_shared<Sequences>(PoolAllocator<Sequences>(), std::move(sequences)), ids_);
    model_->remember_source(pass, std::span(caches));
    for (KvCache<T>& cache : caches) read.push_back(std::make_shared<const KvCache<T>>(std::move(cache)));
  }
  return read;
}

template <Scalar T>
Tensor<T> LanguageModel<T>::hidden_states(std::span<const Continuation> all, ops::Kernel kernel) {
  const NoGrad inference;
  const ops::UseKernel use(kernel);
  std::vector<Sequence, PoolAllocator<Sequence>> sequences;
  sequences.reserve(all.size());
  pass_.caches.clear();
  ids_.clear();
  std::int64_t virtual_rows = 0;
  for (const Continuation& c : all) {
    check_ids(c.ids, has_encoder() ? 0 : placed_tokens(c.active));
    if (has_encoder() && !c.cache->source)
      throw NotSupported("generate", "this continues a text, and a model of type \"" + config().model_type +
                                         "\", an encoder-decoder, writes one from a source; generate answers a prompt with it");
    if (c.cache->made_by != active(c.active))
      throw Error("generate", "this cache holds what other active adapters computed; begin with an empty one after changing adapters");
    Sequence s;
    const Front front = this->front(c.active);
    s.begin = std::int64_t(ids_.size());
    if (front.tokens > 0 && c.cache->rows() == 0) {  // virtual tokens are ordinary rows of the cache from here on
      c.cache->restart(front.tokens), virtual_rows += front.tokens;
      for (std::int64_t i = 0; i < front.tokens; i++) ids_.push_back(front.first_id + std::int32_t(i));
    }
    s.end = std::int64_t(ids_.size() + c.ids.size());
    s.first_position = front.positions + c.cache->rows(), s.active = c.active, s.id = sequences.size();
    sequences.push_back(s);
    pass_.caches.push_back(c.cache);
    ids_.insert(ids_.end(), c.ids.begin(), c.ids.end());
  }
  pass_.sequences = std::allocate_shared<Sequences>(PoolAllocator<Sequences>(), std::move(sequences));
  const PassScope<T> scope(pass_);
  const Tensor<T> hidden = model_->hidden_states(ids_).value();
  if (virtual_rows == 0) return hidden;
  Tensor<T> tokens({hidden.rows() - virtual_rows, hidden.cols()});
  std::int64_t row = 0;
  for (std::size_t i = 0; i < all.size(); i++) {
    const auto n = std::int64_t(all[i].ids.size()), end = (*pass_.sequences)[i].end;
    ops::copy<T>(tokens.view().row_range(row, row + n), hidden.view().row_range(end - n, end));
    row += n;
  }
  return tokens;
}

template <Scalar T>
Tensor<T> LanguageModel<T>::logits(const Tensor<T>& hidden, std::span<const int> active, ops::Kernel kernel) {
  const NoGrad inference;
  const ops::UseKernel use(kernel);
  std::vector<Sequence, PoolAllocator<Sequence>> rows(active.size());
  for (std::size_t i = 0; i < rows.size(); i++) rows[i].begin = std::int64_t(i), rows[i].end = std::int64_t(i) + 1, rows[i].active = active[i];
  pass_.caches.clear();
  pass_.sequences = std::allocate_shared<Sequences>(PoolAllocator<Sequences>(), std::move(rows));
  const PassScope<T> scope(pass_);
  return model_->logits(Variable<T>(hidden)).value();
}

template <Scalar T>
Tensor<T> LanguageModel<T>::last_logits(std::span<const Continuation> all, ops::Kernel kernel) {
  Tensor<T> hidden = hidden_states(all, kernel);
  last_active_.clear();
  for (const Continuation& c : all) last_active_.push_back(c.active);
  if (hidden.rows() != std::int64_t(all.size())) {
    Tensor<T> last({std::int64_t(all.size()), hidden.cols()});
    std::int64_t row = 0;
    for (std::size_t i = 0; i < all.size(); i++) {
      row += std::int64_t(all[i].ids.size());
      std::copy_n(hidden.view().row(row - 1), hidden.cols(), last.view().row(std::int64_t(i)));
    }
    hidden = std::move(last);
  }
  return logits(hidden, last_active_, kernel);
}

template <Scalar T>
Tensor<T> LanguageModel<T>::prefill(std::span<const Continuation> prompts, Tensor<T>* all) {
  constexpr std::size_t most = 512;  // rows of one forward
  // Each row of a blank's context sees all of it; dynamic rotary frequencies are those of the whole length.
  const bool whole = config().blank_tokens.has_value() || (config().attention.rope && config().attention.rope->scaling == RopeScaling::dynamic);
  const std::int64_t hidden_size = config().hidden_size;
  Tensor<T> last({std::int64_t(prompts.size()), hidden_size});
  if (all) {
    std::int64_t sum = 0;
    for (const Continuation& p : prompts) sum += std::int64_t(p.ids.size());
    *all = Tensor<T>({sum, hidden_size});
  }
  std::int64_t done = 0;
  std::vector<Continuation> piece;
  std::vector<std::int64_t> ends;  // for each of the piece: whose last row it brings, or −1
  std::size_t rows = 0;
  const auto run = [&] {
    const Tensor<T> hidden = hidden_states(piece, ops::Kernel::panel);
    if (all) ops::copy<T>(all->view().row_range(done, done + hidden.rows()), hidden.view());
    done += hidden.rows();
    std::int64_t row = 0;
    for (std::size_t i = 0; i < piece.size(); i++) {
      row += std::int64_t(piece[i].ids.size());
      if (ends[i] >= 0) std::copy_n(hidden.view().row(row - 1), hidden_size, last.view().row(ends[i]));
    }
    piece.clear(), ends.clear(), rows = 0;
  };
  for (std::size_t p = 0; p < prompts.size(); p++) {
    Continuation rest = prompts[p];
    do {
      const std::size_t n = whole ? rest.ids.size() : std::min(rest.ids.size(), most - rows);
      piece.push_back(rest);
      piece.back().ids = rest.ids.first(n);
      rest.ids = rest.ids.subspan(n), rows += n;
      ends.push_back(rest.ids.empty() ? std::int64_t(p) : -1);
      if (rows >= most) run();
    } while (!rest.ids.empty());
  }
  if (!piece.empty()) run();
  last_active_.clear();
  for (const Continuation& c : prompts) last_active_.push_back(c.active);
  return logits(last, last_active_, ops::Kernel::dot);  // few rows: the head is streamed once
}

PEFT_INLINE std::int64_t common_prefix(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

}  // namespace peft
