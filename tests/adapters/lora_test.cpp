// SPDX-License-Identifier: Apache-2.0
// LoRA on one site: its formula, its gradient, how it begins, and what its options mean.
#include "peft/adapters/lora/lora.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>
#include <xtensor/xmath.hpp>
#include <xtensor/xview.hpp>

#include "support/gradients.hpp"
#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

template <class T>
Linear<T> frozen_linear(std::int64_t in, std::int64_t out, bool bias, std::string path = "model.layers.0.self_attn.q_proj") {
  return Linear<T>(Parameter<T>(random_normal<T>({out, in}, 11)), bias ? Parameter<T>(random_normal<T>({out}, 12)) : Parameter<T>(), std::move(path));
}
template <class T>
AttachContext at(const Linear<T>& site, std::uint64_t seed = 5, int id = 0) {
  return {.id = id, .path = site.path, .random = Random(seed)};
}
template <class T>
Lora<T> lora_for(const LoraConfig& config, const Linear<T>& site, std::uint64_t seed = 5) {
  return make_lora(config, site, site.path, Random(seed));
}
template <class T>
std::vector<Parameter<T>> adapter_parameters(const Linear<T>& site, int id = 0) {
  std::vector<Parameter<T>> all;
  site.adapters.for_each_parameter(id, [&](const std::string&, Parameter<T>& p) { all.push_back(p); });
  return all;
}
// x Wᵀ
Array times_transposed(const Array& x, const Array& w) {
  return xt::sum(xt::view(x, xt::all(), xt::newaxis(), xt::all()) * xt::view(w, xt::newaxis(), xt::all(), xt::all()), {2});
}
double mean(const Array& values) { return xt::mean(values)(); }
double variance(const Array& values) { return xt::mean(values * values)() - mean(values) * mean(values); }
double largest(const Array& values) { return xt::amax(xt::abs(values))(); }

}  // namespace

TEMPLATE_TEST_CASE("LoRA is y = W x + b + s · B A x", "[adapters]", float, double) {
  using T = TestType;
  for (const bool bias : {false, true})
    for (const auto& [in, out, r] : {std::array{7, 5, 3}, std::array{1, 9, 1}, std::array{33, 1, 2}, std::array{40, 70, 8}}) {
      CAPTURE(bias, in, out, r);
      Linear<T> site = frozen_linear<T>(in, out, bias);
      const LoraConfig config{.r = r, .lora_alpha = 5, .target_modules = {"q_proj"}, .init_lora_weights = false};
      REQUIRE(attach_adapter(config, site, at(site)));
      const auto* lora = site.adapters.template get<Lora<T>>(0);
      REQUIRE(lora);
      const Variable<T> x(random_normal<T>({6, in}, 3));
      Array expected = times_transposed(array(x.value()), array(site.weight.value())) +
                       5.0 / r * times_transposed(times_transposed(array(x.value()), array(lora->A.value())), array(lora->B.value()));
      if (bias) expected += array(site.bias.value());
      CHECK_THAT(array(site(x).value()), is_near<T>(expected, 4));
    }
}

TEST_CASE("dropout acts on what A sees, never on the base", "[adapters]") {
  Linear<double> site = frozen_linear<double>(9, 6, true);
  const LoraConfig config{.r = 4, .target_modules = {"q_proj"}, .lora_dropout = 0.4, .init_lora_weights = false};
  REQUIRE(attach_adapter(config, site, at(site)));
  const auto* lora = site.adapters.get<Lora<double>>(0);
  const Variable<double> x(normal({5, 9}, 3));
  Pass<double> pass;
  pass.sequences = Sequences::of_lengths(std::vector<std::int64_t>{3, 2});
  pass.seed = 8, pass.forward = 2;
  const Tensor<double> quiet = site(x).value();
  {
    const PassScope<double> scope(pass);  // not training: nothing is dropped
    CHECK(same_bits(site(x).value(), quiet));
  }
  pass.training = true;
  const PassScope<double> scope(pass);
  const Dropping drop = pass.dropping(0.4, name_hash(site.path));
  Array dropped = array(x.value());
  std::size_t gone = 0;
  for (std::size_t i = 0; i < 5; i++)
    for (std::size_t j = 0; j < 9; j++) dropped(i, j) *= drop.key.factor<double>((*drop.rows)[i], j), gone += dropped(i, j) == 0;
  CHECK(gone > 5);
  CHECK(gone < 30);
  const Array expected = times_transposed(array(x.value()), array(site.weight.value())) + array(site.bias.value()) +
                         2.0 * times_transposed(times_transposed(dropped, array(lora->A.value())), array(lora->B.value()));
  CHECK_THAT(array(site(x).value()), is_near<double>(expected, 4));
}

