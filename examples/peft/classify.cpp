// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <peft/data/labelled.hpp>
#include <peft/io/json.hpp>
#include <peft/train/classification.hpp>

#include <algorithm>
#include <optional>
#include <span>
#include <sstream>

#include "common.hpp"
#include "labelled.hpp"

namespace tool {

namespace {

struct Options {
  ModelOptions model;
  TaskOptions rows;
  std::vector<std::string> texts;
  std::string text_pair, data;
  bool all = false;
};

std::vector<peft::LabelledRow> rows_to_classify(const Options& o, bool of_words) {
  if (o.data.empty() == o.texts.empty()) throw peft::ConfigError("classify", "give --text, or --data with rows of them");
  if (!o.data.empty()) return peft::read_labelled_rows(o.data, of_words, o.rows.columns);
  if (!o.text_pair.empty() && o.texts.size() != 1) throw peft::ConfigError("classify", "--text-pair goes with one --text");
  std::vector<peft::LabelledRow> rows;
  for (const std::string& text : o.texts) {
    peft::LabelledRow row{.text = text};
    if (!o.text_pair.empty()) row.text_pair = o.text_pair;
    std::istringstream words(text);
    for (std::string word; of_words && words >> word;) row.words.push_back(word);
    rows.push_back(std::move(row));
  }
  return rows;
}

struct Answer {
  std::string label;
  double probability = 0;
  peft::Json all = peft::Json::make_object();
};
Answer answer_of(const peft::HeadConfig& head, std::span<const float> logits) {
  const std::vector<double> p = peft::probabilities(head, logits);
  const auto best = std::max_element(p.begin(), p.end()) - p.begin();
  Answer answer{head.label_name(best), p[std::size_t(best)]};
  for (std::size_t i = 0; i < p.size(); i++) answer.all.set(head.label_name(std::int64_t(i)), peft::Json(p[i]));
  return answer;
}

peft::Json of_sequence(const peft::HeadConfig& head, const peft::LabelledRow& row, const peft::Tensor<float>& logits, bool all) {
  peft::Json said = peft::Json::make_object();
  said.set("text", peft::Json(row.text));
  if (row.text_pair) said.set("text_pair", peft::Json(*row.text_pair));
  const Answer answer = answer_of(head, logits.span());
  if (head.problem == peft::ProblemType::regression && logits.size() == 1) {
    said.set("value", peft::Json(answer.probability));
  } else {
    said.set("label", peft::Json(answer.label)), said.set("probability", peft::Json(answer.probability));
    if (all) said.set("probabilities", answer.all);
  }
  if (!row.labels.empty()) said.set("wanted", peft::Json(row.labels[0]));
  return said;
}

// A word that was cut away, or has no token, has no label: null.
peft::Json of_words(const peft::HeadConfig& head, const peft::LabelledRow& row, const std::vector<std::int64_t>& first_tokens,
                    const peft::Tensor<float>& logits) {
  peft::Json said = peft::Json::make_object(), words = peft::Json::make_array(), labels = words, probabilities = words;
  for (std::size_t w = 0; w < row.words.size(); w++) {
    words.push_back(peft::Json(row.words[w]));
    if (first_tokens[w] < 0) {
      labels.push_back(peft::Json()), probabilities.push_back(peft::Json());
      continue;
    }
    const Answer answer = answer_of(head, logits.span().subspan(std::size_t(first_tokens[w] * logits.cols()), std::size_t(logits.cols())));
    labels.push_back(peft::Json(answer.label)), probabilities.push_back(peft::Json(answer.probability));
  }
  said.set("tokens", std::move(words)), said.set("labels", std::move(labels)), said.set("probabilities", std::move(probabilities));
  return said;
}

void classify(const Options& o) {
  Opened opened(o.model);
  if (!has_own_head(opened))
    throw peft::ConfigError("classify", "this model predicts tokens; train an adapter with --task seq_cls or token_cls, and name it with --adapter");
  if (answers_questions(opened)) throw peft::ConfigError("classify", "this model finds answers in texts: peft answer");
  const auto tokenizer = peft::load_tokenizer(o.model.model);
  const peft::HeadConfig& head = opened.base.config.head;
  const bool words = head.task == peft::TaskType::token_cls;
  const std::vector<peft::LabelledRow> rows = rows_to_classify(o, words);
  const std::int64_t max_length = longest_text(opened);
  const auto placed = placed_prompt(opened);
  in_groups(rows, [&](std::span<const peft::LabelledRow> now) {
    std::vector<peft::Example> examples;
    std::vector<std::vector<std::int64_t>> first_tokens(now.size());
    for (std::size_t i = 0; i < now.size(); i++)
      examples.push_back(words    ? peft::encode_words(now[i].words, {}, tokenizer, max_length, &first_tokens[i])
                         : placed ? peft::encode_sequence(now[i].text, now[i].text_pair, tokenizer, *placed, max_length)
                                  : peft::encode_sequence(now[i].text, now[i].text_pair, tokenizer, max_length));
    const auto logits = peft::predict(opened.tuned, peft::Dataset(std::move(examples)));
    for (std::size_t i = 0; i < now.size(); i++)
      fmt::print("{}\n", (words ? of_words(head, now[i], first_tokens[i], logits[i]) : of_sequence(head, now[i], logits[i], o.all)).dump(-1, false, false));
  });
}

void add_options(CLI::App& command, Options& o) {
  command.add_option("--text,-t", o.texts, "a text; give it again for each. Words are what stands between blanks");
  command.add_option("--text-pair", o.text_pair, "its partner, where pairs are classified");
  command.add_option("--data,-d", o.data, "rows as train takes them, with labels or without")->check(CLI::ExistingFile);
  command.add_flag("--all", o.all, "the probability of every label");
  o.rows.add_to(command, false);
}

}  // namespace

void add_classify(CLI::App& app) {
  add_command<Options>(app, "classify", "Label texts, pairs of texts or words with a head that was trained for it", classify, add_options,
                       "Example:\n  peft classify --model all-MiniLM-L6-v2/ --adapter sentiment/ --text \"a gripping film\"");
}

}  // namespace tool
