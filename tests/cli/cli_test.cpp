// SPDX-License-Identifier: Apache-2.0
// The command-line tool as its users meet it: started, fed, interrupted, and read.
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <regex>
#include <thread>

#include "cli/bench.hpp"
#include "peft/io/json.hpp"

using namespace cli;

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
    const Outcome outcome = run(with(std::move(call), more));
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

TEST_CASE("an encoder-decoder trains from pairs, goes on, is measured, and answers", "[cli]") {
  const std::string t5 = bench().path("t5"), out = bench().path("t5-adapter");
  peft::testing::write_tiny_t5(t5);
  const auto train = [&](const std::string& steps, const Words& more) {
    Words words = {"train", "--model", t5,  "--data",      bench().data, "--eval-data", bench().data, "--targets", "all-linear", "--lr",
                   "5e-3",  "--batch", "4", "--scheduler", "constant",   "--max-steps", steps,        "--out",     out};
    const Outcome made = run(with(std::move(words), more));
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
    return with({"train", "--model", bench().model, "--data", data, "--out", folder.path() + "/out"}, more);
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
