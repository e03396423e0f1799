// SPDX-License-Identifier: Apache-2.0
#include <peft/io/io.hpp>
#include <peft/tokenizer/builtin_templates.hpp>
#include <peft/tokenizer/tokenizer.hpp>
#include <peft/tokenizer/write_gguf.hpp>

#include <algorithm>
#include <fstream>

#include "model_run.hpp"
#include "parity.hpp"
#include "tokenizer_run.hpp"

namespace parity {

std::vector<peft::Json> json_lines(const fs::path& path) {
  std::ifstream file(path);
  std::vector<peft::Json> all;
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) all.push_back(peft::Json::parse(line, path.string()));
  return all;
}

namespace {

std::vector<std::int32_t> ids_of(const peft::Json& list) {
  std::vector<std::int32_t> ids;
  for (const auto& id : list.array()) ids.push_back(std::int32_t(id.integer()));
  return ids;
}

}  // namespace

void check_texts(Report& report, const std::string& name, const peft::Tokenizer& tokenizer, const fs::path& golden, const std::vector<std::string>& never) {
  auto rows = json_lines(golden);
  std::erase_if(rows, [&](const peft::Json& row) {
    return std::ranges::any_of(never, [&](const std::string& word) { return row.at("text").string().find(word) != std::string::npos; });
  });
  const auto each = [&](const char* what, const auto& test) {
    report.check(name + "/" + what, [&] {
      Difference d;
      std::size_t wrong = 0;
      std::string first;
      for (const auto& row : rows)
        if (!test(row) && wrong++ == 0) first = row.at("text").dump();
      if (wrong) d.fail(std::to_string(wrong) + " of " + std::to_string(rows.size()) + " texts differ, the first: " + first.substr(0, 120));
      return d;
    });
  };
  each("ids", [&](const peft::Json& row) { return tokenizer.encode(row.at("text").string()) == ids_of(row.at("ids")); });
  each("ids_without_special", [&](const peft::Json& row) {  // of sentencepiece files there is only `ids`, without any
    return !row.contains("ids_without_special") ||
           tokenizer.encode(row.at("text").string(), {.add_special_tokens = false}) == ids_of(row.at("ids_without_special"));
  });
  each("decoded", [&](const peft::Json& row) {
    return !row.contains("decoded") || tokenizer.decode(ids_of(row.at(row.contains("ids_without_special") ? "ids_without_special" : "ids")),
                                                        {.skip_special_tokens = false}) == row.at("decoded").string();
  });
  each("decoded_skip_special", [&](const peft::Json& row) {
    return !row.contains("decoded_skip_special") ||
           tokenizer.decode(ids_of(row.at("ids")), {.skip_special_tokens = true}) == row.at("decoded_skip_special").string();
  });
}

// Pairs of texts: ids, segments, and offsets in characters.
void check_pairs(Report& report, const std::string& name, const peft::Tokenizer& tokenizer, const fs::path& golden) {
  report.check(name + "/pairs", [&] {
    Difference d;
    std::size_t wrong = 0;
    std::string first;
    const auto rows = json_lines(golden);
    for (const auto& row : rows) {
      const peft::Encoding found = tokenizer.encode_pair(row.at("a").string(), row.at("b").string());
      std::vector<peft::Offsets> offsets;
      for (const auto& pair : row.at("offsets").array()) offsets.push_back({std::size_t(pair.array()[0].integer()), std::size_t(pair.array()[1].integer())});
      if (found.ids == ids_of(row.at("ids")) && found.type_ids == ids_of(row.at("type_ids")) && found.offsets == offsets) continue;
      if (wrong++ == 0) first = row.at("a").dump() + " " + row.at("b").dump();
    }
    if (wrong) d.fail(std::to_string(wrong) + " of " + std::to_string(rows.size()) + " pairs differ, the first: " + first.substr(0, 200));
    return d;
  });
}

// The tokenizer in a GGUF file of a model that has a few rows more; what GGUF has no form for, the writer refuses, and there is nothing to compare.
void check_in_gguf(Report& report, const std::string& name, const fs::path& folder, std::int32_t vocab_size) {
  const TemporaryFolder out;
  const std::string file = (out.path / "vocabulary.gguf").string();
  peft::GgufFileWriter writer;
  try {
    peft::write_gguf_tokenizer(writer, folder.string(), vocab_size + 7);
  } catch (const peft::NotSupported&) {
    return;
  }
  writer.write(file, {});
  const peft::Tokenizer tokenizer = peft::load_tokenizer(file);
  std::vector<std::string> control;  // no text spells these pieces of a sentencepiece file; a text of a GGUF file does
  if (fs::exists(folder / "tokenizer.model")) {
    const peft::GgufFile written = peft::GgufFile::open(file);
    const auto tokens = written.find("tokenizer.ggml.tokens")->strings();
    const auto types = written.find("tokenizer.ggml.token_type")->integers();
    for (std::size_t id = 0; id < tokens.size(); id++)
      if (types[id] == 3) control.emplace_back(tokens[id]);
  }
  check_texts(report, name, tokenizer, folder / "golden.jsonl", control);
  if (const fs::path pairs = folder / "golden_pairs.jsonl"; fs::exists(pairs)) check_pairs(report, name, tokenizer, pairs);
}

