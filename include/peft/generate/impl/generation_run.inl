// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <chrono>
#include <memory>
#include <optional>

#include "peft/core/parallel.hpp"
#include "peft/generate/draft.hpp"
#include "peft/generate/logits_processor.hpp"
#include "peft/generate/sampler.hpp"
#include "peft/generate/stopping.hpp"
#include "peft/generate/text_generation.hpp"

namespace peft {

namespace detail {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <Scalar T>
class BeamRun;
template <Scalar T>
class ContrastiveRun;

/// One call of run_generation: what is common to its sequences.
template <Scalar T>
class GenerationRun {
 public:
  using Request = GenerationRequest<T>;
  using Clock = std::chrono::steady_clock;

  GenerationRun(LanguageModel<T>& model, std::span<const Request> requests, const GenerationConfig& config, const Tokenizer* tokenizer, LanguageModel<T>* draft)
      : model_(model),
        requests_(requests),
        config_(config),
        tokenizer_(tokenizer),
        eos_(eos_token_ids(config, model.config(), tokenizer)),
        processors_(config, eos_) {
    model_.set_cache_dtype(config.half_cache ? DType::f16 : dtype_of<T>);
    if (model_.has_encoder()) start_ = {config.decoder_start_token_id.value_or(std::int32_t(model_.config().decoder_start_token_id))};
    check(draft);
    if (draft) draft_.emplace(*draft, config_, processors_, eos_);
    answers_ = std::size_t(config.num_return_sequences);
    results_.resize(requests.size() * answers_);
  }

  std::vector<Generation> run() {
    if (config_.num_beams > 1 || config_.penalty_alpha > 0) {
      for (std::size_t r = 0; r < requests_.size(); r++)
        if (config_.num_beams > 1)
          search_beams(r);
        else
          search_contrastively(r);
      return std::move(results_);
    }
    read_what_is_common();
    std::size_t next = 0;
    while (next < requests_.size() || !active_.empty()) {
      std::size_t end = next;
      while (end < requests_.size() &&
             (active_.size() + (end - next) * answers_ == 0 || active_.size() + (end + 1 - next) * answers_ <= std::size_t(config_.batch_size)))
        end++;
      if (end > next) begin(next, end), next = end;
      if (!active_.empty()) step();
      if (late()) {
        for (Running& s : active_) finish(s, FinishReason::timeout), close(s);
        active_.clear();
        for (; next < requests_.size(); next++)
          for (std::size_t a = 0; a < answers_; a++) {
            Generation& g = results_[next * answers_ + a];
            describe_prompt(g, requests_[next]), g.finish_reason = FinishReason::timeout;
            if (requests_[next].on_done) requests_[next].on_done(a, g);
          }
      }
    }
    return std::move(results_);
  }

 private:
  friend class BeamRun<T>;
  friend class ContrastiveRun<T>;

  /// A token that was chosen and not yet looked at.
  struct Choice {
    std::int32_t token = -1;
    double logprob = 0;
    std::vector<std::pair<std::int32_t, double>> top;
  };
  /// A sequence on its way.
  struct Running {
    Generation* result;
    const Request* request;
    std::size_t prompt, answer;  // numbers of the request, and of its answer
    KvCache<T>* cache;
    std::unique_ptr<KvCache<T>> own;
    std::vector<std::int32_t> ids;      // prompt and answer
    std::int64_t prompt_length, limit;  // limit: tokens that the answer may have
    SequenceRandom random;
    std::unique_ptr<TextStream> stream;
    Clock::time_point start;
    TokenConstraint::State state = 0;
    std::vector<std::int32_t> draft = {};  // what is proposed to follow ids
    std::vector<Choice> chosen = {};
    bool done = false;
  };

