// SPDX-License-Identifier: Apache-2.0
// A base and its named adapters: who is active, merging, what attaching leaves behind, what is refused.
#include "peft/adapters/peft_model.hpp"

#include <catch2/catch.hpp>
#include <limits>
#include <string>
#include <vector>

#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/status.hpp"
#include "peft/freeze/freeze.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"
#include "support/threads.hpp"
#include "support/tiny_transformer.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

using Tiny = Transformer<float>;
using Tuned = PeftModel<Tiny>;
const std::vector<std::int64_t> lengths = {5, 1, 4};
const auto ten_ids = random_ids(10, 11);

// Adapters that change the model at once.
LoraConfig changing(TargetModules targets, std::int64_t r = 2) { return {.r = r, .target_modules = std::move(targets), .init_lora_weights = false}; }
template <class M>
auto logits(const M& model, const auto& pass) {
  using T = typename std::remove_cvref_t<decltype(model)>::Scalar_;
  const PassScope<T> scope(pass);
  return model.lm_head(model.hidden_states(ten_ids)).value();
}
Tensor<float> run(const Tuned& tuned) { return logits(tuned.model(), tuned.pass(Sequences::of_lengths(lengths))); }
Tensor<float> run(const Tiny& model) { return logits(model, pass_over<float>(lengths)); }

// The base's numbers and flags, to compare with later.
std::vector<std::pair<Tensor<float>, bool>> snapshot(const Tiny& model) {
  std::vector<std::pair<Tensor<float>, bool>> all;
  for_each_parameter(model, [&](const std::string&, const Parameter<float>& p) { all.emplace_back(p.dense(), p.requires_grad()); });
  return all;
}
bool same(const std::vector<std::pair<Tensor<float>, bool>>& x, const std::vector<std::pair<Tensor<float>, bool>>& y) {
  return std::ranges::equal(x, y, [](const auto& p, const auto& q) { return same_bits(p.first, q.first) && p.second == q.second; });
}
std::size_t occupied(const auto& model) {
  std::size_t n = 0;
  for_each_site(model, [&](const std::string&, const auto& site) { n += !site.adapters.empty(); });
  return n;
}
std::vector<std::string> paths(const Tuned& tuned, std::string_view name) {
  std::vector<std::string> all;
  tuned.for_each_adapter_parameter(name, [&](const std::string& path, Parameter<float>&) { all.push_back(path); });
  return all;
}
using NamesOfAdapters = std::vector<std::string>;

}  // namespace

TEST_CASE("an adapter sits where it was asked for, and its tensors are called as in PEFT's file", "[adapters]") {
  auto base = tiny_transformer<float>();
  Tuned tuned{base};
  tuned.add_adapter("a", LoraConfig{.r = 2, .target_modules = {"q_proj", "down_proj"}, .layers_to_transform = {1}});
  CHECK(paths(tuned, "a") == NamesOfAdapters{"model.layers.1.self_attn.q_proj.lora_A.weight", "model.layers.1.self_attn.q_proj.lora_B.weight",
                                             "model.layers.1.mlp.down_proj.lora_A.weight", "model.layers.1.mlp.down_proj.lora_B.weight"});
  CHECK(tuned.entry("a").peft_type == "LORA");
  CHECK(std::any_cast<LoraConfig>(tuned.entry("a").config).r == 2);
  CHECK(tuned.adapter_names() == NamesOfAdapters{"a"});
  CHECK(tuned.active_adapters() == NamesOfAdapters{"a"});
  CHECK(tuned.count_parameters().trainable == 2 * (8 + 8 + 12 + 8));
  CHECK(tuned.count_parameters().total == count_parameters(base).total + 2 * (8 + 8 + 12 + 8));
  CHECK(tuned.trainable_parameters().starts_with("trainable params: 72 || all params: "));

  tuned.add_adapter("b", LoraConfig{.r = 3, .target_modules = "all-linear"});
  CHECK(tuned.active_adapters() == NamesOfAdapters{"a"});  // the first stays the active one
  CHECK(paths(tuned, "b").size() == 2 * 7 * 2);            // all but the head, whose default is out
  CHECK(tuned.count_parameters().trainable == 72 + 3 * 2 * (16 + 12 + 12 + 16 + 20 + 20 + 20));
}

