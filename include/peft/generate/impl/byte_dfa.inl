// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/generate/impl/byte_automaton.inl"

namespace peft::detail {

/// A list of numbers as a key.
struct HashOfList {
  std::size_t operator()(const std::vector<std::int32_t>& list) const {
    return std::hash<std::string_view>()({reinterpret_cast<const char*>(list.data()), list.size() * sizeof(std::int32_t)});
  }
};

/// The deterministic automaton of a nondeterministic one, as far as somebody went (subset construction). State 0 is the start.
class ByteDfa {
 public:
  static constexpr std::int32_t dead = -1;
  /// What all states may take.
  static constexpr std::size_t most_bytes = std::size_t{64} << 20;

  explicit ByteDfa(ByteNfa nfa) : nfa_(std::move(nfa)), seen_(nfa_.states.size(), 0) {
    // Bytes that every set has both or neither of go the same ways.
    std::unordered_map<std::string, std::uint8_t> kinds;
    for (std::size_t byte = 0; byte < 256; byte++) {
      std::string in;
      for (const ByteNfa::Bytes& set : nfa_.sets) in += set[byte] ? '1' : '0';
      const auto [known, is_new] = kinds.try_emplace(std::move(in), std::uint8_t(kinds.size()));
      if (is_new) example_.push_back(byte);
      kind_[byte] = known->second;
    }
    node_of({nfa_.start});
  }

  /// Behind a byte. Throws NotSupported when the states would take more than they may.
  std::int32_t step(std::int32_t state, std::uint8_t byte) {
    const std::int32_t to = moves_[std::size_t(state) * example_.size() + kind_[byte]];
    return to != unknown ? to : explore(state, kind_[byte]);
  }
  bool accepts(std::int32_t state) const { return nodes_[std::size_t(state)].accepts; }
  /// True if it accepts, and nothing goes on from it.
  bool ends(std::int32_t state) const { return accepts(state) && nodes_[std::size_t(state)].members->size() == 1; }
  /// The fewest bytes to an end.
  std::int32_t distance(std::int32_t state) const { return nodes_[std::size_t(state)].distance; }

  /// Two states with the same of this cannot be told from each other within the reach of that number (ByteNfa::twins).
  std::vector<std::int32_t> seen_within(std::size_t reach, std::int32_t state) const {
    const Node& node = nodes_[std::size_t(state)];
    std::vector<std::pair<std::int32_t, std::int32_t>> all;  // a twin, and by how much it is farther from the end than the state
    for (std::int32_t s : *node.members) all.emplace_back(nfa_.twins[reach][std::size_t(s)], nfa_.distance[std::size_t(s)] - node.distance);
    std::sort(all.begin(), all.end());
    std::vector<std::int32_t> key;
    for (std::size_t i = 0; i < all.size(); i++)  // of those that go the same ways, the nearest counts
      if (i == 0 || all[i].first != all[i - 1].first) key.push_back(all[i].first), key.push_back(all[i].second);
    return key;
  }

 private:
  static constexpr std::int32_t unknown = -2;
  struct Node {
    const std::vector<std::int32_t>* members;  // states of the other one that read a byte or accept, sorted
    std::int32_t distance;
    bool accepts;
  };

  std::int32_t explore(std::int32_t from, std::uint8_t kind) {
    std::vector<std::int32_t> reached;
    for (std::int32_t s : *nodes_[std::size_t(from)].members) {
      const ByteNfa::State& state = nfa_.states[std::size_t(s)];
      if (state.reads >= 0 && nfa_.sets[std::size_t(state.reads)][example_[kind]]) reached.push_back(state.out);
    }
    const std::int32_t to = reached.empty() ? dead : node_of(std::move(reached));
    return moves_[std::size_t(from) * example_.size() + kind] = to;
  }

  std::int32_t node_of(std::vector<std::int32_t> begin) {
    std::vector<std::int32_t> members;
    Node node{nullptr, std::numeric_limits<std::int32_t>::max(), false};
    round_++;
    while (!begin.empty()) {
      const std::int32_t s = begin.back();
      begin.pop_back();
      if (std::exchange(seen_[std::size_t(s)], round_) == round_) continue;
      const ByteNfa::State& state = nfa_.states[std::size_t(s)];
      if (state.reads >= 0 || s == nfa_.accept) {
        members.push_back(s);
        node.distance = std::min(node.distance, nfa_.distance[std::size_t(s)]);
      }
      if (state.reads < 0 && state.out >= 0) begin.push_back(state.out);
      if (state.other >= 0) begin.push_back(state.other);
    }
    std::sort(members.begin(), members.end());
    if (const auto known = by_members_.find(members); known != by_members_.end()) return known->second;
    taken_ += 128 + members.size() * sizeof(std::int32_t) + example_.size() * sizeof(std::int32_t);
    if (taken_ > most_bytes)
      throw NotSupported("regex", fmt::format("an expression whose texts need more than {} MiB of memory to be told apart", most_bytes >> 20));
    const auto number = std::int32_t(nodes_.size());
    node.accepts = std::binary_search(members.begin(), members.end(), nfa_.accept);
    node.members = &by_members_.emplace(std::move(members), number).first->first;
    nodes_.push_back(node);
    moves_.insert(moves_.end(), example_.size(), unknown);
    return number;
  }

  ByteNfa nfa_;
  std::array<std::uint8_t, 256> kind_{};
  std::vector<std::size_t> example_;  // a byte of each kind
  std::vector<Node> nodes_;
  std::vector<std::int32_t> moves_;  // by state and kind of byte
  std::unordered_map<std::vector<std::int32_t>, std::int32_t, HashOfList> by_members_;
  std::vector<std::uint32_t> seen_;  // the last round of node_of() that came by
  std::uint32_t round_ = 0;
  std::size_t taken_ = 0;
};

}  // namespace peft::detail
