// SPDX-License-Identifier: Apache-2.0
// What surrounds the model in one forward: the layout of the batch, the pass, caches, rotary angles.
#include "peft/nn/pass.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <numbers>
#include <thread>
#include <vector>

#include "peft/nn/rotary.hpp"
#include "peft/nn/transformer.hpp"
#include "support/tensors.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

TEST_CASE("sequences lie one behind the other, each with its positions", "[nn]") {
  const std::vector<std::int64_t> lengths = {3, 1, 2};
  const auto s = Sequences::of_lengths(lengths);
  CHECK(s->size() == 3);
  CHECK(s->rows() == 6);
  CHECK(s->longest() == 3);
  CHECK(s->last_position() == 2);
  CHECK((*s)[2].begin == 4);
  CHECK((*s)[2].end == 6);
  CHECK((*s)[2].id == 2);
  CHECK(std::vector<int>(s->positions()->begin(), s->positions()->end()) == std::vector<int>{0, 1, 2, 0, 0, 1});
  CHECK(Sequences().rows() == 0);
  CHECK(Sequences().longest() == 0);
}

TEST_CASE("a sequence may begin at any position", "[nn]") {
  std::vector<Sequence, PoolAllocator<Sequence>> all(2);
  all[0].end = 2, all[0].first_position = 7;
  all[1].begin = 2, all[1].end = 3, all[1].first_position = 4;
  const Sequences s(all);
  CHECK(std::vector<int>(s.positions()->begin(), s.positions()->end()) == std::vector<int>{7, 8, 4});
  CHECK(s.last_position() == 8);
  all[1].begin = 1;
  CHECK_THROWS_WITH(Sequences(all), "[sequences] a sequence at rows 1..3 behind row 2; packed sequences follow each other");
}

TEST_CASE("in front of its blank's text a sequence is counted once, behind it twice", "[nn]") {
  const BlankTokens tokens{.start = 9, .gmask = 8, .mask = 7};
  const std::vector<std::int32_t> ids = {1, 7, 8, 2, 9, 3, 9, 4};
  CHECK(find_blank(ids, tokens) == Blank{2, 4});
  CHECK(find_blank(std::vector<std::int32_t>{7, 1, 9}, tokens) == Blank{0, 2});
  CHECK(find_blank(std::vector<std::int32_t>{1, 7, 2}, tokens, true) == Blank{1, 3});
  CHECK_THROWS_WITH(find_blank(std::vector<std::int32_t>{1, 7, 2}, tokens), Contains("a sequence without <sop> (9)"));
  CHECK_THROWS_WITH(find_blank(std::vector<std::int32_t>{1, 9, 2}, tokens), Contains("a sequence without [gMASK] (8) or [MASK] (7)"));
  std::vector<Sequence, PoolAllocator<Sequence>> all(2);
  all[0].end = 8, all[0].blank = {2, 4};
  all[1].begin = 8, all[1].end = 10, all[1].first_position = 7, all[1].blank = {2, 4};  // goes on with a row of the span
  const Sequences s(all);
  CHECK(std::vector<int>(s.positions()->begin(), s.positions()->end()) == std::vector<int>{0, 1, 2, 3, 2, 2, 2, 2, 2, 2});
  CHECK(std::vector<int>(s.block_positions()->begin(), s.block_positions()->end()) == std::vector<int>{0, 0, 0, 0, 1, 2, 3, 4, 4, 5});
  CHECK(s.last_position() == 5);
  CHECK((*s.row_keys())[7] == mix(0, 7));  // dropout's names are those of plain positions
  CHECK_FALSE(Sequences::of_lengths(std::vector<std::int64_t>{3})->block_positions());
}

TEST_CASE("a cache forgets a context that its rows have seen whole, or keeps it whole", "[nn]") {
  KvCache<float> cache(1, 2);
  const auto rows = Tensor<float>({6, 2}, 1.0f);
  const auto fill = [&] {
    cache.restart(0), cache.blank = {1, 3};
    cache.append(0, rows.view(), rows.view()), cache.advance(6);
  };
  fill(), cache.truncate(4);
  CHECK(cache.length() == 4);
  CHECK(cache.blank == Blank{1, 3});
  KvCache<float> other(1, 2);
  other.copy_from(cache, 4);
  CHECK(other.blank == cache.blank);
  CHECK(other.length() == 4);
  cache.truncate(3);  // what follows may be another context
  CHECK(cache.length() == 0);
  CHECK_FALSE(cache.blank);
  fill(), other.copy_from(cache, 2);
  CHECK(other.length() == 6);
}

