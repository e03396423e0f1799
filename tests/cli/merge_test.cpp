// SPDX-License-Identifier: Apache-2.0
// peft merge and export: models and adapters in other forms.
#include <catch2/catch.hpp>
#include <filesystem>

#include "cli/bench.hpp"

using namespace cli;

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
  CHECK(merged.err.empty());
  CHECK_THAT(merged.out, Contains("the tokenizer in it"));
  for (const auto& [question, answer] : facts) CHECK(ask(question, {"--model", file}) == "It is " + answer + ".\n");
  CHECK_THAT(run({"info", "--model", file}).out, Contains("Q8_0"));
  check_refusal(merge(file, "q8_0"), 1, {file + " exists already"});
  check_refusal(merge(bench().path("other"), "q8_0"), 1, {"dtype \"q8_0\" is not known"});
  check_refusal(merge(bench().path("other.gguf"), "q8_1"), 1, {"did you mean \"q8_0\"?"});
  CHECK_FALSE(fs::exists(bench().path("other.gguf")));
}

TEST_CASE("weights go to a GGUF file without a tokenizer that has no form there, and the tool says why", "[cli]") {
  const small::Folder folder;
  const std::string model = folder.path() + "/model", file = folder.path() + "/merged.gguf";
  fs::copy(bench().model, model);
  const auto merge = [&](const std::string& tokenizer) {
    std::ofstream(model + "/tokenizer.json", std::ios::binary) << tokenizer;
    fs::remove(file);
    const Outcome merged = run({"merge", "--model", model, "--adapter", learnt_adapter(), "--out", file});
    CHECK(merged.code == 0);
    CHECK(fs::exists(file));
    CHECK_THAT(merged.out, !Contains("the tokenizer in it"));
    CHECK_THAT(merged.err, Contains("peft: no tokenizer was written: ") && Contains(model + "/tokenizer.json"));
    return merged.err;
  };
  CHECK_THAT(merge(R"({"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]]}})"), Contains("supported are BPE and WordPiece"));
  CHECK_THAT(merge(R"({"model": )"), Contains("tokenizer.json"));
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
