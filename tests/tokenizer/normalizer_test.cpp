// SPDX-License-Identifier: Apache-2.0
// Expected texts and offsets are those of Hugging Face's tokenizers 0.23.3.
#include "peft/tokenizer/normalizer.hpp"

#include <catch2/catch.hpp>

#include "peft/core/error.hpp"
#include "peft/io/json.hpp"
#include "peft/tokenizer/charsmap.hpp"
#include "small_tokenizer.hpp"

namespace {

using namespace std::string_view_literals;
using peft::Offsets;
using peft::tokenizer::make_normalizer;

std::string normalized(std::string_view json, std::string_view text) { return (*make_normalizer(peft::Json::parse(json, "test"), "test"))(text); }

/// Where each character of the normalised text comes from: a vocabulary that knows nothing makes one token of each.
std::vector<Offsets> character_offsets(const std::string& normalizer, std::string_view text, const std::string& more = "") {
  const peft::Tokenizer t =
      small::from_json(R"({"normalizer":)" + normalizer + more + R"(,"model":{"type":"BPE","unk_token":"?","vocab":{"?":0},"merges":[]}})");
  return t.encode_full(text).offsets;
}

}  // namespace

TEST_CASE("BERT's normalizer", "[tokenizer]") {
  const std::string bert = R"({"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true})";
  CHECK(normalized(bert, "\tHéllo\0\u200b 中Ω\u0301ß"sv) == " hello  中 ωß");
  CHECK(normalized(R"({"type":"BertNormalizer","lowercase":false})", "Él") == "Él");
  CHECK(normalized(R"({"type":"BertNormalizer","lowercase":false,"strip_accents":true,"handle_chinese_chars":false})", "É中") == "E中");
  CHECK(normalized(bert, "a\u1ABFb") == "a\u1ABFb");  // a mark since Unicode 13, which its tables do not know
}

TEST_CASE("small normalizers", "[tokenizer]") {
  CHECK(normalized(R"({"type":"Nmt"})",
                   "a\x01"
                   "b\u200bc\u2581d") == "ab c d");
  CHECK(normalized(R"({"type":"StripAccents"})", "e\u0301\u093e") == "e");
  CHECK(normalized(R"({"type":"NFKC"})", "ﬁ①") == "fi1");
  CHECK(normalized(R"({"type":"Strip"})", "\u00a0 a \n") == "a");
  CHECK(normalized(R"({"type":"Lowercase"})", "ÀΣİ\u1C89") == "àσi\u0307\u1C8A");
}

TEST_CASE("normalised characters know where they come from", "[tokenizer]") {
  CHECK(character_offsets(R"({"type":"NFD"})", "aéb") == std::vector<Offsets>{{0, 1}, {1, 2}, {1, 2}, {2, 3}});
  CHECK(character_offsets(R"({"type":"NFC"})", "ae\u0301b") == std::vector<Offsets>{{0, 1}, {1, 2}, {3, 4}});
  CHECK(character_offsets(R"({"type":"NFKC"})", "ﬁx①") == std::vector<Offsets>{{0, 1}, {0, 1}, {1, 2}, {2, 3}});
  CHECK(character_offsets(R"({"type":"NFC"})", "a\u0323\u0307x") == std::vector<Offsets>{{0, 1}, {2, 3}, {3, 4}});
  CHECK(character_offsets(R"({"type":"NFC"})", "\u1100\u1161\u11a8!") == std::vector<Offsets>{{0, 1}, {3, 4}});
  CHECK(character_offsets(R"({"type":"NFC"})", "e\u0301\u0323x") == std::vector<Offsets>{{0, 1}, {2, 3}, {3, 4}});  // ẹ and ́: places in order
  CHECK(character_offsets(R"({"type":"NFD"})", "é\u0323x") == std::vector<Offsets>{{0, 1}, {1, 2}, {1, 2}, {2, 3}});
  CHECK(character_offsets(R"({"type":"Prepend","prepend":"▁▁"})", "ab") == std::vector<Offsets>{{0, 1}, {0, 1}, {0, 1}, {1, 2}});
  CHECK(character_offsets(R"({"type":"Replace","pattern":{"String":"ab"},"content":"X中"})", "cabd") == std::vector<Offsets>{{0, 1}, {2, 3}, {2, 3}, {3, 4}});
  CHECK(character_offsets(R"({"type":"Strip"})", "  a ") == std::vector<Offsets>{{2, 3}});
  CHECK(character_offsets(R"({"type":"BertNormalizer"})", "É中\x01x") == std::vector<Offsets>{{0, 1}, {1, 2}, {1, 2}, {1, 2}, {3, 4}});
  CHECK(character_offsets(R"({"type":"Lowercase"})", "İx") == std::vector<Offsets>{{0, 1}, {0, 1}, {1, 2}});
  CHECK(character_offsets("null", "a b", R"(,"pre_tokenizer":{"type":"Metaspace"})") == std::vector<Offsets>{{0, 1}, {0, 1}, {1, 2}, {2, 3}});
  CHECK(character_offsets("null", " é", R"(,"pre_tokenizer":{"type":"ByteLevel"})") == std::vector<Offsets>{{0, 1}, {1, 2}, {1, 2}});
}

