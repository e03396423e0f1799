// SPDX-License-Identifier: Apache-2.0
// The slot: chains of the three forms of adapters, who is active where, merged copies.
#include "peft/nn/adapter_slot.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "peft/adapters/lora/lora.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

using Double = Variable<double>;
using Map = Linear<double>;

Double scaled_columns(const Double& x, const Tensor<double>& l) {
  Tensor<double> rows({x.rows(), x.cols()});
  for (std::int64_t i = 0; i < x.rows(); i++) std::copy_n(l.data(), l.size(), rows.view().row(i));
  return multiply(x, Double(std::move(rows)));
}
// y ∘ l, as IA3 on attention
struct ScalesOutput {
  Parameter<double> l;
  Double operator()(const Map&, const Double&, Double y) const { return scaled_columns(y, l.value()); }
  void merge_into(Map& fused, const Map&) const {
    for (std::int64_t i = 0; i < l.size(); i++) {
      for (std::int64_t j = 0; j < fused.in_features(); j++) fused.weight.value()(i, j) *= l.value()[i];
      fused.bias.value()[i] *= l.value()[i];
    }
  }
  static void describe(auto& self, auto&& visit) { visit("l", self.l); }
};
// W (x ∘ l), as IA3 on feed-forward
struct ScalesInput {
  Parameter<double> l;
  Double operator()(const Map&, const Double& x, Next<Map> next) const { return next(scaled_columns(x, l.value())); }
  void merge_into(Map& fused, const Map&) const {
    for (std::int64_t i = 0; i < fused.out_features(); i++)
      for (std::int64_t j = 0; j < l.size(); j++) fused.weight.value()(i, j) *= l.value()[j];
  }
  static void describe(auto& self, auto&& visit) { visit("l", self.l); }
};
struct LendsTensors {
  Map own;
  const Map& stand_in(const Map&) const { return own; }
  static void describe(auto& self, auto&& visit) { visit("own", self.own); }
};
struct Watches {
  bool* sole;
  Double operator()(const Map&, const Double&, Double y) const {
    Tensor<double> value = std::move(y).release();
    *sole = value.sole_holder();
    return Double(std::move(value));
  }
  static void describe(auto&, auto&&) {}
};
struct Squares {  // no change of a weight
  Double operator()(const Map&, const Double&, Double y) const { return multiply(y, y); }
  static void describe(auto&, auto&&) {}
};

Map linear_site(std::uint64_t seed = 1) { return Map(frozen({5, 6}, seed), frozen({5}, seed + 1), "q_proj"); }
Lora<double> lora(std::uint64_t seed) { return {trained({2, 6}, seed), trained({5, 2}, seed + 1), 0.7}; }
constexpr int id_a = 3, id_b = 1, scales_output = 4, scales_input = 7, lends = 9;  // numbers need not be in order
void attach_all(Map& site) {
  site.adapters.attach(id_a, lora(20));
  site.adapters.attach(id_b, lora(30));
  site.adapters.attach(scales_output, ScalesOutput{frozen({5}, 40)});
  site.adapters.attach(scales_input, ScalesInput{frozen({6}, 50)});
  site.adapters.attach(lends, LendsTensors{linear_site(60)});
}
Pass<double> with_lists(std::vector<Active> lists, std::vector<Sequence> sequences = {}) {
  Pass<double> pass;
  pass.lists = std::make_shared<const std::vector<Active>>(std::move(lists));
  if (!sequences.empty())
    pass.sequences = std::make_shared<const Sequences>(std::vector<Sequence, PoolAllocator<Sequence>>(sequences.begin(), sequences.end()));
  return pass;
}
Tensor<double> forward(const Map& site, const Double& x, const Active& active) {
  const Pass<double> pass = with_lists({active});
  const PassScope<double> scope(pass);
  return site(x).value();
}

