// SPDX-License-Identifier: Apache-2.0
#include "peft/train/trainer.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "peft/freeze/freeze.hpp"
#include "peft/io/json.hpp"
#include "support/is_near.hpp"
#include "support/threads.hpp"
#include "train/tiny_task.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
template <Scalar T = float>
TrainingResult train(TunedTiny<T>& t, const TrainingArguments& args, const Dataset& rows = tiny_task(22), const TrainingCallbacks& callbacks = {}) {
  return Trainer{t.tuned, args, callbacks}.fit(rows);
}
}  // namespace

TEST_CASE("a tiny task is learnt", "[train]") {
  TunedTiny<float> t;
  const Dataset data = tiny_task(60), unseen = tiny_task(20, 1, 99);
  const double before = evaluate(t.tuned, unseen).loss;
  const TrainingResult result = train(t, {.num_epochs = 30, .learning_rate = 2e-2, .batch_size = 8}, data);
  CHECK(result.steps == 30 * 8);
  CHECK(result.losses.size() == 240);
  CHECK(result.tokens == 30 * data.tokens());
  CHECK_FALSE(result.interrupted);
  CHECK(before > 1.5);
  CHECK(evaluate(t.tuned, unseen).loss < 0.2 * before);
  double last = 0;
  for (std::size_t i = 232; i < 240; i++) last += result.losses[i] / 8;
  CHECK(result.loss == Approx(last));  // the last epoch's
}

TEST_CASE("a plain transformer trains what freeze() chose", "[train]") {
  auto model = tiny_transformer<float>();
  CHECK_THROWS_WITH((Trainer{model, {.max_steps = 1}}.fit(tiny_task(4))),
                    "[trainer] nothing requires a gradient: add an adapter, or choose with freeze() what trains");
  freeze(model, Matching{"layers.1.mlp.*"});
  const Tensor<float> frozen = model.layers[0].self_attn.q_proj.weight.dense(), trained = model.layers[1].mlp.up_proj.weight.dense();
  const auto result = Trainer{model, {.num_epochs = 10, .learning_rate = 1e-2}}.fit(tiny_task(22));
  CHECK(result.losses.back() < 0.9 * result.losses.front());
  CHECK(same_bits(model.layers[0].self_attn.q_proj.weight.value(), frozen));
  CHECK_FALSE(same_bits(model.layers[1].mlp.up_proj.weight.value(), trained));
}

TEST_CASE("accumulating gradients equals one large batch", "[train]") {
  const auto run = [](std::int64_t batch_size, std::int64_t accumulate) {
    TunedTiny<double> t;
    const TrainingResult result = train(t, {.num_epochs = 2, .learning_rate = 1e-2, .batch_size = batch_size, .gradient_accumulation_steps = accumulate});
    return std::pair(result.losses, t.values());
  };
  const auto whole = run(4, 1);
  CHECK(whole.first.size() == 2 * 6);  // 22 examples: the last step of an epoch has two
  for (const std::int64_t batch_size : {1, 2}) {
    const auto parts = run(batch_size, 4 / batch_size);
    REQUIRE(parts.first.size() == whole.first.size());
    // To rounding, which AdamW's division by √v enlarges where a gradient is small.
    for (std::size_t i = 0; i < whole.first.size(); i++) CHECK(parts.first[i] == Approx(whole.first[i]).epsilon(1e-10));
    for (std::size_t i = 0; i < whole.second.size(); i++) CHECK_THAT(array(parts.second[i]), is_near<double>(array(whole.second[i]), 1e4));
  }
}

TEST_CASE("the order of the data follows from the seed", "[train]") {
  const Dataset data = tiny_task(22);
  const auto losses = [&](bool shuffle, std::uint64_t seed) {
    TunedTiny<float> t;
    return train(t, {.num_epochs = 2, .learning_rate = 1e-3, .batch_size = 4, .seed = seed, .shuffle = shuffle}, data).losses;
  };
  const auto first = losses(true, 1);
  CHECK(losses(true, 1) == first);
  CHECK(losses(true, 2)[0] != first[0]);
  const auto straight = losses(false, 1);
  CHECK(losses(false, 2) == straight);
  TunedTiny<float> t;
  CHECK(straight[0] == double(lm_loss(t.tuned, collate(data, std::vector<std::size_t>{0, 1, 2, 3})).value()[0]));
  CHECK(straight[0] != first[0]);
}

TEST_CASE("losses and weights are the same bits for any number of threads", "[train]") {
  std::vector<double> losses;
  std::vector<Tensor<float>> values;
  for (const int n : {1, 2, 4}) {
    const Threads guard(n);
    TunedTiny<float> t(0.2);
    const TrainingResult result = train(t, {.num_epochs = 2, .learning_rate = 1e-2, .batch_size = 4, .gradient_accumulation_steps = 2});
    if (losses.empty()) losses = result.losses, values = t.values();
    CHECK(result.losses == losses);
    CHECK(same_bits(t.values(), values));
  }
}