TEST_CASE("a fresh adapter changes no bit of a whole model", "[adapters]") {
  auto base = tiny_transformer<float>();
  const Tensor<float> before = run(base);
  Tuned tuned{base};
  tuned.add_adapter("a", LoraConfig{.target_modules = "all-linear"});
  CHECK(same_bits(run(tuned), before));
}

TEST_CASE("attaching, training and detaching leave no trace on the base", "[adapters]") {
  auto base = tiny_transformer<float>({.biases = true});
  const auto kept = snapshot(base);
  const Tensor<float> before = run(base);
  Tuned tuned{base};
  tuned.add_adapter("a", LoraConfig{.target_modules = "all-linear", .bias = "all", .init_lora_weights = false});
  tuned.add_adapter("b", changing({"q_proj"}));
  CHECK_FALSE(same_bits(run(tuned), before));
  CHECK(occupied(base) == 0);
  tuned.for_each_adapter_parameter("a", [](const std::string&, Parameter<float>& p) { p.value().fill(0.25f), p.touch(); });
  CHECK(same_bits(run(base), before));
  CHECK(same(snapshot(base), kept));
  tuned.delete_adapter("a");
  CHECK(tuned.active_adapters().empty());
  tuned.delete_adapter("b");
  CHECK(occupied(tuned.model()) == 0);
  CHECK(same_bits(run(tuned), before));
  CHECK(same(snapshot(base), kept));
  tuned.add_adapter("b", changing({"v_proj"}));  // the name is free again
  CHECK(tuned.active_adapters() == NamesOfAdapters{"b"});
}

TEST_CASE("the first adapter freezes the base", "[adapters]") {
  auto base = tiny_transformer<float>();
  for_each_parameter(base, [](const std::string&, Parameter<float>& p) { p.set_requires_grad(true); });
  Tuned tuned{base};
  tuned.add_adapter("a", changing({"q_proj"}));
  tuned.visit_parameters([](const ParameterInfo& info, auto& p) { CHECK(p.requires_grad() == (info.adapter == "a")); });
}

TEST_CASE("merged is unmerged up to rounding, and unmerging is exact", "[adapters]") {
  auto base = tiny_transformer<double>({.biases = true});
  PeftModel<Transformer<double>> tuned{base};
  tuned.add_adapter("a",
                    LoraConfig{.r = 3, .lora_alpha = 5, .target_modules = {"q_proj", "v_proj", "down_proj"}, .bias = "lora_only", .init_lora_weights = false});
  tuned.add_adapter("b", changing("all-linear"));
  const auto run_double = [&] { return logits(tuned.model(), tuned.pass(Sequences::of_lengths(lengths))); };
  const Tensor<double> bare = logits(base, pass_over<double>(lengths));
  for (const NamesOfAdapters& active : {NamesOfAdapters{"a"}, NamesOfAdapters{"b"}, NamesOfAdapters{"b", "a"}}) {
    tuned.set_adapter(active);
    const Tensor<double> before = run_double();
    tuned.merge_adapter();
    const Tensor<double> merged = run_double();
    CHECK_FALSE(same_bits(merged, before));
    CHECK_THAT(array(merged), is_near<double>(array(before), 50));  // two layers and a head, each a few roundings
    {
      const auto guard = tuned.disable_adapters();
      CHECK(tuned.active_adapters().empty());
      CHECK(same_bits(run_double(), bare));  // the base alone, though merged
    }
    CHECK(same_bits(run_double(), merged));
    tuned.unmerge_adapter();
    CHECK(same_bits(run_double(), before));
  }
  CHECK(same_bits(logits(base, pass_over<double>(lengths)), bare));
}

