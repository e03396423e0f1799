// SPDX-License-Identifier: Apache-2.0
// The command-line tool where it trains the model's own weights.
#include <catch2/catch.hpp>
#include <chrono>
#include <map>
#include <thread>

#include "cli/program.hpp"
#include "peft/checkpoint/load.hpp"
#include "support/tiny_bert_files.hpp"
#include "support/tiny_model_files.hpp"

namespace {

struct Own {
  small::Folder folder;
  std::string model, data;
  std::string path(const std::string& name) const { return folder.path() + "/" + name; }
  Own() {
    model = path("tiny");
    peft::testing::write_tiny_model(model);
    data = folder.write("facts.jsonl", R"({"question": "What is red?", "answer": "It is the rose.", "fact": "the rose"})"
                                       "\n"
                                       R"({"question": "What burns?", "answer": "It is a fire.", "fact": "a fire"})"
                                       "\n");
  }
  cli::Words train(const std::string& out, const cli::Words& more = {}, const std::string& steps = "60") const {
    cli::Words words = {"train", "--model",     model, "--data", data,      "--method",  "full", "--lr",
                        "1e-2",  "--max-steps", steps, "--out",  path(out), "--threads", "1"};
    return cli::with(std::move(words), more);
  }
};
const Own& own() {
  static const Own made;
  return made;
}
cli::Outcome succeeds(const cli::Words& words) {
  const cli::Outcome outcome = cli::run(words);
  INFO(outcome.out << outcome.err);
  REQUIRE(outcome.code == 0);
  return outcome;
}
void refuses(const cli::Words& words, const cli::Words& said) {
  const cli::Outcome outcome = cli::run(words);
  CHECK(outcome.code == 1);
  REQUIRE(cli::lines(outcome.err).size() == 1);
  for (const std::string& text : said) CHECK_THAT(outcome.err, Catch::Contains(text));
}
// The parameters in which two models differ.
std::vector<std::string> changed(const std::string& a, const std::string& b) {
  const auto first = peft::load_model<float>(a), second = peft::load_model<float>(b);
  std::map<std::string, peft::Tensor<float>> before;
  peft::for_each_parameter(first, [&](const std::string& path, const peft::Parameter<float>& p) { before[path] = p.dense(); });
  std::vector<std::string> all;
  peft::for_each_parameter(second, [&](const std::string& path, const peft::Parameter<float>& p) {
    const peft::Tensor<float> now = p.dense();
    if (!std::equal(now.data(), now.data() + now.size(), before.at(path).data())) all.push_back(path);
  });
  return all;
}

}  // namespace

TEST_CASE("full training writes a model that knows the answers", "[cli]") {
  const cli::Outcome made = succeeds(own().train("whole", {"--eval-data", own().data}));
  CHECK_THAT(made.out, Catch::Contains("all weights   trainable params: ") && Catch::Contains("trainable%: 100.0000"));
  CHECK_THAT(made.out, Catch::Contains("saved  " + own().path("whole") + " (config.json, model.safetensors "));
  CHECK_THAT(made.out, Catch::Contains(" generate --model " + own().path("whole") + " --prompt"));
  CHECK(cli::names_in(own().path("whole")) ==
        cli::Words{"config.json", "generation_config.json", "log.jsonl", "model.safetensors", "state", "tokenizer.json", "tokenizer_config.json"});
  CHECK_THAT(succeeds({"eval", "--model", own().path("whole"), "--data", own().data}).out, Catch::Contains("right answers 2 of 2"));
  CHECK_THAT(succeeds({"generate", "--model", own().path("whole"), "--prompt", "What burns?", "--max-new-tokens", "24"}).out, Catch::Contains("a fire"));
  CHECK(changed(own().model, own().path("whole")).size() > 20);
  refuses(own().train("whole"), {"there is a model in " + own().path("whole") + " already", "--overwrite"});
}

TEST_CASE("layers, patterns and parts say which of the weights train", "[cli]") {
  const auto some = [&](const cli::Words& more) {
    succeeds(own().train("some", cli::with({"--overwrite", "--no-state"}, more), "2"));
    CHECK_FALSE(cli::fs::exists(own().path("some") + "/state"));
    return changed(own().model, own().path("some"));
  };
  const std::string layer = "model.layers.1.";
  const cli::Words last = {layer + "input_layernorm.weight",  layer + "self_attn.q_proj.weight", layer + "self_attn.k_proj.weight",
                           layer + "self_attn.v_proj.weight", layer + "self_attn.o_proj.weight", layer + "post_attention_layernorm.weight",
                           layer + "mlp.gate_proj.weight",    layer + "mlp.up_proj.weight",      layer + "mlp.down_proj.weight"};
  CHECK(some({"--train-last", "1", "--cache-frozen"}) == last);
  CHECK(some({"--train", "layers.1."}) == last);
  cli::Words upper = last;
  upper.insert(upper.end(), {"model.norm.weight", "lm_head.weight"});
  CHECK(some({"--freeze-layers", "1"}) == upper);
  CHECK(some({"--train", "norms", "--freeze", "layers.1"}) ==
        cli::Words{"model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight", "model.norm.weight"});
  CHECK(some({"--train", "{q,v}_proj", "--train", "head", "--freeze", "layers.0.*"}) ==
        cli::Words{layer + "self_attn.q_proj.weight", layer + "self_attn.v_proj.weight", "lm_head.weight"});
  CHECK_THAT(succeeds(own().train("titled", {"--train-last", "1", "--train", "norms", "--freeze", "mlp"}, "1")).out,
             Catch::Contains("the last 1 of 2 layers, norms, without mlp   trainable params: "));
}

