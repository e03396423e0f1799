// SPDX-License-Identifier: Apache-2.0
// What freeze() does to a model: flags, counts, what is copied, what frozen tensors cost.
#include "peft/freeze/freeze.hpp"

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/peft_model.hpp"
#include "support/gradients.hpp"
#include "support/tiny_transformer.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

using Tiny = Transformer<float>;
const std::vector<std::int64_t> lengths = {4, 3};
const auto ids = random_ids(7, 11), labels = random_labels(7, 11);

std::vector<std::string> trainable_paths(auto& model) {
  std::vector<std::string> all;
  detail::visit_parameters(model, [&](const ParameterInfo& info, auto& p) {
    if (p.requires_grad()) all.push_back(info.path);
  });
  return all;
}
// Nodes that one forward records, and the gradients that backward leaves.
std::size_t train_step(const Tiny& model) {
  const Pass<float> pass = pass_over<float>(lengths);
  const PassScope<float> scope(pass);
  Tape tape;
  const Variable<float> loss = model.loss(model.hidden_states(ids), labels);
  const std::size_t nodes = tape.nodes();
  if (loss.needs_grad()) tape.backward(loss);
  return nodes;
}
using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("freeze trains what the policy picks and freezes the rest", "[freeze]") {
  auto model = tiny_transformer<float>({.biases = true});
  const auto all = freeze(model, Everything{});
  CHECK(all.trainable == all.total);
  const auto biases = freeze(model, BiasOnly{});
  CHECK(biases.total == all.total);
  CHECK(biases.trainable == 2 * (8 + 4 + 4 + 8 + 12 + 12 + 8 + 8 + 8) + 8 + 11);
  const auto one = freeze(model, Matching{"layers.{1-9}.mlp.up_proj.*"});
  CHECK(trainable_paths(model) == Names{"model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.bias"});
  CHECK(one.trainable == 12 * 8 + 12);
  CHECK(count_parameters(model).trainable == one.trainable);
  freeze(model, [](const ParameterInfo& info) { return info.path == "model.norm.weight"; });
  CHECK(trainable_paths(model) == Names{"model.norm.weight"});
}

TEST_CASE("a policy sees the adapters too", "[freeze]") {
  auto base = tiny_transformer<float>({.biases = true});
  PeftModel<Tiny> tuned{base};
  tuned.add_adapter("a", LoraConfig{.r = 2, .target_modules = {"q_proj"}});
  tuned.add_adapter("b", LoraConfig{.r = 3, .target_modules = {"q_proj"}});
  const std::int64_t a = 2 * 2 * 16, b = 2 * 3 * 16;
  CHECK(freeze(tuned, AdaptersOnly{}).trainable == a + b);
  CHECK(freeze(tuned, [](const ParameterInfo& info) { return info.adapter == "b"; }).trainable == b);
  CHECK(freeze(tuned, AdaptersOnly{} & Matching{"*lora_B*"}).trainable == 2 * (2 + 3) * 8);
  CHECK(freeze(tuned, AdaptersOnly{} | Matching{"model.norm.*"}).trainable == a + b + 16);
  CHECK(base.norm->weight.requires_grad());  // the base's own tensor, shared
  CHECK(freeze(tuned, !AdaptersOnly{}).trainable == count_parameters(base).total);
}

TEST_CASE("a policy that picks nothing is refused with what there is, and changes nothing", "[freeze]") {
  auto model = tiny_transformer<float>({.layers = 1});
  freeze(model, Matching{"model.norm.weight"});
  CHECK_THROWS_WITH(freeze(model, Matching{"model.layers.0.mlp.up_prj.weight"}),
                    "[freeze] \"model.layers.0.mlp.up_prj.weight\" matches no parameter of this model; did you mean \"model.layers.0.mlp.up_proj.weight\"? "
                    "Parameters here: model.embed_tokens.weight, model.layers.0.input_layernorm.weight, model.layers.0.self_attn.q_proj.weight, "
                    "model.layers.0.self_attn.k_proj.weight, model.layers.0.self_attn.v_proj.weight, model.layers.0.self_attn.o_proj.weight, "
                    "model.layers.0.post_attention_layernorm.weight, model.layers.0.mlp.gate_proj.weight, … (4 more)");
  CHECK_THROWS_WITH(freeze(model, BiasOnly{}),
                    Catch::StartsWith("[freeze] the policy picks no parameter of this model; Parameters here: model.embed_tokens.weight, "));
  CHECK_THROWS_AS(freeze(model, AdaptersOnly{}), ConfigError);
  CHECK_THROWS_AS(freeze(model, Nothing{}), ConfigError);
  CHECK(trainable_paths(model) == Names{"model.norm.weight"});
}