  void check(const LanguageModel<T>* draft) const {
    validate(config_);
    const std::int64_t context = model_.context_length();
    for (const Request& r : requests_) {
      if (r.ids.empty()) throw ShapeError("generate", "the prompt is empty; a model needs at least one token to begin with (bos, if the tokenizer has one)");
      if (std::int64_t(beginning(r).size()) >= context)
        throw ShapeError("generate",
                         fmt::format("the prompt has {} tokens; the model's context is {}, and the answer needs room in it", r.ids.size(), context));
      if (limit(r) < 1)
        throw ShapeError("generate",
                         fmt::format("the prompt has {} tokens; max_length = {} leaves no room for an answer", beginning(r).size(), *config_.max_length));
      if (model_.has_encoder() && (r.cache || r.prefix))
        throw NotSupported("generate", "a cache or a prefix with an encoder-decoder, which reads each prompt as a whole");
      model_.check_placed(r.ids, r.active);
      if (r.cache && r.cache->length() >= std::int64_t(r.ids.size()))
        throw ShapeError("generate", fmt::format("the cache holds {} tokens of a prompt of {}; at least the last one must be left to run: truncate it",
                                                 r.cache->length(), r.ids.size()));
      if ((r.on_text || r.on_piece) && !tokenizer_) throw ConfigError("generate", "a callback for text needs a tokenizer");
      if (r.on_text && config_.num_return_sequences > 1 && config_.num_beams == 1)
        throw ConfigError("generate", fmt::format("num_return_sequences = {} cannot be streamed; a callback takes one text", config_.num_return_sequences));
      if (r.cache && (r.cache->dtype() == DType::f16) != config_.half_cache)
        throw ConfigError("generate", fmt::format("half_cache = {} with a cache that stores {}", config_.half_cache, name(r.cache->dtype())));
      if (r.prefix && (r.prefix->cache.dtype() == DType::f16) != config_.half_cache)
        throw ConfigError("generate",
                          fmt::format("half_cache = {} with a prompt that was remembered as {}", config_.half_cache, name(r.prefix->cache.dtype())));
      if (r.cache && (config_.num_beams > 1 || config_.penalty_alpha > 0))
        throw NotSupported("generate", "beam or contrastive search with a cache of the caller's; they keep several of their own");
    }
    if (!config_.stop.empty() && !tokenizer_) throw ConfigError("generate", "stop strings need a tokenizer; without one, only eos_token_ids end a sequence");
    if (config_.echo && !tokenizer_) throw ConfigError("generate", "echo = true needs a tokenizer");
    if (!draft) return;
    if (config_.num_beams > 1 || config_.penalty_alpha > 0 || config_.prompt_lookup_num_tokens > 0)
      throw NotSupported("generate", "a draft model together with beams, contrastive search or prompt lookup; it goes with greedy decoding and sampling");
    if (draft->has_encoder() != model_.has_encoder())
      throw ConfigError("generate", fmt::format("a draft model of type \"{}\" for one of type \"{}\"; both or none must be encoder-decoders",
                                                draft->config().model_type, model_.config().model_type));
    if (draft->config().vocab_size != model_.config().vocab_size)
      throw ConfigError("generate", fmt::format("a draft model with a vocabulary of {}; the model's is {}, and they must be the same",
                                                draft->config().vocab_size, model_.config().vocab_size));
  }

  // What the answer goes on from: the prompt, or, where an encoder reads that, the token that decoding starts with.
  std::span<const std::int32_t> beginning(const Request& r) const { return start_.empty() ? r.ids : std::span<const std::int32_t>(start_); }
  std::int64_t limit(const Request& r) const {
    const auto length = std::int64_t(beginning(r).size());
    return std::min(max_new_tokens(config_, length), model_.context_length() - length);
  }
  bool late() const { return config_.max_time && seconds_since(started_) >= *config_.max_time; }

  void describe_prompt(Generation& g, const Request& r) const {
    g.prompt_tokens = std::int64_t(r.ids.size()), g.cached_tokens = r.cache ? r.cache->length() : 0;
    if (config_.echo) g.text = tokenizer_->decode(r.ids);
  }

