// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <exception>
#include <mutex>
#include <unordered_map>

#include "peft/core/error.hpp"
#include "peft/core/parallel.hpp"
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
  AlignedText text;
  std::vector<Origin> origins;  // of the bytes of the input
  std::vector<Pieces::Span> spans;
  std::unordered_map<std::string, Range, Hash, std::equal_to<>> known;
  std::vector<std::int32_t> known_ids;

  static constexpr std::size_t longest_known = 64, most_known = 1 << 16;
};

struct State {
  Pipeline pipeline;
  AddedTokens added;
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
  chat_ = std::make_shared<ChatTemplate>(std::move(parts.chat_template));
  state_ = std::move(state);
}

namespace tokenizer::detail {

inline void own_origins(std::string_view text, std::vector<Origin>& origins) {
  origins.clear();
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = at + unicode::decode(text, at).length;
    origins.insert(origins.end(), end - at, Origin{at, end});
    at = end;
  }
}

/// The ids of one text and, if `origins` is given, of each the bytes that it comes from, and of added tokens the white space that they took along.
inline void encode_text(const State& state, std::string_view text, bool split_special, Scratch& scratch, std::vector<std::int32_t>& ids,
                        std::vector<Origin>* origins, std::vector<Spaces>* spaces) {
  const Pipeline& parts = state.pipeline;
  if (origins != nullptr) own_origins(text, scratch.origins);
  // Whether a normalised text still begins with what begins the input, its origins alone say.
  const bool traced = origins == nullptr && parts.normalizer && parts.pre_tokenizer && parts.pre_tokenizer->asks_start();
  const auto put_added = [&](std::int32_t id, Origin origin, std::string_view matched) {
    ids.push_back(id);
    if (origins == nullptr) return;
    origins->push_back(origin);
    spaces->resize(ids.size()), spaces->back() = spaces_around(matched);
  };
  scratch.raw.clear();
  state.added.raw().split(text, split_special, scratch.raw);
  for (const Segment& outer : scratch.raw) {
    if (outer.id >= 0) {
      put_added(outer.id, {outer.begin, outer.end}, text.substr(outer.begin, outer.end - outer.begin));
      continue;
    }
    std::string_view part = text.substr(outer.begin, outer.end - outer.begin);
    const Origin* from = origins != nullptr ? scratch.origins.data() + outer.begin : nullptr;
    const Origin* place = from;  // of the first character, where `from` is not asked for
    if (parts.normalizer) {
      if (traced && outer.begin == 0) own_origins(part, scratch.origins), place = scratch.origins.data();
      scratch.text.assign(part, place);
      parts.normalizer->apply(scratch.text);
      part = scratch.text.text;
      if (place != nullptr) place = scratch.text.origins.data();
      if (from != nullptr) from = place;
    }
    scratch.normalized.clear();
    state.added.normalized().split(part, split_special, scratch.normalized);
    for (const Segment& inner : scratch.normalized) {
      if (inner.id >= 0) {
        put_added(inner.id, from != nullptr ? Origin{from[inner.begin].begin, from[inner.end - 1].end} : Origin{},
                  part.substr(inner.begin, inner.end - inner.begin));
        continue;
      }
      const bool at_start = place != nullptr ? place[inner.begin].begin == 0 : outer.begin == 0 && inner.begin == 0;
      Pieces& pieces = scratch.pieces;
      pieces.start(part.substr(inner.begin, inner.end - inner.begin), at_start, from != nullptr ? from + inner.begin : nullptr);
      if (parts.pre_tokenizer) parts.pre_tokenizer->apply(pieces);
      for (std::size_t i = 0; i < pieces.spans.size(); i++) {
        const std::string_view piece = pieces[i];
        if (piece.empty()) continue;
        if (origins == nullptr) {
          encode_piece(*parts.model, piece, scratch, ids);
          continue;
        }
        scratch.spans.clear();
        parts.model->tokenize(piece, ids, &scratch.spans);
        for (const Pieces::Span& span : scratch.spans) {
          origins->push_back(pieces.origin(pieces.spans[i].begin + span.begin, pieces.spans[i].begin + span.end));
          if (!parts.model->spells_unknown() || ids[origins->size() - 1] != parts.model->unk_id()) continue;
          spaces->resize(origins->size()), spaces->back() = spaces_around(piece.substr(span.begin, span.end - span.begin));
        }
      }
    }
  }
  if (spaces != nullptr) spaces->resize(ids.size());
}

