// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <peft/data/formats.hpp>
#include <peft/train/trainer.hpp>

#include <filesystem>
#include <memory>

#include "common.hpp"
#include "progress.hpp"

namespace tool {

namespace {

struct Options {
  ModelOptions model;
  std::string data, eval_data, method = "lora", out = "out", targets, scheduler = "linear", bias = "none";
  std::int64_t r = 16, batch = 8, accumulation = 1, max_length = 512, warmup_steps = 0, save_steps = 0, eval_steps = 0, max_steps = -1;
  std::int64_t epochs = 3;
  double alpha = 0, lr = 1e-3, dropout = 0, weight_decay = 0.01, max_grad_norm = 1, warmup_ratio = 0.05;
  std::uint64_t seed = 42;
  bool rslora = false, checkpointing = false, resume = false, group_by_length = false;
};

// The call that goes on with this run.
std::string resume_call(const Options& o) {
  std::string call = "peft train --model " + shell_word(o.model.model) + " --data " + shell_word(o.data) + " --out " + shell_word(o.out);
  if (!o.targets.empty()) call += " --targets " + shell_word(o.targets);
  const auto number = [&](const char* name, const auto& value, const auto& usual) {
    if (value != usual) call += fmt::format(" {} {}", name, value);
  };
  const Options usual;
  number("--r", o.r, usual.r), number("--alpha", o.alpha, usual.alpha), number("--epochs", o.epochs, usual.epochs), number("--batch", o.batch, usual.batch);
  number("--lr", o.lr, usual.lr), number("--dropout", o.dropout, usual.dropout), number("--accumulation", o.accumulation, usual.accumulation);
  number("--max-length", o.max_length, usual.max_length), number("--max-steps", o.max_steps, usual.max_steps), number("--seed", o.seed, usual.seed);
  number("--scheduler", o.scheduler, usual.scheduler), number("--warmup-steps", o.warmup_steps, usual.warmup_steps), number("--warmup-ratio", o.warmup_ratio, usual.warmup_ratio);
  number("--weight-decay", o.weight_decay, usual.weight_decay), number("--max-grad-norm", o.max_grad_norm, usual.max_grad_norm), number("--bias", o.bias, usual.bias);
  if (o.rslora) call += " --rslora";
  if (o.checkpointing) call += " --checkpointing";
  if (o.group_by_length) call += " --group-by-length";
  if (!o.eval_data.empty()) call += " --eval-data " + shell_word(o.eval_data);
  return call + " --resume";
}

peft::LoraConfig lora_config(const Options& o) {
  peft::LoraConfig config{.r = o.r, .lora_alpha = o.alpha > 0 ? o.alpha : double(2 * o.r)};
  if (o.targets == "all-linear") config.target_modules = "all-linear";
  else if (!o.targets.empty()) config.target_modules = CLI::detail::split(o.targets, ',');
  config.lora_dropout = o.dropout, config.use_rslora = o.rslora, config.bias = o.bias;
  return config;
}

void train(const Options& o) {
  if (o.method != "lora") {
    const std::vector<std::string> known = {"lora"};
    throw peft::ConfigError("train", "method \"" + o.method + "\" is not known" + peft::did_you_mean(o.method, known, "methods here"));
  }
  Opened opened(o.model);
  const auto tokenizer = peft::load_tokenizer(o.model.model);
  opened.tuned.add_adapter("default", lora_config(o), o.seed);
  const auto count = opened.tuned.count_parameters();
  const peft::Dataset data = peft::load_dataset(o.data, tokenizer, {.max_length = o.max_length});
  const peft::Dataset eval = o.eval_data.empty() ? peft::Dataset() : peft::load_dataset(o.eval_data, tokenizer, {.max_length = o.max_length});

  fmt::print("{}\n", describe(opened));
  fmt::print("LoRA r={} on {}   {}\n", o.r, std::any_cast<peft::LoraConfig>(opened.tuned.entry("default").config).target_modules.text(), peft::to_string(count));
  const std::int64_t typical = o.batch * data.tokens() / std::max<std::int64_t>(1, std::int64_t(data.size()));
  fmt::print("Data   {}, {} a batch   estimate: {}\n", data.summary(), o.batch,
             bytes_text(opened.file.bytes + training_memory(opened, typical * 5 / 4, count.trainable, o.checkpointing)));
  if (data.report().truncated) fmt::print("       {} examples are longer than --max-length {} and were cut\n", data.report().truncated, o.max_length);

  peft::TrainingArguments args;
  args.num_epochs = o.epochs, args.max_steps = o.max_steps, args.learning_rate = o.lr, args.batch_size = o.batch, args.gradient_accumulation_steps = o.accumulation;
  args.lr_scheduler = o.scheduler, args.warmup_steps = o.warmup_steps, args.warmup_ratio = o.warmup_ratio, args.weight_decay = o.weight_decay;
  args.max_grad_norm = o.max_grad_norm, args.seed = o.seed, args.checkpointing = o.checkpointing, args.group_by_length = o.group_by_length;
  args.eval_steps = o.eval_steps, args.save_steps = o.save_steps, args.output_dir = o.out, args.resume = o.resume;

  double loss_before = 0;
  if (!eval.empty()) {
    const auto quiet = opened.tuned.disable_adapters();
    loss_before = peft::evaluate(opened.tuned, eval).loss;
  }
  ProgressBar bar(args.num_epochs);
  watch_for_interrupt();
  peft::TrainingCallbacks callbacks;
  callbacks.on_step = [&](const peft::TrainingProgress& p) { bar.show(p); };
  callbacks.on_evaluate = [&](const peft::TrainingProgress& p, const peft::Evaluation& e) {
    bar.line(fmt::format("eval   step {}   loss {:.3f}   perplexity {:.2f}", p.step, e.loss, e.perplexity()));
  };
  callbacks.should_stop = [] { return interrupted(); };
  const auto result = peft::Trainer{opened.tuned, args, callbacks}.fit(data, eval);
  bar.finish();

  peft::save_adapter(opened.tuned, "default", o.out, std::filesystem::path(o.model.model).lexically_normal().string());
  if (result.interrupted) {
    fmt::print("stopped after step {}; the adapter so far is in {}/\ngo on with  {}\n", result.steps, o.out, resume_call(o));
    return;
  }
  if (!eval.empty()) {
    const auto after = peft::evaluate(opened.tuned, eval);
    fmt::print("eval   loss {:.3f} → {:.3f}   perplexity {:.2f} → {:.2f}\n", loss_before, after.loss, std::exp(loss_before), after.perplexity());
  }
  fmt::print("saved  {}/ (adapter_config.json, adapter_model.safetensors {}; training state to resume from in {}/state)\n", o.out,
             bytes_text(std::int64_t(std::filesystem::file_size(std::filesystem::path(o.out) / "adapter_model.safetensors"))), o.out);
  fmt::print("next   peft generate --model {} --adapter {} --prompt \"…\"\n", shell_word(o.model.model), shell_word(o.out));
}

}  // namespace

void add_train(CLI::App& app) {
  auto* command = app.add_subcommand("train", "Train an adapter and save it as PEFT does");
  const auto o = std::make_shared<Options>();
  o->model.add_to(*command, false);
  command->add_option("--data,-d", o->data, "JSON lines: {\"question\", \"answer\"}, {\"prompt\", \"completion\"}, {\"instruction\", \"output\"}, {\"messages\"} or {\"text\"}")
      ->required()
      ->check(CLI::ExistingFile);
  command->add_option("--eval-data", o->eval_data, "the same for held-out rows: loss before and after")->check(CLI::ExistingFile);
  command->add_option("--out,-o", o->out, "where the adapter goes")->capture_default_str();
  command->add_option("--method", o->method, "lora")->capture_default_str();
  command->add_option("--r", o->r, "rank")->capture_default_str()->group("LoRA");
  command->add_option("--alpha", o->alpha, "lora_alpha; the update is scaled by alpha / r (2 r)")->group("LoRA");
  command->add_option("--targets", o->targets, "modules: q_proj,v_proj, or all-linear (PEFT's default for the architecture)")->group("LoRA");
  command->add_option("--dropout", o->dropout, "lora_dropout")->capture_default_str()->group("LoRA");
  command->add_option("--bias", o->bias, "none, all or lora_only")->capture_default_str()->group("LoRA");
  command->add_flag("--rslora", o->rslora, "scale by alpha / √r")->group("LoRA");
  command->add_option("--epochs", o->epochs)->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--max-steps", o->max_steps, "instead of --epochs");
  command->add_option("--lr", o->lr, "learning rate")->capture_default_str();
  command->add_option("--batch", o->batch, "sequences a step")->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--accumulation", o->accumulation, "batches whose gradients make one step")->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--max-length", o->max_length, "tokens; longer rows are cut")->capture_default_str();
  command->add_option("--scheduler", o->scheduler, "constant, linear or cosine")->capture_default_str();
  command->add_option("--warmup-steps", o->warmup_steps)->capture_default_str();
  command->add_option("--warmup-ratio", o->warmup_ratio)->capture_default_str();
  command->add_option("--weight-decay", o->weight_decay)->capture_default_str();
  command->add_option("--max-grad-norm", o->max_grad_norm, "0: no clipping")->capture_default_str();
  command->add_option("--seed", o->seed)->capture_default_str();
  command->add_option("--eval-steps", o->eval_steps, "evaluate every so many steps");
  command->add_option("--save-steps", o->save_steps, "keep the state to resume from every so many steps");
  command->add_flag("--checkpointing", o->checkpointing, "less memory, about a third more time");
  command->add_flag("--group-by-length", o->group_by_length, "put sequences of similar length into one batch");
  command->add_flag("--resume", o->resume, "go on with the run in --out");
  command->footer(
      "Examples:\n"
      "  peft train --model SmolLM2.gguf --data service.jsonl --r 16 --epochs 6 --out service-desk\n"
      "  peft train --model llama/ --data chats.jsonl --targets all-linear --lr 2e-4 --checkpointing\n"
      "Ctrl-C ends a run in good order and says how to go on with it.");
  command->callback([=] { train(*o); });
}

}  // namespace tool
