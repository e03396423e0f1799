// SPDX-License-Identifier: Apache-2.0
// Steps of LoRA and of P-Tuning v2 on models of the true shapes of ChatGLM-6B and mT0-large. Their weights are random and written as a Hugging Face
// directory, which is loaded as a user's would be and removed at the end; every method is measured in a process of its own. Ends with 1 where a method does
// not train as many numbers as its formula says, or takes more memory than --limit allows.
#include <fmt/core.h>
#include <peft/adapters/lora/lora.hpp>
#include <peft/adapters/prefix_tuning/prefix_tuning.hpp>
#include <peft/checkpoint/adapter_file.hpp>
#include <peft/checkpoint/load.hpp>
#include <peft/io/json.hpp>
#include <peft/io/safetensors.hpp>
#include <peft/train/trainer.hpp>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "random_model.hpp"

namespace {

namespace fs = std::filesystem;
using bench::now;
using Model = peft::PeftModel<peft::Transformer<float>>;

struct Options {
  std::string shape = "tiny", folder = fs::temp_directory_path().string(), quantize;
  std::vector<std::string> methods = {"lora", "prefix", "projection"};
  std::int64_t vocab = 130528, seq = 64, prefix = 128, rank = 8, steps = 2, shard_mb = 5000, projection_size = 0;
  double limit = 0;
  int threads = 2;
};

/// A shape: what config.json says, and every tensor of the file.
struct Shape {
  std::string config;
  std::vector<bench::NamedShape> tensors;
  std::vector<std::string> lora_targets;
  std::int64_t hidden = 0, layers = 0;  // of the decoder: what a prefix has keys and values for

  std::int64_t parameters() const {
    std::int64_t n = 0;
    for (const bench::NamedShape& t : tensors) n += t.shape.size();
    return n;
  }
  /// Σ r (in + out) of the targets.
  std::int64_t lora_parameters(std::int64_t rank) const {
    std::int64_t n = 0;
    for (const bench::NamedShape& t : tensors)
      for (const std::string& target : lora_targets)
        if (t.name.ends_with("." + target + ".weight")) n += rank * (t.shape.rows() + t.shape.columns());
    return n;
  }
  /// V 2 L d; behind an MLP with an inner width h, V d + h (d + 1) + 2 L d (h + 1).
  std::int64_t prefix_parameters(std::int64_t length, bool projection, std::int64_t inner) const {
    const std::int64_t all = 2 * layers * hidden;
    return projection ? length * hidden + inner * (hidden + 1) + all * (inner + 1) : length * all;
  }
};

/// ChatGLM-6B: 28 layers of 4096 with 32 heads, an MLP of 16384; the ids behind 130000 (or 150000, with those of images in front) are special.
Shape chatglm_6b(std::int64_t vocab, std::int64_t hidden, std::int64_t layers, std::int64_t heads, std::int64_t inner) {
  const std::int64_t special = vocab > 140000 ? 150000 : vocab > 130000 ? 130000 : vocab - 16;
  Shape s;
  s.config = fmt::format(R"({{"architectures": ["ChatGLMModel"], "model_type": "chatglm", "vocab_size": {}, "hidden_size": {}, "num_layers": {},
  "num_attention_heads": {}, "inner_hidden_size": {}, "max_sequence_length": 2048, "layernorm_epsilon": 1e-05, "position_encoding_2d": true,
  "bos_token_id": {}, "eos_token_id": {}, "mask_token_id": {}, "gmask_token_id": {}, "pad_token_id": 3, "torch_dtype": "float16"}})",
                         vocab, hidden, layers, heads, inner, special + 4, special + 5, special, special + 1);
  s.hidden = hidden, s.layers = layers, s.lora_targets = {"query_key_value"};
  const auto module = [&](const std::string& path, const peft::Shape& shape) {
    s.tensors.push_back({path + ".weight", shape}), s.tensors.push_back({path + ".bias", {shape[0]}});
  };
  s.tensors.push_back({"transformer.word_embeddings.weight", {vocab, hidden}});
  for (std::int64_t l = 0; l < layers; l++) {
    const std::string at = fmt::format("transformer.layers.{}.", l);
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) module(at + norm, {hidden});
    module(at + "attention.query_key_value", {3 * hidden, hidden}), module(at + "attention.dense", {hidden, hidden});
    module(at + "mlp.dense_h_to_4h", {inner, hidden}), module(at + "mlp.dense_4h_to_h", {hidden, inner});
  }
  module("transformer.final_layernorm", {hidden});
  s.tensors.push_back({"lm_head.weight", {vocab, hidden}});
  return s;
}

