// SPDX-License-Identifier: Apache-2.0
// Windows and labels are those of Hugging Face's tokenizers 0.23 with strides, and of transformers' run_qa.
#include "peft/data/questions.hpp"

#include <catch2/catch.hpp>

#include "peft/core/error.hpp"
#include "support/tiny_bert_files.hpp"

namespace {

using Catch::Contains;
using peft::Offsets;
using peft::QuestionOptions;
using peft::QuestionRow;

const peft::Tokenizer& tokenizer_of_questions() {
  static const peft::Tokenizer made = small::from_json(peft::testing::tiny_bert_tokenizer());
  return made;
}
const std::string question = "who lives in paris",
                  about_paris = "Anna lives in Paris. The plot was greatly dull. The film was ünly good, and Anna was in a bad film.";

using WindowIds = std::vector<std::vector<std::int32_t>>;
WindowIds windows_of(std::size_t max_length, std::size_t stride, bool left) {
  WindowIds all;
  for (const peft::Encoding& e : tokenizer_of_questions().encode_windows(
           question, about_paris, {.truncation = peft::Truncation{max_length, peft::Truncation::Strategy::only_second, left}}, stride))
    all.push_back(e.ids);
  return all;
}
std::vector<QuestionRow> questions_in(const std::string& text) {
  const small::Folder folder;
  return peft::read_question_rows(folder.write("rows.jsonl", text));
}

}  // namespace

TEST_CASE("a context that is too long is cut into windows that overlap", "[data]") {
  CHECK(windows_of(14, 3, false) == WindowIds{{2, 1, 15, 16, 14, 3, 13, 15, 16, 14, 17, 6, 7, 3},
                                              {2, 1, 15, 16, 14, 3, 17, 6, 7, 8, 18, 12, 19, 3},
                                              {2, 1, 15, 16, 14, 3, 18, 12, 19, 17, 6, 5, 8, 3},
                                              {2, 1, 15, 16, 14, 3, 6, 5, 8, 1, 9, 1, 1, 3},
                                              {2, 1, 15, 16, 14, 3, 9, 1, 1, 13, 8, 16, 4, 3},
                                              {2, 1, 15, 16, 14, 3, 8, 16, 4, 10, 5, 17, 3}});
  CHECK(windows_of(14, 3, true) == WindowIds{{2, 1, 15, 16, 14, 3, 13, 8, 16, 4, 10, 5, 17, 3},
                                             {2, 1, 15, 16, 14, 3, 1, 9, 1, 1, 13, 8, 16, 3},
                                             {2, 1, 15, 16, 14, 3, 17, 6, 5, 8, 1, 9, 1, 3},
                                             {2, 1, 15, 16, 14, 3, 8, 18, 12, 19, 17, 6, 5, 3},
                                             {2, 1, 15, 16, 14, 3, 14, 17, 6, 7, 8, 18, 12, 3},
                                             {2, 1, 15, 16, 14, 3, 13, 15, 16, 14, 17, 6, 3}});
  CHECK(windows_of(16, 0, false) == WindowIds{{2, 1, 15, 16, 14, 3, 13, 15, 16, 14, 17, 6, 7, 8, 18, 3},
                                              {2, 1, 15, 16, 14, 3, 12, 19, 17, 6, 5, 8, 1, 9, 1, 3},
                                              {2, 1, 15, 16, 14, 3, 1, 13, 8, 16, 4, 10, 5, 17, 3}});
  CHECK(windows_of(64, 3, false).size() == 1);
  CHECK(windows_of(64, 60, false).size() == 1);  // the stride does not matter where all fits
  CHECK_THROWS_WITH(windows_of(14, 7, false), Contains("stride is 7; a window has room for 7 tokens"));
  CHECK_THROWS_WITH(windows_of(7, 0, false), Contains("max_length = 7"));
  CHECK_THROWS_WITH(tokenizer_of_questions().encode_windows("a", "b", {.truncation = peft::Truncation{}}, 0), Contains("only_first or only_second"));
}

TEST_CASE("a window knows which of its tokens are the context's, and what they stand for", "[data]") {
  const auto windows = peft::encode_question("  " + question, about_paris, tokenizer_of_questions(), {.max_length = 14, .stride = 3});
  REQUIRE(windows.size() == 6);
  for (const peft::QuestionWindow& w : windows) {
    CHECK(w.begin == 6);
    CHECK(w.end == w.example.tokens() - 1);
    CHECK(w.no_answer == 0);
    CHECK(w.example.token_types[5] == 0);
    CHECK(w.example.token_types[6] == 1);
  }
  // Characters, not bytes: ahead of them stands an ü.
  const std::vector<Offsets> wanted = {{66, 70}, {70, 71}, {72, 75}, {76, 80}, {81, 84}, {85, 87}, {88, 89}};
  CHECK(std::vector<Offsets>(windows[4].offsets.begin() + 6, windows[4].offsets.end() - 1) == wanted);
  CHECK(peft::characters_of(about_paris, 61, 65) == "ünly");
  CHECK(peft::characters_of(about_paris, 90, 200) == "bad film.");
}

