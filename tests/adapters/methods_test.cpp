// SPDX-License-Identifier: Apache-2.0
// Methods that change one Linear: each formula in xtensor, its gradient, its merge, how it begins, and what it refuses.
#include "adapters/one_linear.hpp"

#include "peft/adapters/registry.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

TEST_CASE("IA3 scales outputs, bias included, or the inputs of feed-forward modules", "[adapters][gradcheck]") {
  check_method(IA3Config{.init_ia3_weights = false, .target_modules = map_name},
               [](const Array& x, const Array& W, const Array& bias, const Tensors& t) { return Array(map_of(x, W, bias) * xt::flatten(t["ia3_l"])); });
  check_method(IA3Config{.feedforward_modules = map_name, .init_ia3_weights = false, .target_modules = map_name},
               [](const Array& x, const Array& W, const Array& bias, const Tensors& t) { return map_of(Array(x * t["ia3_l"]), W, bias); });
  check_fresh(IA3Config{.target_modules = map_name}, 1);
  CHECK_THROWS_WITH(validate(IA3Config{.feedforward_modules = {"wo"}, .target_modules = map_name}),
                    Contains("feedforward_modules names \"wo\"") && Contains("(map)"));
  CHECK(resolved(IA3Config{}, "llama").target_modules == TargetModules{"k_proj", "v_proj", "down_proj"});
  CHECK(resolved(IA3Config{}, "llama").feedforward_modules == TargetModules{"down_proj"});
}

TEST_CASE("VeRA scales two frozen projections that all sites share", "[adapters][gradcheck]") {
  check_method(VeraConfig{.r = 4, .init_weights = false, .target_modules = map_name}, [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
    const Array h = times(x, transposed(t["vera_A"])) * t["vera_lambda_d"];
    return Array(map_of(x, W, bias) + times(h, transposed(t["vera_B"])) * t["vera_lambda_b"]);
  });
  check_fresh(VeraConfig{.r = 4, .target_modules = map_name}, 1);
  // As torch.empty(2, 3).uniform_(-√2, √2, generator seed 0) draws: the bound is √(6 / 3).
  ModelInfo info;
  info.linears = {{"map", 3, 2, false}};
  const auto shared = shared_part<float>(VeraConfig{.r = 2, .target_modules = map_name}, info, Random());
  CHECK(shared.A.value()[0] == Approx((2 * 0.496256589889526367f - 1) * std::sqrt(2.0f)).epsilon(1e-6));
  CHECK(shared.A.value()[1] == Approx((2 * 0.768221795558929443f - 1) * std::sqrt(2.0f)).epsilon(1e-6));
  CHECK_THROWS_WITH(validate(VeraConfig{.r = 0}), Contains("[VeraConfig] r is 0"));
}

TEST_CASE("LoHa is the product of two low-rank matrices, entry by entry", "[adapters][gradcheck]") {
  check_method(LoHaConfig{.r = 3, .alpha = 6, .init_weights = false, .target_modules = map_name},
               [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
                 const Array delta = 2.0 * times(t["hada_w1_a"], t["hada_w1_b"]) * times(t["hada_w2_a"], t["hada_w2_b"]);
                 return map_of(x, Array(W + delta), bias);
               });
  check_fresh(LoHaConfig{.target_modules = map_name}, 1);
  CHECK_THROWS_WITH(validate(LoHaConfig{.r = -1}), Contains("[LoHaConfig] r is -1"));
}