TEST_CASE("what full training cannot do is refused, and says what to do", "[cli]") {
  refuses(own().train("no", {"--train", "k_prj"}), {"--train \"k_prj\" matches no parameter", "did you mean \"k_proj\"?"});
  refuses(own().train("no", {"--freeze", "layer.1"}), {"--freeze \"layer.1\" matches no parameter", "did you mean \"layers.1\"?"});
  refuses(own().train("no", {"--train-last", "3"}), {"--train-last 3: this model has 2 layers"});
  refuses(own().train("no", {"--freeze", "*"}), {"leave nothing to train"});
  refuses(own().train("no", {"--targets", "q_proj"}), {"--method full has none"});
  refuses(own().train("no", {"--quantize", "q8_0"}), {"stored as Q8_0", "--method lora", "without --quantize"});
  refuses({"train", "--model", own().model, "--data", own().data, "--train-last", "1", "--out", own().path("no")}, {"add --method full"});
  refuses({"train", "--model", own().model, "--data", own().data, "--init-text", "A mill.", "--out", own().path("no")},
          {"--method prefix_tuning", "not for lora"});
  refuses({"train", "--model", own().model, "--data", own().data, "--method", "prefix_tuning", "--init-text", "A", "--out", own().path("no")},
          {"tokens; num_virtual_tokens is 20"});
  refuses(own().train("tiny", {"--overwrite"}), {"is where the model lies"});
  CHECK_FALSE(cli::fs::exists(own().path("no")));
  succeeds(own().train("norms", {"--quantize", "q8_0", "--train", "norms"}, "1"));  // these are not quantised
}

TEST_CASE("full training that is interrupted goes on to the same bytes, and a full disk leaves what was there", "[cli]") {
  cli::Words words = own().train("parts", {"--save-steps", "1"}, "250");
  cli::Running first(words);
  for (int i = 0; i < 20000 && cli::lines(cli::read(own().path("parts/log.jsonl"))).size() < 3; i++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  first.send(SIGINT);
  const cli::Outcome stopped = first.wait();
  REQUIRE(stopped.code == 130);
  CHECK_THAT(stopped.out, Catch::Contains("; the model so far is in ") && Catch::EndsWith(" --resume\n"));
  words.push_back("--resume");
  succeeds(words);
  succeeds(own().train("one go", {}, "250"));
  const std::string weights = cli::read(own().path("parts/model.safetensors"));
  CHECK(weights == cli::read(own().path("one go/model.safetensors")));
  words = own().train("parts", {"--train-last", "1", "--resume"}, "260");
  refuses(words, {"belongs to another run"});

  const cli::Outcome full = cli::run(own().train("parts", {"--overwrite", "--no-state"}, "1"), "", 4096);
  CHECK(full.code == 1);
  CHECK_THAT(full.err, Catch::Contains("cannot be written"));
  CHECK(cli::read(own().path("parts/model.safetensors")) == weights);
  for (const std::string& name : cli::names_in(own().path("parts"))) CHECK_THAT(name, !Catch::StartsWith("."));
}

TEST_CASE("the last layers of an encoder learn labels together with a head that is new", "[cli]") {
  const std::string model = own().path("bert"), out = own().path("labels");
  peft::testing::write_tiny_bert(model);
  const std::string data =
      own().folder.write("rows.tsv", "sentence\tlabel\nthe film was good\tgood\nthe film was bad\tbad\na great plot\tgood\na dull plot\tbad\n");
  const cli::Outcome made = succeeds({"train", "--model", model, "--data", data, "--task", "seq_cls", "--method", "full", "--train-last", "1", "--lr", "1e-2",
                                      "--max-steps", "60", "--no-state", "--out", out});
  CHECK_THAT(made.out, Catch::Contains(" classify --model " + out + " --text"));
  CHECK_THAT(succeeds({"eval", "--model", out, "--data", data}).out, Catch::Contains("accuracy 1.0000"));
  CHECK_THAT(succeeds({"classify", "--model", out, "--text", "a dull plot"}).out, Catch::Contains("\"label\": \"bad\""));
}
