// SPDX-License-Identifier: Apache-2.0
// Expected values are those of Hugging Face's tokenizers 0.23.3 on the same small tokenizers.
#include "peft/tokenizer/encoding.hpp"

#include <catch2/catch.hpp>

#include "peft/core/error.hpp"
#include "peft/core/parallel.hpp"
#include "small_tokenizer.hpp"

namespace {

using peft::Encoding;
using peft::Offsets;
using peft::Truncation;
using EncodedIds = std::vector<std::int32_t>;
using Spans = std::vector<Offsets>;
using Flags = std::vector<std::uint8_t>;

/// a = 1, b = 2, c = 3, [CLS] = 4, [SEP] = 5, and "##" in front of the same letters.
peft::Tokenizer letters(const std::string& parts = "") {
  return small::from_json("{" + parts +
                          R"("pre_tokenizer":{"type":"WhitespaceSplit"},"model":{"type":"WordPiece","unk_token":"[UNK]","max_input_chars_per_word":10,)"
                          R"("vocab":{"[UNK]":0,"a":1,"b":2,"c":3,"[CLS]":4,"[SEP]":5}}})");
}
const std::string bert_processing = R"("post_processor":{"type":"BertProcessing","sep":["[SEP]",5],"cls":["[CLS]",4]},)";

}  // namespace

TEST_CASE("WordLevel knows a piece or does not", "[tokenizer]") {
  const std::string words = R"({"pre_tokenizer":{"type":"WhitespaceSplit"},"model":{"type":"WordLevel","vocab":{"hot":4,"?":1,"water":0,"[UNK]":2})";
  const peft::Tokenizer t = small::from_json(words + R"(,"unk_token":"[UNK]"}})");
  const peft::Encoding e = t.encode_full("water  hoT hot ?");
  CHECK(e.ids == std::vector<std::int32_t>{0, 2, 4, 1});
  CHECK(e.offsets == std::vector<peft::Offsets>{{0, 5}, {7, 10}, {11, 14}, {15, 16}});
  CHECK(t.decode(e.ids) == "water [UNK] hot ?");
  CHECK(t.unk_id() == 2);
  const peft::Tokenizer without = small::from_json(words + "}}");
  CHECK(without.encode("hot water") == std::vector<std::int32_t>{4, 0});
  CHECK_THROWS_WITH(without.encode("hot milk"), Catch::Contains("\"milk\"") && Catch::Contains("\"<unk>\""));
}