TEST_CASE("LoHa and LoKr drop rows of what they add, or all of it, by the pass", "[adapters][gradcheck]") {
  const auto check = [](const auto& config, bool rescale) {
    OneLinear base;
    PeftModel tuned{base};
    tuned.add_adapter("a", config, 3);
    const Variable<double> x(normal({5, 12}, 3));
    Pass<double> pass = tuned.pass(Sequences::of_lengths(std::vector<std::int64_t>{3, 2}));
    const auto run = [&](const Variable<double>& in) {
      const PassScope<double> scope(pass);
      return tuned.model().map(in);
    };
    const Array without = array(base.map.forward(x).value()), whole = Array(array(run(x).value()) - without);  // not training
    std::vector<Parameter<double>> trained;
    tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<double>& p) { trained.push_back(p); });
    pass.training = true, pass.seed = 4;
    int left_out = 0, dropped = 0;
    for (pass.forward = 0; pass.forward < 12; pass.forward++) {
      const std::uint64_t key = mix(mix(pass.seed, pass.forward), name_hash("layers.0.map"));
      Array expected = whole;
      if (DropoutKey{key, config.module_dropout}.template factor<double>(0, 0) == 0) {
        expected *= 0, left_out++;
      } else {
        double kept = 0;
        for (std::size_t o = 0; o < 8; o++) kept += DropoutKey{key, config.rank_dropout}.template factor<double>(1, o) != 0;
        for (std::size_t o = 0; o < 8; o++) {
          const bool stays = DropoutKey{key, config.rank_dropout}.template factor<double>(1, o) != 0;
          xt::view(expected, xt::all(), o) *= !stays ? 0.0 : rescale ? 8 / kept : 1.0, dropped += !stays;
        }
      }
      CHECK_THAT(array(run(x).value()), is_near<double>(Array(without + expected), 50));
    }
    CHECK(left_out > 0);
    CHECK(left_out < 12);
    CHECK(dropped > 5);
    pass.forward = 0;
    CHECK(gradcheck([&](const Variables& v) { return run(v[0]); }, {x.value()}, trained));
  };
  check(LoHaConfig{.r = 3, .init_weights = false, .rank_dropout = 0.4, .module_dropout = 0.3, .target_modules = map_name}, true);
  check(LoKrConfig{.r = 1, .init_weights = false, .rank_dropout = 0.4, .module_dropout = 0.3, .target_modules = map_name}, false);
  check(LoKrConfig{.r = 1, .init_weights = false, .rank_dropout = 0.4, .module_dropout = 0.3, .rank_dropout_scale = true, .target_modules = map_name}, true);
  CHECK_THROWS_WITH(validate(LoHaConfig{.module_dropout = 1}), Contains("module_dropout is 1"));
  CHECK_THROWS_WITH(validate(LoKrConfig{.rank_dropout = -1}), Contains("rank_dropout is -1"));
}

TEST_CASE("LoKr is a Kronecker product, its factors low-rank where that is smaller", "[adapters][gradcheck]") {
  const auto oracle = [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
    const Array w1 = t.all.contains("lokr_w1") ? t["lokr_w1"] : times(t["lokr_w1_a"], t["lokr_w1_b"]);
    const Array w2 = t.all.contains("lokr_w2") ? t["lokr_w2"] : times(t["lokr_w2_a"], t["lokr_w2_b"]);
    Array delta = xt::zeros<double>(W.shape());
    for (std::size_t o = 0; o < W.shape()[0]; o++)
      for (std::size_t i = 0; i < W.shape()[1]; i++) delta(o, i) = w1(o / w2.shape()[0], i / w2.shape()[1]) * w2(o % w2.shape()[0], i % w2.shape()[1]);
    const double r = t.all.contains("lokr_w2_a") ? double(t["lokr_w2_b"].shape()[0]) : 3;
    return map_of(x, Array(W + 6 / r * delta), bias);
  };
  check_method(LoKrConfig{.r = 3, .alpha = 6, .init_weights = false, .target_modules = map_name}, oracle);
  check_method(LoKrConfig{.r = 1, .alpha = 6, .decompose_both = true, .decompose_factor = 4, .init_weights = false, .target_modules = map_name}, oracle);
  check_fresh(LoKrConfig{.target_modules = map_name}, 1);
  check_fresh(LoKrConfig{.r = 1, .decompose_both = true, .init_weights = "lycoris", .target_modules = map_name}, 1);
  CHECK(kronecker_split(128, -1) == std::pair<std::int64_t, std::int64_t>(8, 16));
  CHECK(kronecker_split(127, -1) == std::pair<std::int64_t, std::int64_t>(1, 127));
  CHECK(kronecker_split(128, 4) == std::pair<std::int64_t, std::int64_t>(4, 32));
  CHECK(kronecker_split(250, 7) == std::pair<std::int64_t, std::int64_t>(5, 50));
  CHECK_THROWS_WITH(validate(LoKrConfig{.decompose_factor = 0}), Contains("decompose_factor is 0"));
}