TEST_CASE("merging into stored weights makes dense copies and leaves the file's bytes", "[adapters]") {
  auto base = tiny_transformer<float>();
  // q_proj of layer 0 as a file has it, in binary16.
  Parameter<float>& weight = base.layers[0].self_attn.q_proj.weight;
  std::vector<std::byte> file(std::size_t(bytes_of(DType::f16, weight.size())));
  for (std::int64_t r = 0; r < 8; r++) ops::quantize(file.data() + bytes_of(DType::f16, r * 8), DType::f16, weight.value().view().row(r), 8);
  const std::vector<std::byte> kept = file;
  weight = Parameter<float>(ops::WeightView(file.data(), DType::f16, 8, 8), {8, 8}, nullptr);
  Tuned tuned{base};
  tuned.add_adapter("a", changing({"q_proj"}));
  const Tensor<float> before = run(tuned);
  tuned.merge_adapter();
  CHECK_THAT(array(run(tuned)), is_near<float>(array(before), 10));
  const Tiny merged = tuned.merge_and_unload();
  CHECK_FALSE(merged.layers[0].self_attn.q_proj.weight.is_stored());
  CHECK(tuned.model().layers[0].self_attn.q_proj.weight.is_stored());
  CHECK(file == kept);
  CHECK(same_bits(run(tuned), before));
}

TEST_CASE("merge_and_unload gives a plain model that shares what was not merged", "[adapters]") {
  for (const bool tied : {false, true}) {
    auto base = tiny_transformer<float>({.biases = true, .tied = tied});
    Tuned tuned{base};
    tuned.add_adapter("a", LoraConfig{.target_modules = {"q_proj", "up_proj"}, .bias = "all", .init_lora_weights = false});
    const Tensor<float> before = run(tuned);
    const Tiny merged = tuned.merge_and_unload(true);
    CHECK(occupied(merged) == 0);
    CHECK_THAT(array(run(merged)), is_near<float>(array(before), 10));
    CHECK(same_bits(run(tuned), before));
    CHECK(merged.layers[0].self_attn.q_proj.weight.identity() != base.layers[0].self_attn.q_proj.weight.identity());
    CHECK(merged.embed_tokens.weight.identity() == base.embed_tokens.weight.identity());
    CHECK(merged.config.head.tied == tied);
    CHECK(merged.layers[1].self_attn.q_proj.path == "model.layers.1.self_attn.q_proj");
  }
}

TEST_CASE("merging the head unties it", "[adapters]") {
  auto base = tiny_transformer<float>({.tied = true});
  Tuned tuned{base};
  tuned.add_adapter("a", changing({"lm_head"}));
  const Tensor<float> before = run(tuned);
  const Tiny merged = tuned.merge_and_unload();
  CHECK_FALSE(merged.config.head.tied);
  CHECK(base.config.head.tied);
  CHECK(same_bits(merged.embed_tokens.weight.value(), base.embed_tokens.weight.value()));
  CHECK_THAT(array(run(merged)), is_near<float>(array(before), 10));
}

TEST_CASE("weights that would not be finite are refused on demand", "[adapters]") {
  auto base = tiny_transformer<float>();
  Tuned tuned{base};
  tuned.add_adapter("a", changing({"q_proj"}));
  tuned.for_each_adapter_parameter("a", [](const std::string& path, Parameter<float>& p) {
    if (path.starts_with("model.layers.1")) p.value()[0] = std::numeric_limits<float>::infinity();
  });
  CHECK_NOTHROW(tuned.merge_and_unload());
  CHECK_THROWS_WITH(tuned.merge_and_unload(true), "[merge_and_unload] model.layers.1.self_attn.q_proj.weight would not be finite; nothing was merged");
  CHECK_FALSE(tuned.model().layers[0].self_attn.q_proj.adapters.merged());
  tuned.for_each_adapter_parameter("a", [](const std::string&, Parameter<float>& p) { p.value()[0] = std::numeric_limits<float>::infinity(); });
  CHECK_THROWS_WITH(tuned.merge_and_unload(true),
                    "[merge_and_unload] model.layers.0.self_attn.q_proj.weight and 1 more would not be finite; nothing was merged");
}

