// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <signal.h>

#include <filesystem>
#include <iostream>
#include <iterator>

#include "generate_options.hpp"
#include "labelled.hpp"

namespace tool {

namespace {

// Pieces of text as they come; Ctrl-C ends the answer.
bool write_piece(std::string_view text) {
  fmt::print("{}", text);
  std::fflush(stdout);
  return !InterruptWatch::interrupted();
}

// The prompt's beginning from a file, or into it for the next time.
std::optional<peft::PromptCache<float>> known_beginning(peft::LanguageModel<float>& model, const std::string& path, std::span<const std::int32_t> prompt,
                                                        bool half) {
  if (path.empty() || prompt.size() < 2) return std::nullopt;
  model.set_cache_dtype(half ? peft::DType::f16 : peft::DType::f32);
  if (std::filesystem::exists(path)) return peft::load_prompt_cache<float>(model, path);
  auto made = peft::remember_prompt<float>(model, prompt.first(prompt.size() - 1));
  peft::save_prompt_cache<float>(path, made);
  return made;
}

void answer_one(Opened& opened, const peft::Tokenizer& tokenizer, const GenerateOptions& o, const std::string& prompt) {
  const peft::GenerationConfig config = generation_config(o, tokenizer);
  const auto placed = placed_prompt(opened);
  const std::vector<std::int32_t> ids =
      placed ? placed_question(opened, *placed, peft::Json(prompt), tokenizer) : peft::encode_prompt(tokenizer, prompt, config);
  peft::LanguageModel<float> model(opened.tuned);
  const auto known = known_beginning(model, o.prompt_cache, ids, config.half_cache);
  peft::GenerationRequest<float> request{ids};
  const bool several = config.num_return_sequences > 1;
  if (!several) request.on_text = write_piece;
  if (known) request.prefix = &*known;
  Draft draft(o.draft);
  const InterruptWatch watch{SIGINT};
  const auto answers = peft::run_generation<float>(model, std::span(&request, 1), config, &tokenizer, draft.get());
  for (std::size_t i = 0; several && i < answers.size(); i++) fmt::print("{}{}", answers[i].text, i + 1 < answers.size() ? "\n\n" : "");
  fmt::print("\n");
  if (is_terminal()) fmt::print("{}\n", dim(speed_text(answers.front())));
  std::fflush(stdout);
  if (InterruptWatch::interrupted()) throw Interrupted();
}

void generate(const GenerateOptions& o) {
  if (int(o.prompt.has_value()) + int(o.prompts.has_value()) + int(o.completions.has_value()) > 1)
    throw peft::ConfigError("generate", "--prompt, --prompts and --completions together; give one of them");
  if (!o.draft.empty() && o.completions)
    throw peft::NotSupported("generate", "--draft with --completions, whose requests have no name for it; it goes with --prompt, --prompts and chats");
  if (o.prompt_lookup && o.completions)
    throw peft::NotSupported("generate",
                             "--prompt-lookup with --completions, whose requests say all that holds for them; it goes with --prompt, --prompts and chats");
  if (!o.prompt_cache.empty() && !o.prompt) throw peft::NotSupported("generate", "--prompt-cache goes with --prompt");
  if (!o.out.empty() && !o.prompts && !o.completions) throw peft::ConfigError("generate", "--out is for the answers to --prompts or --completions");
  if (!o.model.chat_template.empty() && (o.raw || o.completions))
    throw peft::ConfigError("generate",
                            std::string("--chat-template with ") + (o.raw ? "--raw" : "--completions") + ", where prompts are continued as they are");
  std::string prompt = o.prompt.value_or("");
  if (prompt == "-") prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
  Opened opened(o.model);
  const auto tokenizer = tokenizer_of(o.model);
  if (o.prompts) return generate_rows(opened, tokenizer, o);
  if (o.completions) return answer_completions(opened, tokenizer, o);
  if (!o.prompt) return chat(opened, tokenizer, o);
  answer_one(opened, tokenizer, o, prompt);
}

}  // namespace

Draft::Draft(const std::string& path) {
  if (!path.empty()) view.emplace(model.emplace(peft::load_model<float>(path)));
}

std::string speed_text(const peft::Generation& g) {
  return fmt::format("{} tokens, first after {:.2f} s, then {:.1f} tok/s", g.completion_tokens(), g.prefill_seconds, g.tokens_per_second()) +
         guesses_text(g.accepted_tokens, g.proposed_tokens);
}

std::string guesses_text(std::int64_t right, std::int64_t made) {
  return made > 0 ? fmt::format(", {} of {} guesses right ({:.0f} %)", right, made, 100.0 * double(right) / double(made)) : "";
}

peft::GenerationConfig with_settings(peft::GenerationConfig config, const std::vector<std::pair<std::string, std::string>>& settings) {
  peft::Json json = peft::Json::make_object();
  for (const auto& [name, value] : settings) {
    try {
      json.set(name, peft::Json::parse(value, "--set"));
    } catch (const peft::FormatError&) {
      json.set(name, peft::Json(value));
    }
  }
  return peft::generation_config(json, std::move(config));
}

peft::GenerationConfig generation_config(const GenerateOptions& o, const peft::Tokenizer& tokenizer) {
  peft::GenerationConfig config = peft::load_generation_config(o.model.model);
  config.max_length.reset();
  config.max_new_tokens = o.max_new_tokens.value_or(config.max_new_tokens.value_or(256));
  if (o.temperature) config.temperature = o.temperature, config.do_sample.reset();
  if (o.top_k) config.top_k = *o.top_k;
  if (o.top_p) config.top_p = *o.top_p;
  if (o.repetition_penalty) config.repetition_penalty = *o.repetition_penalty;
  if (o.prompt_lookup) config.prompt_lookup_num_tokens = *o.prompt_lookup;
  if (o.seed) config.seed = *o.seed;
  if (!config.temperature && !config.do_sample.value_or(false)) config.temperature = 0;  // greedy, unless something says otherwise
  if (!o.stop.empty()) config.stop = o.stop;
  config.system_prompt = o.system, config.half_cache = o.half_cache, config.batch_size = o.batch;
  if (o.raw) config.prompt_template = "plain";
  std::vector<std::pair<std::string, std::string>> settings;
  for (const std::string& setting : o.settings) {
    const std::size_t equals = setting.find('=');
    if (equals == setting.npos || equals == 0) throw peft::ConfigError("generate", "--set " + setting + "; wanted: NAME=VALUE");
    settings.emplace_back(setting.substr(0, equals), setting.substr(equals + 1));
    const std::string& name = settings.back().first;
    if ((name == "penalty_alpha" || name == "num_beams" || name == "do_sample") && config.temperature == 0.0) config.temperature.reset();
    if (name == "max_length" && !o.max_new_tokens) config.max_new_tokens.reset();  // which would count before it
  }
  config = with_settings(std::move(config), settings);
  if (!o.regex.empty() && !o.json_schema.empty()) throw peft::ConfigError("generate", "--regex and --json-schema together; give one of them");
  if (!o.regex.empty()) config.constraint = peft::constrain_to_regex(tokenizer, o.regex);
  if (!o.json_schema.empty()) {
    const bool inline_text = o.json_schema.find('{') != std::string::npos;
    config.constraint =
        peft::constrain_to_json_schema(tokenizer, inline_text ? peft::Json::parse(o.json_schema, "--json-schema") : peft::Json::read(o.json_schema));
  }
  validate(config);
  return config;
}

namespace {
void add_options(CLI::App& command, GenerateOptions& o) {
  command.add_option("--prompt,-p", o.prompt, "what to answer, - for all of standard input; without it, a chat");
  command.add_option("--prompts", o.prompts,
                     "a file of JSON lines with prompt (or question, instruction, input, messages) and perhaps adapter, or a .txt with a prompt a line; "
                     "- for standard input");
  command.add_option("--completions", o.completions, "a file of requests of the completion API, a JSON object each; - for standard input");
  command.add_option("--out,-o", o.out, "where the answers to --prompts or --completions go, as JSON lines (standard output)");
  command.add_option("--batch", o.batch, "prompts that are answered together: speed and memory, never the result")->capture_default_str()->check(above_zero());
  command.add_option("--system", o.system, "the system prompt");
  o.model.add_chat_template_to(command);
  command.add_flag("--raw", o.raw, "continue the prompt as it is, without the chat template");
  command.add_option("--max-new-tokens", o.max_new_tokens, "tokens of an answer (256)")->check(above_zero());
  command.add_option("--temperature", o.temperature, "0: always the likeliest token (0, or what generation_config.json says)")->check(zero_or_more());
  command.add_option("--top-k", o.top_k, "draw from the k likeliest tokens");
  command.add_option("--top-p", o.top_p, "draw from the likeliest tokens that hold this probability");
  command.add_option("--repetition-penalty", o.repetition_penalty, "1: none; above, what was said already becomes less likely");
  command.add_option("--stop", o.stop, "end before this text; may be given again");
  command.add_option("--set", o.settings, "any other setting by Hugging Face's name, as often as wanted: --set num_beams=4 --set no_repeat_ngram_size=3");
  command.add_option("--regex", o.regex, "answers match this regular expression");
  command.add_option("--json-schema", o.json_schema, "answers are JSON of this schema: a file, or the schema itself");
  command.add_option("--draft", o.draft, "a smaller model of the same vocabulary that guesses ahead: the same text, sooner if it guesses well");
  command
      .add_option("--prompt-lookup", o.prompt_lookup,
                  "guess that so many tokens go on as they did where the last ones stood before: the same text, sooner where it repeats the prompt")
      ->check(above_zero());
  command.add_option("--prompt-cache", o.prompt_cache, "keep what the prompt's tokens were computed to in this file, or begin with what it has");
  command.add_flag("--half-cache", o.half_cache, "keys and values of the past as F16: half the memory of long conversations");
  command.add_option("--seed", o.seed, "of the draw; the same seed, the same text (0)");
}
}  // namespace

void add_generate(CLI::App& app) {
  add_command<GenerateOptions>(
      app, "generate", "Answer a prompt or a file of them, or chat in the terminal", generate, add_options,
      "Examples:\n  peft generate --model SmolLM2.gguf --prompt \"What is a torque wrench?\"\n  peft generate --model SmolLM2.gguf --adapter out/ "
      "--temperature 0.7\n  peft generate --model SmolLM2.gguf --prompts questions.jsonl --out answers.jsonl\n\nA chat reads a turn a line, also from a file "
      "or "
      "a pipe; /help lists its commands.");
}

}  // namespace tool
