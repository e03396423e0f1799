// SPDX-License-Identifier: Apache-2.0
// peft score, perplexity, classify and embed: what is said of given texts.
#include <catch2/catch.hpp>

#include "cli/bench.hpp"
#include "peft/io/json.hpp"
#include "support/tiny_bert_files.hpp"

using namespace cli;

TEST_CASE("score ranks choices, perplexity measures a text", "[cli]") {
  const small::Folder folder;
  const std::string question = "<|im_start|>user\nWhat burns?<|im_end|>\n<|im_start|>assistant\n";
  const Outcome ranked =
      run({"score", "--model", bench().model, "--adapter", learnt_adapter(), "--prompt", question, "--choice", "It is the sea.", "--choice", "It is a fire."});
  INFO(ranked.err);
  REQUIRE(ranked.code == 0);
  REQUIRE(cli::lines(ranked.out).size() == 2);
  CHECK_THAT(cli::lines(ranked.out)[0], Contains("It is a fire."));
  peft::Json row = peft::Json::make_object(), choices = peft::Json::make_array();
  for (const auto& [unused, answer] : facts) choices.push_back(peft::Json("It is " + answer + ".")), (void)unused;
  row.set("prompt", peft::Json(question)), row.set("choices", choices), row.set("answer", peft::Json(std::int64_t{3}));
  const Outcome judged = run({"score", "--model", bench().model, "--adapter", learnt_adapter(), "--data", folder.write("rows.jsonl", row.dump() + "\n")});
  CHECK(peft::Json::parse(judged.out, "row").at("best").integer() == 3);
  CHECK_THAT(judged.err, Contains("right 1 of 1"));
  check_refusal(run({"score", "--model", bench().model}), 1, {"--choice"});

  const std::string text = folder.write("text.txt", "hello the world hello the world hello the world");
  const Outcome measured = run({"perplexity", "--model", bench().model, "--data", text, "--max-length", "8", "--stride", "4"});
  INFO(measured.err);
  CHECK(measured.code == 0);
  CHECK_THAT(measured.out, Contains("perplexity ") && Contains("bits a byte"));
  check_refusal(run({"perplexity", "--model", bench().model, "--data", text, "--max-length", "8", "--stride", "9"}), 1, {"stride = 9"});
}

TEST_CASE("texts and words are classified with heads that were trained for it, and made vectors of", "[cli]") {
  const small::Folder folder;
  const std::string model = folder.path() + "/bert", out = folder.path() + "/sentiment", tags = folder.path() + "/tags";
  peft::testing::write_tiny_bert(model);
  const std::string data = folder.write("train.tsv",
                                        "sentence\tlabel\nthe film was good\tpositive\nthe film was bad\tnegative\na great plot\tpositive\na dull plot\t"
                                        "negative\nthe plot was great\tpositive\ndull film\tnegative\n");
  const Words training = {"train",       "--model", model,  "--data",  data, "--eval-data", data, "--task", "seq_cls", "--targets",
                          "query,value", "--lr",    "2e-2", "--batch", "6",  "--max-steps", "80", "--out",  out};
  const Outcome trained = run(training);
  INFO(trained.out << trained.err);
  REQUIRE(trained.code == 0);
  CHECK_THAT(trained.out, Contains("6 examples of 2 classes, ") && Contains(" → 1.0000   of 6"));
  CHECK_THAT(trained.out, Contains(" classify --model " + model + " --adapter " + out + " --text"));
  CHECK(names_in(out) == Words{"adapter_config.json", "adapter_model.safetensors", "labels.json", "log.jsonl", "state"});

  CHECK_THAT(run({"eval", "--model", model, "--adapter", out, "--data", data}).out, Contains("accuracy 1.0000   f1 1.0000   matthews 1.0000   of 6"));
  const Outcome said = run({"classify", "--model", model, "--adapter", out, "--text", "the film was good", "--text", "a dull plot", "--all"});
  INFO(said.err);
  const auto rows = cli::lines(said.out);
  REQUIRE(rows.size() == 2);
  const peft::Json good = peft::Json::parse(rows[0], "row"), dull = peft::Json::parse(rows[1], "row");
  CHECK(good.at("text").string() == "the film was good");
  CHECK(good.at("label").string() == "positive");
  CHECK(good.at("probability").number() > 0.8);
  CHECK(good.at("probabilities").at("negative").number() + good.at("probability").number() == Approx(1));
  CHECK(dull.at("label").string() == "negative");
  const auto of_file = cli::lines(run({"classify", "--model", model, "--adapter", out, "--data", data}).out);
  REQUIRE(of_file.size() == 6);
  for (const std::string& row : of_file) CHECK(peft::Json::parse(row, "row").at("label") == peft::Json::parse(row, "row").at("wanted"));
  REQUIRE(run({"merge", "--model", model, "--adapter", out, "--out", folder.path() + "/merged"}).code == 0);
  const auto merged = cli::lines(run({"classify", "--model", folder.path() + "/merged", "--text", "the film was good"}).out);
  REQUIRE(merged.size() == 1);
  CHECK(peft::Json::parse(merged[0], "row").at("label").string() == "positive");

  const std::string words = folder.write("words.jsonl", R"({"tokens":["Anna","lives","in","Paris"],"labels":["PER","O","O","LOC"]})"
                                                        "\n"
                                                        R"({"tokens":["in","Paris","the","film"],"labels":["O","LOC","O","O"]})"
                                                        "\n");
  const Outcome tagged = run({"train", "--model", model, "--data", words, "--task", "token_cls", "--lr", "2e-2", "--max-steps", "80", "--out", tags});
  INFO(tagged.err);
  REQUIRE(tagged.code == 0);
  const peft::Json tagging = peft::Json::parse(run({"classify", "--model", model, "--adapter", tags, "--text", "Anna  lives in Paris"}).out, "row");
  CHECK(tagging.at("tokens").dump() == R"(["Anna", "lives", "in", "Paris"])");
  CHECK(tagging.at("labels").dump() == R"(["PER", "O", "O", "LOC"])");

  const auto vectors = cli::lines(run({"embed", "--model", model, "--text", "paris", "--text", "the film"}).out);
  REQUIRE(vectors.size() == 2);
  double length = 0;
  const peft::Json second = peft::Json::parse(vectors[1], "row");
  for (const peft::Json& x : second.at("embedding").array()) length += x.number() * x.number();
  CHECK(length == Approx(1).epsilon(1e-4));

  check_refusal(run({"classify", "--model", model, "--text", "a"}), 1, {"has no head that learns labels"});
  check_refusal(run({"classify", "--model", bench().model, "--text", "a"}), 1, {"this model predicts tokens"});
  check_refusal(run({"classify", "--model", model, "--adapter", out}), 1, {"give --text, or --data"});
  check_refusal(run({"eval", "--model", model, "--adapter", out, "--data", folder.write("other.tsv", "text\tlabel\na\tpositiv\n")}), 1,
                {"line 2 has the label \"positiv\"", "did you mean \"positive\"?"});
  check_refusal(run({"train", "--model", model, "--data", data, "--out", folder.path() + "/x"}), 1, {"train one with --task seq_cls"});
  check_refusal(run({"embed", "--model", model}), 1, {"give --text, or --data"});
}
