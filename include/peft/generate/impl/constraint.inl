// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "peft/generate/constraint.hpp"
#include "peft/generate/impl/regex.inl"
#include "peft/generate/impl/row.hpp"
#include "peft/generate/impl/token_trie.inl"

namespace peft {

PEFT_INLINE std::string token_bytes(const Tokenizer& tokenizer, std::int32_t id) {
  const auto token = tokenizer.id_to_token(id);
  if (!token || tokenizer.is_special(id)) return {};
  // Behind another token, because the first one of a text may lose its space.
  const std::array<std::int32_t, 2> both = {id, id};
  const std::string once = tokenizer.decode(std::span(both).first(1)), twice = tokenizer.decode(both);
  if (twice.find("\xEF\xBF\xBD") == std::string::npos && twice.size() >= once.size() && twice.starts_with(once)) return twice.substr(once.size());
  // Part of a character: "<0xNN>", or GPT-2's visible bytes.
  if (token->size() == 6 && token->starts_with("<0x") && token->ends_with('>')) return std::string(1, char(std::stoi(token->substr(3, 2), nullptr, 16)));
  std::string bytes;
  for (std::size_t at = 0; at < token->size();) {
    const auto character = unicode::decode(*token, at);
    const int byte = unicode::visible_to_byte(character.value);
    if (byte < 0) return twice.substr(std::min(once.size(), twice.size()));  // a token that spells U+FFFD itself
    bytes += static_cast<char>(static_cast<unsigned char>(byte)), at += character.length;
  }
  return bytes;
}

/// The automaton, the vocabulary, and the masks of states. Tokens are kept by their length: few are long, and how far the longest sees decides how
/// many states share a mask. In a counted repetition that is all but the last ones, for short tokens soon.
struct TokenConstraint::Automaton {
  static constexpr std::size_t most_bytes = std::size_t{64} << 20;  // of masks that are kept
  using Bits = detail::Scratch<std::uint64_t>;

  /// Tokens of a range of lengths, which may follow in a state.
  struct Mask {
    std::vector<std::uint64_t> bits;  // by id
    // The distances behind them, less the state's own.
    std::int32_t nearest = std::numeric_limits<std::int32_t>::max(), farthest = std::numeric_limits<std::int32_t>::min();
  };
  struct Tier {
    detail::TokenTrie tokens;
    std::unordered_map<std::vector<std::int32_t>, Mask, detail::HashOfList> masks;  // by what a state looks like from that near
  };

  std::vector<std::string> bytes;  // by id
  std::vector<Tier> tiers;
  std::mutex mutex;
  std::optional<detail::ByteDfa> states;
  std::size_t kept = 0;

  Automaton(const Tokenizer& tokenizer, std::string_view pattern) {
    std::array<std::vector<detail::TokenTrie::Entry>, 3> by_length;
    for (std::int32_t id = 0; id < tokenizer.vocab_size(); id++) {
      bytes.push_back(token_bytes(tokenizer, id));
      const std::size_t length = bytes.back().size();
      if (length > 0) by_length[length <= 8 ? 0 : length <= 16 ? 1 : 2].emplace_back(bytes.back(), id);
    }
    std::vector<std::int64_t> reaches;
    for (auto& entries : by_length) {
      if (entries.empty()) continue;
      tiers.push_back({detail::TokenTrie(std::move(entries)), {}});
      reaches.push_back(std::int64_t(tiers.back().tokens.deepest()));
    }
    states.emplace(detail::RegexReader(pattern, reaches).read());
  }

  std::size_t words() const { return (bytes.size() + 63) / 64; }
  template <class Words>
  static void add(Words& bits, std::int32_t id) {
    bits[std::size_t(id) / 64] |= std::uint64_t(1) << (id % 64);
  }

  const Mask& mask_of(std::size_t tier, State state) {
    std::vector<std::int32_t> key = states->seen_within(tier, state);
    auto& masks = tiers[tier].masks;
    if (const auto known = masks.find(key); known != masks.end()) return known->second;
    Mask mask;
    mask.bits.resize(words());
    tiers[tier].tokens.walk(*states, state, [&](std::int32_t id, std::int32_t behind) {
      add(mask.bits, id);
      const std::int32_t farther = states->distance(behind) - states->distance(state);
      mask.nearest = std::min(mask.nearest, farther), mask.farthest = std::max(mask.farthest, farther);
    });
    const std::size_t size = words() * sizeof(std::uint64_t) + key.size() * sizeof(std::int32_t) + 128;
    if (kept + size > most_bytes) {  // they can be made again
      for (Tier& t : tiers) t.masks.clear();
      kept = 0;
    }
    kept += size;
    return masks.emplace(std::move(key), std::move(mask)).first->second;
  }