// A site that counts its own products.
struct Counted {
  using Scalar_ = double;
  using Input = Double;
  using Output = Double;
  std::string path{};
  AdapterSlot<Counted> adapters{};
  mutable int forwards = 0;
  Double forward(const Double& x) const {
    forwards++;
    return scale(x, 2.0);
  }
  Double operator()(const Double& x) const { return adapters(*this, x); }
  Counted dense() const { return *this; }
  static Input rows(const Input& x, std::int64_t begin, std::int64_t end) { return peft::rows(x, begin, end); }
  static void describe(auto&, auto&&) {}
};
struct AddsInput {
  Double operator()(const Counted&, const Double& x, Double y) const { return add(std::move(y), x); }
  static void describe(auto&, auto&&) {}
};
struct Passes {
  Double operator()(const Counted&, const Double& x, Next<Counted> next) const { return next(x); }
  static void describe(auto&, auto&&) {}
};
Array column(std::vector<double> values) {
  Array c = Array::from_shape({values.size(), 1});
  std::ranges::copy(values, c.begin());
  return c;
}
std::vector<Sequence> three_sequences() {  // rows 0-1 with the first list, 2-4 with the second, 5 with the third
  std::vector<Sequence> all(3);
  all[0].end = 2, all[1].begin = 2, all[1].end = 5, all[2].begin = 5, all[2].end = 6;
  all[1].active = 1, all[2].active = 2;
  return all;
}

}  // namespace

TEST_CASE("an empty slot is one pointer, and a copied module starts with one", "[adapters]") {
  CHECK(sizeof(AdapterSlot<Map>) == sizeof(void*));
  Map site = linear_site();
  CHECK(site.adapters.empty());
  attach_all(site);
  CHECK_FALSE(site.adapters.empty());
  Map copy = site, assigned = linear_site(9);
  assigned.adapters.attach(id_a, lora(20));
  assigned = site;
  CHECK(copy.adapters.empty());
  CHECK(assigned.adapters.empty());
  CHECK(copy.weight.identity() == site.weight.identity());
  const Map moved = std::move(site);
  CHECK(moved.adapters.has(lends));
}

TEST_CASE("a chain of any three adapters is what merging them in order gives", "[adapters]") {
  Map site = linear_site();
  const Double x(normal({4, 6}, 70));
  const Tensor<double> before = site(x).value(), weight = site.weight.value().clone(), bias = site.bias.value().clone();
  attach_all(site);
  const std::vector<int> all = {id_a, id_b, scales_output, scales_input, lends};
  int triples = 0;
  for (int first : all)
    for (int second : all)
      for (int third : all) {
        if (first == second || second == third || first == third) continue;
        const Active active = {first, second, third};
        CAPTURE(first, second, third);
        const Tensor<double> chained = forward(site, x, active);
        site.adapters.merge(site, active);
        REQUIRE(site.adapters.merged());
        const Tensor<double> merged = forward(site, x, active);
        CHECK_FALSE(same_bits(merged, chained));  // so that it is another computation, and not the chain again
        CHECK_THAT(array(merged), is_near<double>(array(chained), 4));
        CHECK(same_bits(forward(site, x, {}), before));                                       // none active while merged
        CHECK_THAT(array(forward(site, x, {first})), !is_near<double>(array(chained), 1e8));  // another list does not take the copy
        site.adapters.unmerge();
        CHECK(same_bits(forward(site, x, active), chained));
        triples++;
      }
  CHECK(triples == 60);
  CHECK(same_bits(site.weight.value(), weight));
  CHECK(same_bits(site.bias.value(), bias));
  for (int id : all) site.adapters.detach(id);
  CHECK(site.adapters.empty());
  CHECK(same_bits(site(x).value(), before));
}

TEST_CASE("the order of a list is the order of the chain, the first innermost", "[adapters]") {
  Map site = linear_site();
  attach_all(site);
  const Double x(normal({4, 6}, 70));
  const Tensor<double> l = site.adapters.get<ScalesOutput>(scales_output)->l.value();
  const Array base = array(forward(site, x, {})), with_a = array(forward(site, x, {id_a}));
  CHECK_THAT(array(forward(site, x, {id_a, scales_output})), is_near<double>(with_a * array(l), 4));
  CHECK_THAT(array(forward(site, x, {scales_output, id_a})), is_near<double>(base * array(l) + with_a - base, 8));
}

