// SPDX-License-Identifier: Apache-2.0
// What the README shows is what is there.
#include <catch2/catch.hpp>
#include <cstdlib>

#include "cli/program.hpp"
#include "support/tiny_model_files.hpp"

namespace fs = std::filesystem;

TEST_CASE("the program of the README is the example, to the letter", "[cli]") {
  const std::string readme = cli::read("README.md"), example = cli::read("examples/tune_model.cpp"), fence = "```cpp\n";
  const std::size_t begin = readme.find(fence) + fence.size(), end = readme.find("```", begin);
  const std::string code = readme.substr(begin, end - begin);
  REQUIRE(code.size() > 500);
  CHECK(example.substr(example.find("#include")) == code);
}

TEST_CASE("the program of the README trains, saves and answers", "[cli]") {
  const small::Folder folder;
  const auto path = [&](const char* name) { return folder.path() + "/" + name; };
  peft::testing::write_tiny_model(path("SmolLM2-135M-Instruct.Q4_1.gguf"));  // a directory: load_model takes either
  std::string rows;
  for (int i = 0; i < 12; i++) rows += R"({"question": "What is ticket )" + std::to_string(i) + R"(?", "answer": "It is the world."})" + "\n";
  folder.write("tickets.jsonl", rows);
  REQUIRE(std::system(("cd '" + folder.path() + "' && '" PEFT_README_PROGRAM "' > said 2> errors").c_str()) == 0);
  CHECK(cli::read(path("errors")).empty());

  // The adapter that it saved answers as the one that it had trained did.
  const cli::Outcome again = cli::run({"generate", "--model", path("SmolLM2-135M-Instruct.Q4_1.gguf"), "--adapter", path("out"), "--prompt",
                                       "My printer is on fire.", "--max-new-tokens", "64", "--temperature", "0.7"});
  INFO(again.err);
  CHECK(again.code == 0);
  CHECK(!again.out.empty());
  CHECK(again.out == cli::read(path("said")));
}
