// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <chrono>
#include <memory>

#include "peft/core/parallel.hpp"
#include "peft/generate/logits_processor.hpp"
#include "peft/generate/sampler.hpp"
#include "peft/generate/stopping.hpp"
#include "peft/generate/text_generation.hpp"

namespace peft {

PEFT_INLINE std::string_view name(FinishReason reason) {
  return reason == FinishReason::stop ? "stop" : reason == FinishReason::length ? "length" : "cancelled";
}

PEFT_INLINE std::vector<std::int32_t> encode_prompt(const Tokenizer& tokenizer, std::string_view prompt, const GenerationConfig& config) {
  const bool chat = config.prompt_template == "chat" || (config.prompt_template == "auto" && tokenizer.chat_template().format() != ChatTemplate::Format::none);
  if (!chat) {
    if (!config.system_prompt.empty())
      throw ConfigError("generate", "system_prompt = \"" + config.system_prompt + "\" needs a chat template; this prompt is plain text");
    return tokenizer.encode(prompt);
  }
  std::vector<ChatMessage> messages;
  if (!config.system_prompt.empty()) messages.push_back({"system", config.system_prompt});
  messages.push_back({"user", std::string(prompt)});
  return tokenizer.encode(tokenizer.apply_chat(messages), {.add_special_tokens = false});
}

PEFT_INLINE std::vector<std::int32_t> eos_token_ids(const GenerationConfig& config, const TransformerConfig& model, const Tokenizer* tokenizer) {
  if (config.eos_token_ids) return *config.eos_token_ids;
  std::vector<std::int32_t> all = model.eos_token_ids;
  if (tokenizer) {
    all.insert(all.end(), tokenizer->eos_ids().begin(), tokenizer->eos_ids().end());
    const auto format = tokenizer->chat_template().format();
    const char* turn = format == ChatTemplate::Format::chatml ? "<|im_end|>" : format == ChatTemplate::Format::llama3 ? "<|eot_id|>" : nullptr;
    if (const auto id = turn ? tokenizer->token_to_id(turn) : std::nullopt) all.push_back(*id);
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

namespace detail {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// One call of run_generation: what is common to its sequences.
template <Scalar T>
class GenerationRun {
 public:
  using Request = GenerationRequest<T>;
  using Clock = std::chrono::steady_clock;

  GenerationRun(LanguageModel<T>& model, std::span<const Request> requests, const GenerationConfig& config, const Tokenizer* tokenizer)
      : model_(model),
        requests_(requests),
        config_(config),
        tokenizer_(tokenizer),
        eos_(eos_token_ids(config, model.config(), tokenizer)),
        processors_(config, eos_) {
    model_.set_cache_dtype(config.half_cache ? DType::f16 : dtype_of<T>);
    check();
    answers_ = std::size_t(config.num_return_sequences);
    results_.resize(requests.size() * answers_);
  }

  std::vector<Generation> run() {
    if (config_.num_beams > 1) {
      for (std::size_t r = 0; r < requests_.size(); r++) search_beams(r);
      return std::move(results_);
    }
    std::size_t next = 0;
    while (next < requests_.size() || !active_.empty()) {
      std::size_t end = next;
      while (end < requests_.size() &&
             (active_.size() + (end - next) * answers_ == 0 || active_.size() + (end + 1 - next) * answers_ <= std::size_t(config_.batch_size)))
        end++;
      if (end > next) begin(next, end), next = end;
      if (!active_.empty()) step();
    }
    return std::move(results_);
  }

 private:
  /// A sequence on its way.
  struct Running {
    Generation* result;
    const Request* request;
    KvCache<T>* cache;
    std::unique_ptr<KvCache<T>> own;
    std::vector<std::int32_t> ids;      // prompt and answer
    std::int64_t prompt_length, limit;  // limit: tokens that the answer may have
    SequenceRandom random;
    std::unique_ptr<TextStream> stream;
    Clock::time_point start;
    std::int32_t token = -1;  // chosen, not yet looked at
    double logprob = 0;
    bool done = false;
  };

  void check() const {
    validate(config_);
    const std::int64_t context = model_.context_length();
    for (const Request& r : requests_) {
      if (r.ids.empty()) throw ShapeError("generate", "the prompt is empty; a model needs at least one token to begin with (bos, if the tokenizer has one)");
      if (std::int64_t(r.ids.size()) >= context)
        throw ShapeError("generate",
                         fmt::format("the prompt has {} tokens; the model's context is {}, and the answer needs room in it", r.ids.size(), context));
      if (r.cache && r.cache->length() >= std::int64_t(r.ids.size()))
        throw ShapeError("generate", fmt::format("the cache holds {} tokens of a prompt of {}; at least the last one must be left to run: truncate it",
                                                 r.cache->length(), r.ids.size()));
      if (r.on_text && !tokenizer_) throw ConfigError("generate", "a callback for text needs a tokenizer");
      if (r.on_text && config_.num_return_sequences > 1 && config_.num_beams == 1)
        throw ConfigError("generate", fmt::format("num_return_sequences = {} cannot be streamed; a callback takes one text", config_.num_return_sequences));
      if (r.cache && (r.cache->dtype() == DType::f16) != config_.half_cache)
        throw ConfigError("generate", fmt::format("half_cache = {} with a cache that stores {}", config_.half_cache, name(r.cache->dtype())));
      if (r.cache && config_.num_beams > 1) throw NotSupported("generate", "beam search with a cache of the caller's; it keeps several of its own");
    }
    if (!config_.stop.empty() && !tokenizer_) throw ConfigError("generate", "stop strings need a tokenizer; without one, only eos_token_ids end a sequence");
    if (!config_.stop.empty() && config_.num_beams > 1) throw NotSupported("generate", "stop strings in a beam search; eos_token_ids end its sequences");
    if (config_.echo && !tokenizer_) throw ConfigError("generate", "echo = true needs a tokenizer");
  }

  std::int64_t limit(const Request& r) const { return std::min(max_new_tokens(config_), model_.context_length() - std::int64_t(r.ids.size())); }

  void describe_prompt(Generation& g, const Request& r) const {
    g.prompt_tokens = std::int64_t(r.ids.size()), g.cached_tokens = r.cache ? r.cache->length() : 0;
    if (config_.echo) g.text = tokenizer_->decode(r.ids);
  }

  // Reads the prompts of requests first … last − 1 together and chooses the first token of each of their answers.
  void begin(std::size_t first, std::size_t last) {
    const Clock::time_point start = Clock::now();
    const std::size_t before = active_.size();
    steps_.clear();
    for (std::size_t r = first; r < last; r++) {
      const Request& request = requests_[r];
      for (std::size_t a = 0; a < answers_; a++) {
        Running s{&results_[r * answers_ + a],
                  &request,
                  request.cache,
                  nullptr,
                  {},
                  std::int64_t(request.ids.size()),
                  limit(request),
                  SequenceRandom(config_.seed, request.ids, std::int64_t(a)),
                  nullptr,
                  {}};
        describe_prompt(*s.result, request);
        s.ids.reserve(request.ids.size() + std::size_t(std::min<std::int64_t>(s.limit, 4096)));
        s.ids.assign(request.ids.begin(), request.ids.end());
        if (!s.cache) {
          s.own = std::make_unique<KvCache<T>>(model_.make_cache(s.prompt_length + std::min<std::int64_t>(s.limit, 256), request.active));
          s.cache = s.own.get();
        }
        if (tokenizer_) s.stream = std::make_unique<TextStream>(*tokenizer_, config_.stop, request.ids);
        if (a == 0) steps_.push_back({s.cache, request.ids.subspan(std::size_t(s.cache->length())), request.active});
        active_.push_back(std::move(s));
      }
    }
    Tensor<T> rows = model_.prefill(steps_);
    if (answers_ > 1) {  // the answers to one prompt share its keys, values and first row
      Tensor<T> repeated({rows.rows() * std::int64_t(answers_), rows.cols()});
      for (std::size_t i = 0; i < active_.size() - before; i++) {
        Running& s = active_[before + i];
        const Running& source = active_[before + i - i % answers_];
        std::copy_n(rows.view().row(std::int64_t(i / answers_)), rows.cols(), repeated.view().row(std::int64_t(i)));
        if (&s == &source) continue;
        if (s.request->cache) s.own = std::make_unique<KvCache<T>>(model_.make_cache(source.cache->capacity(), s.request->active)), s.cache = s.own.get();
        s.cache->copy_from(*source.cache);
      }
      rows = std::move(repeated);
    }
    const double seconds = seconds_since(start);
    for (std::size_t i = before; i < active_.size(); i++) active_[i].start = Clock::now(), active_[i].result->prefill_seconds = seconds;
    choose(before, rows);
  }

  // One more token for every active sequence.
  void step() {
    steps_.clear();
    for (Running& s : active_) steps_.push_back({s.cache, std::span<const std::int32_t>(s.ids).last(1), s.request->active});
    const Tensor<T> rows = model_.last_logits(steps_, ops::Kernel::dot);
    choose(0, rows);
  }

  // Row i belongs to active sequence first + i.
  void choose(std::size_t first, const Tensor<T>& rows) {
    parallel_for(rows.rows(), [&](std::int64_t i) {
      Running& s = active_[first + std::size_t(i)];
      const std::span<T> row(rows.view().row(i), std::size_t(rows.cols()));
      Scratch<T> raw;
      if (config_.output_logprobs) raw.assign(row.begin(), row.end());
      if (!processors_.empty()) processors_.template operator()<T>(row, s.ids, s.prompt_length);
      s.token = samples(config_) ? sample<T>(row, s.random.uniform(s.result->completion_tokens())) : argmax<T>(row);
      if (config_.output_logprobs) s.logprob = log_probability<T>(raw, s.token);
    });
    for (std::size_t i = first; i < active_.size(); i++) accept(active_[i]);
    std::erase_if(active_, [](const Running& s) { return s.done; });
  }

  void accept(Running& s) {
    Generation& g = *s.result;
    s.ids.push_back(s.token), g.ids.push_back(s.token);
    if (config_.output_logprobs) g.logprobs.push_back(s.logprob);
    if (is_eos(s.token)) {
      finish(s, FinishReason::stop);
    } else if (s.stream && !tell(s, s.stream->push(s.token))) {
      s.done = true, g.finish_reason = FinishReason::cancelled;
    } else if (s.stream && s.stream->stopped()) {
      finish(s, FinishReason::stop);
    } else if (g.completion_tokens() >= s.limit) {
      finish(s, FinishReason::length);
    }
    if (s.done) g.decode_seconds = seconds_since(s.start);
  }

  void finish(Running& s, FinishReason reason) {
    s.done = true, s.result->finish_reason = reason;
    if (s.stream) tell(s, s.stream->finish());
  }

  bool tell(Running& s, const std::string& text) const {
    s.result->text += text;
    return text.empty() || s.request->on_text(text);
  }

  bool is_eos(std::int32_t token) const { return std::find(eos_.begin(), eos_.end(), token) != eos_.end(); }

  // Beam search over request r, in beam_generation.inl.
  void search_beams(std::size_t r);

  LanguageModel<T>& model_;
  std::span<const Request> requests_;
  const GenerationConfig& config_;
  const Tokenizer* tokenizer_;
  std::vector<std::int32_t> eos_;
  LogitsProcessors processors_;
  std::size_t answers_ = 1;
  std::vector<Running> active_;
  std::vector<typename LanguageModel<T>::Continuation> steps_;
  std::vector<Generation> results_;
};

}  // namespace detail

template <Scalar T>
std::vector<Generation> run_generation(LanguageModel<T>& model, std::span<const GenerationRequest<T>> requests, const GenerationConfig& config,
                                       const Tokenizer* tokenizer) {
  return detail::GenerationRun<T>(model, requests, config, tokenizer).run();
}

}  // namespace peft

#include "peft/generate/impl/beam_generation.inl"