TEST_CASE("LoRA gradient", "[adapters][gradcheck]") {
  Pass<double> pass;
  pass.sequences = Sequences::of_lengths(std::vector<std::int64_t>{3, 2});
  pass.training = true;
  const PassScope<double> scope(pass);  // the mask is a function of the pass: every forward draws the same
  for (const char* bias : {"none", "all", "lora_only"})
    for (const double p : {0.0, 0.4})
      for (const bool base_trains : {false, true}) {
        CAPTURE(bias, p, base_trains);
        Linear<double> site = frozen_linear<double>(6, 4, true);
        const LoraConfig config{.r = 3, .lora_alpha = 5, .target_modules = {"q_proj"}, .lora_dropout = p, .bias = bias, .init_lora_weights = false};
        REQUIRE(attach_adapter(config, site, at(site)));
        auto parameters = adapter_parameters(site);
        REQUIRE(parameters.size() == (bias == std::string("none") ? 2 : 3));
        for (const auto& parameter : parameters) CHECK(parameter.requires_grad());
        site.weight.set_requires_grad(base_trains);
        if (base_trains) parameters.push_back(site.weight);
        CHECK(gradcheck([&](const Variables& v) { return site(v[0]); }, {normal({5, 6}, 3)}, parameters));
        const Variable<double> data(normal({5, 6}, 3));
        CHECK(gradcheck([&](const Variables&) { return site(data); }, {}, parameters));
      }
}

TEST_CASE("two adapters on one site add up, and each gets its own gradient", "[adapters][gradcheck]") {
  Linear<double> site = frozen_linear<double>(6, 4, true);
  const Variable<double> x(normal({5, 6}, 3));
  const Tensor<double> base = site(x).value().clone();
  Array expected = array(base);
  std::vector<Parameter<double>> parameters;
  for (int id : {0, 1}) {
    LoraConfig config{.r = 2 + id, .lora_alpha = 3, .target_modules = {"q_proj"}, .init_lora_weights = false};
    REQUIRE(attach_adapter(config, site, at(site, std::uint64_t(20 + id), id)));
    const auto* lora = site.adapters.get<Lora<double>>(id);
    expected += lora->scaling * times_transposed(times_transposed(array(x.value()), array(lora->A.value())), array(lora->B.value()));
    parameters.push_back(lora->A), parameters.push_back(lora->B);
  }
  CHECK_THAT(array(site(x).value()), is_near<double>(expected, 4));
  CHECK(gradcheck([&](const Variables& v) { return site(v[0]); }, {normal({5, 6}, 3)}, parameters));
}

TEMPLATE_TEST_CASE("a fresh adapter changes no bit", "[adapters]", float, double) {
  using T = TestType;
  for (const char* init : {"true", "gaussian"}) {
    Linear<T> site = frozen_linear<T>(20, 30, true);
    const Variable<T> x(random_normal<T>({6, 20}, 3));
    const Tensor<T> before = site(x).value();
    REQUIRE(attach_adapter(LoraConfig{.target_modules = {"q_proj"}, .init_lora_weights = init}, site, at(site)));
    CHECK(same_bits(site(x).value(), before));
  }
}

