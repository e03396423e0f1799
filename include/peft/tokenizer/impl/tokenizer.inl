// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "peft/core/error.hpp"
#include "peft/tokenizer/pipeline.hpp"
#include "peft/tokenizer/tokenizer.hpp"
#include "peft/tokenizer/unicode.hpp"

namespace peft {
namespace tokenizer {

/// What one encode() needs and the next one can use again: buffers, and the ids of the pieces seen so far.
struct Scratch {
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view piece) const { return std::hash<std::string_view>{}(piece); }
  };
  struct Range {
    std::uint32_t begin, size;
  };
  Pieces pieces;
  std::vector<Segment> raw, normalized;
  std::string text;
  std::unordered_map<std::string, Range, Hash, std::equal_to<>> known;
  std::vector<std::int32_t> known_ids;

  static constexpr std::size_t longest_known = 64, most_known = 1 << 16;
};

struct State {
  Pipeline pipeline;
  AddedTokens added;
  ChatTemplate chat;
  std::string bos_token, eos_token;

  // One scratch per concurrent call: a thread takes one (a lock each way, none per piece) and puts it back.
  mutable std::mutex mutex;
  mutable std::vector<std::unique_ptr<Scratch>> idle;

  State() { idle.reserve(64); }

  std::string_view token(std::int32_t id) const {
    const std::string_view added_token = added.shown(id);
    return added_token.data() != nullptr ? added_token : pipeline.model->vocabulary().token(id);
  }
};

namespace detail {

class ScratchLease {
 public:
  explicit ScratchLease(const State& state) : state_(state) {
    {
      const std::lock_guard lock(state_.mutex);
      if (!state_.idle.empty()) scratch_ = std::move(state_.idle.back()), state_.idle.pop_back();
    }
    if (!scratch_) scratch_ = std::make_unique<Scratch>();
  }
  ~ScratchLease() {
    const std::lock_guard lock(state_.mutex);
    if (state_.idle.size() < state_.idle.capacity()) state_.idle.push_back(std::move(scratch_));
  }
  ScratchLease(const ScratchLease&) = delete;
  ScratchLease& operator=(const ScratchLease&) = delete;
  Scratch& operator*() const { return *scratch_; }

 private:
  const State& state_;
  std::unique_ptr<Scratch> scratch_;
};

/// The ids of one word, remembered if it is short: text repeats its words.
inline void encode_word(const Model& model, std::string_view word, Scratch& scratch, std::vector<std::int32_t>& ids) {
  if (word.size() > Scratch::longest_known) return model.tokenize(word, ids);
  if (const auto known = scratch.known.find(word); known != scratch.known.end()) {
    const auto begin = scratch.known_ids.begin() + known->second.begin;
    ids.insert(ids.end(), begin, begin + known->second.size);
    return;
  }
  const std::size_t before = ids.size();
  model.tokenize(word, ids);
  if (scratch.known.size() >= Scratch::most_known) scratch.known.clear(), scratch.known_ids.clear();
  scratch.known.emplace(word, Scratch::Range{static_cast<std::uint32_t>(scratch.known_ids.size()), static_cast<std::uint32_t>(ids.size() - before)});
  scratch.known_ids.insert(scratch.known_ids.end(), ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end());
}

inline void encode_piece(const Model& model, std::string_view piece, Scratch& scratch, std::vector<std::int32_t>& ids) {
  const std::string_view mark = model.word_mark();
  while (!mark.empty() && piece.size() > mark.size()) {
    std::size_t end = 0;
    while (piece.substr(end).starts_with(mark)) end += mark.size();
    end = piece.find(mark, end);
    if (end == piece.npos) break;
    encode_word(model, piece.substr(0, end), scratch, ids);
    piece.remove_prefix(end);
  }
  if (!piece.empty()) encode_word(model, piece, scratch, ids);
}

}  // namespace detail
}  // namespace tokenizer

PEFT_INLINE Tokenizer::Tokenizer(tokenizer::Pipeline pipeline) {
  if (!pipeline.model) throw Error("tokenizer", "a pipeline needs a model");
  auto state = std::make_shared<tokenizer::State>();
  for (const tokenizer::AddedToken& token : pipeline.added_tokens) {
    const std::int32_t known = pipeline.model->vocabulary().id(token.content);
    const std::string_view holder = pipeline.model->vocabulary().token(token.id);
    if ((known >= 0 && known != token.id) || (holder.data() != nullptr && holder != token.content))
      throw Error("tokenizer", "the added token \"" + token.content + "\" claims the id " + std::to_string(token.id) + ", but the vocabulary has " +
                                   (holder.data() != nullptr ? "\"" + std::string(holder) + "\" there" : "it at " + std::to_string(known)));
  }
  state->added = tokenizer::AddedTokens(pipeline.added_tokens, pipeline.normalizer.get());
  state->pipeline = std::move(pipeline);
  tokenizer::Pipeline& parts = state->pipeline;
  if (parts.eos_id && std::find(parts.eos_ids.begin(), parts.eos_ids.end(), *parts.eos_id) == parts.eos_ids.end())
    parts.eos_ids.insert(parts.eos_ids.begin(), *parts.eos_id);
  if (!parts.unk_id && parts.model->unk_id() >= 0) parts.unk_id = parts.model->unk_id();
  if (parts.bos_id) state->bos_token = state->token(*parts.bos_id);
  if (parts.eos_id) state->eos_token = state->token(*parts.eos_id);
  state->chat = ChatTemplate(parts.chat_template);
  state_ = std::move(state);
}

