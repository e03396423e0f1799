// SPDX-License-Identifier: Apache-2.0
// LoRA as a GGUF file, as llama.cpp's converter would write it.
#include "peft/checkpoint/gguf_adapter.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <string>

#include "checkpoint/model_files.hpp"
#include "peft/checkpoint/adapter_file.hpp"
#include "peft/io/gguf.hpp"
#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {

const TinyShape two_heads = {.hidden = 16, .layers = 2, .heads = 2, .kv_heads = 1};  // heads of 8: an order of rows that is not its own inverse

template <class M>
Tensor<float> logits_with(const PeftModel<M>& model) {
  const auto pass = pass_over<float>({5, 4}, model.pass());
  const PassScope<float> scope(pass);
  return model.model().logits(model.model().hidden_states(random_ids(9, model.model().config.vocab_size))).value().clone();
}
/// Through a GGUF file onto another model: the same logits, but for what is multiplied into B.
void through_gguf(const LoraConfig& config, const TinyShape& shape = two_heads, bool exact = false) {
  const Folder folder;
  auto base = tiny_transformer<float>(shape), other = tiny_transformer<float>(shape);
  PeftModel saved{base}, loaded{other};
  saved.add_adapter("a", config, 3);
  save_gguf_adapter(saved, "a", folder / "a.gguf");
  load_adapter(loaded, "b", folder / "a.gguf");
  CHECK_FALSE(same_bits(logits_with(saved), logits(base)));
  CHECK_THAT(array(logits_with(loaded)), is_near<float>(array(logits_with(saved)), exact ? 1 : 200));
  if (exact) CHECK(same_bits(logits_with(loaded), logits_with(saved)));
}

/// Numbers of a tensor, one for each place.
std::string counted(std::int64_t n, float step = 0.01f) {
  std::string all;
  for (std::int64_t i = 0; i < n; i++) all += bytes(step * float(i % 17 - 8));
  return all;
}
GgufWriter adapter_header(const char* architecture = "llama") {
  GgufWriter w;
  w.add("general.architecture", architecture).add("general.type", "adapter").add("adapter.type", "lora").add("adapter.lora.alpha", 4.0f);
  return w;
}

}  // namespace

TEST_CASE("a LoRA is the same after it went through a GGUF file", "[checkpoint]") {
  through_gguf({.r = 2, .lora_alpha = 6, .target_modules = {"q_proj", "v_proj"}, .init_lora_weights = false}, two_heads, true);
  through_gguf({.r = 2, .lora_alpha = 3, .target_modules = "all-linear", .init_lora_weights = false}, two_heads, true);
  through_gguf({.r = 1, .lora_alpha = 3, .target_modules = {"k_proj", "lm_head"}, .init_lora_weights = false}, two_heads, true);
  through_gguf({.r = 3, .lora_alpha = 6, .target_modules = {"q_proj", "embed_tokens"}, .init_lora_weights = false}, two_heads, true);
  through_gguf({.r = 2, .lora_alpha = 6, .target_modules = {"o_proj"}, .init_lora_weights = false, .layers_to_transform = {1}}, two_heads, true);
  // One alpha for all: what differs goes into B.
  through_gguf({.r = 3, .lora_alpha = 5, .target_modules = {"q_proj", "v_proj"}, .use_rslora = true, .init_lora_weights = false});
  through_gguf({.r = 2,
                .lora_alpha = 5,
                .target_modules = {"q_proj", "k_proj", "up_proj"},
                .init_lora_weights = false,
                .rank_pattern = {{"k_proj", 4}},
                .alpha_pattern = {{"layers.1.self_attn.q_proj", 11}}});
}