  // Where several prompts begin alike, that beginning runs once.
  void read_what_is_common() {
    if (model_.config().blank_tokens) return;  // nothing of a context is the same behind another beginning of it
    constexpr std::int64_t worth_it = 16;
    if (model_.has_encoder()) return;
    std::vector<int> lists;
    for (const Request& r : requests_)
      if (std::find(lists.begin(), lists.end(), r.active) == lists.end()) lists.push_back(r.active);
    for (int list : lists) {
      std::span<const std::int32_t> common;
      std::size_t prompts = 0;
      for (const Request& r : requests_) {
        if (r.active != list || r.cache || r.prefix) continue;
        common = prompts++ == 0 ? r.ids.first(r.ids.size() - 1) : common.first(std::size_t(common_prefix(common, r.ids.first(r.ids.size() - 1))));
      }
      if (prompts > 1 && std::int64_t(common.size()) >= worth_it) common_.emplace_back(list, remember_prompt<T>(model_, common, list, false));
    }
  }

  // What is known of the prompt, all but its last token at most, becomes the beginning of a cache; `own`: ours, which may read it where it is.
  void begin_with_known(const Request& request, KvCache<T>& cache, bool own) {
    const PromptCache<T>* known = request.prefix;
    for (const auto& [list, prompt] : common_)
      if (!known && list == request.active) known = &prompt;
    if (!known || cache.length() > 0) return;
    const std::int64_t n = std::min(common_prefix(known->ids, request.ids), std::int64_t(request.ids.size()) - 1);
    if (n < 1) return;
    if (known->cache.made_by != model_.active(request.active))
      throw Error("generate", "the prompt's beginning was read with other active adapters; read it again after changing them");
    if (own)  // `known` outlives the run, and so our caches: nobody has to own it
      cache = model_.continue_cache(std::shared_ptr<const KvCache<T>>(std::shared_ptr<void>(), &known->cache), cache.capacity(), request.active);
    else
      cache.copy_from(known->cache);
    cache.truncate(n);
  }

  // What an encoder-decoder's answer to one prompt is decoded from.
  void read_source(const Request& request, KvCache<T>& cache) {
    if (!model_.has_encoder()) return;
    const typename LanguageModel<T>::Source source{request.ids, request.active};
    cache.source = model_.read_sources(std::span(&source, 1))[0];
  }
  // The logits behind one prompt; its keys and values go into `cache`.
  Tensor<T> read_prompt(const Request& request, KvCache<T>& cache) {
    read_source(request, cache);
    begin_with_known(request, cache, true);
    const typename LanguageModel<T>::Continuation prompt{&cache, beginning(request).subspan(std::size_t(cache.length())), request.active};
    return model_.prefill(std::span(&prompt, 1));
  }

