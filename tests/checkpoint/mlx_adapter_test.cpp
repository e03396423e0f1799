// SPDX-License-Identifier: Apache-2.0
// Adapters as mlx-lm writes them, made by hand, and logits of weights that they were added to by hand.
#include "peft/checkpoint/mlx_adapter.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <string>

#include "checkpoint/model_files.hpp"
#include "peft/checkpoint/adapter_file.hpp"
#include "peft/io/safetensors.hpp"
#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {

const TinyShape mlx_shape = {.hidden = 16, .layers = 2, .heads = 2, .kv_heads = 1};

struct MlxTensors {
  std::vector<std::pair<std::string, Tensor<float>>> all;
  void add(const std::string& name, const Shape& shape, std::uint64_t seed) { all.emplace_back(name, random_normal<float>(shape, seed, 0.3)); }
  void write(const Folder& folder, const std::string& config) const {
    std::vector<TensorToWrite> to;
    for (const auto& [name, values] : all) to.push_back({name, DType::f32, values.shape(), values.data()});
    write_safetensors(folder / "adapters.safetensors", to);
    write_file(folder / "adapter_config.json", config);
  }
};
MlxTensors two_modules(bool dora = false) {
  MlxTensors t;
  t.add("model.layers.1.self_attn.q_proj.lora_a", {16, 3}, 1), t.add("model.layers.1.self_attn.q_proj.lora_b", {3, 16}, 2);
  t.add("model.layers.0.self_attn.v_proj.lora_a", {16, 3}, 3), t.add("model.layers.0.self_attn.v_proj.lora_b", {3, 8}, 4);
  if (dora) t.add("model.layers.1.self_attn.q_proj.m", {16}, 5), t.add("model.layers.0.self_attn.v_proj.m", {8}, 6);
  return t;
}
const char* mlx_lora = R"({"fine_tune_type": "lora", "num_layers": 16, "model": "some/model", "lora_parameters": {"rank": 3, "scale": 20.0, "dropout": 0.0}})";
const char* mlx_dora = R"({"fine_tune_type": "dora", "lora_parameters": {"rank": 3, "scale": 0.5, "dropout": 0.1, "keys": ["self_attn.q_proj"]}})";

/// W += scale · (lora_a lora_b)ᵀ, and rows of the length m, if there is one.
void change_by_hand(Tensor<float> W, const Tensor<float>& a, const Tensor<float>& b, double scale, const Tensor<float>* m = nullptr) {
  for (std::int64_t o = 0; o < W.rows(); o++) {
    double square = 0;
    for (std::int64_t i = 0; i < W.cols(); i++) {
      double sum = 0;
      for (std::int64_t k = 0; k < a.cols(); k++) sum += double(a(i, k)) * double(b(k, o));
      const double changed = double(W(o, i)) + scale * sum;
      W(o, i) = float(changed), square += changed * changed;
    }
    if (m)
      for (std::int64_t i = 0; i < W.cols(); i++) W(o, i) = float(double(W(o, i)) * double((*m)[o]) / std::sqrt(square));
  }
}

Tensor<float> mlx_logits(PeftModel<Transformer<float>>& model) {
  const auto pass = pass_over<float>({5, 4}, model.pass());
  const PassScope<float> scope(pass);
  return model.model().logits(model.model().hidden_states(random_ids(9, model.model().config.vocab_size))).value().clone();
}

}  // namespace