TEST_CASE("a GGUF adapter has GGUF's names, shapes, order of rows and one alpha", "[checkpoint]") {
  const Folder folder;
  auto base = tiny_transformer<float>(two_heads);
  base.config.name = "tiny";
  PeftModel model{base};
  model.add_adapter("a", LoraConfig{.r = 4, .lora_alpha = 6, .target_modules = {"q_proj", "v_proj"}, .use_rslora = true, .init_lora_weights = false}, 3);
  save_gguf_adapter(model, "a", folder / "a.gguf");
  const GgufFile file = GgufFile::open(folder / "a.gguf");
  CHECK(file.find("general.type")->string() == "adapter");
  CHECK(file.find("general.architecture")->string() == "llama");
  CHECK(file.find("adapter.type")->string() == "lora");
  CHECK(file.find("adapter.lora.alpha")->number() == 12);  // s = 6 / √4 = 12 / 4
  CHECK(file.tensors().size() == 8);
  const auto check = [&](const std::string& name, const std::string& part, bool rotary, const Shape& shape) {
    CAPTURE(name, part);
    const GgufTensor* found = file.find_tensor(name + (part == "lora_A" ? ".weight.lora_a" : ".weight.lora_b"));
    REQUIRE(found);
    CHECK(found->shape == shape);
    model.for_each_adapter_parameter("a", [&](const std::string& path, const Parameter<float>& p) {
      if (path != (name == "blk.1.attn_q" ? "model.layers.1.self_attn.q_proj." : "model.layers.1.self_attn.v_proj.") + part + ".weight") return;
      const Tensor<float> wanted = rotary ? interleaved(p.value(), 8) : p.value();
      CHECK(std::memcmp(found->data, wanted.data(), std::size_t(found->bytes)) == 0);
    });
  };
  check("blk.1.attn_q", "lora_A", false, {4, 16}), check("blk.1.attn_q", "lora_B", true, {16, 4});
  check("blk.1.attn_v", "lora_A", false, {4, 16}), check("blk.1.attn_v", "lora_B", false, {8, 4});
}

TEST_CASE("a GGUF adapter reads as a PEFT configuration: ranks, alpha or none, and targets by their short names", "[checkpoint]") {
  const Folder folder;
  const auto base = tiny_transformer<float>(two_heads).config;
  const auto with = [&](GgufWriter w) {
    w.tensor("blk.0.attn_q.weight.lora_a", {16, 2}, 0, counted(32)).tensor("blk.0.attn_q.weight.lora_b", {2, 16}, 0, counted(32));
    w.tensor("blk.1.attn_q.weight.lora_a", {16, 2}, 0, counted(32)).tensor("blk.1.attn_q.weight.lora_b", {2, 16}, 0, counted(32));
    w.tensor("blk.1.ffn_up.weight.lora_a", {16}, 0, counted(16)).tensor("blk.1.ffn_up.weight.lora_b", {1, 12}, 0, counted(12));  // a 1 that was dropped
    write_file(folder / "a.gguf", w.file());
    return read_gguf_adapter(folder / "a.gguf", base).config;
  };
  const LoraConfig scaled = with(adapter_header());
  CHECK(scaled.r == 2);
  CHECK(scaled.target_modules.names() == std::vector<std::string>{"model.layers.1.mlp.up_proj", "q_proj"});
  CHECK(lora_scale(scaled, "model.layers.0.self_attn.q_proj").scaling == 2);
  CHECK(lora_scale(scaled, "model.layers.1.mlp.up_proj").r == 1);
  CHECK(lora_scale(scaled, "model.layers.1.mlp.up_proj").scaling == 4);
  GgufWriter without;
  without.add("general.architecture", "llama").add("general.type", "adapter").add("adapter.type", "lora");
  const LoraConfig plain = with(without);  // no alpha is no scale
  CHECK(lora_scale(plain, "model.layers.0.self_attn.q_proj").scaling == 1);
  CHECK(lora_scale(plain, "model.layers.1.mlp.up_proj").scaling == 1);
}