/// mT0-large: 24 + 24 layers of 1024 with 16 heads of 64, a gated MLP of 2816, 250112 ids, a head of its own.
Shape mt0(std::int64_t vocab, std::int64_t hidden, std::int64_t layers, std::int64_t heads, std::int64_t inner) {
  Shape s;
  s.config = fmt::format(R"({{"architectures": ["MT5ForConditionalGeneration"], "model_type": "mt5", "vocab_size": {}, "d_model": {}, "d_kv": 64, "d_ff": {},
  "num_layers": {}, "num_decoder_layers": {}, "num_heads": {}, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false,
  "is_encoder_decoder": true, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1, "torch_dtype": "float16"}})",
                         vocab, hidden, inner, layers, layers, heads);
  s.hidden = 64 * heads, s.layers = layers, s.lora_targets = {"q", "v"};
  const auto attention = [&](const std::string& at, const char* name, bool positions) {
    for (const char* part : {"q", "k", "v"})  // scores are not scaled: queries begin small, as T5's
      s.tensors.push_back({at + name + "." + part + ".weight", {64 * heads, hidden}, *part == 'q' ? 0.125 : 1});
    s.tensors.push_back({at + name + ".o.weight", {hidden, 64 * heads}}), s.tensors.push_back({at + "layer_norm.weight", {hidden}});
    if (positions) s.tensors.push_back({at + name + ".relative_attention_bias.weight", {32, heads}});
  };
  s.tensors.push_back({"shared.weight", {vocab, hidden}});
  for (const bool decoder : {false, true}) {
    const std::string stack = decoder ? "decoder." : "encoder.";
    for (std::int64_t l = 0; l < layers; l++) {
      const std::string at = fmt::format("{}block.{}.layer.", stack, l), mlp = at + (decoder ? "2." : "1.");
      attention(at + "0.", "SelfAttention", l == 0);
      if (decoder) attention(at + "1.", "EncDecAttention", false);
      for (const char* part : {"wi_0", "wi_1"}) s.tensors.push_back({mlp + "DenseReluDense." + part + ".weight", {inner, hidden}});
      s.tensors.push_back({mlp + "DenseReluDense.wo.weight", {hidden, inner}}), s.tensors.push_back({mlp + "layer_norm.weight", {hidden}});
    }
    s.tensors.push_back({stack + "final_layer_norm.weight", {hidden}});
  }
  s.tensors.push_back({"lm_head.weight", {vocab, hidden}});
  return s;
}

Shape shape_of(const Options& o) {
  if (o.shape == "chatglm-6b") return chatglm_6b(o.vocab, 4096, 28, 32, 16384);
  if (o.shape == "mt0-large") return mt0(250112, 1024, 24, 16, 2816);
  if (o.shape == "tiny-mt0") return mt0(4096, 128, 3, 2, 384);
  return chatglm_6b(8192, 256, 6, 4, 1024);
}

/// A directory that goes when its owner does.
class Folder {
 public:
  explicit Folder(const std::string& in) : path_(in + "/peft-sizes-XXXXXX") {
    if (!::mkdtemp(path_.data())) throw peft::Error("size_bench", "no directory can be made in " + in);
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

void write_directory(const Shape& shape, const std::string& path, std::int64_t max_shard_bytes) {
  std::vector<peft::TensorToWrite> tensors;
  for (const bench::NamedShape& t : shape.tensors)
    tensors.push_back({t.name, peft::DType::f16, t.shape, nullptr, [t](const auto& write) { bench::write_random(t, peft::DType::f16, write); }});
  peft::write_safetensors_directory(path, std::move(tensors), max_shard_bytes);
  peft::write_text_atomically(path + "/config.json", shape.config);
}

std::int64_t weight_bytes(const std::string& directory) {
  std::int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(directory))
    if (entry.path().extension() == ".safetensors") bytes += std::int64_t(entry.file_size());
  return bytes;
}

/// A line of /proc/self/status, in MiB; 0 where there is none.
double status_mib(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(key + ":")) return std::strtod(line.c_str() + key.size() + 1, nullptr) / 1024;
  return 0;
}