TEST_CASE("the ways to begin have the statistics that they promise", "[adapters]") {
  const std::int64_t in = 256, out = 300, r = 64;
  const Linear<double> site = frozen_linear<double>(in, out, false);
  const auto made = [&](InitLoraWeights init) { return lora_for<double>({.r = r, .target_modules = {"q_proj"}, .init_lora_weights = init}, site); };
  const auto zero = [](const Tensor<double>& t) { return std::ranges::all_of(t.span(), [](double value) { return value == 0; }); };
  // The mean of n draws is within 5 standard errors, their variance within 5 · √(kurtosis − 1)/√n ≤ 7/√n of itself.
  const auto check_draws = [](const Array& draws, double deviation) {
    const double n = double(draws.size());
    CHECK(std::abs(mean(draws)) < 5 * deviation / std::sqrt(n));
    CHECK(variance(draws) == Approx(deviation * deviation).epsilon(7.1 / std::sqrt(n)));
  };
  {
    const auto lora = made(true);
    check_draws(array(lora.A.value()), 1 / std::sqrt(3.0 * double(in)));
    CHECK(largest(array(lora.A.value())) <= 1 / std::sqrt(double(in)));
    CHECK(largest(array(lora.A.value())) > 0.99 / std::sqrt(double(in)));
    CHECK(zero(lora.B.value()));
  }
  {
    const auto lora = made("gaussian");
    check_draws(array(lora.A.value()), 1 / double(r));
    CHECK(largest(array(lora.A.value())) > 3 / double(r));  // no uniform goes so far
    CHECK(zero(lora.B.value()));
  }
  {
    const auto lora = made(false);
    check_draws(array(lora.A.value()), 1 / std::sqrt(3.0 * double(in)));
    check_draws(array(lora.B.value()), 1 / std::sqrt(3.0 * double(r)));
    CHECK(largest(array(lora.B.value())) <= 1 / std::sqrt(double(r)));
  }
  {
    const auto lora = made("orthogonal");
    const Array A = array(lora.A.value()), B = array(lora.B.value());
    for (const Array& side : {A, B}) CHECK(variance(side) == Approx(0.01 / 2).epsilon(7.1 / std::sqrt(double(side.size() / 2))));  // of r / 2 rows each
    CHECK(largest(times_transposed(B, Array(xt::transpose(A)))) < 1e-14);
    CHECK_FALSE(zero(lora.B.value()));
    CHECK_THROWS_WITH(lora_for<double>({.r = 3, .init_lora_weights = "orthogonal"}, site),
                      Catch::Contains("with r = 3 at model.layers.0.self_attn.q_proj; an even"));
  }
  CHECK_THROWS_AS(InitLoraWeights("mica"), NotSupported);
  CHECK_THROWS_WITH(InitLoraWeights("gausian"),
                    "[LoraConfig] init_lora_weights \"gausian\" is not known; did you mean \"gaussian\"? known here: true, false, gaussian, orthogonal, pissa, "
                    "olora, loftq_nf4, eva");
}

TEST_CASE("an adapter's numbers follow from seed and path", "[adapters]") {
  const LoraConfig config{.target_modules = {"q_proj", "v_proj"}, .init_lora_weights = false};
  const auto numbers_at = [&](const std::string& path, std::uint64_t seed) {
    Linear<float> site = frozen_linear<float>(8, 6, false, path);
    REQUIRE(attach_adapter(config, site, at(site, seed)));
    const auto all = adapter_parameters(site);
    std::vector<float> found = numbers(all[0].value());
    const std::vector<float> b = numbers(all[1].value());
    found.insert(found.end(), b.begin(), b.end());
    return found;
  };
  const auto first = numbers_at("layers.0.q_proj", 1);
  CHECK(numbers_at("layers.0.q_proj", 1) == first);
  CHECK(numbers_at("layers.0.q_proj", 2) != first);
  CHECK(numbers_at("layers.1.q_proj", 1) != first);
  CHECK(numbers_at("layers.0.v_proj", 1) != first);
}

