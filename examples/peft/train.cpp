// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>
#include <peft/generate/initial_prefix.hpp>
#include <peft/tokenizer/save.hpp>
#include <peft/train/eva.hpp>
#include <peft/train/trainer.hpp>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>

#include "common.hpp"
#include "labelled.hpp"
#include "method_options.hpp"
#include "own_weights.hpp"
#include "progress.hpp"

namespace tool {

namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  TaskOptions task;
  WeightOptions weights;
  std::string data, eval_data, method = "lora", out = "out", targets, scheduler = "linear", bias = "none", compute_dtype = "f32", cache_dir, init_text;
  std::int64_t r = 16, batch = 8, accumulation = 1, max_length = 512, warmup_steps = 0, save_steps = 0, eval_steps = 0, max_steps = -1;
  std::int64_t epochs = 3;
  std::optional<double> lr;
  double alpha = 0, dropout = 0, weight_decay = 0.01, max_grad_norm = 1, warmup_ratio = 0.05;
  double loraplus_lr_ratio = 0, loraplus_lr_embedding = peft::TrainingArguments().loraplus_lr_embedding;
  std::optional<std::int64_t> tokens_per_forward;
  std::uint64_t seed = 42;
  std::vector<std::string> set;
  bool rslora = false, checkpointing = false, resume = false, overwrite = false, group_by_length = false, cache_frozen = false, lorafa = false;
  bool no_state = false;
  /// The model's own weights train, and no adapter.
  bool full() const { return method == "full"; }
  // Each part reads and writes the gradients of all weights that train, of which full training has the most.
  std::int64_t part() const { return tokens_per_forward.value_or(full() ? 512 : peft::TrainingArguments().tokens_per_forward); }
};

// The method's config: the options of LoRA's names where they were given, then --set.
peft::AnyAdapterConfig adapter_config(const Options& o) {
  Settings settings;
  if (o.method == "lora") {
    settings = {{"r", std::to_string(o.r)}, {"lora_alpha", fmt::format("{}", o.alpha > 0 ? o.alpha : double(2 * o.r))}};
    settings.emplace_back("lora_dropout", fmt::format("{}", o.dropout));
    settings.emplace_back("use_rslora", o.rslora ? "true" : "false");
    settings.emplace_back("bias", o.bias);
  }
  if (!o.targets.empty()) settings.emplace_back("target_modules", o.targets);
  for (const std::string& one : o.set) {
    const std::size_t equals = one.find('=');
    if (equals == std::string::npos) throw peft::ConfigError("train", "--set " + one + "; OPTION=VALUE is wanted");
    settings.emplace_back(one.substr(0, equals), one.substr(equals + 1));
  }
  return method_config(o.method, settings);
}

// What begins as a text begins with its tokens; as PEFT's, with those that the tokenizer puts around it.
void read_initial_text(peft::AnyAdapterConfig& config, const peft::Tokenizer& tokenizer) {
  auto* prompt = std::get_if<peft::PromptTuningConfig>(&config);
  if (!prompt || prompt->prompt_tuning_init != "TEXT" || !prompt->prompt_tuning_init_text) return;
  const auto ids = tokenizer.encode(*prompt->prompt_tuning_init_text);
  prompt->init_ids.assign(ids.begin(), ids.end());
}

peft::TrainingArguments training_arguments(const Options& o) {
  peft::TrainingArguments args;
  args.num_epochs = o.epochs, args.max_steps = o.max_steps, args.learning_rate = o.lr.value_or(o.full() ? 5e-5 : 1e-3), args.batch_size = o.batch,
  args.gradient_accumulation_steps = o.accumulation;
  args.compute_dtype = o.compute_dtype == "bf16" ? peft::DType::bf16 : peft::DType::f32, args.lr_scheduler = o.scheduler, args.warmup_steps = o.warmup_steps,
  args.warmup_ratio = o.warmup_ratio, args.weight_decay = o.weight_decay;
  args.loraplus_lr_ratio = o.loraplus_lr_ratio, args.loraplus_lr_embedding = o.loraplus_lr_embedding, args.lorafa = o.lorafa;
  args.max_grad_norm = o.max_grad_norm, args.seed = o.seed, args.checkpointing = o.checkpointing, args.group_by_length = o.group_by_length;
  args.tokens_per_forward = o.part(), args.eval_steps = o.eval_steps, args.save_steps = o.save_steps, args.output_dir = o.out, args.resume = o.resume,
  args.keep_state = !o.no_state, args.cache_frozen = o.cache_frozen || !o.cache_dir.empty(), args.cache_dir = o.cache_dir;
  return args;
}

