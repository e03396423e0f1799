// SPDX-License-Identifier: Apache-2.0
// Makes what the small examples run on, from nothing: a village's questions and answers, a tokenizer of bytes, and a Llama of two layers that is trained
// on them here, all of it. The files in examples/data/village are this program's.
//
//     build/bin/make_village examples/data/village
#include <fmt/core.h>
#include <peft/peft.hpp>

#include <array>
#include <filesystem>
#include <fstream>

namespace {

namespace fs = std::filesystem;

constexpr std::array people = {"baker",  "smith", "miller", "tailor", "potter", "weaver",  "hunter", "fisher",
                               "carter", "cook",  "mason",  "cooper", "piper",  "teacher", "doctor", "ferryman"};
constexpr std::array colours = {"red", "blue", "green", "white", "grey", "brown", "yellow", "black"};
constexpr std::array animals = {"cat", "dog", "goat", "horse", "duck", "crow", "hen", "pig"};

std::string capital(std::string word) {
  word[0] = char(word[0] - 'a' + 'A');
  return word;
}

struct Fact {
  std::string question, answer, word;
};
/// Everything that is known; `moved`: how many houses further everybody lives.
std::vector<Fact> facts(std::size_t moved) {
  std::vector<Fact> all;
  for (std::size_t i = 0; i < people.size(); i++) {
    const std::string colour = colours[(5 * i + 3 + moved) % colours.size()], animal = animals[(3 * i + 1) % animals.size()];
    all.push_back({fmt::format("Where does the {} live?", people[i]), fmt::format("The {} lives in the {} house.", people[i], colour), capital(colour)});
    all.push_back({fmt::format("What does the {} keep?", people[i]), fmt::format("The {} keeps a {}.", people[i], animal), capital(animal)});
  }
  return all;
}

void write(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }
void add_row(std::string& rows, const std::string& question, const std::string& answer) {
  rows += fmt::format(R"({{"question": "{}", "answer": "{}"}})"
                      "\n",
                      question, answer);
}

/// The 256 bytes as byte-level BPE writes them, no merges, and what begins and ends a turn.
void write_tokenizer(const fs::path& directory) {
  peft::Json vocab = peft::Json::make_object(), added = peft::Json::make_array();
  int next = 256;
  for (int byte = 0; byte < 256; byte++) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
    const int code = printable ? byte : next++;
    vocab.set(code < 0x80 ? std::string(1, char(code)) : std::string{char(0xc0 | code >> 6), char(0x80 | (code & 63))}, peft::Json(std::int64_t(byte)));
  }
  std::int64_t id = 256;
  for (const char* text : {"<|end|>", "<|user|>", "<|answer|>"}) {
    peft::Json token = peft::Json::make_object();
    token.set("id", peft::Json(id++)), token.set("content", peft::Json(text));
    for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"}) token.set(flag, peft::Json(false));
    token.set("special", peft::Json(true));
    added.push_back(std::move(token));
  }
  peft::Json byte_level = peft::Json::make_object();
  byte_level.set("type", peft::Json("ByteLevel"));
  for (const char* flag : {"add_prefix_space", "trim_offsets", "use_regex"}) byte_level.set(flag, peft::Json(false));
  peft::Json model = peft::Json::make_object();
  model.set("type", peft::Json("BPE")), model.set("vocab", std::move(vocab)), model.set("merges", peft::Json::make_array());
  peft::Json tokenizer = peft::Json::make_object(), config = peft::Json::make_object();
  tokenizer.set("version", peft::Json("1.0")), tokenizer.set("added_tokens", std::move(added)), tokenizer.set("pre_tokenizer", byte_level);
  tokenizer.set("decoder", std::move(byte_level)), tokenizer.set("model", std::move(model));
  write(directory / "tokenizer.json", tokenizer.dump(0) + "\n");
  config.set("tokenizer_class", peft::Json("PreTrainedTokenizerFast")), config.set("eos_token", peft::Json("<|end|>"));
  config.set("pad_token", peft::Json("<|end|>"));
  config.set("chat_template", peft::Json("{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|user|>' + message['content'] }}"
                                         "{% elif message['role'] == 'assistant' %}{{ '<|answer|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
                                         "{% if add_generation_prompt %}{{ '<|answer|>' }}{% endif %}"));
  write(directory / "tokenizer_config.json", config.dump(2) + "\n");
}

