// SPDX-License-Identifier: Apache-2.0
// Bottleneck adapters behind, on and beside the sublayers of a block: the formulas in xtensor, gradients, several at once, what is refused.
#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>
#include <xtensor/xmath.hpp>
#include <xtensor/xview.hpp>

#include "adapters/one_linear.hpp"
#include "peft/adapters/bottleneck/bottleneck.hpp"
#include "peft/adapters/peft_model.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"
#include "support/tiny_transformer.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {

using Bottlenecked = PeftModel<Transformer<double>>;

// As a decoder has its norms, in front of the sublayers, or as BERT has them, behind the joins.
Transformer<double> bottleneck_base(bool norms_behind) {
  auto model = tiny_transformer<double>({.biases = norms_behind, .gated = !norms_behind});
  if (!norms_behind) return model;
  for (Block<double>& block : model.layers) {
    block.attention_join.norm = *block.input_layernorm, block.mlp_join.norm = *block.post_attention_layernorm;
    block.input_layernorm.reset(), block.post_attention_layernorm.reset();
    block.self_attn.core.shape.causal = false;
  }
  return model;
}
std::vector<std::string> bottleneck_names(const Bottlenecked& tuned) {
  std::vector<std::string> names;
  tuned.for_each_adapter_parameter("a", [&](const std::string& name, const auto&) { names.push_back(name); });
  return names;
}
void stir(const Bottlenecked& tuned, const std::string& name = "a") {
  std::uint64_t seed = name_hash(name);
  tuned.for_each_adapter_parameter(name, [&](const std::string& path, Parameter<double>& p) {
    p.assign(path.ends_with("scaling") ? Tensor<double>({1}, 1.7) : random_normal<double>(p.shape(), seed++, 0.5));
  });
}
Array activated(const Array& z, const std::string& name) {
  if (name == "relu") return xt::maximum(z, 0.0);
  if (name == "tanh") return xt::tanh(z);
  if (name == "gelu") return 0.5 * z * (1.0 + xt::erf(z / std::sqrt(2.0)));
  if (name == "gelu_new") return 0.5 * z * (1.0 + xt::tanh(std::sqrt(2 / std::acos(-1.0)) * (z + 0.044715 * z * z * z)));
  return z / (1.0 + xt::exp(-z));
}
// s · (U f(D x + b_D) + b_U), of the adapter at `site`
Array bottleneck_delta(const Bottlenecked& tuned, const std::string& site, const Array& x, const std::string& f, double s) {
  Tensors t;
  tuned.for_each_adapter_parameter("a", [&](const std::string& path, const Parameter<double>& p) {
    if (path.starts_with(site + ".")) t.all[path.substr(site.size() + 1)] = array(p.value());
  });
  if (t.all.contains("scaling")) s = t["scaling"](0);
  const Array h = activated(times(x, transposed(t["adapter_down.weight"])) + t["adapter_down.bias"], f);
  return s * (times(h, transposed(t["adapter_up.weight"])) + t["adapter_up.bias"]);
}
Tensor<double> bottleneck_states(const Bottlenecked& tuned) {
  const Pass<double> pass = tuned.pass(Sequences::of_lengths(std::vector<std::int64_t>{5, 4}));
  return hidden_states(tuned.model(), random_ids(9, 11), pass);
}

}  // namespace