TEST_CASE("marks that tokenizers does not know keep their place", "[tokenizer]") {
  CHECK(normalized(R"({"type":"NFC"})", "\u1AC1\u035D\u0320") == "\u1AC1\u0320\u035D");
}

TEST_CASE("characters that are newer than tokenizers' tables have no decomposition", "[tokenizer]") {
  CHECK(normalized(R"({"type":"NFKC"})", "\u32FF\uA7F2\U00010781\u32FE") == "\u32FF\uA7F2\U00010781\u30F2");
  CHECK(normalized(R"({"type":"NFKD"})", "\U0001E034\U0001FBF3½") == "\U0001E034\U0001FBF31\u20442");
  CHECK(normalized(R"({"type":"NFD"})", "\U00011938é") == "\U00011938e\u0301");
}

TEST_CASE("aligned and plain normal forms are the same text", "[tokenizer]") {
  std::uint64_t state = 7;
  const std::vector<std::string> alphabet = {"a",  "e", "é",      "\u0301", "\u0323", "\u0307",       "ﬁ", "\u1100", "\u1161", "\u11a8",
                                             "각", "ạ", "\u0344", "Å",      "中",     "\u0F71\u0F72", "①", " "};
  for (int round = 0; round < 300; round++) {
    std::string text;
    for (int i = 0; i < 12; i++) state = state * 6364136223846793005u + 1442695040888963407u, text += alphabet[(state >> 33) % alphabet.size()];
    for (const auto form : {peft::unicode::Form::nfc, peft::unicode::Form::nfd, peft::unicode::Form::nfkc, peft::unicode::Form::nfkd}) {
      std::vector<std::size_t> from;
      CHECK(peft::unicode::normalize(text, form, from) == peft::unicode::normalize(text, form));
    }
  }
}

TEST_CASE("a character map is a trie of bytes", "[tokenizer]") {
  // By hand: the only key is "A" (0x41), with the replacement "b" at 0. A child lies at the offset of its parent ^ its label, a value at the offset of its
  // key's last node.
  std::vector<std::uint32_t> units(1024, 0);
  units[0] = 256u << 10;                          // root: offset 256
  units[256 ^ 0x41] = 0x41 | 1u << 8 | 1u << 10;  // label A, a key ends here, offset 1
  units[(256 ^ 0x41) ^ 1] = 1u << 31 | 0;         // its value
  std::string blob;
  const auto put = [&](std::uint32_t value) {
    for (unsigned i = 0; i < 4; i++) blob += static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
  };
  put(static_cast<std::uint32_t>(4 * units.size()));
  for (const std::uint32_t unit : units) put(unit);
  const peft::tokenizer::CharacterMap map(blob + std::string("b\0", 2));
  CHECK(map.longest("A").replacement == "b");
  CHECK(map.longest("AA").length == 1);
  CHECK(map.longest("B").length == 0);
  const peft::tokenizer::Precompiled normalizer(map);
  CHECK(normalizer("xAÅA") == "xbÅb");
  CHECK(normalizer("") == "");
  CHECK_THROWS_WITH(peft::tokenizer::CharacterMap(std::string_view("\xFF\xFF\xFF\x7F", 4)), Catch::Contains("2147483647"));
  CHECK_THROWS_WITH(normalized(R"({"type":"Precompiled","precompiled_charsmap":"a?=="})", ""), Catch::Contains("base64"));
}
