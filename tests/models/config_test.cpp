// SPDX-License-Identifier: Apache-2.0
#include "peft/models/config.hpp"

#include <catch2/catch.hpp>
#include <limits>
#include <string>

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
  CHECK_THROWS_WITH(architecture_of_model_type("Llama"), Contains("model_type \"Llama\" is not supported; did you mean \"llama\"? supported are: llama"));
  CHECK_THROWS_WITH(architecture_of_gguf(""), Contains("general.architecture \"\" is not supported"));
}

TEST_CASE("a layer's number is put into a name once", "[models]") {
  CHECK(tensor_name("model.layers.{}.mlp", 12) == "model.layers.12.mlp");
  CHECK(tensor_name("model.norm", 3) == "model.norm");
}