TEST_CASE("FourierFT is the inverse transform of few coefficients", "[adapters][gradcheck]") {
  // torch.randperm(96, generator seed 777)[:5]
  const std::vector<std::int64_t> places = torch_randperm(96, 5, 777);
  check_method(FourierFTConfig{.n_frequency = 5, .scaling = 30, .target_modules = map_name},
               [&](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
                 Array delta = xt::zeros<double>(W.shape());
                 for (std::size_t k = 0; k < 5; k++)
                   for (std::size_t p = 0; p < 8; p++)
                     for (std::size_t q = 0; q < 12; q++)
                       delta(p, q) += 30.0 / 96 * t["fourierft_spectrum"](k) *
                                      std::cos(2 * 3.14159265358979323846 * (double(places[k] / 12) * double(p) / 8 + double(places[k] % 12) * double(q) / 12));
                 return map_of(x, Array(W + delta), bias);
               });
  check_fresh(FourierFTConfig{.n_frequency = 5, .init_weights = true, .target_modules = map_name}, 1);
  CHECK_THROWS_WITH(validate(FourierFTConfig{.n_frequency = 0}), Contains("n_frequency is 0"));
  CHECK_THROWS_WITH(check_fresh(FourierFTConfig{.n_frequency = 97, .target_modules = map_name}), Contains("n_frequency is 97") && Contains("1 to 96"));
}

TEST_CASE("MiSS shares one shard between blocks of inputs", "[adapters][gradcheck]") {
  for (const std::int64_t r : {4, 5}) {  // the last block may be short
    CAPTURE(r);
    check_method(MissConfig{.r = r, .init_weights = false, .target_modules = map_name},
                 [r](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
                   Array delta = xt::zeros<double>(W.shape());
                   for (std::size_t o = 0; o < 8; o++)
                     for (std::size_t i = 0; i < 12; i++) delta(o, i) = t["miss_block"](i % std::size_t(r), o);
                   return map_of(x, Array(W + delta), bias);
                 });
  }
  check_fresh(MissConfig{.r = 4, .target_modules = map_name}, 1);
  check_fresh(MissConfig{.r = 4, .init_weights = "bat", .target_modules = map_name}, 1);
  check_fresh(MissConfig{.r = 4, .mini_r = 2, .init_weights = "mini", .target_modules = map_name}, 1);
  CHECK_THROWS_WITH(validate(MissConfig{.init_weights = "bot"}), Contains("init_weights \"bot\"; did you mean \"bat\"?"));
  CHECK_THROWS_WITH(check_fresh(MissConfig{.r = 5, .init_weights = "bat", .target_modules = map_name}), Contains("r is 5, which does not divide the 12"));
}

