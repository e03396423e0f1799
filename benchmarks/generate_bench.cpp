// SPDX-License-Identifier: Apache-2.0
// Reading a prompt and decoding, timed; one line of JSON. The prompt is random ids, decoding is greedy and does not stop at eos.
#include <fmt/core.h>
#include <peft/checkpoint/adapter_file.hpp>
#include <peft/checkpoint/load.hpp>
#include <peft/core/parallel.hpp>
#include <peft/generate/generate.hpp>
#include <peft/ops/gemm.hpp>
#include <peft/ops/isa.hpp>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>

namespace {

struct Options {
  std::string model, adapter, dtype = "f32";
  std::int64_t prompt = 64, fresh = 128, batch = 1, beams = 1, runs = 5;
  int threads = 2;
  bool half_cache = false;
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
double rounded(double value, int digits) { return std::round(value * std::pow(10, digits)) / std::pow(10, digits); }

struct Timing {
  double prefill = 1e30, decode = 1e30;  // seconds; the best of the runs
};

template <class M>
Timing measure(const M& model, const Options& o) {
  peft::Random random(1);
  std::vector<std::vector<std::int32_t>> prompts(std::size_t(o.batch), std::vector<std::int32_t>(std::size_t(o.prompt)));
  for (auto& prompt : prompts)
    for (std::int32_t& id : prompt) id = std::int32_t(random.below(std::uint64_t(model.model().config.vocab_size)));
  peft::GenerationConfig config;
  config.max_new_tokens = o.fresh, config.eos_token_ids.emplace();
  config.num_beams = o.beams, config.batch_size = o.batch, config.half_cache = o.half_cache;
  Timing best;
  for (std::int64_t run = 0; run < o.runs; run++) {
    const double start = now();
    const auto answers = peft::generate_ids(model, prompts, config);
    const double whole = now() - start, prefill = answers.at(0).prefill_seconds;
    best.prefill = std::min(best.prefill, prefill), best.decode = std::min(best.decode, whole - prefill);
  }
  return best;
}

void run(const Options& o, double started) {
  peft::set_num_threads(o.threads);
  const peft::ops::UseComputeDtype products(o.dtype == "bf16" ? peft::DType::bf16 : peft::DType::f32);
  const double opened = now();
  auto base = peft::load_model<float>(o.model);
  const double loaded = now();
  peft::PeftModel model{base};
  if (!o.adapter.empty()) peft::load_adapter(model, "bench", o.adapter);
  Options first = o;
  first.fresh = 1, first.runs = 1;
  measure(model, first);
  const double first_token = now() - started;
  const Timing t = measure(model, o);
  fmt::print(
      R"({{"engine": "peft-cpp", "isa": "{}", "dtype": "{}", "prompt": {}, "new": {}, "batch": {}, "beams": {}, "threads": {}, "adapter": {}, "load_s": {}, "first_token_s": {}, )"
      R"("prefill_tok_s": {}, "decode_tok_s": {}, "rss_peak_mib": {}}})"
      "\n",
      peft::name(peft::isa()), o.dtype, o.prompt, o.fresh, o.batch, o.beams, peft::num_threads(), !o.adapter.empty(), rounded(loaded - opened, 3),
      rounded(first_token, 3), rounded(double(o.prompt * o.batch) / t.prefill, 1), rounded(double((o.fresh - 1) * o.batch) / t.decode, 1),
      std::llround(double(peft::memory::peak_resident_bytes()) / (1 << 20)));
}

}  // namespace

int main(int argc, char** argv) {
  const double started = now();
  CLI::App app{"Times reading a prompt and decoding, and prints one line of JSON"};
  Options o;
  app.add_option("--model", o.model, "a Hugging Face directory or a GGUF file")->required();
  app.add_option("--adapter", o.adapter, "an adapter that is active, not merged")->check(CLI::ExistingDirectory);
  app.add_option("--prompt", o.prompt, "tokens of each prompt")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--new", o.fresh, "tokens to decode")->capture_default_str()->check(CLI::Range(2, 1 << 20));
  app.add_option("--batch", o.batch, "prompts decoded together")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--beams", o.beams)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--runs", o.runs, "the best of them counts")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--dtype", o.dtype, "what the products of prompts multiply: f32 or bf16")->capture_default_str()->check(CLI::IsMember({"f32", "bf16"}));
  app.add_flag("--half-cache", o.half_cache, "keys and values are kept as F16");
  app.add_option("--threads", o.threads)->capture_default_str()->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  try {
    run(o, started);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "generate_bench: {}\n", error.what());
    return 1;
  }
}