TEST_CASE("WordPiece takes the longest piece from the left", "[tokenizer]") {
  const peft::Tokenizer t = small::from_json(
      R"({"pre_tokenizer":{"type":"WhitespaceSplit"},"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":10,)"
      R"("vocab":{"[UNK]":0,"un":1,"##aff":2,"##able":3,"a":4,"##é":5,"é":6}}})");
  const Encoding e = t.encode_full("un affx aé é unaffable unaffableun");
  CHECK(e.ids == EncodedIds{1, 0, 4, 5, 6, 1, 2, 3, 0});  // the last is longer than ten characters
  CHECK(e.offsets == Spans{{0, 2}, {3, 7}, {8, 9}, {9, 10}, {11, 12}, {13, 15}, {15, 18}, {18, 22}, {23, 34}});
  CHECK(t.encode("un affx aé é unaffable unaffableun") == e.ids);
  CHECK_THROWS_WITH(small::from_json(R"({"model":{"type":"WordPiece","vocab":{"a":0}}})"), Catch::Contains("[UNK]"));
}

TEST_CASE("Unigram takes the most probable path", "[tokenizer]") {
  const std::string vocab = R"(["<unk>",0.0],["▁",-2.0],["a",-1.5],["b",-1.5],["ab",-2.0],["▁a",-2.5],["abc",-9.0],["c",-3.0])";
  const peft::Tokenizer t = small::from_json(R"({"model":{"type":"Unigram","unk_id":0,"vocab":[)" + vocab + "]}}");
  const auto check = [](const peft::Tokenizer& tokenizer, std::string_view text, const EncodedIds& ids, const Spans& offsets) {
    CHECK(tokenizer.encode_full(text).ids == ids);
    CHECK(tokenizer.encode_full(text).offsets == offsets);
    CHECK(tokenizer.encode(text) == ids);
  };
  check(t, "abc", {4, 7}, {{0, 2}, {2, 3}});
  check(t, "ab▁ab", {4, 1, 4}, {{0, 2}, {2, 3}, {3, 5}});
  check(t, "axyb", {2, 0, 3}, {{0, 1}, {1, 3}, {3, 4}});  // neighbouring unknowns are one
  check(t, "▁▁a", {1, 5}, {{0, 1}, {1, 3}});
  check(t, "<unk>a", {0, 2}, {{0, 5}, {5, 6}});
  std::string bytes;
  for (unsigned byte = 0; byte < 256; byte++) {
    char name[24];
    std::snprintf(name, sizeof name, ",[\"<0x%02X>\",-20.0]", byte);
    bytes += name;
  }
  const peft::Tokenizer fallback = small::from_json(R"({"model":{"type":"Unigram","unk_id":0,"byte_fallback":true,"vocab":[)" + vocab + bytes + "]}}");
  check(fallback, "aé", {2, 203, 177}, {{0, 1}, {1, 2}, {1, 2}});
  check(fallback, "中b", {236, 192, 181, 3}, {{0, 1}, {0, 1}, {0, 1}, {1, 2}});
  // "x" "y" and "y" "x" are equally probable, but for how the reference reads a number: then the last bit, or the first path, decides.
  const auto order = [](const std::string& a, const std::string& aa) {
    return small::from_json(R"({"model":{"type":"Unigram","unk_id":0,"vocab":[["?",0.0],["p",-8.134194206713342],[",",-3.514861226512979],["a",)" + a +
                            R"(],["aa",)" + aa + "]]}}")
        .encode("p,aaa");
  };
  CHECK(order("-7.5291552046291415", "-7.751379497381968") == EncodedIds{1, 2, 3, 4});
  CHECK(order("-7.5", "-7.75") == EncodedIds{1, 2, 3, 4});
  CHECK_THROWS_WITH(small::from_json(R"({"model":{"type":"Unigram","vocab":[["a",0.0]]}})").encode("b"), Catch::Contains("\"b\""));
  CHECK_THROWS_WITH(small::from_json(R"({"model":{"type":"Unigram","vocab":[["a"]]}})"), Catch::Contains("entry 0"));
}

TEST_CASE("templates arrange one text or two", "[tokenizer]") {
  const peft::Tokenizer t = letters(
      R"("post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"[SEP]","type_id":0}}],)"
      R"("pair":[{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"B","type_id":1}},{"SpecialToken":{"id":"[SEP]","type_id":1}},{"Sequence":{"id":"A","type_id":0}}],)"
      R"("special_tokens":{"[CLS]":{"id":"[CLS]","ids":[4],"tokens":["[CLS]"]},"[SEP]":{"id":"[SEP]","ids":[5],"tokens":["[SEP]"]}}},)");
  const Encoding pair = t.encode_pair("a b", "c");
  CHECK(pair.ids == EncodedIds{4, 3, 5, 1, 2});
  CHECK(pair.type_ids == EncodedIds{0, 1, 1, 0, 0});
  CHECK(pair.offsets == Spans{{0, 0}, {0, 1}, {0, 0}, {0, 1}, {2, 3}});
  CHECK(pair.special == Flags{1, 0, 1, 0, 0});
  CHECK(t.encode_pair("a b", "c", {.add_special_tokens = false}).ids == EncodedIds{3, 1, 2});
  CHECK(t.encode_pair("a b", "c", {.add_special_tokens = false}).type_ids == EncodedIds{1, 0, 0});
  CHECK(t.encode("a b") == EncodedIds{4, 1, 2, 5});
}

TEST_CASE("BERT's segments, and none", "[tokenizer]") {
  const Encoding bert = letters(bert_processing).encode_pair("a b", "c");
  CHECK(bert.ids == EncodedIds{4, 1, 2, 5, 3, 5});
  CHECK(bert.type_ids == EncodedIds{0, 0, 0, 0, 1, 1});
  const Encoding plain = letters().encode_pair("a b", "c");
  CHECK(plain.ids == EncodedIds{1, 2, 3});
  CHECK(plain.type_ids == EncodedIds{0, 0, 1});
  CHECK(plain.mask == Flags{1, 1, 1});
  CHECK_THROWS_WITH(small::plain().encode_pair("a", "b"), Catch::Contains("pairs"));
}