TEST_CASE("MiSS's bat and mini follow their formulas", "[adapters][gradcheck]") {
  for (const char* kind : {"bat", "mini"}) {
    OneLinear base;
    PeftModel tuned{base};
    tuned.add_adapter("a", MissConfig{.r = 4, .mini_r = 2, .init_weights = kind, .target_modules = map_name});
    std::vector<Parameter<double>> trained;
    tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<double>& p) { p.assign(normal(p.shape(), 9)), trained.push_back(p); });
    const Array M = array(trained[0].value()), W = array(base.map.weight.value());
    Array delta = xt::zeros<double>(W.shape());
    for (std::size_t o = 0; o < 8; o++)
      for (std::size_t i = 0; i < 12; i++) {
        if (kind == std::string("mini")) {
          delta(o, i) = M(i % 4, o % 2);
        } else {
          delta(o, i) = M(o / 4, o % 4, i % 4);
          for (std::size_t k = 0; k < 4; k++) delta(o, i) += W(o, i / 4 * 4 + k) * M(o / 4, k, i % 4);
        }
      }
    const Variable<double> x(normal({5, 12}, 3));
    const Array expected = map_of(array(x.value()), Array(W + delta), array(base.map.bias.value()));
    CHECK_THAT(array(tuned.model().map(x).value()), is_near<double>(expected, 50));
    CHECK(gradcheck([&](const Variables& v) { return tuned.model().map(v[0]); }, {x.value()}, trained));
    tuned.merge_adapter();
    CHECK_THAT(array(tuned.model().map(x).value()), is_near<double>(expected, 50));
  }
}

TEST_CASE("RoAd turns and stretches pairs of outputs", "[adapters][gradcheck]") {
  for (const char* variant : {"road_1", "road_2", "road_4"}) {
    CAPTURE(variant);
    const std::string v = variant;
    check_method(RoadConfig{.variant = variant, .group_size = 4, .init_weights = false, .target_modules = map_name},
                 [v](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
                   const Array y = map_of(x, W, bias), &theta = t["road_theta"], &alpha = t["road_alpha"];
                   Array turned = y;
                   for (std::size_t o = 0; o < 8; o++) {
                     const std::size_t g = o / 4, k = o % 4;
                     const std::size_t one = v == "road_1" ? 2 * g + k % 2 : v == "road_2" ? o : 8 * g + k, two = v == "road_4" ? one + 4 : one;
                     const double c1 = alpha(one) * std::cos(theta(one)), c2 = alpha(two) * std::sin(theta(two));
                     for (std::size_t n = 0; n < 5; n++) turned(n, o) = c1 * y(n, o) + c2 * (k < 2 ? -y(n, o + 2) : y(n, o - 2));
                   }
                   return turned;
                 });
  }
  check_fresh(RoadConfig{.group_size = 4, .target_modules = map_name}, 1);
  CHECK_THROWS_WITH(validate(RoadConfig{.variant = "road_3"}), Contains("variant \"road_3\""));
  CHECK_THROWS_WITH(validate(RoadConfig{.group_size = 3}), Contains("group_size is 3"));
}

TEST_CASE("C3A has circulant blocks", "[adapters][gradcheck]") {
  check_method(C3AConfig{.block_size = 4, .target_modules = map_name}, [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
    Array delta = xt::zeros<double>(W.shape());
    for (std::size_t o = 0; o < 8; o++)
      for (std::size_t i = 0; i < 12; i++) delta(o, i) = t["c3a_kernel"](o / 4, i / 4, (i % 4 + 4 - o % 4) % 4) / 12;
    return map_of(x, Array(W + delta), bias);
  });
  check_fresh(C3AConfig{.block_size = 4, .init_weights = true, .target_modules = map_name}, 1);
  CHECK_THROWS_WITH(check_fresh(C3AConfig{.block_size = 5, .target_modules = map_name}), Contains("block_size is 5, which does not divide the 12"));
}

