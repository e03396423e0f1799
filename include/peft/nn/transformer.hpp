// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>

#include "peft/autograd/functions/cross_entropy.hpp"
#include "peft/autograd/functions/target_loss.hpp"
#include "peft/nn/block.hpp"
#include "peft/nn/embedding.hpp"
#include "peft/nn/front.hpp"
#include "peft/nn/head.hpp"
#include "peft/nn/relative_positions.hpp"
#include "peft/nn/transformer_config.hpp"
#include "peft/nn/with_blanks.hpp"

namespace peft {

/// A decoder, an encoder, or a decoder and its encoder: embeddings, blocks, norm, head. What an architecture lacks is absent. A copy shares every tensor and
/// starts without adapters.
template <Scalar T>
struct Transformer {
  using Scalar_ = T;
  using Sites = SiteTypes<Embedding<T>, Linear<T>, Norm<T>, AttentionCore<T>, Attention<T>, Mlp<T>, ResidualJoin<T>>;
  TransformerConfig config;
  Embedding<T> embed_tokens;
  std::optional<Embedding<T>> embed_positions, embed_token_types;
  std::optional<Norm<T>> embedding_norm;
  std::optional<RelativePositions<T>> encoder_positions;
  std::vector<Block<T>> encoder_layers;
  std::optional<Norm<T>> encoder_norm;
  std::optional<RelativePositions<T>> relative_positions;
  std::vector<Block<T>> layers;
  std::optional<Norm<T>> norm;
  std::optional<HeadTransform<T>> head_transform;
  Linear<T> lm_head;  // or the classifier; without a weight: only hidden states are wanted

  /// What is decoded from these: puts the encoder's output (N, hidden) into the pass. Source sequence i is of the pass's sequence i. Virtual tokens
  /// that the pass has for sources are put in front of them here.
  void encode(Pass<T>& pass, std::shared_ptr<const Sequences> sources, std::span<const std::int32_t> ids) const {
    if (encoder_layers.empty()) throw ConfigError("encode", "a model of type \"" + config.model_type + "\", which has no encoder");
    if (sources->rows() != std::int64_t(ids.size()))
      throw ShapeError("encode", std::to_string(ids.size()) + " ids for sequences of " + std::to_string(sources->rows()) + " rows");
    FrontedRows fronted;
    if (!pass.source_fronts.empty()) {
      fronted = with_fronts(pass.source_fronts, *sources, ids);
      sources = std::move(fronted.sequences), ids = fronted.ids;
    }
    pass.source_sequences = std::move(sources);
    const Pass<T> at_source = pass.at_source();
    const PassScope<T> scope(at_source);
    const Variable<T> h = through(encoder_layers, encoder_positions, 0, std::int64_t(encoder_layers.size()), embeddings(ids, {}));
    pass.source = encoder_norm ? (*encoder_norm)(h) : h;
  }
  /// The keys and values that the decoder's layers make of the pass's source go into empty caches, one a source sequence: all that decoding
  /// needs of it (KvCache::source), computed once.
  void remember_source(const Pass<T>& pass, std::span<KvCache<T>> caches) const {
    if (!pass.source_sequences || pass.source_sequences->size() != caches.size())
      throw ShapeError("encode",
                       std::to_string(caches.size()) + " caches for " + std::to_string(pass.source_sequences ? pass.source_sequences->size() : 0) + " sources");
    const std::span<const Sequence> sources = pass.source_sequences->all();
    for (const Block<T>& block : layers) {
      const auto all = block.cross_attn->of_source(pass);
      for (std::size_t i = 0; i < caches.size(); i++)
        caches[i].append(block.cross_attn->layer, all.k.value().view().row_range(sources[i].begin, sources[i].end),
                         all.v.value().view().row_range(sources[i].begin, sources[i].end));
    }
    for (std::size_t i = 0; i < caches.size(); i++) caches[i].advance(sources[i].length());
  }