TEST_CASE("white space leaves the offsets of byte-level tokens where the file says so", "[tokenizer]") {
  const small::Merges merges = {{"Ġ", "a"}, {"Ġ", "Ġ"}, {"ĠĠ", "Ġa"}};
  const auto make = [&](const std::string& prefix, const std::string& post) {
    return small::from_json(
        small::json(small::model_json(merges), "",
                    R"("pre_tokenizer":{"type":"ByteLevel","use_regex":false,"add_prefix_space":)" + prefix + R"(},"post_processor":)" + post + ","));
  };
  CHECK(make("false", "null").encode_full("   a a é中\n").offsets == Spans{{0, 4}, {4, 6}, {6, 7}, {7, 8}, {7, 8}, {8, 9}, {8, 9}, {8, 9}, {9, 10}});
  const std::string trims = R"({"type":"ByteLevel","trim_offsets":true,"add_prefix_space":false})";
  CHECK(make("false", trims).encode_full("   a a é中\n").offsets == Spans{{3, 4}, {5, 6}, {7, 7}, {7, 8}, {7, 8}, {8, 9}, {8, 9}, {8, 9}, {9, 10}});
  CHECK(make("false", trims).encode_full("  ").offsets == Spans{{2, 2}});
  CHECK(make("true", R"({"type":"ByteLevel","trim_offsets":true,"add_prefix_space":true})").encode_full("a a").offsets == Spans{{0, 1}, {2, 3}});
  const Encoding pair =
      make("true", R"({"type":"RobertaProcessing","sep":["x",120],"cls":["y",121],"trim_offsets":true,"add_prefix_space":true})").encode_pair(" a", "a é");
  CHECK(pair.offsets == Spans{{0, 0}, {0, 2}, {0, 0}, {0, 0}, {0, 1}, {2, 2}, {2, 3}, {2, 3}, {0, 0}});
  CHECK(pair.type_ids == EncodedIds(9, 0));
}

TEST_CASE("added tokens have offsets too", "[tokenizer]") {
  const peft::Tokenizer t = small::from_json(
      R"({"normalizer":{"type":"Lowercase"},"added_tokens":[{"id":3,"content":"<S>","special":true,"normalized":false,"lstrip":true,"rstrip":true},)"
      R"({"id":4,"content":"ABA","special":false,"normalized":true}],"model":{"type":"BPE","unk_token":"?","vocab":{"?":0,"a":1,"b":2},"merges":[]}})");
  const Encoding e = t.encode_full("a <S> b aba É");
  CHECK(e.ids == EncodedIds{1, 3, 2, 0, 4, 0, 0});
  CHECK(e.offsets == Spans{{0, 1}, {1, 6}, {6, 7}, {7, 8}, {8, 11}, {11, 12}, {12, 13}});
}

TEST_CASE("white space that an added token takes along leaves its offsets, too", "[tokenizer]") {
  const peft::Tokenizer t = small::from_json(
      R"({"added_tokens":[{"id":3,"content":"<m>","special":true,"normalized":false,"lstrip":true},{"id":4,"content":"ab ","normalized":true,"rstrip":true}],)"
      R"("post_processor":{"type":"RobertaProcessing","sep":["b",2],"cls":["a",1],"trim_offsets":true,"add_prefix_space":false},)"
      R"("model":{"type":"BPE","unk_token":"?","vocab":{"?":0,"a":1,"b":2},"merges":[]}})");
  CHECK(t.encode_full("a <m> ab  b").offsets == Spans{{0, 0}, {0, 1}, {2, 5}, {5, 6}, {6, 8}, {10, 11}, {0, 0}});
  CHECK(t.encode_full("  <m>").offsets == Spans{{0, 0}, {2, 5}, {0, 0}});
  CHECK(t.encode_full("a <m> ab  b", {.truncation = peft::Truncation{.max_length = 4, .left = true}}).offsets == Spans{{0, 0}, {6, 8}, {10, 11}, {0, 0}});
}

TEST_CASE("white space leaves the offsets of what Unigram does not know", "[tokenizer]") {
  const peft::Tokenizer t = small::from_json(R"({"post_processor":{"type":"ByteLevel","trim_offsets":true,"add_prefix_space":false},)"
                                             R"("model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["a",-1.5]]}})");
  CHECK(t.encode_full("a b \na").offsets == Spans{{0, 1}, {2, 3}, {5, 6}});
}

TEST_CASE("what a normalizer drops does not begin the input", "[tokenizer]") {
  const peft::Tokenizer t = small::from_json(
      R"({"normalizer":{"type":"BertNormalizer","lowercase":false},"pre_tokenizer":{"type":"Metaspace","prepend_scheme":"first","split":false},)"
      R"("model":{"type":"BPE","unk_token":"?","vocab":{"?":0,"a":1,"b":2,"▁":3},"merges":[]}})");
  CHECK(t.encode("a b") == EncodedIds{3, 1, 3, 2});
  CHECK(t.encode("\x01"
                 "a b") == EncodedIds{1, 3, 2});
  CHECK(t.encode_full("\x01"
                      "a b")
            .ids == EncodedIds{1, 3, 2});
}

