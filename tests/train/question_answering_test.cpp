// SPDX-License-Identifier: Apache-2.0
#include "peft/train/question_answering.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "peft/adapters/head.hpp"
#include "peft/adapters/prompt_tuning/prompt_tuning.hpp"
#include "peft/checkpoint/adapter_file.hpp"
#include "peft/checkpoint/load.hpp"
#include "support/tiny_bert_files.hpp"
#include "train/tiny_task.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

const Tokenizer& question_tokenizer() {
  static const Tokenizer made = small::from_json(tiny_bert_tokenizer());
  return made;
}
template <Scalar T>
Transformer<T> answering_bert() {
  const TemporaryFolder folder;
  write_tiny_bert(folder.path());
  return load_model<T>(folder.path(), {.task = TaskType::question_ans, .seed = 3});
}
/// Who lives where: the answer is what stands in front of "lives".
std::vector<QuestionRow> who_lives() {
  std::vector<QuestionRow> rows;
  for (const std::string who : {"anna", "a film", "the plot"})
    for (const std::string before : {"", "dull . ", "the great film was bad . ", "good . the film was dull . "})
      rows.push_back({.question = "the lives",
                      .context = before + who + " lives in paris .",
                      .answers = {{who, std::int64_t(before.size())}},
                      .labelled = true,
                      .place = "row"});
  return rows;
}
Dataset windows_in(const std::vector<QuestionRow>& rows, const QuestionOptions& options) {
  std::vector<Example> examples;
  for (const QuestionRow& row : rows)
    for (QuestionWindow& window : encode_question(row.question, row.context, question_tokenizer(), options)) {
      const auto [first, last] = answer_tokens(window, &row.answers[0]);
      window.example.targets = {float(first), float(last)};
      examples.push_back(std::move(window.example));
    }
  return Dataset(std::move(examples));
}
double log_softmax_of(const Tensor<double>& y, std::int64_t column, std::int64_t row) {
  double sum = 0;
  for (std::int64_t i = 0; i < y.rows(); i++) sum += std::exp(y(i, column));
  return y(row, column) - std::log(sum);
}

}  // namespace

TEST_CASE("the loss of answers is the mean of its starts' and ends', in parts as in one", "[train]") {
  const auto model = answering_bert<double>();
  const Dataset data = windows_in(who_lives(), {.max_length = 12, .stride = 2});
  const auto logits = predict(model, data, 30);
  double sum = 0;
  for (std::size_t i = 0; i < data.size(); i++) {
    REQUIRE(logits[i].shape() == Shape{data[i].tokens(), 2});
    for (const std::int64_t end : {0, 1}) sum -= log_softmax_of(logits[i], end, std::int64_t(data[i].targets[std::size_t(end)])) / 2;
  }
  std::vector<std::size_t> all(data.size());
  for (std::size_t i = 0; i < all.size(); i++) all[i] = i;
  const Batch batch = collate(data, all);
  CHECK(double(task_loss(model, batch).value()[0]) == Approx(sum / double(data.size())).epsilon(1e-12));
  double parts = 0;
  for (const Batch& part : split(batch, 30)) parts += double(task_loss(model, part, double(data.size())).value()[0]);
  CHECK(parts == Approx(sum / double(data.size())).epsilon(1e-12));
  CHECK(evaluate(model, data, 40).loss == Approx(sum / double(data.size())).epsilon(1e-12));

  Batch wrong = batch;
  wrong.targets[1] = 50;
  CHECK_THROWS_WITH(task_loss(model, wrong), Catch::Contains("token 50"));
  wrong.targets.pop_back();
  CHECK_THROWS_WITH(task_loss(model, wrong), Catch::Contains("first and the last token"));
}

TEST_CASE("a model learns where answers stand, its adapter and head come back", "[train]") {
  auto base = answering_bert<float>();
  const std::vector<QuestionRow> rows = who_lives();
  const QuestionOptions windowing{.max_length = 14, .stride = 4};
  PeftModel tuned{base};
  tuned.add_adapter("qa", with_head(LoraConfig{.r = 4, .target_modules = "all-linear"}, base));
  const Evaluation before = evaluate_questions(tuned, rows, question_tokenizer(), windowing);
  const auto result = Trainer{tuned, {.max_steps = 100, .learning_rate = 2e-2, .batch_size = 6}}.fit(windows_in(rows, windowing));
  const Evaluation after = evaluate_questions(tuned, rows, question_tokenizer(), windowing);
  CHECK(after.loss < before.loss / 4);
  REQUIRE(after.scores);
  CHECK(after.scores->exact_match() > 0.9);
  CHECK(after.scores->answer_f1() >= after.scores->exact_match());
  CHECK(after.scores->total() == 12);
  CHECK(result.loss < before.loss);
  CHECK(evaluate(tuned, windows_in(rows, windowing)).scores->named()[0].first == "exact_match");

  const TemporaryFolder folder;
  save_adapter(tuned, "qa", folder.path());
  const TemporaryFolder model;
  write_tiny_bert(model.path());
  CHECK(adapter_task(folder.path()).task == TaskType::question_ans);
  auto again = load_model<float>(model.path(), adapter_task(folder.path()));
  PeftModel loaded{again};
  load_adapter(loaded, "qa", folder.path());
  const auto first = answer_questions(tuned, rows, question_tokenizer(), windowing), second = answer_questions(loaded, rows, question_tokenizer(), windowing);
  for (std::size_t i = 0; i < rows.size(); i++) {
    CHECK(first[i].answer().text == second[i].answer().text);
    CHECK(first[i].answer().score == second[i].answer().score);
  }
}

