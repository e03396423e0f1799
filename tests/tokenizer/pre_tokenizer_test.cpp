// SPDX-License-Identifier: Apache-2.0
#include "peft/tokenizer/pre_tokenizer.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/io/json.hpp"

namespace {

using namespace peft::tokenizer;
using Texts = std::vector<std::string>;

Texts cut(const PreTokenizer& how, std::string_view text, bool at_start = true) {
  Pieces pieces;
  pieces.start(text, at_start);
  how.apply(pieces);
  Texts all;
  for (std::size_t i = 0; i < pieces.spans.size(); i++) all.emplace_back(pieces[i]);
  return all;
}
Texts cut(std::string_view json, std::string_view text) { return cut(*make_pre_tokenizer(peft::Json::parse(json, "test"), "test"), text); }
Texts by(std::string_view regex, std::string_view text, SplitBehavior behavior = SplitBehavior::isolated) {
  return cut(Split(Pattern::regex(regex, "test"), behavior), text);
}

constexpr std::string_view gpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view llama3 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace

TEST_CASE("GPT-2's expression", "[tokenizer]") {
  CHECK(by(gpt2, "Hello world") == Texts{"Hello", " world"});
  CHECK(by(gpt2, "I'm you'll 'S 'tis") == Texts{"I", "'m", " you", "'ll", " '", "S", " '", "tis"});
  CHECK(by(gpt2, "'''s") == Texts{"'''", "s"});
  CHECK(by(gpt2, "a  b   c") == Texts{"a", " ", " b", "  ", " c"});  // the last space goes with the word
  CHECK(by(gpt2, "a\n\nb \n ") == Texts{"a", "\n", "\n", "b", " \n "});
  CHECK(by(gpt2, "x=12345 ½!") == Texts{"x", "=", "12345", " ½", "!"});
  CHECK(by(gpt2, "a\xC2\xA0\xC2\xA0z") == Texts{"a", "\xC2\xA0", "\xC2\xA0", "z"});  // only U+0020 joins a word
}

TEST_CASE("Llama 3's expression", "[tokenizer]") {
  CHECK(by(llama3, "It's IT'S") == Texts{"It", "'s", " IT", "'S"});
  CHECK(by(llama3, "x'\xC5\xBFy") == Texts{"x", "'\xC5\xBF", "y"});  // ſ folds to s
  CHECK(by(llama3, "12345678") == Texts{"123", "456", "78"});
  CHECK(by(llama3, "(a) \tb") == Texts{"(a", ")", " ", "\tb"});
  CHECK(by(llama3, "end.\n\nNew") == Texts{"end", ".\n\n", "New"});
  CHECK(by(llama3, "a \n  \n  b") == Texts{"a", " \n  \n", " ", " b"});
  CHECK(by(llama3, "a\nb") == Texts{"a", "\n", "b"});
  CHECK(by(llama3, "a  5") == Texts{"a", " ", " ", "5"});
  CHECK(by(qwen2, "2024") == Texts{"2", "0", "2", "4"});
}

TEST_CASE("BLOOM's expression", "[tokenizer]") {
  for (const char* spelled : {R"( ?[^(\s|[.,!?…。，、।۔،])]+)", R"( ?[^(\s|.,!?…。，、।۔،)]+)"})
    CHECK(by(spelled, "Hello  world (it's), «x|y» 中。文") == Texts{"Hello", " ", " world", " (", "it's", "),", " «x", "|", "y»", " 中", "。", "文"});
}

TEST_CASE("Metaspace puts a mark in front of what begins the input alone, if the file says first", "[tokenizer]") {
  const std::string json = R"({"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Metaspace","prepend_scheme":"first"}]})";
  CHECK(cut(json, "a b") == Texts{"▁a", "b"});
  CHECK(cut(json, " a b") == Texts{"a", "b"});
}

TEST_CASE("every expression that covers text covers all of it", "[tokenizer]") {
  std::uint64_t state = 1;
  const std::vector<std::string> alphabet = {
      "a", "B", "'", "s", "7", " ", " ", "\n", "\r", "\t", "é", "中", ".", "!", "\xC2\xA0", "½", "\xF0\x9F\x98\x80", "\xCC\x81"};
  for (int round = 0; round < 300; round++) {
    std::string text;
    for (int i = 0; i < 40; i++) state = state * 6364136223846793005u + 1442695040888963407u, text += alphabet[(state >> 33) % alphabet.size()];
    for (const auto regex : {gpt2, llama3, qwen2}) {
      std::string joined;
      for (const std::string& piece : by(regex, text)) joined += piece;
      CHECK(joined == text);
    }
  }
}

TEST_CASE("Split's behaviours", "[tokenizer]") {
  CHECK(by("-", "a-b--c", SplitBehavior::isolated) == Texts{"a", "-", "b", "-", "-", "c"});
  CHECK(by("-", "a-b--c", SplitBehavior::removed) == Texts{"a", "b", "c"});
  CHECK(by("-", "a-b--c", SplitBehavior::merged_with_previous) == Texts{"a-", "b-", "-", "c"});
  CHECK(by("-", "a-b--c", SplitBehavior::merged_with_next) == Texts{"a", "-b", "-", "-c"});
  CHECK(by("-", "a-b--c", SplitBehavior::contiguous) == Texts{"a", "-", "b", "--", "c"});
  CHECK(cut(Split(Pattern::regex("\\w+|[^\\w\\s]+", "t"), SplitBehavior::removed, true), "Hi, you_2!") == Texts{"Hi", ",", "you_2", "!"});
  CHECK(by("[0-9]{3}", "12 3456789") == Texts{"12 ", "345", "678", "9"});
  CHECK(by(" {2,}", "a b  c   d") == Texts{"a b", "  ", "c", "   ", "d"});
}

TEST_CASE("pre-tokenizers by their JSON", "[tokenizer]") {
  CHECK(cut(R"({"type":"Digits","individual_digits":true})", "a12 b") == Texts{"a", "1", "2", " b"});
  CHECK(cut(R"({"type":"Digits","individual_digits":false})", "a12 b") == Texts{"a", "12", " b"});
  CHECK(cut(R"({"type":"ByteLevel"})", "é a") == Texts{"ĠÃ©", "Ġa"});
  CHECK(cut(R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false})", "a b\n") == Texts{"aĠbĊ"});
  CHECK(cut(R"({"type":"Whitespace"})", " a.b  c ") == Texts{"a", ".", "b", "c"});
  CHECK(cut(R"({"type":"WhitespaceSplit"})", " a.b  c ") == Texts{"a.b", "c"});
  CHECK(cut(R"({"type":"Metaspace"})", "a b") == Texts{"▁a", "▁b"});
  CHECK(cut(R"({"type":"Metaspace","prepend_scheme":"never","split":false})", "a b") == Texts{"a▁b"});
  CHECK(cut(R"({"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"ByteLevel","add_prefix_space":false}]})", "v 42") ==
        Texts{"v", "Ġ", "4", "2"});
  CHECK(cut(R"({"type":"BertPreTokenizer"})", "Hey, x=1 ¿Qué? a。b") == Texts{"Hey", ",", "x", "=", "1", "¿", "Qué", "?", "a", "。", "b"});
  CHECK(cut(R"({"type":"Punctuation"})", "a$^`|~«b") == Texts{"a", "$", "^", "`", "|", "~", "«", "b"});
  CHECK(cut(R"({"type":"Punctuation","behavior":"Removed"})", "a,b!!c") == Texts{"a", "b", "c"});
  CHECK(cut(R"({"type":"Punctuation","behavior":"Contiguous"})", "a,b!!c") == Texts{"a", ",", "b", "!!", "c"});
  CHECK(cut(R"({"type":"Punctuation","behavior":"MergedWithPrevious"})", "a,b!!c") == Texts{"a,", "b!", "!", "c"});
  CHECK(cut(R"({"type":"FixedLength","length":3})", "abcdé中fgh") == Texts{"abc", "dé中", "fgh"});
  const Metaspace first("▁", PrependScheme::first, true);
  CHECK(cut(first, "a", true) == Texts{"▁a"});
  CHECK(cut(first, "a", false) == Texts{"a"});
}

