// SPDX-License-Identifier: Apache-2.0
#include "peft/models/llama.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "peft/io/gguf.hpp"
#include "peft/io/json.hpp"
#include "support/gguf_writer.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {

const std::string least =
    R"("vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96)";  // what has no default

TransformerConfig read(const std::string& more = "") { return llama_architecture().from_json(Json::parse("{" + least + more + "}", "config.json")); }
std::string refused(const std::string& more) {
  INFO(more);
  try {
    read(more);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "read";
}

TransformerConfig read(const GgufWriter& w) {
  const Folder folder;
  write_file(folder / "a.gguf", w.file());
  return llama_architecture().from_gguf(GgufFile::open(folder / "a.gguf"));
}
GgufWriter keys() {
  GgufWriter w;
  w.add("general.architecture", "llama").add("llama.embedding_length", 64u).add("llama.block_count", 2u).add("llama.feed_forward_length", 96u);
  w.add("llama.attention.head_count", 4u).add("llama.attention.layer_norm_rms_epsilon", 1e-6f).add("llama.vocab_size", 100u);
  return w;
}
std::string refused(const GgufWriter& w) {
  try {
    read(w);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "read";
}

}  // namespace

TEST_CASE("what a config.json leaves out is what transformers' LlamaConfig has", "[models]") {
  const TransformerConfig c = read();
  CHECK(c.model_type == "llama");
  CHECK(c.vocab_size == 100);
  CHECK(c.hidden_size == 64);
  CHECK(c.num_hidden_layers == 2);
  CHECK(c.max_position_embeddings == 2048);
  CHECK(c.norm.kind == NormKind::rms);
  CHECK(c.norm.eps == 1e-6);
  CHECK(c.norm.offset == 0);
  CHECK(c.attention.num_key_value_heads == 4);
  CHECK(c.attention.head_dim == 16);
  CHECK_FALSE(c.attention.qkv_bias);
  CHECK_FALSE(c.attention.o_bias);
  CHECK(c.attention.rope->theta == 10000);
  CHECK(c.attention.rope->scaling == RopeScaling::none);
  CHECK(c.attention.sliding_window == 0);
  CHECK(c.mlp.kind == MlpKind::gated);
  CHECK(c.mlp.activation == Activation::silu);
  CHECK_FALSE(c.mlp.bias);
  CHECK_FALSE(c.head.tied);
  CHECK(c.pad_token_id == -1);
  CHECK(c.eos_token_ids.empty());
}

TEST_CASE("what a config.json says is taken, null for absent", "[models]") {
  const TransformerConfig c = read(
      R"(, "num_key_value_heads": 2, "head_dim": 32, "attention_bias": true, "mlp_bias": true, "rms_norm_eps": 1e-05, "tie_word_embeddings": true, "hidden_act": "gelu_new",
        "max_position_embeddings": 8192, "bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 0, "rope_scaling": null, "rope_parameters": null, "quantization_config": null)");
  CHECK(c.attention.num_key_value_heads == 2);
  CHECK(c.attention.head_dim == 32);
  CHECK(c.attention.qkv_bias);
  CHECK(c.attention.o_bias);
  CHECK(c.mlp.bias);
  CHECK(c.norm.eps == 1e-5);
  CHECK(c.head.tied);
  CHECK(c.mlp.activation == Activation::gelu_tanh);
  CHECK(c.max_position_embeddings == 8192);
  CHECK(c.bos_token_ids == std::vector<std::int32_t>{1});
  CHECK(c.eos_token_ids == std::vector<std::int32_t>{2, 3});
  CHECK(c.pad_token_id == 0);
  const TransformerConfig wide = llama_architecture().from_json(Json::parse(
      R"({"vocab_size": 1, "hidden_size": 50, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 1, "head_dim": 16})", "config.json"));
  CHECK(wide.attention.head_dim == 16);  // heads need not divide hidden_size then
}

TEST_CASE("rotary positions in every spelling", "[models]") {
  const std::string numbers = R"("factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192)";
  for (const std::string& keys : {R"(, "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", )" + numbers + "}",
                                  R"(, "rope_theta": 500000.0, "rope_scaling": {"type": "llama3", )" + numbers + "}",
                                  R"(, "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000, )" + numbers + "}"}) {
    const RopeConfig rope = *read(keys).attention.rope;
    CHECK(rope.theta == 500000);
    CHECK(rope.scaling == RopeScaling::llama3);
    CHECK(rope.factor == 32);
    CHECK(rope.low_freq_factor == 1);
    CHECK(rope.high_freq_factor == 4);
    CHECK(rope.original_max_position_embeddings == 8192);
  }
  CHECK(read(R"(, "rope_scaling": {"type": "linear", "factor": 2})").attention.rope->factor == 2);
  CHECK(read(R"(, "rope_theta": 7.0, "rope_parameters": {"rope_type": "default"})").attention.rope->theta == 7);
  CHECK(read(R"(, "rope_theta": 7.0, "rope_parameters": {"rope_theta": 8.0, "rope_type": "default", "partial_rotary_factor": 1.0})").attention.rope->theta ==
        8);
}

