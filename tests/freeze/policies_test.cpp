// SPDX-License-Identifier: Apache-2.0
// Which parameters a policy picks, alone and combined.
#include "peft/freeze/policies.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "peft/freeze/freeze.hpp"
#include "support/tiny_transformer.hpp"

using namespace peft;

namespace {
const std::vector<ParameterInfo> infos = {{"model.embed_tokens.weight", "", {11, 8}},
                                          {"model.layers.2.self_attn.q_proj.weight", "", {8, 8}},
                                          {"model.layers.2.self_attn.q_proj.bias", "", {8}},
                                          {"model.layers.24.self_attn.v_proj.weight", "", {4, 8}},
                                          {"model.layers.24.mlp.down_proj.weight", "", {8, 12}},
                                          {"model.norm.weight", "", {8}},
                                          {"bias", "", {3}},
                                          {"model.layers.2.self_attn.q_proj.lora_A.weight", "desk", {2, 8}},
                                          {"model.layers.2.self_attn.q_proj.base_layer.bias", "desk", {8}},
                                          {"model.layers.2.self_attn.q_proj.lora_A.weight", "other", {2, 8}}};
// The numbers of those that train.
std::vector<int> picked(const auto& policy) {
  static_assert(FreezingPolicy<std::remove_cvref_t<decltype(policy)>>);
  std::vector<int> all;
  for (std::size_t i = 0; i < infos.size(); i++)
    if (policy(infos[i])) all.push_back(int(i));
  return all;
}
using Numbers = std::vector<int>;
const Numbers everything = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
bool matches(const std::string& pattern, const std::string& path) { return Matching{pattern}(ParameterInfo{path, "", {}}); }
}  // namespace

TEST_CASE("the policies that have names", "[freeze]") {
  CHECK(picked(AdaptersOnly{}) == Numbers{7, 8, 9});
  CHECK(picked(BiasOnly{}) == Numbers{2, 6});
  CHECK(picked(Everything{}) == everything);
  CHECK(picked(Nothing{}) == Numbers{});
  CHECK(picked(Matching{"q_proj.*"}) == Numbers{1, 2, 7, 8, 9});
}

TEST_CASE("a lambda is a policy", "[freeze]") {
  const auto matrices = [](const ParameterInfo& info) { return info.shape.rank() == 2; };
  CHECK(picked(matrices) == Numbers{0, 1, 3, 4, 7, 9});
  CHECK(picked([](const ParameterInfo& info) { return info.adapter == "other"; }) == Numbers{9});
}

TEST_CASE("or, and, not combine policies and lambdas", "[freeze]") {
  const auto matrices = [](const ParameterInfo& info) { return info.shape.rank() == 2; };
  CHECK(picked(AdaptersOnly{} | BiasOnly{}) == Numbers{2, 6, 7, 8, 9});
  CHECK(picked(AdaptersOnly{} & Matching{"*.lora_A.weight"}) == Numbers{7, 9});
  CHECK(picked(!AdaptersOnly{}) == Numbers{0, 1, 2, 3, 4, 5, 6});
  CHECK(picked(!(AdaptersOnly{} | BiasOnly{})) == Numbers{0, 1, 3, 4, 5});
  CHECK(picked(AdaptersOnly{} & matrices) == Numbers{7, 9});
  CHECK(picked(matrices | BiasOnly{}) == Numbers{0, 1, 2, 3, 4, 6, 7, 9});
  CHECK(picked(!Policy{matrices}) == Numbers{2, 5, 6, 8});
  CHECK(picked(Matching{"layers.*"} & !Matching{"*q_proj*"} & !AdaptersOnly{}) == Numbers{3, 4});
  CHECK(picked(!!BiasOnly{}) == picked(BiasOnly{}));
}

TEST_CASE("a pattern may begin at any dot and must reach the end", "[freeze]") {
  const std::string path = "model.layers.25.mlp.up_proj.weight";
  for (const char* pattern :
       {"model.layers.25.mlp.up_proj.weight", "layers.25.*", "up_proj.weight", "weight", "*", "*.mlp.*", "m*.l*.25.*t", "*weight", "up_*.weight"}) {
    CAPTURE(pattern);
    CHECK(matches(pattern, path));
  }
  for (const char* pattern : {"", "model", "layers.25", "ayers.25.*", "proj.weight", "mlp.weight", "weight.", ".weight", "weight*x", "layers.2.*"}) {
    CAPTURE(pattern);
    CHECK_FALSE(matches(pattern, path));
  }
  CHECK(matches("weight", "weight"));
  CHECK_FALSE(matches("weight", ""));
  CHECK_FALSE(matches("a", "a."));
}