TEST_CASE("answers are labelled in the windows that hold them, and [CLS] elsewhere", "[data]") {
  const auto windows = peft::encode_question(question, about_paris, tokenizer_of_questions(), {.max_length = 14, .stride = 3});
  using Spans = std::vector<std::pair<std::int64_t, std::int64_t>>;
  const auto labels = [&](const std::string& text, std::int64_t start) {
    const QuestionRow::Answer answer{text, start};
    Spans all;
    for (const auto& window : windows) all.push_back(peft::answer_tokens(window, &answer));
    return all;
  };
  CHECK(labels("Anna", 0) == Spans{{6, 6}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}});
  CHECK(labels("Paris", 14) == Spans{{9, 9}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}});
  CHECK(labels("greatly dull", 34) == Spans{{0, 0}, {10, 12}, {6, 8}, {0, 0}, {0, 0}, {0, 0}});
  CHECK(labels("The film", 48) == Spans{{0, 0}, {0, 0}, {10, 11}, {6, 7}, {0, 0}, {0, 0}});
  CHECK(labels("bad film", 90) == Spans{{0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {9, 10}});
  CHECK(labels("plot was greatly dull. The film was", 25) == Spans(6, {0, 0}));  // no window holds all of it
  CHECK(peft::answer_tokens(windows[0], nullptr) == std::pair<std::int64_t, std::int64_t>{0, 0});

  const small::Folder folder;
  const auto data = peft::load_questions(folder.write("rows.jsonl", R"({"question": "who lives in paris", "context": ")" + about_paris +
                                                                        R"(", "answers": {"text": ["The film", "film"], "answer_start": [48, 52]}})"),
                                         tokenizer_of_questions(), {.max_length = 14, .stride = 3});
  REQUIRE(data.size() == 6);
  CHECK(data.report().rows == 1);
  CHECK(data[2].targets == std::vector<float>{10, 11});
  CHECK(data[3].targets == std::vector<float>{6, 7});
  CHECK(data[4].targets == std::vector<float>{0, 0});
}

TEST_CASE("questions are read in the forms that exist", "[data]") {
  const auto rows = questions_in(R"({"id": "7", "question": "q", "context": "ä b c", "answers": {"text": ["b", "b c"], "answer_start": [2, 2]}})"
                                 "\n"
                                 R"({"question": "q", "context": "a b c b", "answer": "b"})"
                                 "\n"
                                 R"({"question": "q", "context": "a b c b", "answer": "b", "answer_start": 6})"
                                 "\n"
                                 R"({"question": "q", "context": "a b", "answers": {"text": [], "answer_start": []}})"
                                 "\n"
                                 R"({"question": "q", "context": "a b"})"
                                 "\n"
                                 R"({"data": [{"title": "t", "paragraphs": [{"context": "x y", "qas": [)"
                                 R"({"id": "p", "question": "1", "answers": [{"text": "y", "answer_start": 2}]},)"
                                 R"({"id": "r", "question": "2", "is_impossible": true, "answers": [], "plausible_answers": []}]}]}]})");
  REQUIRE(rows.size() == 7);
  CHECK(rows[0].id == "7");
  REQUIRE(rows[0].answers.size() == 2);
  CHECK(rows[0].answers[1].text == "b c");
  CHECK(rows[0].answers[1].start == 2);
  CHECK(rows[1].answers[0].start == 2);
  CHECK(rows[2].answers[0].start == 6);
  CHECK((rows[3].labelled && rows[3].answers.empty()));
  CHECK_FALSE(rows[4].labelled);
  CHECK((rows[5].context == "x y" && rows[5].answers[0].start == 2));
  CHECK((rows[6].labelled && rows[6].answers.empty()));
}

TEST_CASE("questions that say what cannot be are refused", "[data]") {
  const auto refused = [](const std::string& row, const std::string& why) { CHECK_THROWS_WITH(questions_in(row), Contains("line 1") && Contains(why)); };
  refused(R"({"question": "q", "context": "a b", "answers": {"text": ["b"], "answer_start": [1]}})", "does not stand at character 1");
  refused(R"({"question": "q", "context": "a b", "answers": {"text": ["b"], "answer_start": [99]}})", "does not stand at character 99");
  refused(R"({"question": "q", "context": "a b", "answers": {"text": ["b"], "answer_start": []}})", "1 answers and 0 places");
  refused(R"({"question": "q", "context": "a b", "answer": "c"})", "which is not in its context");
  refused(R"({"question": "q", "answer": "c"})", "has no text \"context\"");
  refused(R"({"context": "q", "answer": "q"})", "has no text \"question\"");
  const small::Folder folder;
  const auto load = [&](const std::string& row, const QuestionOptions& options) {
    return peft::load_questions(folder.write("rows.jsonl", row), tokenizer_of_questions(), options);
  };
  CHECK_THROWS_WITH(load(R"({"question": "q", "context": "a b"})", {}), Contains("line 1 has no \"answers\""));
  CHECK_THROWS_WITH(load(R"({"question": "a film the plot was good", "context": "a film", "answer": "film"})", {.max_length = 8, .stride = 1}),
                    Contains("line 1") && Contains("max_length = 8"));
}
