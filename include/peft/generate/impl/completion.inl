// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <chrono>

#include "peft/generate/completion.hpp"
#include "peft/generate/sampler.hpp"
#include "peft/tokenizer/unicode.hpp"

namespace peft {

namespace detail {

/// Tokens one by one, as the text that each adds; what is part of a character only is shown as its bytes.
class LogprobsWriter {
 public:
  LogprobsWriter(const Tokenizer& tokenizer, std::int64_t top) : tokenizer_(tokenizer), top_(std::size_t(top)) {}
  void add(std::int32_t id, std::optional<double> logprob, std::span<const std::pair<std::int32_t, double>> likeliest) {
    out_.tokens.push_back(shown(id)), out_.token_logprobs.push_back(logprob);
    out_.text_offset.push_back(offset_);
    out_.top_logprobs.emplace_back();
    for (const auto& [other, log_p] : likeliest.first(std::min(top_, likeliest.size()))) out_.top_logprobs.back().emplace_back(shown(other), log_p);
    offset_ += std::int64_t(token_bytes(tokenizer_, id).size());
  }
  void begin_at(std::int64_t offset) { offset_ = offset; }
  std::int64_t offset() const { return offset_; }
  CompletionLogprobs take() { return std::move(out_); }

 private:
  std::string shown(std::int32_t id) const {
    const std::string bytes = token_bytes(tokenizer_, id);
    if (bytes.empty()) return tokenizer_.id_to_token(id).value_or(fmt::format("<{}>", id));
    if (unicode::is_valid(bytes)) return bytes;
    std::string text = "bytes:";
    for (char c : bytes) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    return text;
  }
  const Tokenizer& tokenizer_;
  std::size_t top_;
  std::int64_t offset_ = 0;
  CompletionLogprobs out_;
};

}  // namespace detail

template <Scalar T>
CompletionResponse run_completion(LanguageModel<T>& model, const Tokenizer& tokenizer, const CompletionRequest& request, const std::string& model_name,
                                  const CompletionCallback& on_text) {
  validate(request);
  const std::int64_t vocab = model.config().vocab_size, best_of = std::max(request.best_of.value_or(request.n), request.n);
  if (on_text && best_of > request.n)
    throw ConfigError("completion", fmt::format("best_of = {} cannot be streamed: which {} are the best is known at the end", best_of, request.n));
  for (const auto& [token, bias] : request.logit_bias)
    if (token >= vocab)
      throw ConfigError("completion", fmt::format("logit_bias for token {} ({}); allowed: 0 to {}, the model's vocabulary", token, bias, vocab - 1));
  std::vector<std::vector<std::int32_t>> prompts;
  for (const CompletionPrompt& prompt : request.prompt) {
    const auto* text = std::get_if<std::string>(&prompt);
    prompts.push_back(text ? tokenizer.encode(*text) : std::get<std::vector<std::int32_t>>(prompt));
    // Nothing said: the model begins by itself.
    if (prompts.back().empty() && tokenizer.bos_id()) prompts.back().push_back(*tokenizer.bos_id());
    if (prompts.back().empty() && tokenizer.eos_id()) prompts.back().push_back(*tokenizer.eos_id());
  }

  // Greedy answers to one prompt are all the same: one is made.
  const bool greedy = request.temperature == 0;
  GenerationConfig config;
  config.max_new_tokens = std::max<std::int64_t>(request.max_tokens, 1);
  config.do_sample = !greedy, config.temperature = request.temperature, config.top_p = greedy ? 1 : request.top_p;
  config.frequency_penalty = request.frequency_penalty, config.presence_penalty = request.presence_penalty;
  for (const auto& [token, bias] : request.logit_bias) config.sequence_bias.push_back({{token}, bias <= -100 ? -double(INFINITY) : bias});
  config.num_return_sequences = greedy ? 1 : best_of;
  config.stop = request.stop, config.seed = request.seed, config.prompt_template = "plain";
  config.output_logprobs = true, config.top_logprobs = request.logprobs.value_or(0);
  if (request.timeout) config.max_time = double(*request.timeout) / 1000;

  std::vector<GenerationRequest<T>> requests;
  for (std::size_t p = 0; p < prompts.size(); p++) {
    requests.push_back({prompts[p]});
    if (!on_text) continue;
    requests.back().on_piece = [&on_text, &request, p, greedy](std::size_t answer, std::string_view text) {
      bool go_on = true;
      for (std::int64_t i = 0; i < (greedy ? request.n : 1); i++) go_on = on_text(std::int64_t(p) * request.n + std::int64_t(answer) + i, text) && go_on;
      return go_on;
    };
  }
  std::vector<Generation> made;
  if (request.max_tokens > 0)
    made = run_generation<T>(model, requests, config, &tokenizer);
  else
    made.resize(prompts.size() * std::size_t(config.num_return_sequences));

  CompletionResponse response;
  response.model = model_name;
  response.created = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::uint64_t name = mix(request.seed, std::uint64_t(std::chrono::steady_clock::now().time_since_epoch().count()));
  const auto answers = std::size_t(config.num_return_sequences);
  for (std::size_t p = 0; p < prompts.size(); p++) {
    response.prompt_tokens += std::int64_t(prompts[p].size());
    for (std::int32_t id : prompts[p]) name = mix(name, std::uint64_t(std::uint32_t(id)));
    std::vector<const Generation*> best;
    for (std::size_t a = 0; a < answers; a++) best.push_back(&made[p * answers + a]), response.completion_tokens += best.back()->completion_tokens();
    const auto mean = [](const Generation* g) {
      double sum = 0;
      for (double l : g->logprobs) sum += l;
      return g->logprobs.empty() ? -double(INFINITY) : sum / double(g->logprobs.size());
    };
    if (best_of > request.n) std::stable_sort(best.begin(), best.end(), [&](const Generation* a, const Generation* b) { return mean(a) > mean(b); });
    std::optional<PromptLogprobs> of_prompt;
    if (request.echo && request.logprobs) of_prompt = prompt_logprobs<T>(model, prompts[p], *request.logprobs);
    for (std::int64_t i = 0; i < request.n; i++) {
      const Generation& g = *best[greedy ? 0 : std::size_t(i)];
      CompletionChoice choice{g.text, std::int64_t(response.choices.size()), g.finish_reason, {}, g.ids};
      const std::string echoed = request.echo ? tokenizer.decode(prompts[p]) : "";
      choice.text = echoed + choice.text;
      if (request.logprobs) {
        detail::LogprobsWriter writer(tokenizer, *request.logprobs);
        if (of_prompt)
          for (std::size_t k = 0; k < prompts[p].size(); k++)
            writer.add(prompts[p][k], k == 0 ? std::nullopt : std::optional(of_prompt->logprobs[k - 1]),
                       k == 0 ? std::span<const std::pair<std::int32_t, double>>() : std::span(of_prompt->top[k - 1]));
        writer.begin_at(std::int64_t(echoed.size()));
        // What was cut, a stop string or the end of text, is not reported.
        for (std::size_t k = 0; k < g.ids.size() && (g.finish_reason != FinishReason::stop || writer.offset() < std::int64_t(choice.text.size())); k++)
          writer.add(g.ids[k], g.logprobs[k], *request.logprobs > 0 ? std::span(g.top_logprobs[k]) : std::span<const std::pair<std::int32_t, double>>());
        choice.logprobs = writer.take();
      }
      response.choices.push_back(std::move(choice));
    }
  }
  response.id = fmt::format("cmpl-{:016x}", name);
  return response;
}

}  // namespace peft