TEST_CASE("YaRN's magnitude is said by mscale and mscale_all_dim together", "[models]") {
  const auto magnitude = [](const std::string& more) {
    const Json json = Json::parse("{" + least + R"(, "rope_scaling": {"rope_type": "yarn", "factor": 8.0)" + more + "}}", "config.json");
    return rope_magnitude(*llama_architecture().from_json(json).attention.rope);
  };
  const double one = 0.1 * std::log(8.0) + 1;
  CHECK(magnitude("") == Approx(one));
  CHECK(magnitude(R"(, "mscale": 0.5)") == Approx(one));
  CHECK(magnitude(R"(, "mscale": 1.0, "mscale_all_dim": 1.0)") == Approx(1));
  CHECK(magnitude(R"(, "mscale": 0.707, "mscale_all_dim": 1.0)") == Approx((0.0707 * std::log(8.0) + 1) / one));
  CHECK(magnitude(R"(, "mscale": 0.707, "mscale_all_dim": 1.0, "attention_factor": 1.5)") == Approx(1.5));
}

TEST_CASE("frequencies of dynamic scaling are those that transformers computes for a length", "[models]") {
  const Json json = Json::parse("{" + least + R"(, "max_position_embeddings": 16, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}})", "config.json");
  const RopeConfig rope = *llama_architecture().from_json(json).attention.rope;
  const auto check = [&](std::int64_t length, const std::vector<double>& wanted) {
    const std::vector<double> found = rope_frequencies(rope, 16, length);
    REQUIRE(found.size() == wanted.size());
    for (std::size_t i = 0; i < found.size(); i++) CHECK(found[i] == Approx(wanted[i]).epsilon(1e-6));
  };
  check(16, {1, 0.316227764, 0.1, 0.0316227786, 0.01, 0.00316227786, 0.001, 0.000316227786});
  check(17, {1, 0.310951412, 0.0966907665, 0.030066127, 0.00934910402, 0.0029071169, 0.000903972075, 0.000281091343});
  check(64, {1, 0.239481345, 0.057351321, 0.0137345716, 0.00328917382, 0.000787695812, 0.000188638456, 4.51753913e-05});
  check(1000, {1, 0.158832639, 0.0252278093, 0.00400699954, 0.000636442332, 0.000101087819, 1.60560448e-05, 2.55022405e-06});
}

