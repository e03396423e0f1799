// SPDX-License-Identifier: Apache-2.0
#include "peft/checkpoint/load.hpp"

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "checkpoint/model_files.hpp"
#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/peft_model.hpp"
#include "peft/checkpoint/save.hpp"
#include "peft/checkpoint/save_gguf.hpp"
#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;
using Catch::EndsWith;

TEST_CASE("a Hugging Face directory computes what its numbers say", "[checkpoint]") {
  for (const bool tied : {false, true})
    for (const std::size_t shards : {1u, 3u}) {
      CAPTURE(tied, shards);
      const Folder folder;
      const auto model = tiny_transformer<float>({.tied = tied});
      write_huggingface(folder, model, DType::f32, "", shards);
      const auto loaded = load_model<float>(folder.path());
      CHECK_THAT(array(logits(loaded)), is_near<float>(array(logits(model))));
      CHECK((loaded.lm_head.weight.identity() == loaded.embed_tokens.weight.identity()) == tied);
      CHECK(loaded.config.head.tied == tied);
      CHECK(loaded.config.model_type == "llama");
      CHECK_FALSE(loaded.layers[1].mlp.down_proj.weight.requires_grad());
      CHECK(loaded.layers[1].mlp.down_proj.weight.is_stored());  // mapped, not copied
      CHECK_THAT(array(logits(load_model<double>(folder.path()))), is_near<float>(array(logits(model))));
    }
}

TEST_CASE("halves stay as they lie and compute as their rounded numbers", "[checkpoint]") {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const Folder folder;
    const auto model = tiny_transformer<float>();
    write_huggingface(folder, model, dtype);
    const ModelFile file = open_model(folder.path());
    CHECK(file.storage == name(dtype));
    const auto loaded = build_model<float>(file);
    CHECK(loaded.layers[0].self_attn.q_proj.weight.dtype() == dtype);
    CHECK_THAT(array(logits(loaded)), is_near<float>(array(logits(rounded(model, dtype)))));
  }
}

TEST_CASE("the Linears of the layers are quantised while they are read", "[checkpoint]") {
  const auto model = tiny_transformer<float>({.hidden = 64, .heads = 4, .inner = 96});
  for (const DType stored : {DType::f32, DType::bf16})
    for (const DType type : {DType::nf4, DType::q8_0}) {
      CAPTURE(name(stored), name(type));
      const Folder folder;
      write_huggingface(folder, model, stored);
      const auto loaded = load_model<float>(folder.path(), {}, {.quantize = type});
      auto expected = rounded(model, stored);
      for_each_parameter(expected, [&](const std::string& path, Parameter<float>& p) {
        // 96 columns are no whole blocks of NF4: those stay as they are.
        if (!path.starts_with("model.layers") || p.shape().rank() < 2 || p.shape().columns() % info(type).block) return;
        const ops::OwnedWeight rounded_p = ops::quantized(p.view(), type);
        const Tensor<float> widened(p.shape());
        ops::widen<float>(widened.view(), rounded_p.view);
        p.assign(widened);
      });
      CHECK_THAT(array(logits(loaded)), is_near<float>(array(logits(expected))));
      CHECK_FALSE(same_bits(logits(loaded), logits(load_model<float>(folder.path()))));
      const Block<float>& block = loaded.layers[1];
      CHECK(block.self_attn.q_proj.weight.dtype() == type);
      CHECK(block.self_attn.k_proj.weight.bytes() == (type == DType::nf4 ? 16 * 2 * 33 : 16 * 2 * 34));
      CHECK(block.mlp.down_proj.weight.dtype() == (type == DType::nf4 ? stored : type));
      CHECK(loaded.embed_tokens.weight.dtype() == stored);
      CHECK(loaded.lm_head.weight.dtype() == stored);
    }
  const Folder folder;
  write_huggingface(folder, tiny_transformer<float>());
  CHECK_THROWS_WITH(load_model<float>(folder.path(), {}, {.quantize = DType::nf4}), Contains("rows of whole blocks of 64, as NF4 needs them"));
  CHECK_THROWS_WITH(load_model<float>(folder.path(), {}, {.quantize = DType::q4_k}), Contains("quantize is Q4_K; allowed are NF4"));
}

