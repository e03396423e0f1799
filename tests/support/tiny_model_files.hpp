// SPDX-License-Identifier: Apache-2.0
// A complete Hugging Face directory, small enough to train and ask in a blink.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "peft/checkpoint/save.hpp"
#include "peft/io/json.hpp"
#include "support/tiny_t5.hpp"
#include "support/tiny_transformer.hpp"
#include "tokenizer/small_tokenizer.hpp"

namespace peft::testing {

/// Writes config.json, generation_config.json, model.safetensors, tokenizer.json and tokenizer_config.json: a Llama of two layers with grouped
/// queries, random weights by `seed`, bytes and a few merges as its vocabulary, and ChatML.
inline void write_tiny_model(const std::filesystem::path& directory, std::uint64_t seed = 7) {
  const std::int32_t first = 256 + std::int32_t(small::english().size()), end_of_text = first, im_start = first + 1, im_end = first + 2;
  Transformer<float> model = tiny_transformer<float>({.vocab = first + 5, .hidden = 32, .layers = 2, .heads = 4, .kv_heads = 2, .inner = 64}, seed);
  for (float& w : model.lm_head.weight.value().span()) w *= 3;  // else no answer could be certain
  model.config.max_position_embeddings = 4096;
  model.config.attention.rope = RopeConfig{};
  model.config.norm.eps = double(model.norm->eps);
  model.config.eos_token_ids = {im_end};
  model.config.bos_token_ids = {im_start};
  save_model(model, directory.string());

  const auto write = [&](const char* name, const std::string& text) { std::ofstream(directory / name, std::ios::binary) << text; };
  write("tokenizer.json", small::json(small::model_json(small::english()),
                                      small::added_json(end_of_text, "<|endoftext|>") + "," + small::added_json(im_start, "<|im_start|>") + "," +
                                          small::added_json(im_end, "<|im_end|>"),
                                      small::byte_level));
  Json config = Json::make_object();
  config.set("tokenizer_class", Json("PreTrainedTokenizerFast")), config.set("model_max_length", Json(std::int64_t{4096}));
  config.set("bos_token", Json("<|im_start|>")), config.set("eos_token", Json("<|im_end|>")), config.set("pad_token", Json("<|endoftext|>"));
  config.set("chat_template",
             Json("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
                  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"));
  write("tokenizer_config.json", config.dump(2));
}

/// The same of an encoder-decoder: a T5 with the vocabulary of bytes, <pad> and </s>.
inline void write_tiny_t5(const std::filesystem::path& directory, std::uint64_t seed = 7) {
  const std::int32_t pad = 256 + std::int32_t(small::english().size());
  Transformer<float> model = tiny_t5<float>(pad + 3, 32, seed);
  model.config.pad_token_id = model.config.decoder_start_token_id = pad, model.config.eos_token_ids = {pad + 1};
  save_model(model, directory.string());
  std::ofstream(directory / "tokenizer.json", std::ios::binary) << small::encoder_decoder_json();
  std::ofstream(directory / "tokenizer_config.json", std::ios::binary) << small::encoder_decoder_config;
}

}  // namespace peft::testing
