// SPDX-License-Identifier: Apache-2.0
#include "peft/data/labelled.hpp"

#include <catch2/catch.hpp>

#include "peft/core/error.hpp"
#include "peft/data/collate.hpp"
#include "support/tiny_bert_files.hpp"

namespace {

using Catch::Contains;
using peft::LabelledColumns;
using peft::LabelledOptions;
using peft::LabelledRow;

const peft::Tokenizer& bert() {
  static const peft::Tokenizer made = small::from_json(peft::testing::tiny_bert_tokenizer());
  return made;
}
std::vector<LabelledRow> rows_in(const std::string& name, const std::string& text, bool of_words = false, const LabelledColumns& columns = {}) {
  const small::Folder folder;
  return peft::read_labelled_rows(folder.write(name, text), of_words, columns);
}
peft::Dataset classes_in(const std::string& name, const std::string& text, const LabelledOptions& options = {}) {
  const small::Folder folder;
  return peft::load_classification(folder.write(name, text), bert(), options);
}
peft::Dataset words_in(const std::string& text, const LabelledOptions& options = {}) {
  const small::Folder folder;
  return peft::load_token_classification(folder.write("rows.jsonl", text), bert(), options);
}
using Texts = std::vector<std::string>;
/// Text, its partner, its labels.
Texts parts(const LabelledRow& row) {
  Texts all = {row.text};
  if (row.text_pair) all.push_back(*row.text_pair);
  all.insert(all.end(), row.labels.begin(), row.labels.end());
  return all;
}
std::vector<float> targets_of(const peft::Dataset& data) {
  std::vector<float> all;
  for (const peft::Example& example : data) all.insert(all.end(), example.targets.begin(), example.targets.end());
  return all;
}

}  // namespace

TEST_CASE("tables of labelled rows: GLUE's columns, tabs without quotes, commas with them", "[data]") {
  const auto sst2 = rows_in("train.tsv", "sentence\tlabel\nhe said \"no \t0\n\na \"b\" c\t1\r\n");
  REQUIRE(sst2.size() == 2);
  CHECK(sst2[0].text == "he said \"no ");
  CHECK(sst2[0].labels == std::vector<std::string>{"0"});
  CHECK_FALSE(sst2[0].text_pair);
  CHECK(sst2[1].text == "a \"b\" c");
  CHECK(sst2[1].labels == std::vector<std::string>{"1"});
  CHECK(sst2[1].place == "line 4");

  const auto mrpc = rows_in("dev.tsv", "\xEF\xBB\xBFQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t13\t14\t\" left\tright");
  REQUIRE(mrpc.size() == 1);
  CHECK(mrpc[0].text == "\" left");
  CHECK(mrpc[0].text_pair == "right");
  CHECK(mrpc[0].labels[0] == "1");

  const auto rte = rows_in("dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\tone\ttwo\tnot_entailment\n");
  CHECK(parts(rte[0]) == Texts{"one", "two", "not_entailment"});
  const auto qnli = rows_in("dev.tsv", "index\tquestion\tsentence\tlabel\n0\twho\tshe\tentailment\n");
  CHECK(parts(qnli[0]) == Texts{"who", "she", "entailment"});

  const auto csv = rows_in("rows.csv", "label,text\r\nyes,\"two,\nlines, \"\"quoted\"\"\"\r\nno,plain \"inner\"\n");
  REQUIRE(csv.size() == 2);
  CHECK(csv[0].text == "two,\nlines, \"quoted\"");
  CHECK(csv[0].labels[0] == "yes");
  CHECK(csv[1].text == "plain \"inner\"");
  CHECK(csv[1].place == "line 4");

  CHECK_THROWS_WITH(rows_in("a.tsv", "sentence\tlabel\nok\t1\nshort\n"), Contains("line 3 has 1 fields, the header 2"));
  CHECK_THROWS_WITH(rows_in("a.csv", "text,label\n\"open,1\n"), Contains("line 2 opens a quote that nothing closes"));
  CHECK_THROWS_WITH(rows_in("a.tsv", "sentence\tlabel\n"), Contains("has no rows"));
  CHECK_THROWS_WITH(rows_in("a.tsv", "word\tclass\na\t1\n"), Contains("has the fields \"word\", \"class\"") && Contains("\"sentence1\" and \"sentence2\""));
}

