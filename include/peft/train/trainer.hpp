// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "peft/adapters/lora/lora_fa.hpp"
#include "peft/checkpoint/training_state.hpp"
#include "peft/data/dataloader.hpp"
#include "peft/freeze/policy.hpp"
#include "peft/optim/optim.hpp"
#include "peft/train/objective.hpp"
#include "peft/train/trainables.hpp"

namespace peft {

/// A run's options, named as Hugging Face's.
struct TrainingArguments {
  std::int64_t num_epochs = 3;
  std::int64_t max_steps = -1;  // > 0: instead of num_epochs
  double learning_rate = 5e-5;
  std::int64_t batch_size = 8;  // sequences a forward
  std::int64_t gradient_accumulation_steps = 1;
  std::string lr_scheduler = "linear";  // constant | linear | cosine
  std::int64_t warmup_steps = 0;
  double warmup_ratio = 0;  // of all steps, where warmup_steps is 0
  double weight_decay = 0;
  double adam_beta1 = 0.9, adam_beta2 = 0.999, adam_epsilon = 1e-8;
  double max_grad_norm = 1;             // 0: no clipping
  double loraplus_lr_ratio = 0;         // > 0: LoRA+, which trains B at so many times the learning rate
  double loraplus_lr_embedding = 1e-6;  // LoRA+'s rate for LoRAs on embeddings
  bool lorafa = false;                  // LoRA-FA: A stays as it is; adam_epsilon is 1e-6, unless it is set
  std::uint64_t seed = 42;
  bool shuffle = true;
  bool group_by_length = false;
  std::int64_t tokens_per_forward = 256;  // a batch runs in parts of about so many tokens, which bounds memory and changes no result; 0: in one
  DType compute_dtype = DType::f32;       // bf16: products in bfloat16 with float32 sums, where the processor has them
  bool checkpointing = false;             // gradient checkpointing, block by block
  bool cache_frozen = false;              // compute the layers below the first trained one once for each example, and keep what leaves them
  std::string cache_dir = "";             // in a file there, instead of in memory
  std::int64_t eval_steps = 0;            // > 0: evaluate this often, if there is something to evaluate on
  std::int64_t save_steps = 0;            // > 0: keep what a resumed run needs, this often, in output_dir/state
  std::string output_dir = "";            // of log.jsonl and state; nothing is written without it
  bool keep_state = true;                 // false: nothing is kept to resume from
  bool resume = false;                    // go on from output_dir/state
};

/// Throws ConfigError naming the field, its value and what is allowed.
void validate(const TrainingArguments& args);

/// Where a run stands, as its observers see it.
struct TrainingProgress {
  std::int64_t step = 0, steps = 0;  // optimiser steps made, and of the whole run
  double epoch = 0;
  double loss = 0, learning_rate = 0, grad_norm = 0;
  double tokens_per_second = 0;  // real tokens; there is no padding
  double seconds = 0, seconds_left = 0;
  std::int64_t peak_memory = 0;  // bytes, of the process
};

struct TrainingResult {
  std::int64_t steps = 0, tokens = 0;
  double loss = 0;  // mean of the last epoch's steps (or of all, if fewer)
  double seconds = 0;
  bool interrupted = false;
  std::vector<double> losses;  // of each step
};

/// What is told of a run; each may be empty.
struct TrainingCallbacks {
  std::function<void(const TrainingProgress&)> on_step;
  std::function<void(const TrainingProgress&, const Evaluation&)> on_evaluate;
  /// Asked after each step; true ends the run in good order, with its state kept.
  std::function<bool()> should_stop;
};

namespace detail {
/// One line of log.jsonl.
class TrainingLog {
 public:
  TrainingLog(const std::string& directory, bool append);
  void step(const TrainingProgress& progress) const;
  void evaluation(const TrainingProgress& progress, const Evaluation& evaluation) const;