  /// The tokens that may follow and leave no more than `most` bytes to an end.
  Bits allowed(State state, std::int64_t most) {
    const std::lock_guard lock(mutex);
    Bits all(words());
    bool some_are_farther = false;
    for (std::size_t t = 0; t < tiers.size(); t++) {
      const Mask& mask = mask_of(t, state);
      if (mask.nearest > mask.farthest) continue;
      for (std::size_t w = 0; w < all.size(); w++) all[w] |= mask.bits[w];
      some_are_farther = some_are_farther || states->distance(state) + mask.farthest > most;
    }
    if (!some_are_farther) return all;
    std::fill(all.begin(), all.end(), std::uint64_t(0));
    for (std::size_t t = 0; t < tiers.size(); t++)
      if (const Mask& mask = mask_of(t, state); mask.nearest <= mask.farthest && states->distance(state) + mask.nearest <= most)
        tiers[t].tokens.walk(*states, state, [&](std::int32_t id, std::int32_t behind) {
          if (states->distance(behind) <= most) add(all, id);
        });
    return all;
  }
};

PEFT_INLINE TokenConstraint::TokenConstraint(const Tokenizer& tokenizer, std::string_view pattern)
    : automaton_(std::make_unique<Automaton>(tokenizer, pattern)) {}
PEFT_INLINE TokenConstraint::~TokenConstraint() = default;

PEFT_INLINE TokenConstraint::State TokenConstraint::start() const { return 0; }

PEFT_INLINE TokenConstraint::State TokenConstraint::next(State state, std::int32_t token) const {
  Automaton& a = *automaton_;
  const std::lock_guard lock(a.mutex);
  const bool known = token >= 0 && std::size_t(token) < a.bytes.size() && !a.bytes[std::size_t(token)].empty();
  if (known)
    for (char byte : a.bytes[std::size_t(token)])
      if (state != detail::ByteDfa::dead) state = a.states->step(state, static_cast<std::uint8_t>(byte));
  if (!known || state == detail::ByteDfa::dead) throw Error("generate", "the token " + std::to_string(token) + " does not follow the constraint");
  return state;
}

PEFT_INLINE bool TokenConstraint::complete(State state) const {
  const std::lock_guard lock(automaton_->mutex);
  return automaton_->states->accepts(state);
}
PEFT_INLINE bool TokenConstraint::finished(State state) const {
  const std::lock_guard lock(automaton_->mutex);
  return automaton_->states->ends(state);
}

template <Scalar T>
void TokenConstraint::mask(std::span<T> row, State state, std::int64_t left, std::span<const std::int32_t> eos) const {
  detail::Scratch<T> ends;
  for (std::int32_t id : eos) ends.push_back(detail::in_row(row, id) ? row[std::size_t(id)] : detail::removed<T>);
  const bool accepts = complete(state);
  const std::size_t known = std::min(row.size(), automaton_->bytes.size());
  const auto any_is_left = [&](const Automaton::Bits& bits) {
    for (std::size_t i = 0; i < known; i++)
      if ((bits[i / 64] >> (i % 64) & 1) && row[i] != detail::removed<T>) return true;
    return false;
  };
  Automaton::Bits bits = automaton_->allowed(state, std::max<std::int64_t>(left - 1, 0));
  if (!any_is_left(bits)) {
    if (accepts && !eos.empty())
      std::fill(bits.begin(), bits.end(), std::uint64_t(0));
    else
      bits = automaton_->allowed(state, std::numeric_limits<std::int64_t>::max());
  }
  for (std::size_t w = 0; w * 64 < known; w++) {
    if (bits[w] == ~std::uint64_t(0)) continue;
    const std::span<T> part = row.subspan(w * 64, std::min<std::size_t>(known - w * 64, 64));
    for (std::size_t b = 0; b < part.size(); b++) part[b] = bits[w] >> b & 1 ? part[b] : detail::removed<T>;
  }
  std::fill(row.begin() + std::ptrdiff_t(known), row.end(), detail::removed<T>);
  for (std::size_t i = 0; i < eos.size(); i++)
    if (detail::in_row(row, eos[i])) row[std::size_t(eos[i])] = accepts ? ends[i] : detail::removed<T>;
}

PEFT_INLINE std::shared_ptr<const TokenConstraint> constrain_to_regex(const Tokenizer& tokenizer, std::string_view pattern) {
  return std::make_shared<const TokenConstraint>(tokenizer, pattern);
}

}  // namespace peft
