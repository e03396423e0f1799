// SPDX-License-Identifier: Apache-2.0
// Encoder-decoders: the loss of pairs, and runs that learn them.
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "peft/adapters/ia3/ia3.hpp"
#include "peft/generate/text_generation.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"
#include "support/tiny_t5.hpp"
#include "train/tiny_task.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

/// Sources of 3 to 7 tokens from 2 to 9, and what is to be said of each: its tokens from behind, and eos.
Dataset reversals(std::size_t n, std::uint64_t seed = 1) {
  Random random(seed);
  std::vector<Example> examples;
  for (std::size_t i = 0; i < n; i++) {
    std::vector<std::int32_t> source;
    for (std::size_t t = 3 + std::size_t(random.below(5)); t > 0; t--) source.push_back(2 + std::int32_t(random.below(8)));
    std::vector<std::int32_t> target(source.rbegin(), source.rend());
    target.push_back(1), source.push_back(1);
    examples.push_back(pair_example(source, target));
  }
  return Dataset(std::move(examples));
}
std::vector<std::size_t> every_one(const Dataset& data) {
  std::vector<std::size_t> all(data.size());
  for (std::size_t i = 0; i < all.size(); i++) all[i] = i;
  return all;
}

template <Scalar T>
struct TunedT5 {
  Transformer<T> base = tiny_t5<T>();
  PeftModel<Transformer<T>> tuned{base};
  explicit TunedT5(double dropout = 0, std::uint64_t seed = 3) {
    tuned.add_adapter("a", LoraConfig{.r = 8, .lora_alpha = 16, .target_modules = "all-linear", .lora_dropout = dropout}, seed);
  }
  std::vector<Tensor<T>> values() const {
    std::vector<Tensor<T>> all;
    tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<T>& p) { all.push_back(p.value().clone()); });
    return all;
  }
};

template <class M>
std::vector<Tensor<double>> gradients_of(M& model, const Dataset& data, const ForwardOptions& options, std::int64_t tokens_per_forward) {
  const Batch batch = collate(data, every_one(data));
  accumulate_gradients(model, batch, double(batch.num_shifted_labels), options, tokens_per_forward);
  std::vector<Tensor<double>> all;
  for_each_parameter(transformer_of(model), [&](const std::string&, const auto& p) {
    if (p.requires_grad()) all.push_back(p.gradient().take());
  });
  return all;
}

}  // namespace

TEST_CASE("the loss of pairs is that of each target given its source", "[train]") {
  const auto model = tiny_t5<double>();
  const Dataset data({{{5, 9, 1}, {5, 9, 1}, {4, 3, 1}}, {{7, 0, 6, 1}, {7, ignore_index, 6, 1}, {8, 1}}, {{2}, {2}, {9, 9, 9, 8, 7, 1}}});
  double sum = 0;
  int count = 0;
  for (const Example& e : data) {
    std::vector<std::int32_t> ids = {0};
    ids.insert(ids.end(), e.input_ids.begin(), e.input_ids.end() - 1);
    const Tensor<double> logits = decoder_logits(model, e.source_ids, ids);
    for (std::int64_t i = 0; i < logits.rows(); i++) {
      const std::int32_t label = e.labels[std::size_t(i)];
      if (label == ignore_index) continue;
      double total = 0;
      for (std::int64_t c = 0; c < logits.cols(); c++) total += std::exp(logits(i, c));
      sum += std::log(total) - logits(i, label), count++;
    }
  }
  const Batch batch = collate(data, every_one(data));
  CHECK(batch.num_shifted_labels == count);
  CHECK(lm_loss(model, batch).value()[0] == Approx(sum / count).epsilon(1e-12));
  const Evaluation evaluation = evaluate(model, data, 8);
  CHECK(evaluation.tokens == count);
  CHECK(evaluation.loss == Approx(sum / count).epsilon(1e-12));
  // Hugging Face's form of the second: filled up, and the label left out read as the padding.
  const Dataset filled({data[0], pair_example({8, 1}, {7, ignore_index, 6, 1, ignore_index, ignore_index}), data[2]});
  CHECK(lm_loss(model, collate(filled, every_one(filled))).value()[0] == lm_loss(model, batch).value()[0]);
}