// What answers will be asked for with, and what --resume goes on with.
constexpr const char* remembered_template = "chat_template.jinja";

// Before anything slow: --out can be written to, and what lies there already is wanted or may go.
void claim_out(const Options& o) {
  const fs::path out = o.out, state = out / "state";
  const bool has_state = fs::exists(state / "state.safetensors");
  if (o.resume && !has_state) throw peft::ConfigError("train", "there is no run to go on with in " + o.out + "; start one without --resume");
  const bool has_model = o.full() && fs::exists(out / "config.json");
  if (!o.resume && !o.overwrite && (has_state || has_model || fs::exists(out / "adapter_config.json")))
    throw peft::ConfigError("train", fmt::format("there is {} in {} already; --resume goes on with its run, --overwrite starts anew, another --out keeps it",
                                                 has_model ? "a model" : "an adapter", o.out));
  std::error_code failure;
  fs::create_directories(out, failure);
  if (failure) throw peft::FormatError(o.out, -1, "cannot be created: " + failure.message());
  if (::access(o.out.c_str(), W_OK) != 0) throw peft::FormatError(o.out, -1, std::string("cannot be written to: ") + std::strerror(errno));
  if (o.resume) return;
  fs::remove_all(state);  // or a later --resume might go on with the run before
  fs::remove(out / remembered_template);
  if (const auto chat = chosen_chat_template(o.model)) peft::save_chat_template(*chat, o.out);
}

// What goes with an adapter alone, and what goes without one.
void check_method(const Options& o) {
  if (!o.init_text.empty() && o.method != "prefix_tuning")
    throw peft::ConfigError("train", "--init-text is for --method prefix_tuning, not for " + o.method +
                                         "; prompt_tuning has --set prompt_tuning_init=TEXT and prompt_tuning_init_text=…");
  if (!o.full()) {
    if (o.weights.given())
      throw peft::ConfigError("train", "--train, --freeze, --train-last and --freeze-layers choose among the model's own weights: add --method full");
    return;
  }
  if (!o.targets.empty() || !o.set.empty())
    throw peft::ConfigError("train", "--targets and --set are an adapter's; --method full has none. --train and --freeze choose what trains");
  if (o.lorafa || o.loraplus_lr_ratio != 0) throw peft::ConfigError("train", "--lorafa and --loraplus-lr-ratio train LoRAs; --method full has none");
  std::error_code ignored;
  if (fs::equivalent(o.out, o.model.model, ignored) ||
      (fs::is_regular_file(o.model.model, ignored) && fs::equivalent(o.out, fs::path(o.model.model).parent_path(), ignored)))
    throw peft::ConfigError("train", "--out " + o.out + " is where the model lies that is trained; another folder keeps it");
}

// The adapter of the options, on the model.
std::string add_adapter(Opened& opened, peft::AnyAdapterConfig config, const Options& o) {
  config = std::visit([&](const auto& c) { return peft::AnyAdapterConfig(peft::with_head(c, opened.base)); }, config);
  std::visit(
      [&](auto& c) {
        if constexpr (requires { c.task_type; })
          if (opened.base.config.num_encoder_layers > 0 && c.task_type == "CAUSAL_LM") c.task_type = "SEQ_2_SEQ_LM";
      },
      config);
  peft::add_adapter(opened.tuned, "default", config, o.seed);
  if (o.lorafa) peft::LoraFa<float>(opened.tuned);  // the trainer would; but what is counted below is what trains
  const auto& entry = opened.tuned.entry("default");
  peft::TargetModules targets;
  std::string title = o.method;
  std::visit(
      [&]<class C>(const C&) {
        const C& c = std::any_cast<const C&>(entry.config);
        if constexpr (std::same_as<C, peft::LoraConfig>) title = fmt::format("LoRA r={}", c.r);
        if constexpr (requires { c.target_modules; }) targets = c.target_modules;
      },
      config);
  return targets.empty() ? title : title + " on " + targets.text();
}