TEST_CASE("a row's name for dropout does not depend on packing", "[nn]") {
  std::vector<Sequence, PoolAllocator<Sequence>> ab(2), ba(2);
  ab[0].end = 3, ab[0].id = 10, ab[1].begin = 3, ab[1].end = 5, ab[1].id = 20;
  ba[0].end = 2, ba[0].id = 20, ba[1].begin = 2, ba[1].end = 5, ba[1].id = 10;
  const auto names = [](const auto& all) {
    const Sequences s(all);
    return std::vector<std::uint64_t>(s.row_keys()->begin(), s.row_keys()->end());
  };
  const std::vector<std::uint64_t> x = names(ab), y = names(ba);
  CHECK(std::vector<std::uint64_t>(x.begin(), x.begin() + 3) == std::vector<std::uint64_t>(y.begin() + 2, y.end()));
  CHECK(std::vector<std::uint64_t>(x.begin() + 3, x.end()) == std::vector<std::uint64_t>(y.begin(), y.begin() + 2));
  std::vector<std::uint64_t> sorted = x;
  std::ranges::sort(sorted);
  CHECK(std::ranges::adjacent_find(sorted) == sorted.end());
}

TEST_CASE("the current pass is the innermost of its thread", "[nn]") {
  CHECK(Pass<float>::current() == nullptr);
  const Pass<float> outer, inner;
  const PassScope<float> a(outer);
  {
    const PassScope<float> b(inner);
    CHECK(Pass<float>::current() == &inner);
    std::thread([] { CHECK(Pass<float>::current() == nullptr); }).join();
    CHECK(Pass<double>::current() == nullptr);
  }
  CHECK(Pass<float>::current() == &outer);
}

TEST_CASE("neighbours with the same active list are one range", "[nn]") {
  Pass<float> pass;
  CHECK(pass.ranges().empty());
  std::vector<Sequence, PoolAllocator<Sequence>> all(4);
  for (std::size_t i = 0; i < 4; i++) all[i].begin = std::int64_t(i) * 2, all[i].end = all[i].begin + 2;
  all[2].active = 1, all[3].active = 2;
  pass.sequences = std::make_shared<const Sequences>(all);
  pass.lists = std::make_shared<const std::vector<Active>>(std::vector<Active>{{4}, {}, {}});
  const auto ranges = pass.ranges();
  REQUIRE(ranges.size() == 2);
  CHECK(ranges[0].begin == 0);
  CHECK(ranges[0].end == 4);
  CHECK(*ranges[0].active == Active{4});
  CHECK(ranges[1].end == 8);  // two lists, both empty
  CHECK(ranges[1].active->empty());
}

TEST_CASE("dropout is drawn in training only, by seed, forward and site", "[nn]") {
  Pass<float> pass;
  pass.sequences = Sequences::of_lengths(std::vector<std::int64_t>{3});
  CHECK_FALSE(pass.dropping(0.5, 1));
  pass.training = true;
  CHECK_FALSE(pass.dropping(0, 1));
  const Dropping first = pass.dropping(0.5, 1);
  CHECK(first);
  CHECK(first.rows == pass.sequences->row_keys());
  CHECK(pass.dropping(0.5, 1).key.key == first.key.key);
  CHECK(pass.dropping(0.5, 2).key.key != first.key.key);
  pass.forward = 1;
  CHECK(pass.dropping(0.5, 1).key.key != first.key.key);
  pass.forward = 0, pass.seed = 1;
  CHECK(pass.dropping(0.5, 1).key.key != first.key.key);
}