  /// ids (N), packed as the current Pass says → hidden states (N, hidden) behind the last norm. token_types (N): 0 everywhere if none are given.
  Variable<T> hidden_states(std::span<const std::int32_t> ids, std::span<const std::int32_t> token_types = {}) const {
    return under_blanks(ids, [&] { return hidden_states_from(0, entering(0, ids, token_types)); });
  }
  /// The same in two parts: what enters block `layer` (N, hidden), and what becomes of it from there on.
  Variable<T> entering(std::int64_t layer, std::span<const std::int32_t> ids, std::span<const std::int32_t> token_types = {}) const {
    const Pass<T>* pass = Pass<T>::current();
    if (!pass || !pass->sequences) throw Error("transformer", "no Pass: a forward begins with PassScope, which says where sequences begin and end");
    if (pass->sequences->rows() != std::int64_t(ids.size()))
      throw ShapeError("transformer", std::to_string(ids.size()) + " ids for sequences of " + std::to_string(pass->sequences->rows()) + " rows");
    return under_blanks(ids, [&] { return through(layers, relative_positions, 0, layer, embeddings(ids, token_types)); });
  }
  Variable<T> hidden_states_from(std::int64_t layer, Variable<T> entering) const {
    Variable<T> h = through(layers, relative_positions, layer, std::int64_t(layers.size()), std::move(entering));
    const Pass<T>* pass = Pass<T>::current();
    for (std::size_t i = 0; i < pass->caches.size(); i++) pass->caches[i]->advance((*pass->sequences)[i].length());
    return norm ? (*norm)(h) : h;
  }

  /// The sequences of a pass with the blanks that their ids have (with_blanks); the same sequences for a model that fills none. `hidden_states` and `entering`
  /// do it by themselves; who calls hidden_states_from alone puts these into the pass.
  std::shared_ptr<const Sequences> with_blanks(const Pass<T>& pass, std::span<const std::int32_t> ids) const {
    return config.blank_tokens && pass.sequences ? peft::with_blanks(pass, ids, *config.blank_tokens) : pass.sequences;
  }

  /// hidden (N, hidden) → logits (N, vocab); of a head that reads one row of each sequence: (sequences, labels).
  Variable<T> logits(const Variable<T>& hidden) const {
    return at_head(hidden, [&](const Variable<T>& x) { return capped(lm_head(x)); });
  }

  /// Mean of −log p(target) over the rows that have one (or sum / denominator); targets (N), ignore_index elsewhere; of a head that reads one
  /// row of each sequence: one a sequence. The logits are never stored; where an adapter sits on the head, it runs on tiles of rows, forward
  /// and backward tile by tile.
  Variable<T> loss(const Variable<T>& hidden, std::span<const std::int32_t> targets, double denominator = 0) const {
    return at_head(hidden, [&](const Variable<T>& x) { return classification_loss(x, targets, denominator); });
  }

  /// The loss of regression, or of several labels at once, as the configuration names it; targets (sequences, labels).
  Variable<T> loss(const Variable<T>& hidden, const Tensor<T>& targets) const {
    const Variable<T> y = logits(hidden);
    return config.head.problem == ProblemType::multi_label_classification ? binary_cross_entropy_with_logits(y, targets) : mse_loss(y, targets);
  }

  /// Question answering: mean of the cross-entropies of where answers start and end, each over the rows of its sequence. An answer outside of
  /// its sequence (cut away) is ignore_index.
  Variable<T> span_loss(const Variable<T>& hidden, std::span<const std::int32_t> starts, std::span<const std::int32_t> ends) const {
    const Sequences& sequences = *Pass<T>::current()->sequences;
    if (starts.size() != sequences.size() || ends.size() != sequences.size())
      throw ShapeError("span_loss", std::to_string(starts.size()) + " starts and " + std::to_string(ends.size()) + " ends for " +
                                        std::to_string(sequences.size()) + " sequences");
    const Variable<T> y = logits(hidden);
    Variable<T> total(Tensor<T>::zeros({}));
    for (const std::int64_t end : {0, 1}) {
      const std::span<const std::int32_t> places = end ? ends : starts;
      const double known = double(std::ranges::count_if(places, [](std::int32_t p) { return p != ignore_index; }));
      for (std::size_t i = 0; i < sequences.size(); i++)
        if (places[i] != ignore_index) {
          Variable<T> scores = columns(rows(y, sequences[i].begin, sequences[i].end), end, end + 1);
          total = add(std::move(total), cross_entropy(reshape(std::move(scores), Shape{1, sequences[i].length()}), places.subspan(i, 1), 2 * known));
        }
    }
    return total;
  }

