// SPDX-License-Identifier: Apache-2.0
// peft generate: answers, chats, files of prompts and of requests.
#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <regex>
#include <thread>

#include "cli/bench.hpp"
#include "peft/io/json.hpp"

using namespace cli;

TEST_CASE("generate answers: greedily the same, by a seed the same, with the adapter what was learnt", "[cli]") {
  const Words plain = {"--model", bench().model}, tuned = {"--model", bench().model, "--adapter", learnt_adapter()};
  for (const auto& [question, answer] : facts) CHECK(ask(question, tuned) == "It is " + answer + ".\n");
  CHECK(ask("What burns?", plain) == ask("What burns?", with(plain, {"--threads", "1"})));
  CHECK(ask("What burns?", plain) != ask("What burns?", tuned));
  CHECK(ask("What burns?", with(tuned, {"--stop", "a fi"})) == "It is \n");
  const std::string drawn = ask("What burns?", with(plain, {"--temperature", "1", "--seed", "5"}));
  CHECK(ask("What burns?", with(plain, {"--temperature", "1", "--seed", "5"})) == drawn);
  CHECK(ask("What burns?", with(plain, {"--temperature", "1", "--seed", "6"})) != drawn);
  // The template written by hand is the prompt that training saw.
  CHECK(ask("<|im_start|>user\nWhat burns?<|im_end|>\n<|im_start|>assistant\n", with(tuned, {"--raw"})) == "It is a fire.\n");
  CHECK(run({"generate", "--model", bench().model, "--adapter", learnt_adapter(), "--prompt", "-", "--max-new-tokens", "24"}, "What burns?").out ==
        "It is a fire.\n");
}

TEST_CASE("a chat reads a turn a line and forgets when it is told to", "[cli]") {
  const Words chat = {"generate", "--model", bench().model, "--adapter", learnt_adapter(), "--max-new-tokens", "24"};
  const Outcome twice = run(chat, "What burns?\n\n/reset\n  What is blue?  \n/quit\nWhat is red?\n");
  CHECK(twice.code == 0);
  CHECK(twice.err.empty());
  CHECK(twice.out.substr(0, 14) == "It is a fire.\n");
  CHECK_THAT(run(chat, "/rest\n").out, Contains("/rest is no command; did you mean \"/reset\"?"));
  CHECK(run(chat, "/reset\nWhat is red?").out == "It is the rose.\n");  // the end of input is the end of the chat
  CHECK(run(chat, "What burns?\n/reset\nWhat is blue?\n").out == "It is a fire.\nIt is the sea.\n");
  // What was said before counts until it is forgotten: the model before training has learnt nothing yet that would hide it.
  const Words untrained = {"generate", "--model", bench().model, "--max-new-tokens", "24"};
  const std::string first = run(untrained, "What burns?\n").out, second = run(untrained, "What is blue?\n").out;
  CHECK(run(untrained, "What burns?\n/reset\nWhat is blue?\n").out == first + second);
  CHECK(run(untrained, "What burns?\nWhat is blue?\n").out != first + second);
  CHECK(run(chat, "What burns?\n/again\n").out == "It is a fire.\nIt is a fire.\n");
  for (const Words& guesses : {Words{"--draft", bench().model}, Words{"--prompt-lookup", "4"}}) {
    CHECK(run(with(chat, guesses), "What burns?\nWhat is blue?\n").out == run(chat, "What burns?\nWhat is blue?\n").out);
  }
}

TEST_CASE("a chat changes adapters and settings, and takes turns of several lines", "[cli]") {
  const Words chat = {"generate", "--model", bench().model, "--adapter", learnt_adapter(), "--max-new-tokens", "24"};
  const std::string plain = run({"generate", "--model", bench().model, "--max-new-tokens", "24"}, "What burns?\n").out;
  CHECK(run(chat, "/adapter none\nWhat burns?\n/reset\n/adapter adapter\nWhat burns?\n").out == plain + "It is a fire.\n");
  CHECK(run(chat, "/adapter\n").out == "adapter (active)\n");
  CHECK_THAT(run(chat, "/adapter adaptr\n").out, Contains("did you mean \"adapter\"?"));
  CHECK(run(chat, "/set max_new_tokens 2\nWhat burns?\n/set max_new_tokens 24\n/again\n").out != "It is a fire.\nIt is a fire.\n");
  CHECK_THAT(run(chat, "/set max_new_tokens 2\nWhat burns?\n/set max_new_tokens 24\n/again\n").out, Catch::EndsWith("\nIt is a fire.\n"));
  CHECK_THAT(run(chat, "/set temprature 1\n").out, Contains("did you mean \"temperature\"?"));
  CHECK_THAT(run(chat, "/set temperature -1\n").out, Contains("temperature = -1"));
  CHECK_THAT(run(chat, "/set temperature\n").out, Contains("/set wants a name and a value"));
  const std::string blocks = run(chat, "\"\"\"\nWhat\nburns?\n\"\"\"\n/history\n").out, slashes = run(chat, "What\\\nburns?\n/history\n").out;
  CHECK_THAT(blocks, Contains("user: What\nburns?\n"));
  CHECK_THAT(slashes, Contains("user: What\nburns?\n"));
}

