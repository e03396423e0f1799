// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>
#include <cstring>
#include <span>

#include "peft/core/error.hpp"
#include "peft/tokenizer/save.hpp"
#include "small_tokenizer.hpp"

namespace {

using Ids = std::vector<std::int32_t>;

/// A GGUF file of metadata alone.
class Gguf {
 public:
  template <class T>
  void put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(std::string_view value) { put(std::uint64_t{value.size()}), bytes_ += value; }
  void key(std::string_view name, std::int32_t type) { text(name), put(type), count_++; }
  Gguf& add(std::string_view name, std::string_view value) { return key(name, 8), text(value), *this; }
  Gguf& add(std::string_view name, std::uint32_t value) { return key(name, 4), put(value), *this; }
  Gguf& flag(std::string_view name, bool value) { return key(name, 7), put(std::uint8_t{value}), *this; }
  Gguf& add(std::string_view name, const std::vector<std::string>& values) {
    key(name, 9), put(std::int32_t{8}), put(std::uint64_t{values.size()});
    for (const std::string& value : values) text(value);
    return *this;
  }
  Gguf& add(std::string_view name, const std::vector<std::int32_t>& values) { return list(name, 5, values); }
  Gguf& add(std::string_view name, const std::vector<float>& values) { return list(name, 6, values); }
  std::string file() const {
    Gguf whole;
    whole.bytes_ = "GGUF";
    whole.put(std::uint32_t{3}), whole.put(std::int64_t{0}), whole.put(count_);
    whole.bytes_ += bytes_;
    whole.bytes_.resize((whole.bytes_.size() + 31) / 32 * 32);
    return whole.bytes_;
  }

 private:
  template <class T>
  Gguf& list(std::string_view name, std::int32_t type, const std::vector<T>& values) {
    key(name, 9), put(type), put(std::uint64_t{values.size()});
    for (const T value : values) put(value);
    return *this;
  }
  std::string bytes_;
  std::int64_t count_ = 0;
};

/// The tokenizer of small::english() as GGUF keys; two control tokens and a user-defined one behind.
Gguf english(const std::string& pre) {
  std::vector<std::string> tokens, merges;
  for (int byte = 0; byte < 256; byte++) tokens.emplace_back(peft::unicode::byte_to_visible(static_cast<unsigned char>(byte)));
  for (const auto& [left, right] : small::english()) tokens.push_back(left + right), merges.push_back(left + " " + right);
  std::vector<std::int32_t> types(tokens.size(), 1);
  for (const char* token : {"<|im_start|>", "<|im_end|>"}) tokens.emplace_back(token), types.push_back(3);
  tokens.emplace_back("<name>"), types.push_back(4);
  Gguf file;
  file.add("general.architecture", "llama")
      .add("tokenizer.ggml.model", "gpt2")
      .add("tokenizer.ggml.pre", std::string_view(pre))
      .add("tokenizer.ggml.tokens", tokens);
  file.add("tokenizer.ggml.token_type", types).add("tokenizer.ggml.merges", merges).add("tokenizer.ggml.eos_token_id", std::uint32_t(tokens.size() - 2));
  return file.add("tokenizer.ggml.bos_token_id", std::uint32_t(tokens.size() - 3));
}

peft::Tokenizer load(const Gguf& file) {
  const small::Folder folder;
  return peft::load_tokenizer(folder.write("model.gguf", file.file()));
}

const int gguf_first_added = 256 + static_cast<int>(small::english().size());

}  // namespace

TEST_CASE("a GGUF file's tokenizer is that of the tokenizer.json", "[tokenizer]") {
  const peft::Tokenizer json = small::chat();
  const peft::Tokenizer gguf = load(english("gpt-2"));
  for (const char* text : {"hello world", "<|im_start|>user\nthe 1234  world<|im_end|>\n", "It's 中文\n\n"}) {
    CHECK(gguf.encode(text) == json.encode(text));
    CHECK(gguf.decode(gguf.encode(text)) == json.decode(json.encode(text)));
  }
  CHECK(gguf.eos_id() == gguf_first_added + 1);
  CHECK(gguf.is_special(gguf_first_added));
  CHECK_FALSE(gguf.is_special(gguf_first_added + 2));
  CHECK(gguf.encode("a<name>b") == Ids{'a', gguf_first_added + 2, 'b'});
}

TEST_CASE("the name of the pre-tokenizer decides the cut and the first token", "[tokenizer]") {
  CHECK(load(english("smollm")).encode("a 12") == Ids{'a', ' ', '1', '2'});
  CHECK(load(english("llama-bpe")).encode("a") == Ids{gguf_first_added, 'a'});
  CHECK(load(english("llama-bpe").flag("tokenizer.ggml.add_bos_token", false)).encode("a") == Ids{'a'});
  CHECK(load(english("gpt-2").flag("tokenizer.ggml.add_bos_token", true).flag("tokenizer.ggml.add_eos_token", true)).encode("a") ==
        Ids{gguf_first_added, 'a', gguf_first_added + 1});
  CHECK(load(english("qwen2")).encode("e\xCC\x81") == Ids{0xC3, 0xA9});  // NFC
  CHECK(load(english("gpt-2")).encode("e\xCC\x81") == Ids{'e', 0xCC, 0x81});
  CHECK(load(english("default")).encode("hello") == load(english("gpt-2")).encode("hello"));
  CHECK_THROWS_AS(load(english("gpt2")), peft::FormatError);
  CHECK_THROWS_WITH(load(english("gpt2")), Catch::Contains("\"gpt2\"") && Catch::Contains("did you mean \"gpt-2\""));
}

