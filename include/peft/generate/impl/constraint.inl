// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "peft/generate/constraint.hpp"
#include "peft/generate/impl/regex.inl"
#include "peft/generate/impl/row.hpp"

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

/// The deterministic automaton, as far as it was needed, and the masks of its states.
struct TokenConstraint::Automaton {
  static constexpr std::int32_t unknown = -2, dead = -1;
  static constexpr std::uint16_t banned = UINT16_MAX;

  struct Node {
    std::vector<std::int32_t> members;  // states of the other one that read a byte or accept, sorted
    std::array<std::int32_t, 256> next;
    std::uint16_t distance = 0;  // fewest bytes to an end
    bool accepts = false, ends = false;
    std::vector<std::uint16_t> mask;  // by token: the distance behind it, or banned; empty: not made yet
  };
  /// A token with bytes; all of them sorted by these, so that tokens with a common beginning are neighbours.
  struct Entry {
    std::string bytes;
    std::int32_t id;
    std::size_t shared;  // bytes in common with the entry before
  };

  detail::ByteNfa nfa;
  std::vector<Entry> entries;
  std::vector<std::int32_t> entry_of;  // by id, −1: none
  std::mutex mutex;
  std::deque<Node> nodes;  // references stay good
  std::map<std::vector<std::int32_t>, std::int32_t> by_members;
  std::vector<std::uint8_t> seen;  // scratch of closure()

  Automaton(const Tokenizer& tokenizer, std::string_view pattern) : nfa(detail::RegexReader(pattern).read()), seen(nfa.states.size()) {
    entry_of.assign(std::size_t(tokenizer.vocab_size()), -1);
    for (std::int32_t id = 0; id < tokenizer.vocab_size(); id++)
      if (std::string bytes = token_bytes(tokenizer, id); !bytes.empty()) entries.push_back({std::move(bytes), id, 0});
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.bytes != b.bytes ? a.bytes < b.bytes : a.id < b.id; });
    for (std::size_t i = 0; i < entries.size(); i++) {
      entry_of[std::size_t(entries[i].id)] = std::int32_t(i);
      if (i == 0) continue;
      const std::string &a = entries[i - 1].bytes, &b = entries[i].bytes;
      entries[i].shared = std::size_t(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).second - b.begin());
    }
    node_of({nfa.start});
  }

  std::int32_t node_of(std::vector<std::int32_t> begin) {
    std::vector<std::int32_t> members;
    std::fill(seen.begin(), seen.end(), std::uint8_t(0));
    Node node;
    node.distance = UINT16_MAX;
    while (!begin.empty()) {
      const std::int32_t s = begin.back();
      begin.pop_back();
      if (std::exchange(seen[std::size_t(s)], std::uint8_t(1))) continue;
      const auto& state = nfa.states[std::size_t(s)];
      if (state.reads() || s == nfa.accept) {
        members.push_back(s);
        node.distance = std::min(node.distance, nfa.distance[std::size_t(s)]);
      }
      if (state.reads()) continue;
      if (state.out >= 0) begin.push_back(state.out);
      if (state.other >= 0) begin.push_back(state.other);
    }
    if (node.distance == UINT16_MAX) return dead;
    std::sort(members.begin(), members.end());
    const auto [found, is_new] = by_members.try_emplace(members, std::int32_t(nodes.size()));
    if (!is_new) return found->second;
    node.accepts = std::binary_search(members.begin(), members.end(), nfa.accept);
    node.ends = node.accepts && members.size() == 1;
    node.next.fill(unknown);
    node.members = std::move(members);
    nodes.push_back(std::move(node));
    return found->second;
  }

  std::int32_t step(std::int32_t from, std::uint8_t byte) {
    Node& node = nodes[std::size_t(from)];
    std::int32_t& to = node.next[byte];
    if (to != unknown) return to;
    std::vector<std::int32_t> reached;
    for (std::int32_t s : node.members) {
      const auto& state = nfa.states[std::size_t(s)];
      if (state.reads() && byte >= state.first && byte <= state.last) reached.push_back(state.out);
    }
    return to = reached.empty() ? dead : node_of(std::move(reached));
  }

  const std::vector<std::uint16_t>& mask_of(std::int32_t state) {
    Node& node = nodes[std::size_t(state)];
    if (!node.mask.empty()) return node.mask;
    std::vector<std::uint16_t> mask(std::max<std::size_t>(entry_of.size(), 1), banned);
    std::vector<std::int32_t> path = {state};  // states behind the bytes of the current entry that are walked; shorter than those: dead
    for (const Entry& e : entries) {
      path.resize(std::min(path.size(), e.shared + 1));
      while (path.size() <= e.bytes.size() && path.back() != dead) path.push_back(step(path.back(), static_cast<std::uint8_t>(e.bytes[path.size() - 1])));
      if (path.back() == dead) continue;  // it stays on the path: entries that begin so end here, too
      mask[std::size_t(e.id)] = std::min<std::uint16_t>(nodes[std::size_t(path[e.bytes.size()])].distance, banned - 1);
    }
    return node.mask = std::move(mask);
  }
};