TEST_CASE("scaling is alpha / r, or alpha / √r, with the patterns applied first", "[adapters]") {
  LoraConfig config{.r = 16, .lora_alpha = 8};
  CHECK(lora_scale(config, "layers.0.q_proj").scaling == 0.5);
  config.use_rslora = true;
  CHECK(lora_scale(config, "layers.0.q_proj").scaling == 2);
  config.use_rslora = false;
  config.rank_pattern = {{"q_proj", 4}, {"layers\\.0\\.q_proj", 2}, {"layers\\.[1-3]\\.v_proj", 32}};
  config.alpha_pattern = {{"v_proj", 64}};
  const auto check = [&](const char* path, std::int64_t r, double alpha) {
    CAPTURE(path);
    const LoraScale scale = lora_scale(config, path);
    CHECK(scale.r == r);
    CHECK(scale.alpha == alpha);
    CHECK(scale.scaling == alpha / double(r));
  };
  check("layers.0.q_proj", 4, 8);  // the first in order wins, not the longest
  check("q_proj", 4, 8);
  check("layers.2.v_proj", 32, 64);
  check("layers.4.v_proj", 16, 64);
  check("layers.0.xq_proj", 16, 8);  // a pattern begins at a dot
  check("layers.0.q_proj.inner", 16, 8);

  Linear<float> site = frozen_linear<float>(40, 50, false, "layers.2.v_proj");
  const Lora<float> lora = lora_for(config, site);
  CHECK(lora.A.shape() == Shape{32, 40});
  CHECK(lora.B.shape() == Shape{50, 32});
  CHECK(lora.scaling == 2);

  config.alpha_pattern = {{"v_proj(", 64}};
  CHECK_THROWS_WITH(lora_scale(config, "v_proj"), Catch::StartsWith("[alpha_pattern] \"(.*\\.)?(v_proj()\" is not a regular expression"));
  config.rank_pattern = {{"[", 64}};
  CHECK_THROWS_WITH(lora_scale(config, "v_proj"), Catch::StartsWith("[rank_pattern] "));
}

TEST_CASE("bias says which biases of the base train", "[adapters]") {
  struct Expected {
    const char* bias;
    std::size_t on_target, elsewhere, on_norm;
  };
  for (const Expected& e : {Expected{"none", 2, 0, 0}, Expected{"lora_only", 3, 0, 0}, Expected{"all", 3, 1, 1}}) {
    CAPTURE(e.bias);
    const LoraConfig config{.target_modules = {"q_proj"}, .bias = e.bias};
    Linear<float> target = frozen_linear<float>(6, 4, true), other = frozen_linear<float>(6, 4, true, "o_proj"), bare = frozen_linear<float>(6, 4, false);
    Norm<float> norm;
    norm.kind = NormKind::layer, norm.weight = Parameter<float>(Tensor<float>({4}, 1.f)), norm.bias = Parameter<float>(random_normal<float>({4})),
    norm.path = "norm";
    AttachContext context = at(target);
    CHECK(attach_adapter(config, target, context));
    CHECK(attach_adapter(config, bare, context));
    context.path = "o_proj";
    CHECK_FALSE(attach_adapter(config, other, context));
    CHECK_FALSE(attach_adapter(config, norm, context));
    CHECK(adapter_parameters(target).size() == e.on_target);
    CHECK(adapter_parameters(bare).size() == 2);  // there is no bias to train
    CHECK(adapter_parameters(other).size() == e.elsewhere);
    std::size_t norms = 0;
    norm.adapters.for_each_parameter(0, [&](const std::string& name, Parameter<float>& p) {
      norms++;
      CHECK(name == "bias");
      CHECK(same_bits(p.value(), norm.bias.value()));
      CHECK(p.identity() != norm.bias.identity());
    });
    CHECK(norms == e.on_norm);

    // What trains is a copy: the base's own bias stays, and the output follows the copy.
    if (e.on_target == 2) continue;
    std::vector<std::string> names;
    target.adapters.for_each_parameter(0, [&](const std::string& name, Parameter<float>&) { names.push_back(name); });
    CHECK(names == std::vector<std::string>{"lora_A.weight", "lora_B.weight", "base_layer.bias"});
    const Variable<float> x(random_normal<float>({3, 6}));
    const Tensor<float> before = target(x).value().clone(), kept = target.bias.value().clone();
    const auto own = adapter_parameters(target)[2];
    own.value().fill(0);
    own.touch();
    CHECK(same_bits(target.bias.value(), kept));
    CHECK_THAT(array(target(x).value()) + array(kept), is_near<float>(array(before)));
  }
}

