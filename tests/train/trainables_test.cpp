// SPDX-License-Identifier: Apache-2.0
// LoRA+ and LoRA-FA: who trains at which rate, what becomes of B's gradient, and that both are PEFT's steps.
#include "peft/train/trainables.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <string>
#include <vector>
#include <xtensor/xbuilder.hpp>
#include <xtensor/xmath.hpp>

#include "adapters/one_linear.hpp"
#include "peft/adapters/lora/lora_fa.hpp"
#include "peft/adapters/registry.hpp"
#include "peft/freeze/freeze.hpp"
#include "peft/optim/optim.hpp"
#include "peft/train/trainer.hpp"
#include "train/tiny_task.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {

template <class F>
Tensor<double> filled(const Shape& shape, F f) {
  Tensor<double> t(shape);
  for (std::int64_t i = 0; i < t.size(); i++) t.data()[i] = f(double(i));
  return t;
}
// One Linear, 3 → 4, with a LoRA of rank 2 and alpha 3.
struct SmallLora {
  OneLinear base{3, 4};
  PeftModel<OneLinear> tuned{base};
  std::map<std::string, Parameter<double>> p;
  explicit SmallLora(bool with_bias) {
    base.map.weight.assign(filled({4, 3}, [](double i) { return 0.5 * std::sin(0.7 * i + 2); }));
    base.map.bias.assign(filled({4}, [](double i) { return 0.1 * i; }));
    tuned.add_adapter("a", LoraConfig{.r = 2, .lora_alpha = 3, .target_modules = {"map"}, .lora_bias = with_bias});
    tuned.for_each_adapter_parameter("a", [&](const std::string& path, Parameter<double>& parameter) { p[path.substr(13)] = parameter; });
    p["lora_A.weight"].assign(filled({2, 3}, [](double i) { return std::sin(i + 1); }));
    p["lora_B.weight"].assign(filled({4, 2}, [](double i) { return 0.3 * std::cos(i + 1); }));
    if (with_bias) p["lora_B.bias"].assign(filled({4}, [](double i) { return 0.05 * i - 0.1; }));
  }
  // The gradient of Σ y² / 20.
  void backward() {
    Tape tape;
    const Variable<double> y = tuned.model().map(Variable<double>(filled({5, 3}, [](double i) { return std::cos(0.3 * i + 0.5); })));
    Tensor<double> dy = y.value().clone();
    for (double& d : dy.span()) d *= 0.1;
    tape.backward(y, dy);
  }
  void train(AdamW<double>& optimizer, double lr, const LoraFa<double>* lora_fa = nullptr) {
    for (int step = 0; step < 3; step++) {
      zero_grad(optimizer.trainables());
      backward();
      if (lora_fa) lora_fa->turn_gradients();
      optimizer.step(lr);
    }
  }
};
Array row_of(const std::vector<double>& values, const std::vector<std::size_t>& shape) {
  Array a = Array::from_shape(shape);
  std::ranges::copy(values, a.begin());
  return a;
}
std::map<std::string, Trainable<float>> by_name(std::vector<Trainable<float>> all) {
  std::map<std::string, Trainable<float>> named;
  for (Trainable<float>& t : all) named.emplace(t.name, t);
  return named;
}

}  // namespace

// The numbers are those of PEFT's create_lorafa_optimizer and create_loraplus_optimizer (with torch's AdamW) in float64, after three steps.
TEST_CASE("LoRA-FA's steps are PEFT's", "[train]") {
  SmallLora m(false);
  const Tensor<double> A = m.p["lora_A.weight"].value().clone();
  const LoraFa<double> lora_fa(m.tuned);
  auto trainables = trainables_of<double>(m.tuned);
  REQUIRE(trainables.size() == 1);
  CHECK(trainables[0].name == "a:layers.0.map.lora_B.weight");
  AdamW<double> optimizer(std::move(trainables), {.eps = 1e-6, .weight_decay = 0.1, .as_transformers = true});
  m.train(optimizer, 0.02, &lora_fa);
  CHECK(same_bits(m.p["lora_A.weight"].value(), A));
  CHECK_FALSE(m.p["lora_A.weight"].requires_grad());
  CHECK_THAT(array(m.p["lora_B.weight"].value()),
             is_near<double>(row_of({0.22086273070803977, -0.064348127295815141, -0.35496913623968179, -0.25467143038893675, 0.14178667042889745,
                                     0.29818645155823659, 0.28454199122505924, 0.016353461663010448},
                                    {4, 2}),
                             1e4));  // the pseudo-inverse costs digits
}

