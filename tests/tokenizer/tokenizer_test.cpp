// SPDX-License-Identifier: Apache-2.0
#include "peft/tokenizer/tokenizer.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <thread>

#include "peft/core/error.hpp"
#include "small_tokenizer.hpp"

namespace {

using Ids = std::vector<std::int32_t>;

const int first_added = 256 + static_cast<int>(small::english().size());

std::string piecewise(const peft::Tokenizer& tokenizer, const Ids& ids, peft::DecodeOptions options = {}) {
  peft::StreamDecoder stream(tokenizer, options);
  std::string text;
  for (const std::int32_t id : ids) {
    text += stream.push(id);
    CHECK(peft::unicode::is_valid(text));
  }
  return text + stream.flush();
}

}  // namespace

TEST_CASE("byte-level BPE there and back", "[tokenizer]") {
  const peft::Tokenizer t = small::from_json(small::json(small::model_json(small::english()), "", small::byte_level));
  const auto id = [&](const char* token) { return t.token_to_id(token).value(); };
  CHECK(t.encode("hello world") == Ids{id("hello"), id("Ġworld")});
  CHECK(t.encode("hell the") == Ids{id("hell"), id("Ġthe")});
  CHECK(t.encode("").empty());
  CHECK(t.vocab_size() == first_added);
  CHECK(t.id_to_token(id("hello")) == "hello");
  CHECK_FALSE(t.id_to_token(100000).has_value());
  CHECK_FALSE(t.token_to_id("no such").has_value());
  for (const std::string& text : {std::string("hello, world! 中文 \xF0\x9F\x98\x80\n\t  end "), std::string("\x01\x7F"), std::string("nul\0!", 5)}) {
    CHECK(t.decode(t.encode(text)) == text);
    CHECK(piecewise(t, t.encode(text)) == text);
  }
  CHECK(t.decode(t.encode("a\xFFz")) == "a\xEF\xBF\xBDz");
  CHECK(t.decode(Ids{id("hello"), 100000}) == "hello");
  CHECK_THROWS_WITH(t.decode(Ids{-100}), Catch::Contains("-100"));
}

TEST_CASE("a piece gives the same ids the second time, and in any thread", "[tokenizer]") {
  const peft::Tokenizer t = small::from_json(small::json(small::model_json(small::english()), "", small::byte_level));
  std::string text;
  for (int i = 0; i < 500; i++) text += "hello world the " + std::to_string(i * 7919) + " hell\n";
  const Ids expected = small::from_json(small::json(small::model_json(small::english()), "", small::byte_level)).encode(text);
  std::vector<Ids> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) threads.emplace_back([&result, &t, &text] { result = t.encode(text); });
  for (auto& thread : threads) thread.join();
  for (const auto& result : results) CHECK(result == expected);
  CHECK(t.encode(text) == expected);
}

TEST_CASE("added tokens are cut out, the longest first", "[tokenizer]") {
  const std::string normal = R"("special":false,"normalized":false)";
  const peft::Tokenizer t = small::from_json(small::json(
      small::model_json(small::english()),
      small::added_json(300, "<a>") + "," + small::added_json(301, "<a><b>") + "," + small::added_json(302, "word", normal + R"(,"single_word":true)") + "," +
          small::added_json(303, "<l>", normal + R"(,"lstrip":true)") + "," + small::added_json(304, "<r>", normal + R"(,"rstrip":true)"),
      small::byte_level));
  CHECK(t.encode("<a><b><a>") == Ids{301, 300});
  CHECK(t.encode("word") == Ids{302});
  CHECK(t.encode(" word.") == Ids{32, 302, 46});
  CHECK(t.encode("words").front() != 302);
  CHECK(t.encode("sword").back() != 302);
  CHECK(t.encode("x \t<l> y") == Ids{'x', 303, 32, 'y'});
  CHECK(t.encode("x <r> \ny") == Ids{'x', 32, 304, 'y'});
  CHECK(t.decode(t.encode("x<a>y<r>")) == "xy<r>");
  CHECK(t.decode(t.encode("x<a>y"), {.skip_special_tokens = false}) == "x<a>y");
  CHECK(t.is_special(300));
  CHECK_FALSE(t.is_special(302));
  const Ids split = t.encode("x<a>y", {.split_special_tokens = true});
  CHECK(split == Ids{'x', '<', 'a', '>', 'y'});
  CHECK(t.decode(split) == "x<a>y");
}