  static void describe(auto& self, auto&& visit) {
    visit("embed_tokens", self.embed_tokens);
    if (self.embed_positions) visit("embed_positions", *self.embed_positions);
    if (self.embed_token_types) visit("embed_token_types", *self.embed_token_types);
    if (self.embedding_norm) visit("embedding_norm", *self.embedding_norm);
    if (self.encoder_positions) visit("encoder_positions", *self.encoder_positions);
    if (!self.encoder_layers.empty()) visit("encoder_layers", self.encoder_layers);
    if (self.encoder_norm) visit("encoder_norm", *self.encoder_norm);
    if (self.relative_positions) visit("relative_positions", *self.relative_positions);
    visit("layers", self.layers);
    if (self.norm) visit("norm", *self.norm);
    if (self.head_transform) visit("head_transform", *self.head_transform);
    if (self.lm_head.weight) visit("lm_head", self.lm_head);
  }

 private:
  // f under the current pass, whose sequences have their blanks then.
  template <class F>
  Variable<T> under_blanks(std::span<const std::int32_t> ids, F f) const {
    const Pass<T>* pass = Pass<T>::current();
    if (!config.blank_tokens || !pass) return f();
    Pass<T> blanked = *pass;
    blanked.sequences = with_blanks(*pass, ids);
    const PassScope<T> scope(blanked);
    return f();
  }
  Variable<T> through(const std::vector<Block<T>>& blocks, const std::optional<RelativePositions<T>>& relative, std::int64_t begin, std::int64_t end,
                      Variable<T> h) const;
  Variable<T> embeddings(std::span<const std::int32_t> ids, std::span<const std::int32_t> token_types) const {
    Variable<T> h = embed_tokens(ids);
    if (embed_positions) h = add(std::move(h), (*embed_positions)(position_rows(ids)));
    if (!embed_token_types) {
      if (!token_types.empty()) throw ConfigError("transformer", "token types for a model of type \"" + config.model_type + "\", which has none");
    } else {
      if (!token_types.empty() && token_types.size() != ids.size())
        throw ShapeError("transformer", std::to_string(token_types.size()) + " token types for " + std::to_string(ids.size()) + " ids");
      h = add(std::move(h), (*embed_token_types)(token_types.empty() ? std::span<const std::int32_t>(Ids(ids.size(), 0)) : token_types));
    }
    return embedding_norm ? (*embedding_norm)(h) : h;
  }
  // For each row the row of the table of learned positions.
  Ids position_rows(std::span<const std::int32_t> ids) const {
    const EmbeddingConfig& e = config.embedding;
    const Sequences& sequences = *Pass<T>::current()->sequences;
    Ids table_rows(ids.size());
    for (const Sequence& s : sequences.all()) {
      std::int64_t position = s.first_position + e.first_position;
      for (std::int64_t i = s.begin; i < s.end; i++) {
        const bool counts = e.padding_has_position || ids[std::size_t(i)] != e.padding_idx;
        if (counts && position >= embed_positions->num_embeddings())
          throw ShapeError("transformer", "position " + std::to_string(position - e.first_position) + "; this model has learned " +
                                              std::to_string(embed_positions->num_embeddings() - e.first_position) + " positions");
        table_rows[std::size_t(i)] = std::int32_t(counts ? position++ : e.first_position - 1);
      }
    }
    return table_rows;
  }

  Variable<T> capped(Variable<T> logits) const { return config.head.softcap > 0 ? softcap(std::move(logits), config.head.softcap) : std::move(logits); }
  // f of what the last Linear reads, under a pass whose rows are these.
  template <class F>
  Variable<T> at_head(const Variable<T>& hidden, F f) const {
    if (!lm_head.weight) throw ConfigError("transformer", "this model has no head; it gives hidden states");
    if (config.head.scale != 1) return f(scale(hidden, T(config.head.scale)));
    if (config.head.pooling == Pooling::none) return f(head_transform ? (*head_transform)(hidden) : hidden);
    const Pass<T> pass = pooled_pass(hidden.rows());
    std::vector<Variable<T>, PoolAllocator<Variable<T>>> chosen;
    for (const Sequence& s : Pass<T>::current()->sequences->all()) {
      const std::int64_t row = config.head.pooling == Pooling::first ? s.begin : s.end - 1;
      chosen.push_back(rows(hidden, row, row + 1));
    }
    const PassScope<T> scope(pass);
    const Variable<T> x = concat_rows<T>(chosen);
    return f(head_transform ? (*head_transform)(x) : x);
  }
  // The current pass, of which each sequence has kept one row.
  Pass<T> pooled_pass(std::int64_t total) const {
    const Pass<T>* current = Pass<T>::current();
    if (!current || !current->sequences || current->sequences->rows() != total)
      throw Error("transformer", "a head that reads one row of each sequence needs the Pass that its hidden states were computed under");
    Pass<T> pass = *current;
    std::vector<Sequence, PoolAllocator<Sequence>> kept;
    for (Sequence s : current->sequences->all()) {
      if (s.length() == 0) throw ShapeError("transformer", "a sequence without tokens has no row to be classified by");
      if (config.head.pooling == Pooling::last) s.first_position += s.length() - 1;
      s.begin = std::int64_t(kept.size()), s.end = s.begin + 1, s.behind = -1;
      kept.push_back(s);
    }
    pass.sequences = std::allocate_shared<Sequences>(PoolAllocator<Sequences>(), std::move(kept));
    return pass;
  }