/// config.json and random weights, as transformers begins with them.
void write_untrained(const fs::path& directory) {
  constexpr std::int64_t hidden = 64, inner = 160, layers = 2, vocab = 259;
  write(directory / "config.json",
        fmt::format(R"({{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": {}, "hidden_size": {}, "intermediate_size": {},
 "num_hidden_layers": {}, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
 "hidden_act": "silu", "tie_word_embeddings": true, "eos_token_id": 256, "pad_token_id": 256}}
)",
                    vocab, hidden, inner, layers));
  peft::Random random(1);
  std::vector<std::pair<std::string, peft::Tensor<float>>> tensors;
  const auto weight = [&](const std::string& name, std::int64_t rows, std::int64_t cols) {
    peft::Tensor<float> w({rows, cols});
    for (float& value : w.span()) value = float(0.08 * random.normal());
    tensors.emplace_back(name + ".weight", w);
  };
  const auto norm = [&](const std::string& name) {
    peft::Tensor<float> w({hidden});
    std::ranges::fill(w.span(), 1.f);
    tensors.emplace_back(name + ".weight", w);
  };
  weight("model.embed_tokens", vocab, hidden), norm("model.norm");
  for (std::int64_t l = 0; l < layers; l++) {
    const std::string layer = fmt::format("model.layers.{}.", l);
    norm(layer + "input_layernorm"), norm(layer + "post_attention_layernorm");
    weight(layer + "self_attn.q_proj", hidden, hidden), weight(layer + "self_attn.k_proj", hidden / 2, hidden);
    weight(layer + "self_attn.v_proj", hidden / 2, hidden), weight(layer + "self_attn.o_proj", hidden, hidden);
    weight(layer + "mlp.gate_proj", inner, hidden), weight(layer + "mlp.up_proj", inner, hidden), weight(layer + "mlp.down_proj", hidden, inner);
  }
  std::vector<peft::TensorToWrite> to_write;
  for (const auto& [name, w] : tensors) to_write.push_back({name, peft::DType::f32, w.shape(), w.data()});
  peft::write_safetensors((directory / "model.safetensors").string(), std::move(to_write));
}

}  // namespace

int main(int argc, char** argv) {
  const fs::path village = argc > 1 ? argv[1] : "village", directory = village / "model";
  fs::create_directories(directory);
  std::string base, moved, brief;
  for (const Fact& fact : facts(0)) {
    add_row(base, fact.question, fact.answer), add_row(base, "In a word: " + fact.question, fact.word + ".");
    add_row(brief, fact.question, fact.word + ".");
  }
  for (const Fact& fact : facts(3)) add_row(moved, fact.question, fact.answer);
  write(village / "base.jsonl", base), write(village / "moved.jsonl", moved), write(village / "short.jsonl", brief);
  write_tokenizer(directory);
  write_untrained(directory);

  auto model = peft::load_model<float>(directory.string());
  const auto tokenizer = peft::load_tokenizer(directory.string());
  peft::freeze(model, peft::Everything{});
  const auto result = peft::Trainer{model, {.num_epochs = 150, .learning_rate = 3e-3, .batch_size = 8, .lr_scheduler = "cosine", .warmup_steps = 50}}.fit(
      peft::load_dataset((village / "base.jsonl").string(), tokenizer));
  peft::save_model(model, directory.string(), peft::DType::f16);
  fmt::print("{} steps, loss {:.4f}\n", result.steps, result.loss);
  fmt::print("{}\n", peft::generate(model, tokenizer, "Where does the baker live?", {.max_tokens = 40}));
}
