// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "peft/generate/scoring.hpp"
#include "peft/generate/text_generation.hpp"
#include "peft/io/json.hpp"

namespace peft {

/// A prompt of a completion: text, or tokens.
using CompletionPrompt = std::variant<std::string, std::vector<std::int32_t>>;

/// A request of the completion API that OpenAI's legacy models had: its names, defaults and bounds. Prompts are continued as they are, without a
/// chat template.
struct CompletionRequest {
  std::string engine = {};  // the model's name, or that of one of its adapters; empty: the model with its active adapters. Also called "model"
  std::vector<CompletionPrompt> prompt = {};
  std::int64_t max_tokens = 16;
  double temperature = 1;  // 0 to 2; 0: the likeliest token
  double top_p = 1;
  double frequency_penalty = 0, presence_penalty = 0;            // −2 to 2; of what was generated, not of the prompt
  std::vector<std::pair<std::int32_t, double>> logit_bias = {};  // −100 to 100 by token; −100 bans, 100 all but forces
  std::int64_t n = 1;                                            // choices of each prompt,
  std::optional<std::int64_t> best_of = {};                      // the best of so many (1 to 20) by their mean log probability a token
  std::vector<std::string> stop = {};                            // up to 4; the text ends before the first
  bool echo = false;                                             // the prompt in front of the text
  std::optional<std::int64_t> logprobs = {};                     // 0 to 5: log probabilities of the tokens, and of so many of the likeliest
  std::optional<std::int64_t> timeout = {};                      // milliseconds
  std::uint64_t seed = 0;
};

/// Which numbers a request may have. api: as the API itself, above. tutorial: the narrower custom of tutorials, temperature 0 to 1, 0.5 if not given,
/// and penalties 0 to 1.
enum class CompletionBounds { api, tutorial };

/// Throws ConfigError naming the field, its value and what is allowed.
void validate(const CompletionRequest& request, CompletionBounds bounds = CompletionBounds::api);

/// From the API's JSON. Throws ConfigError for unknown and misspelt fields, wrong types and what validate refuses; NotSupported for a suffix. "user"
/// and "stream" say nothing about the text.
CompletionRequest completion_request(const Json& json, CompletionBounds bounds = CompletionBounds::api);

/// What logprobs reports of a choice, token by token.
struct CompletionLogprobs {
  std::vector<std::string> tokens;
  std::vector<std::optional<double>> token_logprobs;  // nothing for a text's first token
  std::vector<std::vector<std::pair<std::string, double>>> top_logprobs;
  std::vector<std::int64_t> text_offset;  // bytes from the start of the text
};

struct CompletionChoice {
  std::string text;
  std::int64_t index = 0;
  FinishReason finish_reason = FinishReason::length;
  std::optional<CompletionLogprobs> logprobs = {};
  std::vector<std::int32_t> ids = {};  // what was generated
};

struct CompletionResponse {
  std::string id, model;
  std::int64_t created = 0;                               // seconds since 1970
  std::vector<CompletionChoice> choices;                  // n for each prompt, one prompt after the other
  std::int64_t prompt_tokens = 0, completion_tokens = 0;  // all that were generated, those of choices that best_of dropped too
};

/// As the API answers: id, object, created, model, choices (text, index, logprobs, finish_reason), usage.
Json to_json(const CompletionResponse& response);

/// Takes pieces of the choice `index` as they become certain; returns false to stop it.
using CompletionCallback = std::function<bool(std::int64_t index, std::string_view text)>;

/// Answers a request in ids of one active list. `on_text` is refused where best_of leaves choices to be dropped.
template <Scalar T>
CompletionResponse run_completion(LanguageModel<T>& model, const Tokenizer& tokenizer, const CompletionRequest& request, const std::string& model_name,
                                  const CompletionCallback& on_text = {});

/// Answers a request. An engine that is neither the model's name nor an adapter's is a ConfigError.
template <class M>
CompletionResponse answer_completion(const M& model, const Tokenizer& tokenizer, const CompletionRequest& request, const CompletionCallback& on_text = {}) {
  static_assert(detail::is_language_model<M>, "a completion needs a Transformer<float> or <double>, or a PeftModel of one: what load_model returns");
  using T = typename detail::LanguageModelScalar<M>::type;
  if constexpr (requires { model.adapter_names(); }) {
    const std::string& own = model.model().config.name.empty() ? model.model().config.model_type : model.model().config.name;
    std::vector<std::string> engines = model.adapter_names();
    const bool adapter = std::find(engines.begin(), engines.end(), request.engine) != engines.end();
    if (adapter) {
      std::vector<int> list_of;
      LanguageModel<T> view(model, active_lists(model, {{request.engine}}, list_of));
      return run_completion<T>(view, tokenizer, request, request.engine, on_text);
    }
    engines.insert(engines.begin(), own);
    if (!request.engine.empty() && request.engine != own)
      throw ConfigError("completion", "engine = \"" + request.engine + "\"" + did_you_mean(request.engine, engines, "engines"));
    LanguageModel<T> view(model);
    return run_completion<T>(view, tokenizer, request, own, on_text);
  } else {
    const std::string& own = model.config.name.empty() ? model.config.model_type : model.config.name;
    const std::vector<std::string> engines = {own};
    if (!request.engine.empty() && request.engine != own)
      throw ConfigError("completion", "engine = \"" + request.engine + "\"" + did_you_mean(request.engine, engines, "engines"));
    LanguageModel<T> view(model);
    return run_completion<T>(view, tokenizer, request, own, on_text);
  }
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/generate/impl/completion.inl"
#include "peft/generate/impl/completion_json.inl"
#endif