  Variable<T> classification_loss(const Variable<T>& hidden, std::span<const std::int32_t> targets, double denominator) const {
    if (!lm_head.adapters.engaged()) return linear_cross_entropy(hidden, lm_head.weight, lm_head.bias, targets, denominator, 0, config.head.softcap);
    if (denominator <= 0) denominator = double(std::ranges::count_if(targets, [](std::int32_t t) { return t != ignore_index; }));
    constexpr std::int64_t tile = 64;
    Variable<T> total(Tensor<T>::zeros({}));
    for (std::int64_t begin = 0; begin < hidden.rows(); begin += tile) {
      const std::int64_t end = std::min(begin + tile, hidden.rows());
      const Ids labels(targets.begin() + begin, targets.begin() + end);
      if (std::ranges::all_of(labels, [](std::int32_t t) { return t == ignore_index; })) continue;
      const Pass<T> pass = tile_pass(begin, end);
      total = add(std::move(total), checkpoint<T>(
                                        [this, labels, denominator, pass](const Variable<T>& x) {
                                          PassScope<T> scope(pass);
                                          return cross_entropy(capped(lm_head(x)), labels, denominator);
                                        },
                                        rows(hidden, begin, end)));
    }
    return total;
  }
  // The current pass, seen from rows begin … end alone.
  Pass<T> tile_pass(std::int64_t begin, std::int64_t end) const {
    Pass<T> pass = Pass<T>::current() ? *Pass<T>::current() : Pass<T>();
    if (!pass.sequences) return pass;
    std::vector<Sequence, PoolAllocator<Sequence>> cut;
    for (Sequence s : pass.sequences->all()) {
      if (s.end <= begin || s.begin >= end) continue;
      s.first_position += std::max<std::int64_t>(begin - s.begin, 0), s.behind = -1;
      s.begin = std::max(s.begin, begin) - begin, s.end = std::min(s.end, end) - begin;
      cut.push_back(s);
    }
    pass.sequences = std::allocate_shared<Sequences>(PoolAllocator<Sequences>(), std::move(cut));
    return pass;
  }
};

template <Scalar T>
Variable<T> Transformer<T>::through(const std::vector<Block<T>>& blocks, const std::optional<RelativePositions<T>>& relative, std::int64_t begin,
                                    std::int64_t end, Variable<T> h) const {
  const Pass<T>* pass = Pass<T>::current();
  if (relative && !pass->relative_bias) {
    Pass<T> biased = *pass;
    biased.relative_bias = relative->table(*pass->sequences), biased.relative_zero = relative->zero(*pass->sequences);
    const PassScope<T> scope(biased);
    return through(blocks, relative, begin, end, std::move(h));
  }
  for (std::int64_t i = begin; i < end; i++) {
    const Block<T>& block = blocks[std::size_t(i)];
    if (pass->checkpointing)
      h = checkpoint<T>(
          [&block, pass = *pass](const Variable<T>& x) {
            PassScope<T> scope(pass);
            return block(x);
          },
          h);
    else
      h = block(std::move(h));
  }
  return h;
}

#if defined(PEFT_COMPILED)
extern template struct Walked<Transformer<float>>;
extern template struct Walked<Transformer<double>>;
extern template Variable<float> Transformer<float>::through(const std::vector<Block<float>>&, const std::optional<RelativePositions<float>>&, std::int64_t,
                                                            std::int64_t, Variable<float>) const;
extern template Variable<double> Transformer<double>::through(const std::vector<Block<double>>&, const std::optional<RelativePositions<double>>&, std::int64_t,
                                                              std::int64_t, Variable<double>) const;
#endif

}  // namespace peft
