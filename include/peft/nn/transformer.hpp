// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>

#include "peft/autograd/functions/cross_entropy.hpp"
#include "peft/nn/block.hpp"
#include "peft/nn/embedding.hpp"

namespace peft {

enum class RopeScaling { none, linear, llama3 };

struct RopeConfig {
  double theta = 10000;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  std::int64_t original_max_position_embeddings = 0;
  std::vector<double> divisors = {};  // one a pair: what a file gives as factors that divide the frequencies
  bool interleaved = false;
};

/// Frequencies (radians a position) of the rotary_dim / 2 pairs: θ^(−2i/d), scaled as the configuration says.
std::vector<double> rope_frequencies(const RopeConfig& config, std::int64_t rotary_dim);

struct NormConfig {
  NormKind kind = NormKind::rms;
  double eps = 1e-5;
  double offset = 0;
};
struct AttentionConfig {
  std::int64_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  bool qkv_bias = false, o_bias = false;
  std::optional<RopeConfig> rope;
  std::int64_t sliding_window = 0;
};
struct MlpConfig {
  MlpKind kind = MlpKind::gated;
  Activation activation = Activation::silu;
  std::int64_t intermediate_size = 0;
  bool bias = false;
};
struct HeadConfig {
  bool tied = true;
};

/// A transformer in numbers: what models/ states for each architecture.
struct TransformerConfig {
  std::string model_type;  // as config.json calls it
  std::string name;        // for people
  std::int64_t vocab_size = 0, hidden_size = 0, num_hidden_layers = 0, max_position_embeddings = 0;
  NormConfig norm;
  AttentionConfig attention;
  MlpConfig mlp;
  HeadConfig head;
  std::int64_t pad_token_id = -1;
  std::vector<std::int32_t> bos_token_ids, eos_token_ids;
};

/// A decoder: embedding, blocks, norm, head. A copy shares every tensor and starts without adapters.
template <Scalar T>
struct Transformer {
  using Scalar_ = T;
  TransformerConfig config;
  Embedding<T> embed_tokens;
  std::vector<Block<T>> layers;
  Norm<T> norm;
  Linear<T> lm_head;

  /// ids (N), packed as the current Pass says → hidden states (N, hidden) behind the last norm.
  Variable<T> hidden_states(std::span<const std::int32_t> ids) const {
    const Pass<T>* pass = Pass<T>::current();
    if (!pass || !pass->sequences) throw Error("transformer", "no Pass: a forward begins with PassScope, which says where sequences begin and end");
    if (pass->sequences->rows() != std::int64_t(ids.size()))
      throw ShapeError("transformer", std::to_string(ids.size()) + " ids for sequences of " + std::to_string(pass->sequences->rows()) + " rows");
    Variable<T> h = embed_tokens(ids);
    for (const Block<T>& block : layers) {
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
    if (!pass->caches.empty())
      for (std::size_t i = 0; i < pass->caches.size(); i++) pass->caches[i]->advance((*pass->sequences)[i].length());
    return norm(h);
  }
  /// hidden (N, hidden) → logits (N, vocab)
  Variable<T> logits(const Variable<T>& hidden) const { return lm_head(hidden); }

  /// Mean of −log p(target) over the rows that have one (or sum / denominator); targets (N), ignore_index elsewhere. The logits are never
  /// stored; where an adapter sits on the head, it runs on tiles of rows, forward and backward tile by tile.
  Variable<T> loss(const Variable<T>& hidden, std::span<const std::int32_t> targets, double denominator = 0) const {
    if (!lm_head.adapters.engaged()) return linear_cross_entropy(hidden, lm_head.weight, lm_head.bias, targets, denominator);
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
                                          return cross_entropy(lm_head(x), labels, denominator);
                                        },
                                        rows(hidden, begin, end)));
    }
    return total;
  }

  static void describe(auto& self, auto&& visit) {
    visit("embed_tokens", self.embed_tokens);
    visit("layers", self.layers);
    visit("norm", self.norm);
    visit("lm_head", self.lm_head);
  }

 private:
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

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/nn/impl/transformer.inl"
#endif