TEST_CASE("LoRA+'s steps are PEFT's", "[train]") {
  SmallLora m(true);
  AdamW<double> optimizer(trainables_of<double>(m.tuned, {.ratio = 4}), {.weight_decay = 0.1});
  m.train(optimizer, 0.01);
  CHECK_THAT(
      array(m.p["lora_A.weight"].value()),
      is_near<double>(
          row_of({0.81002630305422685, 0.87766062084723018, 0.11180009191640305, -0.78136729345636591, -0.98359725559168076, -0.30678615782869206}, {2, 3}),
          50));
  CHECK_THAT(array(m.p["lora_B.weight"].value()),
             is_near<double>(row_of({0.042461543085950841, -0.0053641366703261334, -0.17596328951866433, -0.3115566418715664, 0.090367067375338478,
                                     0.28168858838803024, 0.105834739893474, 0.074793037195339182},
                                    {4, 2}),
                             50));
  CHECK_THAT(array(m.p["lora_B.bias"].value()),
             is_near<double>(row_of({0.017090782206806279, -0.1661508779559035, -0.090339801810596421, -0.06998594359566368}, {4}), 50));
}

TEST_CASE("LoRA-FA moves W as the full gradient would, as far as A's rows allow", "[train]") {
  SmallLora m(false);
  const LoraFa<double> lora_fa(m.tuned);
  m.backward();
  lora_fa.turn_gradients();
  const Array g = array(m.p["lora_B.weight"].grad()), A = array(m.p["lora_A.weight"].value());
  const double s = 1.5;
  // dW, and the projection onto A's two rows: Aᵀ (A Aᵀ)⁻¹ A.
  const Array x = array(filled({5, 3}, [](double i) { return std::cos(0.3 * i + 0.5); }));
  const Array y = times(x, transposed(array(m.base.map.weight.value()))) + array(m.base.map.bias.value()) +
                  s * times(times(x, transposed(A)), transposed(array(m.p["lora_B.weight"].value())));
  const Array dW = times(transposed(Array(0.1 * y)), x), AA = times(A, transposed(A)) + 1e-8 * xt::eye<double>(2);
  const double det = AA(0, 0) * AA(1, 1) - AA(0, 1) * AA(1, 0);
  const Array inverse = Array{{AA(1, 1) / det, -AA(0, 1) / det}, {-AA(1, 0) / det, AA(0, 0) / det}};
  CHECK_THAT(Array(s * times(g, A)), is_near<double>(times(times(times(dW, transposed(A)), inverse), A), 1e4));
}

TEST_CASE("LoRA+'s groups are PEFT's", "[train]") {
  auto base = tiny_transformer<float>({.biases = true});
  PeftModel tuned{base};
  tuned.add_adapter("a", LoraConfig{.r = 2, .target_modules = {"embed_tokens", "q_proj"}, .modules_to_save = {"model.layers.0.input_layernorm", "lm_head"}});
  tuned.add_adapter("d", LoraConfig{.r = 2, .target_modules = {"v_proj"}, .use_dora = true});
  const auto all = by_name(trainables_of<float>(tuned, {.ratio = 16, .embedding = 0.01}));
  const auto is = [&](const std::string& name, double lr_scale, double decay_scale) {
    CAPTURE(name);
    REQUIRE(all.contains(name));
    CHECK(all.at(name).lr_scale == lr_scale);
    CHECK(all.at(name).decay_scale == decay_scale);
  };
  is("a:model.layers.1.self_attn.q_proj.lora_A.weight", 1, 1);
  is("a:model.layers.1.self_attn.q_proj.lora_B.weight", 16, 1);
  is("a:model.embed_tokens.lora_embedding_A", 0.01, 1);
  is("a:model.embed_tokens.lora_embedding_B", 0.01, 1);
  is("a:model.layers.0.input_layernorm.weight", 16, 0);
  is("a:model.layers.0.input_layernorm.bias", 16, 0);
  is("a:lm_head.weight", 1, 1);
  is("a:lm_head.bias", 16, 0);
  is("d:model.layers.0.self_attn.v_proj.lora_magnitude_vector", 16, 1);
  for (const auto& [name, t] : by_name(trainables_of<float>(tuned))) CHECK((t.lr_scale == 1 && t.decay_scale == 1));

  // An RMS norm's weight is a vector that decays: PEFT knows torch's LayerNorm alone.
  auto rms = tiny_transformer<float>();
  PeftModel with_norms{rms};
  with_norms.add_adapter("a", LNTuningConfig{});
  for (const Trainable<float>& t : trainables_of<float>(with_norms, {.ratio = 16})) CHECK((t.lr_scale == 16 && t.decay_scale == 1));
  auto plain = tiny_transformer<float>({.biases = true});
  plain.layers[0].input_layernorm->weight.set_requires_grad(true), plain.lm_head.weight.set_requires_grad(true);
  for (const Trainable<float>& t : trainables_of<float>(plain, {.ratio = 2})) CHECK(t.decay_scale == (t.name == "lm_head.weight" ? 1 : 0));
}

