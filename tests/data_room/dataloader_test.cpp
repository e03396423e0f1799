// SPDX-License-Identifier: Apache-2.0
#include "peft/data/dataloader.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>
#include <set>

#include "peft/core/error.hpp"

namespace {

/// Example i has 1 + (i · 7) % 11 tokens, all i; the last of them are learnt.
peft::Dataset numbered(int n) {
  std::vector<peft::Example> examples;
  for (int i = 0; i < n; i++) {
    const auto length = static_cast<std::size_t>(1 + (i * 7) % 11);
    peft::Example example{std::vector<std::int32_t>(length, i), std::vector<std::int32_t>(length, i)};
    std::fill_n(example.labels.begin(), length / 2, peft::ignore_index);
    examples.push_back(std::move(example));
  }
  return peft::Dataset(std::move(examples));
}

std::vector<std::uint64_t> seen(peft::DataLoader& loader, std::int64_t steps) {
  std::vector<std::uint64_t> all;
  for (std::int64_t i = 0; i < steps; i++) {
    const peft::Batch batch = loader.next();
    all.insert(all.end(), batch.example.begin(), batch.example.end());
  }
  return all;
}

}  // namespace

TEST_CASE("a batch is its sequences, one after the other", "[data]") {
  const peft::Dataset data = numbered(5);  // lengths 1, 8, 4, 11, 7
  const std::vector<std::size_t> chosen = {3, 0, 2};
  const peft::Batch batch = peft::collate(data, chosen);
  CHECK(batch.tokens() == 16);
  REQUIRE(batch.size() == 3);
  CHECK(batch.example == std::vector<std::uint64_t>{3, 0, 2});
  std::int64_t begin = 0;
  for (std::size_t s = 0; s < 3; s++) {
    const peft::Example& example = data[chosen[s]];
    CHECK(batch.offsets[s].begin == begin);
    CHECK(batch.offsets[s].length() == static_cast<std::int64_t>(example.input_ids.size()));
    CHECK(std::equal(example.input_ids.begin(), example.input_ids.end(), batch.input_ids.begin() + begin));
    CHECK(std::equal(example.labels.begin(), example.labels.end(), batch.labels.begin() + begin));
    begin = batch.offsets[s].end;
  }
  CHECK(batch.num_labels == 6 + 1 + 2);
  CHECK(batch.num_shifted_labels == 6 + 0 + 2);  // the only token of example 0 has none before it
  CHECK_THROWS_AS(peft::collate(data, std::vector<std::size_t>{5}), peft::Error);
}

TEST_CASE("a batch splits between sequences, into parts that hold all of it", "[data]") {
  const peft::Dataset data = numbered(5);  // lengths 1, 8, 4, 11, 7
  const std::vector<std::size_t> chosen = {0, 1, 2, 3, 4};
  const peft::Batch batch = peft::collate(data, chosen);
  CHECK(peft::split(batch, 0).size() == 1);
  CHECK(peft::split(batch, 31).size() == 1);
  for (const std::int64_t tokens : {30, 16, 8, 3, 1}) {
    const std::vector<peft::Batch> parts = peft::split(batch, tokens);
    CHECK(std::int64_t(parts.size()) <= (31 + tokens - 1) / tokens);
    std::size_t next = 0;
    std::int64_t labels = 0, shifted = 0;
    for (const peft::Batch& part : parts) {
      CHECK(part.size() > 0);
      std::vector<std::size_t> inside(part.example.begin(), part.example.end());
      const peft::Batch same = peft::collate(data, inside);
      CHECK(inside.front() == next);
      next = inside.back() + 1;
      CHECK(part.input_ids == same.input_ids);
      CHECK(part.labels == same.labels);
      CHECK(part.num_labels == same.num_labels);
      CHECK(part.num_shifted_labels == same.num_shifted_labels);
      CHECK(part.offsets.back().end == part.tokens());
      labels += part.num_labels, shifted += part.num_shifted_labels;
    }
    CHECK(next == 5);
    CHECK(labels == batch.num_labels);
    CHECK(shifted == batch.num_shifted_labels);
  }
  const std::vector<peft::Batch> halves = peft::split(batch, 16);
  REQUIRE(halves.size() == 2);
  CHECK(halves[0].tokens() == 13);
  CHECK(halves[1].tokens() == 18);
}

