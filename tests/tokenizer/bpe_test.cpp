// SPDX-License-Identifier: Apache-2.0
#include "peft/tokenizer/bpe.hpp"

#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "peft/core/error.hpp"

namespace {

using namespace peft::tokenizer;
using Ids = std::vector<std::int32_t>;

Ids tokenize(const Model& model, std::string_view piece) {
  Ids ids;
  model.tokenize(piece, ids);
  return ids;
}

/// BPE as its paper states it: merge the best pair of the whole word, again and again.
Ids by_definition(const std::map<std::pair<int, int>, std::pair<std::uint32_t, int>>& merges, Ids symbols) {
  for (;;) {
    std::size_t best = symbols.size();
    std::uint32_t rank = ~0u;
    for (std::size_t i = 0; i + 1 < symbols.size(); i++)
      if (const auto found = merges.find({symbols[i], symbols[i + 1]}); found != merges.end() && found->second.first < rank)
        rank = found->second.first, best = i;
    if (best == symbols.size()) return symbols;
    symbols[best] = merges.at({symbols[best], symbols[best + 1]}).second;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

Vocabulary letters(const std::vector<std::string>& tokens) {
  std::vector<std::pair<std::string, std::int32_t>> all;
  for (const std::string& token : tokens) all.emplace_back(token, static_cast<std::int32_t>(all.size()));
  return Vocabulary(all);
}

}  // namespace

TEST_CASE("merges follow their rank, then their place", "[tokenizer]") {
  // a b c ab bc abc aa
  const Vocabulary vocabulary = letters({"a", "b", "c", "ab", "bc", "abc", "aa"});
  const Bpe bpe(vocabulary, {{1, 2, 4, 0}, {0, 1, 3, 1}, {0, 4, 5, 2}, {0, 0, 6, 3}});
  CHECK(tokenize(bpe, "abc") == Ids{5});  // bc first, then a + bc
  CHECK(tokenize(bpe, "ab") == Ids{3});
  CHECK(tokenize(bpe, "aaa") == Ids{6, 0});  // leftmost of equals
  CHECK(tokenize(bpe, "axb") == Ids{3});     // unknown and no unk: dropped, its neighbours meet
}

TEST_CASE("short and long pieces merge as the definition says", "[tokenizer]") {
  std::mt19937 random(7);
  std::vector<std::string> tokens = {"a", "b", "c", "d"};
  std::vector<Merge> list;
  std::map<std::pair<int, int>, std::pair<std::uint32_t, int>> table;
  std::map<std::string, int> ids;
  for (int i = 0; i < 4; i++) ids[tokens[static_cast<std::size_t>(i)]] = i;
  for (std::uint32_t rank = 0; rank < 60; rank++) {
    const auto left = random() % tokens.size(), right = random() % tokens.size();
    const std::string merged = tokens[left] + tokens[right];
    if (table.contains({static_cast<int>(left), static_cast<int>(right)}) || merged.size() > 9) continue;
    if (!ids.contains(merged)) ids[merged] = static_cast<int>(tokens.size()), tokens.push_back(merged);  // two ways to one token may exist
    list.push_back({static_cast<std::int32_t>(left), static_cast<std::int32_t>(right), ids[merged], rank});
    table[{static_cast<int>(left), static_cast<int>(right)}] = {rank, ids[merged]};
  }
  const Bpe bpe(letters(tokens), list);
  for (const std::size_t length : {1u, 2u, 5u, 20u, 48u, 49u, 200u, 1000u})
    for (int round = 0; round < 20; round++) {
      std::string text;
      Ids symbols;
      for (std::size_t i = 0; i < length; i++) {
        const auto letter = random() % 4;
        text += static_cast<char>('a' + letter);
        symbols.push_back(static_cast<std::int32_t>(letter));
      }
      CHECK(tokenize(bpe, text) == by_definition(table, symbols));
    }
}

TEST_CASE("what the vocabulary does not know", "[tokenizer]") {
  const Vocabulary vocabulary = letters({"<unk>", "a", "<0xC3>", "<0xA9>", "##b", "ab"});
  SECTION("is unk, one for each or one for all") {
    CHECK(tokenize(Bpe(vocabulary, {}, {.unk_id = 0}), "axya") == Ids{1, 0, 0, 1});
    CHECK(tokenize(Bpe(vocabulary, {}, {.unk_id = 0, .fuse_unk = true}), "axya") == Ids{1, 0, 1});
  }
  SECTION("becomes bytes where there are tokens for them") {
    std::vector<std::pair<std::string, std::int32_t>> tokens = {{"<unk>", 0}, {"a", 1}, {"<0xC3>", 2}, {"<0xA9>", 3}};
    const Bpe bpe(Vocabulary(tokens), {}, {.unk_id = 0, .byte_fallback = true});
    CHECK(tokenize(bpe, "aé") == Ids{1, 2, 3});
    CHECK(tokenize(bpe, "aèa") == Ids{1, 0, 1});  // <0xA8> is missing
  }
  SECTION("prefixes of continued words") {
    const Bpe bpe(vocabulary, {{1, 4, 5, 0}}, {.continuing_subword_prefix = "##"});
    CHECK(tokenize(bpe, "ab") == Ids{5});
  }
}

TEST_CASE("ignore_merges takes a piece that is a token", "[tokenizer]") {
  const Vocabulary vocabulary = letters({"a", "b", "c", "ab", "abc"});
  const std::vector<Merge> merges = {{0, 1, 3, 0}};
  CHECK(tokenize(Bpe(vocabulary, merges), "abc") == Ids{3, 2});
  CHECK(tokenize(Bpe(vocabulary, merges, {.ignore_merges = true}), "abc") == Ids{4});
}

TEST_CASE("scores stand for merges", "[tokenizer]") {
  const Vocabulary vocabulary = letters({"a", "b", "c", "ab", "bc", "abc"});
  const Bpe bpe(vocabulary, merges_of_scores(vocabulary, {0, 0, 0, -2, -1, -3}));
  CHECK(tokenize(bpe, "abc") == Ids{5});
  CHECK(tokenize(bpe, "abb") == Ids{3, 1});
  CHECK(tokenize(bpe, "cbc") == Ids{2, 4});
}

TEST_CASE("a vocabulary finds both ways", "[tokenizer]") {
  const Vocabulary vocabulary({{"b", 7}, {"a", 2}, {"", 3}});
  CHECK(vocabulary.id("b") == 7);
  CHECK(vocabulary.id("c") == -1);
  CHECK(vocabulary.token(2) == "a");
  CHECK(vocabulary.token(3).data() != nullptr);
  CHECK(vocabulary.token(4).data() == nullptr);
  CHECK(vocabulary.end_id() == 8);
  CHECK(Vocabulary().id("a") == -1);
  CHECK_THROWS_AS(Vocabulary({{"a", 1}, {"b", 1}}), peft::Error);
  CHECK_THROWS_AS(Vocabulary({{"a", -1}}), peft::Error);
}
