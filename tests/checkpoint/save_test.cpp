// SPDX-License-Identifier: Apache-2.0
#include "peft/checkpoint/save.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <string>

#include "checkpoint/model_files.hpp"
#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/peft_model.hpp"
#include "peft/checkpoint/save_gguf.hpp"
#include "peft/io/gguf.hpp"
#include "peft/io/json.hpp"
#include "peft/tokenizer/chat_template.hpp"
#include "peft/tokenizer/tokenizer.hpp"
#include "support/is_near.hpp"
#include "support/tiny_model_files.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

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

TEST_CASE("a large model is saved in shards", "[checkpoint]") {
  const Folder folder;
  const auto model = tiny_transformer<float>();
  save_model(model, folder / "out", DType::f32, 4000);
  CHECK_FALSE(std::filesystem::exists(folder / "out/model.safetensors"));
  CHECK(std::filesystem::exists(folder / "out/model.safetensors.index.json"));
  CHECK(same_bits(logits(load_model<float>(folder / "out")), logits(model)));
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

TEST_CASE("matrices of a GGUF file have the type that is asked for, where their rows are whole blocks of it", "[checkpoint]") {
  const Folder folder;
  write_huggingface(folder, tiny_transformer<float>({.hidden = 32, .layers = 1, .heads = 4, .kv_heads = 2, .inner = 12, .tied = true}));
  const auto model = load_model<float>(folder.path());
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1}) {
    CAPTURE(name(dtype));
    save_gguf_model(model, folder / "a.gguf", dtype);
    const GgufFile file = GgufFile::open(folder / "a.gguf");
    CHECK(file.find_tensor("token_embd.weight")->dtype == dtype);
    CHECK(file.find_tensor("blk.0.attn_q.weight")->dtype == dtype);
    CHECK(file.find_tensor("blk.0.attn_norm.weight")->dtype == DType::f32);
    CHECK(file.find_tensor("blk.0.ffn_down.weight")->dtype == (info(dtype).block > 1 ? DType::f16 : dtype));
    CHECK(file.find_tensor("output.weight") == nullptr);
    CHECK(file.find("tokenizer.ggml.model")->string() == "none");
    const auto loaded = load_model<float>(folder / "a.gguf");
    save_gguf_model(loaded, folder / "again.gguf", dtype);  // what lies there already is copied, not rounded twice
    const GgufFile again = GgufFile::open(folder / "again.gguf");
    for (const GgufTensor& t : file.tensors()) CHECK(std::memcmp(again.find_tensor(t.name)->data, t.data, std::size_t(t.bytes)) == 0);
  }
  CHECK_THROWS_WITH(save_gguf_model(model, folder / "b.gguf", DType::q4_k), Contains("Q4_K") && Contains("Q8_0"));
  CHECK_FALSE(std::filesystem::exists(folder / "b.gguf"));
}

TEST_CASE("a GGUF file takes the tokenizer of the file it comes from along, bit for bit", "[checkpoint]") {
  const Folder folder;
  auto model = tiny_transformer<float>({.layers = 1});
  GgufWriter source = gguf(model);
  source.add("general.license", "apache-2.0").add("tokenizer.ggml.model", "llama").add("tokenizer.ggml.bos_token_id", 7u);
  source.list("tokenizer.ggml.scores", GgufWriter::f32, 2, bytes(0.5f) + bytes(-1.25f));
  source.list("tokenizer.ggml.tokens", GgufWriter::string, 2, GgufWriter::text("a") + GgufWriter::text("b"));
  write_file(folder / "source.gguf", source.file());
  const auto loaded = load_model<float>(folder / "source.gguf");
  save_gguf_model(loaded, folder / "a.gguf", DType::f16, folder / "source.gguf");
  const GgufFile before = GgufFile::open(folder / "source.gguf"), after = GgufFile::open(folder / "a.gguf");
  for (const char* key :
       {"general.name", "general.license", "tokenizer.ggml.model", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.scores", "tokenizer.ggml.tokens"}) {
    CAPTURE(key);
    CHECK(std::ranges::equal(after.raw(key), before.raw(key)));
  }
  CHECK(after.find("general.file_type")->integer() == 1);
  write_file(folder / "other.gguf", GgufWriter().add("general.architecture", "qwen2").file());
  CHECK_THROWS_WITH(save_gguf_model(loaded, folder / "b.gguf", DType::f32, folder / "other.gguf"), Contains("another architecture"));
}

TEST_CASE("a GGUF file takes the tokenizer of a Hugging Face directory along", "[checkpoint]") {
  const Folder folder;
  std::filesystem::create_directories(folder / "tiny");
  write_tiny_model(folder / "tiny");
  const auto model = load_model<float>(folder / "tiny");
  save_gguf_model(model, folder / "a.gguf", DType::f32, folder / "tiny");
  const auto loaded = load_model<float>(folder / "a.gguf");
  CHECK_THAT(array(logits(loaded)), is_near<float>(array(logits(model)), 200));
  const Tokenizer from = load_tokenizer(folder / "tiny"), to = load_tokenizer(folder / "a.gguf");
  const std::vector<ChatMessage> messages = {{"user", "hello  world, na\u00EFve 12\n"}};
  const std::string chat = from.chat_template().render(messages, true);
  CHECK(to.chat_template().render(messages, true) == chat);
  CHECK(to.encode(chat) == from.encode(chat));
  CHECK(to.eos_id() == from.eos_id());
  CHECK(GgufFile::open(folder / "a.gguf").find("tokenizer.ggml.tokens")->strings().size() == std::size_t(model.config.vocab_size));
  save_gguf_model(loaded, folder / "b.gguf", DType::q8_0, folder / "a.gguf");  // and on from there
  CHECK(load_tokenizer(folder / "b.gguf").encode(chat) == from.encode(chat));

  write_file(folder / "tiny/tokenizer.json", R"({"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]]}})");
  CHECK_THROWS_AS(save_gguf_model(model, folder / "c.gguf", DType::f32, folder / "tiny"), NotSupported);
  std::filesystem::remove(folder / "tiny/tokenizer.json");
  CHECK_THROWS_WITH(save_gguf_model(model, folder / "c.gguf", DType::f32, folder / "tiny"), Contains("there is no tokenizer.json"));
  CHECK_FALSE(std::filesystem::exists(folder / "c.gguf"));
}

TEST_CASE("Llama 3's frequencies and scaled positions go to GGUF and back; a window does not", "[checkpoint]") {
  const Folder folder;
  const auto through = [&](const std::string& scaling) {
    write_huggingface(folder, tiny_transformer<float>({.hidden = 32, .heads = 2}), DType::f32, scaling);
    const auto model = load_model<float>(folder.path());
    save_gguf_model(model, folder / "a.gguf");
    const auto loaded = load_model<float>(folder / "a.gguf");
    CHECK_THAT(array(logits(loaded)), is_near<float>(array(logits(model)), 200));
    CHECK_FALSE(same_bits(logits(loaded), logits(tiny_transformer<float>({.hidden = 32, .heads = 2}))));
    return GgufFile::open(folder / "a.gguf").find_tensor("rope_freqs.weight") != nullptr;
  };
  CHECK(through(R"("rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                    "original_max_position_embeddings": 16})"));
  CHECK_FALSE(through(R"("rope_scaling": {"rope_type": "linear", "factor": 4.0})"));
  CHECK_FALSE(through(R"("rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16})"));
  auto windowed = load_model<float>(folder.path());
  windowed.config.attention.sliding_window = 3;
  CHECK_THROWS_WITH(save_gguf_model(windowed, folder / "b.gguf"), Contains("sliding_window 3"));
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