TEST_CASE("several adapters: one, another, both, none", "[adapters]") {
  auto base = tiny_transformer<float>();
  const Tensor<float> bare = run(base);
  Tuned tuned{base};
  tuned.add_adapter("a", changing({"q_proj", "v_proj"}), 1);
  tuned.add_adapter("b", changing({"q_proj", "up_proj"}), 2);
  const Tensor<float> a = run(tuned);
  tuned.set_adapter("b");
  CHECK(tuned.active_adapters() == NamesOfAdapters{"b"});
  const Tensor<float> b = run(tuned);
  tuned.set_adapter(NamesOfAdapters{"b", "a"});
  CHECK(tuned.active_adapters() == NamesOfAdapters{"b", "a"});
  const Tensor<float> both = run(tuned);
  CHECK_FALSE(same_bits(a, b));
  CHECK_FALSE(same_bits(both, a));
  CHECK_FALSE(same_bits(both, b));
  tuned.set_adapter(NamesOfAdapters{});
  CHECK(same_bits(run(tuned), bare));
  tuned.set_adapter(NamesOfAdapters{"a"});
  CHECK(same_bits(run(tuned), a));

  // Each alone in a model of its own computes the same.
  Tuned alone{base};
  alone.add_adapter("b", changing({"q_proj", "up_proj"}), 2);
  CHECK(same_bits(run(alone), b));

  // The rest of the list stays when one of it is deleted.
  tuned.set_adapter(NamesOfAdapters{"b", "a"});
  tuned.delete_adapter("b");
  CHECK(tuned.active_adapters() == NamesOfAdapters{"a"});
  CHECK(same_bits(run(tuned), a));
}

TEST_CASE("an adapter may have another name, or another's place", "[adapters]") {
  auto base = tiny_transformer<float>();
  Tuned tuned{base};
  tuned.add_adapter("a", changing("all-linear"), 1);
  tuned.add_adapter("b", changing({"q_proj"}), 2);
  tuned.add_adapter("c", changing({"v_proj"}), 3);
  tuned.set_adapter(NamesOfAdapters{"c", "a"});
  const Tensor<float> ca = run(tuned);
  tuned.rename_adapter("a", "d");
  CHECK(tuned.adapter_names() == NamesOfAdapters{"d", "b", "c"});
  CHECK(tuned.active_adapters() == NamesOfAdapters{"c", "d"});
  CHECK(same_bits(run(tuned), ca));
  CHECK_THROWS_WITH(tuned.rename_adapter("d", "b"), Catch::Contains("an adapter named \"b\" exists already"));
  CHECK_THROWS_WITH(tuned.rename_adapter("e", "f"), Catch::Contains("no adapter is named \"e\""));
  CHECK_THROWS_AS(tuned.rename_adapter("d", "a/b"), AdapterError);

  tuned.set_adapter(NamesOfAdapters{"c", "b"});
  const Tensor<float> cb = run(tuned);
  tuned.set_adapter(NamesOfAdapters{"c", "d"});
  tuned.replace_adapter("d", "b");
  CHECK(tuned.adapter_names() == NamesOfAdapters{"d", "c"});
  CHECK(tuned.active_adapters() == NamesOfAdapters{"c", "d"});
  CHECK(same_bits(run(tuned), cb));
  tuned.replace_adapter("c", "d");  // both were active
  CHECK(tuned.active_adapters() == NamesOfAdapters{"c"});
}

TEST_CASE("the status says what sits where, what is active, what trains and what is merged", "[adapters]") {
  auto base = tiny_transformer<float>({.layers = 2});
  Tuned tuned{base};
  tuned.add_adapter("a", LoraConfig{.r = 2, .target_modules = {"q_proj", "v_proj"}});
  tuned.add_adapter("b", LoraConfig{.r = 1, .target_modules = {"q_proj"}, .layers_to_transform = {1}});
  tuned.for_each_adapter_parameter("b", [](const std::string&, auto& parameter) { parameter.set_requires_grad(false); });
  const auto layers = layer_status(tuned);
  REQUIRE(layers.size() == 4);
  CHECK(layers[0].path == "model.layers.0.self_attn.q_proj");
  CHECK(layers[0].adapters == NamesOfAdapters{"a"});
  CHECK(layers[2].adapters == NamesOfAdapters{"a", "b"});
  CHECK(layers[2].active == NamesOfAdapters{"a"});
  CHECK(layers[2].trainable == NamesOfAdapters{"a"});
  CHECK_FALSE(layers[2].merged);
  tuned.merge_adapter();
  const ModelStatus status = model_status(tuned);
  CHECK(status.layers == 4);
  CHECK(status.merged_layers == 4);
  REQUIRE(status.adapters.size() == 2);
  CHECK(status.adapters[0].name == "a");
  CHECK(status.adapters[0].peft_type == "LORA");
  CHECK(status.adapters[0].active);
  CHECK(status.adapters[0].layers == 4);
  CHECK_FALSE(status.adapters[1].active);
  CHECK(status.adapters[1].layers == 1);
  CHECK(status.adapters[1].trainable == 0);
  CHECK(status.adapters[1].parameters > 0);
  CHECK(status.trainable == status.adapters[0].trainable);
  CHECK(status.parameters == tuned.count_parameters().total);
}

