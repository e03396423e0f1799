// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "peft/models/config.hpp"
#include "peft/train/objective.hpp"

namespace peft {

namespace detail {
/// f(hidden, place) with the hidden states of a batch, under their pass: place[i] is the row of the batch's token i among them, behind what active
/// methods put in front of sequences.
template <class M, class F>
auto at_hidden_states(const M& model, const Batch& batch, const ForwardOptions& options, FrozenStates<scalar_of<M>>* frozen, F f) {
  using T = scalar_of<M>;
  const Transformer<T>& transformer = transformer_of(model);
  if (transformer.config.num_encoder_layers > 0)
    throw NotSupported("classification", "a model of type \"" + transformer.config.model_type + "\", an encoder-decoder");
  Pass<T> pass;
  pass.training = options.training, pass.checkpointing = options.checkpointing, pass.seed = options.seed, pass.forward = options.forward;
  pass = pass_of(model, std::move(pass));
  const BatchRows rows = rows_of(batch, false);
  FrontedRows fronted = with_fronts(pass.fronts, *rows.sequences, rows.input_ids);
  const std::span<const std::int32_t> known_types = types_for(transformer, batch.token_types);
  std::vector<std::int32_t> types(known_types.empty() ? 0 : fronted.ids.size(), 0);
  for (std::size_t i = 0; i < known_types.size(); i++) types[std::size_t(fronted.place[i])] = known_types[i];
  pass.sequences = fronted.sequences;
  const PassScope<T> scope(pass);
  const Variable<T> hidden =
      frozen ? transformer.hidden_states_from(frozen->layer(), Variable<T>(frozen_rows(model, batch, *frozen))) : transformer.hidden_states(fronted.ids, types);
  return f(hidden, std::as_const(fronted.place));
}

/// The targets of a head that reads one row of each sequence, as classes or as (sequences, labels) numbers. Throws ConfigError if they do not fit.
Ids class_targets(const HeadConfig& head, const Batch& batch);
template <Scalar T>
Tensor<T> number_targets(const HeadConfig& head, const Batch& batch) {
  const std::size_t wanted = batch.size() * std::size_t(head.num_labels);
  if (batch.targets.size() != wanted)
    throw ConfigError("train", std::to_string(batch.targets.size()) + " targets for " + std::to_string(batch.size()) + " sequences; this head gives " +
                                   std::to_string(head.num_labels) + " numbers for each");
  Tensor<T> targets({std::int64_t(batch.size()), head.num_labels});
  std::copy(batch.targets.begin(), batch.targets.end(), targets.data());
  return targets;
}
/// Labels of tokens, checked against the head, each in its row; ignore_index elsewhere.
Ids token_targets(const HeadConfig& head, const Batch& batch, std::span<const std::int64_t> place, std::int64_t rows);

/// First and last tokens of answers, each as a row of its sequence in `sequences`. Throws ConfigError if they do not fit.
struct SpanTargets {
  Ids starts, ends;
};
SpanTargets span_targets(const Batch& batch, std::span<const std::int64_t> place, const Sequences& sequences);
/// Counts the answer of a head that answers questions, logits (tokens, 2) of one sequence: the tokens of the best pair of a start and an end behind it.
template <Scalar T>
void count_span(Scores& scores, const View<const T>& logits, std::int64_t start, std::int64_t end) {
  std::int64_t first = 0, best_first = 0, best_last = 0;
  for (std::int64_t last = 0; last < logits.rows; last++) {
    if (logits(last, 0) > logits(first, 0)) first = last;
    if (logits(first, 0) + logits(last, 1) > logits(best_first, 0) + logits(best_last, 1)) best_first = first, best_last = last;
  }
  const double common = double(std::max<std::int64_t>(std::min(end, best_last) - std::max(start, best_first) + 1, 0));
  scores.add_answer(start == best_first && end == best_last, 2 * common / double(std::max<std::int64_t>(end - start + 1, 0) + best_last - best_first + 1));
}

/// The loss of a head on hidden states, under their pass.
template <Scalar T>
Variable<T> loss_at(const Transformer<T>& transformer, const Batch& batch, const Variable<T>& hidden, std::span<const std::int64_t> place, double denominator) {
  const HeadConfig& head = transformer.config.head;
  if (head.task == TaskType::token_cls) return transformer.loss(hidden, token_targets(head, batch, place, hidden.rows()), denominator);
  if (head.task == TaskType::question_ans) {
    const SpanTargets targets = span_targets(batch, place, *Pass<T>::current()->sequences);
    Variable<T> loss = transformer.span_loss(hidden, targets.starts, targets.ends);
    return denominator > 0 ? scale(std::move(loss), T(double(batch.size()) / denominator)) : loss;
  }
  if (head.task != TaskType::seq_cls)
    throw NotSupported("train", std::string("the task ") + name(head.task) + "; its losses are Transformer's, for a loop of your own");
  if (head.problem == ProblemType::single_label_classification) return transformer.loss(hidden, class_targets(head, batch), denominator);
  Variable<T> loss = transformer.loss(hidden, number_targets<T>(head, batch));
  return denominator > 0 ? scale(std::move(loss), T(double(batch.size()) / denominator)) : loss;
}

/// Counts a batch's answers: logits (sequences, labels), or of a head that reads every token (rows, labels).
template <Scalar T>
void count_answers(Scores& scores, const HeadConfig& head, const Batch& batch, const Tensor<T>& logits, std::span<const std::int64_t> place) {
  const auto best = [&](std::int64_t row) { return std::max_element(&logits(row, 0), &logits(row, 0) + logits.cols()) - &logits(row, 0); };
  if (head.task == TaskType::token_cls) {
    for (std::size_t i = 0; i < batch.labels.size(); i++)
      if (batch.labels[i] != ignore_index) scores.add(batch.labels[i], best(place[i]));
  } else if (head.task == TaskType::question_ans) {
    for (std::size_t i = 0; i < batch.size(); i++) {
      const std::int64_t begin = place[std::size_t(batch.offsets[i].begin)];
      count_span<T>(scores, View<const T>(logits.view()).row_range(begin, begin + batch.offsets[i].length()), std::int64_t(batch.targets[2 * i]),
                    std::int64_t(batch.targets[2 * i + 1]));
    }
  } else if (head.problem == ProblemType::single_label_classification) {
    for (std::int64_t i = 0; i < logits.rows(); i++) scores.add(std::int64_t(batch.targets[std::size_t(i)]), best(i));
  } else if (head.problem == ProblemType::regression) {
    for (std::int64_t i = 0; i < logits.size(); i++) scores.add_number(batch.targets[std::size_t(i)], double(logits[i]));
  } else {
    for (std::int64_t i = 0; i < logits.size(); i++) scores.add(batch.targets[std::size_t(i)] > 0.5f, logits[i] > 0);
  }
}

/// Calls f(indices, batch) for batches of about so many tokens, in the order of the dataset.
template <class F>
void for_each_batch(const Dataset& dataset, std::int64_t tokens_per_batch, F f) {
  for (std::size_t i = 0; i < dataset.size();) {
    std::vector<std::size_t> indices;
    for (std::int64_t tokens = 0; i < dataset.size() && (indices.empty() || tokens + std::int64_t(dataset[i].input_ids.size()) <= tokens_per_batch); i++)
      indices.push_back(i), tokens += std::int64_t(dataset[i].input_ids.size());
    f(indices, collate(dataset, indices));
  }
}

template <class M>
Evaluation evaluate_head(const M& model, const Dataset& dataset, std::int64_t tokens_per_batch) {
  using T = scalar_of<M>;
  const Transformer<T>& transformer = transformer_of(model);
  const HeadConfig& head = transformer.config.head;
  Evaluation result;
  if (head.task == TaskType::question_ans)
    result.scores = Scores::of_answers();
  else
    result.scores.emplace(head.task == TaskType::token_cls || head.problem == ProblemType::single_label_classification ? head.num_labels
                          : head.problem == ProblemType::regression                                                    ? 0
                                                                                                                       : 2);
  double sum = 0;
  for_each_batch(dataset, tokens_per_batch, [&](const std::vector<std::size_t>&, const Batch& batch) {
    const std::int64_t targets = num_targets(model, batch);
    if (targets == 0) return;
    at_hidden_states(model, batch, {}, nullptr, [&](const Variable<T>& hidden, const std::vector<std::int64_t>& place) {
      sum += double(loss_at(transformer, batch, hidden, place, 1).value()[0]);
      count_answers(*result.scores, head, batch, transformer.logits(hidden).value(), place);
    });
    result.tokens += targets;
  });
  result.loss = result.tokens ? sum / double(result.tokens) : 0;
  check_measured("evaluate", "the loss", std::isfinite(result.loss));
  return result;
}
}  // namespace detail

/// Classification of sequences (Example::targets) or of tokens (Example::labels), regression, several labels at once, or where an answer begins and ends
/// (Example::targets: its first and its last token), as the head's configuration says: the mean over sequences or labelled tokens, or their sum divided by
/// `denominator`. Record it on a Tape. Throws ConfigError where a batch does not fit the head.
template <class M>
auto head_loss(const M& model, const Batch& batch, double denominator = 0, const ForwardOptions& options = {}, FrozenStates<scalar_of<M>>* frozen = nullptr) {
  using T = scalar_of<M>;
  return detail::at_hidden_states(model, batch, options, frozen, [&](const Variable<T>& hidden, const std::vector<std::int64_t>& place) {
    return detail::loss_at(transformer_of(model), batch, hidden, place, denominator);
  });
}

template <class M>
Variable<scalar_of<M>> task_loss(const M& model, const Batch& batch, double denominator, const ForwardOptions& options, FrozenStates<scalar_of<M>>* frozen) {
  return transformer_of(model).config.head.is_language_model() ? lm_loss(model, batch, denominator, options, frozen)
                                                               : head_loss(model, batch, denominator, options, frozen);
}

/// What the head says of each example, which need no labels: (1, labels), or of a head that reads every token (tokens, labels), for a head that
/// answers questions (tokens, 2). Throws Error if that is not finite.
template <class M>
std::vector<Tensor<scalar_of<M>>> predict(const M& model, const Dataset& dataset, std::int64_t tokens_per_batch = 1024) {
  using T = scalar_of<M>;
  const NoGrad guard;
  const Transformer<T>& transformer = transformer_of(model);
  std::vector<Tensor<T>> all;
  detail::for_each_batch(dataset, tokens_per_batch, [&](const std::vector<std::size_t>&, const Batch& batch) {
    detail::at_hidden_states(model, batch, {}, nullptr, [&](const Variable<T>& hidden, const std::vector<std::int64_t>& place) {
      const Tensor<T> logits = transformer.logits(hidden).value();
      detail::check_measured("predict", "what the head says", ops::all_finite(logits.view()));
      const bool one_a_sequence = transformer.config.head.pooling != Pooling::none;
      for (std::size_t i = 0; i < batch.size(); i++) {
        const std::int64_t begin = one_a_sequence ? std::int64_t(i) : place[std::size_t(batch.offsets[i].begin)];
        const std::int64_t rows = one_a_sequence ? 1 : batch.offsets[i].length();
        Tensor<T> own({rows, logits.cols()});
        ops::copy<T>(own.view(), logits.view().row_range(begin, begin + rows));
        all.push_back(std::move(own));
      }
    });
  });
  return all;
}

/// One row of logits as probabilities: a softmax, or of several labels at once a sigmoid each. Numbers of regression stay as they are.
std::vector<double> probabilities(const HeadConfig& head, std::span<const float> logits);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/train/impl/classification.inl"
#endif