TEST_CASE("merging into a quantised model makes dense weights, and no file is written in its type unasked", "[checkpoint]") {
  const Folder folder;
  write_huggingface(folder, tiny_transformer<float>({.hidden = 64, .heads = 4}));
  auto model = load_model<float>(folder.path(), {}, {.quantize = DType::nf4});
  PeftModel tuned{model};
  tuned.add_adapter("a", LoraConfig{.r = 2, .target_modules = {"q_proj"}, .init_lora_weights = false});
  const auto merged = tuned.merge_and_unload();
  CHECK(merged.layers[0].self_attn.q_proj.weight.dtype() == DType::f32);
  CHECK(merged.layers[0].self_attn.v_proj.weight.dtype() == DType::nf4);
  save_model(merged, folder / "hf");
  save_gguf_model(merged, folder / "a.gguf");
  for (const char* written : {"hf", "a.gguf"}) {
    const auto again = load_model<float>(folder / written);
    CHECK(again.layers[0].self_attn.v_proj.weight.dtype() == DType::f32);
    CHECK_THAT(array(logits(again)), is_near<float>(array(logits(merged))));
  }
  CHECK_THROWS_AS(save_gguf_model(merged, folder / "b.gguf", DType::nf4), ConfigError);
  save_gguf_model(merged, folder / "c.gguf", DType::q8_0);
  CHECK_THROWS_WITH(load_model<float>(folder / "c.gguf", {}, {.quantize = DType::nf4}), Contains("is Q8_0 already"));
}

TEST_CASE("a base model that was saved without \"model.\" in its names is found", "[checkpoint]") {
  const Folder folder;
  const auto model = tiny_transformer<float>({.tied = true});
  write_huggingface(folder, model, DType::f32, "", 1, "model.");
  CHECK_THAT(array(logits(load_model<float>(folder.path()))), is_near<float>(array(logits(model))));
}

TEST_CASE("rotary positions of transformers 5 and of older versions are the same", "[checkpoint]") {
  const auto model = tiny_transformer<float>();
  const auto with = [&](const std::string& keys) {
    const Folder folder;
    write_huggingface(folder, model, DType::f32, keys);
    return load_model<float>(folder.path());
  };
  const std::string scaling = R"("factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16)";
  const auto plain = with(R"("max_position_embeddings": 128)"), legacy = with(R"("rope_theta": 500.0, "rope_scaling": {"type": "llama3", )" + scaling + "}"),
             five = with(R"("rope_parameters": {"rope_type": "llama3", "rope_theta": 500.0, )" + scaling + "}"),
             linear = with(R"("rope_theta": 500.0, "rope_scaling": {"rope_type": "linear", "factor": 2})");
  CHECK(same_bits(logits(legacy), logits(five)));
  CHECK_FALSE(same_bits(logits(five), logits(plain)));
  CHECK_FALSE(same_bits(logits(five), logits(linear)));
  CHECK(five.config.attention.rope->scaling == RopeScaling::llama3);
  CHECK(five.config.attention.rope->theta == 500);
  CHECK(five.config.attention.rope->original_max_position_embeddings == 16);
  CHECK_THAT(array(logits(plain)), is_near<float>(array(logits(model))));
}