  // Reads the prompts of requests first … last − 1 together and chooses the first token of each of their answers.
  void begin(std::size_t first, std::size_t last) {
    const Clock::time_point start = Clock::now();
    const std::size_t before = active_.size();
    steps_.clear();
    std::vector<std::shared_ptr<const KvCache<T>>> sources;
    if (model_.has_encoder()) {
      std::vector<typename LanguageModel<T>::Source> all;
      for (const Request& r : requests_.subspan(first, last - first)) all.push_back({r.ids, r.active});
      sources = model_.read_sources(all);
    }
    for (std::size_t r = first; r < last; r++) {
      const Request& request = requests_[r];
      const std::span<const std::int32_t> prompt = beginning(request);
      for (std::size_t a = 0; a < answers_; a++) {
        Running s{&results_[r * answers_ + a],
                  &request,
                  r,
                  a,
                  request.cache,
                  nullptr,
                  {},
                  std::int64_t(prompt.size()),
                  limit(request),
                  SequenceRandom(config_.seed, request.ids, std::int64_t(a)),
                  nullptr,
                  {}};
        describe_prompt(*s.result, request);
        s.ids.reserve(prompt.size() + std::size_t(std::min<std::int64_t>(s.limit, 4096)));
        s.ids.assign(prompt.begin(), prompt.end());
        if (config_.constraint) s.state = config_.constraint->start();
        if (!s.cache) {
          s.own = std::make_unique<KvCache<T>>(model_.make_cache(s.prompt_length + std::min<std::int64_t>(s.limit, 256), request.active));
          s.cache = s.own.get();
        }
        if (tokenizer_) s.stream = std::make_unique<TextStream>(*tokenizer_, config_.stop, prompt);
        if (a == 0) {
          if (!sources.empty()) s.cache->source = sources[r - first];
          begin_with_known(request, *s.cache, bool(s.own));
          s.result->cached_tokens = s.cache->length();
          steps_.push_back({s.cache, prompt.subspan(std::size_t(s.cache->length())), request.active});
        }
        active_.push_back(std::move(s));
      }
    }
    Tensor<T> rows = model_.prefill(steps_);
    if (answers_ > 1) {  // the answers to one prompt share its keys, values and first row
      Tensor<T> repeated({rows.rows() * std::int64_t(answers_), rows.cols()});
      std::shared_ptr<const KvCache<T>> shared;
      for (std::size_t i = 0; i < active_.size() - before; i++) {
        Running& s = active_[before + i];
        std::copy_n(rows.view().row(std::int64_t(i / answers_)), rows.cols(), repeated.view().row(std::int64_t(i)));
        const std::int64_t room = std::min<std::int64_t>(s.limit, 256);
        if (i % answers_ == 0) {
          if (s.request->cache) {  // the caller's goes on by itself
            KvCache<T> copy = model_.make_cache(s.cache->rows(), s.request->active);
            copy.copy_from(*s.cache);
            shared = std::make_shared<const KvCache<T>>(std::move(copy));
            continue;
          }
          shared = std::make_shared<const KvCache<T>>(std::move(*s.own));
        }
        s.own = std::make_unique<KvCache<T>>(model_.continue_cache(shared, room, s.request->active));
        s.cache = s.own.get();
      }
      rows = std::move(repeated);
    }
    const double seconds = seconds_since(start);
    for (std::size_t i = before; i < active_.size(); i++) active_[i].start = Clock::now(), active_[i].result->prefill_seconds = seconds;
    choose(before, rows);
  }

  // In generation_step.inl.
  void step();
  void propose();
  void choose(std::size_t first, const Tensor<T>& rows);
  Choice chosen(const Running& s, std::span<T> row, std::int64_t step, TokenConstraint::State state) const;
  void accept(Running& s, const Choice& choice);
  void close(Running& s) const;
  void finish(Running& s, FinishReason reason);
  bool tell(Running& s, const std::string& text) const;
  bool is_eos(std::int32_t token) const { return std::find(eos_.begin(), eos_.end(), token) != eos_.end(); }
  void report(std::size_t r, std::size_t a, std::vector<std::int32_t> ids, FinishReason reason, double prefill_seconds, Clock::time_point start);

  // Beam search over request r, in beam_generation.inl; contrastive search, in contrastive_search.inl.
  void search_beams(std::size_t r);
  void search_contrastively(std::size_t r);

  LanguageModel<T>& model_;
  std::span<const Request> requests_;
  const GenerationConfig& config_;
  const Tokenizer* tokenizer_;
  std::vector<std::int32_t> eos_;
  std::vector<std::int32_t> start_;  // of an encoder-decoder: the token that decoding starts with
  LogitsProcessors processors_;
  Clock::time_point started_ = Clock::now();
  std::size_t answers_ = 1;
  std::optional<DraftModel<T>> draft_;
  std::vector<std::pair<int, PromptCache<T>>> common_;  // by active list
  std::vector<Running> active_;
  std::vector<std::vector<std::int32_t>> inputs_;
  std::vector<typename LanguageModel<T>::Continuation> steps_;
  std::vector<Generation> results_;
};

}  // namespace detail
}  // namespace peft
