// SPDX-License-Identifier: Apache-2.0
// Several adapters of several methods on one model: some frozen, others trained, some in front of sequences.
#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <vector>

#include "peft/adapters/peft_model.hpp"
#include "peft/adapters/registry.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"
#include "support/tiny_transformer.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

using Crowd = PeftModel<Transformer<double>>;
using Adapters = std::vector<std::string>;

Variable<double> crowd_loss(const Crowd& tuned) {
  Pass<double> pass = tuned.pass();
  const std::vector<std::int32_t> ids = random_ids(7, 11);
  const std::vector<std::int32_t> labels = random_labels(7, 11);
  const FrontedRows rows = with_fronts(pass.fronts, *Sequences::of_lengths(std::vector<std::int64_t>{4, 3}), ids, labels);
  pass.sequences = rows.sequences;
  const PassScope<double> scope(pass);
  return tuned.model().loss(tuned.model().hidden_states(rows.ids), rows.targets);
}
// Not as they began, where most change nothing.
void stir(Crowd& tuned, const std::string& name) {
  tuned.for_each_adapter_parameter(name, [](const std::string&, Parameter<double>& p) {
    for (std::int64_t i = 0; i < p.size(); i++) p.value()[i] += 0.1 * std::sin(double(i + 1));
    p.touch();
  });
}
std::map<std::string, Tensor<double>> values_of(const Crowd& tuned, const std::string& name) {
  std::map<std::string, Tensor<double>> all;
  tuned.for_each_adapter_parameter(name, [&](const std::string& path, Parameter<double>& p) { all[path] = p.dense(); });
  return all;
}
template <class F>
void add_crowd(Crowd& tuned, F after) {
  const auto add = [&](const std::string& name, const auto& config) { tuned.add_adapter(name, config, 3), after(name); };
  add("lora", LoraConfig{.r = 2, .target_modules = {"q_proj", "v_proj"}});
  add("dora", LoraConfig{.r = 2, .target_modules = {"q_proj"}, .use_dora = true});
  add("ia3", IA3Config{});
  add("boft", BOFTConfig{.boft_block_size = 2, .boft_n_butterfly_factor = 2, .target_modules = {"o_proj"}});
  add("bottleneck", BottleneckConfig{.bottleneck_size = 3});
  add("prefix", PrefixTuningConfig{.num_virtual_tokens = 2});
  add("prompt", PromptTuningConfig{.num_virtual_tokens = 2});
}

}  // namespace

TEST_CASE("adapters of many methods act together, and those that train alone change", "[adapters][gradcheck]") {
  auto base = tiny_transformer<double>();
  Crowd tuned{base};
  Adapters names;
  add_crowd(tuned, [&](const std::string& name) { names.push_back(name), stir(tuned, name); });
  tuned.set_adapter(names);
  const double together = crowd_loss(tuned).value()[0];
  for (const std::string& name : names) {  // each has its part in it
    CAPTURE(name);
    Adapters others;
    std::copy_if(names.begin(), names.end(), std::back_inserter(others), [&](const std::string& one) { return one != name; });
    tuned.set_adapter(others);
    CHECK(crowd_loss(tuned).value()[0] != together);
  }
  tuned.set_adapter(names);
  CHECK(crowd_loss(tuned).value()[0] == together);

  const Adapters training = {"prefix", "lora", "boft"};
  freeze(tuned, [&](const ParameterInfo& info) { return std::ranges::count(training, info.adapter) > 0; });
  std::map<std::string, std::map<std::string, Tensor<double>>> before;
  for (const std::string& name : names) before[name] = values_of(tuned, name);
  std::vector<Parameter<double>> parameters;
  for (const std::string& name : names)
    tuned.for_each_adapter_parameter(name, [&](const std::string& path, Parameter<double>& p) {
      CAPTURE(name, path);
      CHECK(p.requires_grad() == (std::ranges::count(training, name) > 0));
      if (p.requires_grad()) parameters.push_back(p);
    });
  CHECK(gradcheck([&](const Variables&) { return crowd_loss(tuned); }, {}, parameters));
  Tape tape;
  tape.backward(crowd_loss(tuned));
  for (const Parameter<double>& p : parameters) {
    REQUIRE(p.grad());
    ops::axpy<double>(p.value().view(), -0.05, p.grad().view());
    p.touch(), p.zero_grad();
  }
  for (const std::string& name : names) {
    bool changed = false;
    for (const auto& [path, values] : values_of(tuned, name)) changed = changed || !same_bits(values, before[name].at(path));
    CHECK(changed == (std::ranges::count(training, name) > 0));
  }
  CHECK(crowd_loss(tuned).value()[0] < together);
}
