// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "peft/generate/impl/byte_dfa.inl"

namespace peft::detail {

/// Tokens by their bytes, as a tree whose nodes stand in the order in which they are walked: what begins alike is walked once, and left where it
/// cannot go on.
class TokenTrie {
 public:
  using Entry = std::pair<std::string, std::int32_t>;  // bytes, id

  explicit TokenTrie(std::vector<Entry> entries) {
    std::sort(entries.begin(), entries.end());
    std::vector<std::size_t> path;  // nodes of the entry before
    for (std::size_t i = 0; i < entries.size(); i++) {
      const std::string& bytes = entries[i].first;
      const std::string& before = entries[i > 0 ? i - 1 : 0].first;
      const auto shared = i == 0 ? 0 : std::size_t(std::mismatch(before.begin(), before.end(), bytes.begin(), bytes.end()).second - bytes.begin());
      close(path, shared);
      for (std::size_t at = shared; at < bytes.size(); at++) {
        path.push_back(nodes_.size());
        nodes_.push_back({0, std::uint32_t(ids_.size()), std::uint32_t(path.size()), static_cast<std::uint8_t>(bytes[at])});
      }
      ids_.push_back(entries[i].second);
      deepest_ = std::max(deepest_, bytes.size());
    }
    close(path, 0);
    nodes_.push_back({0, std::uint32_t(ids_.size()), 0, 0});
  }

  /// Bytes of the longest token.
  std::size_t deepest() const { return deepest_; }
  /// Calls allowed(id, state behind it) for each token that can be gone on from, beginning at a state.
  template <class F>
  void walk(ByteDfa& automaton, std::int32_t from, const F& allowed) const {
    std::vector<std::int32_t> path(deepest_ + 1, from);
    for (std::size_t i = 0; i + 1 < nodes_.size();) {
      const Node& node = nodes_[i];
      const std::int32_t state = automaton.step(path[node.depth - 1], node.byte);
      if (state == ByteDfa::dead) {
        i = node.end;
        continue;
      }
      path[node.depth] = state;
      i++;
      for (std::uint32_t k = node.first; k < nodes_[i].first; k++) allowed(ids_[k], state);
    }
  }

 private:
  struct Node {
    std::uint32_t end;    // the next node that is not below this one
    std::uint32_t first;  // its tokens are those from here to the next node's first
    std::uint32_t depth;
    std::uint8_t byte;
  };
  void close(std::vector<std::size_t>& path, std::size_t depth) {
    for (; path.size() > depth; path.pop_back()) nodes_[path.back()].end = std::uint32_t(nodes_.size());
  }

  std::vector<Node> nodes_;  // and one behind the last
  std::vector<std::int32_t> ids_;
  std::size_t deepest_ = 0;
};

}  // namespace peft::detail