TEST_CASE("every missing and misshapen tensor is named at once", "[checkpoint]") {
  const Folder folder;
  const auto model = tiny_transformer<float>();
  write_huggingface(folder, model);
  const auto file = SafetensorsFile::open(folder / "model.safetensors");
  std::vector<TensorToWrite> kept;
  for (const auto& t : file.tensors()) {
    if (t.name == "model.norm.weight" || t.name == "model.layers.1.self_attn.k_proj.weight" || t.name == "lm_head.weight") continue;
    kept.push_back({t.name, *t.dtype, t.name == "model.layers.0.mlp.up_proj.weight" ? Shape{8, 12} : t.shape, t.data});
  }
  write_safetensors(folder / "model.safetensors", kept);
  const std::string text = checkpoint_error([&] { load_model<float>(folder.path()); });
  CHECK_THAT(text, Contains("missing 3 tensors (model.layers.1.self_attn.k_proj.weight, model.norm.weight, lm_head.weight)"));
  CHECK_THAT(text, Contains("wrong shape 1 (model.layers.0.mlp.up_proj.weight is (8, 12), the configuration wants (12, 8))"));
  CHECK_THAT(text, EndsWith("Nothing was loaded."));
}

TEST_CASE("a weight of integers is refused with its file", "[checkpoint]") {
  const Folder folder;
  write_huggingface(folder, tiny_transformer<float>());
  std::vector<TensorToWrite> tensors;
  const auto file = SafetensorsFile::open(folder / "model.safetensors");
  for (const auto& t : file.tensors()) tensors.push_back({t.name, t.name == "model.norm.weight" ? DType::i32 : *t.dtype, t.shape, t.data});
  write_safetensors(folder / "model.safetensors", tensors);
  CHECK_THAT(format_error(folder / "model.safetensors", [&] { load_model<float>(folder.path()); }).reason(),
             Contains("tensor model.norm.weight has the type I32; a weight is F32, F64, F16 or BF16"));
}

TEST_CASE("a configuration is refused before any weight is looked for", "[checkpoint]") {
  const Folder folder;  // no weights here at all
  const auto reason = [&](const std::string& keys) {
    write_file(folder / "config.json", config_json(tiny_transformer<float>(), keys));
    return format_error(folder / "config.json", [&] { load_model<float>(folder.path()); }).reason();
  };
  CHECK_THAT(reason(R"("hidden_act": "mish")"), Contains("hidden_act \"mish\" is not supported"));
  CHECK_THAT(reason(R"("head_dim": -4)"), Contains("head_dim is -4"));
  write_file(folder / "config.json", R"({"model_type": "lama"})");
  CHECK_THAT(format_error(folder / "config.json", [&] { load_model<float>(folder.path()); }).reason(),
             Contains("model_type \"lama\" is not supported; did you mean \"llama\"?"));
  write_file(folder / "config.json", "{}");
  CHECK_THAT(format_error(folder / "config.json", [&] { load_model<float>(folder.path()); }).reason(), Contains("model_type is missing"));
  write_file(folder / "config.json", config_json(tiny_transformer<float>()));
  CHECK_THAT(format_error(folder.path(), [&] { load_model<float>(folder.path()); }).reason(), Contains("no weights"));
}

TEST_CASE("ends of text come from both configurations", "[checkpoint]") {
  const Folder folder;
  write_huggingface(folder, tiny_transformer<float>(), DType::f32, R"("bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": null)");
  write_file(folder / "generation_config.json", R"({"eos_token_id": [3, 4]})");
  const TransformerConfig config = open_model(folder.path()).config;
  CHECK(config.bos_token_ids == std::vector<std::int32_t>{1});
  CHECK(config.eos_token_ids == std::vector<std::int32_t>{2, 3, 4});
  CHECK(config.pad_token_id == -1);
}

TEST_CASE("a GGUF file computes what the Hugging Face directory does", "[checkpoint]") {
  for (const bool tied : {false, true}) {
    const Folder folder;
    const auto model = tiny_transformer<float>({.hidden = 16, .heads = 2, .kv_heads = 1, .tied = tied});
    write_file(folder / "m.gguf", gguf(model).file());
    const auto loaded = load_model<float>(folder / "m.gguf");
    CHECK(loaded.config.name == "tiny");
    CHECK(loaded.config.head.tied == tied);
    CHECK(loaded.layers[0].self_attn.q_proj.path == "model.layers.0.self_attn.q_proj");
    CHECK(same_bits(loaded.layers[1].self_attn.q_proj.weight.dense(), model.layers[1].self_attn.q_proj.weight.value()));  // Hugging Face's order
    CHECK(same_bits(loaded.layers[1].self_attn.k_proj.weight.dense(), model.layers[1].self_attn.k_proj.weight.value()));
    CHECK_THAT(array(logits(loaded)), is_near<float>(array(logits(model))));
    CHECK_THAT(array(logits(load_model<float>(folder.path()))), is_near<float>(array(logits(model))));  // the only one of its directory
  }
}