TEST_CASE("frequencies of llama3: short waves stay, long ones are stretched, those between are blended", "[models]") {
  RopeConfig rope{
      .theta = 500000, .scaling = RopeScaling::llama3, .factor = 32, .low_freq_factor = 1, .high_freq_factor = 4, .original_max_position_embeddings = 8192};
  const auto plain = rope_frequencies({.theta = 500000}, 64), scaled = rope_frequencies(rope, 64);
  int stay = 0, stretched = 0, between = 0;
  for (std::size_t i = 0; i < 32; i++) {
    CHECK(plain[i] == Approx(std::pow(500000.0, -double(i) / 32)));
    const double wave = 2 * std::numbers::pi / plain[i];
    if (wave < 2048) {
      stay++;
      CHECK(scaled[i] == plain[i]);
    } else if (wave > 8192) {
      stretched++;
      CHECK(scaled[i] == Approx(plain[i] / 32));
    } else {
      between++;
      CHECK((scaled[i] > plain[i] / 32 && scaled[i] < plain[i]));
    }
    if (i) CHECK(scaled[i] < scaled[i - 1]);
  }
  CHECK(stay > 0);
  CHECK(stretched > 0);
  CHECK(between > 0);
  const auto linear = rope_frequencies({.theta = 500000, .scaling = RopeScaling::linear, .factor = 4}, 64);
  for (std::size_t i = 0; i < 32; i++) CHECK(linear[i] == Approx(plain[i] / 4));
}

TEST_CASE("what a config.json must not say is refused by key and value", "[models]") {
  CHECK(refused("") == "read");
  for (const char* key : {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"}) {
    const Json whole = Json::parse("{" + least + "}", "config.json");
    Json part = Json::make_object();
    for (const auto& [name, value] : whole.object())
      if (name != key) part.set(name, value);
    CHECK_THROWS_WITH(llama_architecture().from_json(part), Contains(std::string(key) + " is missing"));
  }
  CHECK_THAT(refused(R"(, "hidden_act": "silo")"), Contains("hidden_act \"silo\" is not supported; did you mean \"silu\"?"));
  CHECK_THAT(refused(R"(, "rope_scaling": {"rope_type": "longrope", "factor": 2.0})"),
             Contains("rope_type \"longrope\" is not supported") && Contains("default, linear, llama3, yarn, dynamic"));
  CHECK_THAT(refused(R"(, "rope_scaling": "linear")"), Contains("is \"linear\"; an object is wanted"));
  CHECK_THAT(refused(R"(, "rope_scaling": {"type": "linear"})"), Contains("factor is missing"));
  CHECK_THAT(refused(R"(, "rope_scaling": {"type": "linear", "factor": "2"})"), Contains("factor: ") && Contains("found a string (\"2\"), wanted a number"));
  CHECK_THAT(refused(R"(, "rope_parameters": {"rope_type": "llama3", "factor": 8.0, "high_freq_factor": 4.0})"), Contains("low_freq_factor is missing"));
  CHECK_THAT(refused(R"(, "rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0})"),
             Contains("high_freq_factor 4.000000 must be larger than low_freq_factor 4.000000"));
  CHECK_THAT(
      refused(
          R"(, "rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 0})"),
      Contains("original_max_position_embeddings is 0"));
  CHECK_THAT(refused(R"(, "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5})"), Contains("partial_rotary_factor 0.5 is not supported"));
  CHECK_THAT(refused(R"(, "partial_rotary_factor": 0.5)"), Contains("partial_rotary_factor 0.5 is not supported"));
  CHECK_THAT(refused(R"(, "quantization_config": {"quant_method": "gptq"})"), Contains(R"(quantization_config {"quant_method": "gptq"} is not supported)"));
  CHECK_THAT(refused(R"(, "head_dim": 2.5)"), Contains("head_dim: ") && Contains("wanted an integer"));
  CHECK_THAT(refused(R"(, "tie_word_embeddings": "yes")"), Contains("tie_word_embeddings: ") && Contains("found a string (\"yes\")"));
  CHECK_THAT(refused(R"(, "eos_token_id": "</s>")"), Contains("eos_token_id: ") && Contains("</s>"));
  CHECK_THAT(refused(R"(, "eos_token_id": [4294967296])"), Contains("eos_token_id is 4294967296, which is no token id"));
  CHECK_THROWS_WITH(
      llama_architecture().from_json(Json::parse(R"({"vocab_size": 1, "hidden_size": 50, "num_hidden_layers": 1, "num_attention_heads": 4})", "")),
      Contains("num_attention_heads 4 does not divide hidden_size 50, and there is no head_dim"));
  CHECK_THROWS_WITH(
      llama_architecture().from_json(Json::parse(R"({"vocab_size": 1, "hidden_size": 50, "num_hidden_layers": 1, "num_attention_heads": 0})", "")),
      Contains("num_attention_heads is 0"));
}

