// SPDX-License-Identifier: Apache-2.0
// Adapters in another form than they were trained in, and LoRAs that begin from data.
#include <catch2/catch.hpp>

#include "cli/program.hpp"
#include "peft/io/json.hpp"
#include "support/tiny_model_files.hpp"

namespace {

using Catch::Contains;
using cli::Outcome;
using cli::Words;

/// A tiny model, and a call that trains an adapter of it.
struct Place {
  small::Folder folder;
  std::string model = path("tiny"), data;
  std::string path(const std::string& name) const { return folder.path() + "/" + name; }
  Place() {
    peft::testing::write_tiny_model(model);
    std::string rows;
    for (const char* row :
         {R"({"question": "What is red?", "answer": "It is the rose, of course."})", R"({"question": "What burns?", "answer": "A fire does burn."})",
          R"({"question": "Who says hello?", "answer": "The world says hello to all."})"})
      rows += std::string(row) + "\n";
    data = folder.write("rows.jsonl", rows);
  }
  void train(const std::string& out, const Words& more) const {
    Words words = {"train", "--model", model, "--data", data, "--max-steps", "20", "--lr", "2e-2", "--out", out};
    const Outcome made = cli::run(cli::with(std::move(words), more));
    INFO(made.err);
    REQUIRE(made.code == 0);
  }
  std::string answer(const std::string& adapter) const {
    return cli::run({"generate", "--model", model, "--adapter", adapter, "--prompt", "What burns?", "--max-new-tokens", "12"}).out;
  }
};

}  // namespace

TEST_CASE("an adapter of another method is exported as a LoRA of a rank, or of the rank that an energy takes", "[cli]") {
  const Place at;
  const std::string loha = at.path("loha"), eight = at.path("eight"), whole = at.path("whole"), file = at.path("whole.gguf");
  at.train(loha, {"--method", "loha", "--set", "r=4", "--set", "alpha=8", "--targets", "q_proj,v_proj,down_proj"});
  const auto convert = [&](const std::string& rank, const std::string& out) {
    return cli::run({"export", "--model", at.model, "--adapter", loha, "--to-lora", "--rank", rank, "--out", out});
  };
  const Outcome low = convert("8", eight);
  INFO(low.err);
  REQUIRE(low.code == 0);
  CHECK_THAT(low.out, Contains("model.layers.0.self_attn.q_proj  r 8   lost ") && Contains("LoRA r=8 at 6 modules   lost of the change: "));
  const peft::Json config = peft::Json::read(eight + "/adapter_config.json");
  CHECK(config.at("peft_type").string() == "LORA");
  CHECK(config.at("r").integer() == 8);
  CHECK(config.at("lora_alpha").integer() == 8);
  for (const std::string& out : {whole, file}) {
    const Outcome exact = convert("0.999999999", out);
    INFO(exact.err);
    REQUIRE(exact.code == 0);
    CHECK(at.answer(out) == at.answer(loha));
  }
  for (const char* rank : {"0", "1.5", "-2", "some", "8x"}) {
    const Outcome refused = convert(rank, at.path("none"));
    CHECK(refused.code == 1);
    CHECK_THAT(refused.err, Contains(std::string("--rank ") + rank + "; a rank such as 8, or a share of the energy such as 0.95"));
  }
  CHECK_THAT(convert("33", at.path("none")).err, Contains("a rank of 33; model.layers.0.self_attn.q_proj has one of at most 32"));
  CHECK(cli::run({"export", "--model", at.model, "--adapter", loha, "--rank", "8", "--out", at.path("none")}).code == 2);
}

TEST_CASE("a LoRA that begins from data has the ranks that it found", "[cli]") {
  const Place at;
  at.train(at.path("eva"), {"--targets", "all-linear", "--r", "2", "--set", "init_lora_weights=eva", "--batch", "3"});
  const peft::Json config = peft::Json::read(at.path("eva") + "/adapter_config.json");
  CHECK(config.at("init_lora_weights").string() == "eva");
  CHECK(config.at("eva_config").at("rho").number() == 2);
  CHECK(config.at("rank_pattern").object().size() > 0);
  CHECK_FALSE(at.answer(at.path("eva")).empty());
}