TEST_CASE("each bottleneck adapter is its formula, where its paper puts it", "[adapters]") {
  for (const bool behind : {false, true})
    for (const std::string f : {"relu", "gelu", "gelu_new", "silu", "tanh"}) {
      CAPTURE(behind, f);
      auto base = bottleneck_base(behind);
      const Variable<double> x(normal({9, 8}, 5)), r(normal({9, 8}, 6));
      const Pass<double> plain = pass_over<double>({5, 4});
      const PassScope<double> scope(plain);
      const Block<double>& bare = base.layers[1];
      const std::string layer = "model.layers.1.";
      {
        Bottlenecked tuned{base};
        tuned.add_adapter("a", BottleneckConfig{.variant = "houlsby", .bottleneck_size = 3, .non_linearity = f, .scaling = 0.5});
        stir(tuned);
        const Block<double>& block = tuned.model().layers[1];
        const Array attention = array(bare.self_attn(x).value()), mlp = array(bare.mlp(x).value());
        CHECK_THAT(array(block.self_attn(x).value()), is_near<double>(attention + bottleneck_delta(tuned, layer + "self_attn", attention, f, 0.5), 50));
        CHECK_THAT(array(block.mlp(x).value()), is_near<double>(mlp + bottleneck_delta(tuned, layer + "mlp", mlp, f, 0.5), 50));
        CHECK(same_bits(block.mlp_join(r, x).value(), bare.mlp_join(r, x).value()));
      }
      {
        Bottlenecked tuned{base};
        tuned.add_adapter("a", BottleneckConfig{.variant = "pfeiffer", .reduction_factor = 4, .non_linearity = f, .learned_scaling = true});
        stir(tuned);
        const Block<double>& block = tuned.model().layers[1];
        const Array added = array(x.value()) + bottleneck_delta(tuned, layer + "mlp_join", array(bare.mlp_join(r, x).value()), f, NAN);
        Tensor<double> y({9, 8});
        std::copy(added.begin(), added.end(), y.data());
        CHECK_THAT(array(block.mlp_join(r, x).value()), is_near<double>(array(bare.mlp_join(r, Variable<double>(y)).value()), 50));
        CHECK(same_bits(block.mlp(x).value(), bare.mlp(x).value()));
        CHECK(same_bits(block.attention_join(r, x).value(), bare.attention_join(r, x).value()));
      }
      {
        Bottlenecked tuned{base};
        tuned.add_adapter("a", BottleneckConfig{.variant = "parallel", .non_linearity = f});
        stir(tuned);
        const Array expected = array(bare.mlp(x).value()) + bottleneck_delta(tuned, layer + "mlp", array(x.value()), f, 4);
        CHECK_THAT(array(tuned.model().layers[1].mlp(x).value()), is_near<double>(expected, 50));
        CHECK(same_bits(tuned.model().layers[1].self_attn(x).value(), bare.self_attn(x).value()));
      }
    }
}

TEST_CASE("gradients of bottleneck adapters, in a decoder and with norms behind the joins", "[adapters][gradcheck]") {
  for (const bool behind : {false, true})
    for (const std::string variant : {"houlsby", "pfeiffer", "parallel"})
      for (const bool learned : {false, true}) {
        CAPTURE(behind, variant, learned);
        auto base = bottleneck_base(behind);
        Bottlenecked tuned{base};
        tuned.add_adapter("a", BottleneckConfig{.variant = variant, .bottleneck_size = 2, .non_linearity = "tanh", .learned_scaling = learned});
        stir(tuned);
        std::vector<Parameter<double>> parameters;
        tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<double>& p) { parameters.push_back(p); });
        CHECK(parameters.size() == (variant == "houlsby" ? 4u : 2u) * (learned ? 5 : 4));
        const Pass<double> pass = tuned.pass(Sequences::of_lengths(std::vector<std::int64_t>{4, 3}));
        const PassScope<double> scope(pass);
        CHECK(gradcheck([&](const Variables&) { return tuned.model().loss(tuned.model().hidden_states(random_ids(7, 11)), random_labels(7, 11)); }, {},
                        parameters));
      }
}

TEST_CASE("a fresh bottleneck adapter is the identity, or near it", "[adapters]") {
  for (const std::string variant : {"houlsby", "pfeiffer", "parallel"}) {
    CAPTURE(variant);
    auto base = bottleneck_base(false);
    const Tensor<double> bare = hidden_states(base, random_ids(9, 11), pass_over<double>({5, 4}));
    Bottlenecked tuned{base};
    tuned.add_adapter("a", BottleneckConfig{.variant = variant}, 3);
    CHECK(same_bits(bottleneck_states(tuned), bare));
    for (const std::string init : {"bert", "houlsby"}) {
      Bottlenecked near{base};
      near.add_adapter("a", BottleneckConfig{.variant = variant, .bottleneck_size = 500, .scaling = 1e-3, .init_weights = init}, 3);
      CHECK_FALSE(same_bits(bottleneck_states(near), bare));
      CHECK_THAT(array(bottleneck_states(near)), IsNear(array(bare), 1e-2));
      near.for_each_adapter_parameter("a", [&](const std::string& path, const Parameter<double>& p) {
        const Array values = array(p.value());
        if (path.ends_with("bias")) {
          CHECK(xt::amax(xt::abs(values))() == 0);
          return;
        }
        CHECK(xt::mean(values)() == Approx(0).margin(1e-3));
        CHECK(std::sqrt(xt::mean(values * values)()) == Approx(init == "bert" ? 0.02 : 0.0088).epsilon(0.05));  // 0.88: of a normal cut at 2
        if (init == "houlsby") CHECK(xt::amax(xt::abs(values))() <= 0.02);
      });
    }
  }
}