TEST_CASE("every sequence of a batch has its own active list, to the bit", "[adapters]") {
  auto base = tiny_transformer<float>({.vocab = 11, .hidden = 32, .layers = 2, .heads = 4, .kv_heads = 2, .inner = 48});
  Tuned tuned{base};
  tuned.add_adapter("a", changing("all-linear"), 1);
  tuned.add_adapter("b", LoraConfig{.target_modules = {"q_proj", "down_proj"}, .init_lora_weights = false}, 2);
  const int a = tuned.entry("a").id, b = tuned.entry("b").id;
  const std::vector<Active> lists = {{a}, {}, {b, a}};
  std::vector<Sequence, PoolAllocator<Sequence>> sequences;
  for (std::size_t i = 0; i < 3; i++) {
    Sequence s;
    s.begin = sequences.empty() ? 0 : sequences.back().end, s.end = s.begin + lengths[i], s.id = i, s.active = int(i);
    sequences.push_back(s);
  }
  for (const int threads : {1, 2}) {
    const Threads guard(threads);
    Pass<float> pass;
    pass.sequences = std::make_shared<const Sequences>(sequences), pass.lists = std::make_shared<const std::vector<Active>>(lists);
    const Tensor<float> together = logits(tuned.model(), pass);
    for (std::size_t i = 0; i < 3; i++) {
      Pass<float> one;
      one.sequences = Sequences::of_lengths(std::vector<std::int64_t>{lengths[i]}), one.lists = std::make_shared<const std::vector<Active>>(1, lists[i]);
      const PassScope<float> scope(one);
      const auto tokens = std::span(ten_ids).subspan(std::size_t(sequences[i].begin), std::size_t(lengths[i]));
      const Tensor<float> alone = tuned.model().lm_head(tuned.model().hidden_states(tokens)).value();
      CAPTURE(i, threads);
      CHECK(same_bits(together.row_range(sequences[i].begin, sequences[i].end), alone));
    }
  }
}

TEST_CASE("guards nest, and the list comes back after an exception", "[adapters]") {
  auto base = tiny_transformer<float>();
  Tuned tuned{base};
  tuned.add_adapter("a", changing({"q_proj"}));
  const Tensor<float> a = run(tuned), bare = run(base);
  try {
    const auto outer = tuned.disable_adapters();
    const auto inner = tuned.disable_adapters();
    CHECK(same_bits(run(tuned), bare));
    throw 1;
  } catch (int) {
  }
  CHECK(same_bits(run(tuned), a));
}

namespace {
struct TwoLayers {  // a user's own model
  using Scalar_ = double;
  Linear<double> up, down;
  Variable<double> operator()(const Variable<double>& x) const { return down(activation(up(x), Activation::tanh)); }
  static void describe(auto& self, auto&& visit) { visit("up", self.up), visit("down", self.down); }
};
}  // namespace

TEST_CASE("a model of one's own is a base, with a pass or without", "[adapters][gradcheck]") {
  Random random(3);
  TwoLayers base{Linear<double>(4, 6, random), Linear<double>(6, 3, random)};
  PeftModel tuned{base};
  tuned.add_adapter("a", changing({"up", "down"}));
  std::vector<Parameter<double>> trained;
  tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<double>& p) { trained.push_back(p); });
  CHECK(trained.size() == 4);
  CHECK(gradcheck([&](const Variables& v) { return tuned.model()(v[0]); }, {normal({5, 4})}, trained));

  const Variable<double> x(normal({5, 4}));
  const Tensor<double> bare = base(x).value(), with = tuned.model()(x).value();
  CHECK_FALSE(same_bits(bare, with));
  const auto guard = tuned.disable_adapters();
  const Pass<double> pass = tuned.pass();
  const PassScope<double> scope(pass);
  CHECK(same_bits(tuned.model()(x).value(), bare));
}