PEFT_INLINE std::vector<std::int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  const tokenizer::Pipeline& parts = state_->pipeline;
  const tokenizer::detail::ScratchLease lease(*state_);
  tokenizer::Scratch& scratch = *lease;
  std::string repaired;
  if (!unicode::is_valid(text)) repaired = unicode::to_valid(text), text = repaired;

  std::vector<std::int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  scratch.raw.clear();
  state_->added.raw().split(text, options.split_special_tokens, scratch.raw);
  for (const tokenizer::Segment& outer : scratch.raw) {
    if (outer.id >= 0) {
      ids.push_back(outer.id);
      continue;
    }
    std::string_view part = text.substr(outer.begin, outer.end - outer.begin);
    if (parts.normalizer) {
      scratch.text.assign(part);
      parts.normalizer->apply(scratch.text);
      part = scratch.text;
    }
    scratch.normalized.clear();
    state_->added.normalized().split(part, options.split_special_tokens, scratch.normalized);
    for (const tokenizer::Segment& inner : scratch.normalized) {
      if (inner.id >= 0) {
        ids.push_back(inner.id);
        continue;
      }
      scratch.pieces.start(part.substr(inner.begin, inner.end - inner.begin), outer.begin == 0 && inner.begin == 0);
      if (parts.pre_tokenizer) parts.pre_tokenizer->apply(scratch.pieces);
      for (std::size_t i = 0; i < scratch.pieces.spans.size(); i++)
        if (const std::string_view piece = scratch.pieces[i]; !piece.empty()) tokenizer::detail::encode_piece(*parts.model, piece, scratch, ids);
    }
  }
  if (options.add_special_tokens && parts.post_processor) parts.post_processor->apply(ids);
  return ids;
}

PEFT_INLINE std::string Tokenizer::decode(std::span<const std::int32_t> ids, DecodeOptions options) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const std::int32_t id : ids) {
    if (id < 0) throw Error("tokenizer.decode", "the id " + std::to_string(id) + " is negative (-100 marks labels that do not count: leave them out)");
    const std::string_view token = state_->token(id);
    if (token.data() == nullptr || (options.skip_special_tokens && state_->added.is_special(id))) continue;
    tokens.emplace_back(token);
  }
  const bool decoded = state_->pipeline.decoder != nullptr;
  if (decoded) state_->pipeline.decoder->apply(tokens);
  std::string text;
  for (std::size_t i = 0; i < tokens.size(); i++) {
    if (!decoded && i > 0) text += ' ';
    text += tokens[i];
  }
  return text;
}

PEFT_INLINE std::optional<std::int32_t> Tokenizer::token_to_id(std::string_view token) const {
  std::int32_t id = state_->added.vocabulary().id(token);
  if (id < 0) id = state_->pipeline.model->vocabulary().id(token);
  return id < 0 ? std::nullopt : std::optional(id);
}

PEFT_INLINE std::optional<std::string> Tokenizer::id_to_token(std::int32_t id) const {
  const std::string_view token = state_->token(id);
  return token.data() == nullptr ? std::nullopt : std::optional(std::string(token));
}

PEFT_INLINE std::int32_t Tokenizer::vocab_size() const { return std::max(state_->pipeline.model->vocabulary().end_id(), state_->added.vocabulary().end_id()); }

PEFT_INLINE bool Tokenizer::is_special(std::int32_t id) const { return state_->added.is_special(id); }
PEFT_INLINE std::optional<std::int32_t> Tokenizer::bos_id() const { return state_->pipeline.bos_id; }
PEFT_INLINE std::optional<std::int32_t> Tokenizer::eos_id() const { return state_->pipeline.eos_id; }
PEFT_INLINE std::optional<std::int32_t> Tokenizer::pad_id() const { return state_->pipeline.pad_id; }
PEFT_INLINE std::optional<std::int32_t> Tokenizer::unk_id() const { return state_->pipeline.unk_id; }
PEFT_INLINE const std::vector<std::int32_t>& Tokenizer::eos_ids() const { return state_->pipeline.eos_ids; }
PEFT_INLINE const ChatTemplate& Tokenizer::chat_template() const { return state_->chat; }
PEFT_INLINE const std::string& Tokenizer::truncation() const { return state_->pipeline.truncation; }
PEFT_INLINE const std::string& Tokenizer::padding() const { return state_->pipeline.padding; }

PEFT_INLINE std::string Tokenizer::apply_chat(std::span<const ChatMessage> messages, bool add_generation_prompt) const {
  return state_->chat.render(messages, add_generation_prompt, state_->bos_token, state_->eos_token);
}

PEFT_INLINE std::string StreamDecoder::push(std::int32_t id) {
  ids_.push_back(id);
  std::string text = tokenizer_.decode(ids_, options_);
  // A character whose bytes are not all there decodes to U+FFFD; more tokens may complete it.
  if (text.size() <= shown_.size() || !text.starts_with(shown_) || text.ends_with("\xEF\xBF\xBD")) return {};
  text.erase(0, shown_.size());
  // The tokens that gave this text stay, because the next one may depend on them (a leading space is dropped at the start only).
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(shown_ids_));
  shown_ids_ = ids_.size();
  shown_ = tokenizer_.decode(ids_, options_);
  return text;
}

PEFT_INLINE std::string StreamDecoder::flush() {
  std::string text = tokenizer_.decode(ids_, options_);
  if (text.starts_with(shown_))
    text.erase(0, shown_.size());
  else  // what came last made bytes that were already shown invalid: only the new tokens count
    text = tokenizer_.decode(std::span(ids_).subspan(shown_ids_), options_);
  ids_.clear(), shown_.clear(), shown_ids_ = 0;
  return text;
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/load_tokenizer.inl"
#endif
