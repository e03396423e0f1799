// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include "cli/program.hpp"
#include "peft/io/json.hpp"
#include "support/tiny_bert_files.hpp"

TEST_CASE("answers are found in texts by a head that was trained for it", "[cli]") {
  using Catch::Contains;
  using cli::run;
  const small::Folder folder;
  const std::string model = folder.path() + "/bert", out = folder.path() + "/squad";
  peft::testing::write_tiny_bert(model);
  std::string rows;
  const std::vector<std::string> befores = {"", "dull . ", "the great film was bad . ", "good . the film was dull . the plot was bad . a great plot . "};
  for (const std::string who : {"anna", "a film", "the plot"})
    for (const std::string& before : befores)
      rows += R"({"question": "the lives", "context": ")" + before + who + R"( lives in paris .", "answers": {"text": [")" + who + R"("], "answer_start": [)" +
              std::to_string(before.size()) + "]}}\n";
  const std::string data = folder.write("squad.jsonl", rows);
  const auto trained = run({"train",        "--model",      model,        "--data",   data,   "--eval-data", data, "--task",
                            "question_ans", "--targets",    "all-linear", "--lr",     "1e-2", "--batch",     "6",  "--max-steps",
                            "80",           "--max-length", "20",         "--stride", "6",    "--out",       out});
  INFO(trained.out << trained.err);
  REQUIRE(trained.code == 0);
  CHECK_THAT(trained.out, Contains("15 examples, ") && Contains("exact_match 0.") && Contains(" answer --model " + model + " --adapter " + out));

  const auto measured = run({"eval", "--model", model, "--adapter", out, "--data", data, "--max-length", "20", "--stride", "6"});
  INFO(measured.out << measured.err);
  CHECK_THAT(measured.out, Contains("exact_match 1.0000   f1 1.0000   of 12"));

  const auto said = cli::lines(
      run({"answer", "--model", model, "--adapter", out, "--question", "the lives", "--context", "Dull .  The plot lives in Paris .", "--best", "3"}).out);
  REQUIRE(said.size() == 1);
  const peft::Json answer = peft::Json::parse(said[0], "row");
  CHECK(answer.at("answer").string() == "The plot");
  CHECK(answer.at("start").integer() == 8);
  CHECK(answer.at("end").integer() == 16);
  CHECK(answer.at("best").size() == 3);
  CHECK(answer.at("best").array()[0].at("answer").string() == "The plot");
  CHECK(answer.at("probability").number() > answer.at("best").array()[1].at("probability").number());
  CHECK(cli::lines(run({"answer", "--model", model, "--adapter", out, "--data", data, "--max-length", "20", "--stride", "6"}).out).size() == 12);

  const auto refused = [](const cli::Words& words, const std::string& why) {
    const auto outcome = run(words);
    CHECK(outcome.code == 1);
    CHECK_THAT(outcome.err, Contains(why));
  };
  refused({"answer", "--model", model, "--adapter", out, "--question", "a"}, "no --context");
  refused({"answer", "--model", model, "--question", "a", "--context", "b"}, "train an adapter with --task question_ans");
  refused({"classify", "--model", model, "--adapter", out, "--text", "a"}, "peft answer");
  refused({"train", "--model", model, "--data", data, "--task", "question_ans", "--regression", "--out", folder.path() + "/x"}, "has no labels");
  refused({"eval", "--model", model, "--adapter", out, "--data", data, "--max-length", "20"}, "stride is 128; a window has room for 15 tokens");
}
