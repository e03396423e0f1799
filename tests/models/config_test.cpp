// SPDX-License-Identifier: Apache-2.0
#include "peft/models/config.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <set>
#include <string>

#include "peft/io/json.hpp"

using namespace peft;
using Catch::Contains;

namespace {
TransformerConfig small() {
  TransformerConfig c;
  c.model_type = "llama", c.vocab_size = 11, c.hidden_size = 8, c.num_hidden_layers = 2;
  c.attention.num_attention_heads = 4, c.attention.num_key_value_heads = 2, c.attention.head_dim = 2, c.attention.rope = RopeConfig{};
  c.mlp.intermediate_size = 12;
  return c;
}
template <class F>
std::string config_refused(F change) {
  TransformerConfig c = small();
  change(c);
  try {
    validate(c);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "valid";
}
}  // namespace

TEST_CASE("numbers that no transformer has are refused by key and value", "[models]") {
  using C = TransformerConfig;
  CHECK(config_refused([](C&) {}) == "valid");
  CHECK(config_refused([](C& c) { c.vocab_size = 0; }) == "[config] vocab_size is 0; allowed are 1 … 268435456");
  CHECK_THAT(config_refused([](C& c) { c.hidden_size = -8; }), Contains("hidden_size is -8"));
  CHECK_THAT(config_refused([](C& c) { c.hidden_size = std::int64_t{1} << 40; }), Contains("hidden_size is 1099511627776"));
  CHECK_THAT(config_refused([](C& c) { c.num_hidden_layers = 0; }), Contains("num_hidden_layers is 0"));
  CHECK_THAT(config_refused([](C& c) { c.num_hidden_layers = 1 << 30; }), Contains("num_hidden_layers is 1073741824"));
  CHECK_THAT(config_refused([](C& c) { c.mlp.intermediate_size = 0; }), Contains("intermediate_size is 0"));
  CHECK_THAT(config_refused([](C& c) { c.attention.num_attention_heads = 0; }), Contains("num_attention_heads is 0"));
  CHECK_THAT(config_refused([](C& c) { c.attention.num_key_value_heads = 8; }), Contains("num_key_value_heads is 8; allowed are 1 … 4"));
  CHECK_THAT(config_refused([](C& c) { c.attention.num_key_value_heads = 3; }), Contains("num_key_value_heads 3 does not divide num_attention_heads 4"));
  CHECK_THAT(config_refused([](C& c) { c.attention.head_dim = 3; }), Contains("head_dim 3 is odd"));
  CHECK(config_refused([](C& c) { c.attention.head_dim = 3, c.attention.rope.reset(); }) == "valid");
  CHECK_THAT(config_refused([](C& c) { c.attention.rope->theta = 0; }), Contains("rope_theta is 0"));
  CHECK_THAT(config_refused([](C& c) { c.attention.rope->factor = -1; }), Contains("factor is -1"));
  CHECK_THAT(config_refused([](C& c) { c.norm.eps = -1e-5; }), Contains("epsilon is -0.00001"));
  CHECK_THAT(config_refused([](C& c) { c.norm.eps = std::numeric_limits<double>::quiet_NaN(); }), Contains("epsilon is nan"));
}

TEST_CASE("architectures are found by the name that their files have", "[models]") {
  CHECK(std::string(architecture_of_model_type("llama").model_type) == "llama");
  CHECK(std::string(architecture_of_gguf("llama").gguf) == "llama");
  CHECK_THROWS_AS(architecture_of_model_type("mamba"), NotSupported);
  CHECK_THROWS_WITH(architecture_of_model_type("Llama"),
                    Contains("model_type \"Llama\" is not supported; did you mean \"llama\"? supported are: bert, bloom, chatglm, distilbert"));
  CHECK_THROWS_WITH(architecture_of_gguf(""), Contains("general.architecture \"\" is not supported"));
}

TEST_CASE("no module of an architecture has two names, and those of a GGUF file have one there", "[models]") {
  std::set<std::string> types;
  for (const Architecture& a : architectures()) {
    CAPTURE(a.model_type);
    CHECK(types.insert(std::string(a.model_type) + a.variant).second);
    CHECK((a.gguf != nullptr) == (a.from_gguf != nullptr));
    std::set<std::string> ours, huggingface, gguf;
    for (const TensorName& n : a.names) {
      CAPTURE(n.ours);
      CHECK(ours.insert(n.ours).second);
      const std::string_view name = n.ours;
      const bool of_head = name.find('.') != std::string_view::npos && !name.starts_with("layers.") && !name.starts_with("encoder_layers.");
      if (!of_head) CHECK(huggingface.insert(n.huggingface).second);  // tasks may share a module's name
      if (!of_head) CHECK(std::string_view(n.huggingface).starts_with(*a.prefix ? std::string(a.prefix) + "." : ""));
      CHECK((name.find("layers.{}.") != name.npos) == (std::string_view(n.huggingface).find("{}") != std::string_view::npos));
      if (a.gguf && (!of_head || name == "causal_lm.out")) {
        REQUIRE(n.gguf);
        CHECK(gguf.insert(n.gguf).second);
      }
    }
  }
  CHECK(std::is_sorted(architectures().begin(), architectures().end(),
                       [](const Architecture& a, const Architecture& b) { return std::string_view(a.model_type) < b.model_type; }));
}

TEST_CASE("a path of a file is found in the table of names, with and without the prefix", "[models]") {
  const Architecture& gpt2 = architecture_of_model_type("gpt2");
  const FoundName found = find_name(gpt2, "transformer.h.12.attn.c_attn");
  REQUIRE(found);
  CHECK(std::string(found.name->ours) == "layers.{}.self_attn.qkv_proj");
  CHECK(found.layer == 12);
  CHECK(find_name(gpt2, "h.3.mlp.c_fc").layer == 3);
  CHECK_FALSE(find_name(gpt2, "transformer.h.x.attn.c_attn"));
  CHECK_FALSE(find_name(gpt2, "transformer.h..attn.c_attn"));
  CHECK_FALSE(find_name(gpt2, "transformer.h.1.attn.c_attn.weight"));
  const Architecture& bert = architecture_of_model_type("bert");
  CHECK(module_path(bert, TaskType::masked_lm, "layers.{}.mlp.up_proj", 4) == "bert.encoder.layer.4.intermediate.dense");
  CHECK(module_path(bert, TaskType::feature_extraction, "layers.{}.mlp.up_proj", 4) == "encoder.layer.4.intermediate.dense");
  CHECK(name_in_file(bert, "cls.predictions.decoder.bias") == "cls.predictions.bias");
  CHECK(name_in_file(bert, "cls.predictions.decoder.weight") == "cls.predictions.decoder.weight");
  CHECK_THROWS_WITH(module_path(gpt2, TaskType::masked_lm, "masked_lm.out"), Contains("\"gpt2\" for the task masked_lm"));
}

TEST_CASE("a layer's number is put into a name once", "[models]") {
  CHECK(tensor_name("model.layers.{}.mlp", 12) == "model.layers.12.mlp");
  CHECK(tensor_name("model.norm", 3) == "model.norm");
}

TEST_CASE("ChatGLM-6B is told apart by its keys, and says its special tokens or has those of its first release", "[models]") {
  const auto read = [](const std::string& more) {
    return Json::parse(R"({"model_type": "chatglm", "hidden_size": 4096, "num_layers": 28, "num_attention_heads": 32)" + more + "}", "config");
  };
  const Json first = read(R"(, "inner_hidden_size": 16384, "vocab_size": 150528)");
  const Json later = read(
      R"(, "inner_hidden_size": 16384, "vocab_size": 130528, "bos_token_id": 130004, "eos_token_id": 130005, "gmask_token_id": 130001, "mask_token_id": 130000)");
  CHECK(&architecture_of(first) == &architecture_of(later));
  CHECK(&architecture_of(first) != &architecture_of_model_type("chatglm"));
  CHECK(&architecture_of(read(R"(, "padded_vocab_size": 65024)")) == &architecture_of_model_type("chatglm"));
  const TransformerConfig a = architecture_of(first).from_json(first), b = architecture_of(later).from_json(later);
  CHECK(&architecture_of(a) == &architecture_of(first));
  CHECK(a.blank_tokens->start == 150004);
  CHECK(a.blank_tokens->gmask == 150001);
  CHECK(a.blank_tokens->mask == 150000);
  CHECK(a.eos_token_ids == std::vector<std::int32_t>{150005});
  CHECK(b.blank_tokens->start == 130004);
  CHECK(b.blank_tokens->gmask == 130001);
  CHECK(b.eos_token_ids == std::vector<std::int32_t>{130005});
  CHECK(b.normed_residual == Approx(std::sqrt(56.0)));
  validate(a), validate(b);
}

TEST_CASE("a part of a head that turns is written where its absence would mean another", "[models]") {
  for (const char* type : {"glm", "glm4", "gpt_neox", "llama"})
    for (const double factor : {0.25, 0.5, 1.0}) {
      if (std::string_view(type) == "llama" && factor < 1) continue;
      const Architecture& architecture = architecture_of_model_type(type);
      const Json json = Json::parse(R"({"vocab_size": 8, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
                                        "intermediate_size": 8, "head_dim": 16, "partial_rotary_factor": )" +
                                        std::to_string(factor) + "}",
                                    "config");
      const TransformerConfig read = architecture.from_json(json);
      CHECK(read.attention.rope->partial_rotary_factor == factor);
      const Json written = architecture.to_json(read);
      CHECK(architecture.from_json(written).attention.rope->partial_rotary_factor == factor);
      if (std::string_view(type) != "llama") CHECK(written.at("rope_parameters").at("partial_rotary_factor").number() == factor);
    }
}

TEST_CASE("relative positions that no bucket could be computed for are refused", "[models]") {
  const auto read = [](const std::string& more) {
    return architecture_of_model_type("t5").from_json(Json::parse(R"({"model_type": "t5", "d_model": 8, "num_heads": 2)" + more + "}", "config"));
  };
  CHECK(read("").attention.relative_buckets == 32);
  for (const char* buckets : {"-1", "0", "1", "3"})
    CHECK_THROWS_WITH(read(", \"relative_attention_num_buckets\": " + std::string(buckets)), Contains("at least 4 are wanted"));
  CHECK_THROWS_WITH(read(R"(, "relative_attention_max_distance": 16)"), Contains("relative_attention_max_distance is 16; more than half of the 32 buckets"));
}