TEST_CASE("rows of JSON, and columns that are named", "[data]") {
  const auto rows = rows_in("a.jsonl", R"({"sentence1":"a","sentence2":"b","label":1,"idx":0})");
  CHECK(parts(rows[0]) == Texts{"a", "b", "1"});
  CHECK(rows_in("a.json", R"([{"text":"a"},{"text":"b"}])")[1].labels.empty());
  const auto named = rows_in("a.tsv", "body\tstars\tother\nx\t5\ty\n", false, {.text = "body", .text_pair = "other", .label = "stars"});
  CHECK(parts(named[0]) == Texts{"x", "y", "5"});
  CHECK_THROWS_WITH(rows_in("a.tsv", "text\tstars\nx\t5\n", false, {.label = "star"}), Contains("line 2 has no field \"star\"; did you mean \"stars\"?"));
  CHECK_THROWS_WITH(rows_in("a.jsonl", "{\"text\":\"a\",\"label\":0}\n{\"text\":\"b\"}"), Contains("line 2 has no field \"label\""));
  CHECK_THROWS_WITH(rows_in("a.jsonl", R"({"text":["a"],"label":0})"), Contains("\"text\" that is neither a text nor a number"));
}

TEST_CASE("labels become numbers: numbers in their order, names by the alphabet, known names as they are", "[data]") {
  const auto numbers = classes_in("a.tsv", "text\tlabel\na\t10\nfilm\t2\nthe\t10\n");
  CHECK(numbers.report().label_names == std::vector<std::string>{"2", "10"});
  CHECK(targets_of(numbers) == std::vector<float>{1, 0, 1});
  CHECK(numbers.summary() == "3 examples of 2 classes, 9 tokens, longest 3");
  const std::string named = "text\tlabel\na\tgood\nfilm\tbad\n";
  CHECK(classes_in("a.tsv", named).report().label_names == std::vector<std::string>{"bad", "good"});
  CHECK(targets_of(classes_in("a.tsv", named, {.label_names = {"good", "other", "bad"}})) == std::vector<float>{0, 2});
  CHECK(targets_of(classes_in("a.tsv", "text\tlabel\na\t1\nfilm\t0\n", {.label_names = {"bad", "good"}})) == std::vector<float>{1, 0});
  CHECK_THROWS_WITH(classes_in("a.tsv", named, {.label_names = {"goood", "bad"}}), Contains("line 2 has the label \"good\"; did you mean \"goood\"?"));
  CHECK_THROWS_WITH(classes_in("a.tsv", "text\tlabel\na\t2\n", {.label_names = {"bad", "good"}}), Contains("line 2 has the label \"2\""));
  CHECK_THROWS_WITH(classes_in("a.tsv", "text\tlabel\na\t0\n", {.label_names = {"1", "2"}}), Contains("line 2 has the label \"0\""));
  CHECK_THROWS_WITH(classes_in("a.tsv", "text\tlabel\na\tx\nb\tx\n"), Contains("one label alone, \"x\""));
  CHECK_THROWS_WITH(classes_in("a.tsv", "text\tlabel\na\t0.5\nb\t1\n"), Contains("labels like 0.5") && Contains("regression"));
  CHECK_THROWS_WITH(classes_in("a.jsonl", R"({"text":"a"})"), Contains("line 1 has no label"));

  const auto values = classes_in("a.tsv", "text\tscore\na\t0.5\nfilm\t-3\n", {.regression = true});
  CHECK(targets_of(values) == std::vector<float>{0.5f, -3});
  CHECK(values.report().label_names.empty());
  CHECK_THROWS_WITH(classes_in("a.tsv", "text\tscore\na\thigh\n", {.regression = true}), Contains("line 2 has the label \"high\", which is no number"));
}

