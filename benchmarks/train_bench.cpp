// SPDX-License-Identifier: Apache-2.0
// Training steps on a fixed batch, timed; one line of JSON with the fields of the PyTorch script that it is raced against
// (benchmarks/torch_train.py). From the same ids and the same fresh adapter the losses of both agree.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <peft/checkpoint/adapter_file.hpp>
#include <peft/checkpoint/load.hpp>
#include <peft/core/parallel.hpp>
#include <peft/freeze/freeze.hpp>
#include <peft/io/npy.hpp>
#include <peft/ops/isa.hpp>
#include <peft/optim/optim.hpp>
#include <peft/tokenizer/tokenizer.hpp>
#include <peft/train/trainer.hpp>

#include "../examples/peft/method_options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>

namespace {

using Model = peft::PeftModel<peft::Transformer<float>>;

struct Options {
  std::string model, method = "lora", targets, ids, adapter, e2e, dtype = "f32";
  std::int64_t r = 0, batch = 4, seq = 128, steps = 6, tokens_per_forward = peft::TrainingArguments().tokens_per_forward;
  double alpha = 0, label_fraction = 1, lr = 1e-4;
  int threads = 2;
  bool checkpointing = false;
  std::vector<std::string> set;
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
double mib(std::int64_t bytes) { return double(bytes) / (1 << 20); }
double rounded(double value, int digits) {
  const double scale = std::pow(10, digits);
  return std::round(value * scale) / scale;
}

/// What trains: an adapter, or the model itself. "forward" trains nothing.
void attach(Model& model, const Options& o) {
  if (!o.adapter.empty()) return peft::load_adapter(model, "bench", o.adapter, true);
  if (o.method == "lora" || o.method == "lora_all") {
    const bool all = o.method == "lora_all";
    peft::LoraConfig config{.r = o.r > 0 ? o.r : all ? 16 : 8};
    config.lora_alpha = o.alpha > 0 ? o.alpha : double(2 * config.r);
    if (o.targets == "all-linear" || (all && o.targets.empty()))
      config.target_modules = "all-linear";
    else
      config.target_modules = o.targets.empty() ? peft::TargetModules{"q_proj", "v_proj"} : peft::TargetModules(CLI::detail::split(o.targets, ','));
    model.add_adapter("bench", config);
  } else if (o.method == "full") {
    peft::freeze(model, [](const peft::ParameterInfo&) { return true; });
  } else if (o.method != "forward") {  // by the names that the command-line tool has, with PEFT's defaults
    tool::Settings settings;
    for (const std::string& one : o.set) {
      const std::size_t equals = std::min(one.find('='), one.size() - 1);
      settings.emplace_back(one.substr(0, equals), one.substr(equals + 1));
    }
    peft::add_adapter(model, "bench", tool::method_config(o.method, settings));
  }
}

/// Rows of ids: the file's, or random ones. The first labels are left out where only a fraction counts.
peft::Dataset fixed_rows(const Options& o, std::int64_t vocab_size) {
  std::vector<peft::Example> rows;
  const auto add = [&](std::vector<std::int32_t> ids) {
    const std::int64_t length = std::int64_t(ids.size()), ignored = length - std::llround(double(length) * o.label_fraction);
    std::vector<std::int32_t> labels = ids;
    std::fill_n(labels.begin(), ignored, peft::ignore_index);
    rows.push_back({std::move(ids), std::move(labels)});
  };
  if (!o.ids.empty()) {
    const auto all = peft::read_npy<std::int64_t>(o.ids);
    for (std::int64_t i = 0; i < all.rows(); i++) {
      const auto row = all.row_range(i, i + 1).span();
      if (std::ranges::any_of(row, [&](std::int64_t id) { return id < 0 || id >= vocab_size; }))
        throw peft::ConfigError("train_bench", o.ids + " holds an id that is not in [0, " + std::to_string(vocab_size) + ")");
      add({row.begin(), row.end()});
    }
    return peft::Dataset(std::move(rows));
  }
  peft::Random random(1);
  for (std::int64_t i = 0; i < o.batch; i++) {
    std::vector<std::int32_t> ids;
    for (std::int64_t t = 0; t < o.seq; t++) ids.push_back(std::int32_t(random.below(std::uint64_t(vocab_size))));
    add(std::move(ids));
  }
  return peft::Dataset(std::move(rows));
}

/// Lines `attributes||sentence`: the sentence and eos are learnt, behind the attributes and a line break.
peft::Dataset e2e_rows(const Options& o, const peft::TransformerConfig& config) {
  if (config.eos_token_ids.empty()) throw peft::ConfigError("train_bench", o.model + " names no eos token");
  const auto tokenizer = peft::load_tokenizer(o.model);
  const auto stripped = [](std::string text) {
    text.erase(text.find_last_not_of(" \t\r\n") + 1);
    text.erase(0, text.find_first_not_of(" \t\r\n"));
    return text;
  };
  std::ifstream file(o.e2e);
  std::vector<peft::Example> rows;
  for (std::string line; std::int64_t(rows.size()) < o.batch * o.steps && std::getline(file, line);) {
    const std::size_t border = line.find("||");
    if (border == line.npos) throw peft::FormatError(o.e2e, -1, "row " + std::to_string(rows.size() + 1) + " has no \"||\" between attributes and sentence");
    peft::Example row;
    row.input_ids = tokenizer.encode(stripped(line.substr(0, border)) + "\n");
    row.labels.assign(row.input_ids.size(), peft::ignore_index);
    for (std::int32_t id : tokenizer.encode(stripped(line.substr(border + 2)))) row.input_ids.push_back(id), row.labels.push_back(id);
    row.input_ids.push_back(config.eos_token_ids[0]), row.labels.push_back(config.eos_token_ids[0]);
    rows.push_back(std::move(row));
  }
  if (std::int64_t(rows.size()) < o.batch * o.steps)
    throw peft::FormatError(o.e2e, -1, std::to_string(rows.size()) + " rows; " + std::to_string(o.batch * o.steps) + " are wanted");
  return peft::Dataset(std::move(rows));
}

void run(const Options& o, double started) {
  peft::set_num_threads(o.threads);
  const double opened = now();
  auto base = peft::load_model<float>(o.model);
  const double loaded = now();
  const std::int64_t loaded_bytes = peft::memory::peak_resident_bytes();
  Model model{base};
  attach(model, o);
  const double attached = now();

  const peft::Dataset rows = o.e2e.empty() ? fixed_rows(o, base.config.vocab_size) : e2e_rows(o, base.config);
  const std::int64_t batch_size = o.e2e.empty() ? std::int64_t(rows.size()) : o.batch;
  std::vector<peft::Trainable<float>> trainables;
  model.visit_parameters([&](const peft::ParameterInfo& info, auto& parameter) {
    if (parameter.requires_grad()) trainables.push_back({info.path, parameter});
  });
  peft::AdamW<float> optimizer(std::move(trainables), {.weight_decay = 0.01});

  std::vector<double> seconds, losses;
  std::int64_t later_tokens = 0;
  double first_step = 0;
  for (std::int64_t step = 0; step < o.steps; step++) {
    std::vector<std::size_t> indices;
    for (std::int64_t i = 0; i < batch_size; i++) indices.push_back(std::size_t(o.e2e.empty() ? i : step * batch_size + i));
    const peft::Batch batch = peft::collate(rows, indices);
    const double start = now();
    double loss = 0;
    if (o.method == "forward") {
      const peft::NoGrad guard;
      loss = double(peft::lm_loss(model, batch).value()[0]);
    } else {
      loss = peft::accumulate_gradients(model, batch, double(batch.num_shifted_labels),
                                        {.training = true,
                                         .checkpointing = o.checkpointing,
                                         .forward = std::uint64_t(step),
                                         .compute_dtype = o.dtype == "bf16" ? peft::DType::bf16 : peft::DType::f32},
                                        o.tokens_per_forward);
      optimizer.step(o.lr);
      peft::zero_grad(optimizer.trainables());
    }
    seconds.push_back(now() - start), losses.push_back(rounded(loss, 5));
    if (step > 0) later_tokens += batch.tokens();
    if (step == 0) first_step = now() - started;
  }
  std::vector<double> later(seconds.begin() + (seconds.size() > 1), seconds.end());
  std::ranges::sort(later);
  std::int64_t tokens = rows.tokens();
  if (!o.e2e.empty()) {  // batches differ: the rate over all steps but the first
    double total = 0;
    for (double s : later) total += s;
    later = {total}, tokens = later_tokens;
  }
  const double best = later.front(), median = later[later.size() / 2];
  fmt::print(
      R"({{"engine": "peft-cpp", "isa": "{}", "dtype": "{}", "method": "{}", "batch": {}, "seq": {}, "threads": {}, "import_s": {}, "load_s": {}, "attach_s": {}, "first_step_s": {}, )"
      R"("step_best_s": {}, "step_median_s": {}, "tok_s_best": {}, "tok_s_median": {}, "rss_load_mib": {}, "rss_peak_mib": {}, "trainable": {}, "losses": [{}]}})"
      "\n",
      peft::name(peft::isa()), o.dtype, o.method, batch_size, o.e2e.empty() ? tokens / batch_size : rows.longest(), peft::num_threads(),
      rounded(opened - started, 3), rounded(loaded - opened, 3), rounded(attached - loaded, 3), rounded(first_step, 3), rounded(best, 4), rounded(median, 4),
      rounded(double(tokens) / best, 1), rounded(double(tokens) / median, 1), std::llround(mib(loaded_bytes)),
      std::llround(mib(peft::memory::peak_resident_bytes())), model.count_parameters().trainable, fmt::join(losses, ", "));
}

}  // namespace

int main(int argc, char** argv) {
  const double started = now();
  CLI::App app{"Times training steps and prints one line of JSON"};
  Options o;
  app.add_option("--model", o.model, "a Hugging Face directory or a GGUF file")->required();
  app.add_option("--method", o.method, "lora, lora_all, full, forward, or a method's name, as vera or prefix_tuning")->capture_default_str();
  app.add_option("--set", o.set, "OPTION=VALUE of such a method, as in adapter_config.json; again and again");
  app.add_option("--targets", o.targets, "modules, as q_proj,v_proj (the default) or all-linear");
  app.add_option("--r", o.r, "rank (8; 16 for lora_all)");
  app.add_option("--alpha", o.alpha, "lora_alpha (2 r)");
  app.add_option("--batch", o.batch)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--seq", o.seq)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--steps", o.steps)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--threads", o.threads)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--lr", o.lr)->capture_default_str();
  app.add_option("--ids", o.ids, "ids (batch, seq) as .npy, instead of random ones")->check(CLI::ExistingFile);
  app.add_option("--adapter", o.adapter, "the adapter to begin with, instead of a fresh one")->check(CLI::ExistingDirectory);
  app.add_option("--e2e", o.e2e, "lines `attributes||sentence`, `batch` new ones a step; tokens/s counts real tokens")->check(CLI::ExistingFile);
  app.add_option("--label-fraction", o.label_fraction, "how much of each row, from its end, is learnt")->capture_default_str()->check(CLI::Range(0.0, 1.0));
  app.add_option("--tokens-per-forward", o.tokens_per_forward, "a batch runs in parts of about so many tokens; 0: in one")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--dtype", o.dtype, "what products multiply: f32 or bf16")->capture_default_str()->check(CLI::IsMember({"f32", "bf16"}));
  app.add_flag("--checkpointing", o.checkpointing, "keep each block's input alone");
  CLI11_PARSE(app, argc, argv);
  try {
    run(o, started);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "train_bench: {}\n", error.what());
    return 1;
  }
}