TEST_CASE("several bottleneck adapters: one list or one a sequence, disabled, never merged", "[adapters]") {
  for (const std::string variant : {"houlsby", "pfeiffer", "parallel"}) {
    CAPTURE(variant);
    auto base = bottleneck_base(false);
    Bottlenecked tuned{base};
    for (const char* name : {"a", "b"}) {
      tuned.add_adapter(name, BottleneckConfig{.variant = variant, .bottleneck_size = 2});
      stir(tuned, name);
    }
    const Tensor<double> bare = hidden_states(base, random_ids(9, 11), pass_over<double>({5, 4})), one = bottleneck_states(tuned);
    CHECK_FALSE(same_bits(one, bare));
    {
      const auto guard = tuned.disable_adapters();
      CHECK(same_bits(bottleneck_states(tuned), bare));
    }
    const Active a = {tuned.entry("a").id}, b = {tuned.entry("b").id}, both = {a[0], b[0]};
    tuned.set_adapter(std::vector<std::string>{"a", "b"});
    const Tensor<double> two = bottleneck_states(tuned);
    CHECK_FALSE(same_bits(two, one));
    // The second sequence's own list: as if it were alone.
    std::vector<Sequence, PoolAllocator<Sequence>> sequences(2);
    sequences[0].end = sequences[1].begin = 5, sequences[1].end = 9, sequences[1].active = 1;
    for (const auto& [first, second] : {std::pair{a, Active{}}, std::pair{Active{}, both}, std::pair{both, a}}) {
      Pass<double> pass =
          tuned.pass(std::make_shared<const Sequences>(sequences), false, std::make_shared<const std::vector<Active>>(std::vector{first, second}));
      const Tensor<double> mixed = hidden_states(tuned.model(), random_ids(9, 11), pass);
      const auto alone = [&](const Active& list) { return list.empty() ? bare : list == a ? one : two; };
      CHECK(same_bits(mixed.row_range(0, 5), alone(first).row_range(0, 5)));
      CHECK(same_bits(mixed.row_range(5, 9), alone(second).row_range(5, 9)));
    }
    CHECK_THROWS_WITH(tuned.merge_adapter(), Contains("\"a\" (BOTTLENECK) is at model.layers.0.") && Contains("cannot be merged"));
    CHECK_THROWS_AS(tuned.merge_and_unload(), AdapterError);
    tuned.delete_adapter("b");
    CHECK(same_bits(bottleneck_states(tuned), one));
  }
}

TEST_CASE("where bottleneck adapters sit", "[adapters]") {
  auto base = bottleneck_base(false);
  Block<double>& block = base.layers[1];  // as the decoder of T5 has its blocks
  block.cross_attn = block.self_attn, block.cross_attn->path = "model.layers.1.cross_attn", block.cross_attn->cross = true;
  block.cross_attention_join.emplace().path = "model.layers.1.cross_attention_join";
  const auto sites = [&](const BottleneckConfig& config) {
    Bottlenecked tuned{base};
    tuned.add_adapter("a", config);
    std::vector<std::string> all;
    for (const std::string& name : bottleneck_names(tuned))
      if (name.ends_with(".adapter_up.bias")) all.push_back(name.substr(13, name.size() - 13 - 16));
    return all;
  };
  using Sites = std::vector<std::string>;
  CHECK(sites({.variant = "houlsby"}) == Sites{"0.self_attn", "0.mlp", "1.self_attn", "1.mlp"});
  CHECK(sites({.variant = "houlsby", .cross_adapter = true}) == Sites{"0.self_attn", "0.mlp", "1.self_attn", "1.cross_attn", "1.mlp"});
  CHECK(sites({.variant = "houlsby", .target_modules = {"mlp"}}) == Sites{"0.mlp", "1.mlp"});
  CHECK(sites({}) == Sites{"0.mlp_join", "1.mlp_join"});
  CHECK(sites({.variant = "parallel", .layers_to_transform = {1}}) == Sites{"1.mlp"});

  Bottlenecked tuned{base};
  tuned.add_adapter("a", BottleneckConfig{.reduction_factor = 3, .learned_scaling = true, .layers_to_transform = {0}});
  const std::string site = "model.layers.0.mlp_join.";
  CHECK(bottleneck_names(tuned) ==
        Sites{site + "adapter_down.weight", site + "adapter_down.bias", site + "adapter_up.weight", site + "adapter_up.bias", site + "scaling"});
  CHECK(tuned.count_parameters().trainable == 2 * 8 * 2 + 2 + 8 + 1);  // 8 / 3 is 2
  tuned.add_adapter("b", BottleneckConfig{.variant = "parallel", .reduction_factor = 100});
  const auto& resolved_config = std::any_cast<const BottleneckConfig&>(tuned.entry("b").config);
  CHECK(resolved_config.scaling == 4);
  CHECK(resolved_config.non_linearity == "relu");
  CHECK(tuned.count_parameters().trainable == 43 + 2 * (2 * 8 + 1 + 8));  // at least 1 wide
}