TEST_CASE("a cache grows, keeps what is there and forgets on demand", "[nn]") {
  KvCache<float> cache(2, 3, 2);
  CHECK(cache.capacity() == 2);
  const Tensor<float> k = random_normal<float>({5, 3}), v = random_normal<float>({5, 3}, 2);
  for (std::int64_t i = 0; i < 5; i++) {
    for (std::int64_t layer : {0, 1}) {
      cache.append(layer, k.view().row_range(i, i + 1), v.view().row_range(i, i + 1));
      CHECK(cache.length() == i);  // not before all layers have theirs
    }
    cache.advance(1);
  }
  CHECK(cache.length() == 5);
  CHECK(cache.capacity() >= 5);
  for (std::int64_t layer : {0, 1}) {
    CHECK(same_bits(cache.keys(layer, 5), k));
    CHECK(same_bits(cache.values(layer, 5), v));
  }
  cache.truncate(2);
  CHECK(cache.length() == 2);
  cache.truncate(4);
  CHECK(cache.length() == 2);
  cache.append(0, k.view().row_range(4, 5), v.view().row_range(4, 5));
  CHECK(same_bits(cache.keys(0, 3).row_range(2, 3).clone(), k.row_range(4, 5).clone()));
  CHECK(same_bits(cache.keys(0, 2), k.row_range(0, 2)));
}

TEST_CASE("a cache that continues another one holds its own rows alone", "[nn]") {
  const Tensor<float> k = random_normal<float>({6, 3}), v = random_normal<float>({6, 3}, 2);
  const auto append = [&](KvCache<float>& cache, std::int64_t begin, std::int64_t end) {
    for (std::int64_t layer : {0, 1}) cache.append(layer, k.view().row_range(begin, end), v.view().row_range(begin, end));
    cache.advance(end - begin);
  };
  KvCache<float> first(2, 3, 4);
  append(first, 0, 4);
  const auto shared = std::make_shared<const KvCache<float>>(std::move(first));
  KvCache<float> one = KvCache<float>::continuing(shared, 1), two = KvCache<float>::continuing(shared, 1);
  append(one, 4, 6);
  CHECK(one.length() == 6);
  CHECK(one.own_rows() == 2);
  CHECK(one.base() == shared.get());
  CHECK(same_bits(one.keys(1, 2), k.row_range(4, 6)));
  two.copy_from(one, 4);  // no row of the shared one is copied
  CHECK(two.own_rows() == 2);
  CHECK(same_bits(two.values(0, 2), v.row_range(4, 6)));
  two.truncate(3);
  CHECK(two.length() == 3);
  CHECK(two.own_rows() == 0);
  CHECK(two.base_rows() == 3);
  append(two, 5, 6);
  CHECK(same_bits(two.keys(0, 1), k.row_range(5, 6)));
  KvCache<float> other(2, 3, 4);
  append(other, 0, 1);
  other.copy_from(two);
  CHECK(other.length() == 4);
  CHECK(other.base_rows() == 3);
  two.truncate(0);
  CHECK(two.base() == nullptr);
  CHECK_THROWS_AS(KvCache<float>::continuing(std::make_shared<const KvCache<float>>(std::move(other)), 1), Error);
  KvCache<float> half(2, 3, 4, DType::f16);
  append(half, 0, 4);
  KvCache<float> behind = KvCache<float>::continuing(std::make_shared<const KvCache<float>>(std::move(half)), 1);
  append(behind, 4, 5);
  CHECK(behind.dtype() == DType::f16);
  CHECK(behind.own_rows() == 1);
  CHECK(behind.half_keys(0, 1)(0, 2).bits == to_float16(k(4, 2)).bits);
}

