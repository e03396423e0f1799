// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "peft/nn/blank.hpp"
#include "peft/nn/front.hpp"
#include "peft/nn/mlp.hpp"
#include "peft/nn/norm.hpp"

namespace peft {

enum class RopeScaling { none, linear, llama3, yarn, dynamic };

struct RopeConfig {
  double theta = 10000;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  std::int64_t original_max_position_embeddings = 0;
  std::vector<double> divisors = {};  // one a pair: what a file gives as factors that divide the frequencies
  bool interleaved = false;
  bool two_dimensional = false;                                // the first half of a head turns by position, the second by position within the blank
  bool half_frequencies = false;                               // frequencies are rounded to F16
  double partial_rotary_factor = 1;                            // of a head turns this part, from its first element on
  double beta_fast = 32, beta_slow = 1, attention_factor = 0;  // YaRN; attention_factor 0: 0.1 log(factor) + 1
  bool truncate = true;                                        // YaRN: its bounds are whole numbers
};

/// Frequencies (radians a position) of the rotary_dim / 2 pairs: θ^(−2i/d), scaled as the configuration says. `length`: of the longest sequence, which
/// dynamic scaling goes by: beyond the original length n₀ its θ is θ (factor · length / n₀ − factor + 1)^(d / (d − 2)).
std::vector<double> rope_frequencies(const RopeConfig& config, std::int64_t rotary_dim, std::int64_t length = 0);
/// ALiBi's slope of each head (Press et al. 2021, arXiv:2108.12409): 2^(−8 i / n), i = 1 … n; where n is no power of two, those of the next smaller
/// one and then every other one of the next larger.
std::vector<double> alibi_slopes(std::int64_t heads);
/// What cosines and sines are multiplied by: 1, but for YaRN.
double rope_magnitude(const RopeConfig& config);

struct NormConfig {
  NormKind kind = NormKind::rms;
  double eps = 1e-5;
  double offset = 0;
};
/// in_front: h + f(norm h);  around: h + norm(f(norm h));  behind: norm(h + f(h)), and then no norm behind the last block.
enum class NormPlacement { in_front, around, behind };

struct EmbeddingConfig {
  double scale = 1;                  // of the word vectors
  std::int32_t padding_idx = -1;     // this row gets no gradient
  std::int64_t positions = 0;        // rows of the table of learned positions; 0: there is none
  std::int64_t first_position = 0;   // the row of position 0
  bool padding_has_position = true;  // false: padding_idx among the ids is not counted and has the row first_position − 1 (RoBERTa)
  std::int64_t token_types = 0;      // BERT's segments
  bool norm = false;                 // behind the sum
};
struct AttentionConfig {
  std::int64_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  bool qkv_bias = false, o_bias = false;
  bool fused_qkv = false;    // one Linear, as the file has it
  bool qkv_by_head = false;  // its rows are q, k, v of the first head, then of the second, …
  bool alibi = false;        // scores fall with the distance: alibi_slopes
  bool qk_norm = false;      // RMS norm of each head of q and k
  std::optional<RopeConfig> rope;
  std::int64_t sliding_window = 0;
  std::vector<bool> sliding_layers = {};  // which layers it holds for; empty: all
  double scale = 0;                       // of the scores; 0: 1/√head_dim
  double softcap = 0;                     // c: a score s is c tanh(s / c); 0: it is s
  bool causal = true;
  std::int64_t relative_buckets = 0, relative_max_distance = 128;  // T5's relative positions; 0: there are none

  std::int64_t window(std::int64_t layer) const { return sliding_layers.empty() || sliding_layers[std::size_t(layer)] ? sliding_window : 0; }
  // What turns by one position, and how much of it.
  std::int64_t turned_dim() const { return rope && rope->two_dimensional ? head_dim / 2 : head_dim; }
  std::int64_t rotary_dim() const { return rope ? std::int64_t(double(turned_dim()) * rope->partial_rotary_factor) : 0; }
};
struct MlpConfig {
  MlpKind kind = MlpKind::gated;
  Activation activation = Activation::silu;
  std::int64_t intermediate_size = 0;
  bool bias = false;
  bool fused_gate_up = false;  // one Linear, as the file has it
};

/// What a model is for, as PEFT's task_type says it.
enum class TaskType { causal_lm, masked_lm, seq_cls, token_cls, question_ans, feature_extraction, seq_2_seq_lm };
enum class ProblemType { single_label_classification, multi_label_classification, regression };
/// Which rows a head reads: all, or one of each sequence.
enum class Pooling { none, first, last };

struct HeadConfig {
  bool tied = true;
  double scale = 1;    // of what the last Linear reads
  double softcap = 0;  // c: a logit z of a language model is c tanh(z / c); 0: it is z
  TaskType task = TaskType::causal_lm;
  std::int64_t num_labels = 0;  // of classification; question answering has 2
  ProblemType problem = ProblemType::single_label_classification;
  bool problem_is_named = false;              // else transformers guesses it from the labels
  std::vector<std::string> label_names = {};  // num_labels of them; none: "LABEL_0", …
  Pooling pooling = Pooling::none;
  std::optional<Activation> dense = {};  // a square Linear and this function in front of the last Linear,
  bool norm = false;                     // and a norm between these two
  bool bias = false;
  std::vector<std::string> drawn = {};  // paths of its modules that the file did not have, and that begin at random
  /// What this class is called.
  std::string label_name(std::int64_t label) const { return label_names.empty() ? "LABEL_" + std::to_string(label) : label_names.at(std::size_t(label)); }
  bool is_language_model() const { return task == TaskType::causal_lm || task == TaskType::masked_lm || task == TaskType::seq_2_seq_lm; }
};

/// A transformer in numbers: what models/ states for each architecture.
struct TransformerConfig {
  std::string model_type;  // as config.json calls it
  std::string variant;     // which of the architectures of that model_type; empty for all but ChatGLM-6B
  std::string name;        // for people
  std::int64_t vocab_size = 0, hidden_size = 0, num_hidden_layers = 0, max_position_embeddings = 0;
  std::int64_t num_encoder_layers = 0;  // of an encoder-decoder, whose decoder has num_hidden_layers; 0: there is no encoder
  EmbeddingConfig embedding;
  NormConfig norm;
  NormPlacement norm_placement = NormPlacement::in_front;
  bool parallel_residual = false;  // h + attention(norm h) + mlp(norm′ h)
  double normed_residual = 0;      // α ≠ 0: the residual is α norm h instead of h
  AttentionConfig attention;
  MlpConfig mlp;
  HeadConfig head;
  PrefixConvention prefix;
  std::optional<BlankTokens> blank_tokens;  // of a model that fills blanks: it reads the layout of a sequence off its ids
  std::int64_t pad_token_id = -1, decoder_start_token_id = -1;
  std::vector<std::int32_t> bos_token_ids, eos_token_ids;

  /// Outputs of the last Linear.
  std::int64_t head_size() const { return head.is_language_model() ? vocab_size : head.task == TaskType::question_ans ? 2 : head.num_labels; }
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/nn/impl/transformer_config.inl"
#endif