TEST_CASE("dropout of bottleneck adapters acts on what is added, in training alone", "[adapters]") {
  auto base = bottleneck_base(false);
  Bottlenecked tuned{base}, undropped{base};
  tuned.add_adapter("a", BottleneckConfig{.variant = "parallel", .dropout = 0.5});
  undropped.add_adapter("a", BottleneckConfig{.variant = "parallel"});
  stir(tuned), stir(undropped);
  CHECK(same_bits(bottleneck_states(tuned), bottleneck_states(undropped)));
  const Variable<double> x(normal({9, 8}, 5));
  const Pass<double> pass = tuned.pass(Sequences::of_lengths(std::vector<std::int64_t>{5, 4}), true);
  const PassScope<double> scope(pass);
  const Array bare = array(base.layers[0].mlp(x).value()), delta = bottleneck_delta(tuned, "model.layers.0.mlp", array(x.value()), "relu", 4);
  const Array found = array(tuned.model().layers[0].mlp(x).value()) - bare;
  int kept = 0;
  for (std::size_t i = 0; i < found.size(); i++) {
    const bool stays = std::abs(found.flat(i)) > 1e-9;
    kept += stays;
    if (stays) CHECK(found.flat(i) == Approx(2 * delta.flat(i)));
  }
  CHECK(kept > 18);
  CHECK(kept < 54);
}

TEST_CASE("options of bottleneck adapters that make no sense are refused", "[adapters]") {
  CHECK_THROWS_WITH(validate(BottleneckConfig{.variant = "pfeifer"}), Contains("variant \"pfeifer\"") && Contains("pfeiffer"));
  CHECK_THROWS_WITH(validate(BottleneckConfig{.bottleneck_size = -1}), Contains("bottleneck_size is -1"));
  CHECK_THROWS_WITH(validate(BottleneckConfig{.reduction_factor = -2}), Contains("reduction_factor is -2"));
  CHECK_THROWS_WITH(validate(BottleneckConfig{.reduction_factor = INFINITY}), Contains("reduction_factor is not finite"));
  CHECK_THROWS_WITH(validate(BottleneckConfig{.non_linearity = "leakyrelu"}), Contains("non_linearity \"leakyrelu\""));
  CHECK_THROWS_WITH(validate(BottleneckConfig{.scaling = NAN}), Contains("scaling is not finite"));
  CHECK_THROWS_WITH(validate(BottleneckConfig{.dropout = 1}), Contains("dropout is 1"));
  CHECK_THROWS_WITH(validate(BottleneckConfig{.init_weights = "zero"}), Contains("init_weights \"zero\""));
  CHECK_THROWS_WITH(validate(BottleneckConfig{.cross_adapter = true}), Contains("cross_adapter = true goes with variant \"houlsby\""));
  auto base = bottleneck_base(false);
  Bottlenecked tuned{base};
  CHECK_THROWS_WITH(tuned.add_adapter("a", BottleneckConfig{.variant = "houlsby", .target_modules = {"self_atn"}}),
                    Contains("target_modules \"self_atn\" matches no sublayer of this model") && Contains("self_attn"));
  CHECK_THROWS_WITH(tuned.add_adapter("a", BottleneckConfig{.target_modules = {"mlp"}}),
                    Contains("target_modules \"mlp\" matches no sublayer") && Contains("mlp_join"));
  CHECK_THROWS_AS(tuned.add_adapter("a", BottleneckConfig{.layers_to_transform = {7}}), ConfigError);
  OneLinear bare;
  PeftModel own{bare};
  CHECK_THROWS_WITH(own.add_adapter("a", BottleneckConfig{}), Contains("hidden_size"));
  CHECK(tuned.adapter_names().empty());
}
