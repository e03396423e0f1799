// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <memory>
#include <optional>
#include <span>

#include "peft/adapters/peft_model.hpp"
#include "peft/data/collate.hpp"
#include "peft/data/example.hpp"
#include "peft/nn/transformer.hpp"
#include "peft/train/frozen_states.hpp"
#include "peft/train/scores.hpp"

namespace peft {

/// The transformer within a model, plain or with adapters, and the pass that its forward needs.
template <Scalar T>
const Transformer<T>& transformer_of(const Transformer<T>& model) {
  return model;
}
template <Scalar T>
const Transformer<T>& transformer_of(const PeftModel<Transformer<T>>& model) {
  return model.model();
}
template <Scalar T>
Pass<T> pass_of(const Transformer<T>&, std::shared_ptr<const Sequences> sequences) {
  Pass<T> pass;
  pass.sequences = std::move(sequences);
  return pass;
}
template <Scalar T>
Pass<T> pass_of(const PeftModel<Transformer<T>>& model, std::shared_ptr<const Sequences> sequences) {
  return model.pass(std::move(sequences));
}
/// A pass that says more already, with what the methods prepare for it.
template <Scalar T>
Pass<T> pass_of(const Transformer<T>&, Pass<T> begun) {
  return begun;
}
template <Scalar T>
Pass<T> pass_of(const PeftModel<Transformer<T>>& model, Pass<T> begun) {
  return model.pass(std::move(begun));
}
template <class M>
using scalar_of = typename std::remove_cvref_t<decltype(transformer_of(std::declval<const M&>()))>::Scalar_;

/// A batch as the rows of one forward. What all of its sequences begin with (a system prompt) can stand there once, in front, and is then
/// computed once: the same loss and gradients, from fewer rows.
struct BatchRows {
  std::shared_ptr<const Sequences> sequences;  // each example from position 0 on, named by its place in the dataset
  std::vector<std::int32_t> input_ids;
  Ids targets;  // what each row predicts: the label of the token behind it, within its sequence
  // Of pairs: what the encoder reads, packed likewise.
  std::shared_ptr<const Sequences> sources = {};
  std::vector<std::int32_t> source_ids = {};
};
/// Of a masked language model (`next` false) each row predicts the label in its own place.
BatchRows rows_of(const Batch& batch, bool share_beginning = true, bool next = true);
/// Of pairs: the decoder reads the start token and then the target but its last token, so that each row predicts the label in its place.
BatchRows rows_of_pairs(const Batch& batch, std::int32_t decoder_start_token_id);

/// How many tokens all sequences have in common at their beginning, none of which predicts a label: those can be shared. 0 if that would not
/// be worth it.
std::int64_t shared_beginning(const Batch& batch);

/// How one forward for training is made.
struct ForwardOptions {
  bool training = false;
  bool checkpointing = false;           // keep each block's input alone, and run the block again in backward
  bool share_beginning = true;          // compute once what all sequences begin with; under dropout these rows then draw one mask
  std::uint64_t seed = 0, forward = 0;  // dropout
  DType compute_dtype = DType::f32;     // what products multiply in accumulate_gradients, forward and backward (ops::UseComputeDtype)
};

namespace detail {
/// Segments, for a model that knows them.
template <Scalar T>
std::span<const std::int32_t> types_for(const Transformer<T>& transformer, const std::vector<std::int32_t>& token_types) {
  return transformer.embed_token_types ? std::span<const std::int32_t>(token_types) : std::span<const std::int32_t>();
}

/// The states that enter frozen.layer(), one row a token of the batch; of examples that are new they are computed.
template <class M, class T>
Tensor<T> frozen_rows(const M& model, const Batch& batch, FrozenStates<T>& frozen) {
  const Transformer<T>& transformer = transformer_of(model);
  for (std::size_t i = 0; i < batch.size(); i++) {
    if (frozen.has(batch.example.at(i))) continue;
    Batch one;
    one.input_ids.assign(batch.input_ids.begin() + batch.offsets[i].begin, batch.input_ids.begin() + batch.offsets[i].end);
    one.labels.assign(one.input_ids.size(), ignore_index), one.offsets = {{0, one.tokens()}}, one.example = {batch.example[i]};
    const std::span<const std::int32_t> types = types_for(transformer, batch.token_types);
    const NoGrad guard;
    const Pass<T> pass = pass_of(model, rows_of(one, false).sequences);
    const PassScope<T> scope(pass);
    const auto rows = std::size_t(batch.offsets[i].begin);
    frozen.put(batch.example[i],
               transformer.entering(frozen.layer(), one.input_ids, types.empty() ? types : types.subspan(rows, one.input_ids.size())).value().view());
  }
  Tensor<T> rows({batch.tokens(), transformer.config.hidden_size});
  for (std::size_t i = 0; i < batch.size(); i++) frozen.get(batch.example[i], rows.view().row_range(batch.offsets[i].begin, batch.offsets[i].end));
  return rows;
}
}  // namespace detail

/// Language modelling: Σ −log p(next token) over labelled tokens, divided by `denominator` (their number by default); of a masked language model
/// Σ −log p(the label of each token that has one). Record it on a Tape. An
/// encoder-decoder takes a batch of pairs, any other model one without sources: ConfigError.
template <class M>
auto lm_loss(const M& model, const Batch& batch, double denominator = 0, const ForwardOptions& options = {}, FrozenStates<scalar_of<M>>* frozen = nullptr) {
  using T = scalar_of<M>;
  Pass<T> pass;
  pass.training = options.training, pass.checkpointing = options.checkpointing, pass.seed = options.seed, pass.forward = options.forward;
  pass = pass_of(model, std::move(pass));
  const Transformer<T>& transformer = transformer_of(model);
  const bool encodes = transformer.config.num_encoder_layers > 0;
  if (encodes != batch.has_sources())
    throw ConfigError("train", "a model of type \"" + transformer.config.model_type +
                                   (encodes ? "\", an encoder-decoder, with examples that have no source; load them as pairs (DatasetOptions::pairs)"
                                            : "\", which has no encoder, with pairs; load them as sequences"));
  // What is shared must not depend on what follows it.
  const bool may_share = transformer.config.attention.causal && !transformer.config.blank_tokens;
  BatchRows rows =
      encodes ? rows_of_pairs(batch, std::int32_t(transformer.config.decoder_start_token_id))
              : rows_of(batch, options.share_beginning && !frozen && pass.fronts.empty() && may_share, transformer.config.head.task != TaskType::masked_lm);
  if (!pass.fronts.empty()) {
    FrontedRows fronted = with_fronts(pass.fronts, *rows.sequences, rows.input_ids, rows.targets);
    rows.sequences = std::move(fronted.sequences), rows.input_ids = std::move(fronted.ids), rows.targets = std::move(fronted.targets);
  }
  pass.sequences = rows.sequences;
  pass.sequences = transformer.with_blanks(pass, rows.input_ids);
  if (encodes) transformer.encode(pass, rows.sources, rows.source_ids);
  const PassScope<T> scope(pass);
  Variable<T> hidden = frozen ? transformer.hidden_states_from(frozen->layer(), Variable<T>(detail::frozen_rows(model, batch, *frozen)))
                              : transformer.hidden_states(rows.input_ids);
  return transformer.loss(hidden, rows.targets, denominator);
}

/// The loss that the model's head is for: lm_loss of a language model, else head_loss. `denominator`: num_targets if 0.
template <class M>
Variable<scalar_of<M>> task_loss(const M& model, const Batch& batch, double denominator = 0, const ForwardOptions& options = {},
                                 FrozenStates<scalar_of<M>>* frozen = nullptr);

/// What a loss is the mean over: labelled tokens, or sequences.
template <class M>
std::int64_t num_targets(const M& model, const Batch& batch) {
  const HeadConfig& head = transformer_of(model).config.head;
  const bool each_token = head.task == TaskType::masked_lm || head.task == TaskType::token_cls;
  return each_token ? batch.num_labels : head.is_language_model() ? batch.num_shifted_labels : std::int64_t(batch.size());
}

/// Forward and backward over a batch in parts of about `tokens_per_forward` tokens (0: in one): the activations of one part are there at
/// a time. Gradients add up in the parameters; returns the loss. Whatever the parts are, the result is that of the whole batch. `penalty_share`: how
/// much of what methods add to the loss of a step belongs to this batch. `frozen`: begin behind the layers that nothing changes.
template <class M>
double accumulate_gradients(const M& model, const Batch& batch, double denominator, const ForwardOptions& options, std::int64_t tokens_per_forward,
                            double penalty_share = 1, FrozenStates<scalar_of<M>>* frozen = nullptr) {
  const ops::UseComputeDtype products(options.compute_dtype);
  double loss = 0;
  const std::vector<Batch> parts = split(batch, tokens_per_forward);
  for (const Batch& part : parts) {
    Tape tape;
    auto value = task_loss(model, part, denominator, options, frozen);
    loss += double(value.value()[0]);
    if constexpr (requires { model.penalty(); })  // of a method; once a batch, and no part of the loss that is reported
      if (penalty_share > 0 && &part == &parts.front())
        if (const auto penalty = model.penalty()) value = add(std::move(value), scale(penalty, scalar_of<M>(penalty_share)));
    if (value.needs_grad()) tape.backward(value);
  }
  return loss;
}

struct Evaluation;
namespace detail {
/// Throws Error where what was measured is no number: that is what a broken weight comes to.
inline void check_measured(const char* operation, const char* what, bool finite) {
  if (!finite) throw Error(operation, std::string(what) + " is not finite: the model or an adapter is broken, some weight is NaN, infinite or far too large");
}
template <class M>
Evaluation evaluate_head(const M& model, const Dataset& dataset, std::int64_t tokens_per_batch);
}  // namespace detail

/// A model on a dataset: loss is the mean over labelled tokens, or over sequences where these have the labels.
struct Evaluation {
  double loss = 0;
  std::int64_t tokens = 0;  // labelled ones
  double perplexity() const { return std::exp(loss); }
  std::optional<Scores> scores = {};  // of a head that classifies, or gives numbers
};

/// Evaluates without recording, in batches of about `tokens_per_batch` tokens, in the order of the dataset. Throws Error if the loss is not finite.
template <class M>
Evaluation evaluate(const M& model, const Dataset& dataset, std::int64_t tokens_per_batch = 1024) {
  const NoGrad guard;
  if (!transformer_of(model).config.head.is_language_model()) return detail::evaluate_head(model, dataset, tokens_per_batch);
  Evaluation result;
  double sum = 0;
  for (std::size_t i = 0; i < dataset.size();) {
    std::vector<std::size_t> indices;
    for (std::int64_t tokens = 0; i < dataset.size() && (indices.empty() || tokens + dataset[i].tokens() <= tokens_per_batch); i++)
      indices.push_back(i), tokens += dataset[i].tokens();
    const Batch batch = collate(dataset, indices);
    const std::int64_t targets = num_targets(model, batch);
    if (targets == 0) continue;
    sum += double(lm_loss(model, batch, 1).value()[0]);
    result.tokens += targets;
  }
  result.loss = result.tokens ? sum / double(result.tokens) : 0;
  detail::check_measured("evaluate", "the loss", std::isfinite(result.loss));
  return result;
}

}  // namespace peft

#include "peft/train/classification.hpp"

#if defined(PEFT_COMPILED)
namespace peft {
extern template double accumulate_gradients(const Transformer<float>&, const Batch&, double, const ForwardOptions&, std::int64_t, double, FrozenStates<float>*);
extern template double accumulate_gradients(const PeftModel<Transformer<float>>&, const Batch&, double, const ForwardOptions&, std::int64_t, double,
                                            FrozenStates<float>*);
extern template Evaluation evaluate(const Transformer<float>&, const Dataset&, std::int64_t);
extern template Evaluation evaluate(const PeftModel<Transformer<float>>&, const Dataset&, std::int64_t);
}  // namespace peft
#else
#include "peft/train/impl/objective.inl"
#endif