TEST_CASE("braces hold a range of numbers or words to choose from", "[freeze]") {
  const auto layers = [](const std::string& pattern) {
    Numbers all;
    for (int i = 0; i <= 110; i++)
      if (matches(pattern, "model.layers." + std::to_string(i) + ".mlp.up_proj.weight")) all.push_back(i);
    return all;
  };
  CHECK(layers("layers.{24-27}.*") == Numbers{24, 25, 26, 27});
  CHECK(layers("layers.{9-11}.*") == Numbers{9, 10, 11});
  CHECK(layers("layers.{100-999}.mlp.*").size() == 11);
  CHECK(layers("layers.{5-5}.*") == Numbers{5});
  CHECK(layers("layers.{7-5}.*").empty());
  CHECK(layers("layers.{1,2,30}.*") == Numbers{1, 2, 30});
  CHECK(layers("layers.1{0-3}.*") == Numbers{10, 11, 12, 13});
  CHECK(layers("layers.*{5-6}.*") == Numbers{5, 6, 15, 16, 25, 26, 35, 36, 45, 46, 55, 56, 65, 66, 75, 76, 85, 86, 95, 96, 105, 106});
  CHECK(matches("{q_proj,v_proj}.weight", "a.v_proj.weight"));
  CHECK_FALSE(matches("{q_proj,v_proj}.weight", "a.k_proj.weight"));
  CHECK(matches("{q,k,qkv}_proj.*", "qkv_proj.weight"));  // a shorter word that also fits is not the end of it
  CHECK(matches("up{_proj,}.weight", "up.weight"));
  CHECK_FALSE(matches("{1-}.weight", "1.weight"));
  CHECK_FALSE(matches("{-1}.weight", "1.weight"));
  CHECK(matches("{a-b}.weight", "a-b.weight"));  // not numbers: a word
  CHECK(matches("{open.weight", "{open.weight"));
}

TEST_CASE("a bias is known by its name", "[freeze]") {
  CHECK(ParameterInfo{"a.b.bias", "", {}}.is_bias());
  CHECK(ParameterInfo{"bias", "", {}}.is_bias());
  CHECK_FALSE(ParameterInfo{"a.unbias", "", {}}.is_bias());
  CHECK_FALSE(ParameterInfo{"bias.weight", "", {}}.is_bias());
}

TEST_CASE("the parts of a transformer are known whatever its file calls them", "[freeze]") {
  auto model = testing::tiny_transformer<float>({.biases = true, .tied = true});
  using Paths = std::set<std::string>;
  CHECK(embeddings_of(model).paths == Paths{"model.embed_tokens.weight"});
  CHECK(head_of(model).paths.contains("lm_head.weight"));
  CHECK(norms_of(model).paths.size() == 2 * (2 * 2 + 1));  // with biases
  CHECK(norms_of(model).paths.contains("model.layers.1.post_attention_layernorm.bias"));
  CHECK(layers_of(model, 1, 2).paths.contains("model.layers.1.mlp.up_proj.bias"));
  CHECK(layers_of(model, 0, 2).paths.size() == 2 * layers_of(model, 1, 2).paths.size());
  CHECK(layers_of(model, 2, 2).paths.empty());
  CHECK_THROWS_WITH(layers_of(model, 1, 3), "[layers_of] layers 1 to 3 of a model that has 2");
  const std::int64_t norms = freeze(model, norms_of(model)).trainable;
  CHECK(norms == 8 * 10);
  CHECK(freeze(model, norms_of(model) | Matching{"q_proj.bias"}).trainable == norms + 2 * 8);
  CHECK(freeze(model, layers_of(model, 1, 2) & !norms_of(model)).trainable == freeze(model, layers_of(model, 1, 2)).trainable - 2 * 2 * 8);
}