TEST_CASE("a GGUF file's tokenizer, saved as tokenizer.json, is the same", "[tokenizer]") {
  const char* const texts[] = {"hello world", "<|im_start|>user\nthe 1234  world<|im_end|>\n", "It's 中文, e\xCC\x81 3.14\n\n", "a<name>b", ""};
  for (const char* pre : {"gpt-2", "smollm", "llama-bpe", "qwen2", "default"}) {
    CAPTURE(pre);
    const small::Folder folder;
    const std::string path =
        folder.write("model.gguf", english(pre).flag("tokenizer.ggml.add_eos_token", true).add("tokenizer.chat_template", "{{ '\"x\"' }}").file());
    const peft::Tokenizer gguf = peft::load_tokenizer(path);
    const std::string saved = std::filesystem::path(path).parent_path() / "saved";
    peft::save_tokenizer(path, saved);
    const peft::Tokenizer json = peft::load_tokenizer(saved);
    for (const char* text : texts) {
      CHECK(json.encode(text) == gguf.encode(text));
      CHECK(json.decode(json.encode(text), {.skip_special_tokens = false}) == gguf.decode(gguf.encode(text), {.skip_special_tokens = false}));
    }
    CHECK(json.bos_id() == gguf.bos_id());
    CHECK(json.eos_id() == gguf.eos_id());
    CHECK(json.vocab_size() == gguf.vocab_size());
  }
}

TEST_CASE("scores order the merges of sentencepiece's BPE", "[tokenizer]") {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<std::int32_t> types = {2, 3, 3};
  std::vector<float> scores = {0, 0, 0};
  for (unsigned byte = 0; byte < 256; byte++) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    tokens.emplace_back(name), types.push_back(6), scores.push_back(0);
  }
  for (const auto& [token, score] : {std::pair{"▁", -10.f}, {"a", -11.f}, {"b", -12.f}, {"▁a", -1.f}, {"ab", -0.5f}})
    tokens.emplace_back(token), types.push_back(1), scores.push_back(score);
  Gguf file;
  file.add("tokenizer.ggml.model", "llama").add("tokenizer.ggml.tokens", tokens).add("tokenizer.ggml.token_type", types).add("tokenizer.ggml.scores", scores);
  file.add("tokenizer.ggml.bos_token_id", 1u).add("tokenizer.ggml.eos_token_id", 2u).add("tokenizer.ggml.unknown_token_id", 0u);
  const peft::Tokenizer t = load(file);
  CHECK(t.encode("ab a") == Ids{1, 259, 263, 262});  // ab before ▁a
  CHECK(t.encode("é", {.add_special_tokens = false}) == Ids{259, 3 + 0xC3, 3 + 0xA9});
  CHECK(t.decode(t.encode(" ab é")) == " ab é");
}

TEST_CASE("BERT's vocabulary in a GGUF file marks what begins a word", "[tokenizer]") {
  Gguf file;
  file.add("tokenizer.ggml.model", "bert")
      .add("tokenizer.ggml.tokens", std::vector<std::string>{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁un", "able", "▁,", "▁é", "▁e"});
  file.add("tokenizer.ggml.token_type", std::vector<std::int32_t>{3, 2, 3, 3, 1, 1, 1, 1, 1});
  file.add("tokenizer.ggml.cls_token_id", 2u).add("tokenizer.ggml.seperator_token_id", 3u).add("tokenizer.ggml.unknown_token_id", 1u);
  const peft::Tokenizer t = load(file);
  CHECK(t.encode("Unable, É x") == Ids{2, 4, 5, 6, 8, 1, 3});
  CHECK(t.decode(t.encode("Unable, É")) == "unable, e");
  CHECK(t.encode_pair("un", "un").type_ids == Ids{0, 0, 0, 1, 1});
}

TEST_CASE("T5's vocabulary in a GGUF file", "[tokenizer]") {
  Gguf file;
  file.add("tokenizer.ggml.model", "t5").add("tokenizer.ggml.tokens", std::vector<std::string>{"<pad>", "</s>", "<unk>", "▁", "a", "b", "ab", "▁a"});
  file.add("tokenizer.ggml.token_type", std::vector<std::int32_t>{3, 3, 2, 1, 1, 1, 1, 1});
  file.add("tokenizer.ggml.scores", std::vector<float>{0, 0, 0, -2, -1.5f, -1.5f, -2, -2.5f});
  file.add("tokenizer.ggml.eos_token_id", 1u).add("tokenizer.ggml.unknown_token_id", 2u);
  const peft::Tokenizer t = load(file);
  CHECK(t.encode("  ab  a ") == Ids{3, 6, 7, 1});
  CHECK(t.encode("a</s>é") == Ids{7, 1, 3, 2, 1});
  CHECK(t.decode(t.encode("ab a")) == "ab a");
}

TEST_CASE("GGUF keys that do not fit are refused", "[tokenizer]") {
  CHECK_THROWS_WITH(load(Gguf().add("general.architecture", "llama")), Catch::Contains("tokenizer.ggml.model"));
  CHECK_THROWS_WITH(load(Gguf().add("tokenizer.ggml.model", "rwkv")), Catch::Contains("rwkv") && Catch::Contains("gpt2"));
  CHECK_THROWS_WITH(load(english("gpt-2").add("tokenizer.ggml.padding_token_id", 100000u)), Catch::Contains("100000"));
  Gguf types;
  types.add("tokenizer.ggml.model", "gpt2")
      .add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"})
      .add("tokenizer.ggml.token_type", std::vector<std::int32_t>{1});
  CHECK_THROWS_AS(load(types), peft::FormatError);
  Gguf merges;
  merges.add("tokenizer.ggml.model", "gpt2")
      .add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"})
      .add("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  CHECK_THROWS_WITH(load(merges), Catch::Contains("\"ab\""));
}