TEST_CASE("products in bfloat16 learn the same, with the same bits for any number of threads", "[train]") {
  const auto run = [](DType compute_dtype, int threads) {
    const Threads some(threads);
    TunedTiny<float> t;
    return train(t, {.num_epochs = 4, .learning_rate = 1e-2, .compute_dtype = compute_dtype}).losses;
  };
  const auto exact = run(DType::f32, 2), rounded = run(DType::bf16, 2);
  for (std::size_t i = 0; i < exact.size(); i++) CHECK(rounded[i] == Approx(exact[i]).epsilon(0.02));
  CHECK((rounded == exact) == !ops::has_bf16_products());
  CHECK(run(DType::bf16, 1) == rounded);
  CHECK(ops::compute_dtype() == DType::f32);
}

TEST_CASE("layers that nothing changes are computed once for each example, without changing a bit", "[train]") {
  const TemporaryFolder folder;
  const Dataset data = tiny_task(22);
  const auto run = [&](const TrainingArguments& args) {
    auto base = tiny_transformer<float>({.vocab = 11, .hidden = 16, .layers = 3, .heads = 2, .kv_heads = 1, .inner = 24});
    PeftModel<Transformer<float>> tuned{base};
    tuned.add_adapter("a", LoraConfig{.r = 3, .lora_alpha = 8, .target_modules = {"q_proj", "down_proj"}, .lora_dropout = 0.2, .layers_to_transform = {2}});
    CHECK(first_trained_layer(tuned) == 2);
    return Trainer{tuned, args}.fit(data).losses;
  };
  const TrainingArguments args{.num_epochs = 3, .learning_rate = 2e-2, .batch_size = 4};
  TrainingArguments in_memory = args, in_file = args;
  in_memory.cache_frozen = in_file.cache_frozen = true, in_file.cache_dir = folder.path();
  const auto losses = run(args);
  CHECK(run(in_memory) == losses);
  CHECK(run(in_file) == losses);
  CHECK(std::filesystem::is_empty(folder.path()));
  in_file.cache_dir = folder.path() + "/nowhere";
  CHECK_THROWS_AS(run(in_file), FormatError);

  auto model = tiny_transformer<float>();
  freeze(model, [](const ParameterInfo&) { return true; });
  CHECK(first_trained_layer(model) == 0);
  freeze(model, Matching{"norm.*"});
  CHECK(first_trained_layer(model) == std::int64_t(model.layers.size()));
  CHECK(Trainer{model, in_memory}.fit(data).losses.back() > 0);
  freeze(model, Matching{"embed_tokens.*"});
  CHECK_THROWS_WITH((Trainer{model, in_memory}.fit(data)), "[trainer] cache_frozen: no layer is below the first one that trains");
}

TEST_CASE("gradient checkpointing changes no bit", "[train]") {
  const auto run = [](bool checkpointing) {
    TunedTiny<float> t(0.2);
    const TrainingResult result = train(t, {.num_epochs = 2, .learning_rate = 1e-2, .checkpointing = checkpointing});
    return std::pair(result.losses, t.values());
  };
  const auto plain = run(false), checkpointed = run(true);
  CHECK(plain.first == checkpointed.first);
  CHECK(same_bits(plain.second, checkpointed.second));
}

TEST_CASE("dropout follows from seed and forward", "[train]") {
  const auto run = [](double dropout, std::uint64_t seed) {
    TunedTiny<float> t(dropout);
    return train(t, {.num_epochs = 2, .learning_rate = 1e-2, .seed = seed, .shuffle = false}).losses;
  };
  CHECK(run(0.3, 1) == run(0.3, 1));
  CHECK(run(0.3, 1) != run(0.3, 2));
  CHECK(run(0.3, 1) != run(0, 1));
  CHECK(run(0, 1) == run(0, 2));
}

