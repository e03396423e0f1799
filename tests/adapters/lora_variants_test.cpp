// SPDX-License-Identifier: Apache-2.0
// LoRA with a bias, with magnitudes of its own, on what is left of the base, and on a quantised one.
#include "adapters/one_linear.hpp"

#include "peft/adapters/registry.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

TEST_CASE("LoRA's B may have a bias", "[adapters][gradcheck]") {
  LoraConfig config{.r = 3, .lora_alpha = 6, .target_modules = map_name, .init_lora_weights = false, .lora_bias = true};
  OneLinear base;
  PeftModel tuned{base};
  tuned.add_adapter("a", config);
  tuned.for_each_adapter_parameter("a", [](const std::string&, Parameter<double>& p) { p.assign(random_normal<double>(p.shape(), 8)); });
  const Variable<double> x(normal({5, 12}, 3));
  Tensors t;
  std::vector<Parameter<double>> trained;
  tuned.for_each_adapter_parameter("a",
                                   [&](const std::string& path, Parameter<double>& p) { t.all[path.substr(13)] = array(p.value()), trained.push_back(p); });
  const Array expected = map_of(array(x.value()), array(base.map.weight.value()), array(base.map.bias.value())) +
                         2.0 * (times(times(array(x.value()), transposed(t["lora_A.weight"])), transposed(t["lora_B.weight"])) + t["lora_B.bias"]);
  CHECK_THAT(array(tuned.model().map(x).value()), is_near<double>(expected, 50));
  CHECK(gradcheck([&](const Variables& v) { return tuned.model().map(v[0]); }, {x.value()}, trained));
  tuned.merge_adapter();
  CHECK_THAT(array(tuned.model().map(x).value()), is_near<double>(expected, 50));
  CHECK_THROWS_WITH(validate(LoraConfig{.use_dora = true, .lora_bias = true}), Contains("lora_bias = true does not go with use_dora = true"));
}

TEST_CASE("DoRA keeps the length of each row apart from its direction", "[adapters]") {
  const LoraConfig config{.r = 3, .lora_alpha = 6, .target_modules = map_name, .init_lora_weights = false, .use_dora = true};
  OneLinear base;
  PeftModel tuned{base};
  tuned.add_adapter("a", config);
  Tensors t;
  std::vector<Parameter<double>> trained;
  tuned.for_each_adapter_parameter("a", [&](const std::string& path, Parameter<double>& p) {
    if (path.ends_with("vector"))
      for (double& m : p.value().span()) m *= 1.3;
    t.all[path.substr(13)] = array(p.value()), trained.push_back(p);
  });
  const Array W = array(base.map.weight.value()), bias = array(base.map.bias.value());
  const Array turned = W + 2.0 * times(t["lora_B.weight"], t["lora_A.weight"]);
  const Array row_lengths = xt::sqrt(xt::sum(turned * turned, {1}));
  CHECK_THAT(Array(t["lora_magnitude_vector"] / 1.3), is_near<double>(row_lengths, 50));  // began as the lengths
  const Array gain = t["lora_magnitude_vector"] / row_lengths;
  const Variable<double> x(normal({5, 12}, 3));
  const Array expected = times(array(x.value()), transposed(turned)) * gain + bias;
  CHECK_THAT(array(tuned.model().map(x).value()), is_near<double>(expected, 50));
  tuned.merge_adapter();
  CHECK_THAT(array(tuned.model().map(x).value()), is_near<double>(expected, 50));
  tuned.unmerge_adapter();
  // The norm counts as a constant, so that A's and B's gradients are those of W + s B A scaled by a fixed gain: m alone can be checked by differences.
  CHECK(gradcheck([&](const Variables& v) { return tuned.model().map(v[0]); }, {x.value()}, {trained.back()}));
  for (const auto& parameter : trained) parameter.zero_grad();
  Tape tape;
  tape.backward(tuned.model().map(x), normal({5, 8}, 4));
  const Array g = array(normal({5, 8}, 4)) * gain;
  const Array dB = 2.0 * times(transposed(g), times(array(x.value()), transposed(t["lora_A.weight"])));
  CHECK_THAT(array(trained[1].grad()), is_near<double>(dB, 50));
}

TEST_CASE("PiSSA and OLoRA begin as the base, and train its leading part", "[adapters][gradcheck]") {
  for (const char* init : {"pissa", "olora"}) {
    CAPTURE(init);
    const LoraConfig config{.r = 3, .lora_alpha = 6, .target_modules = map_name, .init_lora_weights = init};
    check_fresh(config, 200);
    OneLinear base;
    PeftModel tuned{base};
    tuned.add_adapter("a", config);
    std::vector<Parameter<double>> trained;
    tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<double>& p) { trained.push_back(p); });
    REQUIRE(trained.size() == 2);  // A₀ and B₀ are not of the file
    const Array W = array(base.map.weight.value()), start = 2.0 * times(array(trained[1].value()), array(trained[0].value()));
    const Array rest = W - start;
    if (init == std::string("pissa")) {  // the leading part is orthogonal to the rest, from both sides
      CHECK_THAT(times(start, transposed(rest)), is_near<double>(Array(xt::zeros<double>({8, 8})), 1e4, 1));
      CHECK_THAT(times(transposed(start), rest), is_near<double>(Array(xt::zeros<double>({12, 12})), 1e4, 1));
    } else {
      const Array Q = array(trained[1].value());
      CHECK_THAT(times(transposed(Q), Q), is_near<double>(Array(xt::eye<double>(3)), 100));
    }
    trained[0].assign(normal({3, 12}, 7));
    const Variable<double> x(normal({5, 12}, 3));
    const Array changed = rest + 2.0 * times(array(trained[1].value()), array(trained[0].value()));
    CHECK_THAT(array(tuned.model().map(x).value()), is_near<double>(map_of(array(x.value()), changed, array(base.map.bias.value())), 200));
    CHECK(gradcheck([&](const Variables& v) { return tuned.model().map(v[0]); }, {x.value()}, trained));
    tuned.merge_adapter();
    CHECK_THAT(array(tuned.model().map(x).value()), is_near<double>(map_of(array(x.value()), changed, array(base.map.bias.value())), 200));
  }
  CHECK_THROWS_AS(InitLoraWeights("corda"), NotSupported);
}