/// One sequence: of ChatGLM a text, its blank and an answer of half the length; of a pair a source, and a target of an eighth.
peft::Batch batch_of(const peft::TransformerConfig& config, std::int64_t length) {
  peft::Random random(1);
  const auto ids = [&](std::int64_t n) {
    std::vector<std::int32_t> drawn;
    for (std::int64_t i = 0; i < n; i++) drawn.push_back(std::int32_t(8 + random.below(std::uint64_t(config.vocab_size - 32))));
    return drawn;
  };
  peft::Example row;
  if (config.num_encoder_layers > 0) {
    row = peft::pair_example(ids(length), ids(std::max<std::int64_t>(length / 8, 2)));
  } else {
    row.input_ids = ids(length), row.labels.assign(std::size_t(length), peft::ignore_index);
    const std::int64_t begin = length / 2;
    row.input_ids[std::size_t(begin - 1)] = config.blank_tokens->gmask, row.input_ids[std::size_t(begin)] = config.blank_tokens->start;
    for (std::int64_t i = begin + 1; i < length; i++) row.labels[std::size_t(i)] = row.input_ids[std::size_t(i)];
  }
  const std::size_t first = 0;
  return peft::collate(peft::Dataset(std::vector<peft::Example>{std::move(row)}), std::span(&first, 1));
}

struct Result {
  double load_s = 0, first_s = 0, step_s = 0, first_loss = 0, last_loss = 0;
  double peak_mib = 0, anonymous_mib = 0, loaded_mib = 0, pool_mib = 0;
  std::int64_t tokens = 0, trainable = 0, adapter_bytes = 0;
};

Result measure(const Options& o, const Shape& shape, const std::string& directory, const std::string& method) {
  Result r;
  peft::LoadOptions load;
  if (!o.quantize.empty()) load.quantize = peft::ops::quantizable_named("size_bench", "--quantize", o.quantize);
  double start = now();
  auto base = peft::load_model<float>(directory, {}, load);
  r.load_s = now() - start, r.loaded_mib = double(peft::memory::statistics().peak) / (1 << 20);
  peft::memory::reset_peak();
  Model tuned{base};
  if (method == "lora")
    tuned.add_adapter("sized", peft::LoraConfig{.r = o.rank, .lora_alpha = 32, .target_modules = shape.lora_targets});
  else
    tuned.add_adapter("sized", peft::PrefixTuningConfig{
                                   .num_virtual_tokens = o.prefix, .encoder_hidden_size = o.projection_size, .prefix_projection = method == "projection"});
  const peft::Batch batch = batch_of(base.config, o.seq);
  {
    peft::AdamW<float> optimizer(peft::trainables_of<float>(tuned), {});
    for (std::int64_t step = 0; step < o.steps; step++) {
      start = now();
      const double loss = peft::accumulate_gradients(tuned, batch, double(batch.num_shifted_labels),
                                                     {.training = true, .checkpointing = true, .forward = std::uint64_t(step)}, 0);
      optimizer.step(1e-4);
      peft::zero_grad(optimizer.trainables());
      const double seconds = now() - start;
      if (step == 0) r.first_s = r.step_s = seconds, r.first_loss = loss;
      if (step > 0) r.step_s = step == 1 ? seconds : std::min(r.step_s, seconds);
      r.last_loss = loss;
    }
    r.anonymous_mib = status_mib("RssAnon"), r.pool_mib = double(peft::memory::statistics().peak) / (1 << 20);
  }
  r.peak_mib = double(peft::memory::peak_resident_bytes()) / (1 << 20);
  r.tokens = batch.tokens(), r.trainable = tuned.count_parameters().trainable;
  peft::save_adapter(tuned, "sized", directory + "/adapter");
  r.adapter_bytes = weight_bytes(directory + "/adapter");
  Model again{base};
  peft::load_adapter(again, "sized", directory + "/adapter");
  return r;
}

