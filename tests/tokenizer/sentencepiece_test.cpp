// SPDX-License-Identifier: Apache-2.0
// Expected ids and texts are those of the sentencepiece library 0.2.3 on the same models.
#include "peft/tokenizer/sentencepiece.hpp"

#include <catch2/catch.hpp>
#include <cstring>

#include "peft/core/error.hpp"
#include "peft/io/gguf.hpp"
#include "peft/tokenizer/builtin_templates.hpp"
#include "peft/tokenizer/write_gguf.hpp"
#include "small_tokenizer.hpp"

namespace {

using PieceIds = std::vector<std::int32_t>;

/// A protobuf message.
struct Message {
  std::string bytes;
  void varint(std::uint64_t value) {
    for (; value > 127; value >>= 7) bytes += static_cast<char>(static_cast<unsigned char>(value | 128));
    bytes += static_cast<char>(static_cast<unsigned char>(value));
  }
  Message& number(unsigned field, std::uint64_t value) { return varint(field << 3), varint(value), *this; }
  Message& text(unsigned field, std::string_view value) { return varint(field << 3 | 2), varint(value.size()), bytes += value, *this; }
  Message& real(unsigned field, float value) {
    char raw[4];
    std::memcpy(raw, &value, 4);
    varint(field << 3 | 5);
    bytes.append(raw, 4);
    return *this;
  }
};

struct Settings {
  bool bpe = false, byte_fallback = false, remove_extra_whitespaces = true, add_dummy_prefix = true, suffix = false;
  std::vector<std::string> user_defined = {};  // behind the others
  bool plain = false;                          // none of them user-defined or unused
  std::string letters = {};                    // pieces of one character
};

std::string model_bytes(Settings settings) {
  struct Piece {
    std::string text;
    float score;
    unsigned type;
  };
  std::vector<Piece> pieces = {{"<unk>", 0, 2}, {"<s>", 0, 3}, {"</s>", 0, 3}, {"<xy>", 0, 4}};
  const std::vector<Piece> unigram = {{"▁", -2, 1}, {"a", -1.5f, 1}, {"b", -1.5f, 1}, {"ab", -2, 1}, {"▁a", -2.5f, 1}, {"abb", -0.5f, 5}};
  const std::vector<Piece> bpe = {{"▁", -9, 1}, {"a", -9, 1}, {"b", -9, 1}, {"ab", -1, 5}, {"▁a", -3, 1}, {"abb", -2, 1}, {"bb", -2.5f, 1}};
  pieces.insert(pieces.end(), (settings.bpe ? bpe : unigram).begin(), (settings.bpe ? bpe : unigram).end());
  for (const char letter : settings.letters) pieces.push_back({std::string(1, letter), -9, 1});
  if (settings.plain)
    for (Piece& piece : pieces) piece.type = piece.type > 3 ? 1 : piece.type;
  for (const std::string& text : settings.user_defined) pieces.push_back({text, 0, 4});
  for (unsigned byte = 0; settings.byte_fallback && byte < 256; byte++) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    pieces.push_back({name, 0, 6});
  }
  Message model, trainer, normalizer;
  for (const Piece& piece : pieces) model.text(1, Message().text(1, piece.text).real(2, piece.score).number(3, piece.type).bytes);
  trainer.number(3, settings.bpe ? 2 : 1).number(24, settings.suffix).number(35, settings.byte_fallback);
  normalizer.number(3, settings.add_dummy_prefix).number(4, settings.remove_extra_whitespaces);
  return model.text(2, trainer.bytes).text(3, normalizer.bytes).bytes;
}

peft::Tokenizer load_pieces(Settings settings) {
  const small::Folder folder;
  return peft::load_tokenizer(folder.write("tokenizer.model", model_bytes(settings)));
}

void check_both_ways(const peft::Tokenizer& t, std::string_view text, const PieceIds& ids, std::string_view decoded) {
  CHECK(t.encode(text) == ids);
  CHECK(t.encode_full(text).ids == ids);
  CHECK(t.decode(ids) == decoded);
}

}  // namespace