TEST_CASE("a normalized token is sought in the normalised text", "[tokenizer]") {
  const std::string parts = R"("normalizer":{"type":"Lowercase"},)" + small::byte_level;
  const peft::Tokenizer t =
      small::from_json(small::json(small::model_json(small::english()),
                                   small::added_json(300, "<Big>", R"("special":false,"normalized":true)") + "," + small::added_json(301, "<Raw>"), parts));
  CHECK(t.encode("<BIG>") == Ids{300});
  CHECK(t.decode(Ids{300}) == "<big>");
  CHECK(t.token_to_id("<Big>") == 300);
  CHECK(t.encode("<RAW>").front() == '<');
  CHECK(t.encode("<Raw>") == Ids{301});
  CHECK(t.encode("HELLO") == Ids{*t.token_to_id("hello")});
}

TEST_CASE("special tokens around a text", "[tokenizer]") {
  const peft::Tokenizer t = small::plain();
  CHECK(t.encode("a") == Ids{first_added, 'a'});
  CHECK(t.encode("a", {.add_special_tokens = false}) == Ids{'a'});
  CHECK(t.bos_id() == first_added);
  CHECK(t.eos_id() == first_added + 1);
  CHECK(t.eos_ids() == Ids{first_added + 1});
  CHECK_FALSE(t.pad_id().has_value());
  CHECK(t.decode(t.encode("a")) == "a");
}

TEST_CASE("generation_config.json lists what ends an answer", "[tokenizer]") {
  const small::Folder folder;
  folder.write("tokenizer.json", small::json(small::model_json({}), small::added_json(256, "</s>") + "," + small::added_json(257, "<eot>"), small::byte_level));
  folder.write("tokenizer_config.json", R"({"eos_token":"</s>"})");
  folder.write("generation_config.json", R"({"eos_token_id":[257,256],"pad_token_id":256,"bos_token_id":null})");
  folder.write("chat_template.jinja", "{% something else %}");
  const peft::Tokenizer t = peft::load_tokenizer(folder.path());
  CHECK(t.eos_id() == 256);
  CHECK(t.eos_ids() == Ids{257, 256});
  CHECK(t.pad_id() == 256);
  CHECK_FALSE(t.bos_id().has_value());
  CHECK_FALSE(t.chat_template().usable());
  CHECK_THROWS_WITH(t.apply_chat(std::vector<peft::ChatMessage>{{"user", "hi"}}), Catch::Contains("not understood") && Catch::Contains("something else"));
}

TEST_CASE("sentencepiece's style: ▁ for spaces, bytes for the unknown", "[tokenizer]") {
  std::string vocab = R"("<unk>":0,"▁":1,"a":2,"▁a":3,"b":4)";
  for (int byte = 0; byte < 256; byte++) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    vocab += ",\"" + std::string(name) + "\":" + std::to_string(5 + byte);
  }
  const peft::Tokenizer t = small::from_json(
      R"({"added_tokens":[],"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},)"
      R"("decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},)"
      R"({"type":"Strip","content":" ","start":1,"stop":0}]},"model":{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,"vocab":{)" +
      vocab + R"(},"merges":["▁ a"]}})");
  CHECK(t.encode("a ab") == Ids{3, 3, 4});
  CHECK(t.encode("é") == Ids{1, 5 + 0xC3, 5 + 0xA9});
  for (const char* text : {"a ab", "  a é中 b ", "\xF0\x9F\x98\x80"}) {
    CHECK(t.decode(t.encode(text)) == text);
    CHECK(piecewise(t, t.encode(text)) == text);
  }
  CHECK(t.decode(Ids{2, 5 + 0xC3, 2}) ==
        "a\xEF\xBF\xBD"
        "a");
  CHECK(piecewise(t, {2, 5 + 0xC3, 2}) ==
        "a\xEF\xBF\xBD"
        "a");
  CHECK(piecewise(t, {5 + 0xC3, 5 + 0xA9, 5 + 0xC3}).starts_with("é"));  // the run turns out broken after its beginning was shown
}

