// SPDX-License-Identifier: Apache-2.0
// LoRAs combined into one.
#include "peft/adapters/lora/weighted.hpp"

#include "adapters/one_linear.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {
// Two LoRAs of these ranks, and Σ w s B A.
struct Two {
  OneLinear base;
  PeftModel<OneLinear> tuned{base};
  Array sum = xt::zeros<double>({8, 12});
  Two(std::int64_t ra, std::int64_t rb, double wa = 0.7, double wb = -0.4) {
    tuned.add_adapter("a", LoraConfig{.r = ra, .lora_alpha = 6, .target_modules = {"map"}, .init_lora_weights = false}, 1);
    tuned.add_adapter("b", LoraConfig{.r = rb, .lora_alpha = 3, .target_modules = {"map"}, .use_rslora = true, .init_lora_weights = false}, 2);
    for (const auto& [name, weight] : {std::pair{"a", wa}, std::pair{"b", wb}}) {
      const auto* lora = tuned.model().map.adapters.get<Lora<double>>(tuned.entry(name).id);
      sum += weight * lora->scaling * times(array(lora->B.value()), array(lora->A.value()));
    }
  }
  Array change(const std::string& name) {
    const auto* lora = tuned.model().map.adapters.get<Lora<double>>(tuned.entry(name).id);
    return lora->scaling * times(array(lora->B.value()), array(lora->A.value()));
  }
};
double size_of(const Array& m) { return std::sqrt(xt::sum(m * m)()); }
}  // namespace

TEST_CASE("cat is exact, and so is svd of a rank that is large enough, whatever the scales", "[adapters]") {
  Two two(2, 3);
  add_weighted_adapter(two.tuned, {"a", "b"}, {0.7, -0.4}, "cat", {.combination_type = "cat"});
  CHECK_THAT(two.change("cat"), is_near<double>(two.sum, 100));
  CHECK(std::any_cast<LoraConfig>(two.tuned.entry("cat").config).r == 5);
  add_weighted_adapter(two.tuned, {"a", "b"}, {0.7, -0.4}, "svd", {.svd_rank = 5});
  CHECK_THAT(two.change("svd"), is_near<double>(two.sum, 1000));
  add_weighted_adapter(two.tuned, {"a", "b"}, {0.7, -0.4}, "low", {.svd_rank = 2});
  const double off = size_of(Array(two.change("low") - two.sum));
  CHECK(off < size_of(two.sum));
  CHECK(off > 1e-3);
  // No matrix of rank 2 is nearer: what is left is orthogonal to what was taken.
  CHECK(xt::sum(two.change("low") * (two.sum - two.change("low")))() == Approx(0).margin(1e-9));
}

TEST_CASE("linear adds A and B apart, with a sign on one side alone; one adapter is itself", "[adapters]") {
  Two two(3, 3);
  add_weighted_adapter(two.tuned, {"a", "b"}, {0.7, -0.4}, "linear", {.combination_type = "linear"});
  const auto* one = two.tuned.model().map.adapters.get<Lora<double>>(two.tuned.entry("a").id);
  const auto* other = two.tuned.model().map.adapters.get<Lora<double>>(two.tuned.entry("b").id);
  const double wa = std::sqrt(0.7 * one->scaling), wb = std::sqrt(0.4 * other->scaling);
  const Array A = wa * array(one->A.value()) - wb * array(other->A.value()), B = wa * array(one->B.value()) + wb * array(other->B.value());
  CHECK_THAT(two.change("linear"), is_near<double>(times(B, A), 100));
  add_weighted_adapter(two.tuned, {"a"}, {1}, "alone", {.combination_type = "ties", .density = 0.2});
  CHECK_THAT(two.change("alone"), is_near<double>(two.change("a"), 100));
  two.tuned.set_adapter("linear");
  CHECK(two.tuned.adapter_names().size() == 4);
}

