// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <bitset>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/tokenizer/unicode.hpp"

namespace peft::detail {

/// A nondeterministic automaton over bytes (Thompson 1968). A state has two empty moves at most; the first of them may be by a byte instead.
struct ByteNfa {
  using Bytes = std::bitset<256>;
  struct State {
    std::int32_t out = -1, other = -1;
    std::int32_t reads = -1;  // out is a move by a byte of this one of `sets`; −1: an empty move
  };
  std::vector<State> states;
  std::vector<Bytes> sets;
  std::int32_t start = 0, accept = 0;
  std::vector<std::int32_t> distance;  // fewest bytes from a state to `accept`
  /// By reach and state: one of the states that cannot be told from it within so many bytes. Whatever text of at most `reach` bytes leads from the
  /// one to somewhere leads from the other to somewhere, too, and changes the distance by as much.
  std::vector<std::vector<std::int32_t>> twins;
};

/// Builds such an automaton from parts; `reaches`: those of its twins.
class NfaBuilder {
 public:
  explicit NfaBuilder(std::span<const std::int64_t> reaches) : reaches_(reaches.begin(), reaches.end()) { nfa_.twins.resize(reaches.size()); }

 protected:
  using Range = std::pair<char32_t, char32_t>;
  using Ranges = std::vector<Range>;
  /// One way in, one way out, which has no move yet, and no fewer bytes between them.
  struct Part {
    std::int32_t in, out;
    std::int64_t bytes;
  };
  static constexpr std::size_t most_states = 200000;

  std::int32_t count() const { return std::int32_t(nfa_.states.size()); }
  std::int32_t state() {
    if (nfa_.states.size() >= most_states) throw NotSupported("regex", fmt::format("an expression of more than {} states", most_states));
    nfa_.states.emplace_back();
    for (auto& twins : nfa_.twins) twins.push_back(count() - 1);
    return count() - 1;
  }
  std::int32_t reading(const ByteNfa::Bytes& set, std::int32_t out) {
    const std::int32_t s = state();
    const auto [known, is_new] = sets_.try_emplace(set, std::int32_t(nfa_.sets.size()));
    if (is_new) nfa_.sets.push_back(set);
    nfa_.states[std::size_t(s)].reads = known->second, nfa_.states[std::size_t(s)].out = out;
    return s;
  }
  void join(std::int32_t from, std::int32_t to) {
    ByteNfa::State& s = nfa_.states[std::size_t(from)];
    (s.out < 0 ? s.out : s.other) = to;
  }
  Part nothing() {
    const std::int32_t s = state();
    return {s, s, 0};
  }
  Part sequence(Part a, Part b) {
    join(a.out, b.in);
    return {a.in, b.out, a.bytes + b.bytes};
  }
  Part either(Part a, Part b) {
    const std::int32_t in = state(), out = state();
    join(in, a.in), join(in, b.in), join(a.out, out), join(b.out, out);
    return {in, out, std::min(a.bytes, b.bytes)};
  }
  Part optional(Part a) {
    const std::int32_t in = state(), out = state();
    join(in, a.in), join(in, out), join(a.out, out);
    return {in, out, 0};
  }
  Part repeated(Part a) {  // once or more
    const std::int32_t in = state(), out = state(), back = state();
    join(in, a.in), join(a.out, back), join(back, a.in), join(back, out);
    return {in, out, a.bytes};
  }
  // Copies of a part of so many states, one after the other, each of `bytes` at least. Who stands in one that has more than `reach` bytes of others
  // before him sees nothing else, however many there are: the nearest such copy stands for those before it.
  void repeat_alike(std::span<const std::int32_t> copies, std::int32_t states, std::int64_t bytes) {
    for (std::size_t r = 0; r < reaches_.size() && bytes > 0; r++) {
      const auto before = std::int64_t(copies.size()) - 1 - (reaches_[r] / bytes + 1);
      for (std::int64_t i = 0; i < before; i++)
        for (std::int32_t s = 0; s < states; s++)
          nfa_.twins[r][std::size_t(copies[std::size_t(i)] + s)] = nfa_.twins[r][std::size_t(copies[std::size_t(before)] + s)];
    }
  }