PEFT_INLINE TokenConstraint::TokenConstraint(const Tokenizer& tokenizer, std::string_view pattern)
    : automaton_(std::make_unique<Automaton>(tokenizer, pattern)) {
  if (automaton_->nodes.empty()) throw ConfigError("regex", "no text matches \"" + std::string(pattern) + "\"");
}
PEFT_INLINE TokenConstraint::~TokenConstraint() = default;

PEFT_INLINE TokenConstraint::State TokenConstraint::start() const { return 0; }

PEFT_INLINE TokenConstraint::State TokenConstraint::next(State state, std::int32_t token) const {
  Automaton& a = *automaton_;
  const std::lock_guard lock(a.mutex);
  const std::int32_t entry = token >= 0 && std::size_t(token) < a.entry_of.size() ? a.entry_of[std::size_t(token)] : -1;
  if (entry >= 0)
    for (char byte : a.entries[std::size_t(entry)].bytes)
      if (state != Automaton::dead) state = a.step(state, static_cast<std::uint8_t>(byte));
  if (entry < 0 || state == Automaton::dead) throw Error("generate", "the token " + std::to_string(token) + " does not follow the constraint");
  return state;
}

PEFT_INLINE bool TokenConstraint::complete(State state) const {
  const std::lock_guard lock(automaton_->mutex);
  return automaton_->nodes[std::size_t(state)].accepts;
}
PEFT_INLINE bool TokenConstraint::finished(State state) const {
  const std::lock_guard lock(automaton_->mutex);
  return automaton_->nodes[std::size_t(state)].ends;
}

template <Scalar T>
void TokenConstraint::mask(std::span<T> row, State state, std::int64_t left, std::span<const std::int32_t> eos) const {
  const std::vector<std::uint16_t>* distances;
  bool accepts;
  {
    const std::lock_guard lock(automaton_->mutex);
    distances = &automaton_->mask_of(state);
    accepts = automaton_->nodes[std::size_t(state)].accepts;
  }
  detail::Scratch<T> ends;
  for (std::int32_t id : eos) ends.push_back(detail::in_row(row, id) ? row[std::size_t(id)] : detail::removed<T>);
  const std::size_t known = std::min(row.size(), distances->size());
  const auto keep_within = [&](std::uint16_t most) {
    bool any = false;
    for (std::size_t i = 0; i < known && !any; i++) any = (*distances)[i] <= most && row[i] != detail::removed<T>;
    if (!any) return false;
    for (std::size_t i = 0; i < known; i++)
      if ((*distances)[i] > most) row[i] = detail::removed<T>;
    return true;
  };
  const auto budget = std::uint16_t(std::clamp<std::int64_t>(left - 1, 0, Automaton::banned - 1));
  if (!keep_within(budget) && ((accepts && !eos.empty()) || !keep_within(Automaton::banned - 1)))
    std::fill(row.begin(), row.begin() + std::ptrdiff_t(known), detail::removed<T>);
  std::fill(row.begin() + std::ptrdiff_t(known), row.end(), detail::removed<T>);
  for (std::size_t i = 0; i < eos.size(); i++)
    if (detail::in_row(row, eos[i])) row[std::size_t(eos[i])] = accepts ? ends[i] : detail::removed<T>;
}

PEFT_INLINE std::shared_ptr<const TokenConstraint> constrain_to_regex(const Tokenizer& tokenizer, std::string_view pattern) {
  return std::make_shared<const TokenConstraint>(tokenizer, pattern);
}

}  // namespace peft