TEST_CASE("every adapter of a chain gets its gradient", "[adapters][gradcheck]") {
  for (const Active& active : {Active{id_a, id_b, scales_output}, Active{scales_input, id_a, scales_output, id_b}, Active{lends, scales_input, id_b, id_a}}) {
    Map site = linear_site();
    attach_all(site);
    const auto& first = *site.adapters.get<Lora<double>>(id_a);
    const auto& second = *site.adapters.get<Lora<double>>(id_b);
    const Pass<double> pass = with_lists({active});
    const PassScope<double> scope(pass);
    CHECK(gradcheck([&](const Variables& v) { return site(v[0]); }, {normal({4, 6}, 70)}, {first.A, first.B, second.A, second.B}));
  }
}

TEST_CASE("every sequence of a batch gets its own adapters, to the bit", "[adapters]") {
  Map site = linear_site();
  attach_all(site);
  const Double x(normal({6, 6}, 70));
  // Lists that share the base's product, and lists that do not.
  for (const auto& lists : {std::vector<Active>{{id_a}, {}, {id_b, id_a}}, std::vector<Active>{{id_a, scales_output}, {scales_output, id_b}, {id_b}},
                            std::vector<Active>{{scales_input, id_a}, {lends, id_b}, {}}, std::vector<Active>{{}, {}, {scales_input}}}) {
    const Pass<double> pass = with_lists(lists, three_sequences());
    const PassScope<double> scope(pass);
    const Tensor<double> together = site(x).value();
    for (const Sequence& s : pass.sequences->all()) {
      const Tensor<double> alone = forward(site, rows(x, s.begin, s.end), lists[std::size_t(s.active)]);
      CAPTURE(s.begin);
      CHECK(same_bits(together.row_range(s.begin, s.end), alone));
    }
  }
}

TEST_CASE("gradients through a batch of different adapters", "[adapters][gradcheck]") {
  Map site = linear_site();
  attach_all(site);
  const auto& first = *site.adapters.get<Lora<double>>(id_a);
  const auto& second = *site.adapters.get<Lora<double>>(id_b);
  for (const auto& lists : {std::vector<Active>{{id_a}, {}, {id_b, id_a}}, std::vector<Active>{{scales_input, id_a}, {lends, id_b}, {}}}) {
    const Pass<double> pass = with_lists(lists, three_sequences());
    const PassScope<double> scope(pass);
    CHECK(gradcheck([&](const Variables& v) { return site(v[0]); }, {normal({6, 6}, 70)}, {first.A, first.B, second.A, second.B}));
  }
}

TEST_CASE("where adapters only change outputs, a batch takes one product of the base", "[adapters]") {
  Counted site;
  site.adapters.attach(1, AddsInput{});
  site.adapters.attach(2, AddsInput{});
  site.adapters.attach(3, Passes{});
  const Double x(normal({6, 4}, 70));
  {
    const Pass<double> pass = with_lists({{1}, {}, {2, 1}}, three_sequences());
    const PassScope<double> scope(pass);
    const Array y = array(site(x).value()), in = array(x.value());
    CHECK(site.forwards == 1);
    CHECK_THAT(y, is_near<double>(in * column({3, 3, 2, 2, 2, 4})));
  }
  const Pass<double> pass = with_lists({{1}, {}, {3}}, three_sequences());
  const PassScope<double> scope(pass);
  CHECK_THAT(array(site(x).value()), is_near<double>(array(x.value()) * column({3, 3, 2, 2, 2, 2})));
  CHECK(site.forwards == 4);
}

TEST_CASE("y comes to an adapter with one holder", "[adapters]") {
  Map site = linear_site();
  bool sole[2] = {};
  site.adapters.attach(0, Watches{&sole[0]});
  site.adapters.attach(1, Watches{&sole[1]});
  site(Double(normal({4, 6}, 70)));
  CHECK(sole[0]);
  CHECK(sole[1]);
}

