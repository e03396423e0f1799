// SPDX-License-Identifier: Apache-2.0
// Tokenizers of Hugging Face directories in GGUF files: what stands there, and the same ids when it is read again.
#include "peft/tokenizer/write_gguf.hpp"

#include <catch2/catch.hpp>
#include <random>

#include "peft/core/error.hpp"
#include "peft/io/gguf.hpp"
#include "peft/io/json.hpp"
#include "small_tokenizer.hpp"

namespace {

using Catch::Contains;

const std::vector<std::string> written_texts = {
    "",
    " ",
    "hello world",
    "  hello   world  ",
    "\n\n\t hello\r\n\n world\n",
    "he'll we'VE don't I'm 's",
    "007 1234567 12,345.67 ٣٤ ½",
    "na\u00EFve caf\u00E9 cafe\u0301 \u0110\u1EE9c",
    "漢字かな交じり文 한국어",
    "\U0001F468\u200D\U0001F469\u200D\U0001F467 \U0001F642!",
    "<s>hello</s> world<s>",
    "</s></s> hello<name> the <name>",
    "[PAD270]",
    "$#@! ... --- (hello) [world]",
};

const int written_first_added = 256 + static_cast<int>(small::english().size());
const std::string two_added = small::added_json(written_first_added, "<s>") + "," + small::added_json(written_first_added + 1, "</s>");

std::string gguf_of(const small::Folder& folder, std::int64_t vocab_size) {
  peft::GgufFileWriter writer;
  peft::write_gguf_tokenizer(writer, folder.path(), vocab_size);
  const std::string path = folder.path() + "/written.gguf";
  writer.write(path, {});
  return path;
}

/// Writes it with a few rows more, reads it and compares.
std::string check_written(const small::Folder& folder, const std::vector<std::string>& texts = written_texts) {
  const peft::Tokenizer from = peft::load_tokenizer(folder.path());
  const std::string path = gguf_of(folder, from.vocab_size() + 3);
  const peft::Tokenizer to = peft::load_tokenizer(path);
  for (const std::string& text : texts) {
    CAPTURE(text);
    const auto ids = from.encode(text);
    CHECK(to.encode(text) == ids);
    CHECK(to.encode(text, {.add_special_tokens = false}) == from.encode(text, {.add_special_tokens = false}));
    CHECK(to.decode(ids, {.skip_special_tokens = true}) == from.decode(ids, {.skip_special_tokens = true}));
  }
  CHECK(to.bos_id() == from.bos_id());
  CHECK(to.eos_id() == from.eos_id());
  CHECK(to.pad_id() == from.pad_id());
  return path;
}

const std::string gpt2_step = R"({"trim_offsets":false,"type":"ByteLevel","add_prefix_space":false})";
const std::string bytes_step = R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false})";
std::string cut_at(const std::string& words, const std::string& how = R"("behavior":"Isolated","invert":false)") {
  return R"({"type":"Split","pattern":{"Regex":)" + peft::Json(words).dump() + "}," + how + "}";
}
std::string cut_sequence(const std::string& steps) { return R"({"type":"Sequence","pretokenizers":[)" + steps + "]}"; }
const std::string contractions = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)", rest = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string llama3_cut = contractions + R"(\p{N}{1,3})" + rest, qwen2_cut = contractions + R"(\p{N})" + rest;

std::string byte_level_json(const std::string& pre, const std::string& normalizer = "null", const std::string& model = "") {
  return small::json(small::model_json(small::english(), model), two_added,
                     R"("decoder":{"type":"ByteLevel"},"normalizer":)" + normalizer + R"(,"pre_tokenizer":)" + pre + ",");
}

const std::string prepend = R"({"type":"Prepend","prepend":"▁"})", replace = R"({"type":"Replace","pattern":{"String":" "},"content":"▁"})";
const std::string pieces_decoder = R"({"content":" ","type":"Replace","pattern":{"String":"▁"}},{"type":"ByteFallback"},{"type":"Fuse"})";
std::string pieces_parts(const std::string& normalizer, const std::string& pre, bool strip) {
  return R"("normalizer":)" + normalizer + R"(,"pre_tokenizer":)" + pre + R"(,"decoder":{"type":"Sequence","decoders":[)" + pieces_decoder +
         (strip ? R"(,{"type":"Strip","content":" ","start":1,"stop":0})" : "") + "]},";
}
const std::string llama2_parts = pieces_parts(R"({"type":"Sequence","normalizers":[)" + prepend + "," + replace + "]}", "null", true);