TEST_CASE("words of a text without pre-tokenizer are found at their ▁", "[tokenizer]") {
  // The same merges with and without one that crosses a border: "b▁a" would be cut wrongly.
  const std::string head = R"({"added_tokens":[],"normalizer":{"type":"Replace","pattern":{"String":" "},"content":"▁"},"model":{"type":"BPE","vocab":{)";
  const std::string body = R"("▁":0,"a":1,"b":2,"▁a":3,"▁▁":4,"ab":5,"?":6},"merges":["▁ a","▁ ▁","a b"])";
  const peft::Tokenizer words = small::from_json(head + body + R"(,"unk_token":"?"}})"), dropping = small::from_json(head + body + "}}");
  CHECK(words.encode("a  ab b a") == Ids{1, 0, 3, 2, 0, 2, 3});
  CHECK(dropping.encode("a  ab b a") == Ids{1, 0, 3, 2, 0, 2, 3});
  CHECK(words.encode("a \n \nb") == Ids{1, 0, 6, 0, 6, 2});
  CHECK(dropping.encode("a \n \nb") == Ids{1, 4, 2});
  const peft::Tokenizer crossing = small::from_json(head + R"("▁":0,"a":1,"b":2,"b▁":3,"b▁a":4},"merges":["b ▁","b▁ a"]}})");
  CHECK(crossing.encode("ab ab") == Ids{1, 4, 2});
}

TEST_CASE("a stream holds back only what is incomplete", "[tokenizer]") {
  const peft::Tokenizer t = small::from_json(small::json(small::model_json({}), "", small::byte_level));
  peft::StreamDecoder stream(t);
  CHECK(stream.push('a') == "a");
  CHECK(stream.push(0xE4).empty());
  CHECK(stream.push(0xB8).empty());
  CHECK(stream.push(0xAD) == "中");
  CHECK(stream.push(0xFF).empty());
  CHECK(stream.push('b') ==
        "\xEF\xBF\xBD"
        "b");
  CHECK(stream.push(0xC3).empty());
  CHECK(stream.flush() == "\xEF\xBF\xBD");
  CHECK(stream.push('c') == "c");
}

TEST_CASE("files that are wrong are refused by name", "[tokenizer]") {
  const auto load = [](const std::string& text) { small::from_json(text); };
  const auto model = [](const std::string& vocab, const std::string& merges, const std::string& more = "") {
    return "{\"model\":{\"type\":\"BPE\"," + more + "\"vocab\":{" + vocab + "},\"merges\":[" + merges + "]}}";
  };
  CHECK_NOTHROW(load(model(R"("a":0,"b":1,"ab":2)", R"("a b")")));
  CHECK_THROWS_AS(load(model(R"("a":0,"b":1)", R"("a b")")), peft::FormatError);
  CHECK_THROWS_WITH(load(model(R"("a":0,"b":1)", R"("a b")")), Catch::Contains("tokenizer.json") && Catch::Contains("\"ab\""));
  CHECK_THROWS_WITH(load(model(R"("a":0)", R"(["a","a","a"])")), Catch::Contains("merge 0"));
  CHECK_THROWS_WITH(load(model(R"("a":-1)", "")), Catch::Contains("-1"));
  CHECK_THROWS_WITH(load(model(R"("a":1099511627776)", "")), Catch::Contains("1099511627776"));
  CHECK_THROWS_AS(load(model(R"("a":0,"b":0)", "")), peft::FormatError);
  CHECK_THROWS_WITH(load(model(R"("a":0)", "", R"("unk_token":"<unk>",)")), Catch::Contains("<unk>"));
  CHECK_THROWS_WITH(load(R"({"model":{"type":"Quantum"}})"), Catch::Contains("Quantum") && Catch::Contains("BPE"));
  CHECK_THROWS_WITH(load("{}"), Catch::Contains("model"));
  CHECK_THROWS_AS(load(""), peft::FormatError);
  CHECK_THROWS_AS(load("[1]"), peft::FormatError);
  CHECK_THROWS_WITH(load(small::json(small::model_json({}), small::added_json(97, "<x>"))), Catch::Contains("<x>") && Catch::Contains("97"));
  CHECK_THROWS_WITH(load(small::json(small::model_json({}), small::added_json(300, "a"))), Catch::Contains("300"));
  CHECK_THROWS_WITH(load(small::json(small::model_json({}), "", R"("decoder":{"type":"Nope"},)")), Catch::Contains("decoder") && Catch::Contains("Nope"));
  CHECK_THROWS_WITH(load(small::json(small::model_json({}), "", R"("normalizer":{"type":"Precompiled"},)")), Catch::Contains("precompiled_charsmap"));
  CHECK_THROWS_WITH(
      load(small::json(
          small::model_json({}), "",
          R"("post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{}},)")),
      Catch::Contains("[CLS]"));
  CHECK_THROWS_AS(peft::load_tokenizer("/no/such/place"), peft::FormatError);
  const small::Folder folder;
  CHECK_THROWS_WITH(peft::load_tokenizer(folder.path()), Catch::Contains("tokenizer.json"));
}
