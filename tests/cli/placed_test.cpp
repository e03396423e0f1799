// SPDX-License-Identifier: Apache-2.0
// The command-line tool with prompts that a template places.
#include <catch2/catch.hpp>
#include <regex>

#include "cli/program.hpp"
#include "peft/io/json.hpp"
#include "support/tiny_bert_files.hpp"
#include "support/tiny_model_files.hpp"

TEST_CASE("a template places a prompt in the source of an encoder-decoder", "[cli]") {
  const small::Folder folder;
  const std::string model = folder.path() + "/t5", out = folder.path() + "/placed";
  peft::testing::write_tiny_t5(model);
  const std::string data = folder.write("facts.jsonl", "{\"who\": \"the rose\", \"what\": \"red\"}\n{\"who\": \"the sea\", \"what\": \"blue\"}\n");
  const cli::Outcome made = cli::run({"train",
                                      "--model",
                                      model,
                                      "--data",
                                      data,
                                      "--eval-data",
                                      data,
                                      "--method",
                                      "prompt_tuning",
                                      "--set",
                                      "num_virtual_tokens=3",
                                      "--set",
                                      "token_template={prompt:2} {who}{prompt:1} {answer:what}",
                                      "--set",
                                      "prompt_tuning_init=TEXT",
                                      "--set",
                                      "prompt_tuning_init_text=say",
                                      "--lr",
                                      "1e-1",
                                      "--max-steps",
                                      "60",
                                      "--out",
                                      out});
  INFO(made.out << made.err);
  REQUIRE(made.code == 0);
  std::smatch loss;
  REQUIRE(std::regex_search(made.out, loss, std::regex("\neval   loss ([0-9.]+) → ([0-9.]+) ")));
  CHECK(std::stod(loss[2]) < 0.9 * std::stod(loss[1]));
  CHECK_THAT(cli::run({"eval", "--model", model, "--adapter", out, "--data", data}).out, Catch::Contains("eval   loss " + loss[2].str() + " "));
  const auto asked = [&](const cli::Words& more) {
    cli::Words words = {"generate", "--model", model, "--adapter", out, "--max-new-tokens", "8"};
    words.insert(words.end(), more.begin(), more.end());
    return cli::run(words).out;
  };
  const auto rows = cli::lines(asked({"--prompts", data}));
  REQUIRE(rows.size() == 2);
  CHECK(peft::Json::parse(rows[1], "row").at("generated").string() + "\n" == asked({"--prompt", "the sea"}));
}

TEST_CASE("a prompt placed by a template learns fields of rows, and answers by them", "[cli]") {
  const small::Folder folder;
  const std::string model = folder.path() + "/tiny", out = folder.path() + "/placed";
  peft::testing::write_tiny_model(model);
  const std::string data = folder.write("facts.jsonl", "{\"who\": \"the rose\", \"what\": \"red\"}\n{\"who\": \"the sea\", \"what\": \"blue\"}\n");
  const auto train = [&](const std::string& token_template) {
    return cli::run({"train", "--model", model, "--data", data, "--eval-data", data, "--method", "p_tuning", "--set", "num_virtual_tokens=6", "--set",
                     "token_template=" + token_template, "--lr", "3e-2", "--max-steps", "300", "--out", out});
  };
  CHECK_THAT(train("{prompt:5}{who}{answer:what}").err, Catch::Contains("num_virtual_tokens is 6, and token_template places 5"));
  CHECK_THAT(train("{prompt:6}{whom}{answer:what}").err, Catch::Contains("line 1") && Catch::Contains("did you mean \"who\"?"));
  const cli::Outcome made = train("{prompt:2} {who}{prompt:4} {answer:what}");
  INFO(made.out << made.err);
  REQUIRE(made.code == 0);
  CHECK(peft::Json::read(out + "/adapter_config.json").at("token_template").string() == "{prompt:2} {who}{prompt:4} {answer:what}");
  std::smatch loss;
  REQUIRE(std::regex_search(made.out, loss, std::regex("\neval   loss ([0-9.]+) → ([0-9.]+) ")));
  CHECK(std::stod(loss[2]) < 0.3 * std::stod(loss[1]));  // a prompt alone teaches a random model no more
  const std::string measured = cli::run({"eval", "--model", model, "--adapter", out, "--data", data}).out;
  CHECK_THAT(measured, Catch::Contains("eval   loss " + loss[2].str() + " ") && Catch::Contains("right answers"));
  const auto asked = [&](const cli::Words& more) {
    return cli::run(cli::with({"generate", "--model", model, "--adapter", out, "--max-new-tokens", "8"}, more)).out;
  };
  const auto rows = cli::lines(asked({"--prompts", data}));
  REQUIRE(rows.size() == 2);
  CHECK(peft::Json::parse(rows[1], "row").at("generated").string() + "\n" == asked({"--prompt", "the sea"}));
  CHECK_THAT(cli::run({"generate", "--model", model, "--adapter", out, "--prompts", folder.write("other.jsonl", "{\"whom\": \"a\"}")}).err,
             Catch::Contains("wants who of a row"));
  CHECK_THAT(cli::run({"score", "--model", model, "--adapter", out, "--prompt", "a", "--choice", "b"}).err,
             Catch::Contains("without any of the virtual tokens"));
}

TEST_CASE("a prompt placed by a template goes with a head that classifies", "[cli]") {
  const small::Folder folder;
  const std::string model = folder.path() + "/bert", out = folder.path() + "/placed";
  peft::testing::write_tiny_bert(model);
  const std::string data = folder.write("rows.tsv", "sentence\tlabel\nthe film was good\tgood\nthe film was bad\tbad\na great plot\tgood\na dull plot\tbad\n");
  const cli::Outcome made =
      cli::run({"train", "--model", model, "--data", data, "--task", "seq_cls", "--method", "prompt_tuning", "--set", "num_virtual_tokens=3", "--set",
                "token_template={prompt:1} {text} {prompt:2}", "--lr", "3e-2", "--max-steps", "120", "--out", out});
  INFO(made.out << made.err);
  REQUIRE(made.code == 0);
  CHECK_THAT(cli::run({"eval", "--model", model, "--adapter", out, "--data", data}).out, Catch::Contains("accuracy 1.0000"));
  CHECK_THAT(cli::run({"classify", "--model", model, "--adapter", out, "--text", "a dull plot"}).out, Catch::Contains("\"label\": \"bad\""));
}
