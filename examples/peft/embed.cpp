// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <peft/data/labelled.hpp>
#include <peft/io/json.hpp>
#include <peft/train/embed.hpp>

#include <filesystem>
#include <span>

#include "common.hpp"

namespace tool {

namespace {

struct Options {
  ModelOptions model;
  std::vector<std::string> texts;
  std::string data, pooling = "mean";
  peft::LabelledColumns columns;
  std::int64_t max_length = 0;
  bool no_normalize = false;
};

// What sentence-transformers cuts texts at, if the model's folder says it.
std::int64_t sentence_length(const std::string& model) {
  const std::filesystem::path path = std::filesystem::path(model) / "sentence_bert_config.json";
  if (!std::filesystem::exists(path)) return 0;
  const peft::Json config = peft::Json::read(path.string());
  const peft::Json* length = config.get("max_seq_length");
  return length && length->is_integer() ? length->integer() : 0;
}

std::vector<std::string> texts_to_embed(const Options& o) {
  if (o.data.empty() == o.texts.empty()) throw peft::ConfigError("embed", "give --text, or --data with rows of them");
  std::vector<std::string> texts = o.texts;
  if (!o.data.empty())
    for (peft::LabelledRow& row : peft::read_labelled_rows(o.data, false, o.columns)) texts.push_back(std::move(row.text));
  return texts;
}

void embed(const Options& o) {
  const std::vector<std::string> texts = texts_to_embed(o);
  Opened opened(o.model);
  const auto tokenizer = peft::load_tokenizer(o.model.model);
  peft::EmbedOptions options{.normalize = !o.no_normalize, .max_length = o.max_length > 0 ? o.max_length : sentence_length(o.model.model)};
  options.pooling = o.pooling == "first" ? peft::TextPooling::first : o.pooling == "last" ? peft::TextPooling::last : peft::TextPooling::mean;
  in_groups(texts, [&](std::span<const std::string> now) {
    const peft::Tensor<float> vectors = peft::embed(opened.tuned, tokenizer, now, options);
    for (std::size_t i = 0; i < now.size(); i++) {
      std::string row;
      for (std::int64_t j = 0; j < vectors.cols(); j++) row += fmt::format("{}{}", j ? ", " : "", vectors(std::int64_t(i), j));
      fmt::print("{{\"text\": {}, \"embedding\": [{}]}}\n", peft::Json(now[i]).dump(-1, false, false), row);
    }
  });
}

void add_options(CLI::App& command, Options& o) {
  command.add_option("--text,-t", o.texts, "a text; give it again for each");
  command.add_option("--data,-d", o.data, "rows with a text each: JSON lines, .tsv or .csv")->check(CLI::ExistingFile);
  command.add_option("--text-column", o.columns.text, "the field with the text (text, sentence, …)");
  command.add_option("--pooling", o.pooling, "mean of a text's tokens, or its first or last one")
      ->capture_default_str()
      ->check(CLI::IsMember({"mean", "first", "last"}));
  command.add_option("--max-length", o.max_length, "tokens of a text (what the model's folder says for sentences, else its positions)")
      ->check(CLI::Range(2, 1 << 30));
  command.add_flag("--no-normalize", o.no_normalize, "do not scale vectors to length 1");
}

}  // namespace

void add_embed(CLI::App& app) {
  add_command<Options>(app, "embed", "Make a vector of each text, whose scalar products say how alike texts are", embed, add_options,
                       "Example:\n  peft embed --model all-MiniLM-L6-v2/ --text \"How do I reset it?\" --text \"Where is the reset button?\"");
}

}  // namespace tool