TEST_CASE("what is not known is named", "[tokenizer]") {
  const auto make = [](std::string_view json) { make_pre_tokenizer(peft::Json::parse(json, "file.json"), "file.json"); };
  CHECK_THROWS_WITH(make(R"({"type":"Digit"})"), Catch::Contains("file.json") && Catch::Contains("\"Digit\"") && Catch::Contains("did you mean \"Digits\""));
  CHECK_THROWS_AS(make(R"({"type":"Magic"})"), peft::FormatError);
  CHECK_THROWS_WITH(make(R"({"type":"Split","pattern":{"Regex":"(?<=a"},"behavior":"Isolated"})"), Catch::Contains("(?<=a"));
  CHECK_THROWS_WITH(make(R"({"type":"Split","pattern":{"String":" "},"behavior":"Isolate"})"), Catch::Contains("\"Isolated\""));
  CHECK_THROWS_WITH(make(R"({"type":"Split","behavior":"Isolated"})"), Catch::Contains("pattern"));
  CHECK_THROWS_WITH(make(R"({"type":"ByteLevel","use_regex":3})"), Catch::Contains("use_regex"));
}

#if defined(PEFT_HAS_ONIGURUMA)
TEST_CASE("any other expression is run by Oniguruma", "[tokenizer]") {
  CHECK(by("(?<=a)b+", "abb cb ab") == Texts{"a", "bb", " cb a", "b"});
  CHECK(by("x*", "axxb") == Texts{"a", "xx", "b"});  // empty matches cut nothing
  CHECK(by("(?i:É)|\\p{Han}", "aé中b") == Texts{"a", "é", "中", "b"});
  const std::string spelled = "(?:" + std::string(llama3) + ")";  // the same as the scanner
  std::uint64_t state = 3;
  const std::vector<std::string> alphabet = {"a", "B", "'", "s", "L", "7", " ", " ", "\n", "\r", "\t", "é", "中", ".", "\xC2\xA0", "½", "\xCC\x81", "ſ"};
  for (int round = 0; round < 300; round++) {
    std::string text;
    for (int i = 0; i < 40; i++) state = state * 6364136223846793005u + 1442695040888963407u, text += alphabet[(state >> 33) % alphabet.size()];
    CHECK(by(spelled, text) == by(llama3, text));
  }
}
#else
TEST_CASE("without Oniguruma an expression that is not built in is quoted", "[tokenizer]") {
  CHECK_THROWS_WITH(by("(?<=a)b", "ab"), Catch::Contains("(?<=a)b") && Catch::Contains("PEFT_ONIGURUMA"));
}
#endif

TEST_CASE("another script begins another piece", "[tokenizer]") {
  const std::string_view scripts = R"({"type":"UnicodeScripts"})";
  CHECK(cut(scripts, "どこで生れ。Yes") == Texts{"どこで生れ", "。", "Yes"});
  CHECK(cut(scripts, "Apples are りんご 林檎") == Texts{"Apples are ", "りんご 林檎"});
  CHECK(cut(scripts, "コーヒー豆") == Texts{"コーヒー豆"});  // a length mark is Han
  CHECK(cut(scripts, "  a 1  ") == Texts{"a ", "1  "});      // a digit is Common; spaces in front are dropped
  CHECK(cut(scripts, "   ") == Texts{});
  CHECK(cut(scripts, "Ωmega, привет\n") == Texts{"Ω", "mega", ", ", "привет", "\n"});
  CHECK(cut(scripts, "a\xF0\x91\xB4\x80 b") == Texts{"a\xF0\x91\xB4\x80 b"});  // U+11D00 came with Unicode 10
}
