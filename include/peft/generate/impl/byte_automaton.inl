// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/tokenizer/unicode.hpp"

namespace peft::detail {

/// A nondeterministic automaton over bytes (Thompson 1968). A state has two empty moves at most, or one move by a range of bytes.
struct ByteNfa {
  struct State {
    std::int32_t out = -1, other = -1;  // empty moves; or out alone, by a byte
    std::uint8_t first = 1, last = 0;   // first ≤ last: the move is by a byte of this range
    bool reads() const { return first <= last; }
  };
  std::vector<State> states;
  std::int32_t start = 0, accept = 0;
  std::vector<std::uint16_t> distance;  // fewest bytes from a state to `accept`
};

/// Builds such an automaton from parts.
class NfaBuilder {
 protected:
  using Range = std::pair<char32_t, char32_t>;
  using Ranges = std::vector<Range>;
  /// One way in, one way out, which has no move yet.
  struct Part {
    std::int32_t in, out;
  };
  static constexpr std::size_t most_states = 200000;

  std::int32_t state() {
    if (nfa_.states.size() >= most_states) throw NotSupported("regex", fmt::format("an expression of more than {} states", most_states));
    nfa_.states.emplace_back();
    return std::int32_t(nfa_.states.size()) - 1;
  }
  void join(std::int32_t from, std::int32_t to) {
    ByteNfa::State& s = nfa_.states[std::size_t(from)];
    (s.out < 0 ? s.out : s.other) = to;
  }
  Part nothing() {
    const std::int32_t s = state();
    return {s, s};
  }
  Part byte_range(std::uint8_t first, std::uint8_t last) {
    const std::int32_t in = state(), out = state();
    nfa_.states[std::size_t(in)].first = first, nfa_.states[std::size_t(in)].last = last, nfa_.states[std::size_t(in)].out = out;
    return {in, out};
  }
  Part sequence(Part a, Part b) {
    join(a.out, b.in);
    return {a.in, b.out};
  }
  Part either(Part a, Part b) {
    const std::int32_t in = state(), out = state();
    join(in, a.in), join(in, b.in), join(a.out, out), join(b.out, out);
    return {in, out};
  }
  Part optional(Part a) {
    const std::int32_t in = state(), out = state();
    join(in, a.in), join(in, out), join(a.out, out);
    return {in, out};
  }
  Part repeated(Part a) {  // once or more
    const std::int32_t in = state(), out = state(), back = state();
    join(in, a.in), join(a.out, back), join(back, a.in), join(back, out);
    return {in, out};
  }

  // The characters first … last as sequences of ranges of bytes: cut where the number of bytes changes, and then wherever a continuation byte does
  // not run over all of 80 … BF.
  void utf8(char32_t first, char32_t last, std::vector<Part>& parts) {
    static constexpr char32_t ends[] = {0x7F, 0x7FF, 0xFFFF, 0x10FFFF};
    for (char32_t end : ends)
      if (first <= end && last > end) return utf8(first, end, parts), utf8(end + 1, last, parts);
    if (first <= 0xDFFF && last >= 0xD800) {  // surrogates are no characters
      if (first < 0xD800) utf8(first, 0xD7FF, parts);
      if (last > 0xDFFF) utf8(0xE000, last, parts);
      return;
    }
    const int bytes = last <= 0x7F ? 1 : last <= 0x7FF ? 2 : last <= 0xFFFF ? 3 : 4;
    for (int i = 1; i < bytes; i++) {
      const char32_t low = (char32_t(1) << (6 * i)) - 1;
      if ((first & ~low) == (last & ~low)) continue;
      if ((first & low) != 0) return utf8(first, first | low, parts), utf8((first | low) + 1, last, parts);
      if ((last & low) != low) return utf8(first, (last & ~low) - 1, parts), utf8(last & ~low, last, parts);
    }
    const auto byte = [&](char32_t c, int i) {  // i-th from the end
      if (i < bytes - 1) return std::uint8_t(0x80 | ((c >> (6 * i)) & 0x3F));
      static constexpr std::uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
      return std::uint8_t(lead[bytes] | (c >> (6 * i)));
    };
    Part part = byte_range(byte(first, bytes - 1), byte(last, bytes - 1));
    for (int i = bytes - 2; i >= 0; i--) part = sequence(part, byte_range(byte(first, i), byte(last, i)));
    parts.push_back(part);
  }
  Part characters(Ranges ranges) {
    std::sort(ranges.begin(), ranges.end());
    Ranges merged;
    for (const Range& r : ranges)
      if (!merged.empty() && r.first <= merged.back().second + 1)
        merged.back().second = std::max(merged.back().second, r.second);
      else
        merged.push_back(r);
    std::vector<Part> parts;
    for (const Range& r : merged) utf8(r.first, r.second, parts);
    if (parts.empty()) throw ConfigError("regex", "a class without a character");
    Part all = parts[0];
    for (std::size_t i = 1; i < parts.size(); i++) all = either(all, parts[i]);
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
    std::vector<std::vector<std::int32_t>> into(n);
    for (std::size_t s = 0; s < n; s++)
      for (std::int32_t to : {nfa_.states[s].out, nfa_.states[s].other})
        if (to >= 0) into[std::size_t(to)].push_back(std::int32_t(s));
    nfa_.distance.assign(n, UINT16_MAX);
    nfa_.distance[std::size_t(nfa_.accept)] = 0;
    std::vector<std::int32_t> now = {nfa_.accept}, next;
    for (std::uint16_t d = 0; !now.empty() && d < UINT16_MAX - 1; d++) {
      for (std::size_t i = 0; i < now.size(); i++)  // grows by what reaches it for nothing
        for (std::int32_t from : into[std::size_t(now[i])]) {
          std::uint16_t& known = nfa_.distance[std::size_t(from)];
          const bool reads = nfa_.states[std::size_t(from)].reads();
          const auto cost = std::uint16_t(d + (reads ? 1 : 0));
          if (cost >= known) continue;
          known = cost;
          (reads ? next : now).push_back(from);
        }
      now.swap(next), next.clear();
    }
  }

  ByteNfa nfa_;
};

}  // namespace peft::detail
