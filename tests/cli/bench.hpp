// SPDX-License-Identifier: Apache-2.0
// A model, rows to learn and an adapter that has learnt them, for the tests of the command-line tool.
#pragma once

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "cli/program.hpp"
#include "support/tiny_model_files.hpp"

namespace cli {

using Catch::Contains;
using Catch::StartsWith;

inline const std::vector<std::pair<std::string, std::string>> facts = {
    {"What is red?", "the rose"}, {"What is blue?", "the sea"}, {"Who says hello?", "the world"}, {"What burns?", "a fire"}};

/// A model and rows to learn, made once; `adapter` has learnt them.
struct Bench {
  small::Folder folder;
  std::string model, data, adapter;
  std::string path(const std::string& name) const { return folder.path() + "/" + name; }
  Bench() {
    model = path("tiny"), adapter = path("adapter");
    peft::testing::write_tiny_model(model);
    std::string rows;
    for (const auto& [question, answer] : facts)
      rows += R"({"question": ")" + question + R"(", "answer": "It is )" + answer + R"(.", "fact": ")" + answer + "\"}\n";
    data = folder.write("facts.jsonl", rows);
  }
};
inline const Bench& bench() {
  static const Bench made;
  return made;
}

/// A call of train that learns the rows by heart.
inline Words learn(const std::string& out, const Words& more = {}, const std::string& steps = "120") {
  Words words = {"train", "--model", bench().model, "--data", bench().data,  "--targets", "all-linear", "--r", "16",
                 "--lr",  "2e-2",    "--batch",     "4",      "--max-steps", steps,       "--out",      out};
  return with(std::move(words), more);
}
inline const std::string& learnt_adapter() {
  static const std::string adapter = [] {
    const Outcome made = run(learn(bench().adapter, {"--eval-data", bench().data}));
    INFO(made.err);
    REQUIRE(made.code == 0);
    std::ofstream(bench().path("said")) << made.out;
    return bench().adapter;
  }();
  return adapter;
}
inline std::string ask(const std::string& question, const Words& more) {
  const Outcome answer = run(with({"generate", "--prompt", question, "--max-new-tokens", "24"}, more));
  INFO(answer.err);
  CHECK(answer.code == 0);
  CHECK(answer.err.empty());
  return answer.out;
}

/// One line on standard error that says all of this, nothing half said before it.
inline void check_refusal(const Outcome& outcome, int code, const Words& said) {
  INFO(outcome.out);
  CHECK(outcome.code == code);
  REQUIRE(lines(outcome.err).size() == 1);
  CHECK_THAT(outcome.err, Catch::StartsWith("peft: "));
  for (const std::string& text : said) CHECK_THAT(outcome.err, Catch::Contains(text));
}

}  // namespace cli