TEST_CASE("a file of prompts is answered in one batch, each by its adapter, in order", "[cli]") {
  const small::Folder folder;
  std::string rows;
  for (const auto& [question, answer] : facts) rows += R"({"question": ")" + question + R"(", "id": ")" + answer + "\"}\n";
  rows += R"({"messages": [{"role": "user", "content": "What burns?"}], "adapter": null})"
          "\n";
  rows += R"({"prompt": "What burns?", "adapter": ["adapter"]})"
          "\n";
  const std::string prompts = folder.write("prompts.jsonl", rows), out = folder.path() + "/answers.jsonl";
  const Words call = {"generate", "--model", bench().model, "--adapter", learnt_adapter(), "--prompts", prompts, "--max-new-tokens", "24", "--batch", "3"};
  const Outcome answered = run(call);
  INFO(answered.err);
  REQUIRE(answered.code == 0);
  const auto lines = cli::lines(answered.out);
  REQUIRE(lines.size() == 6);
  for (std::size_t i = 0; i < facts.size(); i++) {
    const peft::Json row = peft::Json::parse(lines[i], "answer");
    CHECK(row.at("id").string() == facts[i].second);
    CHECK(row.at("generated").string() == "It is " + facts[i].second + ".");
    CHECK(row.at("finish_reason").string() == "stop");
  }
  CHECK(peft::Json::parse(lines[4], "answer").at("generated").string() + "\n" == ask("What burns?", {"--model", bench().model}));
  CHECK(peft::Json::parse(lines[5], "answer").at("generated").string() == "It is a fire.");
  CHECK_THAT(run(with(call, {"--out", out})).out, Contains("6 answers, ") && Contains(out));
  CHECK(cli::read(out) == answered.out);
  for (const Words& alone : {call, with(call, {"--seed", "3", "--temperature", "0.8"})})
    for (const Words& guesses : {Words{"--draft", bench().model}, Words{"--prompt-lookup", "3"}}) {
      CHECK(run(with(alone, guesses)).out == run(alone).out);
      CHECK(std::regex_search(run(with(with(alone, guesses), {"--out", out})).out, std::regex(", [0-9]+ of [0-9]+ guesses right \\([0-9]+ %\\)   written to")));
    }
  // A prompt a line, of plain text.
  const std::string plain = folder.write("prompts.txt", "What burns?\n\n  \nWhat is red?\r\n");
  const auto texts = cli::lines(run({"generate", "--model", bench().model, "--adapter", learnt_adapter(), "--prompts", plain}).out);
  REQUIRE(texts.size() == 2);
  CHECK(peft::Json::parse(texts[0], "answer").at("generated").string() == "It is a fire.");
  CHECK(peft::Json::parse(texts[1], "answer").at("prompt").string() == "What is red?");
  check_refusal(run({"generate", "--model", bench().model, "--prompts", folder.write("bad.jsonl", "{\"prompt\": \"a\", \"adapter\": \"x\"}\n")}), 1, {"\"x\""});
  check_refusal(run({"generate", "--model", bench().model, "--prompts", folder.write("none.jsonl", "{\"text\": \"a\"}\n")}), 1, {"row 1 has no prompt"});
}

TEST_CASE("requests of the completion API are answered as JSON", "[cli]") {
  const Outcome answered =
      run({"generate", "--model", bench().model, "--completions", "-"}, R"({"prompt": ["hello", "the"], "max_tokens": 3, "temperature": 0})"
                                                                        "\n");
  INFO(answered.err);
  REQUIRE(answered.code == 0);
  const peft::Json json = peft::Json::parse(answered.out, "answer");
  CHECK(json.at("choices").size() == 2);
  CHECK(json.at("usage").at("completion_tokens").integer() == 6);
  check_refusal(run({"generate", "--model", bench().model, "--completions", "-"}, "{\"prompt\": \"a\"}\n{\"prompt\": \"a\", \"n\": 0}\n"), 1,
                {"request 2: [completion] n = 0"});
  check_refusal(run({"generate", "--model", bench().model, "--completions", "-", "--draft", bench().model}, ""), 1, {"--draft with --completions"});
}