/// What is wrong with these numbers; empty if nothing is.
std::string complaint(const Options& o, const Shape& shape, const std::string& method, const Result& r) {
  const std::int64_t inner = o.projection_size > 0 ? o.projection_size : shape.hidden;
  const std::int64_t trained = method == "lora" ? shape.lora_parameters(o.rank) : shape.prefix_parameters(o.prefix, method == "projection", inner);
  const std::int64_t saved = method == "lora" ? trained : shape.prefix_parameters(o.prefix, false, 0);
  if (r.trainable != trained) return fmt::format("{} numbers train, the formula says {}", r.trainable, trained);
  if (r.adapter_bytes < 4 * saved || r.adapter_bytes > 4 * saved + (1 << 16)) return fmt::format("{} bytes for {} saved numbers", r.adapter_bytes, saved);
  if (!std::isfinite(r.first_loss) || (o.steps > 1 && !(r.last_loss < r.first_loss)))
    return fmt::format("the loss was {} and is {}", r.first_loss, r.last_loss);
  // Value, gradient and AdamW's two moments of all that trains; of the frozen weights nothing.
  const double own = r.pool_mib - 16 * double(trained) / (1 << 20);
  if (o.limit > 0 && own > o.limit) return fmt::format("{:.1f} MiB beside what trains; --limit is {}", own, o.limit);
  return "";
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Shows what tuning a large model takes; one line of JSON a method"};
  Options o;
  app.add_option("--shape", o.shape)->capture_default_str()->check(CLI::IsMember({"chatglm-6b", "mt0-large", "tiny", "tiny-mt0"}));
  app.add_option("--vocab", o.vocab, "of chatglm-6b: 130528, or 150528 as in its first release")->capture_default_str()->check(CLI::IsMember({130528, 150528}));
  app.add_option("--folder", o.folder, "where the weights go, and are removed from; chatglm-6b wants 13 GB")
      ->capture_default_str()
      ->check(CLI::ExistingDirectory);
  app.add_option("--shard-mb", o.shard_mb, "the largest file")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--quantize", o.quantize, "while loading: nf4, q8_0, q4_0, …");
  app.add_option("--methods", o.methods, "lora, prefix (P-Tuning v2), projection (prefix tuning)")
      ->capture_default_str()
      ->check(CLI::IsMember({"lora", "prefix", "projection"}));
  app.add_option("--seq", o.seq)->capture_default_str()->check(CLI::Range(4, 2000));
  app.add_option("--prefix", o.prefix, "virtual tokens")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--projection-size", o.projection_size, "inner width of the projection; 0: that of the model")->capture_default_str();
  app.add_option("--rank", o.rank)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--steps", o.steps, "the first one also reads the file; the best of the others counts")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--limit", o.limit, "MiB that a method may take beside its parameters, their gradients and moments");
  app.add_option("--threads", o.threads)->capture_default_str()->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  try {
    const Shape shape = shape_of(o);
    const Folder folder(o.folder);
    const double start = now();
    write_directory(shape, folder.path(), o.shard_mb * 1'000'000);
    const std::int64_t bytes = weight_bytes(folder.path());
    fmt::print(R"({{"shape": "{}", "parameters": {}, "file_mib": {:.0f}, "write_s": {:.1f}}})"
               "\n",
               o.shape, shape.parameters(), double(bytes) / (1 << 20), now() - start);
    std::fflush(stdout);
    bool wrong = false;
    for (const std::string& method : o.methods) {
      const Result r = bench::apart("size_bench", o.threads, [&] { return measure(o, shape, folder.path(), method); });
      fmt::print(R"({{"shape": "{}", "quantize": "{}", "method": "{}", "trainable": {}, "adapter_bytes": {}, "load_s": {:.2f}, "tokens": {}, )"
                 R"("first_step_s": {:.2f}, "step_s": {:.2f}, "tok_s": {:.1f}, "rss_peak_mib": {:.0f}, "above_file_mib": {:.0f}, "anonymous_mib": {:.0f}, )"
                 R"("load_pool_mib": {:.1f}, "pool_peak_mib": {:.1f}, "loss": [{:.4f}, {:.4f}]}})"
                 "\n",
                 o.shape, o.quantize, method, r.trainable, r.adapter_bytes, r.load_s, r.tokens, r.first_s, r.step_s, double(r.tokens) / r.step_s, r.peak_mib,
                 r.peak_mib - double(bytes) / (1 << 20), r.anonymous_mib, r.loaded_mib, r.pool_mib, r.first_loss, r.last_loss);
      std::fflush(stdout);
      if (const std::string what = complaint(o, shape, method, r); !what.empty()) {
        fmt::print(stderr, "size_bench: {}: {}\n", method, what);
        wrong = true;
      }
    }
    return wrong ? 1 : 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "size_bench: {}\n", error.what());
    return 1;
  }
}
