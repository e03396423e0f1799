// SPDX-License-Identifier: Apache-2.0
// A run that stops and goes on makes the very steps that it would have made.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "peft/adapters/adalora/adalora.hpp"
#include "peft/io/json.hpp"
#include "peft/io/safetensors.hpp"
#include "train/tiny_task.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
const Dataset rows_of_the_task = tiny_task(22);
TrainingArguments arguments(const TemporaryFolder& folder) {  // 3 steps an epoch, 12 in all
  return {.num_epochs = 4,
          .learning_rate = 1e-2,
          .batch_size = 4,
          .gradient_accumulation_steps = 2,
          .lr_scheduler = "cosine",
          .warmup_steps = 2,
          .weight_decay = 0.1,
          .max_grad_norm = 0.5,
          .output_dir = folder.path()};
}
TrainingCallbacks stop_after(int steps) {
  TrainingCallbacks callbacks;
  callbacks.should_stop = [steps, made = 0]() mutable { return ++made == steps; };
  return callbacks;
}
std::size_t lines(const std::string& text) { return std::size_t(std::ranges::count(text, '\n')); }
}  // namespace

TEMPLATE_TEST_CASE("a resumed run is the uninterrupted one, to the bit", "[train]", float, double) {
  using T = TestType;
  for (const double dropout : {0.0, 0.3}) {
    const TemporaryFolder straight;
    TunedTiny<T> whole(dropout);
    const TrainingResult expected = Trainer{whole.tuned, arguments(straight)}.fit(rows_of_the_task);
    REQUIRE(expected.steps == 12);
    for (const auto& stops : {std::vector<int>{1}, {3}, {5}, {11}, {2, 2, 3, 1}}) {  // in the middle of an epoch, at its end, again and again
      const TemporaryFolder folder;
      TrainingArguments args = arguments(folder);
      int made = 0;
      for (int steps : stops) {
        TunedTiny<T> part(dropout, args.resume ? 77 : 3);  // another process begins with other numbers, and reads these
        const TrainingResult result = Trainer{part.tuned, args, stop_after(steps)}.fit(rows_of_the_task);
        CHECK(result.interrupted);
        CHECK(result.steps == (made += steps));
        args.resume = true;
      }
      TunedTiny<T> rest(dropout, 77);
      const TrainingResult result = Trainer{rest.tuned, args}.fit(rows_of_the_task);
      CAPTURE(dropout, stops);
      CHECK(result.steps == 12);
      CHECK_FALSE(result.interrupted);
      CHECK(result.losses == expected.losses);
      CHECK(result.tokens == expected.tokens);
      CHECK(result.loss == expected.loss);
      CHECK(same_bits(rest.values(), whole.values()));
      CHECK(folder.read("state/state.safetensors") == straight.read("state/state.safetensors"));  // moments and numbers included
      CHECK(lines(folder.read("log.jsonl")) == 12);                                               // the log goes on, too
    }
  }
}

TEST_CASE("a resumed AdaLoRA knows how important its triplets were, and which it gave up", "[train]") {
  struct Run {
    Transformer<float> base = tiny_transformer<float>({.vocab = 11, .hidden = 16, .layers = 2, .heads = 2, .kv_heads = 1, .inner = 24});
    PeftModel<Transformer<float>> tuned{base};
    explicit Run(std::uint64_t seed) {
      tuned.add_adapter("a", AdaLoraConfig{.target_r = 1, .init_r = 4, .tinit = 2, .tfinal = 3, .deltaT = 2, .total_step = 12}, seed);
    }
    std::vector<Tensor<float>> values() const {
      std::vector<Tensor<float>> all;
      tuned.for_each_adapter_parameter("a", [&](const std::string&, const Parameter<float>& p) { all.push_back(p.value().clone()); });
      return all;
    }
  };
  const TemporaryFolder straight;
  Run whole(3);
  const TrainingResult expected = Trainer{whole.tuned, arguments(straight)}.fit(rows_of_the_task);
  REQUIRE(expected.steps == 12);
  for (const int stop : {1, 3, 5, 8, 10}) {  // before any was given up, while they are, and when the ranks stand
    CAPTURE(stop);
    const TemporaryFolder folder;
    TrainingArguments args = arguments(folder);
    Run part(3), rest(77);
    Trainer{part.tuned, args, stop_after(stop)}.fit(rows_of_the_task);
    args.resume = true;
    CHECK(Trainer{rest.tuned, args}.fit(rows_of_the_task).losses == expected.losses);
    CHECK(same_bits(rest.values(), whole.values()));
    CHECK(folder.read("state/state.safetensors") == straight.read("state/state.safetensors"));
  }
}

TEST_CASE("save_steps keeps the state of that step", "[train]") {
  const TemporaryFolder folder;
  TrainingArguments args = arguments(folder);
  args.save_steps = 4;
  // A crash in step 7: what is on disk is step 4.
  TunedTiny<float> crashing(0.3);
  TrainingCallbacks crash;
  crash.on_step = [](const TrainingProgress& p) {
    if (p.step == 7) throw 1;
  };
  CHECK_THROWS_AS((Trainer{crashing.tuned, args, crash}.fit(rows_of_the_task)), int);
  const auto state = SafetensorsFile::open(folder.path() + "/state/state.safetensors");
  CHECK(Json::parse(state.metadata().at("state"), "").at("step").integer() == 4);

  args.resume = true;
  TunedTiny<float> rest(0.3, 77), whole(0.3);
  const TemporaryFolder straight;
  CHECK(Trainer{rest.tuned, args}.fit(rows_of_the_task).losses == Trainer{whole.tuned, arguments(straight)}.fit(rows_of_the_task).losses);
  CHECK(same_bits(rest.values(), whole.values()));
}

TEST_CASE("what cannot be resumed is refused, and the model stays as it was", "[train]") {
  const TemporaryFolder folder;
  TrainingArguments args = arguments(folder);
  args.resume = true;
  TunedTiny<float> t;
  CHECK_THROWS_WITH((Trainer{t.tuned, args}.fit(rows_of_the_task)), Catch::Contains("state/state.safetensors: no such file: there is no run to go on with"));
  args.resume = false;
  Trainer{t.tuned, args, stop_after(2)}.fit(rows_of_the_task);
  args.resume = true;

  TunedTiny<float> wider(0, 3, 5);  // another rank
  const auto kept = wider.values();
  CHECK_THROWS_WITH(
      (Trainer{wider.tuned, args}.fit(rows_of_the_task)),
      Catch::Contains(folder.path() +
                      "/state belongs to another run: 84 tensors do not fit (parameter.a:model.layers.0.self_attn.q_proj.lora_A.weight is F32 (3, "
                      "16), this run wants F32 (5, 16)"));
  CHECK(same_bits(wider.values(), kept));
  TunedTiny<double> other;  // another type
  CHECK_THROWS_AS((Trainer{other.tuned, args}.fit(rows_of_the_task)), CheckpointError);

  args.max_steps = 2;
  CHECK_THROWS_WITH((Trainer{t.tuned, args}.fit(rows_of_the_task)),
                    "[trainer] the run in " + folder.path() + "/state has made 2 steps already; this one ends at 2");
}