TEST_CASE("virtual tokens in front move no answer", "[train]") {
  auto base = answering_bert<float>();
  PeftModel tuned{base};
  tuned.add_adapter("p", with_head(PromptTuningConfig{.num_virtual_tokens = 3}, base));
  const Dataset data = windows_in(who_lives(), {.max_length = 14, .stride = 4});
  const double before = evaluate(tuned, data).loss;
  Trainer{tuned, {.max_steps = 240, .learning_rate = 1e-1, .batch_size = 6}}.fit(data);
  CHECK(evaluate(tuned, data).loss < before / 2);
}

TEST_CASE("the best answers are those of run_qa's search", "[train]") {
  QuestionWindow w;
  w.example.input_ids.assign(8, 1), w.example.labels.assign(8, ignore_index);
  w.begin = 2, w.end = 7;  // [CLS] q | a b c d e [SEP]
  w.offsets = {{0, 0}, {0, 1}, {0, 1}, {2, 3}, {4, 5}, {6, 7}, {8, 9}, {0, 0}};
  const std::string context = "a b c d e";
  Tensor<float> y({8, 2}, 0.f);
  const std::vector<float> starts = {1, 9, 3, 0, 2, -1, -2, 8}, ends = {0.5f, 9, -1, 4, 2.5f, 3, -2, 8};
  for (std::int64_t i = 0; i < 8; i++) y(i, 0) = starts[std::size_t(i)], y(i, 1) = ends[std::size_t(i)];
  const auto given = [&](const AnswerOptions& options) { return best_answers(context, std::span(&w, 1), std::span(&y, 1), options); };

  const QuestionAnswers all = given({});
  CHECK(all.answer().text == "a b");  // 3 + 4; the question and [SEP] would have had more
  CHECK(all.answer().score == 7);
  CHECK((all.answer().begin == 0 && all.answer().end == 3));
  CHECK(all.best[1].text == "a b c d");
  double sum = 0;
  for (const SpanAnswer& answer : all.best) sum += answer.probability;
  CHECK(sum == Approx(1));
  CHECK(all.best[0].probability / all.best[1].probability == Approx(std::exp(1.0)));
  CHECK(given({.max_answer_length = 1}).answer().text == "c");                    // 2 + 2.5, above 0 + 4 of "b"
  CHECK(given({.n_best = 3}).best.size() == 1);                                   // starts 1, 7, 2; ends 1, 7, 3
  CHECK(given({.n_best = 2}).answer().text.empty());                              // nothing within the context
  CHECK(given({.may_be_none = true}).answer().text == "a b");                     // 1 + 0.5 − 7 ≤ 0
  CHECK(given({.may_be_none = true, .null_threshold = -6}).answer().text == "");  // −5.5 > −6
  CHECK_THROWS_AS(given({.n_best = 0}), ConfigError);

  // Of two windows the better answer counts, and the window that is less sure that there is none.
  QuestionWindow other = w;
  Tensor<float> z = y.clone();
  z(0, 0) = -4, z(5, 1) = 6;
  const std::vector<QuestionWindow> windows = {w, other};
  const std::vector<Tensor<float>> logits = {y, z};
  const auto both = [&](double threshold) { return best_answers(context, windows, logits, {.may_be_none = true, .null_threshold = threshold}).answer(); };
  CHECK(both(-12).text == "a b c d");
  CHECK(both(-12).score == 9);
  CHECK(both(-13).text.empty());  // −4 + 0.5 − 9 > −13
}

TEST_CASE("exact match and F1 are SQuAD's", "[train]") {
  CHECK(normalised_answer("The  \"Great\" film, a U.S.-made one!") == "great film usmade one");
  CHECK(normalised_answer("theatre an") == "theatre");
  CHECK(normalised_answer("the—film") == "—film");  // no ASCII punctuation, but the end of a word
  CHECK(normalised_answer("ÄN\xC2\xA0"
                          "b") == "än b");
  const auto score = [](const std::string& given, const std::vector<std::string>& wanted) {
    std::vector<QuestionRow::Answer> answers;
    for (const std::string& text : wanted) answers.push_back({text, 0});
    return score_answer(given, answers);
  };
  CHECK(score("the Cat", {"cat."}).exact == 1);
  CHECK(score("the Cat", {"cat."}).f1 == 1);
  CHECK(score("a black cat sat", {"the cat"}).exact == 0);
  CHECK(score("a black cat sat", {"the cat"}).f1 == Approx(2.0 * (1.0 / 3) / (1.0 / 3 + 1)));  // p 1/3, r 1
  CHECK(score("cat cat dog", {"cat dog dog"}).f1 == Approx(2.0 / 3));                          // each word as often as both have it
  CHECK(score("black cat", {"dog", "cat"}).f1 == Approx(2.0 / 3));
  CHECK(score("dog", {"cat"}).f1 == 0);
  CHECK((score("", {}).exact == 1 && score("", {}).f1 == 1));
  CHECK((score("cat", {}).exact == 0 && score("cat", {}).f1 == 0));
  CHECK((score("", {"cat"}).exact == 0 && score("", {"cat"}).f1 == 0));
}
