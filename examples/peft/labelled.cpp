// SPDX-License-Identifier: Apache-2.0
#include "labelled.hpp"

#include <fmt/core.h>

#include <algorithm>

namespace tool {

void TaskOptions::add_to(CLI::App& command, bool for_training) {
  if (for_training) {
    command
        .add_option("--task", task,
                    "what is learnt: causal_lm and the like predict tokens, seq_cls a label for each text or pair of texts, token_cls one for each word "
                    "(what the model is for)")
        ->check(CLI::IsMember({"causal_lm", "seq_2_seq_lm", "seq_cls", "token_cls"}))
        ->group("Labels");
    command.add_option("--label-names", label_names, "classes in the order of their numbers: negative,positive (those of the data)")->group("Labels");
    command.add_flag("--regression", regression, "labels are numbers, and the model learns to give them")->group("Labels");
  }
  command.add_option("--text-column", columns.text, "the field with the text (text, sentence, sentence1, …)")->group("Labels");
  command.add_option("--text-pair-column", columns.text_pair, "the field with the second text of a pair")->group("Labels");
  command.add_option("--words-column", columns.words, "the field with the list of words (tokens, words)")->group("Labels");
  command.add_option("--label-column", columns.label, "the field with the label, or the labels of words (label, labels, …)")->group("Labels");
}

namespace {
bool classifies(const peft::HeadConfig& head) { return head.task == peft::TaskType::seq_cls || head.task == peft::TaskType::token_cls; }
}  // namespace

peft::ModelTask task_of(const TaskOptions& options, const std::string& model, const std::string& data) {
  const peft::HeadConfig own = peft::open_model(model).config.head;
  peft::ModelTask task;
  if (options.task.empty() && !classifies(own)) {
    if (options.regression || !options.label_names.empty())
      throw peft::ConfigError("train", "--regression and --label-names go with --task seq_cls or token_cls");
    return task;
  }
  const peft::TaskType wanted = options.task == "seq_cls" ? peft::TaskType::seq_cls : options.task == "token_cls" ? peft::TaskType::token_cls : own.task;
  if (!options.task.empty() && options.task != peft::name(wanted))
    throw peft::ConfigError("train", fmt::format("--task {} with a model of the task {}", options.task, peft::name(own.task)));
  if (wanted == own.task && options.label_names.empty()) return task;  // it has what is wanted
  task.task = wanted;
  if (options.regression) {
    task.num_labels = 1, task.problem = peft::ProblemType::regression;
    return task;
  }
  task.label_names = CLI::detail::split(options.label_names, ',');
  if (options.label_names.empty())
    task.label_names = peft::label_names_of(peft::read_labelled_rows(data, wanted == peft::TaskType::token_cls, options.columns), data);
  task.num_labels = std::int64_t(task.label_names.size()), task.problem = peft::ProblemType::single_label_classification;
  return task;
}

bool has_own_head(const Opened& opened) {
  const peft::HeadConfig& head = opened.base.config.head;
  if (head.is_language_model()) return false;
  if (!classifies(head))
    throw peft::ConfigError(
        "peft",
        fmt::format("{} has no head that learns labels or predicts tokens (its task is {}); train one with --task seq_cls, or name an --adapter that has one",
                    model_name(opened.file.path), peft::name(head.task)));
  return true;
}

std::int64_t longest_text(const Opened& opened) {
  const std::int64_t positions = opened.base.config.max_position_embeddings;
  return positions > 1 ? positions : std::int64_t{1} << 30;
}

peft::Dataset load_for_head(const std::string& path, const peft::Tokenizer& tokenizer, const Opened& opened, const TaskOptions& options,
                            std::int64_t max_length) {
  const auto& config = opened.base.config;
  const peft::HeadConfig& head = config.head;
  peft::LabelledOptions rows{.max_length = std::min(max_length, longest_text(opened)), .columns = options.columns};
  for (std::int64_t i = 0; i < head.num_labels; i++) rows.label_names.push_back(head.label_name(i));
  if (head.task == peft::TaskType::token_cls) return peft::load_token_classification(path, tokenizer, rows);
  if (head.problem == peft::ProblemType::multi_label_classification)
    throw peft::NotSupported("peft", "rows with several labels at once; Trainer takes them as Example::targets");
  rows.regression = head.problem == peft::ProblemType::regression;
  if (rows.regression && head.num_labels != 1) throw peft::NotSupported("peft", fmt::format("regression of {} numbers a row", head.num_labels));
  return peft::load_classification(path, tokenizer, rows);
}

std::string scores_text(const peft::Evaluation& e) {
  if (!e.scores) return fmt::format("perplexity {:.2f}", e.perplexity());
  std::string text;
  for (const auto& [name, value] : e.scores->named()) text += fmt::format("{} {:.4f}   ", name, value);
  return text + fmt::format("of {}", e.scores->total());
}

std::string scores_text(const peft::Evaluation& before, const peft::Evaluation& after) {
  if (!after.scores) return fmt::format("perplexity {:.2f} → {:.2f}", before.perplexity(), after.perplexity());
  const auto first = before.scores->named(), last = after.scores->named();
  std::string text;
  for (std::size_t i = 0; i < last.size(); i++) text += fmt::format("{} {:.4f} → {:.4f}   ", last[i].first, first[i].second, last[i].second);
  return text + fmt::format("of {}", after.scores->total());
}

}  // namespace tool
