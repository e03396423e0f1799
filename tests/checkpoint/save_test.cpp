// SPDX-License-Identifier: Apache-2.0
#include "peft/checkpoint/save.hpp"

#include <catch2/catch.hpp>
#include <string>

#include "checkpoint/model_files.hpp"
#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/peft_model.hpp"
#include "peft/io/json.hpp"
#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;

TEST_CASE("a saved model computes the same bits when it is loaded", "[checkpoint]") {
  for (const bool tied : {false, true}) {
    const Folder folder;
    const auto model = tiny_transformer<float>({.tied = tied});
    write_huggingface(folder, model, DType::f32,
                      R"("rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}, "eos_token_id": [2, 3], "bos_token_id": 1)");
    const auto loaded = load_model<float>(folder.path());
    save_model(loaded, folder / "out/deep");
    const auto again = load_model<float>(folder / "out/deep");
    CHECK(same_bits(logits(again), logits(loaded)));
    CHECK(again.config.eos_token_ids == std::vector<std::int32_t>{2, 3});
    CHECK(again.config.bos_token_ids == std::vector<std::int32_t>{1});
    CHECK(again.config.attention.rope->factor == 2);
    CHECK((SafetensorsFile::open(folder / "out/deep/model.safetensors").find("lm_head.weight") == nullptr) == tied);  // a tied head is stored once
    CHECK(SafetensorsFile::open(folder / "out/deep/model.safetensors").metadata().at("format") == "pt");
  }
}

TEST_CASE("the configuration is one that transformers reads, of either version", "[checkpoint]") {
  const Folder folder;
  write_huggingface(folder, tiny_transformer<float>());
  save_model(load_model<float>(folder.path()), folder / "out", DType::bf16);
  const Json config = Json::read(folder / "out/config.json");
  CHECK(config.at("architectures").dump() == R"(["LlamaForCausalLM"])");
  CHECK(config.at("model_type").string() == "llama");
  CHECK(config.at("dtype").string() == "bfloat16");
  CHECK(config.at("torch_dtype").string() == "bfloat16");
  CHECK(config.at("rope_theta").number() == 10000);
  CHECK(config.at("rope_scaling").is_null());
  CHECK(config.at("rope_parameters").dump(-1, true) == R"({"rope_theta": 10000.0, "rope_type": "default"})");
  CHECK(config.at("head_dim").integer() == 4);
  CHECK(read_file(folder / "out/config.json") == config.dump(2, true));  // sorted, two spaces
}

TEST_CASE("halves of a file keep their type, everything else is written as asked", "[checkpoint]") {
  const Folder folder;
  write_huggingface(folder, tiny_transformer<float>(), DType::bf16);
  auto model = load_model<float>(folder.path());
  model.layers[0].mlp.up_proj.weight.set_requires_grad(true);  // thawed
  model.layers[0].mlp.up_proj.weight.value()[0] = 0.1f;
  save_model(model, folder / "out");
  const auto file = SafetensorsFile::open(folder / "out/model.safetensors");
  CHECK(file.find("model.layers.0.mlp.up_proj.weight")->dtype == DType::f32);
  CHECK(file.find("model.layers.0.mlp.down_proj.weight")->dtype == DType::bf16);
  CHECK(file.read<float>("model.layers.0.mlp.up_proj.weight")[0] == 0.1f);
  CHECK(same_bits(logits(load_model<float>(folder / "out")), logits(model)));

  save_model(tiny_transformer<float>(), folder / "half", DType::f16);
  CHECK(same_bits(load_model<float>(folder / "half").lm_head.weight.dense(), rounded(tiny_transformer<float>(), DType::f16).lm_head.weight.value()));
}

TEST_CASE("a GGUF model becomes a Hugging Face directory, rows in its order", "[checkpoint]") {
  const Folder folder;
  const auto model = quantised(tiny_transformer<float>({.hidden = 32, .heads = 2, .kv_heads = 1, .inner = 32}));
  write_file(folder / "m.gguf", gguf(model, 8).file());
  save_model(load_model<float>(folder / "m.gguf"), folder / "out");
  const auto file = SafetensorsFile::open(folder / "out/model.safetensors");
  CHECK(same_bits(file.read<float>("model.layers.0.self_attn.q_proj.weight"), model.layers[0].self_attn.q_proj.weight.value()));
  CHECK(same_bits(file.read<float>("model.layers.1.self_attn.k_proj.weight"), model.layers[1].self_attn.k_proj.weight.value()));
  CHECK_THAT(array(logits(load_model<float>(folder / "out"))), is_near<float>(array(logits(model)), 2));
}

TEST_CASE("a merged head unties", "[checkpoint]") {
  const Folder folder;
  auto base = tiny_transformer<float>({.tied = true});
  PeftModel tuned{base};
  tuned.add_adapter("a", LoraConfig{.r = 2, .target_modules = {"lm_head"}, .init_lora_weights = false});
  const auto merged = tuned.merge_and_unload();
  save_model(merged, folder / "out");
  CHECK_FALSE(Json::read(folder / "out/config.json").at("tie_word_embeddings").boolean());
  CHECK_THAT(array(logits(load_model<float>(folder / "out"))), is_near<float>(array(logits(merged))));
}

TEST_CASE("a model is saved over the file that it is mapped from", "[checkpoint]") {
  const Folder folder;
  write_huggingface(folder, tiny_transformer<float>(), DType::f32, "", 2);
  const auto model = load_model<float>(folder.path());
  const Tensor<float> before = logits(model);
  save_model(model, folder.path());
  CHECK(same_bits(logits(model), before));
  save_model(load_model<float>(folder.path()), folder.path());
  CHECK(same_bits(logits(model), before));
  CHECK(same_bits(logits(load_model<float>(folder.path())), before));
}

TEST_CASE("what cannot be written is refused and writes nothing", "[checkpoint]") {
  const Folder folder;
  auto model = tiny_transformer<float>();
  CHECK_THROWS_WITH(save_model(model, folder / "out", DType::q8_0), Catch::Contains("dtype Q8_0; a Hugging Face directory is written as F32, F16 or BF16"));
  auto other = model;
  other.config.model_type = "mamba";
  CHECK_THROWS_WITH(save_model(other, folder / "out"), Catch::Contains("model_type \"mamba\" is not supported"));
  other = model;
  other.config.attention.rope = RopeConfig{.divisors = {1, 8}};
  CHECK_THROWS_WITH(save_model(other, folder / "out"), Catch::Contains("rotary factors"));
  CHECK(folder.names().empty());
  write_file(folder / "file", "");
  CHECK_THROWS_AS(save_model(model, folder / "file/out"), FormatError);
}