TEST_CASE("steps, epochs and rates are counted as announced", "[train]") {
  struct Seen {
    std::int64_t step, steps;
    double epoch, rate;
  };
  const auto observe = [](const TrainingArguments& args) {
    TunedTiny<float> t;
    std::vector<Seen> seen;
    train(t, args, tiny_task(22),
          {.on_step =
               [&](const TrainingProgress& p) {
                 seen.push_back({p.step, p.steps, p.epoch, p.learning_rate});
               },
           .on_evaluate = {},
           .should_stop = {}});
    return seen;
  };
  {  // 22 examples by 4 are 6 batches, by 2 accumulated 3 steps an epoch
    const auto seen = observe({.num_epochs = 2, .learning_rate = 0.6, .batch_size = 4, .gradient_accumulation_steps = 2});
    REQUIRE(seen.size() == 6);
    for (std::size_t i = 0; i < 6; i++) {
      CHECK(seen[i].step == std::int64_t(i) + 1);
      CHECK(seen[i].steps == 6);
      CHECK(seen[i].epoch == Approx(double(i + 1) / 3));
      CHECK(seen[i].rate == Approx(0.6 - 0.1 * double(i)));
    }
  }
  {
    const auto seen = observe({.max_steps = 10, .learning_rate = 1, .batch_size = 8, .lr_scheduler = "constant", .warmup_ratio = 0.31});
    REQUIRE(seen.size() == 10);
    CHECK(seen[0].rate == 0);
    CHECK(seen[3].rate == 0.75);  // ⌈3.1⌉ steps of warm-up
    CHECK(seen[4].rate == 1);
    CHECK(seen[9].epoch == Approx(10.0 / 3));
  }
}

TEST_CASE("a set is evaluated when asked for", "[train]") {
  const auto parts = train_test_split(tiny_task(30), 0.25, 5);
  CHECK(parts.test.size() == 8);
  CHECK(parts.train.size() == 22);
  TunedTiny<float> t(0.1);
  std::vector<std::pair<std::int64_t, double>> seen;
  double last = 0;
  Trainer{t.tuned,
          {.max_steps = 7, .learning_rate = 1e-2, .eval_steps = 3},
          {.on_step = {},
           .on_evaluate =
               [&](const TrainingProgress& p, const Evaluation& e) {
                 seen.emplace_back(p.step, e.loss);
                 last = evaluate(t.tuned, parts.test).loss;
                 CHECK(e.loss == last);
               },
           .should_stop = {}}}
      .fit(parts.train, parts.test);
  REQUIRE(seen.size() == 2);
  CHECK(seen[0].first == 3);
  CHECK(seen[1].first == 6);
  CHECK(seen[0].second != seen[1].second);
}

TEST_CASE("every line of the log is JSON and says what the observers saw", "[train]") {
  const TemporaryFolder folder;
  const auto parts = train_test_split(tiny_task(30), 0.25, 5);
  TunedTiny<float> t;
  std::vector<TrainingProgress> steps;
  std::vector<Evaluation> evaluations;
  Trainer{t.tuned,
          {.max_steps = 5, .learning_rate = 1e-2, .eval_steps = 2, .output_dir = folder.path()},
          {.on_step = [&](const TrainingProgress& p) { steps.push_back(p); },
           .on_evaluate = [&](const TrainingProgress&, const Evaluation& e) { evaluations.push_back(e); },
           .should_stop = {}}}
      .fit(parts.train, parts.test);
  std::istringstream lines(folder.read("log.jsonl"));
  std::size_t step = 0, evaluation = 0;
  for (std::string line; std::getline(lines, line);) {
    const Json j = Json::parse(line, "log.jsonl");
    if (j.contains("eval_loss")) {
      REQUIRE(evaluation < evaluations.size());
      CHECK(j.at("step").integer() == 2 * std::int64_t(evaluation) + 2);
      CHECK(j.at("eval_loss").number() == evaluations[evaluation].loss);
      CHECK(j.at("eval_perplexity").number() == evaluations[evaluation].perplexity());
      evaluation++;
    } else {
      REQUIRE(step < steps.size());
      const TrainingProgress& p = steps[step++];
      CHECK(j.at("step").integer() == p.step);
      CHECK(j.at("epoch").number() == p.epoch);
      CHECK(j.at("loss").number() == p.loss);
      CHECK(j.at("learning_rate").number() == p.learning_rate);
      CHECK(j.at("grad_norm").number() == p.grad_norm);
      for (const char* key : {"tokens_per_second", "seconds", "peak_mib"}) CHECK(j.at(key).number() > 0);
    }
  }
  CHECK(step == 5);
  CHECK(evaluation == 2);
}