TEST_CASE("a sentencepiece unigram model", "[tokenizer]") {
  const peft::Tokenizer t = load_pieces({});
  check_both_ways(t, "abb ab", {4, 7, 6, 4, 7}, "abb ab");  // "abb" is unused
  check_both_ways(t, "  a  b ", {8, 4, 6}, "a b");
  check_both_ways(t, "a<xy>b", {8, 3, 6}, "a<xy>b");
  check_both_ways(t, "éé a</s>", {4, 0, 8, 0}, " \xE2\x81\x87  a \xE2\x81\x87 ");  // texts cannot spell control pieces
  check_both_ways(t, " ", {}, "");
  CHECK(t.is_special(2));
  CHECK(t.eos_id() == 2);
  const peft::Tokenizer plain = load_pieces({.remove_extra_whitespaces = false, .add_dummy_prefix = false});
  check_both_ways(plain, "  a  b ", {4, 8, 4, 4, 6, 4}, "  a  b ");
  check_both_ways(plain, "a<xy>b", {5, 3, 6}, "a<xy>b");
  check_both_ways(load_pieces({.byte_fallback = true}), "éé a</s>", {4, 205, 179, 205, 179, 8, 70, 57, 125, 72}, "éé a</s>");
  CHECK(load_pieces({.suffix = true}).encode("  a  b ") == PieceIds{5, 4, 6, 4});
  // A user-defined piece is more probable than any path of others through the same characters.
  CHECK(load_pieces({.add_dummy_prefix = false, .user_defined = {"ba"}}).encode("bbaa") == PieceIds{6, 10, 5});
}

TEST_CASE("a sentencepiece BPE model", "[tokenizer]") {
  const peft::Tokenizer t = load_pieces({.bpe = true});
  check_both_ways(t, "abb ab", {4, 9, 4, 5, 6}, "abb ab");  // "ab" is unused: it leads to abb, and is else taken apart
  check_both_ways(t, "  a  b ", {8, 4, 6}, "a b");
  check_both_ways(t, "a<xy>b", {8, 3, 6}, "a<xy>b");
  check_both_ways(t, "éé a</s>", {4, 0, 8, 0}, " \xE2\x81\x87  a \xE2\x81\x87 ");
  check_both_ways(t, "abab", {4, 5, 6, 5, 6}, "abab");
  const peft::Tokenizer bytes = load_pieces({.bpe = true, .byte_fallback = true, .remove_extra_whitespaces = false});
  check_both_ways(bytes, "  a  b ", {4, 4, 8, 4, 4, 6, 4}, "  a  b ");
  check_both_ways(bytes, "éé a</s>", {4, 206, 180, 206, 180, 8, 71, 58, 126, 73}, "éé a</s>");
  const peft::Tokenizer strict = load_pieces({.bpe = true, .byte_fallback = true});
  CHECK(strict.decode(PieceIds{5, 11 + 0xC3, 11 + 0xA9, 11 + 0xC3, 5}) ==
        "aé\xEF\xBF\xBD"
        "a");
  CHECK(strict.decode(PieceIds{1, 8, 5, 2}) == "aa");
  CHECK(strict.decode(PieceIds{4, 4, 5}) == "a");
}

TEST_CASE("offsets through sentencepiece's normalizer", "[tokenizer]") {
  const peft::Encoding e = load_pieces({}).encode_full("  éa  b");
  CHECK(e.ids == PieceIds{4, 0, 5, 4, 6});
  CHECK(e.offsets == std::vector<peft::Offsets>{{2, 3}, {2, 3}, {3, 4}, {4, 5}, {6, 7}});
}

TEST_CASE("who reads a sentencepiece file says what stands around a text", "[tokenizer]") {
  const small::Folder folder;
  folder.write("spiece.model", model_bytes({}));
  CHECK(peft::load_tokenizer(folder.path()).encode("a") == PieceIds{8});
  folder.write("tokenizer_config.json", R"({"tokenizer_class":"T5Tokenizer"})");
  CHECK(peft::load_tokenizer(folder.path()).encode("a") == PieceIds{8, 2});
  folder.write("tokenizer_config.json", R"({"tokenizer_class":"LlamaTokenizer","add_eos_token":true})");
  CHECK(peft::load_tokenizer(folder.path()).encode("a") == PieceIds{1, 8, 2});
}

