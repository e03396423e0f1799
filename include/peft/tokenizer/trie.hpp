// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace peft::tokenizer {

/// Texts and their values, to be found as beginnings of another text. The children of a node lie side by side, sorted by their byte.
class Trie {
 public:
  Trie() = default;
  /// Of equal texts the first counts; empty ones are left out.
  explicit Trie(std::vector<std::pair<std::string, std::int32_t>> entries) {
    std::erase_if(entries, [](const auto& entry) { return entry.first.empty(); });
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    struct Range {
      std::size_t begin, end, depth, node;
    };
    nodes_.push_back({});
    std::vector<Range> pending = {{0, entries.size(), 0, 0}};
    for (std::size_t next = 0; next < pending.size(); next++) {  // breadth first, so that siblings are neighbours
      Range range = pending[next];
      for (; range.begin < range.end && entries[range.begin].first.size() == range.depth; range.begin++)
        if (nodes_[range.node].value < 0) nodes_[range.node].value = entries[range.begin].second;
      nodes_[range.node].first_child = static_cast<std::uint32_t>(nodes_.size());
      for (std::size_t begin = range.begin; begin < range.end;) {
        const char byte = entries[begin].first[range.depth];
        std::size_t end = begin;
        while (end < range.end && entries[end].first[range.depth] == byte) end++;
        pending.push_back({begin, end, range.depth + 1, nodes_.size()});
        nodes_.push_back({.byte = static_cast<unsigned char>(byte)});
        nodes_[range.node].children++;
        begin = end;
      }
    }
    for (std::uint32_t i = 0; i < nodes_[0].children; i++) roots_[nodes_[nodes_[0].first_child + i].byte] = nodes_[0].first_child + i;
  }

  /// Calls found(length, value) for every entry that `text` begins with, the shortest first.
  template <class Found>
  void beginnings(std::string_view text, Found found) const {
    if (text.empty() || nodes_.empty()) return;
    std::uint32_t node = roots_[static_cast<unsigned char>(text[0])];
    for (std::size_t depth = 1; node != 0; depth++) {
      if (nodes_[node].value >= 0) found(depth, nodes_[node].value);
      if (depth == text.size()) return;
      node = child(nodes_[node], static_cast<unsigned char>(text[depth]));
    }
  }
  /// The length of the longest entry that `text` begins with, 0 if there is none.
  std::size_t longest(std::string_view text) const {
    std::size_t longest = 0;
    beginnings(text, [&](std::size_t length, std::int32_t) { longest = length; });
    return longest;
  }

 private:
  struct Node {
    std::uint32_t first_child = 0;
    std::uint16_t children = 0;
    unsigned char byte = 0;
    std::int32_t value = -1;
  };
  std::uint32_t child(const Node& parent, unsigned char byte) const {
    std::uint32_t low = parent.first_child, high = low + parent.children;
    while (low < high) {
      const std::uint32_t middle = (low + high) / 2;
      if (nodes_[middle].byte < byte)
        low = middle + 1;
      else
        high = middle;
    }
    return low < parent.first_child + parent.children && nodes_[low].byte == byte ? low : 0;
  }

  std::vector<Node> nodes_;  // the root first
  std::uint32_t roots_[256] = {};
};

}  // namespace peft::tokenizer
