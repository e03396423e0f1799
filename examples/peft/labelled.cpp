// SPDX-License-Identifier: Apache-2.0
#include "labelled.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <peft/data/formats.hpp>

#include <algorithm>

namespace tool {

void TaskOptions::add_to(CLI::App& command, bool for_training) {
  if (for_training) {
    command
        .add_option("--task", task,
                    "what is learnt: causal_lm and the like predict tokens, seq_cls a label for each text or pair of texts, token_cls one for each word, "
                    "question_ans where in a context the answer to a question stands (what the model is for)")
        ->check(CLI::IsMember({"causal_lm", "seq_2_seq_lm", "seq_cls", "token_cls", "question_ans"}))
        ->group("Labels");
    command.add_option("--label-names", label_names, "classes in the order of their numbers: negative,positive (those of the data)")->group("Labels");
    command.add_flag("--regression", regression, "labels are numbers, and the model learns to give them")->group("Labels");
  }
  command.add_option("--text-column", columns.text, "the field with the text (text, sentence, sentence1, …)")->group("Labels");
  command.add_option("--text-pair-column", columns.text_pair, "the field with the second text of a pair")->group("Labels");
  command.add_option("--words-column", columns.words, "the field with the list of words (tokens, words)")->group("Labels");
  command.add_option("--label-column", columns.label, "the field with the label, or the labels of words (label, labels, …)")->group("Labels");
  add_answers_to(command);
}

void TaskOptions::add_answers_to(CLI::App& command) {
  command.add_option("--stride", stride, "tokens that the windows of a long context have in common")
      ->capture_default_str()
      ->check(zero_or_more())
      ->group("Answers");
  command.add_option("--max-answer-length", answers.max_answer_length, "tokens of an answer")->capture_default_str()->check(above_zero())->group("Answers");
  command
      .add_option("--null-threshold", answers.null_threshold,
                  "where a context may have no answer: none is given if the score of that is by more than this above the best answer's")
      ->capture_default_str()
      ->group("Answers");
}

namespace {
bool learns_rows(const peft::HeadConfig& head) {
  return head.task == peft::TaskType::seq_cls || head.task == peft::TaskType::token_cls || head.task == peft::TaskType::question_ans;
}
}  // namespace

peft::ModelTask task_of(const TaskOptions& options, const std::string& model, const std::string& data) {
  const peft::HeadConfig own = peft::open_model(model).config.head;
  peft::ModelTask task;
  if (options.task.empty() && !learns_rows(own)) {
    if (options.regression || !options.label_names.empty())
      throw peft::ConfigError("train", "--regression and --label-names go with --task seq_cls or token_cls");
    return task;
  }
  peft::TaskType wanted = own.task;
  for (const peft::TaskType task_type : {peft::TaskType::seq_cls, peft::TaskType::token_cls, peft::TaskType::question_ans})
    if (options.task == peft::name(task_type)) wanted = task_type;
  if (!options.task.empty() && options.task != peft::name(wanted))
    throw peft::ConfigError("train", fmt::format("--task {} with a model of the task {}", options.task, peft::name(own.task)));
  if (wanted == own.task && options.label_names.empty()) return task;  // it has what is wanted
  task.task = wanted;
  if (wanted == peft::TaskType::question_ans) {
    if (options.regression || !options.label_names.empty())
      throw peft::ConfigError("train", "--regression and --label-names with --task question_ans, which has no labels");
    return task;
  }
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
  if (!learns_rows(head))
    throw peft::ConfigError(
        "peft",
        fmt::format("{} has no head that learns labels or predicts tokens (its task is {}); train one with --task seq_cls, or name an --adapter that has one",
                    model_name(opened.file.path), peft::name(head.task)));
  return true;
}

void check_chat_template(const Opened& opened, const ModelOptions& options) {
  if (!options.chat_template.empty() && has_own_head(opened))
    throw peft::ConfigError("peft", "--chat-template " + options.chat_template + " with a model that learns labels; it is for models that answer in words");
}

std::int64_t longest_text(const Opened& opened) {
  const std::int64_t positions = opened.base.config.max_position_embeddings;
  return positions > 1 ? positions : std::int64_t{1} << 30;
}

std::optional<peft::PlacedPrompt> placed_prompt(const Opened& opened) {
  std::string token_template;
  for (const std::string& name : opened.tuned.active_adapters())
    peft::for_each_method([&]<class C>(std::type_identity<C>) {
      if constexpr (requires(const C& c) { c.token_template; })
        if (const C* c = std::any_cast<C>(&opened.tuned.entry(name).config); c && !c->token_template.empty()) token_template = c->token_template;
    });
  if (token_template.empty()) return std::nullopt;
  return peft::PlacedPrompt(token_template, opened.base.config.vocab_size);
}

std::vector<std::int32_t> placed_question(const Opened& opened, const peft::PlacedPrompt& prompt, const peft::Json& row, const peft::Tokenizer& tokenizer) {
  const std::vector<std::string> wanted = prompt.fields();
  const auto text = [&](const std::string& name) {
    std::string found = row.is_string() ? row.string() : text_of(row, {name.c_str()});
    if (found.empty() && wanted.size() == 1) found = text_of(row, {"prompt"});
    if (found.empty() || (row.is_string() && wanted.size() > 1))
      throw peft::ConfigError("generate", "the adapter's token_template wants " + fmt::format("{}", fmt::join(wanted, ", ")) + " of a row; \"" + name +
                                              "\" is not there. --prompts takes rows with these");
    return found;
  };
  return opened.base.config.num_encoder_layers > 0 ? prompt.source(text, tokenizer) : prompt.question(text, tokenizer);
}

namespace {
peft::Dataset load_for_head(const std::string& path, const peft::Tokenizer& tokenizer, const Opened& opened, const TaskOptions& options,
                            std::int64_t max_length) {
  const auto& config = opened.base.config;
  const auto prompt = placed_prompt(opened);
  const peft::HeadConfig& head = config.head;
  if (prompt && head.task == peft::TaskType::question_ans) throw peft::NotSupported("peft", "token_template with questions about contexts");
  if (head.task == peft::TaskType::question_ans) return peft::load_questions(path, tokenizer, windows_of(opened, options, max_length));
  peft::LabelledOptions rows{.max_length = std::min(max_length, longest_text(opened)), .columns = options.columns};
  for (std::int64_t i = 0; i < head.num_labels; i++) rows.label_names.push_back(head.label_name(i));
  if (prompt) rows.prompt = &*prompt;
  if (prompt && head.task == peft::TaskType::token_cls) throw peft::NotSupported("peft", "token_template with labels of words");
  if (head.task == peft::TaskType::token_cls) return peft::load_token_classification(path, tokenizer, rows);
  if (head.problem == peft::ProblemType::multi_label_classification)
    throw peft::NotSupported("peft", "rows with several labels at once; Trainer takes them as Example::targets");
  rows.regression = head.problem == peft::ProblemType::regression;
  if (rows.regression && head.num_labels != 1) throw peft::NotSupported("peft", fmt::format("regression of {} numbers a row", head.num_labels));
  return peft::load_classification(path, tokenizer, rows);
}
}  // namespace

peft::Dataset load_rows(const std::string& path, const peft::Tokenizer& tokenizer, const Opened& opened, const TaskOptions& options, std::int64_t max_length) {
  if (has_own_head(opened)) return load_for_head(path, tokenizer, opened, options, max_length);
  const auto& config = opened.base.config;
  const bool masked = config.head.task == peft::TaskType::masked_lm;
  if (const auto prompt = placed_prompt(opened)) {
    peft::PlacedOptions rows{.max_length = max_length, .pairs = config.num_encoder_layers > 0};
    if (masked) rows.mask_id = peft::mask_id(tokenizer);
    return peft::load_placed(path, tokenizer, *prompt, rows);
  }
  if (masked)
    throw peft::NotSupported("peft",
                             "a masked language model with rows as they are; it learns words in places that --set token_template=… names, or labels (--task)");
  return peft::load_dataset(path, tokenizer, {.max_length = max_length, .pairs = config.num_encoder_layers > 0});
}

bool answers_questions(const Opened& opened) { return opened.base.config.head.task == peft::TaskType::question_ans; }

peft::QuestionOptions windows_of(const Opened& opened, const TaskOptions& options, std::int64_t max_length) {
  return {.max_length = std::min(max_length, longest_text(opened)), .stride = options.stride};
}

peft::Evaluation evaluate_head(const Opened& opened, const peft::Tokenizer& tokenizer, const TaskOptions& options, const std::string& path,
                               const peft::Dataset& dataset, std::int64_t max_length) {
  if (!answers_questions(opened)) return peft::evaluate(opened.tuned, dataset);
  return peft::evaluate_questions(opened.tuned, peft::read_question_rows(path), tokenizer, windows_of(opened, options, max_length), options.answers);
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
