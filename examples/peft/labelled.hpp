// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <peft/data/labelled.hpp>
#include <peft/data/placed_prompt.hpp>
#include <peft/data/questions.hpp>
#include <peft/train/objective.hpp>
#include <peft/train/question_answering.hpp>

#include <optional>
#include <string>

#include "common.hpp"

namespace tool {

/// What is said of rows with labels, and in training of the head that learns them.
struct TaskOptions {
  std::string task, label_names;
  bool regression = false;
  peft::LabelledColumns columns;
  std::int64_t stride = peft::QuestionOptions().stride;
  peft::AnswerOptions answers;
  void add_to(CLI::App& command, bool for_training);
  void add_answers_to(CLI::App& command);
};

/// What the model at `model` is to be opened as for training: with --task a head for the labels of `data`, unless the file has one for them; nothing in
/// particular without.
peft::ModelTask task_of(const TaskOptions& options, const std::string& model, const std::string& data);

/// True if a model classifies, gives numbers, or finds answers in texts; false if it predicts tokens. Throws ConfigError if it does neither.
bool has_own_head(const Opened& opened);

/// Throws ConfigError for --chat-template with a model that has such a head: its texts are no conversations.
void check_chat_template(const Opened& opened, const ModelOptions& options);

/// Tokens that a model has positions for.
std::int64_t longest_text(const Opened& opened);

/// Where the active adapter's virtual tokens stand, if a template says it.
std::optional<peft::PlacedPrompt> placed_prompt(const Opened& opened);
/// What the template makes of a row's fields, or of one text alone where it asks for one.
std::vector<std::int32_t> placed_question(const Opened& opened, const peft::PlacedPrompt& prompt, const peft::Json& row, const peft::Tokenizer& tokenizer);

/// Rows as the model's head learns them: labels, or tokens.
peft::Dataset load_rows(const std::string& path, const peft::Tokenizer& tokenizer, const Opened& opened, const TaskOptions& options, std::int64_t max_length);

/// True if a model finds answers in texts.
bool answers_questions(const Opened& opened);
/// How questions and their contexts are cut for this model.
peft::QuestionOptions windows_of(const Opened& opened, const TaskOptions& options, std::int64_t max_length);

/// How well a model with such a head does on rows: `dataset` are those of `path`.
peft::Evaluation evaluate_head(const Opened& opened, const peft::Tokenizer& tokenizer, const TaskOptions& options, const std::string& path,
                               const peft::Dataset& dataset, std::int64_t max_length);

/// "accuracy 0.871   f1 0.880   matthews 0.742   of 872", or "perplexity 3.21"; and the same before and after.
std::string scores_text(const peft::Evaluation& evaluation);
std::string scores_text(const peft::Evaluation& before, const peft::Evaluation& after);

}  // namespace tool
