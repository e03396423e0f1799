// SPDX-License-Identifier: Apache-2.0
// peft merge and export: models and adapters in other forms.
#include <catch2/catch.hpp>
#include <filesystem>

#include "cli/bench.hpp"

namespace {

using Catch::Contains;
using cli::ask;
using cli::bench;
using cli::check_refusal;
using cli::facts;
using cli::learnt_adapter;
using cli::names_in;
using cli::Outcome;
using cli::run;
using cli::Words;
namespace fs = std::filesystem;

}  // namespace

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