TEST_CASE("pairs are packed, split and counted by both of their sides", "[data]") {
  const int none = peft::ignore_index;
  const peft::Dataset data({{{1, 2}, {1, 2}, {7, 8, 9}}, {{3}, {3}, {7}}, {{4, 5, 6}, {4, none, 6}, {9, 9, 9, 9, 9}}});
  CHECK(data.has_sources());
  CHECK(data.tokens() == 5 + 2 + 8);
  CHECK(data.longest() == 8);
  CHECK(data.trained_tokens() == 2 + 1 + 2);
  const std::vector<std::size_t> chosen = {2, 0, 1};
  const peft::Batch batch = peft::collate(data, chosen);
  CHECK(batch.tokens() == 15);
  CHECK(batch.input_ids == std::vector<std::int32_t>{4, 5, 6, 1, 2, 3});
  CHECK(batch.labels == std::vector<std::int32_t>{4, none, 6, 1, 2, 3});
  CHECK(batch.source_ids == std::vector<std::int32_t>{9, 9, 9, 9, 9, 7, 8, 9, 7});
  CHECK(batch.source_offsets[1].begin == 5);
  CHECK(batch.source_offsets[1].end == 8);
  CHECK(batch.num_labels == 5);
  CHECK(batch.num_shifted_labels == 5);  // the first token of a target is predicted, too
  const std::vector<peft::Batch> halves = peft::split(batch, 8);
  REQUIRE(halves.size() == 2);
  CHECK(halves[0].source_ids == std::vector<std::int32_t>{9, 9, 9, 9, 9});
  CHECK(halves[0].input_ids == std::vector<std::int32_t>{4, 5, 6});
  CHECK(halves[1].source_ids == std::vector<std::int32_t>{7, 8, 9, 7});
  CHECK(halves[1].source_offsets[1].begin == 3);
  CHECK(halves[1].num_shifted_labels == 3);
  CHECK(halves[1].example == std::vector<std::uint64_t>{0, 1});
  CHECK(peft::DataLoader(data, {.batch_size = 1, .shuffle = false, .group_by_length = true}).order(0) == std::vector<std::size_t>{2, 0, 1});

  const peft::Example pair = peft::pair_example({7, 8}, {4, none, 6, none, none}, 3);
  CHECK(pair.input_ids == std::vector<std::int32_t>{4, 3, 6});
  CHECK(pair.labels == std::vector<std::int32_t>{4, none, 6});
  CHECK(pair.source_ids == std::vector<std::int32_t>{7, 8});
  CHECK_THROWS_AS(peft::pair_example({7}, {none, none}), peft::Error);
  CHECK_THROWS_AS(peft::pair_example({}, {4}), peft::Error);
  CHECK_THROWS_WITH(peft::Dataset({{{1}, {1}, {2}}, {{1}, {1}}}), Catch::Contains("example 1 has no source"));
}