/// Bytes to characters. The text is valid UTF-8.
inline std::vector<Offsets> in_characters(std::string_view text, const std::vector<Origin>& origins) {
  std::vector<std::size_t> before(text.size() + 1);  // how many characters begin in front of this byte
  for (std::size_t i = 0; i < text.size(); i++) before[i + 1] = before[i] + ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80);
  std::vector<Offsets> offsets;
  offsets.reserve(origins.size());
  for (const Origin& origin : origins) offsets.push_back({before[origin.begin], before[origin.end]});
  return offsets;
}

inline void shorten(Part& part, std::size_t length, bool left) {
  if (part.ids.size() <= length) return;
  const auto cut = [&](auto& list) {
    if (list.empty()) return;
    if (left)
      list.erase(list.begin(), list.end() - static_cast<std::ptrdiff_t>(length));
    else
      list.resize(length);
  };
  cut(part.ids), cut(part.offsets), cut(part.spaces);
}

/// Tokens of text `which` that are left where it alone is cut.
inline std::size_t length_left(const std::vector<Part>& parts, std::size_t which, const Truncation& truncation, std::size_t added) {
  if (truncation.max_length < added)
    throw Error("tokenizer.truncation", "max_length is " + std::to_string(truncation.max_length) + "; the special tokens alone are " + std::to_string(added));
  std::size_t all = added;
  for (const Part& part : parts) all += part.ids.size();
  const std::size_t length = parts[which].ids.size(), excess = all > truncation.max_length ? all - truncation.max_length : 0;
  if (excess > 0 && length <= excess)
    throw Error("tokenizer.truncation", "text " + std::to_string(which + 1) + " has " + std::to_string(length) + " tokens, and " + std::to_string(excess) +
                                            " would have to go for max_length = " + std::to_string(truncation.max_length));
  return length - excess;
}

/// Cuts one text or two so that with `added` special tokens they are no longer than wanted.
inline void truncate(std::vector<Part>& parts, const Truncation& truncation, std::size_t added) {
  using Strategy = Truncation::Strategy;
  if (truncation.max_length < added)
    throw Error("tokenizer.truncation", "max_length is " + std::to_string(truncation.max_length) + "; the special tokens alone are " + std::to_string(added));
  const std::size_t room = truncation.max_length - added, n = parts[0].ids.size(), m = parts.size() > 1 ? parts[1].ids.size() : 0;
  if (n + m <= room) return;
  if (truncation.strategy == Strategy::longest_first) {
    if (parts.size() == 1) return shorten(parts[0], room, truncation.left);
    std::size_t shorter = std::min(n, m), longer = shorter > room ? shorter : std::max(shorter, room - shorter);
    if (shorter + longer > room) shorter = room / 2, longer = shorter + room % 2;
    shorten(parts[0], n > m ? longer : shorter, truncation.left);
    return shorten(parts[1], n > m ? shorter : longer, truncation.left);
  }
  const std::size_t which = truncation.strategy == Strategy::only_second ? 1 : 0;
  if (which >= parts.size()) throw Error("tokenizer.truncation", "only_second wants a pair of texts");
  shorten(parts[which], length_left(parts, which, truncation, added), truncation.left);
}

}  // namespace tokenizer::detail