/// BPE of the kind of sentencepiece: <unk>, <s>, </s>, the bytes, then `characters`, then what merges make.
std::string pieces_json(const std::string& parts, const std::vector<std::string>& characters, const small::Merges& merges, const std::string& added = "") {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  for (unsigned byte = 0; byte < 256; byte++) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    tokens.emplace_back(name);
  }
  tokens.insert(tokens.end(), characters.begin(), characters.end());
  for (const auto& [left, right] : merges)
    if (std::find(tokens.begin(), tokens.end(), left + right) == tokens.end()) tokens.push_back(left + right);
  std::string vocab, list;
  for (std::size_t id = 0; id < tokens.size(); id++) vocab += (id ? "," : "") + small::json_text(tokens[id]) + ":" + std::to_string(id);
  for (const auto& [left, right] : merges) list += (list.empty() ? "\"" : ",\"") + left + " " + right + "\"";
  return small::json(R"("model":{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,"vocab":{)" + vocab + R"(},"merges":[)" + list + "]}",
                     small::added_json(0, "<unk>") + "," + small::added_json(1, "<s>") + "," + small::added_json(2, "</s>") + added, parts);
}
const std::vector<std::string> letters = {"▁", "h", "e", "l", "o", "w", "r", "d", "t", "1"};
const small::Merges piece_merges = {{"▁", "▁"},     {"l", "l"},  {"h", "e"},   {"o", "r"}, {"he", "ll"}, {"hell", "o"},
                                    {"▁", "hello"}, {"w", "or"}, {"▁▁", "▁▁"}, {"l", "d"}, {"▁", "wor"}, {"▁wor", "ld"}};

}  // namespace

TEST_CASE("byte-level BPE in a GGUF file: the name of its cut, and the same ids", "[tokenizer]") {
  const std::string single_digits = R"({"type":"Digits","individual_digits":true})", nfc = R"({"type":"NFC"})", merge = R"("ignore_merges":true,)";
  const std::string gpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
  struct Case {
    std::string pre, normalizer, model, name;
  };
  for (const Case& c : std::vector<Case>{
           {gpt2_step, "null", "", "gpt-2"},
           {cut_sequence(cut_at(gpt2) + "," + bytes_step), "null", "", "gpt-2"},
           {gpt2_step, nfc, "", "olmo"},
           {cut_sequence(single_digits + "," + gpt2_step), "null", "", "smollm"},
           {cut_sequence(cut_sequence(cut_at("\\p{N}")) + "," + cut_sequence(cut_at(gpt2) + "," + bytes_step)), "null", "", "smollm"},
           {cut_sequence(single_digits + "," + gpt2_step), nfc, "", "command-r"},
           {cut_sequence(cut_at(llama3_cut) + "," + bytes_step), "null", merge, "llama-bpe"},
           {cut_sequence(cut_at(llama3_cut, R"("invert":true,"behavior":"Removed")") + "," + bytes_step), "null", merge, "llama-bpe"},
           {cut_sequence(cut_at(llama3_cut) + "," + bytes_step), "null", "", "smaug-bpe"},
           {cut_sequence(cut_at(qwen2_cut) + "," + bytes_step), nfc, "", "qwen2"},
           {cut_sequence(cut_at(qwen2_cut) + "," + bytes_step), "null", "", "deepseek-r1-qwen"},
       }) {
    CAPTURE(c.pre, c.normalizer, c.model);
    const small::Folder folder;
    folder.write("tokenizer.json", byte_level_json(c.pre, c.normalizer, c.model));
    const std::string path = check_written(folder);
    CHECK(peft::GgufFile::open(path).find("tokenizer.ggml.pre")->string() == c.name);
  }
}