TEST_CASE("the trainer makes LoRA+'s and LoRA-FA's steps", "[train]") {
  const auto first_step = [](TrainingArguments args) {
    TunedTiny<float> t;
    args.max_steps = 1, args.batch_size = 8;
    Trainer{t.tuned, args}.fit(tiny_task(8));
    return t.values();
  };
  const auto slow = first_step({.learning_rate = 1e-2}), fast = first_step({.learning_rate = 4e-2});
  const auto plus = first_step({.learning_rate = 1e-2, .loraplus_lr_ratio = 4});
  for (std::size_t i = 0; i < plus.size(); i += 2) {  // A, then B
    CHECK(same_bits(plus[i], slow[i]));
    CHECK(same_bits(plus[i + 1], fast[i + 1]));
  }
  TunedTiny<float> t;
  const auto before = t.values();
  const Dataset data = tiny_task(60);
  const TrainingResult result = Trainer{t.tuned, TrainingArguments{.num_epochs = 20, .learning_rate = 2e-2, .batch_size = 8, .lorafa = true}}.fit(data);
  CHECK(result.losses.back() < 0.5 * result.losses.front());
  const auto after = t.values();
  for (std::size_t i = 0; i < after.size(); i++) CHECK(same_bits(after[i], before[i]) == (i % 2 == 0));
}

TEST_CASE("what LoRA-FA and LoRA+ cannot do is refused", "[train]") {
  CHECK_THROWS_WITH(validate(TrainingArguments{.loraplus_lr_ratio = 0.5}), Contains("loraplus_lr_ratio is 0.5; at least 1 is wanted"));
  CHECK_THROWS_WITH(validate(TrainingArguments{.loraplus_lr_ratio = 2, .loraplus_lr_embedding = -1}), Contains("loraplus_lr_embedding is -1"));
  CHECK_THROWS_WITH(validate(TrainingArguments{.learning_rate = 0, .loraplus_lr_ratio = 2}), Contains("learning_rate is 0"));
  CHECK_THROWS_WITH(validate(TrainingArguments{.loraplus_lr_ratio = 2, .lorafa = true}), Contains("lorafa with loraplus_lr_ratio"));
  auto base = tiny_transformer<float>();
  const auto refused = [&](const auto& config, const std::string& text) {
    PeftModel tuned{base};
    tuned.add_adapter("a", config);
    CHECK_THROWS_WITH(LoraFa<float>(tuned), Contains(text));
    for (const Trainable<float>& t : trainables_of<float>(tuned)) CHECK(t.parameter.requires_grad());  // nothing was frozen
  };
  refused(LoraConfig{.use_dora = true}, "use_dora of the adapter \"a\"");
  refused(LoraConfig{.lora_bias = true}, "lora_bias of the adapter \"a\"");
  refused(IA3Config{}, "no LoRA trains here");
  freeze(base, Matching{"lm_head.*"});
  CHECK_THROWS_WITH((Trainer{base, {.max_steps = 1, .lorafa = true}}.fit(tiny_task(4))), Contains("a model without adapters"));
}
