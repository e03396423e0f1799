// SPDX-License-Identifier: Apache-2.0
#include "peft/generate/stopping.hpp"

#include <catch2/catch.hpp>

#include "generate/tiny.hpp"

namespace {

struct Outcome {
  std::string text;
  bool stopped;
  bool operator==(const Outcome&) const = default;
};

Outcome run(const std::vector<std::string>& stop, const std::vector<std::string>& pieces) {
  peft::StopStrings strings(stop);
  std::string text;
  for (const std::string& piece : pieces) text += strings.push(piece);
  text += strings.flush();
  return {text, strings.stopped()};
}

std::vector<std::string> letters(const std::string& text) {
  std::vector<std::string> all;
  for (char c : text) all.emplace_back(1, c);
  return all;
}

}  // namespace

TEST_CASE("text is cut before a stop string, however it arrives in pieces", "[generate]") {
  CHECK(run({"stop"}, {"now stop here"}) == Outcome{"now ", true});
  CHECK(run({"stop"}, {"now st", "op here"}) == Outcome{"now ", true});
  CHECK(run({"stop"}, letters("now stop here")) == Outcome{"now ", true});
  CHECK(run({"stop"}, letters("now sto")) == Outcome{"now sto", false});
  CHECK(run({"stop"}, letters("sstop")) == Outcome{"s", true});
  CHECK(run({"aab"}, letters("aaaab")) == Outcome{"aa", true});
  CHECK(run({"xyz", "\n\n", "\n"}, letters("a\n\nb")) == Outcome{"a", true});
  CHECK(run({}, letters("anything")) == Outcome{"anything", false});
}

TEST_CASE("the stop string that is complete first counts, in any pieces", "[generate]") {
  const std::vector<std::string> stop = {"abcd", "bc", "cde", "c d"};
  peft::Random random(3);
  for (int round = 0; round < 300; round++) {
    std::string text;
    for (int i = 0; i < 12; i++) text += "abcde "[random.below(6)];
    const Outcome expected = run(stop, letters(text));
    std::vector<std::string> pieces;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t n = 1 + std::size_t(random.below(5));
      pieces.push_back(text.substr(at, n)), at += n;
    }
    CAPTURE(text);
    CHECK(run(stop, pieces) == expected);
    CHECK(run(stop, {text}) == expected);
  }
}

TEST_CASE("only what may begin a stop string is held back", "[generate]") {
  peft::StopStrings stop({"###"});
  CHECK(stop.push("a") == "a");
  CHECK(stop.push("b#") == "b");
  CHECK(stop.push("#") == "");
  CHECK(stop.push("c") == "##c");
  CHECK(stop.push("d##") == "d");
  CHECK(stop.flush() == "##");
  CHECK_FALSE(stop.stopped());
  CHECK(stop.push("e### f") == "e");
  CHECK(stop.stopped());
  CHECK(stop.push("more") == "");
  CHECK(stop.flush() == "");
}

TEST_CASE("a stream of tokens gives whole characters, cut at stop strings", "[generate]") {
  const peft::Tokenizer tokenizer = tiny::tokenizer();
  const std::vector<std::int32_t> prompt = {tiny::id("a")};
  peft::TextStream plain(tokenizer, {}, prompt);
  CHECK(plain.push(tiny::id("b")) == "b");
  CHECK(plain.push(tiny::id("Ã")) == "");
  CHECK(plain.push(tiny::id("©")) == "é");
  CHECK(plain.push(tiny::id("Ã")) == "");
  CHECK(plain.finish() == "\xEF\xBF\xBD");

  peft::TextStream stops(tokenizer, {" stop"}, prompt);
  CHECK(stops.push(tiny::id("b")) == "b");
  CHECK(stops.push(tiny::id("Ġst")) == "");
  CHECK(stops.push(tiny::id("op")) == "");
  CHECK(stops.stopped());
  CHECK(stops.finish() == "");
}