TEST_CASE("a cache forgets what has left its windows, and what it can no longer go back to", "[nn]") {
  const std::int64_t window = 10;
  const std::vector<std::int64_t> windows = {0, window};
  const Tensor<float> k = random_normal<float>({2000, 3}), v = random_normal<float>({2000, 3}, 2);
  const auto append = [&](KvCache<float>& cache, std::int64_t rows) {
    const std::int64_t at = cache.rows();
    for (std::int64_t layer : {0, 1}) cache.append(layer, k.view().row_range(at, at + rows), v.view().row_range(at, at + rows));
    cache.advance(rows);
  };
  // All that queries behind the cache see is there, in its place.
  const auto holds = [&](const KvCache<float>& cache) {
    const std::int64_t own = cache.own_rows(), base = cache.base_rows(), gone = cache.forgotten(1);
    CHECK(cache.forgotten(0) == 0);
    CHECK((gone == 0 || base + gone + window <= cache.rows() + 1));
    CHECK(same_bits(cache.keys(0, own), k.row_range(base, base + own)));
    CHECK(same_bits(cache.keys(1, own), k.row_range(base + gone, base + own)));
    CHECK(same_bits(cache.values(1, own), v.row_range(base + gone, base + own)));
  };
  KvCache<float> cache(2, 3, 1, DType::f32, windows);
  for (std::int64_t i = 0; i < 1700; i++) {
    append(cache, 1);
    CHECK(cache.capacity(1) <= window + 576);
  }
  CHECK(cache.capacity(0) >= 1700);
  CHECK(cache.forgotten(1) % 256 == 0);
  CHECK(cache.forgotten(1) >= 1700 - window - 576);
  holds(cache);
  append(cache, 200), holds(cache);
  cache.truncate(1700), holds(cache);  // before its last forward
  CHECK(cache.length() == 1700);
  cache.truncate(1640), holds(cache);  // and some rows before that
  CHECK(cache.length() == 1640);

  KvCache<float> copy(2, 3, 1, DType::f32, windows), beside(2, 3, 1, DType::f32, windows);
  copy.copy_from(cache), holds(copy);
  append(copy, 3), copy.copy_from(cache, 1640), holds(copy);
  CHECK(copy.length() == 1640);
  append(beside, 500), append(cache, 1);
  beside.copy_from(cache, 500), holds(beside);
  CHECK(beside.length() == 1641);

  KvCache<float> whole(2, 3, 1, DType::f32);
  append(whole, 1900), copy.copy_from(whole, 1640), holds(copy);
  CHECK(copy.capacity(1) <= window + 576);
  const auto shared = std::make_shared<const KvCache<float>>(std::move(whole));
  KvCache<float> one = KvCache<float>::continuing(shared, 1, windows);
  one.truncate(1000);  // of a whole one, any beginning serves
  CHECK(one.base_rows() == 1000);
  while (one.rows() < 1900) append(one, 30);
  holds(one);
  CHECK(one.forgotten(1) > 0);
  CHECK((1000 + one.forgotten(1)) % 256 == 0);
  one.truncate(300);
  CHECK(one.length() == 0);
  CHECK(one.base() == nullptr);
  CHECK(one.forgotten(1) == 0);
  KvCache<float> behind = KvCache<float>::continuing(std::make_shared<const KvCache<float>>(std::move(cache)), 1);
  append(behind, 10), holds(behind);
  behind.truncate(700);  // forgotten there
  CHECK(behind.length() == 0);
  CHECK_THROWS_WITH(KvCache<float>(3, 3, 1, DType::f32, windows), Catch::Contains("2 windows for 3 layers"));
}

TEST_CASE("a cache of half precision holds rounded rows, and copies the rest of another one", "[nn]") {
  const Tensor<float> k = random_normal<float>({5, 3}), v = random_normal<float>({5, 3}, 2);
  KvCache<float> cache(2, 3, 1, DType::f16), copy(2, 3, 1, DType::f16);
  const auto fill = [&](KvCache<float>& to, std::int64_t begin, std::int64_t end) {
    for (std::int64_t layer : {0, 1}) to.append(layer, k.view().row_range(begin, end), v.view().row_range(begin, end));
    to.advance(end - begin);
  };
  fill(cache, 0, 2), fill(cache, 2, 5);
  for (std::int64_t i = 0; i < 5; i++)
    for (std::int64_t c = 0; c < 3; c++) {
      CHECK(cache.half_keys(1, 5)(i, c).bits == to_float16(k(i, c)).bits);
      CHECK(cache.half_values(0, 5)(i, c).bits == to_float16(v(i, c)).bits);
    }
  fill(copy, 0, 3);
  copy.half_keys(0, 3)(0, 0) = Float16{1};  // what is in common is not copied
  copy.copy_from(cache, 2);
  CHECK(copy.length() == 5);
  CHECK(copy.half_keys(0, 5)(0, 0).bits == 1);
  CHECK(copy.half_values(1, 5)(4, 2).bits == cache.half_values(1, 5)(4, 2).bits);
  CHECK_THROWS_AS(copy.copy_from(KvCache<float>(2, 3)), ShapeError);
  CHECK_THROWS_WITH(KvCache<float>(2, 3, 1, DType::q4_0), Catch::Contains("allowed are F32 and F16"));
}