PEFT_INLINE std::vector<tokenizer::Part> Tokenizer::encode_texts(std::span<const std::string_view> texts, const EncodeOptions& options, bool aligned) const {
  using namespace tokenizer;
  const tokenizer::detail::ScratchLease lease(*state_);
  Scratch& scratch = *lease;
  std::vector<Part> parts;
  for (std::string_view text : texts) {
    std::string repaired;
    if (!unicode::is_valid(text)) repaired = unicode::to_valid(text), text = repaired;
    Part part;
    part.text = part.type_id = static_cast<std::int32_t>(parts.size());
    part.ids.reserve(text.size() / 3 + 8);
    std::vector<Origin> origins;
    tokenizer::detail::encode_text(*state_, text, options.split_special_tokens, scratch, part.ids, aligned ? &origins : nullptr,
                                   aligned ? &part.spaces : nullptr);
    if (aligned) part.offsets = tokenizer::detail::in_characters(text, origins);
    parts.push_back(std::move(part));
  }
  return parts;
}

PEFT_INLINE std::size_t Tokenizer::added_tokens(std::size_t texts, const EncodeOptions& options) const {
  if (!state_->pipeline.post_processor || !options.add_special_tokens) return 0;
  std::vector<tokenizer::Part> empty(texts);
  arrange(empty, options);
  std::size_t added = 0;
  for (const tokenizer::Part& part : empty) added += part.ids.size();
  return added;
}

PEFT_INLINE void Tokenizer::arrange(std::vector<tokenizer::Part>& parts, const EncodeOptions& options) const {
  const tokenizer::Pipeline& pipeline = state_->pipeline;
  if (pipeline.post_processor)
    pipeline.post_processor->apply(parts, {.add_special_tokens = options.add_special_tokens, .vocabulary = &pipeline.model->vocabulary()});
}

PEFT_INLINE std::vector<tokenizer::Part> Tokenizer::encode_parts(std::span<const std::string_view> texts, const EncodeOptions& options, bool aligned) const {
  std::vector<tokenizer::Part> parts = encode_texts(texts, options, aligned);
  if (options.truncation) tokenizer::detail::truncate(parts, *options.truncation, added_tokens(parts.size(), options));
  arrange(parts, options);
  return parts;
}

PEFT_INLINE std::vector<std::int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<tokenizer::Part> parts = encode_parts(std::span(&text, 1), options, false);
  std::vector<std::int32_t> ids = std::move(parts[0].ids);
  for (std::size_t i = 1; i < parts.size(); i++) ids.insert(ids.end(), parts[i].ids.begin(), parts[i].ids.end());
  return ids;
}

PEFT_INLINE std::vector<std::vector<std::int32_t>> Tokenizer::encode_batch(std::span<const std::string> texts, const EncodeOptions& options) const {
  std::vector<std::vector<std::int32_t>> all(texts.size());
  std::vector<std::exception_ptr> failures(texts.size());
  constexpr std::int64_t grain = 16;
  parallel_ranges(static_cast<std::int64_t>(texts.size()), grain, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); i++) {
      try {
        all[i] = encode(texts[i], options);
      } catch (...) {
        failures[i] = std::current_exception();
      }
    }
  });
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
  return all;
}

namespace tokenizer::detail {

inline Encoding joined(const std::vector<Part>& parts) {
  Encoding all;
  for (const Part& part : parts) {
    all.ids.insert(all.ids.end(), part.ids.begin(), part.ids.end());
    all.offsets.insert(all.offsets.end(), part.offsets.begin(), part.offsets.end());
    all.type_ids.insert(all.type_ids.end(), part.ids.size(), part.type_id);
    all.special.insert(all.special.end(), part.ids.size(), part.special ? 1 : 0);
    all.sequence.insert(all.sequence.end(), part.ids.size(), part.special ? -1 : part.text);
  }
  all.mask.assign(all.ids.size(), 1);
  return all;
}

}  // namespace tokenizer::detail

PEFT_INLINE Encoding Tokenizer::encode_full(std::string_view text, const EncodeOptions& options) const {
  return tokenizer::detail::joined(encode_parts(std::span(&text, 1), options, true));
}

PEFT_INLINE Encoding Tokenizer::encode_pair(std::string_view first, std::string_view second, const EncodeOptions& options) const {
  const std::string_view texts[] = {first, second};
  return tokenizer::detail::joined(encode_parts(texts, options, true));
}