TEST_CASE("without a pass everything attached is active; with one, its list", "[adapters]") {
  Map site = linear_site();
  const Double x(normal({4, 6}, 70));
  const Tensor<double> bare = site(x).value();
  CHECK_FALSE(site.adapters.engaged());
  site.adapters.attach(id_a, lora(20));
  CHECK(site.adapters.engaged());
  CHECK_FALSE(same_bits(site(x).value(), bare));
  for (const bool sequences : {false, true}) {
    const Pass<double> pass = with_lists({{id_b}, {}, {}}, sequences ? three_sequences() : std::vector<Sequence>{});
    const PassScope<double> scope(pass);
    CHECK_FALSE(site.adapters.engaged());
    CHECK(same_bits(site(Double(normal({6, 6}, 71))).value(), site.forward(Double(normal({6, 6}, 71))).value()));
  }
  const Pass<double> pass = with_lists({{}, {id_a}, {}}, three_sequences());
  const PassScope<double> scope(pass);
  CHECK(site.adapters.engaged());
}

TEST_CASE("a dropout without sequences to draw by is refused", "[adapters]") {
  Map site = linear_site();
  Lora<double> drops = lora(20);
  drops.dropout = 0.5;
  site.adapters.attach(id_a, std::move(drops));
  Pass<double> pass = with_lists({{id_a}});
  const PassScope<double> scope(pass);
  const Double x(normal({4, 6}, 70));
  site(x);
  pass.training = true;
  CHECK_THROWS_WITH(site(x), "[dropout] a pass that trains needs sequences, whose rows dropout is drawn by: Sequences::of_lengths names them");
}

TEST_CASE("what a slot cannot do is said", "[adapters]") {
  Map site = linear_site();
  attach_all(site);
  const Double x(normal({4, 6}, 70));
  CHECK_THROWS_WITH(site.adapters.attach(id_a, lora(1)), "[attach] adapter number 3 sits on this site already");
  site.adapters.attach(10, LendsTensors{linear_site(80)});
  CHECK_THROWS_WITH(forward(site, x, {lends, 10}), "[forward] two active adapters both replace the tensors of q_proj; deactivate one of them");
  CHECK_NOTHROW(forward(site, x, {lends, id_a}));
  site.adapters.attach(11, Squares{});
  CHECK(site.adapters.mergeable(lends));
  CHECK(site.adapters.mergeable(99));  // is not here
  CHECK_FALSE(site.adapters.mergeable(11));
  CHECK_THROWS_WITH(site.adapters.merge(site, {id_a, 11}), "[merge] this kind of adapter cannot be merged into a weight");
  CHECK_FALSE(site.adapters.merged());
  Active many;
  for (int id = 100; id < 117; id++) site.adapters.attach(id, lora(std::uint64_t(id))), many.push_back(id);
  CHECK_THROWS_WITH(forward(site, x, many), "[forward] more than 16 adapters are active on one site");
  many.pop_back();
  CHECK_NOTHROW(forward(site, x, many));
}

TEST_CASE("attaching or detaching drops a merged copy", "[adapters]") {
  Map site = linear_site();
  site.adapters.attach(id_a, lora(20));
  site.adapters.merge(site, {id_a});
  CHECK(site.adapters.merged());
  site.adapters.attach(id_b, lora(30));
  CHECK_FALSE(site.adapters.merged());
  site.adapters.merge(site, {id_a, id_b});
  site.adapters.detach(id_b);
  CHECK_FALSE(site.adapters.merged());
  site.adapters.merge(site, {id_b});  // is not here
  CHECK_FALSE(site.adapters.merged());
  site.adapters.detach(id_b);
  CHECK(site.adapters.has(id_a));
}

TEST_CASE("a slot gives out the adapter that it holds, if it is of that kind", "[adapters]") {
  Map site = linear_site();
  attach_all(site);
  CHECK(site.adapters.get<Lora<double>>(id_a));
  CHECK_FALSE(site.adapters.get<Lora<double>>(lends));
  CHECK_FALSE(site.adapters.get<Lora<double>>(99));
  std::vector<std::string> names;
  for (int id : {id_a, lends, 99}) site.adapters.for_each_parameter(id, [&](const std::string& name, Parameter<double>&) { names.push_back(name); });
  CHECK(names == std::vector<std::string>{"lora_A.weight", "lora_B.weight", "q_proj.weight", "q_proj.bias"});
}
