// SPDX-License-Identifier: Apache-2.0
// How the time and memory of a LoRA step grow with the length of a sequence, the batch, layers, rank and vocabulary; and one step of models
// of 1.2 and 7 billion weights. Their weights are random and written to a temporary file, which is mapped as a user's would be. Each
// measurement is a process of its own, so that its peak memory is its own.
#include <fmt/core.h>
#include <sys/mman.h>
#include <peft/adapters/lora/lora.hpp>
#include <peft/checkpoint/load.hpp>
#include <peft/train/trainer.hpp>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "random_model.hpp"

namespace {

using bench::now;

struct Setting {
  std::int64_t hidden = 256, inner = 704, layers = 4, heads = 4, kv_heads = 2, vocab = 8192, seq = 256, batch = 1, rank = 8, steps = 3;
  peft::DType storage = peft::DType::f32;
  bool checkpointing = false;
};

/// A Llama of random weights in a mapped file that is gone as soon as it is closed.
class RandomModel {
 public:
  RandomModel(const Setting& s, const std::string& folder) {
    config_.model_type = "llama", config_.name = "random";
    config_.vocab_size = s.vocab, config_.hidden_size = s.hidden, config_.num_hidden_layers = s.layers, config_.max_position_embeddings = 8192;
    config_.attention.num_attention_heads = s.heads, config_.attention.num_key_value_heads = s.kv_heads, config_.attention.head_dim = s.hidden / s.heads;
    config_.attention.rope = peft::RopeConfig{};
    config_.mlp.intermediate_size = s.inner;
    const std::int64_t kv = s.kv_heads * s.hidden / s.heads;
    add("model.embed_tokens.weight", {s.vocab, s.hidden}, s.storage), add("model.norm.weight", {s.hidden}, peft::DType::f32);
    for (std::int64_t l = 0; l < s.layers; l++) {
      const std::string path = "model.layers." + std::to_string(l) + ".";
      for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) add(path + norm + ".weight", {s.hidden}, peft::DType::f32);
      for (const char* name : {"self_attn.q_proj", "self_attn.o_proj"}) add(path + name + ".weight", {s.hidden, s.hidden}, s.storage);
      for (const char* name : {"self_attn.k_proj", "self_attn.v_proj"}) add(path + name + ".weight", {kv, s.hidden}, s.storage);
      for (const char* name : {"mlp.gate_proj", "mlp.up_proj"}) add(path + name + ".weight", {s.inner, s.hidden}, s.storage);
      add(path + "mlp.down_proj.weight", {s.hidden, s.inner}, s.storage);
    }
    write(folder);
  }

  peft::ModelFile file() const {
    peft::ModelFile file;
    file.path = "random", file.config = config_, file.architecture = &peft::architecture_of_model_type("llama");
    file.bytes = bytes_;
    file.find = [this](const std::string& name) -> std::optional<peft::StoredTensor> {
      const auto at = tensors_.find(name);
      if (at == tensors_.end()) return std::nullopt;
      const Entry& e = at->second;
      return peft::StoredTensor{{mapped_.get() + e.offset, e.type, e.shape.rows(), e.shape.columns()}, e.shape, mapped_};
    };
    return file;
  }

 private:
  struct Entry {
    peft::Shape shape;
    peft::DType type;
    std::int64_t offset;
  };
  void add(const std::string& name, const peft::Shape& shape, peft::DType type) {
    tensors_[name] = {shape, type, bytes_};
    bytes_ += (peft::bytes_of(type, shape.size()) + 63) / 64 * 64;
  }
  void write(const std::string& folder) {
    std::string path = folder + "/peft-random-XXXXXX";
    const int file = ::mkstemp(path.data());
    if (file < 0) throw peft::Error("scaling_bench", "no file can be made in " + folder);
    ::unlink(path.c_str());
    for (const auto& [name, e] : tensors_) {
      std::int64_t at = e.offset;
      bench::write_random({name, e.shape}, e.type, [&](const void* piece, std::size_t n) {
        if (::pwrite(file, piece, n, at) != ssize_t(n))
          throw peft::Error("scaling_bench", "the disk of " + folder + " is full; " + std::to_string(bytes_ >> 20) + " MiB are wanted");
        at += std::int64_t(n);
      });
    }
    if (::ftruncate(file, bytes_) != 0) throw peft::Error("scaling_bench", "the file in " + folder + " cannot be made long enough");
    void* const data = ::mmap(nullptr, std::size_t(bytes_), PROT_READ, MAP_SHARED, file, 0);
    ::close(file);
    if (data == MAP_FAILED) throw peft::Error("scaling_bench", "the file cannot be mapped");
    mapped_ = {static_cast<std::byte*>(data), [n = bytes_](std::byte* p) { ::munmap(p, std::size_t(n)); }};
  }

  peft::TransformerConfig config_;
  std::map<std::string, Entry> tensors_;
  std::int64_t bytes_ = 0;
  std::shared_ptr<std::byte> mapped_;
};

struct Result {
  double seconds = 0, rss_mib = 0, file_mib = 0;
};