TEST_CASE("a shared tensor trains if any of its names does, and counts once", "[freeze]") {
  auto model = tiny_transformer<float>({.tied = true});
  CHECK(freeze(model, Matching{"lm_head.*"}).trainable == 11 * 8);
  CHECK(model.embed_tokens.weight.requires_grad());
  CHECK(freeze(model, Everything{}).trainable == count_parameters(model).total);
  auto untied = tiny_transformer<float>();
  CHECK(count_parameters(untied).total == count_parameters(model).total + 11 * 8);
}

TEST_CASE("what is to train is copied out of its file, the rest stays there", "[freeze]") {
  auto model = tiny_transformer<float>();
  const auto file = std::make_shared<std::vector<std::byte>>(std::size_t(bytes_of(DType::bf16, 12 * 8)));
  const auto stored = [&](Parameter<float>& p) {
    for (std::int64_t r = 0; r < 12; r++) ops::quantize(file->data() + bytes_of(DType::bf16, r * 8), DType::bf16, p.value().view().row(r), 8);
    p = Parameter<float>(ops::WeightView(file->data(), DType::bf16, 12, 8), {12, 8}, file);
  };
  stored(model.layers[0].mlp.gate_proj->weight);
  stored(model.layers[0].mlp.up_proj.weight);
  const std::vector<std::byte> kept = *file;
  const Tensor<float> before = model.layers[0].mlp.up_proj.weight.dense();
  freeze(model, Matching{"up_proj.weight"});
  CHECK_FALSE(model.layers[0].mlp.up_proj.weight.is_stored());
  CHECK(model.layers[0].mlp.gate_proj->weight.is_stored());
  CHECK(same_bits(model.layers[0].mlp.up_proj.weight.value(), before));
  model.layers[0].mlp.up_proj.weight.value().fill(1);
  CHECK(*file == kept);
  freeze(model, Matching{"model.norm.weight"});  // frozen again it keeps the copy
  CHECK(model.layers[0].mlp.up_proj.weight.value()[0] == 1);
}

TEST_CASE("frozen tensors get no gradient, and nothing is recorded below the lowest that trains", "[freeze]") {
  auto model = tiny_transformer<float>({.biases = true});
  const auto nodes = [&](const char* pattern) {
    freeze(model, Matching{pattern});
    const std::size_t recorded = train_step(model);
    for_each_parameter(model, [&](const std::string& path, Parameter<float>& p) {
      CAPTURE(pattern, path);
      CHECK(bool(p.grad()) == p.requires_grad());
    });
    return recorded;
  };
  const std::size_t whole = nodes("*"), upper = nodes("layers.1.*"), down = nodes("layers.1.mlp.down_proj.weight"), head = nodes("lm_head.*");
  CHECK(head == 1);         // the loss, which holds the head
  CHECK(down == head + 3);  // down_proj, the residual join, the last norm
  CHECK(upper > down);
  CHECK(whole > upper + 8);
  for_each_parameter(model, [](const std::string&, Parameter<float>& p) { p.set_requires_grad(false); });
  CHECK(train_step(model) == 0);
}

TEST_CASE("a frozen matrix costs no product of its size", "[freeze]") {
  // Its gradient would be 16 MiB; a step on top of it must not hold a quarter of that.
  const std::int64_t n = 2048;
  Linear<float> lower(Parameter<float>(random_normal<float>({n, n}, 1, 0.02)), {}, "lower"),
      upper(Parameter<float>(random_normal<float>({3, n}, 2)), {}, "upper");
  upper.weight.set_requires_grad(true);
  const Variable<float> x(random_normal<float>({4, n}), true);  // its gradient passes through `lower`
  const auto peak = [&] {
    Tape tape;
    const Variable<float> y = upper(lower(x));
    memory::reset_peak();
    const std::int64_t before = memory::statistics().in_use;
    tape.backward(y, random_normal<float>({4, 3}));
    return memory::statistics().peak - before;
  };
  CHECK(peak() < n * n * 4 / 4);
  CHECK(x.grad());
  CHECK_FALSE(lower.weight.grad());
  lower.weight.set_requires_grad(true);
  CHECK(peak() >= n * n * 4);  // so that the measure sees it
}