 private:
  void line(const std::string& text) const;
  std::string path_;
};
}  // namespace detail

/// Trains what requires a gradient: `Trainer{tuned, {.num_epochs = 3}}.fit(data)`. M is a Transformer<T>, or a PeftModel of one. One step is
/// forward and backward over gradient_accumulation_steps batches, with the mean taken over all their labelled tokens, clipping, AdamW.
template <class M>
class Trainer {
 public:
  using T = scalar_of<M>;
  Trainer(M& model, TrainingArguments args, TrainingCallbacks callbacks = {}) : model_(model), args_(std::move(args)), callbacks_(std::move(callbacks)) {
    validate(args_);
  }

  TrainingResult fit(const Dataset& train, const Dataset& eval = Dataset());

 private:
  std::string state_directory() const { return args_.output_dir + "/state"; }
  M& model_;
  TrainingArguments args_;
  TrainingCallbacks callbacks_;
};
template <class M>
Trainer(M&, TrainingArguments) -> Trainer<M>;
template <class M>
Trainer(M&, TrainingArguments, TrainingCallbacks) -> Trainer<M>;

template <class M>
TrainingResult Trainer<M>::fit(const Dataset& train, const Dataset& eval) {
  std::optional<LoraFa<T>> lora_fa;
  if (args_.lorafa) {
    if constexpr (std::constructible_from<LoraFa<T>, M&>)
      lora_fa.emplace(model_);
    else
      throw ConfigError("lorafa", "a model without adapters; LoRA-FA trains the B of LoRAs");
  }
  std::vector<Trainable<T>> trainables =
      trainables_of<T>(model_, {.ratio = args_.loraplus_lr_ratio, .embedding = args_.loraplus_lr_embedding / args_.learning_rate});
  if (trainables.empty()) throw ConfigError("trainer", "nothing requires a gradient: add an adapter, or choose with freeze() what trains");
  const double eps = args_.lorafa && args_.adam_epsilon == TrainingArguments().adam_epsilon ? 1e-6 : args_.adam_epsilon;
  AdamW<T> optimizer(std::move(trainables),
                     {.beta1 = args_.adam_beta1, .beta2 = args_.adam_beta2, .eps = eps, .weight_decay = args_.weight_decay, .as_transformers = args_.lorafa});
  std::optional<FrozenStates<T>> frozen;
  if (args_.cache_frozen) {
    const std::int64_t layer = first_trained_layer(model_);
    if (layer == 0) throw ConfigError("trainer", "cache_frozen: no layer is below the first one that trains");
    frozen.emplace(layer, train.size(), args_.cache_dir);
  }
  DataLoader loader(train, {.batch_size = args_.batch_size, .shuffle = args_.shuffle, .seed = args_.seed, .group_by_length = args_.group_by_length});
  const std::int64_t accumulate = args_.gradient_accumulation_steps, per_epoch = (loader.steps_per_epoch() + accumulate - 1) / accumulate;
  const std::int64_t steps = args_.max_steps > 0 ? args_.max_steps : args_.num_epochs * per_epoch;
  const std::int64_t warmup = args_.warmup_steps > 0 ? args_.warmup_steps : std::int64_t(std::ceil(args_.warmup_ratio * double(steps)));
  const Schedule schedule = schedule_named(args_.lr_scheduler);

  if constexpr (requires { model_.begin_run(steps); }) model_.begin_run(steps);

  TrainingResult result;
  std::int64_t step = 0, forwards = 0;
  if (args_.resume) {
    const TrainingState state = load_training_state(state_directory(), optimizer, model_);
    step = state.step, forwards = state.forwards, result.losses = state.losses, result.tokens = state.tokens;
    loader.seek({state.epoch, state.position});
    if (step >= steps)
      throw ConfigError("trainer",
                        "the run in " + state_directory() + " has made " + std::to_string(step) + " steps already; this one ends at " + std::to_string(steps));
  }
  const detail::TrainingLog log(args_.output_dir, args_.resume);
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  const std::int64_t first_step = step, first_tokens = result.tokens;
  const auto keep_state = [&] {
    if (args_.output_dir.empty() || !args_.keep_state) return;
    TrainingState state{step, forwards, loader.position().epoch, loader.position().step, result.tokens, result.losses};
    save_training_state(state_directory(), state, optimizer, model_);
  };

  while (step < steps) {
    // The batches of one step never reach into the next epoch.
    std::vector<Batch> batches;
    std::int64_t labels = 0;
    const double epoch_begun = double(loader.position().epoch);
    do {
      batches.push_back(loader.next());
      labels += num_targets(model_, batches.back());
    } while (std::int64_t(batches.size()) < accumulate && loader.position().step != 0);
    double loss = 0;
    for (const Batch& batch : batches) {
      loss += accumulate_gradients(model_, batch, double(std::max<std::int64_t>(labels, 1)),
                                   {.training = true,
                                    .checkpointing = args_.checkpointing,
                                    .seed = args_.seed,
                                    .forward = std::uint64_t(forwards++),
                                    .compute_dtype = args_.compute_dtype},
                                   args_.tokens_per_forward, 1 / double(batches.size()), frozen ? &*frozen : nullptr);
      result.tokens += batch.tokens();
    }
    const auto refuse = [&](const std::string& what, double value) {
      zero_grad(optimizer.trainables());
      throw Error("trainer", "the " + what + " of step " + std::to_string(step + 1) + " is not finite (" + (std::isnan(value) ? "nan" : std::to_string(value)) +
                                 "); a lower learning_rate may help. Nothing was saved over");
    };
    if (!std::isfinite(loss)) refuse("loss", loss);
    TrainingProgress progress;
    progress.grad_norm = args_.max_grad_norm > 0 ? clip_grad_norm(optimizer.trainables(), args_.max_grad_norm) : grad_norm(optimizer.trainables());
    if (!std::isfinite(progress.grad_norm)) refuse("gradient's norm", progress.grad_norm);
    progress.learning_rate = args_.learning_rate * lr_factor(schedule, step, warmup, steps);
    if (lora_fa) lora_fa->turn_gradients();
    optimizer.step(progress.learning_rate);
    if constexpr (requires { model_.after_step(step); }) model_.after_step(step);
    zero_grad(optimizer.trainables());
    step++;
    result.losses.push_back(loss);

    progress.step = step, progress.steps = steps, progress.loss = loss;
    progress.epoch = loader.position().step == 0 ? epoch_begun + 1 : epoch_begun + double(loader.position().step) / double(loader.steps_per_epoch());
    progress.seconds = elapsed();
    progress.tokens_per_second = double(result.tokens - first_tokens) / progress.seconds;
    progress.seconds_left = progress.seconds / double(step - first_step) * double(steps - step);
    progress.peak_memory = memory::peak_resident_bytes();
    log.step(progress);
    if (callbacks_.on_step) callbacks_.on_step(progress);
    if (args_.eval_steps > 0 && step % args_.eval_steps == 0 && !eval.empty()) {
      const Evaluation evaluation = evaluate(model_, eval);
      log.evaluation(progress, evaluation);
      if (callbacks_.on_evaluate) callbacks_.on_evaluate(progress, evaluation);
    }
    const bool stop = callbacks_.should_stop && callbacks_.should_stop();
    if (stop || step == steps || (args_.save_steps > 0 && step % args_.save_steps == 0)) keep_state();
    if (stop && step < steps) {
      result.interrupted = true;
      break;
    }
  }
  result.steps = step, result.seconds = elapsed();
  const std::size_t last = std::min<std::size_t>(result.losses.size(), std::size_t(per_epoch));
  for (std::size_t i = result.losses.size() - last; i < result.losses.size(); i++) result.loss += result.losses[i] / double(last);
  return result;
}

#if defined(PEFT_COMPILED)
extern template class Trainer<Transformer<float>>;
extern template class Trainer<PeftModel<Transformer<float>>>;
#endif

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/train/impl/trainer.inl"
#endif
