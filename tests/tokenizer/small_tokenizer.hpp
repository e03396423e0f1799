// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "peft/tokenizer/tokenizer.hpp"
#include "peft/tokenizer/unicode.hpp"

/// Tokenizers small enough to follow by hand: the 256 bytes (ids 0 to 255, in byte order), then one token a merge, then added tokens.
namespace small {

/// A folder of its own, removed with the object.
class Folder {
 public:
  Folder() {
    std::random_device random;
    path_ = std::filesystem::temp_directory_path() / ("peft_test_" + std::to_string(random()) + "_" + std::to_string(random()));
    std::filesystem::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string write(const std::string& name, std::string_view text) const {
    std::ofstream file(path_ / name, std::ios::binary);
    file << text;
    return (path_ / name).string();
  }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

inline std::string json_text(std::string_view text) {
  std::string json = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') json += '\\';
    json += c;
  }
  return json + "\"";
}

using Merges = std::vector<std::pair<std::string, std::string>>;

inline const Merges& english() {
  static const Merges merges = {{"h", "e"},   {"l", "l"},     {"he", "ll"}, {"hell", "o"}, {"Ġ", "w"},  {"o", "r"},
                                {"Ġw", "or"}, {"Ġwor", "ld"}, {"l", "d"},   {"Ġ", "t"},    {"Ġt", "he"}};
  return merges;
}

/// "model": {…} of a byte-level BPE. Merges may need tokens that come later in the list: all are put into the vocabulary first.
inline std::string model_json(const Merges& merges, const std::string& more = "") {
  std::string vocab, list;
  int id = 0;
  for (int byte = 0; byte < 256; byte++)
    vocab += (byte ? "," : "") + json_text(peft::unicode::byte_to_visible(static_cast<unsigned char>(byte))) + ":" + std::to_string(id++);
  for (const auto& [left, right] : merges) {
    vocab += "," + json_text(left + right) + ":" + std::to_string(id++);
    list += (list.empty() ? "[" : ",[") + json_text(left) + "," + json_text(right) + "]";
  }
  return R"("model":{"type":"BPE",)" + more + R"("vocab":{)" + vocab + R"(},"merges":[)" + list + "]}";
}

inline std::string added_json(int id, std::string_view content, const std::string& flags = R"("special":true,"normalized":false)") {
  return "{\"id\":" + std::to_string(id) + ",\"content\":" + json_text(content) + "," + flags + "}";
}

/// A whole tokenizer.json.
inline std::string json(const std::string& model, const std::string& added = "", const std::string& parts = "") {
  return R"({"version":"1.0",)" + parts + R"("added_tokens":[)" + added + "]," + model + "}";
}

inline const std::string byte_level = R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"decoder":{"type":"ByteLevel"},)";

inline peft::Tokenizer from_json(const std::string& text) {
  const Folder folder;
  return peft::load_tokenizer(folder.write("tokenizer.json", text));
}

/// Byte-level English with <|im_start|> and <|im_end|>, and ChatML.
inline peft::Tokenizer chat() {
  const Folder folder;
  const int first = 256 + static_cast<int>(english().size());
  const std::string path =
      folder.write("tokenizer.json", json(model_json(english()), added_json(first, "<|im_start|>") + "," + added_json(first + 1, "<|im_end|>"), byte_level));
  folder.write("tokenizer_config.json",
               R"({"eos_token":"<|im_end|>","model_max_length":1000000000000000019884624838656,"chat_template":)"
               R"("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %})"
               R"({% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"})");
  return peft::load_tokenizer(path);
}

/// The same without a chat format; <s> begins a text, </s> ends it.
inline peft::Tokenizer plain() {
  const Folder folder;
  const int first = 256 + static_cast<int>(english().size());
  const std::string bos = std::to_string(first);
  const std::string path = folder.write(
      "tokenizer.json",
      json(model_json(english()), added_json(first, "<s>") + "," + added_json(first + 1, "</s>"),
           byte_level +
               R"("post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],)"
               R"("pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[)" +
               bos + R"(],"tokens":["<s>"]}}},)"));
  folder.write("special_tokens_map.json", R"({"bos_token":{"content":"<s>"},"eos_token":{"content":"</s>"}})");
  return peft::load_tokenizer(path);
}

/// tokenizer.json of an encoder-decoder: <pad>, which decoding starts from, and </s> behind every text.
inline std::string encoder_decoder_json() {
  const int first = 256 + static_cast<int>(english().size());
  return json(model_json(english()), added_json(first, "<pad>") + "," + added_json(first + 1, "</s>"),
              byte_level +
                  R"("post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}}],)"
                  R"("pair":[],"special_tokens":{"</s>":{"id":"</s>","ids":[)" +
                  std::to_string(first + 1) + R"(],"tokens":["</s>"]}}},)");
}
inline const std::string encoder_decoder_config = R"({"tokenizer_class":"PreTrainedTokenizerFast","eos_token":"</s>","pad_token":"<pad>"})";
inline peft::Tokenizer encoder_decoder() {
  const Folder folder;
  folder.write("tokenizer_config.json", encoder_decoder_config);
  return peft::load_tokenizer(folder.write("tokenizer.json", encoder_decoder_json()));
}

}  // namespace small