// Epochs of the run, and the tokens of its largest batch.
struct Extent {
  std::int64_t epochs = 0, largest_batch = 0, largest_forward = 0;
  Extent(const peft::Dataset& data, const Options& o) {
    const peft::DataLoader loader(data, {.batch_size = o.batch, .seed = o.seed, .group_by_length = o.group_by_length});
    const std::int64_t per_epoch = (loader.steps_per_epoch() + o.accumulation - 1) / o.accumulation;
    epochs = o.max_steps > 0 ? (o.max_steps + per_epoch - 1) / per_epoch : o.epochs;
    for (std::int64_t epoch = 0; epoch < std::min<std::int64_t>(epochs, 100); epoch++) {
      std::int64_t tokens = 0, place = 0;
      for (const std::size_t i : loader.order(epoch)) {
        tokens = place++ % o.batch == 0 ? 0 : tokens;
        largest_batch = std::max(largest_batch, tokens += data[i].tokens());
      }
    }
    largest_forward = o.part() > 0 ? std::min(largest_batch, std::max(o.part(), data.longest())) : largest_batch;
  }
};

void train(Options o) {
  check_method(o);
  std::optional<peft::AnyAdapterConfig> config = o.full() ? std::nullopt : std::optional(adapter_config(o));
  const peft::TrainingArguments args = training_arguments(o);
  peft::validate(args);
  if (const fs::path known = fs::path(o.out) / remembered_template; o.resume && o.model.chat_template.empty() && fs::exists(known))
    o.model.chat_template = known.string();
  const auto tokenizer = tokenizer_of(o.model);
  if (config) read_initial_text(*config, tokenizer);
  o.model.task = task_of(o.task, o.model.model, o.data);
  Opened opened(o.model);
  check_chat_template(opened, o.model);
  if (o.full()) choose_weights(opened, o.weights);
  const std::string title = o.full() ? tool::title(opened, o.weights) : add_adapter(opened, *config, o);
  if (!o.init_text.empty()) peft::initialize_prefix_from_text(opened.tuned, "default", tokenizer.encode(o.init_text));
  const auto rows_of = [&](const std::string& path) { return load_rows(path, tokenizer, opened, o.task, o.max_length); };
  const peft::Dataset data = rows_of(o.data);
  const peft::Dataset eval = o.eval_data.empty() ? peft::Dataset() : rows_of(o.eval_data);
  claim_out(o);
  if (const auto* lora = config ? std::get_if<peft::LoraConfig>(&*config) : nullptr; lora && lora->init_lora_weights.kind() == peft::InitLoraWeights::eva)
    peft::initialize_lora_eva_weights(opened.tuned, "default", data, {.batch_size = o.batch}, o.seed);

  const auto count = peft::count_parameters(opened.tuned);
  const Extent extent(data, o);
  fmt::print("{}\n", describe(opened));
  fmt::print("{}   {}\n", title, peft::to_string(count));
  fmt::print("Data   {}, {} a batch   estimate: {}\n", data.summary(), o.batch,
             bytes_text(training_memory(opened, extent.largest_forward, count.trainable, o.checkpointing)));
  if (data.report().truncated) fmt::print("       {} examples are longer than --max-length {} and were cut\n", data.report().truncated, o.max_length);
  if (data.report().dropped) fmt::print("       {} rows were left out: nothing in them is to be learnt\n", data.report().dropped);
  if (o.compute_dtype == "bf16")
    fmt::print("       products are computed in {}\n", peft::ops::has_bf16_products() ? "bfloat16" : "float32: this processor has no instruction for bfloat16");
  std::fflush(stdout);

  peft::Evaluation before;
  if (!eval.empty() && placed_prompt(opened)) {
    before = peft::evaluate(opened.tuned, eval);  // the rows have virtual tokens, which the model alone does not know
  } else if (!eval.empty()) {
    const auto quiet = opened.tuned.disable_adapters();
    before = evaluate_head(opened, tokenizer, o.task, o.eval_data, eval, o.max_length);
  }
  ProgressBar bar(extent.epochs);
  const InterruptWatch watch{SIGINT, SIGTERM};
  peft::TrainingCallbacks callbacks;
  callbacks.on_step = [&](const peft::TrainingProgress& p) { bar.show(p); };
  callbacks.on_evaluate = [&](const peft::TrainingProgress& p, const peft::Evaluation& e) {
    bar.line(fmt::format("eval   step {}   loss {:.3f}   {}", p.step, e.loss, scores_text(e)));
  };
  callbacks.should_stop = InterruptWatch::interrupted;
  const auto result = peft::Trainer{opened.tuned, args, callbacks}.fit(data, eval);
  bar.finish();

  std::string without_tokenizer;
  if (o.full())
    without_tokenizer = save_weights(opened, o.model, o.out, o.weights.dtype);
  else
    peft::save_adapter(opened.tuned, "default", o.out, fs::path(o.model.model).lexically_normal().string());
  if (result.interrupted) {
    fmt::print("stopped after step {}; the {} so far is in {}\n", result.steps, o.full() ? "model" : "adapter", o.out);
    if (args.keep_state) fmt::print("go on  {}{}\n", command_line(), o.resume ? "" : " --resume");
    throw Interrupted();
  }
  if (!eval.empty()) {
    const auto after = evaluate_head(opened, tokenizer, o.task, o.eval_data, eval, o.max_length);
    fmt::print("eval   loss {:.3f} → {:.3f}   {}\n", before.loss, after.loss, scores_text(before, after));
  }
  const std::string weights = o.full() ? "model.safetensors" : "adapter_model.safetensors";
  fmt::print("saved  {} ({}, {} {}{}{})\n", o.out, o.full() ? "config.json" : "adapter_config.json", weights,
             bytes_text(std::int64_t(fs::file_size(fs::path(o.out) / weights))), o.full() && without_tokenizer.empty() ? ", the tokenizer" : "",
             args.keep_state ? "; training state to resume from in " + (fs::path(o.out) / "state").string() : "");
  if (!without_tokenizer.empty()) fmt::print(stderr, "peft: no tokenizer was written, put the base model's there: {}\n", without_tokenizer);
  const bool own_head = has_own_head(opened), answers = answers_questions(opened);
  const std::string tuned = o.full() ? "--model " + shell_word(o.out) : model_words(o.model) + " --adapter " + shell_word(o.out);
  const char* const command = answers ? "answer" : own_head ? "classify" : "generate";
  const char* const asked = answers ? "--context \"…\" --question" : own_head ? "--text" : "--prompt";
  fmt::print("next   {} {} {} {} \"…\"\n", program(), command, tuned, asked);
  if (!eval.empty()) fmt::print("       {} eval {} --data {}{}\n", program(), tuned, shell_word(o.eval_data), own_head ? "" : " --show 4");
}

}  // namespace

