// SPDX-License-Identifier: Apache-2.0
// Chat templates by name or from a file, in training and in answers.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "cli/bench.hpp"
#include "peft/io/json.hpp"
#include "peft/tokenizer/builtin_templates.hpp"
#include "peft/tokenizer/tokenizer.hpp"

using namespace cli;

namespace {

/// The bench's model without a chat template.
const std::string& plain_model() {
  static const std::string model = [] {
    const std::string folder = bench().path("plain");
    fs::copy(bench().model, folder);
    peft::Json config = peft::Json::read(folder + "/tokenizer_config.json");
    config.set("chat_template", peft::Json());
    std::ofstream(folder + "/tokenizer_config.json") << config.dump(2);
    return folder;
  }();
  return model;
}

std::string succeeded(const Words& words) {
  const Outcome outcome = run(words);
  INFO(outcome.out << outcome.err);
  REQUIRE(outcome.code == 0);
  return outcome.out;
}

Words trains(const std::string& out, const Words& more = {}, const std::string& steps = "120") {
  Words words = learn(out, more, steps);
  *std::find(words.begin(), words.end(), bench().model) = plain_model();
  return words;
}

}  // namespace

TEST_CASE("an adapter remembers the chat template that it was trained with", "[cli]") {
  const std::string out = bench().path("zephyr"), kept = out + "/chat_template.jinja";
  succeeded(trains(out, {"--chat-template", "zephyr"}));
  CHECK(read(kept) == peft::builtin_chat_template("zephyr"));
  const Words tuned = {"--model", plain_model(), "--adapter", out};
  for (const auto& [question, answer] : facts) CHECK(ask(question, tuned) == "It is " + answer + ".\n");
  CHECK(ask("<|user|>\nWhat burns?<|im_end|>\n<|assistant|>\n", with(tuned, {"--raw"})) == "It is a fire.\n");
  CHECK(ask("What burns?", with(tuned, {"--chat-template", kept})) == "It is a fire.\n");
  CHECK(run(with({"generate", "--max-new-tokens", "24"}, tuned), "What burns?\n/reset\nWhat is blue?\n").out == "It is a fire.\nIt is the sea.\n");
  CHECK_THAT(succeeded(with({"eval", "--data", bench().data}, tuned)), Contains("right answers 4 of 4"));

  // What the weights are merged into has it, too.
  const std::string merged = bench().path("zephyr_merged");
  succeeded(with({"merge", "--out", merged}, tuned));
  succeeded(with({"merge", "--out", merged + ".gguf"}, tuned));
  for (const char* ending : {"", ".gguf"}) {
    CHECK(peft::load_tokenizer(merged + ending).chat_template().text() == peft::builtin_chat_template("zephyr"));
    CHECK(ask("What burns?", {"--model", merged + ending}) == "It is a fire.\n");
  }

  // Going on keeps it, beginning anew does not.
  succeeded(trains(out, {"--resume"}, "121"));
  CHECK(read(kept) == peft::builtin_chat_template("zephyr"));
  CHECK(ask("What burns?", tuned) == "It is a fire.\n");
  succeeded(trains(out, {"--overwrite"}, "1"));
  CHECK_FALSE(fs::exists(kept));
}

TEST_CASE("a template whose turns end with a word that is no token is learnt, and ends answers", "[cli]") {
  const std::string out = bench().path("llama3");
  succeeded(trains(out, {"--chat-template", "llama3"}));
  CHECK(ask("What burns?", {"--model", plain_model(), "--adapter", out}) == "It is a fire.\n");
}

TEST_CASE("a model that trains itself keeps the template", "[cli]") {
  const std::string out = bench().path("whole_chatml"), file = bench().folder.write("own.jinja", "{% for m in messages %}{{ m.content }}|{% endfor %}\n");
  succeeded({"train", "--model", bench().model, "--data", bench().data, "--method", "full", "--max-steps", "1", "--out", out, "--chat-template", file});
  CHECK(peft::load_tokenizer(out).chat_template().text() == read(file));
}

TEST_CASE("wrong chat templates are refused before anything is written", "[cli]") {
  const Words prompt = {"generate", "--model", plain_model(), "--prompt", "a"};
  check_refusal(run(with(prompt, {"--chat-template", "lama3"})), 1, {"\"lama3\"", "did you mean \"llama3\"?", "alpaca, chatglm, "});
  check_refusal(run({"generate", "--model", plain_model()}, "Hi\n"), 1, {"no chat template", "--chat-template", "alpaca, chatglm, "});
  check_refusal(run(with(prompt, {"--chat-template", bench().folder.write("broken.jinja", "{% if %}")})), 1, {"not understood", "line 1"});
  check_refusal(run(with(prompt, {"--chat-template", "chatml", "--raw"})), 1, {"--chat-template with --raw"});
  const std::string out = bench().path("never");
  check_refusal(run(trains(out, {"--chat-template", "zephir"})), 1, {"did you mean \"zephyr\"?"});
  CHECK_FALSE(fs::exists(out));
  const std::string a = bench().path("a"), b = bench().path("b");
  succeeded(trains(a, {"--chat-template", "zephyr"}, "1"));
  succeeded(trains(b, {"--chat-template", "llama2"}, "1"));
  check_refusal(run(with(prompt, {"--adapter", a, "--adapter", b})), 1, {"different chat templates; --chat-template"});
  CHECK(run(with(prompt, {"--adapter", a, "--adapter", b, "--chat-template", "llama2", "--max-new-tokens", "2"})).code == 0);
  CHECK_THAT(run({"generate", "--help"}).out, Contains("--chat-template") && Contains("zephyr"));
}
