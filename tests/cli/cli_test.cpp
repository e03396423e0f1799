// SPDX-License-Identifier: Apache-2.0
// The command-line tool as its users meet it: started, fed, interrupted, and read.
#include <catch2/catch.hpp>
#include <chrono>
#include <regex>
#include <thread>

#include "cli/program.hpp"
#include "peft/io/json.hpp"
#include "support/tiny_bert_files.hpp"
#include "support/tiny_model_files.hpp"

namespace {

using Catch::Contains;
using Catch::StartsWith;
using cli::Outcome;
using cli::run;
using cli::Words;
namespace fs = std::filesystem;

const std::vector<std::pair<std::string, std::string>> facts = {
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
const Bench& bench() {
  static const Bench made;
  return made;
}

/// A call of train that learns the rows by heart.
Words learn(const std::string& out, const Words& more = {}, const std::string& steps = "120") {
  Words words = {"train", "--model", bench().model, "--data", bench().data,  "--targets", "all-linear", "--r", "16",
                 "--lr",  "2e-2",    "--batch",     "4",      "--max-steps", steps,       "--out",      out};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}
const std::string& learnt_adapter() {
  static const std::string adapter = [] {
    const Outcome made = run(learn(bench().adapter, {"--eval-data", bench().data}));
    INFO(made.err);
    REQUIRE(made.code == 0);
    std::ofstream(bench().path("said")) << made.out;
    return bench().adapter;
  }();
  return adapter;
}
std::string ask(const std::string& question, const Words& more) {
  Words words = {"generate", "--prompt", question, "--max-new-tokens", "24"};
  words.insert(words.end(), more.begin(), more.end());
  const Outcome answer = run(words);
  INFO(answer.err);
  CHECK(answer.code == 0);
  CHECK(answer.err.empty());
  return answer.out;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// One line on standard error that says all of this, nothing half said before it.
void check_refusal(const Outcome& outcome, int code, const Words& said) {
  INFO(outcome.out);
  CHECK(outcome.code == code);
  REQUIRE(cli::lines(outcome.err).size() == 1);
  CHECK_THAT(outcome.err, StartsWith("peft: "));
  for (const std::string& text : said) CHECK_THAT(outcome.err, Contains(text));
}

}  // namespace

TEST_CASE("info says what a model is and what an adapter would take", "[cli]") {
  const Outcome info = run({"info", "--model", bench().model, "--r", "4", "--targets", "q_proj,v_proj"});
  CHECK(info.code == 0);
  CHECK_THAT(info.out, StartsWith("tiny   llama, 2 layers, "));
  CHECK_THAT(info.out, Contains("hidden 32, 4 heads over 2 key-value heads of 8, intermediate 64"));
  CHECK_THAT(info.out, Contains("LoRA          r=4 on q_proj, v_proj   trainable params: 896 "));  // 2 layers · 4 · ((32 + 32) + (32 + 16))
  const Outcome with = run({"info", "--model", bench().model, "--adapter", learnt_adapter()});
  CHECK_THAT(with.out, Contains("LoRA r=16 alpha=32 on all-linear"));
}

TEST_CASE("the name of a model is that of its file or folder", "[cli]") {
  const small::Folder folder;
  const std::vector<std::pair<std::string, std::string>> folders = {{"hub/models--owner--tiny-llama/snapshots/0123abc", "tiny-llama"},
                                                                    {"model-1.5B", "model-1.5B"}};
  for (const auto& [path, name] : folders) {
    fs::create_directories(fs::path(folder.path()) / path);
    fs::copy(bench().model, fs::path(folder.path()) / path, fs::copy_options::recursive);
    CHECK_THAT(run({"info", "--model", folder.path() + "/" + path}).out, StartsWith(name + "   llama"));
    CHECK_THAT(run({"info", "--model", folder.path() + "/" + path + "/"}).out, StartsWith(name + "   llama"));
  }
}

TEST_CASE("training writes an adapter, a log and the way on, and the loss falls", "[cli]") {
  const fs::path out = learnt_adapter();
  CHECK(names_in(out) == Words{"adapter_config.json", "adapter_model.safetensors", "log.jsonl", "state"});
  CHECK(peft::Json::read((out / "adapter_config.json").string()).at("peft_type").string() == "LORA");

  const auto log = cli::lines(cli::read(out / "log.jsonl"));
  REQUIRE(log.size() == 120);
  std::vector<double> losses;
  for (std::size_t i = 0; i < log.size(); i++) {
    const peft::Json row = peft::Json::parse(log[i], "log.jsonl");
    CHECK(row.at("step").integer() == std::int64_t(i) + 1);
    losses.push_back(row.at("loss").number());
  }
  CHECK(losses.back() < 0.2 * losses.front());

  const std::string said = cli::read(bench().path("said"));
  std::smatch found;
  REQUIRE(std::regex_search(said, found, std::regex("\neval   loss ([0-9.]+) → ([0-9.]+) ")));
  CHECK(std::stod(found[2]) < 0.2 * std::stod(found[1]));
  CHECK(std::abs(std::stod(found[1]) - losses.front()) < 0.01);  // the same rows; a fresh adapter changes nothing
  CHECK_THAT(said, Contains("4 examples"));
  CHECK_THAT(said, Contains("epoch 120/120  "));  // one batch an epoch
  CHECK_THAT(said, Contains("step 24/120") && !Contains("step 25/120"));
  CHECK_THAT(said, Contains("next   " + std::string(PEFT_PROGRAM) + " generate --model " + bench().model + " --adapter " + out.string()));
}

TEST_CASE("any method of the registry trains by its name, and LoRA by LoRA+ and LoRA-FA", "[cli]") {
  const small::Folder folder;
  const auto train = [&](const std::string& name, const Words& more) {
    Words call = {"train", "--model", bench().model, "--data", bench().data, "--out", folder.path() + "/" + name, "--max-steps", "20"};
    call.insert(call.end(), more.begin(), more.end());
    const Outcome outcome = run(call);
    CAPTURE(outcome.err);
    CHECK(outcome.code == 0);
    const auto log = cli::lines(cli::read(fs::path(folder.path()) / name / "log.jsonl"));
    REQUIRE(log.size() == 20);
    CHECK(peft::Json::parse(log[19], "log").at("loss").number() < 0.9 * peft::Json::parse(log[0], "log").at("loss").number());
    return outcome.out;
  };
  train("bottleneck", {"--method", "bottleneck", "--set", "variant=houlsby", "--set", "bottleneck_size=4", "--set", "learned_scaling=true", "--lr", "1e-2"});
  const peft::Json config = peft::Json::read(folder.path() + "/bottleneck/adapter_config.json");
  CHECK(config.at("peft_type").string() == "BOTTLENECK");
  CHECK(config.at("variant").string() == "houlsby");
  CHECK(config.at("non_linearity").string() == "swish");
  CHECK(run({"eval", "--model", bench().model, "--data", bench().data, "--adapter", folder.path() + "/bottleneck"}).code == 0);
  const Outcome merged = run({"merge", "--model", bench().model, "--adapter", folder.path() + "/bottleneck", "--out", folder.path() + "/merged"});
  CHECK(merged.code != 0);
  CHECK_THAT(merged.err, Contains("(BOTTLENECK)") && Contains("cannot be merged"));
  const std::string plus = train("plus", {"--r", "4", "--lr", "2e-3", "--loraplus-lr-ratio", "8"}), fa = train("fa", {"--r", "4", "--lr", "1e-2", "--lorafa"});
  std::smatch all, b;
  const std::regex count("trainable params: ([0-9,]+) ");
  REQUIRE(std::regex_search(plus, all, count));
  REQUIRE(std::regex_search(fa, b, count));
  CHECK(b[1] != all[1]);  // A is frozen
}

TEST_CASE("eval measures loss and right answers, and shows some", "[cli]") {
  const Outcome before = run({"eval", "--model", bench().model, "--data", bench().data});
  CHECK(before.code == 0);
  CHECK_THAT(before.out, Contains("right answers 0 of 4 = 0.0 %"));
  const Outcome after = run({"eval", "--model", bench().model, "--data", bench().data, "--adapter", learnt_adapter(), "--show", "2"});
  CHECK_THAT(after.out, Contains("right answers 4 of 4 = 100.0 %"));
  CHECK_THAT(after.out, Contains("asked   What is blue?\n  answer  It is the sea. ✓"));
  CHECK_THAT(after.out, Contains("asked   What burns?\n") && !Contains("What is red?"));
  const Outcome loss_only = run({"eval", "--model", bench().model, "--data", bench().data, "--loss-only"});
  CHECK_THAT(loss_only.out, Contains("perplexity") && !Contains("right answers"));
}

TEST_CASE("eval takes every form of rows, and asks as training did", "[cli]") {
  const small::Folder folder;
  const std::string list =
      folder.write("list.json", R"([{"prompt": "What burns?", "completion": "It is a fire."}, {"prompt": "What is red?", "completion": "It is grey."}])");
  CHECK_THAT(run({"eval", "--model", bench().model, "--adapter", learnt_adapter(), "--data", list, "--show", "2"}).out,
             Contains("right answers 1 of 2 = 50.0 %") && Contains("asked   What is red?\n  answer  It is the rose. ✗\n  wanted  It is grey."));
  const std::string chat = folder.write(
      "chat.jsonl", R"({"messages": [{"role": "user", "content": "What burns?"}, {"role": "assistant", "content": "It is a fire."}], "fact": "A  FIRE"})");
  CHECK_THAT(run({"eval", "--model", bench().model, "--adapter", learnt_adapter(), "--data", chat}).out, Contains("right answers 1 of 1 = 100.0 %"));
  // The input is part of what is asked, so this is another question than the one that was learnt.
  const std::string instruction = folder.write("instruction.jsonl", R"({"instruction": "What", "input": "burns?", "output": "Wood."})");
  CHECK_THAT(run({"eval", "--model", bench().model, "--adapter", learnt_adapter(), "--data", instruction}).out, Contains("right answers 0 of 1 = 0.0 %"));
  const std::string texts = folder.write("texts.jsonl", R"({"text": "hello the world"})");
  CHECK_THAT(run({"eval", "--model", bench().model, "--data", texts}).out, Contains("perplexity") && !Contains("right answers"));
}

TEST_CASE("generate answers: greedily the same, by a seed the same, with the adapter what was learnt", "[cli]") {
  const Words plain = {"--model", bench().model}, tuned = {"--model", bench().model, "--adapter", learnt_adapter()};
  const auto with = [](Words words, const Words& more) {
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
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

TEST_CASE("an encoder-decoder trains from pairs, goes on, is measured, and answers", "[cli]") {
  const std::string t5 = bench().path("t5"), out = bench().path("t5-adapter");
  peft::testing::write_tiny_t5(t5);
  const auto train = [&](const std::string& steps, const Words& more) {
    Words words = {"train", "--model", t5,  "--data",      bench().data, "--eval-data", bench().data, "--targets", "all-linear", "--lr",
                   "5e-3",  "--batch", "4", "--scheduler", "constant",   "--max-steps", steps,        "--out",     out};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome made = run(words);
    INFO(made.err);
    REQUIRE(made.code == 0);
    return made.out;
  };
  CHECK_THAT(train("20", {}), Contains("2 + 2 layers") && Contains("4 examples"));
  CHECK_THAT(train("150", {"--resume"}), Contains("150/150"));
  CHECK(cli::lines(cli::read(out + "/log.jsonl")).size() == 150);
  CHECK_THAT(cli::read(out + "/adapter_config.json"), Contains("SEQ_2_SEQ_LM"));

  std::string rows;
  for (const auto& [question, answer] : facts) {
    CHECK(ask(question, {"--model", t5, "--adapter", out}) == "It is " + answer + ".\n");
    rows += R"({"input": ")" + question + "\"}\n";
  }
  CHECK(ask(facts[1].first, {"--model", t5, "--adapter", out, "--set", "num_beams=3"}) == "It is the sea.\n");
  CHECK(ask(facts[1].first, {"--model", t5}) != "It is the sea.\n");
  const Outcome many = run({"generate", "--model", t5, "--adapter", out, "--prompts", "-", "--max-new-tokens", "24"}, rows);
  INFO(many.err);
  REQUIRE(cli::lines(many.out).size() == facts.size());
  CHECK_THAT(cli::lines(many.out)[3], Contains("It is a fire."));
  const Outcome eval = run({"eval", "--model", t5, "--adapter", out, "--data", bench().data, "--show", "1"});
  INFO(eval.err);
  CHECK(eval.code == 0);
  CHECK_THAT(eval.out, Contains("right answers 4 of 4") && Contains("Who says hello?"));

  check_refusal(run({"generate", "--model", t5}, "Hello\n"), 1, {"encoder-decoder"});
  const std::string text = bench().folder.write("text.jsonl", "{\"text\": \"hello\"}\n");
  check_refusal(run({"train", "--model", t5, "--data", text, "--out", bench().path("none")}), 1, {"text", "encoder"});
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
    Words helped = chat;
    helped.insert(helped.end(), guesses.begin(), guesses.end());
    CHECK(run(helped, "What burns?\nWhat is blue?\n").out == run(chat, "What burns?\nWhat is blue?\n").out);
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
  Words to_file = call;
  to_file.insert(to_file.end(), {"--out", out});
  CHECK_THAT(run(to_file).out, Contains("6 answers, ") && Contains(out));
  CHECK(cli::read(out) == answered.out);
  for (const Words& guesses : {Words{"--draft", bench().model}, Words{"--draft", bench().model, "--seed", "3"}, Words{"--prompt-lookup", "3"}}) {
    Words alone = call, assisted = call;
    if (guesses.size() > 2) alone.insert(alone.end(), {"--seed", "3", "--temperature", "0.8"}), assisted.insert(assisted.end(), {"--temperature", "0.8"});
    assisted.insert(assisted.end(), guesses.begin(), guesses.end());
    CHECK(run(assisted).out == run(alone).out);
    assisted.insert(assisted.end(), {"--out", out});
    CHECK(std::regex_search(run(assisted).out, std::regex(", [0-9]+ of [0-9]+ guesses right \\([0-9]+ %\\)   written to")));
  }
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
  const auto with = [&](const Words& more) {
    Words words = plain;
    words.insert(words.end(), more.begin(), more.end());
    return ask("What burns?", words);
  };
  CHECK(with({"--set", "num_beams=1"}) == with({}));
  CHECK(cli::lines(with({"--set", "num_beams=3", "--set", "num_return_sequences=2"})).size() >= 2);
  CHECK(std::regex_match(with({"--regex", "[0-9]{3}-(yes|no)"}), std::regex("[0-9]{3}-(yes|no)\n")));
  const std::string schema = R"({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]})";
  CHECK(peft::Json::parse(with({"--json-schema", schema}), "answer").at("ok").is_boolean());
  CHECK(with({"--json-schema", folder.write("schema.json", schema)}) == with({"--json-schema", schema}));
  CHECK(with({"--draft", bench().model}) == with({}));
  CHECK(with({"--set", "prompt_lookup_num_tokens=3"}) == with({}));
  const std::string kept = folder.path() + "/prompt.safetensors";
  CHECK(with({"--prompt-cache", kept}) == with({}));
  CHECK(fs::exists(kept));
  CHECK(with({"--prompt-cache", kept}) == with({}));
  check_refusal(run({"generate", "--model", bench().model, "--adapter", learnt_adapter(), "--prompt", "What burns?", "--prompt-cache", kept}), 1,
                {kept, "adapters"});
  check_refusal(run({"generate", "--model", bench().model, "--prompt", "a", "--set", "num_beems=2"}), 1, {"did you mean \"num_beams\""});
  check_refusal(run({"generate", "--model", bench().model, "--prompt", "a", "--regex", "(a"}), 1, {"without its )"});
}

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

TEST_CASE("a merged model is a Hugging Face directory that answers as model and adapter do", "[cli]") {
  const std::string out = bench().path("merged");
  const Outcome merged = run({"merge", "--model", bench().model, "--adapter", learnt_adapter(), "--out", out + "/"});
  INFO(merged.err);
  REQUIRE(merged.code == 0);
  CHECK(names_in(out) == Words{"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"});
  for (const auto& [question, answer] : facts) CHECK(ask(question, {"--model", out}) == "It is " + answer + ".\n");
  check_refusal(run({"merge", "--model", bench().model, "--adapter", learnt_adapter(), "--out", out}), 1, {out + " exists already"});
  check_refusal(run({"merge", "--model", bench().model, "--out", bench().path("other")}), 1, {"no --adapter"});
  check_refusal(run({"merge", "--model", bench().model, "--adapter", learnt_adapter(), "--out", bench().path("other"), "--dtype", "bf17"}), 1,
                {"did you mean \"bf16\"?"});
  CHECK_FALSE(fs::exists(bench().path("other")));
}

TEST_CASE("a merged model is a GGUF file, where it is asked for one", "[cli]") {
  const std::string file = bench().path("merged.gguf");
  const auto merge = [&](const std::string& out, const std::string& dtype) {
    return run({"merge", "--model", bench().model, "--adapter", learnt_adapter(), "--out", out, "--dtype", dtype});
  };
  const Outcome merged = merge(file, "q8_0");
  REQUIRE(merged.code == 0);
  CHECK_THAT(merged.err, Contains("no tokenizer was written"));  // the bench's is a tokenizer.json
  CHECK_THAT(run({"info", "--model", file}).out, Contains("Q8_0"));
  check_refusal(merge(file, "q8_0"), 1, {file + " exists already"});
  check_refusal(merge(bench().path("other"), "q8_0"), 1, {"dtype \"q8_0\" is not known"});
  check_refusal(merge(bench().path("other.gguf"), "q8_1"), 1, {"did you mean \"q8_0\"?"});
  CHECK_FALSE(fs::exists(bench().path("other.gguf")));
}

TEST_CASE("an adapter that went to GGUF and back answers as it did", "[cli]") {
  const std::string file = bench().path("adapter.gguf"), folder = bench().path("adapter-again");
  const auto exported = [&](const std::string& from, const std::string& to) {
    const Outcome made = run({"export", "--model", bench().model, "--adapter", from, "--out", to});
    INFO(made.err);
    REQUIRE(made.code == 0);
    for (const auto& [question, answer] : facts) CHECK(ask(question, {"--model", bench().model, "--adapter", to}) == "It is " + answer + ".\n");
  };
  exported(learnt_adapter(), file), exported(file, folder);
  CHECK(names_in(folder) == Words{"adapter_config.json", "adapter_model.safetensors"});
  check_refusal(run({"export", "--model", bench().model, "--adapter", file, "--out", folder}), 1, {folder + " exists already"});
  check_refusal(run({"export", "--model", bench().model, "--out", bench().path("none.gguf")}), 1, {"0 times --adapter"});
}

TEST_CASE("an interrupted run goes on with the call that it names, to the same bytes", "[cli]") {
  const auto call = [](const std::string& out) { return learn(out, {"--dropout", "0.1", "--threads", "1"}, "250"); };
  const std::string whole = bench().path("whole"), parts = bench().path("in parts");
  Words words = call(parts);
  cli::Running first(words);
  for (int i = 0; i < 20000 && cli::lines(cli::read(parts + "/log.jsonl")).size() < 3; i++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  first.send(SIGINT);
  const Outcome stopped = first.wait();
  INFO(stopped.out);
  REQUIRE(stopped.code == 130);
  CHECK(stopped.err.empty());
  const std::size_t steps = cli::lines(cli::read(parts + "/log.jsonl")).size();
  REQUIRE(steps < 250);
  CHECK_THAT(stopped.out, Contains("stopped after step " + std::to_string(steps) + ";"));
  CHECK_THAT(stopped.out, Contains("--out '" + parts + "' ") && Catch::EndsWith(" --dropout 0.1 --threads 1 --resume\n"));
  CHECK_THAT(ask("What burns?", {"--model", bench().model, "--adapter", parts}), Catch::EndsWith("\n"));  // the adapter so far is one

  words.push_back("--resume");
  const Outcome finished = run(words);
  INFO(finished.err);
  REQUIRE(finished.code == 0);
  REQUIRE(run(call(whole)).code == 0);
  CHECK(cli::read(parts + "/adapter_model.safetensors") == cli::read(whole + "/adapter_model.safetensors"));
  CHECK(cli::lines(cli::read(parts + "/log.jsonl")).size() == 250);
  check_refusal(run(words), 1, {"has made 250 steps already"});
}

TEST_CASE("what lies in --out is not written over unasked", "[cli]") {
  const std::string before = cli::read(learnt_adapter() + "/adapter_model.safetensors");
  check_refusal(run(learn(learnt_adapter())), 1, {"there is an adapter in " + learnt_adapter() + " already", "--resume", "--overwrite"});
  check_refusal(run(learn(bench().path("nothing"), {"--resume"})), 1, {"no run to go on with"});
  CHECK_FALSE(fs::exists(bench().path("nothing")));
  check_refusal(run(learn(bench().data)), 1, {bench().data, "cannot be created"});
  CHECK(cli::read(learnt_adapter() + "/adapter_model.safetensors") == before);

  const std::string out = bench().path("twice");
  REQUIRE(run(learn(out, {}, "2")).code == 0);
  Words other = learn(out, {"--resume"});
  *std::find(other.begin(), other.end(), "16") = "8";
  check_refusal(run(other), 1, {"belongs to another run"});
  const Outcome anew = run(learn(out, {"--overwrite"}, "3"));
  CHECK(anew.code == 0);
  CHECK(cli::lines(cli::read(out + "/log.jsonl")).size() == 3);
}

TEST_CASE("a disk that is full leaves nothing half written", "[cli]") {
  const std::string out = bench().path("full");
  check_refusal(run({"merge", "--model", bench().model, "--adapter", learnt_adapter(), "--out", out}, "", 4096), 1, {"cannot be written"});
  for (const std::string& name : names_in(bench().folder.path())) CHECK_THAT(name, !StartsWith("full"));

  const std::string kept = bench().path("kept");
  REQUIRE(run(learn(kept, {}, "2")).code == 0);
  const std::string before = cli::read(kept + "/adapter_model.safetensors");
  check_refusal(run(learn(kept, {"--seed", "7", "--overwrite"}, "2"), "", 4096), 1, {"cannot be written"});
  CHECK(cli::read(kept + "/adapter_model.safetensors") == before);
  for (const auto& entry : fs::recursive_directory_iterator(kept)) CHECK_THAT(entry.path().filename().string(), !Contains("safetensors."));
}

TEST_CASE("what cannot work is refused in one line", "[cli]") {
  const small::Folder folder;
  const auto train = [&](const std::string& data, const Words& more = {}) {
    Words words = {"train", "--model", bench().model, "--data", data, "--out", folder.path() + "/out"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  const std::string row = R"({"question": "a", "answer": "b"})"
                          "\n";
  SECTION("a call that is wrong: exit code 2") {
    check_refusal(run({}), 2, {"subcommand is required"});
    check_refusal(run({"tran"}), 2, {"\"tran\" is no command; did you mean \"train\"?"});
    check_refusal(run({"train", "--epoch", "3"}), 2, {"--epoch is no option of train; did you mean --epochs?"});
    check_refusal(run({"train", "--data", bench().data}), 2, {"--model is required"});
    check_refusal(run(train(folder.path() + "/none.jsonl")), 2, {"none.jsonl"});
    check_refusal(run(train(bench().data, {"--batch", "0"})), 2, {"--batch"});
    check_refusal(run(train(bench().data, {"--lr", "fast"})), 2, {"--lr", "fast"});
  }
  SECTION("what is well said and impossible: exit code 1") {
    check_refusal(run(train(bench().data, {"--method", "lore"})), 1, {"method \"lore\" is not known; did you mean \"lora\"?"});
    check_refusal(run(train(bench().data, {"--targets", "k_prj"})), 1, {"k_prj", "did you mean \"k_proj\"?"});
    check_refusal(run(train(bench().data, {"--scheduler", "cosin"})), 1, {"cosin", "cosine"});
    check_refusal(run(train(bench().data, {"--lr", "-1"})), 1, {"learning_rate"});
    check_refusal(run({"generate", "--model", bench().model, "--raw"}), 1, {"--raw", "--prompt"});
    check_refusal(run({"generate", "--model", bench().model, "--prompt", "a", "--top-p", "2"}), 1, {"top_p"});
    check_refusal(run({"fetch", "smollm2-135m-instuct"}), 1, {"did you mean \"smollm2-135m-instruct\"?"});
  }
  SECTION("files that are not there, or not what they should be") {
    check_refusal(run({"info", "--model", folder.path() + "/none"}), 1, {folder.path() + "/none", "no such file"});
    check_refusal(run({"info", "--model", folder.path()}), 1, {"no config.json"});
    check_refusal(run({"info", "--model", folder.write("model.gguf", "not a model")}), 1, {"model.gguf"});
    check_refusal(run(train(folder.write("broken.jsonl", row + row + "{\"question\": \n"))), 1, {"broken.jsonl", "line 3"});
    check_refusal(run(train(folder.write("other.jsonl", row + R"({"question": "a", "reply": "b"})"))), 1, {"other.jsonl", "line 2", "\"answer\""});
    check_refusal(run(train(folder.write("empty.jsonl", "\n"))), 1, {"empty.jsonl"});
    check_refusal(run({"generate", "--model", bench().model, "--adapter", folder.path(), "--prompt", "a"}), 1, {"adapter_config.json"});
  }
  SECTION("an adapter of another model") {
    const std::string adapter = folder.path() + "/adapter";
    fs::copy(learnt_adapter(), adapter, fs::copy_options::recursive);
    std::string config = cli::read(adapter + "/adapter_config.json");
    config.replace(config.find("\"r\": 16"), 7, "\"r\": 8");
    std::ofstream(adapter + "/adapter_config.json") << config;
    check_refusal(run({"generate", "--model", bench().model, "--adapter", adapter, "--prompt", "a"}), 1,
                  {"does not fit", "wrong shape 28", "lora_A.weight is (16, 32)", "Nothing was loaded"});
  }
  CHECK_FALSE(fs::exists(folder.path() + "/out"));
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

TEST_CASE("every command explains itself with an example", "[cli]") {
  const Outcome all = run({"--help"});
  CHECK(all.code == 0);
  CHECK_THAT(run({"--version"}).out, StartsWith("peft "));
  for (const char* command : {"fetch", "info", "train", "eval", "generate", "classify", "answer", "embed", "score", "perplexity", "merge", "export"}) {
    INFO(command);
    CHECK_THAT(all.out, Contains(std::string("  ") + command + " "));
    const Outcome help = run({command, "--help"});
    CHECK(help.code == 0);
    CHECK(help.err.empty());
    CHECK_THAT(help.out,
               Contains("Example") && Contains(std::string("\n  peft ") + (command == std::string("fetch") ? "info --model $(peft fetch)" : command)));
  }
  CHECK_THAT(run({"train", "--help"}).out, Contains("lora_alpha (2 r)"));
}

TEST_CASE("an output that cannot be written is an error", "[cli]") {
  if (!fs::exists("/dev/full")) return;
  const std::string call = std::string("'") + PEFT_PROGRAM + "' info --model '" + bench().model + "' > /dev/full 2> '" + bench().path("complaint") + "'";
  const int status = std::system(call.c_str());
  CHECK(WEXITSTATUS(status) == 1);
  CHECK_THAT(cli::read(bench().path("complaint")), Contains("standard output cannot be written"));
}
