// SPDX-License-Identifier: Apache-2.0
// What each method costs on one model: attaching, a forward, a forward with backward, merging, saving, loading, switching. A line of JSON a method,
// with the fields of its peer benchmarks/torch_methods.py.
#include <fmt/core.h>
#include <peft/checkpoint/adapter_file.hpp>
#include <peft/checkpoint/load.hpp>
#include <peft/core/parallel.hpp>
#include <peft/ops/isa.hpp>
#include <peft/train/trainer.hpp>

#include "../examples/peft/method_options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

namespace {

namespace fs = std::filesystem;
using Model = peft::PeftModel<peft::Transformer<float>>;

struct Options {
  std::string model;
  std::vector<std::string> methods;
  std::int64_t batch = 2, seq = 128, runs = 3;
  int threads = 2;
};

/// The best of some runs, in milliseconds.
template <class F>
double best_ms(std::int64_t runs, F f) {
  double best = 1e30;
  for (std::int64_t i = 0; i < runs; i++) {
    const auto start = std::chrono::steady_clock::now();
    f();
    best = std::min(best, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

/// "lora:r=16:target_modules=all-linear" is a method and its options.
peft::AnyAdapterConfig parse(const std::string& text) {
  std::vector<std::string> parts = CLI::detail::split(text, ':');
  tool::Settings settings;
  for (std::size_t i = 1; i < parts.size(); i++) {
    const std::size_t equals = parts[i].find('=');
    if (equals == parts[i].npos) throw peft::ConfigError("method_bench", parts[i] + "; OPTION=VALUE is wanted");
    settings.emplace_back(parts[i].substr(0, equals), parts[i].substr(equals + 1));
  }
  return tool::method_config(parts[0], settings);
}

peft::Batch fixed_batch(const Options& o, std::int64_t vocab_size) {
  peft::Random random(1);
  std::vector<peft::Example> rows;
  std::vector<std::size_t> all;
  for (std::int64_t i = 0; i < o.batch; i++) {
    std::vector<std::int32_t> ids;
    for (std::int64_t t = 0; t < o.seq; t++) ids.push_back(std::int32_t(random.below(std::uint64_t(vocab_size))));
    rows.push_back({ids, ids}), all.push_back(std::size_t(i));
  }
  return peft::collate(peft::Dataset(std::move(rows)), all);
}

void measure(peft::Transformer<float>& base, const peft::Batch& batch, const std::string& text, const Options& o) {
  const peft::AnyAdapterConfig wanted = parse(text);
  Model model{base};
  const auto attach = [&](const std::string& name) { std::visit([&](const auto& config) { model.add_adapter(name, config); }, wanted); };
  const auto forward = [&] {
    const peft::NoGrad guard;
    return double(peft::lm_loss(model, batch).value()[0]);
  };
  const double attached = best_ms(1, [&] { attach("one"); });
  std::vector<peft::Trainable<float>> trainables;
  model.visit_parameters([&](const peft::ParameterInfo& info, auto& parameter) {
    if (parameter.requires_grad()) trainables.push_back({info.path, parameter});
  });
  const double eval = best_ms(o.runs + 1, forward);
  const double step = best_ms(o.runs + 1, [&] {
    peft::accumulate_gradients(model, batch, double(batch.num_shifted_labels), {.training = true}, 0);
    peft::zero_grad(trainables);
  });
  std::string merging = R"("merge_ms": null, "unmerge_ms": null, "merged_forward_ms": null)";
  try {
    const double merge = best_ms(1, [&] { model.merge_adapter(); }), merged = best_ms(o.runs, forward), unmerge = best_ms(1, [&] { model.unmerge_adapter(); });
    merging = fmt::format(R"("merge_ms": {:.2f}, "unmerge_ms": {:.3f}, "merged_forward_ms": {:.1f})", merge, unmerge, merged);
  } catch (const peft::Error&) {  // prompts and gates on what has no weight cannot be merged
  }
  const fs::path folder = fs::temp_directory_path() / fmt::format("peft_method_bench_{}", std::chrono::steady_clock::now().time_since_epoch().count());
  const double save = best_ms(o.runs, [&] { peft::save_adapter(model, "one", folder.string()); });
  std::uintmax_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") bytes += entry.file_size();
  int loads = 0;
  const double load = best_ms(o.runs, [&] { peft::load_adapter(model, "loaded" + std::to_string(loads++), folder.string()); });
  fs::remove_all(folder);
  const double change = best_ms(100, [&] { model.set_adapter({"loaded0"}), model.set_adapter({"one"}); }) / 2;
  const auto count = model.count_parameters();
  for (const std::string& name : model.adapter_names()) model.delete_adapter(name);
  fmt::print(R"({{"engine": "peft-cpp", "isa": "{}", "method": "{}", "trainable": {}, "bytes": {}, "attach_ms": {:.1f}, "forward_ms": {:.1f}, )"
             R"("step_ms": {:.1f}, {}, "save_ms": {:.2f}, "load_ms": {:.2f}, "switch_ms": {:.4f}}})"
             "\n",
             peft::name(peft::isa()), text, count.trainable, bytes, attached, eval, step, merging, save, load, change);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times what each method does, a line of JSON a method"};
  Options o;
  app.add_option("--model", o.model, "a Hugging Face directory or a GGUF file")->required();
  app.add_option("--methods", o.methods, "METHOD[:OPTION=VALUE…] …; every method with its defaults where none is given");
  app.add_option("--batch", o.batch)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--seq", o.seq)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--runs", o.runs, "the best of them counts")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--threads", o.threads)->capture_default_str()->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  if (o.methods.empty()) o.methods = tool::method_names();
  try {
    peft::set_num_threads(o.threads);
    auto base = peft::load_model<float>(o.model);
    const peft::Batch batch = fixed_batch(o, base.config.vocab_size);
    for (const std::string& method : o.methods) try {
        measure(base, batch, method, o);
      } catch (const peft::Error& error) {
        fmt::print(stderr, "left out: {}: {}\n", method, error.what());
      }
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "method_bench: {}\n", error.what());
    return 1;
  }
}
