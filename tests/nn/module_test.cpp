// SPDX-License-Identifier: Apache-2.0
#include "peft/nn/module.hpp"

#include <catch2/catch.hpp>
#include <set>
#include <string>
#include <vector>

#include "peft/freeze/policy.hpp"
#include "peft/nn/linear.hpp"
#include "support/tensors.hpp"
#include "support/tiny_transformer.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

struct Head {
  Parameter<float> scale;
  Linear<float> map;
  static void describe(auto& self, auto&& visit) {
    visit("scale", self.scale);
    visit("map", self.map);
  }
};
struct Model {
  Linear<float> first;
  std::vector<Linear<float>> layers;
  std::vector<Head> heads;
  static void describe(auto& self, auto&& visit) {
    visit("first", self.first);
    visit("layers", self.layers);
    visit("heads", self.heads);
  }
};
Linear<float> map(std::int64_t in, std::int64_t out, bool bias, std::string path = "") {
  Random random(1);
  return Linear<float>(in, out, random, bias, std::move(path));
}
Model model() {
  Model m{map(3, 4, true), {}, {}};
  m.layers.push_back(map(4, 4, false));
  m.layers.push_back(map(4, 4, true, "encoder.block.1"));  // says itself what it is called
  m.heads.push_back({Parameter<float>(Tensor<float>({2}, 1.0f), true), map(4, 2, false)});
  return m;
}
std::vector<std::string> parameter_paths(auto& m) {
  std::vector<std::string> paths;
  for_each_parameter(m, [&](const std::string& path, auto&) { paths.push_back(path); });
  return paths;
}

}  // namespace

TEST_CASE("parameters come in the order of describe, each under its path", "[nn]") {
  Model m = model();
  const std::vector<std::string> want = {"first.weight",         "first.bias",    "layers.0.weight",   "encoder.block.1.weight",
                                         "encoder.block.1.bias", "heads.0.scale", "heads.0.map.weight"};
  CHECK(parameter_paths(m) == want);
  const Model& constant = m;
  CHECK(parameter_paths(constant) == want);
}

TEST_CASE("modules and sites are found, itself included", "[nn]") {
  Model m = model();
  std::vector<std::string> modules, sites;
  for_each_module(m, [&](const std::string& path, auto&) { modules.push_back(path); });
  for_each_site(m, [&](const std::string& path, auto&) { sites.push_back(path); });
  CHECK(modules == std::vector<std::string>{"", "first", "layers.0", "encoder.block.1", "heads.0", "heads.0.map"});
  CHECK(sites == std::vector<std::string>{"first", "layers.0", "encoder.block.1", "heads.0.map"});
}

TEST_CASE("a transformer's parameters are called as in a Llama's file", "[nn]") {
  auto m = tiny_transformer<float>({.layers = 2});
  const auto paths = parameter_paths(m);
  CHECK(paths.front() == "model.embed_tokens.weight");
  CHECK(paths[1] == "model.layers.0.input_layernorm.weight");
  CHECK(paths.back() == "lm_head.weight");
  const std::set<std::string> all(paths.begin(), paths.end());
  CHECK(all.size() == paths.size());
  CHECK(paths.size() == 1 + 2 * 9 + 2);
  for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
                           "input_layernorm", "post_attention_layernorm"})
    CHECK(all.contains("model.layers.1." + std::string(name) + ".weight"));
  CHECK(all.contains("model.norm.weight"));
}

TEST_CASE("a tied weight is visited at both sites and counted once", "[nn]") {
  auto tied = tiny_transformer<float>({.layers = 1, .tied = true}), untied = tiny_transformer<float>({.layers = 1});
  CHECK(parameter_paths(tied) == parameter_paths(untied));
  CHECK(count_parameters(tied).total == count_parameters(untied).total - 11 * 8);
  CHECK(count_parameters(tied).trainable == 0);
  tied.lm_head.weight.set_requires_grad(true);
  CHECK(count_parameters(tied).trainable == 11 * 8);
  CHECK(tied.embed_tokens.weight.requires_grad());
}

TEST_CASE("counts are printed as PEFT prints them", "[nn]") {
  CHECK(to_string(ParameterCount{460800, 134975808}) == "trainable params: 460,800 || all params: 134,975,808 || trainable%: 0.3414");
  CHECK(to_string(ParameterCount{0, 0}) == "trainable params: 0 || all params: 0 || trainable%: 0.0000");
  CHECK(to_string(ParameterCount{999, 1000}) == "trainable params: 999 || all params: 1,000 || trainable%: 99.9000");
  CHECK(to_string(ParameterCount{1234567890, 1234567890}) == "trainable params: 1,234,567,890 || all params: 1,234,567,890 || trainable%: 100.0000");
}

TEST_CASE("a copied module shares its tensors", "[nn]") {
  const Model m = model();
  Model copy = m;
  CHECK(copy.first.weight.identity() == m.first.weight.identity());
  copy.first.weight.value()[0] = 77;
  CHECK(m.first.weight.value()[0] == 77);
  const Linear<float> dense = m.first.dense();
  CHECK(dense.weight.identity() != m.first.weight.identity());
  CHECK(numbers(dense.weight.value()) == numbers(m.first.weight.value()));
}

TEST_CASE("a fresh Linear begins as torch's does", "[nn]") {
  Random random(5);
  const Linear<double> l(100, 300, random);
  CHECK(l.in_features() == 100);
  CHECK(l.out_features() == 300);
  double least = 1, most = -1, sum = 0;
  for (double w : l.weight.value().span()) least = std::min(least, w), most = std::max(most, w), sum += w;
  CHECK(least >= -0.1);
  CHECK(most <= 0.1);
  CHECK(least < -0.0999);
  CHECK(most > 0.0999);
  CHECK(sum / 30000 == Approx(0).margin(0.001));
  CHECK(l.bias.shape() == Shape{300});
  CHECK(l.weight.requires_grad());
}