TEST_CASE("gradients of pairs do not depend on parts or checkpointing", "[train]") {
  auto model = tiny_t5<double>();
  for_each_parameter(model, [](const std::string&, auto& p) { p.set_requires_grad(true); });
  const Dataset data = reversals(5);
  const auto whole = gradients_of(model, data, {.training = true}, 0);
  for (const bool checkpointing : {false, true})
    for (const std::int64_t tokens : {0, 20}) {
      const auto same = gradients_of(model, data, {.training = true, .checkpointing = checkpointing}, tokens);
      REQUIRE(same.size() == whole.size());
      for (std::size_t i = 0; i < whole.size(); i++) CHECK_THAT(array(same[i]), is_near<double>(array(whole[i])));
    }
  const Dataset two = reversals(2);
  const Batch batch = collate(two, every_one(two));
  std::vector<Parameter<double>> some = {model.encoder_layers[0].self_attn.v_proj.weight, model.encoder_positions->weight,
                                         model.layers[1].cross_attn->k_proj.weight, model.relative_positions->weight};
  CHECK(gradcheck([&](const Variables&) { return lm_loss(model, batch); }, {}, some));
}

TEST_CASE("an encoder-decoder learns pairs, and says them by heart", "[train]") {
  const Dataset data = reversals(6);
  const auto check = [&](auto& model) {
    const double before = evaluate(model, data).loss;
    const TrainingResult result =
        Trainer{model, {.max_steps = 250, .learning_rate = 1e-2, .batch_size = 6, .lr_scheduler = "constant", .tokens_per_forward = 40}}.fit(data);
    CHECK(result.tokens == 250 * data.tokens());
    CHECK(evaluate(model, data).loss < 0.3);
    CHECK(before > 1);
    std::vector<std::vector<std::int32_t>> sources;
    for (const Example& e : data) sources.push_back(e.source_ids);
    const auto answers = generate_ids(model, sources, {.max_new_tokens = 12, .temperature = 0});
    for (std::size_t i = 0; i < data.size(); i++) {
      CHECK(answers[i].ids == data[i].input_ids);  // eos included
      CHECK(answers[i].finish_reason == FinishReason::stop);
    }
    const auto beams = generate_ids(model, sources, {.max_new_tokens = 12, .num_beams = 3});
    CHECK(beams[2].ids == data[2].input_ids);
  };
  TunedT5<float> lora;
  check(lora.tuned);
  auto whole = tiny_t5<float>();
  for_each_parameter(whole, [](const std::string&, auto& p) { p.set_requires_grad(true); });
  check(whole);
}

TEST_CASE("a resumed run over pairs is the uninterrupted one, to the bit", "[train]") {
  const Dataset data = reversals(9);
  const auto arguments = [](const TemporaryFolder& folder) {
    return TrainingArguments{.num_epochs = 3, .learning_rate = 1e-2, .batch_size = 4, .group_by_length = true, .output_dir = folder.path()};
  };
  for (const double dropout : {0.0, 0.3}) {
    const TemporaryFolder straight, folder;
    TunedT5<float> whole(dropout), part(dropout), rest(dropout, 77);
    const TrainingResult expected = Trainer{whole.tuned, arguments(straight)}.fit(data);
    TrainingCallbacks stop;
    stop.should_stop = [made = 0]() mutable { return ++made == 4; };
    CHECK(Trainer{part.tuned, arguments(folder), stop}.fit(data).interrupted);
    TrainingArguments args = arguments(folder);
    args.resume = true;
    CHECK(Trainer{rest.tuned, args}.fit(data).losses == expected.losses);
    CHECK(same_bits(rest.values(), whole.values()));
  }
}

TEST_CASE("other methods than LoRA train both stacks", "[train]") {
  auto base = tiny_t5<float>();
  PeftModel tuned{base};
  tuned.add_adapter("a", IA3Config{.feedforward_modules = {"wi_1"}, .target_modules = {"k", "v", "wi_1"}});
  const Dataset data = reversals(6);
  const double before = evaluate(tuned, data).loss;
  Trainer{tuned, {.max_steps = 60, .learning_rate = 3e-2, .batch_size = 6}}.fit(data);
  CHECK(evaluate(tuned, data).loss < before);
  int moved = 0;
  tuned.for_each_adapter_parameter(
      "a", [&](const std::string&, Parameter<float>& p) { moved += std::ranges::any_of(p.value().span(), [](float x) { return x != 1; }); });
  CHECK(moved == 2 * 3 + 2 * 5);  // two layers a stack: of the decoder's, cross-attention too
}

TEST_CASE("pairs are for encoder-decoders, and they for pairs", "[train]") {
  using Catch::Contains;
  const auto t5 = tiny_t5<double>();
  const auto decoder = tiny_transformer<double>();
  const Dataset pairs = reversals(2), sequences = tiny_task(2);
  CHECK_THROWS_WITH(evaluate(t5, sequences), Contains("no source") && Contains("t5"));
  CHECK_THROWS_WITH(evaluate(decoder, pairs), Contains("no encoder") && Contains("llama"));
  TunedT5<float> tuned;
  CHECK_THROWS_AS((Trainer{tuned.tuned, {.max_steps = 1, .cache_frozen = true}}.fit(pairs)), ConfigError);
}