TEST_CASE("what GGUF has no place for is not written", "[checkpoint]") {
  const Folder folder;
  const auto refused = [&](const auto& config, const std::string& what, const TinyShape& shape = two_heads) {
    auto base = tiny_transformer<float>(shape);
    PeftModel model{base};
    model.add_adapter("a", config);
    CHECK_THROWS_AS(save_gguf_adapter(model, "a", folder / "a.gguf"), NotSupported);
    CHECK_THROWS_WITH(save_gguf_adapter(model, "a", folder / "a.gguf"), Contains(what));
    CHECK_FALSE(std::filesystem::exists(folder / "a.gguf"));
  };
  refused(LoraConfig{.r = 2, .target_modules = {"q_proj"}, .use_dora = true}, "lora_magnitude_vector");
  refused(LoraConfig{.r = 2, .target_modules = {"q_proj"}, .lora_bias = true}, "lora_B.bias");
  refused(LoraConfig{.r = 2, .target_modules = {"q_proj"}, .modules_to_save = {"lm_head"}}, "lm_head");
  refused(LoraConfig{.r = 2, .target_modules = {"q_proj"}, .init_lora_weights = "olora"}, "olora");
  refused(LoraConfig{.r = 2, .target_modules = {"lm_head"}}, "shares the embedding's tensor", {.tied = true});
  refused(BitFitConfig{}, "BITFIT", {.biases = true});
}

TEST_CASE("a GGUF adapter that is broken or not this base's is refused, and nothing is attached", "[checkpoint]") {
  const Folder folder;
  auto base = tiny_transformer<float>(two_heads);
  PeftModel model{base};
  const auto refused = [&](const GgufWriter& w, const std::string& what) {
    write_file(folder / "a.gguf", w.file());
    CHECK_THROWS_WITH(load_adapter(model, "a", folder / "a.gguf"), Contains(what));
    CHECK(model.adapter_names().empty());
  };
  const auto pair = [](GgufWriter w, std::int64_t in = 16, std::int64_t ra = 2, std::int64_t rb = 2, std::int64_t out = 16) {
    w.tensor("blk.0.attn_q.weight.lora_a", {in, ra}, 0, counted(in * ra)).tensor("blk.0.attn_q.weight.lora_b", {rb, out}, 0, counted(rb * out));
    return w;
  };
  write_file(folder / "good.gguf", pair(adapter_header()).file());
  load_adapter(model, "good", folder / "good.gguf");
  model.delete_adapter("good");
  refused(gguf(base), "an adapter is wanted");
  refused(GgufWriter().add("general.type", "adapter"), "adapter.type");
  refused(pair(adapter_header("qwen2")), "for the architecture \"qwen2\", this base is \"llama\"");
  refused(adapter_header(), "no tensors");
  refused(pair(adapter_header().list("adapter.alora.invocation_tokens", 4, 1, bytes(1u))), "activated LoRA");
  refused(adapter_header().tensor("blk.0.attn_q.weight.lora_a", {16, 2}, 0, counted(32)), "has a lora_a and no lora_b");
  refused(pair(adapter_header()).tensor("blk.0.attn_norm.weight", {16}, 0, counted(16)), "a change of a norm");
  refused(pair(adapter_header()).tensor("blk.0.attn_q.bias", {16}, 0, counted(16)), "blk.0.attn_q.bias");
  refused(pair(adapter_header()).tensor("blk.7.attn_k.weight.lora_a", {16, 2}, 0, counted(32)), "this base has no blk.7.attn_k");
  refused(pair(adapter_header(), 2, 16, 2, 16), "transposed");
  refused(pair(adapter_header(), 16, 2, 2, 12), "whole heads of 8 rows");
  refused(pair(adapter_header(), 8), "wrong shape 1");
  refused(pair(adapter_header(), 16, 0, 0), "r is 0");
  GgufWriter integers = adapter_header();
  integers.tensor("blk.0.attn_q.weight.lora_a", {16, 2}, 26, counted(32)).tensor("blk.0.attn_q.weight.lora_b", {2, 16}, 0, counted(32));
  refused(integers, "a matrix of real numbers is wanted");
}