TEST_CASE("a GGUF file says tokens, types, merges, ends and the chat template of a directory", "[tokenizer]") {
  const small::Folder folder;
  const std::string added = two_added + "," + small::added_json(written_first_added + 3, "<name>", R"("special":false,"normalized":true)");
  const std::string bos = std::to_string(written_first_added);
  const std::string around = R"("post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"TemplateProcessing",)"
                             R"("single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],)"
                             R"("special_tokens":{"<s>":{"id":"<s>","ids":[)" +
                             bos + R"(],"tokens":["<s>"]}}}]},)";
  folder.write("tokenizer.json", small::json(small::model_json(small::english()), added, small::byte_level + around));
  folder.write("tokenizer_config.json", R"({"bos_token":"<s>","eos_token":"</s>","pad_token":"</s>","chat_template":"the old one"})");
  folder.write("chat_template.jinja", "{{ messages[0]['content'] }}");
  folder.write("generation_config.json",
               R"({"eos_token_id":[)" + std::to_string(written_first_added + 1) + "," + std::to_string(written_first_added + 3) + "]}");
  folder.write("config.json", R"({"bos_token_id":50256})");
  const std::string path = check_written(folder);
  const peft::GgufFile file = peft::GgufFile::open(path);
  const auto key = [&](const char* name) { return file.find(std::string("tokenizer.ggml.") + name); };
  const auto tokens = key("tokens")->strings();
  const auto types = key("token_type")->integers();
  REQUIRE(tokens.size() == std::size_t(written_first_added) + 7);
  REQUIRE(types.size() == tokens.size());
  const auto at = [&](int behind) {
    return std::pair(std::string(tokens[std::size_t(written_first_added + behind)]), types[std::size_t(written_first_added + behind)]);
  };
  CHECK(at(-1) == std::pair(std::string("Ġthe"), std::int64_t(1)));
  CHECK(at(1) == std::pair(std::string("</s>"), std::int64_t(3)));
  CHECK(at(2) == std::pair("[PAD" + std::to_string(written_first_added + 2) + "]", std::int64_t(5)));
  CHECK(at(3) == std::pair(std::string("<name>"), std::int64_t(4)));
  CHECK(at(6).second == 5);
  CHECK(key("model")->string() == "gpt2");
  CHECK(key("merges")->strings().at(2) == "he ll");
  CHECK(key("bos_token_id")->integer() == written_first_added);
  CHECK(key("eos_token_id")->integer() == written_first_added + 1);
  CHECK(key("eot_token_id")->integer() == written_first_added + 3);
  CHECK(key("add_bos_token")->boolean());
  CHECK_FALSE(key("add_eos_token")->boolean());
  CHECK(file.find("tokenizer.chat_template")->string() == "{{ messages[0]['content'] }}");
  CHECK(peft::load_tokenizer(path).eos_ids() == peft::load_tokenizer(folder.path()).eos_ids());
}

TEST_CASE("BPE of the kind of sentencepiece in a GGUF file: scores for merges, and where a space is put in front", "[tokenizer]") {
  struct Case {
    std::string parts, scheme;
    bool prefix;
  };
  const auto metaspace = [](const std::string& how) { return pieces_parts("null", R"({"type":"Metaspace","replacement":"▁",)" + how + "}", true); };
  for (const Case& c : std::vector<Case>{
           {llama2_parts, "", true},
           {pieces_parts(replace, R"({"type":"Split","pattern":{"String":" "},"behavior":"MergedWithPrevious","invert":false})", false), "", false},
           {metaspace(R"("prepend_scheme":"first","split":false)"), "first", true},
           {metaspace(R"("prepend_scheme":"always","split":false)"), "always", true},
       }) {
    CAPTURE(c.parts);
    const small::Folder folder;
    folder.write("tokenizer.json",
                 pieces_json(c.parts, letters, piece_merges, "," + small::added_json(300, "<name>", R"("special":false,"normalized":false)")));
    folder.write("tokenizer_config.json", R"({"bos_token":"<s>","eos_token":"</s>"})");
    const peft::GgufFile file = peft::GgufFile::open(check_written(folder));
    const auto key = [&](const char* name) { return file.find(std::string("tokenizer.ggml.") + name); };
    CHECK(key("model")->string() == "llama");
    CHECK(key("add_space_prefix")->boolean() == c.prefix);
    CHECK((key("prepend_scheme") ? key("prepend_scheme")->string() : "") == c.scheme);
    const auto types = key("token_type")->integers();
    CHECK(std::vector<std::int64_t>(types.begin(), types.begin() + 4) == std::vector<std::int64_t>{2, 3, 3, 6});
    CHECK(types[300] == 4);
  }
}