TEST_CASE("what is too long is cut", "[tokenizer]") {
  using Strategy = Truncation::Strategy;
  const peft::Tokenizer t = letters(bert_processing);
  const auto cut = [&](std::size_t length, Strategy strategy, bool left) {
    return t.encode_pair("a b c a b", "c b a", {.truncation = Truncation{length, strategy, left}}).ids;
  };
  CHECK(cut(4, Strategy::longest_first, false) == EncodedIds{4, 1, 5, 5});
  CHECK(cut(5, Strategy::longest_first, false) == EncodedIds{4, 1, 5, 3, 5});
  CHECK(cut(6, Strategy::longest_first, false) == EncodedIds{4, 1, 2, 5, 3, 5});
  CHECK(cut(8, Strategy::longest_first, false) == EncodedIds{4, 1, 2, 3, 5, 3, 2, 5});
  CHECK(cut(7, Strategy::longest_first, true) == EncodedIds{4, 1, 2, 5, 2, 1, 5});
  CHECK(cut(7, Strategy::only_first, false) == EncodedIds{4, 1, 5, 3, 2, 1, 5});
  CHECK(cut(8, Strategy::only_first, true) == EncodedIds{4, 1, 2, 5, 3, 2, 1, 5});
  CHECK_THROWS_WITH(cut(6, Strategy::only_first, false), Catch::Contains("max_length = 6"));
  CHECK_THROWS_WITH(cut(2, Strategy::longest_first, false), Catch::Contains("special tokens alone are 3"));
  CHECK(t.encode("a b c", {.truncation = Truncation{.max_length = 4}}) == EncodedIds{4, 1, 2, 5});
  CHECK_THROWS_WITH(t.encode("a b c", {.truncation = Truncation{4, Strategy::only_second, false}}), Catch::Contains("pair"));
}

TEST_CASE("a batch is filled up to one length", "[tokenizer]") {
  const peft::Tokenizer t = letters(bert_processing);
  std::vector<Encoding> batch = {t.encode_full("a"), t.encode_full("a b c")};
  peft::pad(batch, {.multiple_of = 4, .left = true, .id = 9, .type_id = 2});
  CHECK(batch[0].ids == EncodedIds{9, 9, 9, 9, 9, 4, 1, 5});
  CHECK(batch[1].ids == EncodedIds{9, 9, 9, 4, 1, 2, 3, 5});
  CHECK(batch[0].type_ids == EncodedIds{2, 2, 2, 2, 2, 0, 0, 0});
  CHECK(batch[0].mask == Flags{0, 0, 0, 0, 0, 1, 1, 1});
  CHECK(batch[0].special == Flags{1, 1, 1, 1, 1, 1, 0, 1});
  CHECK(batch[0].offsets == Spans{{0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 1}, {0, 0}});
  batch = {t.encode_full("a")};
  peft::pad(batch, {.length = 4});
  CHECK(batch[0].ids == EncodedIds{4, 1, 5, 0});
}

TEST_CASE("a file's truncation and padding are read, and applied when asked for", "[tokenizer]") {
  const peft::Tokenizer t = letters(
      R"("truncation":{"max_length":3,"strategy":"OnlyFirst","stride":0,"direction":"Left"},"padding":{"strategy":{"Fixed":6},"direction":"Right","pad_to_multiple_of":null,"pad_id":7,"pad_type_id":0,"pad_token":"x"},)" +
      bert_processing);
  CHECK(t.encode("a b c").size() == 5);
  REQUIRE(t.truncation().has_value());
  CHECK(t.encode("a b c", {.truncation = t.truncation()}) == EncodedIds{4, 3, 5});
  REQUIRE(t.padding().has_value());
  CHECK(t.padding()->length == 6u);
  CHECK(t.padding()->id == 7);
  CHECK_THROWS_WITH(letters(R"("truncation":{"max_length":3,"strategy":"Longest"},)"), Catch::Contains("LongestFirst"));
}

TEST_CASE("a batch on all threads gives what each text gives alone", "[tokenizer]") {
  const peft::Tokenizer t = letters(bert_processing);
  std::vector<std::string> texts;
  for (int i = 0; i < 100; i++) texts.push_back(std::string(i % 3 == 0 ? "a " : "b ") + std::string(static_cast<std::size_t>(i % 7), 'c'));
  const auto batch = t.encode_batch(texts);
  REQUIRE(batch.size() == texts.size());
  for (std::size_t i = 0; i < texts.size(); i++) CHECK(batch[i] == t.encode(texts[i]));
  CHECK_THROWS_AS(t.encode_batch(texts, {.truncation = Truncation{.max_length = 1}}), peft::Error);
}