Result measure(const Setting& s, const std::string& folder) {
  const RandomModel random(s, folder);
  const peft::ModelFile file = random.file();
  auto base = peft::build_model<float>(file);
  peft::PeftModel tuned{base};
  tuned.add_adapter("bench", peft::LoraConfig{.r = s.rank, .lora_alpha = 16, .target_modules = {"q_proj", "v_proj"}});
  std::vector<peft::Trainable<float>> trainables;
  tuned.visit_parameters([&](const peft::ParameterInfo& info, auto& parameter) {
    if (parameter.requires_grad()) trainables.push_back({info.path, parameter});
  });
  peft::AdamW<float> optimizer(std::move(trainables), {});
  std::vector<peft::Example> rows(std::size_t(s.batch));
  peft::Random ids(1);
  for (peft::Example& row : rows)
    for (std::int64_t t = 0; t < s.seq; t++)
      row.input_ids.push_back(std::int32_t(ids.below(std::uint64_t(s.vocab)))), row.labels.push_back(row.input_ids.back());
  const peft::Dataset data(std::move(rows));
  std::vector<std::size_t> all(std::size_t(s.batch));
  for (std::size_t i = 0; i < all.size(); i++) all[i] = i;
  const peft::Batch batch = peft::collate(data, all);
  double best = 1e30;
  for (std::int64_t step = 0; step < s.steps; step++) {
    const double start = now();
    // In one forward, so that what grows with the batch is seen to grow.
    peft::accumulate_gradients(tuned, batch, double(batch.num_shifted_labels), {.training = true, .checkpointing = s.checkpointing}, 0);
    optimizer.step(1e-4);
    peft::zero_grad(optimizer.trainables());
    if (step > 0 || s.steps == 1) best = std::min(best, now() - start);
  }
  return {best, double(peft::memory::peak_resident_bytes()) / (1 << 20), double(file.bytes) / (1 << 20)};
}

Result apart(const Setting& s, const std::string& folder, int threads) {
  return bench::apart("scaling_bench", threads, [&] { return measure(s, folder); });
}

struct Axis {
  const char* name;
  std::int64_t Setting::*field;
  std::vector<std::int64_t> values;
};

void report(const Setting& s, const char* what, const Result& r) {
  fmt::print(R"({{"vary": "{}", "hidden": {}, "layers": {}, "vocab": {}, "seq": {}, "batch": {}, "rank": {}, "storage": "{}", "checkpointing": {}, )"
             R"("step_s": {:.4f}, "tok_s": {:.1f}, "file_mib": {:.0f}, "rss_peak_mib": {:.0f}}})"
             "\n",
             what, s.hidden, s.layers, s.vocab, s.seq, s.batch, s.rank, peft::name(s.storage), s.checkpointing, r.seconds, double(s.seq * s.batch) / r.seconds,
             r.file_mib, r.rss_mib);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<Axis> axes = {{"seq", &Setting::seq, {64, 128, 256, 512, 1024, 2048, 4096}},
                                  {"batch", &Setting::batch, {1, 2, 4, 8, 16}},
                                  {"layers", &Setting::layers, {2, 4, 8, 16}},
                                  {"rank", &Setting::rank, {4, 8, 16, 32, 64}},
                                  {"vocab", &Setting::vocab, {2048, 8192, 32768, 131072}}};
  CLI::App app{"Shows how a LoRA step's time and memory grow; one line of JSON a measurement"};
  std::string vary = "all", shape, folder = std::filesystem::temp_directory_path().string();
  int threads = 2;
  app.add_option("--vary", vary, "seq, batch, layers, rank, vocab or all")
      ->capture_default_str()
      ->check(CLI::IsMember({"seq", "batch", "layers", "rank", "vocab", "all"}));
  app.add_option("--shape", shape,
                 "instead: one step at 256 tokens with checkpointing of 1.2b (hidden 1024, as many layers as 24 + 24 of an encoder-decoder weigh, F16) or 7b "
                 "(Llama's, Q4_0)")
      ->check(CLI::IsMember({"1.2b", "7b"}));
  app.add_option("--folder", folder, "where the random weights go; 7b wants 4 GB")->capture_default_str()->check(CLI::ExistingDirectory);
  app.add_option("--threads", threads)->capture_default_str()->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  try {
    if (!shape.empty()) {
      Setting s;
      if (shape == "7b")
        s = {.hidden = 4096, .inner = 11008, .layers = 32, .heads = 32, .kv_heads = 32, .vocab = 32000, .steps = 2, .storage = peft::DType::q4_0};
      else
        s = {.hidden = 1024, .inner = 2816, .layers = 75, .heads = 16, .kv_heads = 16, .vocab = 250112, .steps = 2, .storage = peft::DType::f16};
      s.checkpointing = true;
      report(s, shape.c_str(), apart(s, folder, threads));
      return 0;
    }
    for (const Axis& axis : axes) {
      if (vary != "all" && vary != axis.name) continue;
      double first = 0, last = 0, first_memory = 0, last_memory = 0;
      for (std::int64_t value : axis.values) {
        Setting s;
        s.*axis.field = value;
        const Result r = apart(s, folder, threads);
        report(s, axis.name, r);
        if (first == 0) first = r.seconds, first_memory = r.rss_mib;
        last = r.seconds, last_memory = r.rss_mib;
      }
      const double times = double(axis.values.back()) / double(axis.values.front());
      fmt::print(stderr, "{}: {} times as much is {:.1f} times the time and {:.0f} MiB more\n", axis.name, times, last / first, last_memory - first_memory);
    }
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "scaling_bench: {}\n", error.what());
    return 1;
  }
}