TEST_CASE("generate takes any setting by its name, constraints, a draft, and a kept prompt", "[cli]") {
  const small::Folder folder;
  const Words plain = {"--model", bench().model};
  const auto answer = [&](const Words& more) { return ask("What burns?", with(plain, more)); };
  CHECK(answer({"--set", "num_beams=1"}) == answer({}));
  CHECK(cli::lines(answer({"--set", "num_beams=3", "--set", "num_return_sequences=2"})).size() >= 2);
  CHECK(answer({"--set", "num_return_sequences=2", "--set", "num_beams=3"}) == answer({"--set", "num_beams=3", "--set", "num_return_sequences=2"}));
  CHECK(answer({"--set", "penalty_alpha=0.6", "--set", "top_k=4"}) == answer({"--set", "top_k=4", "--set", "penalty_alpha=0.6"}));
  const Words raw = {"generate", "--model", bench().model, "--raw", "--prompt", "hello the world"};
  CHECK(run(with(raw, {"--set", "max_length=9"})).out == run(with(raw, {"--max-new-tokens", "6"})).out);
  CHECK(std::regex_match(answer({"--regex", "[0-9]{3}-(yes|no)"}), std::regex("[0-9]{3}-(yes|no)\n")));
  const std::string schema = R"({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]})";
  CHECK(peft::Json::parse(answer({"--json-schema", schema}), "answer").at("ok").is_boolean());
  CHECK(answer({"--json-schema", folder.write("schema.json", schema)}) == answer({"--json-schema", schema}));
  CHECK(answer({"--draft", bench().model}) == answer({}));
  CHECK(answer({"--set", "prompt_lookup_num_tokens=3"}) == answer({}));
  const std::string kept = folder.path() + "/prompt.safetensors";
  CHECK(answer({"--prompt-cache", kept}) == answer({}));
  CHECK(fs::exists(kept));
  CHECK(answer({"--prompt-cache", kept}) == answer({}));
  check_refusal(run({"generate", "--model", bench().model, "--adapter", learnt_adapter(), "--prompt", "What burns?", "--prompt-cache", kept}), 1,
                {kept, "adapters"});
  check_refusal(run({"generate", "--model", bench().model, "--prompt", "a", "--set", "num_beems=2"}), 1, {"did you mean \"num_beams\""});
  check_refusal(run({"generate", "--model", bench().model, "--prompt", "a", "--regex", "(a"}), 1, {"without its )"});
  check_refusal(run({"generate", "--model", bench().model, "--prompt", "a", "--set", "=3"}), 1, {"NAME=VALUE"});
  check_refusal(run({"generate", "--model", bench().model, "--prompt", "a", "--temperature", "hot"}), 2,
                {"--temperature: \"hot\"; wanted: a number, 0 or more"});
  check_refusal(run({"generate", "--model", bench().model, "--prompts", "-", "--batch", "0"}), 2, {"--batch: \"0\"; wanted: a number above 0"});
}

TEST_CASE("Ctrl-C ends an answer with what there is of it", "[cli]") {
  cli::Running answering({"generate", "--model", bench().model, "--prompt", "hello", "--max-new-tokens", "4000", "--threads", "1"});
  for (int i = 0; i < 2000 && answering.out().empty(); i++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  answering.send(SIGINT);
  const Outcome ended = answering.wait();
  CHECK(ended.code == 130);
  CHECK(ended.err.empty());
  CHECK_THAT(ended.out, Catch::EndsWith("\n"));
}

TEST_CASE("Ctrl-C stops an answer of a chat, which goes on", "[cli]") {
  const std::string turns = "hello\n/reset\n/set max_new_tokens 3\nhello\n/history\n";
  cli::Running chat({"generate", "--model", bench().model, "--max-new-tokens", "4000", "--threads", "1"}, turns);
  for (int i = 0; i < 2000 && chat.out().empty(); i++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  chat.send(SIGINT);
  const Outcome ended = chat.wait();
  CHECK(ended.code == 0);
  CHECK(ended.err.empty());
  const std::string again = run({"generate", "--model", bench().model, "--max-new-tokens", "3", "--threads", "1"}, "hello\n/history\n").out;
  CHECK_THAT(ended.out, Catch::EndsWith("\n" + again));
}