TEST_CASE("merging adds s · B A to a dense copy", "[adapters]") {
  const Linear<double> site = frozen_linear<double>(7, 5, true);
  const Lora<double> lora = lora_for<double>({.r = 3, .lora_alpha = 4, .init_lora_weights = false}, site);
  Linear<double> fused = site.dense();
  const std::uint64_t version = fused.weight.version();
  lora.merge_into(fused, site);
  CHECK(fused.weight.version() != version);
  const Array ba = times_transposed(array(lora.B.value()), xt::transpose(array(lora.A.value())));
  CHECK_THAT(array(fused.weight.value()), is_near<double>(array(site.weight.value()) + 4.0 / 3 * ba));
  CHECK(same_bits(fused.bias.value(), site.bias.value()));
}

TEST_CASE("a config that says something impossible is refused with field, value and what is allowed", "[adapters]") {
  validate(LoraConfig{});
  const auto refused = [](const LoraConfig& config, const std::string& text) { CHECK_THROWS_WITH(validate(config), "[LoraConfig] " + text); };
  refused({.r = 0}, "r is 0; a rank of at least 1 is wanted");
  refused({.r = -3}, "r is -3; a rank of at least 1 is wanted");
  refused({.r = 70000}, "r is 70000; more than 65,536 is no low rank");
  refused({.rank_pattern = {{"q_proj", 0}}}, "rank_pattern[\"q_proj\"] is 0; a rank of at least 1 is wanted");
  refused({.lora_alpha = INFINITY}, "lora_alpha is not finite");
  refused({.alpha_pattern = {{"q_proj", NAN}}}, "alpha_pattern[\"q_proj\"] is not finite");
  refused({.lora_dropout = 1}, "lora_dropout is 1.000000; allowed is 0 ≤ p < 1");
  refused({.lora_dropout = NAN}, "lora_dropout is nan; allowed is 0 ≤ p < 1");
  refused({.bias = "lora-only"}, "bias \"lora-only\"; did you mean \"lora_only\"? allowed are: none, all, lora_only");
  refused({.target_modules = ".*q_proj", .layers_to_transform = {1}},
          "layers_to_transform goes with a list of target_modules, not with the pattern \".*q_proj\"");
  refused({.target_modules = {"q_proj"}, .layers_pattern = {"layers"}}, "layers_pattern without layers_to_transform");
}

TEST_CASE("targets that are not named are the architecture's, or asked for", "[adapters]") {
  CHECK(resolved(LoraConfig{}, "llama").target_modules == TargetModules{"q_proj", "v_proj"});
  CHECK(resolved(LoraConfig{}, "gpt2").target_modules == TargetModules{"c_attn"});
  CHECK(resolved(LoraConfig{.target_modules = {"o_proj"}}, "llama").target_modules == TargetModules{"o_proj"});
  CHECK_THROWS_WITH(resolved(LoraConfig{}, "mamba"),
                    "[lora.attach] target_modules is not set, and there is no default for model_type \"mamba\"; name the modules, or say \"all-linear\"");
}