PEFT_INLINE std::vector<Encoding> Tokenizer::encode_windows(std::string_view first, std::string_view second, const EncodeOptions& options,
                                                            std::size_t stride) const {
  using namespace tokenizer;
  if (!options.truncation || options.truncation->strategy == Truncation::Strategy::longest_first)
    throw Error("tokenizer.encode_windows", "windows are of one text: the truncation must be only_first or only_second");
  const std::size_t which = options.truncation->strategy == Truncation::Strategy::only_second ? 1 : 0;
  const std::string_view texts[] = {first, second};
  const std::vector<Part> parts = encode_texts(texts, options, true);
  const std::size_t length = parts[which].ids.size(), window = tokenizer::detail::length_left(parts, which, *options.truncation, added_tokens(2, options));
  if (window < length && stride >= window)
    throw Error("tokenizer.encode_windows",
                "stride is " + std::to_string(stride) + "; a window has room for " + std::to_string(window) + " tokens of the text");
  std::vector<Encoding> all;
  for (std::size_t done = 0; all.empty() || done < length;) {
    // What is cut at its left is windowed from its end.
    const std::size_t begin = all.empty() ? 0 : done - stride, end = std::min(begin + window, length);
    std::vector<Part> cut = parts;
    const auto keep = [&](auto& list) {
      const auto from = static_cast<std::ptrdiff_t>(options.truncation->left ? length - end : begin), to = from + static_cast<std::ptrdiff_t>(end - begin);
      list.erase(list.begin() + to, list.end()), list.erase(list.begin(), list.begin() + from);
    };
    keep(cut[which].ids), keep(cut[which].offsets), keep(cut[which].spaces);
    arrange(cut, options);
    all.push_back(tokenizer::detail::joined(cut));
    done = end;
  }
  return all;
}

PEFT_INLINE std::string Tokenizer::decode(std::span<const std::int32_t> ids, DecodeOptions options) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const std::int32_t id : ids) {
    if (id < 0) throw Error("tokenizer.decode", "the id " + std::to_string(id) + " is negative (-100 marks labels that do not count: leave them out)");
    const std::string_view token = state_->token(id);
    if (token.data() == nullptr || (options.skip_special_tokens && is_special(id))) continue;
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

PEFT_INLINE bool Tokenizer::is_special(std::int32_t id) const {
  const std::vector<std::int32_t>& controls = state_->pipeline.control_ids;
  return state_->added.is_special(id) || std::find(controls.begin(), controls.end(), id) != controls.end();
}
PEFT_INLINE std::optional<std::int32_t> Tokenizer::bos_id() const { return state_->pipeline.bos_id; }
PEFT_INLINE std::optional<std::int32_t> Tokenizer::eos_id() const { return state_->pipeline.eos_id; }
PEFT_INLINE std::optional<std::int32_t> Tokenizer::pad_id() const { return state_->pipeline.pad_id; }
PEFT_INLINE std::optional<std::int32_t> Tokenizer::unk_id() const { return state_->pipeline.unk_id; }
PEFT_INLINE const std::vector<std::int32_t>& Tokenizer::eos_ids() const { return state_->pipeline.eos_ids; }
PEFT_INLINE const ChatTemplate& Tokenizer::chat_template() const { return *chat_; }
PEFT_INLINE Tokenizer Tokenizer::with_chat_template(ChatTemplate chat) const {
  Tokenizer other = *this;
  other.chat_ = std::make_shared<ChatTemplate>(std::move(chat));
  return other;
}
PEFT_INLINE const std::optional<Truncation>& Tokenizer::truncation() const { return state_->pipeline.truncation; }
PEFT_INLINE const std::optional<Padding>& Tokenizer::padding() const { return state_->pipeline.padding; }

PEFT_INLINE std::string Tokenizer::apply_chat(std::span<const ChatMessage> messages, bool add_generation_prompt) const {
  return chat_->render(messages, add_generation_prompt, state_->bos_token, state_->eos_token);
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
