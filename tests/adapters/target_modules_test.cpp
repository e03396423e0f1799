// SPDX-License-Identifier: Apache-2.0
// Which modules a method sits on, by PEFT's rules.
#include "peft/adapters/target_modules.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "peft/adapters/lora/config.hpp"

using namespace peft;

namespace {
const std::vector<std::string> module_paths = {"model.layers.0.self_attn.q_proj",
                                               "model.layers.0.self_attn.v_proj",
                                               "model.layers.0.mlp.up_proj",
                                               "model.layers.1.self_attn.q_proj",
                                               "model.layers.1.mlp.up_proj",
                                               "model.layers.10.self_attn.q_proj",
                                               "decoder.h.1.attn.q_proj",
                                               "q_proj",
                                               "model.xq_proj",
                                               "lm_head"};
// The numbers of the paths that the options select; lm_head is the head.
std::vector<int> chosen(const LoraConfig& config) {
  std::vector<int> found;
  for (std::size_t i = 0; i < module_paths.size(); i++)
    if (targets(config, module_paths[i], module_paths[i] == "lm_head")) found.push_back(int(i));
  return found;
}
using Numbers = std::vector<int>;
}  // namespace

TEST_CASE("a list names whole parts at the end of a path", "[adapters]") {
  CHECK(is_suffix_of("q_proj", "q_proj"));
  CHECK(is_suffix_of("self_attn.q_proj", "model.self_attn.q_proj"));
  CHECK_FALSE(is_suffix_of("q_proj", "model.xq_proj"));
  CHECK_FALSE(is_suffix_of("model.q_proj", "q_proj"));
  CHECK_FALSE(is_suffix_of("q_proj", "q_proj.x"));
  CHECK(chosen({.target_modules = {"q_proj"}}) == Numbers{0, 3, 5, 6, 7});
  CHECK(chosen({.target_modules = {"self_attn.q_proj", "up_proj"}}) == Numbers{0, 2, 3, 4, 5});
  CHECK(chosen({.target_modules = {"model.layers.1.mlp.up_proj"}}) == Numbers{4});
  CHECK(chosen({.target_modules = {"lm_head"}}) == Numbers{9});  // named, so the head too
  CHECK(chosen({.target_modules = {"q_.*"}}) == Numbers{});      // a list holds names, not patterns
  CHECK(chosen({.target_modules = std::vector<std::string>{}}) == Numbers{});
}

TEST_CASE("a string is an expression for the whole path", "[adapters]") {
  CHECK(chosen({.target_modules = R"(model\.layers\.\d+\.self_attn\.(q|v)_proj)"}) == Numbers{0, 1, 3, 5});
  CHECK(chosen({.target_modules = ".*q_proj"}) == Numbers{0, 3, 5, 6, 7, 8});
  CHECK(chosen({.target_modules = "q_proj"}) == Numbers{7});
  CHECK(chosen({.target_modules = "layers"}) == Numbers{});
  CHECK_THROWS_WITH(chosen({.target_modules = "(q_proj"}), Catch::StartsWith("[target_modules] \"(q_proj\" is not a regular expression: "));
  CHECK_THROWS_WITH(chosen({.target_modules = std::string(3000, 'a')}), "[target_modules] a regular expression of 3000 characters; at most 2000 are taken");
}

TEST_CASE("all-linear is every Linear but the head", "[adapters]") {
  CHECK(chosen({.target_modules = "all-linear"}) == Numbers{0, 1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(chosen({.target_modules = "all-linear", .exclude_modules = {"q_proj", "up_proj"}}) == Numbers{1, 8});
}

TEST_CASE("what is excluded stays out", "[adapters]") {
  CHECK(chosen({.target_modules = {"q_proj"}, .exclude_modules = {"attn.q_proj", "model.layers.0.self_attn.q_proj"}}) == Numbers{3, 5, 7});
  CHECK(chosen({.target_modules = {"q_proj"}, .exclude_modules = R"(model\.layers\.1.*)"}) == Numbers{0, 6, 7});
  CHECK(chosen({.target_modules = {"q_proj"}, .exclude_modules = "q_proj"}) == Numbers{0, 3, 5, 6});
}

TEST_CASE("layers_to_transform keeps the layers of these numbers", "[adapters]") {
  const auto in_layers = [](std::vector<std::int64_t> layers, std::vector<std::string> pattern = {}) {
    return chosen({.target_modules = {"q_proj", "up_proj"}, .layers_to_transform = std::move(layers), .layers_pattern = std::move(pattern)});
  };
  CHECK(in_layers({1}) == Numbers{3, 4, 6});  // 10 is not 1; a path without a number is in no layer
  CHECK(in_layers({0, 10}) == Numbers{0, 2, 5});
  CHECK(in_layers({7}) == Numbers{});
  CHECK(in_layers({1}, {"layers"}) == Numbers{3, 4});
  CHECK(in_layers({1}, {"h"}) == Numbers{6});
  CHECK(in_layers({1}, {"h", "layers"}) == Numbers{3, 4, 6});
  CHECK_THROWS_WITH(in_layers({1}, {"("}), Catch::StartsWith("[layers_pattern] "));
}

TEST_CASE("targets print and compare as they were written", "[adapters]") {
  CHECK(TargetModules{"q_proj", "v_proj"}.text() == "q_proj, v_proj");
  CHECK(TargetModules("all-linear").text() == "all-linear");
  CHECK(TargetModules("all-linear").all_linear());
  CHECK_FALSE(TargetModules{"all-linear", "q_proj"}.all_linear());
  CHECK(TargetModules().empty());
  CHECK_FALSE(TargetModules(std::vector<std::string>{}).empty());  // an empty list is a choice
  CHECK(TargetModules{"a", "b"} == TargetModules(std::vector<std::string>{"a", "b"}));
  CHECK_FALSE(TargetModules{"a", "b"} == TargetModules{"b", "a"});
  CHECK(default_lora_targets("qwen2") == std::vector<std::string>{"q_proj", "v_proj"});
  CHECK(default_lora_targets("no such model").empty());
}