TEST_CASE("VB-LoRA mixes the vectors of a shared bank", "[adapters][gradcheck]") {
  check_method(
      VBLoRAConfig{.r = 2, .num_vectors = 6, .vector_length = 4, .topk = 2, .init_vector_bank_bound = 1, .init_logits_std = 1, .target_modules = map_name},
      [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
        const Array& bank = t["vblora_vector_bank"];
        const auto mix = [&](const Array& logits, std::size_t i, std::size_t j) {
          std::vector<std::size_t> order = {0, 1, 2, 3, 4, 5};
          std::sort(order.begin(), order.end(), [&](std::size_t p, std::size_t q) { return logits(i, j, p) > logits(i, j, q); });
          const double p = std::exp(logits(i, j, order[0])), q = std::exp(logits(i, j, order[1]));
          return Array((p * xt::view(bank, order[0]) + q * xt::view(bank, order[1])) / (p + q));
        };
        Array A = xt::zeros<double>({2, 12}), B = xt::zeros<double>({8, 2});
        for (std::size_t j = 0; j < 2; j++) {
          for (std::size_t k = 0; k < 3; k++) xt::view(A, j, xt::range(4 * k, 4 * k + 4)) = mix(t["vblora_logits_A"], j, k);
          for (std::size_t k = 0; k < 2; k++) xt::view(B, xt::range(4 * k, 4 * k + 4), j) = mix(t["vblora_logits_B"], k, j);
        }
        return map_of(x, Array(W + times(B, A)), bias);
      });
  CHECK_THROWS_WITH(validate(VBLoRAConfig{.num_vectors = 4, .topk = 5}), Contains("topk is 5; allowed are 1 to num_vectors (4)"));
}

TEST_CASE("SHiRA trains few entries of the weight", "[adapters][gradcheck]") {
  check_method(ShiraConfig{.r = 1, .init_weights = false, .target_modules = map_name}, [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
    Array changed = W;
    REQUIRE(t["shira_weight"].size() == 20);
    for (std::size_t k = 0; k < 20; k++) changed(std::size_t(t["shira_indices"](0, k)), std::size_t(t["shira_indices"](1, k))) += t["shira_weight"](k);
    return map_of(x, changed, bias);
  });
  check_fresh(ShiraConfig{.r = 1, .target_modules = map_name}, 1);
  CHECK_THROWS_WITH(check_fresh(ShiraConfig{.r = 5, .target_modules = map_name}), Contains("r is 5, so that 100 entries"));
}

TEST_CASE("HiRA scales the entries of the weight", "[adapters][gradcheck]") {
  check_method(HiraConfig{.r = 3, .init_weights = false, .target_modules = map_name}, [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
    return map_of(x, Array(W + W * times(t["hira_B"], t["hira_A"])), bias);
  });
  check_fresh(HiraConfig{.r = 3, .target_modules = map_name}, 1);
  CHECK_THROWS_WITH(validate(HiraConfig{.hira_dropout = 1}), Contains("hira_dropout is 1"));
}

TEST_CASE("DeLoRA bounds the change by lambda", "[adapters][gradcheck]") {
  check_method(DeloraConfig{.r = 3, .delora_lambda = 6, .init_weights = false, .target_modules = map_name},
               [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
                 const Array &A = t["delora_A"], &B = t["delora_B"];
                 const Array row_lengths = xt::sqrt(xt::sum(A * A, {1})) * xt::sqrt(xt::sum(B * B, {0})), columns = xt::sqrt(xt::sum(W * W, {0}));
                 const Array delta = times(Array(B * (6.0 / 3 / row_lengths)), A) * columns;
                 return map_of(x, Array(W + delta), bias);
               });
  check_fresh(DeloraConfig{.r = 3, .target_modules = map_name}, 1);
  CHECK_THROWS_WITH(validate(DeloraConfig{.r = 0}), Contains("[DeloraConfig] r is 0"));
}

TEST_CASE("GraLoRA has a low rank in each block of its own", "[adapters][gradcheck]") {
  check_method(GraloraConfig{.r = 4, .alpha = 8, .gralora_k = 2, .init_weights = false, .target_modules = map_name},
               [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
                 Array delta = xt::zeros<double>(W.shape());  // block (m, n): columns m r/k … of A[n], rows n r/k … of B[m]
                 for (std::size_t o = 0; o < 8; o++)
                   for (std::size_t i = 0; i < 12; i++)
                     for (std::size_t j = 0; j < 2; j++)
                       delta(o, i) += 2.0 * t["gralora_A"](i / 6, i % 6, o / 4 * 2 + j) * t["gralora_B"](o / 4, i / 6 * 2 + j, o % 4);
                 return map_of(x, Array(W + delta), bias);
               });
  check_fresh(GraloraConfig{.r = 4, .target_modules = map_name}, 1);
  CHECK_THROWS_WITH(validate(GraloraConfig{.r = 5}), Contains("r is 5, which gralora_k (2) does not divide"));
}