void add_train(CLI::App& app) {
  auto* command = app.add_subcommand("train", "Train an adapter and save it as PEFT does, or the model's own weights");
  const auto o = std::make_shared<Options>();
  o->model.add_to(*command, false);
  command
      ->add_option(
          "--data,-d", o->data,
          "JSON lines: {\"question\", \"answer\"}, {\"prompt\", \"completion\"}, {\"instruction\", \"output\"}, {\"input\", \"target\"}, {\"messages\"} or "
          "{\"text\"}")
      ->required()
      ->check(CLI::ExistingFile);
  o->model.add_chat_template_to(*command);
  o->task.add_to(*command, true);
  command->add_option("--eval-data", o->eval_data, "the same for held-out rows: loss before and after")->check(CLI::ExistingFile);
  command->add_option("--out,-o", o->out, "where the adapter or the model goes")->capture_default_str();
  std::string methods = "full: no adapter, the model's own weights; ";
  for (const std::string& name : method_names()) methods += (methods.ends_with(' ') ? "" : ", ") + name;
  command->add_option("--method", o->method, methods)->capture_default_str();
  command->add_option("--set", o->set, "an option of the method, named as PEFT names it: --set num_virtual_tokens=20 --set init_weights=zero");
  command->add_option("--init-text", o->init_text, "a prefix begins as the first num_virtual_tokens tokens of this text")->group("prefix tuning");
  command->add_option("--r", o->r, "rank")->capture_default_str()->group("LoRA");
  command->add_option("--alpha", o->alpha, "lora_alpha (2 r); the update is scaled by alpha / r")->check(above_zero())->group("LoRA");
  command->add_option("--targets", o->targets, "modules: q_proj,v_proj, or all-linear (PEFT's choice for the architecture)");
  command->add_option("--dropout", o->dropout, "lora_dropout")->capture_default_str()->group("LoRA");
  command->add_option("--bias", o->bias, "none, all or lora_only")->capture_default_str()->group("LoRA");
  command->add_flag("--rslora", o->rslora, "scale by alpha / √r")->group("LoRA");
  command->add_option("--loraplus-lr-ratio", o->loraplus_lr_ratio, "LoRA+: B learns so many times faster than A; 16, with half the --lr")->group("LoRA");
  command->add_option("--loraplus-lr-embedding", o->loraplus_lr_embedding, "LoRA+: the rate of LoRAs on embeddings")->capture_default_str()->group("LoRA");
  command->add_flag("--lorafa", o->lorafa, "LoRA-FA: A stays as it is, B takes the step nearest to full fine-tuning's")->group("LoRA");
  command->add_option("--epochs", o->epochs, "times through the data")->capture_default_str()->check(above_zero());
  command->add_option("--max-steps", o->max_steps, "steps, instead of --epochs")->check(above_zero());
  command->add_option("--lr", o->lr, "learning rate (1e-3; 5e-5 of --method full); 1e-3 suits LoRA on small models, 2e-4 those of 7B and more");
  command->add_option("--batch", o->batch, "sequences a step")->capture_default_str()->check(above_zero());
  command->add_option("--accumulation", o->accumulation, "batches whose gradients make one step")->capture_default_str()->check(above_zero());
  command->add_option("--max-length", o->max_length, "tokens, of each side where an encoder reads the prompt; longer rows are cut")->capture_default_str();
  command->add_option("--scheduler", o->scheduler, "constant, linear or cosine")->capture_default_str();
  command->add_option("--warmup-steps", o->warmup_steps, "steps until the learning rate is reached")->capture_default_str();
  command->add_option("--warmup-ratio", o->warmup_ratio, "the same as a part of all steps, where --warmup-steps is 0")->capture_default_str();
  command->add_option("--weight-decay", o->weight_decay, "of AdamW")->capture_default_str();
  command->add_option("--max-grad-norm", o->max_grad_norm, "0: no clipping")->capture_default_str();
  command->add_option("--seed", o->seed, "of the adapter, the order of the data and dropout")->capture_default_str();
  command->add_option("--eval-steps", o->eval_steps, "evaluate on --eval-data every so many steps")->check(above_zero());
  command->add_option("--save-steps", o->save_steps, "keep the state to resume from every so many steps")->check(above_zero());
  command
      ->add_option("--tokens-per-forward", o->tokens_per_forward,
                   "a batch runs in parts of about so many tokens, which bounds memory (256; 512 of --method full); 0: in one")
      ->check(zero_or_more());
  command->add_option("--compute-dtype", o->compute_dtype, "f32, or bf16: products in bfloat16, twice as fast where the processor has them")
      ->capture_default_str()
      ->check(CLI::IsMember({"f32", "bf16"}));
  command->add_flag("--checkpointing", o->checkpointing, "less memory, about a third more time");
  command->add_flag("--cache-frozen", o->cache_frozen, "compute the layers below the first trained one once for each example, and keep their output in memory");
  command->add_option("--cache-dir", o->cache_dir, "the same, with the output in a file in this folder")->check(CLI::ExistingDirectory);
  command->add_flag("--group-by-length", o->group_by_length, "put sequences of similar length into one batch");
  o->weights.add_to(*command);
  command->add_flag("--no-state", o->no_state, "keep nothing to resume from, which takes twice the room of the trained weights, and theirs");
  command->add_flag("--resume", o->resume, "go on with the run in --out; the other options as they were");
  command->add_flag("--overwrite", o->overwrite, "start anew where --out holds an adapter, a model or a run");
  command->footer(
      "Examples:\n"
      "  peft train --model SmolLM2.gguf --data service.jsonl --r 16 --epochs 6 --out service-desk\n"
      "  peft train --model SmolLM2.gguf --data service.jsonl --method prefix_tuning --set num_virtual_tokens=20 --lr 1e-2\n"
      "  peft train --model all-MiniLM-L6-v2/ --task seq_cls --data sst2/train.tsv --eval-data sst2/dev.tsv --targets query,value\n"
      "  peft train --model bert-base/ --task question_ans --data squad.jsonl --max-length 384 --lr 3e-4\n"
      "  peft train --model llama/ --data chats.jsonl --targets all-linear --lr 2e-4 --checkpointing\n"
      "  peft train --model llama/ --data chats.jsonl --method full --train-last 4 --train norms --dtype bf16\n"
      "Ctrl-C ends a run in good order and says how to go on with it.");
  command->callback([=] { train(*o); });
}

}  // namespace tool