TEST_CASE("mlx-lm's LoRA and DoRA are read, transposed and with its scale", "[checkpoint]") {
  for (const bool dora : {false, true}) {
    const Folder folder;
    const MlxTensors t = two_modules(dora);
    t.write(folder, dora ? mlx_dora : mlx_lora);
    auto base = tiny_transformer<float>(mlx_shape), by_hand = tiny_transformer<float>(mlx_shape);
    PeftModel model{base}, bare{base};
    load_adapter(model, "a", folder.path(), true);
    const double scale = dora ? 0.5 : 20;
    const auto& config = std::any_cast<const LoraConfig&>(model.entry("a").config);
    CHECK(config.r == 3);
    CHECK(config.lora_alpha == 3 * scale);
    CHECK(config.use_dora == dora);
    for_each_parameter(by_hand, [&](const std::string& path, const Parameter<float>& p) {
      for (std::size_t k = 0; k < 4; k += 2)
        if (path + ".lora_a" == t.all[k].first.substr(0, t.all[k].first.rfind('.')) + ".weight.lora_a")
          change_by_hand(p.value(), t.all[k].second, t.all[k + 1].second, scale, dora ? &t.all[4 + k / 2].second : nullptr);
    });
    PeftModel expected{by_hand};
    CHECK_FALSE(same_bits(mlx_logits(model), mlx_logits(bare)));
    CHECK_THAT(array(mlx_logits(model)), is_near<float>(array(mlx_logits(expected)), 2000));
  }
}

TEST_CASE("mlx-lm's LoRA on an embedding is read", "[checkpoint]") {
  const Folder folder;
  auto base = tiny_transformer<float>(mlx_shape), by_hand = tiny_transformer<float>(mlx_shape);
  const std::int64_t V = base.embed_tokens.num_embeddings();
  MlxTensors t;
  t.add("model.embed_tokens.lora_a", {V, 3}, 1), t.add("model.embed_tokens.lora_b", {3, 16}, 2);
  t.write(folder, mlx_lora);
  PeftModel model{base};
  load_adapter(model, "a", folder.path());
  const Tensor<float>&W = by_hand.embed_tokens.weight.value(), &a = t.all[0].second, &b = t.all[1].second;
  for (std::int64_t v = 0; v < V; v++)
    for (std::int64_t i = 0; i < 16; i++)
      for (std::int64_t k = 0; k < 3; k++) W(v, i) += 20 * a(v, k) * b(k, i);
  PeftModel expected{by_hand};
  if (base.lm_head.weight.identity() != base.embed_tokens.weight.identity())
    CHECK_THAT(array(mlx_logits(model)), is_near<float>(array(mlx_logits(expected)), 2000));
}

TEST_CASE("what is not understood of mlx-lm's adapters is refused, and nothing is attached", "[checkpoint]") {
  const Folder folder;
  auto base = tiny_transformer<float>(mlx_shape);
  PeftModel model{base};
  const auto refused = [&](const MlxTensors& tensors, const std::string& config, const std::string& said) {
    tensors.write(folder, config);
    CHECK_THROWS_WITH(load_adapter(model, "a", folder.path()), Contains(said));
    CHECK(model.adapter_names().empty());
  };
  refused(two_modules(), R"({"fine_tune_type": "full"})", "fine_tune_type \"full\" of mlx-lm");
  refused(two_modules(), R"({"fine_tune_type": "lora"})", "lora_parameters with a rank and a scale");
  refused(two_modules(), R"({"lora_parameters": {"rank": 3}})", "scale");
  refused(two_modules(), R"({"lora_parameters": {"rank": 4, "scale": 1}})", "(16, 3) and lora_b (3, 8); adapter_config.json says a rank of 4");
  refused(two_modules(), mlx_dora, "has no m, which a \"dora\" has");
  refused(two_modules(true), mlx_lora, ".m; what is read of mlx-lm's adapters is lora_a, lora_b");
  MlxTensors t = two_modules();
  t.all.pop_back();
  refused(t, mlx_lora, "model.layers.0.self_attn.v_proj has no lora_b");
  t = two_modules();
  t.add("model.layers.7.self_attn.q_proj.lora_a", {16, 3}, 7), t.add("model.layers.7.self_attn.q_proj.lora_b", {3, 16}, 8);
  refused(t, mlx_lora, "unexpected 2 (base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight");
  t = two_modules();
  t.add("model.layers.0.mlp.experts.lora_a", {4, 3, 16}, 7);
  refused(t, mlx_lora, "those of experts are not read");
  t = two_modules();
  t.all[0].second = random_normal<float>({12, 3}, 1);
  refused(t, mlx_lora, "lora_A.weight is (3, 12), this model wants (3, 16)");
}