TEST_CASE("AdaLoRA is a singular value decomposition with a penalty, and gives up triplets", "[adapters][gradcheck]") {
  check_method(AdaLoraConfig{.init_r = 3, .lora_alpha = 6, .init_lora_weights = false, .target_modules = map_name},
               [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
                 const Array delta = 6 / (3 + 1e-5) * times(t["lora_B"], Array(t["lora_A"] * t["lora_E"]));
                 return map_of(x, Array(W + delta), bias);
               });
  check_fresh(AdaLoraConfig{.target_modules = map_name}, 1);

  OneLinear base;
  PeftModel tuned{base};
  tuned.add_adapter(
      "a", AdaLoraConfig{.target_r = 1, .init_r = 4, .tinit = 1, .tfinal = 2, .total_step = 8, .init_lora_weights = false, .target_modules = map_name});
  std::vector<Parameter<double>> trained;
  tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<double>& p) { trained.push_back(p); });
  const Array A = array(trained[0].value()), B = array(trained[2].value()), I = xt::eye<double>(4);
  const auto norm = [](const Array& m) { return std::sqrt(xt::sum(m * m)()); };
  CHECK(tuned.penalty().value()[0] == Approx(0.25 * (norm(Array(times(A, transposed(A)) - I)) + norm(Array(times(transposed(B), B) - I)))));
  CHECK(gradcheck([&](const Variables&) { return tuned.penalty(); }, {}, {trained[0], trained[2]}));
  const Variable<double> x(normal({5, 12}, 3));
  std::vector<std::int64_t> left;
  for (std::int64_t step = 0; step < 8; step++) {
    Tape tape;
    tape.backward(tuned.model().map(x), normal({5, 8}, 4));
    tuned.after_step(step);
    left.push_back(std::ranges::count_if(trained[1].value().span(), [](double e) { return e != 0; }));
    for (const auto& p : trained) p.zero_grad();
  }
  CHECK(left.front() == 4);
  CHECK(left.back() == 1);
  CHECK(std::ranges::is_sorted(left, std::greater()));
  CHECK_THROWS_WITH(validate(AdaLoraConfig{.tinit = 5, .tfinal = 5, .total_step = 10}), Contains("tinit is 5 and tfinal 5 of total_step 10"));
}

TEST_CASE("GraLoRA may have an ordinary LoRA beside it", "[adapters][gradcheck]") {
  check_method(GraloraConfig{.r = 4, .hybrid_r = 3, .alpha = 14, .gralora_k = 2, .init_weights = false, .target_modules = map_name},
               [](const Array& x, const Array& W, const Array& bias, const Tensors& t) {
                 Array delta = times(t["gralora_B_general.weight"], t["gralora_A_general.weight"]);
                 for (std::size_t o = 0; o < 8; o++)
                   for (std::size_t i = 0; i < 12; i++)
                     for (std::size_t j = 0; j < 2; j++)
                       delta(o, i) += t["gralora_A"](i / 6, i % 6, o / 4 * 2 + j) * t["gralora_B"](o / 4, i / 6 * 2 + j, o % 4);
                 return Array(times(x, transposed(Array(W + 2.0 * delta))) + bias);
               });
  check_fresh(GraloraConfig{.r = 4, .hybrid_r = 2, .target_modules = map_name}, 1);
  CHECK_THROWS_WITH(validate(GraloraConfig{.hybrid_r = -1}), Contains("hybrid_r is -1"));
}