void check_tokenizers(Report& report, const fs::path& root) {
  for (const fs::path& folder : entries(root / "tokenizers")) {
    if (!fs::is_directory(folder)) continue;
    const std::string name = "tokenizers/" + folder.filename().string();
    if (!report.wants(name)) continue;
    const fs::path file = folder / (fs::exists(folder / "tokenizer.json") ? "tokenizer.json" : "tokenizer.model");
    try {
      const peft::Tokenizer tokenizer = peft::load_tokenizer(file.string());
      check_texts(report, name, tokenizer, folder / "golden.jsonl");
      if (const fs::path pairs = folder / "golden_pairs.jsonl"; fs::exists(pairs)) check_pairs(report, name, tokenizer, pairs);
      check_in_gguf(report, name + "/gguf", folder, tokenizer.vocab_size());
    } catch (const std::exception& error) {
      const std::string text = error.what();
      report.check(name + "/load", [&] {
        Difference d;
        d.fail(text);
        return d;
      });
    }
  }
}

namespace {

/// A template on a row's conversation: the text, or why it is refused.
struct Rendered {
  std::string text, error;
  Rendered(const peft::ChatTemplate& chat, const peft::Json& row, const std::vector<peft::ChatMessage>& messages) {
    const auto special = [&](const char* key) {
      const auto* value = row.get(key);
      return value && value->is_string() ? value->string() : std::string();
    };
    try {
      text = chat.render(messages, row.at("add_generation_prompt").boolean(), special("bos_token"), special("eos_token"));
    } catch (const peft::NotSupported&) {
      throw;
    } catch (const peft::Error& e) {
      error = e.what();
    }
  }
  Difference against(const peft::Json& row) const {
    Difference d;
    const auto* rendered = row.get("rendered");
    if (rendered && rendered->is_string() ? text != rendered->string() : error.empty())
      d.fail("rendered " + peft::Json(text).dump().substr(0, 200) + (error.empty() ? "" : " error " + error));
    return d;
  }
};

std::vector<peft::ChatMessage> messages_of(const peft::Json& row) {
  std::vector<peft::ChatMessage> messages;
  for (const auto& m : row.at("messages").array()) {
    if (!m.get("content") || !m.at("content").is_string()) throw Skip{"messages whose content is no text"};
    messages.push_back({m.at("role").string(), m.at("content").string()});
  }
  return messages;
}

/// The built-in template of the same name writes what the published one does. Where that leaves a message out, ours may refuse instead.
void check_builtin_template(Report& report, const std::string& title, const std::string& name, const peft::Json& row) {
  if (std::ranges::find(peft::builtin_chat_templates(), title) == peft::builtin_chat_templates().end()) return;
  report.check(name + "/builtin", [&] {
    const auto messages = messages_of(row);
    const Rendered found(peft::load_chat_template(title), row, messages);
    const auto* rendered = row.get("rendered");
    const bool leaves_out = rendered && rendered->is_string() && std::ranges::any_of(messages, [&](const peft::ChatMessage& m) {
                              const std::string& c = m.content;
                              const std::size_t from = c.find_first_not_of(" \t\n"), to = c.find_last_not_of(" \t\n");
                              return from != c.npos && rendered->string().find(c.substr(from, to + 1 - from)) == std::string::npos;
                            });
    return leaves_out && !found.error.empty() ? Difference() : found.against(row);
  });
}

}  // namespace

void check_chat_templates(Report& report, const fs::path& root) {
  const fs::path path = root / "chat_templates" / "golden.jsonl";
  if (!fs::exists(path)) return;
  std::size_t number = 0;
  for (const auto& row : json_lines(path)) {
    const auto* title = row.get("template_name");
    const std::string name = "chat_templates/" + (title && title->is_string() ? title->string() : std::string("template")) + "/" + std::to_string(number++);
    const auto* text = row.get("template");
    if (!text || !text->is_string()) continue;
    const peft::ChatTemplate chat(text->string());
    if (!chat.usable()) {
      report.skip(name, "templates other than the built-in ones");
      continue;
    }
    report.check(name, [&] { return Rendered(chat, row, messages_of(row)).against(row); });
    check_builtin_template(report, title && title->is_string() ? title->string() : "", name, row);
  }
}

}  // namespace parity