TEST_CASE("on an embedding, LoRA adds columns of A through B", "[adapters]") {
  Embedding<double> embedding;
  embedding.weight = Parameter<double>(normal({9, 4})), embedding.path = "model.embed_tokens", embedding.scale = 3;
  const AttachContext context{.id = 0, .path = embedding.path, .random = Random(1)};
  CHECK_FALSE(attach_adapter(LoraConfig{.target_modules = "all-linear"}, embedding, context));
  CHECK_FALSE(attach_adapter(LoraConfig{.target_modules = {"q_proj"}}, embedding, context));
  CHECK_THROWS_AS(attach_adapter(LoraConfig{.target_modules = {"embed_tokens"}, .init_lora_weights = "orthogonal"}, embedding, context), NotSupported);
  REQUIRE(attach_adapter(LoraConfig{.r = 2, .lora_alpha = 4, .target_modules = {"embed_tokens"}, .init_lora_weights = false}, embedding, context));
  const auto* lora = embedding.adapters.get<LoraEmbedding<double>>(0);
  REQUIRE(lora);
  const std::vector<std::int32_t> ids = {7, 0, 7};
  const Array delta = 2.0 * times_transposed(array(lora->B.value()), Array(xt::transpose(array(lora->A.value()))));  // (embedding_dim, tokens)
  Array expected = xt::zeros<double>({3, 4});
  for (std::size_t n = 0; n < 3; n++)
    for (std::size_t c = 0; c < 4; c++) expected(n, c) = 3 * (embedding.weight.value()(ids[n], std::int64_t(c)) + delta(c, std::size_t(ids[n])));
  CHECK_THAT(array(embedding(ids).value()), is_near<double>(expected, 50));
  embedding.adapters.merge(embedding, {0});
  CHECK_THAT(array(embedding(ids).value()), is_near<double>(expected, 50));
}

TEST_CASE("on an embedding, DoRA keeps the length of each feature apart", "[adapters]") {
  Embedding<double> embedding;
  embedding.weight = Parameter<double>(normal({9, 4})), embedding.path = "model.embed_tokens", embedding.scale = 3;
  const AttachContext context{.id = 0, .path = embedding.path, .random = Random(1)};
  const LoraConfig config{.r = 2, .lora_alpha = 4, .target_modules = {"embed_tokens"}, .init_lora_weights = false, .use_dora = true};
  REQUIRE(attach_adapter(config, embedding, context));
  const auto* dora = embedding.adapters.get<DoraEmbedding<double>>(0);
  REQUIRE(dora);
  const Array turned =  // (embedding_dim, tokens)
      Array(xt::transpose(array(embedding.weight.value()))) +
      2.0 * times_transposed(array(dora->lora.B.value()), Array(xt::transpose(array(dora->lora.A.value()))));
  const Array lengths = xt::sqrt(xt::sum(turned * turned, {1}));
  CHECK_THAT(array(dora->magnitude.value()), is_near<double>(lengths, 50));  // began as the lengths
  for (double& m : dora->magnitude.value().span()) m *= 1.3;
  const std::vector<std::int32_t> ids = {7, 0, 7};
  const auto expected = [&](const Array& directions, const Array& divisors) {
    Array y = xt::zeros<double>({3, 4});
    for (std::size_t n = 0; n < 3; n++)
      for (std::size_t c = 0; c < 4; c++) y(n, c) = 3 * directions(c, std::size_t(ids[n])) * dora->magnitude.value()[std::int64_t(c)] / divisors(c);
    return y;
  };
  CHECK_THAT(array(embedding(ids).value()), is_near<double>(expected(turned, lengths), 50));
  embedding.adapters.merge(embedding, {0});
  CHECK_THAT(array(embedding(ids).value()), is_near<double>(expected(turned, lengths), 50));
  embedding.adapters.unmerge();
  // The lengths are those of the factors as they are now.
  dora->lora.A.assign(normal({2, 9}, 5));
  const Array other = Array(xt::transpose(array(embedding.weight.value()))) +
                      2.0 * times_transposed(array(dora->lora.B.value()), Array(xt::transpose(array(dora->lora.A.value()))));
  CHECK_THAT(array(embedding(ids).value()), is_near<double>(expected(other, Array(xt::sqrt(xt::sum(other * other, {1})))), 50));
  CHECK(gradcheck([&](const Variables& v) { return scale_columns(embedding(ids), v[0]); }, {normal({4}, 6)}, {dora->magnitude}));
}