  using ByteRanges = std::vector<std::pair<std::uint8_t, std::uint8_t>>;
  // The characters first … last as sequences of ranges of bytes: cut where the number of bytes changes, and then wherever a continuation byte does
  // not run over all of 80 … BF.
  static void utf8(char32_t first, char32_t last, std::vector<ByteRanges>& sequences) {
    static constexpr char32_t ends[] = {0x7F, 0x7FF, 0xFFFF, 0x10FFFF};
    for (char32_t end : ends)
      if (first <= end && last > end) return utf8(first, end, sequences), utf8(end + 1, last, sequences);
    if (first <= 0xDFFF && last >= 0xD800) {  // surrogates are no characters
      if (first < 0xD800) utf8(first, 0xD7FF, sequences);
      if (last > 0xDFFF) utf8(0xE000, last, sequences);
      return;
    }
    const int bytes = last <= 0x7F ? 1 : last <= 0x7FF ? 2 : last <= 0xFFFF ? 3 : 4;
    for (int i = 1; i < bytes; i++) {
      const char32_t low = (char32_t(1) << (6 * i)) - 1;
      if ((first & ~low) == (last & ~low)) continue;
      if ((first & low) != 0) return utf8(first, first | low, sequences), utf8((first | low) + 1, last, sequences);
      if ((last & low) != low) return utf8(first, (last & ~low) - 1, sequences), utf8(last & ~low, last, sequences);
    }
    const auto byte = [&](char32_t c, int i) {  // i-th from the end
      if (i < bytes - 1) return std::uint8_t(0x80 | ((c >> (6 * i)) & 0x3F));
      static constexpr std::uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
      return std::uint8_t(lead[bytes] | (c >> (6 * i)));
    };
    ByteRanges sequence;
    for (int i = bytes - 1; i >= 0; i--) sequence.emplace_back(byte(first, i), byte(last, i));
    sequences.push_back(std::move(sequence));
  }
  // Sequences that end alike have their ends in common, and those that go on alike, their beginnings.
  Part characters(const Ranges& ranges) {
    std::vector<ByteRanges> sequences;
    for (const Range& r : merged(ranges)) utf8(r.first, r.second, sequences);
    if (sequences.empty()) throw ConfigError("regex", "a class without a character");
    const std::int32_t out = state();
    const auto set_of = [](std::pair<std::uint8_t, std::uint8_t> range) {
      ByteNfa::Bytes set;
      for (int b = range.first; b <= range.second; b++) set.set(std::size_t(b));
      return set;
    };
    std::map<ByteRanges, std::int32_t> rests = {{{}, out}};
    std::map<std::int32_t, ByteNfa::Bytes> leads;  // by where they lead
    std::int64_t bytes = 4;
    for (const ByteRanges& sequence : sequences) {
      std::int32_t to = out;
      for (std::size_t at = sequence.size() - 1; at > 0; at--) {
        std::int32_t& known = rests.try_emplace(ByteRanges(sequence.begin() + std::ptrdiff_t(at), sequence.end()), -1).first->second;
        if (known < 0) known = reading(set_of(sequence[at]), to);
        to = known;
      }
      leads[to] |= set_of(sequence[0]);
      bytes = std::min(bytes, std::int64_t(sequence.size()));
    }
    std::int32_t in = -1;
    for (const auto& [to, set] : leads) {
      const std::int32_t lead = reading(set, to);
      nfa_.states[std::size_t(lead)].other = in;
      in = lead;
    }
    return {in, out, bytes};
  }
  static Ranges merged(Ranges ranges) {
    std::sort(ranges.begin(), ranges.end());
    Ranges all;
    for (const Range& r : ranges)
      if (!all.empty() && r.first <= all.back().second + 1)
        all.back().second = std::max(all.back().second, r.second);
      else
        all.push_back(r);
    return all;
  }
  static Ranges single(char32_t c) { return Ranges(1, Range(c, c)); }
  static Ranges complement(Ranges ranges) {
    std::sort(ranges.begin(), ranges.end());
    Ranges rest;
    char32_t next = 0;
    for (const Range& r : ranges) {
      if (r.first > next) rest.emplace_back(next, r.first - 1);
      next = std::max(next, char32_t(r.second + 1));
    }
    if (next <= 0x10FFFF) rest.emplace_back(next, 0x10FFFF);
    return rest;
  }
  ByteNfa finish(Part whole) {
    nfa_.start = whole.in, nfa_.accept = whole.out;
    measure();
    return std::move(nfa_);
  }

 private:
  // Breadth first from the end, against the moves; empty ones cost nothing.
  void measure() {
    const std::size_t n = nfa_.states.size();
    struct Move {
      std::int32_t from, bytes;
    };
    std::vector<std::vector<Move>> into(n);
    for (std::size_t s = 0; s < n; s++) {
      const ByteNfa::State& state = nfa_.states[s];
      if (state.out >= 0) into[std::size_t(state.out)].push_back({std::int32_t(s), state.reads >= 0 ? 1 : 0});
      if (state.other >= 0) into[std::size_t(state.other)].push_back({std::int32_t(s), 0});
    }
    nfa_.distance.assign(n, std::numeric_limits<std::int32_t>::max());
    nfa_.distance[std::size_t(nfa_.accept)] = 0;
    std::vector<std::int32_t> now = {nfa_.accept}, next;
    for (std::int32_t d = 0; !now.empty(); d++) {
      for (std::size_t i = 0; i < now.size(); i++)  // grows by what reaches it for nothing
        for (const Move& move : into[std::size_t(now[i])]) {
          std::int32_t& known = nfa_.distance[std::size_t(move.from)];
          if (d + move.bytes >= known) continue;
          known = d + move.bytes;
          (move.bytes > 0 ? next : now).push_back(move.from);
        }
      now.swap(next), next.clear();
    }
  }

  ByteNfa nfa_;
  std::vector<std::int64_t> reaches_;
  std::unordered_map<ByteNfa::Bytes, std::int32_t> sets_;
};

}  // namespace peft::detail