TEST_CASE("rotary frequencies fall from 1 to about 1/theta", "[nn]") {
  const auto f = rope_frequencies({.theta = 10000}, 8);
  REQUIRE(f.size() == 4);
  for (int i = 0; i < 4; i++) CHECK(f[std::size_t(i)] == Approx(std::pow(10000.0, -i / 4.0)).epsilon(1e-14));
  const auto half = rope_frequencies({.theta = 10000, .scaling = RopeScaling::linear, .factor = 2}, 8);
  const auto divided = rope_frequencies({.theta = 10000, .divisors = {1, 2, 4, 8}}, 8);
  for (std::size_t i = 0; i < 4; i++) {
    CHECK(half[i] == Approx(f[i] / 2).epsilon(1e-14));
    CHECK(divided[i] == Approx(f[i] / double(1 << i)).epsilon(1e-14));
  }
}

TEST_CASE("dynamic scaling goes by the length, beyond the original one", "[nn]") {
  const RopeConfig config = {.theta = 10000, .scaling = RopeScaling::dynamic, .factor = 2, .original_max_position_embeddings = 64};
  const auto plain = rope_frequencies({.theta = 10000}, 8);
  CHECK(rope_frequencies(config, 8) == plain);
  CHECK(rope_frequencies(config, 8, 64) == plain);
  const auto longer = rope_frequencies(config, 8, 96);  // θ (2 · 96 / 64 − 1)^(8 / 6)
  for (std::size_t i = 0; i < 4; i++) CHECK(longer[i] == Approx(std::pow(10000 * std::pow(2.0, 8.0 / 6), -double(i) / 4)).epsilon(1e-14));
  Rotary<double> rotary(plain, 8, false);
  rotary.stretch_beyond(64, [&](std::int64_t length) { return rope_frequencies(config, 8, length); });
  CHECK(rotary.table(64).cos(63, 1) == Approx(std::cos(63 * plain[1])));
  CHECK(rotary.table(96).cos(63, 1) == Approx(std::cos(63 * longer[1])));
  CHECK(rotary.table(10).cos(9, 1) == Approx(std::cos(9 * plain[1])));
}

TEST_CASE("Llama 3.1 stretches long waves alone", "[nn]") {
  const RopeConfig config = {
      .theta = 500000, .scaling = RopeScaling::llama3, .factor = 8, .low_freq_factor = 1, .high_freq_factor = 4, .original_max_position_embeddings = 8192};
  const auto plain = rope_frequencies({.theta = 500000}, 128), scaled = rope_frequencies(config, 128);
  int kept = 0, stretched = 0, between = 0;
  for (std::size_t i = 0; i < 64; i++) {
    const double waves = 8192 * plain[i] / (2 * std::numbers::pi);  // how often the wave fits into the old context
    double want = plain[i] / 8 + (waves - 1) / 3 * (plain[i] - plain[i] / 8);
    if (waves > 4) want = plain[i];
    if (waves < 1) want = plain[i] / 8;
    (waves > 4 ? kept : waves < 1 ? stretched : between)++;
    CHECK(scaled[i] == Approx(want));
    if (i) CHECK(scaled[i] < scaled[i - 1]);
  }
  CHECK(kept > 20);
  CHECK(stretched > 20);
  CHECK(between > 2);
}

TEST_CASE("the table of angles grows to what is asked for, and old ones stay valid", "[nn]") {
  Rotary<double> rotary({1.0, 0.1}, 4, true);
  const RotaryTable<double> small = rotary.table(10), large = rotary.table(1000);
  CHECK(small.cos.rows() >= 10);
  CHECK(large.cos.rows() >= 1000);
  CHECK(large.head_dim == 4);
  CHECK(large.interleaved);
  for (std::int64_t p : {0, 1, 9, 255, 999})
    for (std::int64_t i : {0, 1}) {
      const double angle = double(p) * (i ? 0.1 : 1.0);
      CHECK(large.cos(p, i) == Approx(std::cos(angle)).margin(1e-12));
      CHECK(large.sin(p, i) == Approx(std::sin(angle)).margin(1e-12));
      if (p < small.cos.rows()) CHECK(small.cos(p, i) == large.cos(p, i));
    }
}