TEST_CASE("ChatGLM2's and 3's special tokens stand behind the vocabulary", "[tokenizer]") {
  const small::Folder folder;
  folder.write("tokenizer.model", model_bytes({.bpe = true, .byte_fallback = true, .remove_extra_whitespaces = false}));
  const auto config = [&](const std::string& more) { folder.write("tokenizer_config.json", R"({"tokenizer_class":"ChatGLMTokenizer")" + more + "}"); };
  const std::int32_t n = 4 + 7 + 256, gmask = n + 1, sop = n + 3, user = n + 6, assistant = n + 7, observation = n + 8, line = 11 + '\n';
  const std::vector<peft::ChatMessage> chat = {{"user", "a"}, {"assistant", "b"}, {"user", "ab"}}, answered = {{"user", "a"}, {"assistant", "\n b"}};

  config(R"(,"name_or_path":"THUDM/chatglm3-6b")");
  const peft::Tokenizer three = peft::load_tokenizer(folder.path());
  CHECK(three.encode("a") == PieceIds{gmask, sop, 8});
  CHECK(three.encode("sop", {.add_special_tokens = false}).size() == 4);  // three letters behind a space: no token
  const std::string text = three.apply_chat(std::span(chat).first(1));
  CHECK(text == "[gMASK]<sop><|user|>\n a<|assistant|>");
  CHECK(three.encode(text, {.add_special_tokens = false}) == PieceIds{gmask, sop, user, 4, line, 8, assistant});
  CHECK(three.apply_chat(chat) == "[gMASK]<sop><|user|>\n a<|assistant|>\n b<|user|>\n ab<|assistant|>");
  CHECK(three.apply_chat(answered, false) == "[gMASK]<sop><|user|>\n a<|assistant|>\n b</s>");
  CHECK(three.encode("</s>", {.add_special_tokens = false}) == PieceIds{2});
  CHECK(three.eos_ids() == std::vector<std::int32_t>{2, user, observation});
  CHECK(three.pad_id() == 0);
  CHECK(three.decode(PieceIds{gmask, sop, user, 8, 2}) == "a");

  config(R"(,"name_or_path":"THUDM/chatglm2-6b")");
  const peft::Tokenizer two = peft::load_tokenizer(folder.path());
  CHECK(two.apply_chat(chat) == "[gMASK]<sop>[Round 1]\n\n问：a\n\n答：b\n\n[Round 2]\n\n问：ab\n\n答：");
  CHECK(two.apply_chat(std::span(chat).first(2), false) == "[gMASK]<sop>[Round 1]\n\n问：a\n\n答：b</s>");
  CHECK(two.eos_ids() == std::vector<std::int32_t>{2});
  CHECK_THROWS_WITH(two.apply_chat(std::vector<peft::ChatMessage>{{"system", "b"}}), Catch::Contains("knows user and assistant, not system"));

  config("");
  CHECK_FALSE(peft::load_tokenizer(folder.path()).chat_template().usable());
  config(R"(,"chat_template":"chatglm2")");
  CHECK(peft::load_tokenizer(folder.path()).apply_chat(chat) == two.apply_chat(chat));
  config(R"(,"chat_template":"[gMASK]sop{{ messages[0]['content'] }}")");
  CHECK(peft::load_tokenizer(folder.path()).apply_chat(chat) == "[gMASK]<sop>a");
}

TEST_CASE("marks beside Chinese characters become full-width", "[tokenizer]") {
  CHECK(peft::full_width_punctuation("你好,世界!a,b:中;x 1,2?") == "你好，世界！a,b：中；x 1,2?");
  CHECK(peft::full_width_punctuation("中,,?国") == "中，,？国");
  CHECK(peft::full_width_punctuation("") == "");
}

TEST_CASE("ChatGLM-6B's vocabulary: white space has its own pieces, images may come first", "[tokenizer]") {
  const small::Folder folder;
  const std::vector<std::string> own = {"[MASK]", "[gMASK]", "<sop>", "<eop>", "<n>", "<|tab|>", "<|blank_2|>", "<|blank_80|>"};
  folder.write("ice_text.model", model_bytes({.bpe = true, .user_defined = own}));
  for (const std::int32_t images : {0, 5, 20000}) {
    folder.write("tokenizer_config.json",
                 R"({"tokenizer_class":"ChatGLMTokenizer")" + (images == 20000 ? "" : ",\"num_image_tokens\":" + std::to_string(images)) + "}");
    const peft::Tokenizer t = peft::load_tokenizer(folder.path());
    const auto ids = [&](PieceIds of) {
      for (auto& id : of) id += images;
      return of;
    };
    check_both_ways(t, "a\n  b\tab", ids({8, 15, 17, 6, 16, 5, 6}), "a\n  b\tab");
    CHECK(t.encode("a" + std::string(82, ' ') + "b") == ids({8, 18, 17, 6}));
    CHECK(t.encode("a[gMASK]<sop>") == ids({8, 12, 13}));
    CHECK(t.encode_full("a\nb").offsets == std::vector<peft::Offsets>{{0, 1}, {1, 2}, {2, 3}});
    CHECK(t.eos_id() == 14 + images);
    CHECK(t.bos_id() == 13 + images);
    CHECK(t.decode(ids({8, 12, 13, 6, 14})) == "ab");
    const std::vector<peft::ChatMessage> chat = {{"user", "a"}, {"assistant", "b"}, {"user", "ab"}};
    CHECK(t.apply_chat(std::span(chat).first(1)) == "a[gMASK]<sop>");
    CHECK(t.apply_chat(std::span(chat).first(2), false) == "a[gMASK]<sop>b<eop>");
    CHECK(t.apply_chat(chat) == "[Round 0]\n问：a\n答：b\n[Round 1]\n问：ab\n答：[gMASK]<sop>");
  }
  folder.write("ice_text.model", model_bytes({.bpe = true}));
  CHECK_THROWS_WITH(peft::load_tokenizer(folder.path()), Catch::Contains("a ChatGLMTokenizer without the piece [MASK]"));
}

