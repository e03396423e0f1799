// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "peft/generate/text_generation.hpp"

namespace peft {

/// A conversation with a model. Each turn runs only what is new: the keys and values of the turns before stay in a cache for as long as the
/// conversation, written through the chat template, begins as it did. Changing the active adapters begins a new cache.
///
///     peft::ChatSession chat{tuned, tokenizer, {.max_tokens = 200, .system_prompt = "You answer in one sentence."}};
///     chat.say("My printer is on fire.", [](std::string_view text) { fmt::print("{}", text); });
template <class M>
class ChatSession {
  using T = typename detail::LanguageModelScalar<M>::type;

 public:
  /// Model and tokenizer's state outlive the session. config.system_prompt is the first message, if there is one. Throws ConfigError for a
  /// tokenizer without a chat template that is known.
  ChatSession(const M& model, Tokenizer tokenizer, GenerationConfig config = {}) : model_(model), tokenizer_(std::move(tokenizer)), config_(std::move(config)) {
    static_assert(detail::is_language_model<M>, "a chat needs a Transformer<float> or <double>, or a PeftModel of one: what load_model returns");
    validate(config_);
    if (LanguageModel<T>(model_).has_encoder()) throw NotSupported("chat", "a conversation with an encoder-decoder, which answers single prompts: generate");
    if (config_.num_return_sequences > 1 || config_.num_beams > 1)
      throw ConfigError("chat", "num_return_sequences and num_beams must be 1: a conversation has one answer a turn");
    reset();
    if (!tokenizer_.chat_template().usable()) {
      const ChatMessage probe{"user", ""};
      (void)tokenizer_.apply_chat(std::span(&probe, 1));  // throws, and says why
    }
  }
  ChatSession(M&&, Tokenizer, GenerationConfig = {}) = delete;  // a temporary model would be gone

  /// The user's words in, the model's answer out; both join the history, the answer also when it was cancelled. Throws ShapeError, and
  /// leaves the history as it was, if the conversation no longer fits the model's context.
  Generation say(std::string_view user, const TextCallback& on_text = {}) {
    history_.push_back({"user", std::string(user)});
    try {
      Generation answer = answer_history(on_text);
      history_.push_back({"assistant", answer.text});
      return answer;
    } catch (...) {
      history_.pop_back();
      throw;
    }
  }

  /// Another answer to the last question. Throws Error if nothing was said yet.
  Generation again(const TextCallback& on_text = {}) {
    if (history_.empty() || history_.back().role != "assistant") throw Error("chat", "there is no answer yet that could be given again");
    ChatMessage old = std::move(history_.back());
    history_.pop_back();
    try {
      Generation answer = answer_history(on_text);
      history_.push_back({"assistant", answer.text});
      return answer;
    } catch (...) {
      history_.push_back(std::move(old));
      throw;
    }
  }

  const std::vector<ChatMessage>& history() const { return history_; }
  /// Goes on from another conversation (its system message included).
  void set_history(std::vector<ChatMessage> history) { history_ = std::move(history); }
  /// Forgets everything but the system prompt.
  void reset() {
    history_.clear();
    cache_.reset();
    cached_ids_.clear();
    if (!config_.system_prompt.empty()) history_.push_back({"system", config_.system_prompt});
  }
  /// Call it after an adapter's weights changed: what the cache holds is then out of date.
  void drop_cache() { cache_.reset(), cached_ids_.clear(), draft_past_ = {}; }
  GenerationConfig& config() { return config_; }
  /// From now on a smaller model of the same vocabulary guesses ahead: the same answers, sooner if it guesses well. It outlives the session; null: none.
  void set_draft(LanguageModel<T>* draft) { draft_ = draft, draft_past_ = {}; }

 private:
  Generation answer_history(const TextCallback& on_text) {
    LanguageModel<T> view(model_);
    const std::vector<std::int32_t> ids = tokenizer_.encode(tokenizer_.apply_chat(history_), {.add_special_tokens = false});
    if (config_.half_cache) view.set_cache_dtype(DType::f16);
    if (!cache_ || cache_->made_by != view.active(0)) cache_ = view.make_cache(std::int64_t(ids.size()) + 256), cached_ids_.clear();
    // The last token must run, to be answered.
    const std::int64_t kept = std::min(common_prefix(cached_ids_, ids), std::int64_t(ids.size()) - 1);
    cache_->truncate(kept);
    cached_ids_.resize(std::size_t(cache_->length()));
    GenerationRequest<T> request{ids, &*cache_, 0, on_text};
    request.draft_past = &draft_past_;
    Generation answer = run_generation<T>(view, std::span(&request, 1), config_, &tokenizer_, draft_).at(0);
    cached_ids_ = ids;
    cached_ids_.insert(cached_ids_.end(), answer.ids.begin(), answer.ids.end());
    cached_ids_.resize(std::size_t(cache_->length()));
    return answer;
  }

  const M& model_;
  Tokenizer tokenizer_;
  GenerationConfig config_;
  std::vector<ChatMessage> history_;
  LanguageModel<T>* draft_ = nullptr;
  PromptCache<T> draft_past_;
  std::optional<KvCache<T>> cache_;
  std::vector<std::int32_t> cached_ids_;  // what the cache holds
};

}  // namespace peft