TEST_CASE("pairs have segments, and long ones lose the end of the longer text", "[data]") {
  const std::string table = "sentence1\tsentence2\tlabel\nthe film was good\tthe plot\t1\na film\ta\t0\n";
  const auto data = classes_in("a.tsv", table);
  CHECK(data[0].input_ids == std::vector<std::int32_t>{2, 6, 5, 8, 9, 3, 6, 7, 3});
  CHECK(data[0].token_types == std::vector<std::int32_t>{0, 0, 0, 0, 0, 0, 1, 1, 1});
  CHECK(data[0].labels == std::vector<std::int32_t>(9, peft::ignore_index));
  CHECK(classes_in("a.tsv", "text\tlabel\nthe film\t1\na\t0\n")[0].token_types.empty());
  const auto cut = classes_in("a.tsv", table, {.max_length = 7});
  CHECK(cut.report().truncated == 1);
  CHECK(cut[0].input_ids == std::vector<std::int32_t>{2, 6, 5, 3, 6, 7, 3});
  CHECK_THROWS_WITH(classes_in("a.tsv", table, {.max_length = 1}), Contains("max_length is 1"));

  // Packed, and split again: segments and targets stay with their sequences.
  std::vector<peft::Example> mixed(data.begin(), data.end());
  mixed.push_back(peft::encode_sequence("a", {}, bert()));
  mixed.back().targets = {1};
  const peft::Dataset three(mixed);
  const peft::Batch batch = peft::collate(three, std::vector<std::size_t>{2, 0, 1});
  CHECK(batch.token_types == std::vector<std::int32_t>{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1});
  CHECK(batch.targets == std::vector<float>{1, 1, 0});
  const auto parts = peft::split(batch, 8);
  REQUIRE(parts.size() == 3);
  CHECK(parts[1].token_types == std::vector<std::int32_t>{0, 0, 0, 0, 0, 0, 1, 1, 1});
  CHECK(parts[0].targets == std::vector<float>{1});
  CHECK(parts[2].targets == std::vector<float>{0});
  mixed[1].targets.clear();
  CHECK_THROWS_WITH(peft::Dataset(mixed), Contains("example 1 has 0 targets and example 0 1"));
}

TEST_CASE("words are labelled by their first piece", "[data]") {
  const std::string rows = R"({"tokens":["Anna","lives","in","Pari s","."],"ner_tags":["PER","O","O","LOC","O"]})"
                           "\n"
                           R"({"tokens":["films","badly"],"ner_tags":["O","O"]})";
  const auto data = words_in(rows);
  CHECK(data.report().label_names == std::vector<std::string>{"LOC", "O", "PER"});
  CHECK(data[1].input_ids == std::vector<std::int32_t>{2, 5, 11, 10, 12, 3});  // film ##s bad ##ly
  CHECK(data[1].labels == std::vector<std::int32_t>{-100, 1, -100, 1, -100, -100});
  CHECK(data[0].input_ids == std::vector<std::int32_t>{2, 13, 15, 16, 1, 1, 17, 3});  // a word with a blank in it is still one word
  CHECK(data[0].labels == std::vector<std::int32_t>{-100, 2, 1, 1, 0, -100, 1, -100});
  CHECK(data.trained_tokens() == 7);
  CHECK(targets_of(data).empty());

  const auto cut = words_in(rows, {.max_length = 3});
  CHECK(cut.report().truncated == 2);
  CHECK(cut[0].labels == std::vector<std::int32_t>{-100, 2, -100});
  std::vector<std::int64_t> first;
  peft::encode_words({"ä", "film", "", "paris"}, {}, bert(), 4, &first);
  CHECK(first == std::vector<std::int64_t>{1, 2, -1, -1});
  CHECK_THROWS_WITH(words_in(R"({"tokens":["a","b"],"labels":["O"]})"), Contains("line 1 has 2 words and 1 labels"));
  CHECK_THROWS_WITH(words_in(R"({"text":"a","labels":["O"]})"), Contains("has no list of words"));

  // A tokenizer whose tokens hold the blank in front of a word.
  const peft::Tokenizer bytes = small::plain();
  const peft::Example e = peft::encode_words({"hello", "world", "ld"}, {4, 5, 6}, bytes);
  std::vector<std::int32_t> labelled;
  for (const std::int32_t label : e.labels)
    if (label != peft::ignore_index) labelled.push_back(label);
  CHECK(labelled == std::vector<std::int32_t>{4, 5, 6});
}