TEST_CASE("a sentencepiece model in a GGUF file", "[tokenizer]") {
  const auto write = [](const small::Folder& folder, const Settings& settings) {
    folder.write("tokenizer.model", model_bytes(settings));
    folder.write("tokenizer_config.json", R"({"tokenizer_class":"LlamaTokenizer","bos_token":"<s>","eos_token":"</s>"})");
    peft::GgufFileWriter writer;
    peft::write_gguf_tokenizer(writer, folder.path(), 300);
    writer.write(folder.path() + "/written.gguf", {});
    return folder.path() + "/written.gguf";
  };
  for (const bool prefix : {true, false}) {
    const small::Folder folder;
    const std::string path =
        write(folder, {.bpe = true, .byte_fallback = true, .remove_extra_whitespaces = false, .add_dummy_prefix = prefix, .plain = true, .letters = "<>xy"});
    const peft::Tokenizer from = peft::load_tokenizer(folder.path()), to = peft::load_tokenizer(path);
    for (const char* text : {"", "ab", " abb  a bb", "aab\nabbb", "caf\u00E9 ab \U0001F642"}) {
      CAPTURE(text);
      CHECK(to.encode(text) == from.encode(text));
      CHECK(to.decode(from.encode(text)) == from.decode(from.encode(text)));
    }
    CHECK(to.encode("a").front() == 1);
    CHECK(peft::GgufFile::open(path).find("tokenizer.ggml.scores")->numbers().at(8) == -3);
  }
  {  // what is user-defined is cut out of the text before its spaces are marks
    const small::Folder folder;
    Settings settings{.bpe = true, .byte_fallback = true, .remove_extra_whitespaces = false, .add_dummy_prefix = false, .plain = true, .letters = "<>xy"};
    settings.user_defined = {"▁▁", "<b>"};
    const std::string path = write(folder, settings);
    const peft::Tokenizer from = peft::load_tokenizer(folder.path()), to = peft::load_tokenizer(path);
    for (const char* text : {"a  b", "   ab<b>bb", "<b>  <b> a"}) CHECK(to.encode(text) == from.encode(text));
  }
  const small::Folder folder;
  CHECK_THROWS_WITH(write(folder, {.plain = true}), Catch::Contains("no BPE"));
  CHECK_THROWS_WITH(write(folder, {.bpe = true}), Catch::Contains("remove_extra_whitespaces"));
  CHECK_THROWS_WITH(write(folder, {.bpe = true, .remove_extra_whitespaces = false}), Catch::Contains("without byte_fallback"));
  CHECK_THROWS_WITH(write(folder, {.bpe = true, .byte_fallback = true, .remove_extra_whitespaces = false}), Catch::Contains("\"<xy>\", which is user-defined"));
  CHECK_THROWS_WITH(write(folder, {.bpe = true, .byte_fallback = true, .remove_extra_whitespaces = false, .add_dummy_prefix = false}),
                    Catch::Contains("\"ab\", which is unused"));
}

TEST_CASE("what is no sentencepiece model is refused", "[tokenizer]") {
  using peft::tokenizer::SentencepieceModel;
  const std::string good = model_bytes({});
  CHECK(SentencepieceModel::parse(good, "f").pieces.size() == 10);
  CHECK_THROWS_WITH(SentencepieceModel::parse("", "f"), Catch::Contains("no pieces"));
  CHECK_THROWS_WITH(SentencepieceModel::parse(good.substr(0, good.size() - 1), "f"), Catch::Contains("ends within a field"));
  CHECK_THROWS_WITH(SentencepieceModel::parse(Message().text(1, Message().text(1, "a").number(3, 9).bytes).bytes, "f"), Catch::Contains("type 9"));
  CHECK_THROWS_AS(SentencepieceModel::parse(std::string(20, '\xFF'), "f"), peft::FormatError);
  const small::Folder folder;
  CHECK_THROWS_WITH(peft::load_tokenizer(folder.write("a.model", Message().text(1, Message().text(1, "a").bytes).bytes)), Catch::Contains("unknown piece"));
}