TEST_CASE("a GGUF file's keys, with what they leave out", "[models]") {
  const TransformerConfig c = read(keys());
  CHECK(c.hidden_size == 64);
  CHECK(c.num_hidden_layers == 2);
  CHECK(c.mlp.intermediate_size == 96);
  CHECK(c.vocab_size == 100);
  CHECK(c.max_position_embeddings == 2048);
  CHECK(c.attention.num_key_value_heads == 4);
  CHECK(c.attention.head_dim == 16);
  CHECK(c.attention.rope->theta == 10000);
  CHECK(c.norm.eps == Approx(1e-6));
  CHECK(c.head.tied);  // there is no output.weight
  GgufWriter w = keys();
  w.add("llama.attention.head_count_kv", 2u).raw("llama.context_length", GgufWriter::u64, bytes(std::uint64_t{4096})).add("llama.attention.key_length", 32u);
  w.add("llama.rope.freq_base", 5e5f).add("llama.rope.dimension_count", 32u).add("llama.rope.scaling.type", "linear").add("llama.rope.scaling.factor", 4.0f);
  w.add("tokenizer.ggml.bos_token_id", 1u).add("tokenizer.ggml.eos_token_id", 2u).add("tokenizer.ggml.eot_token_id", 7u).add("tokenizer.ggml.eom_token_id", 2u);
  const TransformerConfig d = read(w.tensor("token_embd.weight", {1, 3}, 0, std::string(12, '\0')).tensor("output.weight", {1}, 0, std::string(4, '\0')));
  CHECK(d.attention.num_key_value_heads == 2);
  CHECK(d.max_position_embeddings == 4096);
  CHECK(d.attention.head_dim == 32);
  CHECK(d.attention.rope->theta == 5e5);
  CHECK(d.attention.rope->scaling == RopeScaling::linear);
  CHECK(d.attention.rope->factor == 4);
  CHECK(d.vocab_size == 3);  // rows of the embedding, whatever the key says
  CHECK_FALSE(d.head.tied);
  CHECK(d.bos_token_ids == std::vector<std::int32_t>{1});
  CHECK(d.eos_token_ids == std::vector<std::int32_t>{2, 7});
}

TEST_CASE("what a GGUF file must not say is refused by key and value", "[models]") {
  CHECK_THAT(refused(keys().add("llama.rope.scaling.type", "longrope")),
             Contains("rope.scaling.type \"longrope\" is not supported; supported are: none, linear, yarn"));
  CHECK_THAT(refused(keys().add("llama.rope.dimension_count", 8u)), Contains("rope.dimension_count 8 of a head of 16 is not supported"));
  CHECK_THAT(refused(keys().add("llama.attention.value_length", 8u)), Contains("attention.value_length 8 besides a key_length of 16"));
  CHECK_THAT(refused(keys().add("llama.context_length", "long")), Contains("llama.context_length is a text, wanted is an integer"));
  GgufWriter w;
  CHECK_THAT(refused(w.add("llama.embedding_length", 64u)), Contains("the key llama.block_count is missing"));
  CHECK_THAT(refused(keys().tensor("rope_freqs.weight", {8}, 0, std::string(32, '\0'))),
             Contains("rope_freqs.weight holds 0.000000; positive numbers are wanted"));
}