TEST_CASE("without an output_dir nothing is written", "[train]") {
  const TemporaryFolder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  TunedTiny<float> t;
  train(t, {.max_steps = 2});
  std::filesystem::current_path(before);
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("a loss that is not finite ends the run and saves over nothing", "[train]") {
  const TemporaryFolder folder;
  TunedTiny<float> t;
  train(t, {.max_steps = 2, .learning_rate = 1e-2, .output_dir = folder.path()});
  const std::string state = folder.read("state/state.safetensors");
  CHECK(state.size() > 1000);
  t.parameters()[0].value()[0] = std::numeric_limits<float>::quiet_NaN();
  const auto kept = t.values();
  CHECK_THROWS_WITH(train(t, {.max_steps = 2, .learning_rate = 1e-2, .save_steps = 1, .output_dir = folder.path()}),
                    "[trainer] the loss of step 1 is not finite (nan); a lower learning_rate may help. Nothing was saved over");
  CHECK(folder.read("state/state.safetensors") == state);
  CHECK(same_bits(t.values(), kept));  // no step was made
  for (const auto& p : t.parameters()) CHECK_FALSE(p.grad());
}

TEST_CASE("a gradient that is not finite is refused as a loss is", "[train]") {
  const TemporaryFolder folder;
  // B is zero, so that the loss does not see A; B's gradient does: s · dyᵀ (x Aᵀ) is beyond what a float can hold.
  auto base = tiny_transformer<float>();
  PeftModel<Transformer<float>> tuned{base};
  tuned.add_adapter("a", LoraConfig{.r = 1, .lora_alpha = 1e8, .target_modules = {"down_proj"}});
  std::vector<Parameter<float>> all;
  tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<float>& p) { all.push_back(p); });
  all[0].value().fill(1e36f);
  for (const double max_grad_norm : {1.0, 0.0})
    CHECK_THROWS_WITH((Trainer{tuned, {.max_steps = 1, .learning_rate = 1e-2, .max_grad_norm = max_grad_norm, .output_dir = folder.path()}}.fit(tiny_task(8))),
                      "[trainer] the gradient's norm of step 1 is not finite (inf); a lower learning_rate may help. Nothing was saved over");
  for (float value : all[1].value().span()) CHECK(value == 0);
  for (const auto& p : all) CHECK_FALSE(p.grad());
  CHECK_FALSE(std::filesystem::exists(folder.path() + "/state"));
}

TEST_CASE("a batch without labels is a step of loss zero", "[train]") {
  TunedTiny<float> t;
  const auto kept = t.values();
  const Dataset data({{{1, 2, 3}, {ignore_index, ignore_index, ignore_index}}, {{5}, {5}}});
  const TrainingResult result = train(t, {.max_steps = 2, .learning_rate = 1e-2}, data);
  CHECK(result.losses == std::vector<double>{0, 0});
  CHECK(same_bits(t.values(), kept));
}

TEST_CASE("clipping and decay reach the steps", "[train]") {
  const auto run = [](TrainingArguments args) {
    TunedTiny<float> t;
    args.max_steps = 3, args.learning_rate = 1e-2;
    train(t, args);
    return t.values();
  };
  // AdamW hardly sees a common factor in its gradients, except against eps.
  CHECK_FALSE(same_bits(run({.adam_epsilon = 1e-3, .max_grad_norm = 0.01}), run({.adam_epsilon = 1e-3, .max_grad_norm = 0})));
  CHECK(same_bits(run({.adam_epsilon = 1e-3, .max_grad_norm = 1e9}), run({.adam_epsilon = 1e-3, .max_grad_norm = 0})));
  CHECK_FALSE(same_bits(run({.weight_decay = 0.1}), run({})));
}

TEST_CASE("arguments that make no sense are refused by name", "[train]") {
  validate(TrainingArguments{});
  const auto refused = [](const TrainingArguments& args, const std::string& text) { CHECK_THROWS_WITH(validate(args), "[TrainingArguments] " + text); };
  refused({.num_epochs = 0}, "num_epochs is 0; at least 1 is wanted");
  validate(TrainingArguments{.num_epochs = 0, .max_steps = 5});
  refused({.learning_rate = -1e-4}, "learning_rate is -0.0001; at least 0 is wanted");
  refused({.learning_rate = NAN}, "learning_rate is nan; at least 0 is wanted");
  refused({.batch_size = 0}, "batch_size is 0; at least 1 is wanted");
  refused({.gradient_accumulation_steps = 0}, "gradient_accumulation_steps is 0; at least 1 is wanted");
  refused({.warmup_steps = -1}, "warmup_steps is -1; at least 0 is wanted");
  refused({.warmup_ratio = 1.5}, "warmup_ratio is 1.5; allowed is 0 … 1");
  refused({.weight_decay = -1}, "weight_decay is -1; at least 0 is wanted");
  refused({.max_grad_norm = -1}, "max_grad_norm is -1; at least 0 is wanted");
  refused({.compute_dtype = DType::f16}, "compute_dtype is F16; allowed are f32, bf16");
  refused({.resume = true}, "resume and save_steps need an output_dir");
  refused({.save_steps = 3}, "resume and save_steps need an output_dir");
  CHECK_THROWS_WITH(validate(TrainingArguments{.lr_scheduler = "lineal"}), Catch::Contains("did you mean \"linear\"?"));
}