TEST_CASE("what is refused names the nearest valid name, and nothing is attached", "[adapters]") {
  auto base = tiny_transformer<float>();
  Tuned tuned{base};
  const auto refused = [&](const LoraConfig& config, const std::string& text, const std::string& name = "a") {
    CHECK_THROWS_WITH(tuned.add_adapter(name, config), text);
    CHECK(occupied(tuned.model()) == 0);
    CHECK(tuned.adapter_names().empty());
  };
  const std::string all = "Linear modules here: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, lm_head";
  refused({.target_modules = {"k_prj"}}, "[lora.attach] target_modules \"k_prj\" matches no Linear of this model; did you mean \"k_proj\"? " + all);
  refused({.target_modules = {"q_proj", "c_attn"}}, "[lora.attach] target_modules \"c_attn\" matches no Linear of this model; " + all);
  refused({.target_modules = "layers"}, "[lora.attach] target_modules \"layers\" matches no Linear of this model; " + all);
  refused({.target_modules = {"q_proj"}, .exclude_modules = {"q_proj"}},
          "[lora.attach] no module is left: target_modules (q_proj) without exclude_modules, in layers_to_transform, selects nothing of this model");
  refused({.target_modules = {"q_proj"}, .layers_to_transform = {5}},
          "[lora.attach] no module is left: target_modules (q_proj) without exclude_modules, in layers_to_transform, selects nothing of this model");
  refused({.target_modules = std::vector<std::string>{}},
          "[lora.attach] no module is left: target_modules () without exclude_modules, in layers_to_transform, selects nothing of this model");
  refused({.r = 0, .target_modules = {"q_proj"}}, "[LoraConfig] r is 0; a rank of at least 1 is wanted");
  refused({.target_modules = {"q_proj", "embed_tokens"}, .lora_bias = true},
          "[lora.attach] lora_bias on model.embed_tokens, an Embedding; leave it out of target_modules (q_proj, embed_tokens)");
  // Found only when the second layer's q_proj is reached: the first one's adapter is taken off again.
  CHECK_THROWS_AS(tuned.add_adapter("a", LoraConfig{.target_modules = {"down_proj"}, .rank_pattern = {{"(", 4}}}), ConfigError);
  CHECK(occupied(tuned.model()) == 0);
  for (const char* name : {"", ".", "..", "a/b", "ü"})
    refused({}, "[add_adapter] \"" + std::string(name) + "\" is no name for an adapter; letters, digits, '_', '-' and '.' are allowed", name);
  for_each_parameter(base, [](const std::string&, Parameter<float>& p) { CHECK_FALSE(p.requires_grad()); });

  tuned.add_adapter("desk", changing({"q_proj"}));
  CHECK_THROWS_WITH(tuned.add_adapter("desk", changing({"q_proj"})),
                    "[add_adapter] an adapter named \"desk\" exists already; delete_adapter it first, or choose another name");
  CHECK_THROWS_WITH(tuned.set_adapter("dsk"), "[adapter] no adapter is named \"dsk\"; did you mean \"desk\"? Adapters here: desk");
  CHECK_THROWS_WITH(tuned.delete_adapter("other"), "[adapter] no adapter is named \"other\"; Adapters here: desk");
  CHECK(tuned.active_adapters() == NamesOfAdapters{"desk"});
}

TEST_CASE("a file's list may name more than this model has, if one is found", "[adapters]") {
  auto base = tiny_transformer<float>();
  Tuned tuned{base};
  tuned.add_adapter("a", LoraConfig{.target_modules = {"q_proj", "c_attn"}}, 0, false);
  CHECK(paths(tuned, "a").size() == 4);
  CHECK_THROWS_AS(tuned.add_adapter("b", LoraConfig{.target_modules = {"c_attn"}}, 0, false), ConfigError);
}