TEST_CASE("LoftQ begins as a quantised base and the leading part of what that lost, by turns", "[adapters][gradcheck]") {
  const auto dequantised = [](const Array& W, DType type) {
    Tensor<double> values({std::int64_t(W.shape()[0]), std::int64_t(W.shape()[1])});
    std::copy(W.begin(), W.end(), values.data());
    const ops::OwnedWeight q = ops::quantized(ops::WeightView(values.view()), type);
    ops::widen<double>(values.view(), q.view);
    return array(values);
  };
  const OneLinear base(64, 8);
  const Array W0 = array(base.map.weight.value());
  for (const DType type : {DType::nf4, DType::q4_0, DType::q8_0}) {
    CAPTURE(name(type));
    check_method(
        LoraConfig{.r = 3, .lora_alpha = 6, .target_modules = map_name, .init_lora_weights = "loftq_" + ops::lower_name(type)},
        [&](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
          return Array(map_of(x, dequantised(W, type), bias) + 2.0 * times(times(x, transposed(t["lora_A.weight"])), transposed(t["lora_B.weight"])));
        },
        base);
  }
  const auto norm = [](const Array& a) { return double(xt::sum(a * a)()); };
  std::vector<double> errors = {norm(W0 - dequantised(W0, DType::nf4))};
  Array change = xt::zeros<double>({8, 64});  // s B A of the turn before
  for (const int turns : {1, 2, 3}) {
    CAPTURE(turns);
    OneLinear model = base;
    PeftModel tuned{model};
    tuned.add_adapter("a", LoraConfig{.r = 3, .lora_alpha = 6, .target_modules = map_name, .init_lora_weights = "loftq_nf4_niter_" + std::to_string(turns)});
    const auto* adapter = tuned.model().map.adapters.get<LoraOnQuantized<double>>(tuned.entry("a").id);
    REQUIRE(adapter);
    const Array Q = array(adapter->own.weight.dense());
    CHECK_THAT(Q, is_near<double>(dequantised(W0 - change, DType::nf4), 50));
    change = 2.0 * times(array(adapter->lora.B.value()), array(adapter->lora.A.value()));
    const Array rest = W0 - Q - change;  // orthogonal to the leading part, from both sides
    CHECK_THAT(times(change, transposed(rest)), is_near<double>(Array(xt::zeros<double>({8, 8})), 1e4, 1));
    CHECK_THAT(times(transposed(change), rest), is_near<double>(Array(xt::zeros<double>({64, 64})), 1e4, 1));
    CHECK(norm(rest) < errors.back());
    errors.push_back(norm(rest));
    CHECK(tuned.model().map.weight.identity() == model.map.weight.identity());  // the base has no part in it
  }
  const auto refused = [&](const OneLinear& on, const InitLoraWeights& init) {
    OneLinear model = on;
    PeftModel tuned{model};
    try {
      tuned.add_adapter("a", LoraConfig{.r = 3, .target_modules = map_name, .init_lora_weights = init});
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string("attached");
  };
  CHECK_THAT(refused(OneLinear(12, 8), "loftq_q4_0"), Contains("layers.0.map has 12 inputs") && Contains("blocks of 32 (Q4_0)"));
  const ops::OwnedWeight q = ops::quantized(base.map.weight.view(), DType::q8_0);
  OneLinear packed = base;
  packed.map.weight = Parameter<double>(q.view, {8, 64}, q.keep);
  CHECK_THAT(refused(packed, "loftq_nf4"), Contains("layers.0.map is Q8_0 already"));
  CHECK_THROWS_WITH(InitLoraWeights("loftq_nf5"), Contains("\"nf5\"") && Contains("\"nf4\"?"));
  CHECK_THROWS_WITH(InitLoraWeights("loftq_nf4_niter_0"), Contains("from 1 to 999"));
  CHECK_THROWS_WITH(InitLoraWeights("loftq"), Contains("say loftq_nf4"));  // PEFT's quantises otherwise
  CHECK(InitLoraWeights("loftq_q8_0_niter_4").toggle() == Toggle("loftq_q8_0_niter_4"));
  CHECK(InitLoraWeights("loftq_nf4_niter_1").toggle() == Toggle("loftq_nf4"));
  CHECK_THROWS_AS(validate(LoraConfig{.init_lora_weights = "loftq_nf4", .use_dora = true}), ConfigError);
}