TEST_CASE("quantised weights stay quantised and compute as the numbers that they stand for", "[checkpoint]") {
  const Folder folder;
  const auto model = quantised(tiny_transformer<float>({.hidden = 64, .heads = 4, .kv_heads = 2, .inner = 96}));
  write_file(folder / "m.gguf", gguf(model, 8).file());
  const ModelFile file = open_model(folder / "m.gguf");
  CHECK(file.storage == "Q8_0");
  const auto loaded = build_model<float>(file);
  CHECK(loaded.layers[0].self_attn.q_proj.weight.dtype() == DType::q8_0);
  CHECK(same_bits(loaded.layers[0].self_attn.q_proj.weight.dense(), model.layers[0].self_attn.q_proj.weight.value()));
  CHECK_THAT(array(logits(loaded)), is_near<float>(array(logits(model)), 2));
}

TEST_CASE("rotary factors that a GGUF file gives as a table divide the frequencies", "[checkpoint]") {
  const Folder folder;
  const auto model = tiny_transformer<float>();  // heads of 4: two pairs
  GgufWriter w = gguf(model);
  write_file(folder / "m.gguf", w.tensor("rope_freqs.weight", {2}, 0, bytes(1.0f) + bytes(8.0f)).file());
  const auto loaded = load_model<float>(folder / "m.gguf");
  CHECK(loaded.config.attention.rope->divisors == std::vector<double>{1, 8});
  const auto frequencies = rope_frequencies(*loaded.config.attention.rope, 4);
  CHECK(frequencies[0] == 1);
  CHECK(frequencies[1] == Approx(0.01 / 8));
  GgufWriter broken = gguf(model);
  write_file(folder / "broken.gguf", broken.tensor("rope_freqs.weight", {3}, 0, std::string(12, '\1')).file());
  CHECK_THAT(format_error(folder / "broken.gguf", [&] { load_model<float>(folder / "broken.gguf"); }).reason(),
             Contains("rope_freqs.weight is F32 (3), wanted are 2 numbers of F32"));
}

TEST_CASE("what is no model says so", "[checkpoint]") {
  const Folder folder;
  const auto reason = [](const std::string& path) { return format_error(path, [&] { open_model(path); }).reason(); };
  CHECK(reason(folder / "none") == "no such file or directory; a Hugging Face directory or a .gguf file is wanted");
  CHECK(reason(folder.path()) == "this directory has no config.json, and no GGUF file");
  write_file(folder / "a.gguf", gguf(tiny_transformer<float>()).file()), write_file(folder / "b.gguf", "");
  CHECK(reason(folder.path()) == "this directory has no config.json, and several GGUF files: name one of them");
  GgufWriter other;
  write_file(folder / "c.gguf", other.add("general.architecture", "llamo").file());
  CHECK_THAT(reason(folder / "c.gguf"), Contains("general.architecture \"llamo\" is not supported; did you mean \"llama\"?"));
  GgufWriter nothing;
  write_file(folder / "d.gguf", nothing.add("general.name", "x").file());
  CHECK_THAT(reason(folder / "d.gguf"), Contains("general.architecture is missing"));
  GgufWriter bare;
  write_file(folder / "e.gguf", bare.add("general.architecture", "llama").file());
  CHECK_THAT(reason(folder / "e.gguf"), Contains("the key llama.embedding_length is missing"));
}