TEST_CASE("scores give what a list of merges gives, or it is refused", "[tokenizer]") {
  std::mt19937 random(1);
  const auto below = [&](std::size_t n) { return std::size_t(random() % n); };
  int kept = 0, refused = 0;
  for (int round = 0; round < 200; round++) {
    std::vector<std::string> tokens = {"▁", "a", "b"};
    small::Merges merges;
    for (std::size_t n = 2 + below(12); merges.size() < n;) {
      const std::pair<std::string, std::string> merge = {tokens[below(tokens.size())], tokens[below(tokens.size())]};
      if (std::find(merges.begin(), merges.end(), merge) != merges.end()) continue;
      merges.push_back(merge);
      if (const std::string made = merge.first + merge.second; std::find(tokens.begin(), tokens.end(), made) == tokens.end()) tokens.push_back(made);
    }
    if (round % 2) std::shuffle(merges.begin(), merges.end(), random);  // a token may come before its parts
    const small::Folder folder;
    folder.write("tokenizer.json", pieces_json(llama2_parts, {"▁", "a", "b"}, merges));
    const peft::Tokenizer from = peft::load_tokenizer(folder.path());
    std::string path;
    try {
      path = gguf_of(folder, from.vocab_size());
    } catch (const peft::NotSupported& error) {
      CHECK_THAT(error.what(), Contains("which no merge makes of the two that it comes to"));
      refused++;
      continue;
    }
    kept++;
    const peft::Tokenizer to = peft::load_tokenizer(path);
    for (int i = 0; i < 40; i++) {
      std::string text;
      for (std::size_t n = below(40); text.size() < n;) text += "ab "[below(3)];
      CAPTURE(text, merges);
      REQUIRE(to.encode(text) == from.encode(text));
    }
  }
  CHECK(kept > 20);
  CHECK(refused > 20);
}

TEST_CASE("what a GGUF file cannot say of a tokenizer is refused", "[tokenizer]") {
  const auto refused = [](const std::string& json, const std::string& why, std::int64_t rows = 400) {
    const small::Folder folder;
    folder.write("tokenizer.json", json);
    peft::GgufFileWriter writer;
    CHECK_THROWS_AS(peft::write_gguf_tokenizer(writer, folder.path(), rows), peft::Error);
    CHECK_THROWS_WITH(peft::write_gguf_tokenizer(writer, folder.path(), rows), Contains("tokenizer.json") && Contains(why));
  };
  const auto with_added = [](const std::string& added) { return small::json(small::model_json(small::english()), added, small::byte_level); };
  refused(byte_level_json(cut_sequence(cut_at("\\s+") + "," + bytes_step)), "the pre_tokenizer {\"type\": \"Sequence\"");
  refused(byte_level_json(gpt2_step, "null", R"("ignore_merges":true,)"), "with ignore_merges, has no form in GGUF's vocabulary \"gpt2\"");
  refused(byte_level_json(R"({"type":"ByteLevel","add_prefix_space":true})"), "the pre_tokenizer");
  refused(byte_level_json(gpt2_step, R"({"type":"Lowercase"})"), "the normalizer {\"type\": \"Lowercase\"}");
  refused(byte_level_json(R"({"type":"Whitespace"})"), "neither byte-level nor has byte_fallback");
  refused(with_added(small::added_json(written_first_added, "<mask>", R"("special":true,"lstrip":true)")), "\"<mask>\" with lstrip");
  refused(with_added(small::added_json(0, "<s>")), "which is that of");
  refused(with_added(two_added),
          "the id " + std::to_string(written_first_added + 1) + "; the model's vocabulary has " + std::to_string(written_first_added + 1),
          written_first_added + 1);
  refused(with_added(small::added_json(written_first_added, "[PAD399]")), "the token \"[PAD399]\" with two ids");
  refused(R"({"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["a",-1.0]]}})", "of the type Unigram");
  refused("{\"model\":{", "tokenizer.json");

  const auto pieces = [](const std::string& parts, const small::Merges& merges = piece_merges) { return pieces_json(parts, letters, merges); };
  refused(pieces(pieces_parts(R"({"type":"Sequence","normalizers":[{"type":"NFKC"},)" + replace + "]}", "null", false)), "the normalizer");
  refused(pieces(pieces_parts(replace, "null", true)), "the decoder");
  std::string zero = pieces_json(llama2_parts, {"▁", "Z"}, {});
  refused(zero.replace(zero.find("\"Z\""), 3, R"("\u0000")"), "the zero byte in token 260");
  refused(pieces(pieces_parts("null", R"({"type":"Metaspace","prepend_scheme":"always","split":true})", true)), "which takes \"▁▁\" apart");
  refused(pieces_json(llama2_parts, letters, {{"h", "e"}, {"l", "l"}, {"e", "ll"}, {"h", "ell"}}), "the token \"hell\", which no merge makes");
  refused(pieces_json(llama2_parts, letters, piece_merges, "," + small::added_json(300, "<x>", R"("special":false,"normalized":true)")), "its normalised form");
}