TEST_CASE("an epoch visits every example once, in an order of its own", "[data]") {
  for (const bool group : {false, true}) {
    peft::DataLoader loader(numbered(103), {.batch_size = 4, .seed = 5, .group_by_length = group});
    REQUIRE(loader.steps_per_epoch() == 26);
    const auto first = seen(loader, 26), second = seen(loader, 26);
    CHECK(std::set(first.begin(), first.end()).size() == 103);
    CHECK(std::set(second.begin(), second.end()).size() == 103);
    CHECK(first.size() == 103);
    CHECK(first != second);
    peft::DataLoader again(numbered(103), {.batch_size = 4, .seed = 5, .group_by_length = group});
    CHECK(seen(again, 26) == first);
    peft::DataLoader other(numbered(103), {.batch_size = 4, .seed = 6, .group_by_length = group});
    CHECK(seen(other, 26) != first);
  }
  peft::DataLoader plain(numbered(10), {.batch_size = 3, .shuffle = false});
  CHECK(seen(plain, 4) == std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  peft::DataLoader whole(numbered(10), {.batch_size = 3, .shuffle = false, .drop_last = true});
  CHECK(whole.steps_per_epoch() == 3);
  CHECK(seen(whole, 3).size() == 9);
  CHECK(whole.position() == peft::DataLoader::Position{1, 0});
}

TEST_CASE("a loader continues anywhere", "[data]") {
  const peft::DataLoaderConfig config{.batch_size = 4, .seed = 9};
  peft::DataLoader loader(numbered(30), config);
  seen(loader, 11);
  const auto position = loader.position();
  CHECK(position == peft::DataLoader::Position{1, 3});
  peft::DataLoader resumed(numbered(30), config);
  resumed.seek(position);
  CHECK(resumed.batch(position).example == loader.batch(position).example);
  CHECK(seen(resumed, 20) == seen(loader, 20));
  CHECK_THROWS_AS(loader.seek({0, 8}), peft::Error);
  CHECK_THROWS_AS(loader.batch({-1, 0}), peft::Error);
}

TEST_CASE("grouping by length puts neighbours together and the longest first", "[data]") {
  peft::DataLoader loader(numbered(100), {.batch_size = 5, .seed = 3, .group_by_length = true});
  const peft::Dataset& data = loader.dataset();
  const peft::Batch first = loader.batch({0, 0});
  CHECK(data[first.example[0]].input_ids.size() == 11);
  std::int64_t spread = 0, random_spread = 0;
  peft::DataLoader random(data, {.batch_size = 5, .seed = 3});
  const auto difference = [&](const peft::Batch& batch) {
    std::int64_t low = 1000, high = 0;
    for (const auto& range : batch.offsets) low = std::min(low, range.length()), high = std::max(high, range.length());
    return high - low;
  };
  for (int step = 0; step < 20; step++) spread += difference(loader.next()), random_spread += difference(random.next());
  CHECK(spread * 4 < random_spread);
}

TEST_CASE("what gives no batch is refused", "[data]") {
  CHECK_THROWS_AS(peft::DataLoader(numbered(3), {.batch_size = 0}), peft::ConfigError);
  CHECK_THROWS_AS(peft::DataLoader(numbered(3), {.batch_size = 4, .drop_last = true}), peft::ConfigError);
  CHECK_THROWS_AS(peft::DataLoader(peft::Dataset(), {}), peft::ConfigError);
  CHECK_THROWS_AS(peft::Dataset({peft::Example{{1, 2}, {1}}}), peft::Error);
  CHECK_THROWS_AS(peft::Dataset({peft::Example{}}), peft::Error);
}

TEST_CASE("a split parts a dataset", "[data]") {
  const peft::Dataset data = numbered(50);
  const auto [train, test] = peft::train_test_split(data, 0.15, 1);
  CHECK(test.size() == 8);
  CHECK(train.size() == 42);
  std::vector<int> all;
  for (const auto& example : train) all.push_back(example.input_ids[0]);
  CHECK(std::is_sorted(all.begin(), all.end()));
  for (const auto& example : test) all.push_back(example.input_ids[0]);
  std::sort(all.begin(), all.end());
  std::vector<int> expected(50);
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(all == expected);
  CHECK(train.tokens() + test.tokens() == data.tokens());
  CHECK(train.trained_tokens() + test.trained_tokens() == data.trained_tokens());
  CHECK(peft::train_test_split(data, 0.15, 1).test[0].input_ids == test[0].input_ids);
  for (const double fraction : {0.0, 1.0, -0.5, 0.999}) CHECK_THROWS_AS(peft::train_test_split(data, fraction), peft::ConfigError);
}