TEST_CASE("pruning keeps the largest, TIES the majority's sign", "[adapters]") {
  std::vector<double> x = {1, -5, 2, 0.5, -3};
  ops::prune_by_magnitude<double>(x, 0.5);
  CHECK(x == std::vector<double>{0, -5, 0, 0, -3});
  const auto row = [](std::vector<double> v) { return Tensor<double>({3}, std::span<const double>(v)); };
  const std::vector<Tensor<double>> tasks = {row({1, -1, 0}), row({2, -2, 4}), row({-9, -3, -1})};
  const std::vector<double> weights = {1, 10, 100};
  CHECK(numbers(ops::mean_of_majority<double>(tasks, weights, false)) == std::vector<double>{-900, -107, 40});  // −6, −6, 3
  CHECK(numbers(ops::mean_of_majority<double>(tasks, weights, true)) == std::vector<double>{10.5, -107, 40});   // +1, −3, 0
  Random random(1);
  std::vector<double> ones(4000, 1.0);
  ops::prune_at_random<double>(ones, 0.25, random);
  CHECK(std::ranges::all_of(ones, [](double v) { return v == 0 || v == 4; }));
  CHECK(std::accumulate(ones.begin(), ones.end(), 0.0) / 4000 == Approx(1).margin(0.15));
}

TEST_CASE("DARE drops entries by chance; with nothing dropped it is the combination that it is named after", "[adapters]") {
  Two two(3, 3);
  const auto combined = [&](const std::string& type, double density, std::uint64_t seed = 0) {
    add_weighted_adapter(two.tuned, {"a", "b"}, {0.7, -0.4}, "c", {.combination_type = type, .density = density, .seed = seed});
    const Array change = two.change("c");
    two.tuned.delete_adapter("c");
    return change;
  };
  CHECK_THAT(combined("dare_linear", 1), is_near<double>(combined("linear", 1), 100));
  CHECK_THAT(combined("dare_ties", 1), is_near<double>(combined("ties", 1), 100));
  CHECK_THAT(combined("dare_linear_svd", 1), is_near<double>(combined("svd", 1), 1000));
  CHECK_THAT(combined("dare_ties_svd", 1), is_near<double>(combined("ties_svd", 1), 1000));
  for (const char* type : {"dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd"}) {
    CAPTURE(type);
    CHECK_FALSE(xt::all(xt::equal(combined(type, 0.5, 1), combined(type, 0.5, 2))));
    CHECK(xt::all(xt::equal(combined(type, 0.5, 1), combined(type, 0.5, 1))));
  }
}

TEST_CASE("what cannot be combined is refused", "[adapters]") {
  Two two(2, 3);
  const auto refused = [&](const std::vector<std::string>& names, const WeightedAdapterOptions& options, const std::string& text) {
    CHECK_THROWS_WITH(add_weighted_adapter(two.tuned, names, std::vector<double>(names.size(), 1.0), "c", options), Contains(text));
    CHECK(two.tuned.adapter_names().size() == 2);
  };
  refused({"a", "b"}, {.combination_type = "linear"}, "has ranks 2 and 3; linear wants equal ones");
  refused({"a", "b"}, {.combination_type = "average"}, "combination_type \"average\"");
  refused({"a", "b"}, {.density = 0}, "density is 0");
  refused({"a", "b"}, {.majority_sign_method = "vote"}, "majority_sign_method \"vote\"");
  refused({"a", "x"}, {}, "no adapter is named \"x\"");
  CHECK_THROWS_WITH(add_weighted_adapter(two.tuned, {"a"}, {}, "c"), Contains("1 adapters with 0 weights"));
  OneLinear base;
  PeftModel other{base};
  other.add_adapter("dora", LoraConfig{.r = 2, .target_modules = {"map"}, .use_dora = true});
  CHECK_THROWS_WITH(add_weighted_adapter(other, {"dora"}, {1}, "c"), Contains("\"dora\" is more than plain LoRA"));
}
