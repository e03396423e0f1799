// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
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

/// Reads a regular expression and builds its automaton.
class RegexReader {
 public:
  explicit RegexReader(std::string_view pattern) : text_(pattern) {
    if (text_.starts_with('^')) at_ = 1;
  }
  ByteNfa read() {
    const Part whole = alternatives(0);
    if (at_ < text_.size()) fail("a ) without its (");
    nfa_.start = whole.in, nfa_.accept = whole.out;
    measure();
    return std::move(nfa_);
  }

 private:
  using Range = std::pair<char32_t, char32_t>;
  using Ranges = std::vector<Range>;
  /// One way in, one way out, which has no move yet.
  struct Part {
    std::int32_t in, out;
  };
  static constexpr std::size_t most_states = 200000;
  static constexpr int deepest = 200;

  [[noreturn]] void fail(const std::string& what) const { throw ConfigError("regex", fmt::format("{} at byte {} of \"{}\"", what, at_, text_)); }
  [[noreturn]] void unbuilt(const std::string& what) const { throw NotSupported("regex", fmt::format("{} at byte {} of \"{}\"", what, at_, text_)); }
  bool more() const { return at_ < text_.size(); }
  char peek() const { return text_[at_]; }
  bool take(char c) { return more() && peek() == c ? (at_++, true) : false; }

  std::int32_t state() {
    if (nfa_.states.size() >= most_states)
      throw NotSupported("regex", fmt::format("an expression of more than {} states: \"{}\"", most_states, text_.substr(0, 80)));
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
    if (parts.empty()) fail("a class without a character");
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

  char32_t hex(std::size_t digits) {
    if (text_.size() - at_ < digits) fail("an escape that is cut off");
    char32_t value = 0;
    for (std::size_t i = 0; i < digits; i++, at_++) {
      const char c = peek();
      if (!std::isxdigit(static_cast<unsigned char>(c))) fail("no hexadecimal digit");
      value = value * 16 + char32_t(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value;
  }
  // Behind a backslash: one character or a class.
  Ranges escape() {
    if (!more()) fail("a backslash at the end");
    const char c = text_[at_++];
    static const Ranges digits = {{'0', '9'}}, word = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}, space = {{'\t', '\r'}, {' ', ' '}};
    switch (c) {
      case 'd':
        return digits;
      case 'w':
        return word;
      case 's':
        return space;
      case 'D':
        return complement(digits);
      case 'W':
        return complement(word);
      case 'S':
        return complement(space);
      case 'n':
        return single('\n');
      case 't':
        return single('\t');
      case 'r':
        return single('\r');
      case 'f':
        return single('\f');
      case 'v':
        return single('\v');
      case 'x':
        return single(hex(2));
      case 'u':
        return single(hex(4));
      default:
        break;
    }
    if (std::isalnum(static_cast<unsigned char>(c))) {
      at_--;
      unbuilt(std::string("\\") + c + " (a back reference, an anchor or a property)");
    }
    at_--;
    return single(character());
  }
  char32_t character() {
    const auto c = unicode::decode(text_, at_);
    at_ += c.length;
    return c.value;
  }
  Ranges bracket() {
    const std::size_t opened = at_ - 1;
    const bool inverse = take('^');
    Ranges ranges;
    for (bool first = true;; first = false) {
      if (!more()) {
        at_ = opened;
        fail("a [ without its ]");
      }
      if (peek() == ']' && !first) break;
      Ranges one = take('\\') ? escape() : single(character());
      const bool begins_range = one.size() == 1 && one[0].first == one[0].second;
      if (begins_range && at_ + 1 < text_.size() && peek() == '-' && text_[at_ + 1] != ']') {
        at_++;
        const Ranges end = take('\\') ? escape() : single(character());
        if (end.size() != 1 || end[0].first != end[0].second || end[0].first < one[0].first) fail("a range that runs backwards");
        one[0].second = end[0].first;
      }
      ranges.insert(ranges.end(), one.begin(), one.end());
    }
    at_++;
    return inverse ? complement(std::move(ranges)) : ranges;
  }

  Part atom(int depth) {
    if (take('(')) {
      if (take('?') && !take(':')) unbuilt("(? of another kind than (?:");
      const Part inner = alternatives(depth + 1);
      if (!take(')')) fail("a ( without its )");
      return inner;
    }
    if (take('[')) return characters(bracket());
    if (take('\\')) return characters(escape());
    if (take('.')) return characters(complement(single('\n')));
    if (peek() == '^' || peek() == '$') unbuilt("an anchor within the expression");
    if (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{') fail("a repetition of nothing");
    return characters(single(character()));
  }
  std::int64_t number() {
    std::int64_t n = 0;
    const std::size_t from = at_;
    for (; more() && std::isdigit(static_cast<unsigned char>(peek())) && at_ - from < 7; at_++) n = n * 10 + (peek() - '0');
    if (at_ == from) fail("no number in { }");
    return n;
  }
  // An atom and what repeats it: as often as it must be there, it is read again.
  Part piece(int depth) {
    const std::size_t from = at_;
    Part part = atom(depth);
    const auto again = [&] {
      const std::size_t end = std::exchange(at_, from);
      const Part copy = atom(depth);
      at_ = end;
      return copy;
    };
    for (bool repeats = false;; repeats = true) {
      if (take('*')) {
        part = optional(repeated(part));
      } else if (take('+')) {
        part = repeated(part);
      } else if (take('?')) {
        part = optional(part);
      } else if (take('{')) {
        const std::int64_t least = number();
        std::int64_t most = least;
        bool unlimited = false;
        if (take(',')) {
          unlimited = more() && peek() == '}';
          if (!unlimited) most = number();
        }
        if (!take('}')) fail("a { without its }");
        if (most < least) fail("a repetition whose most is less than its least");
        if (repeats) unbuilt("a counted repetition of a repetition; put it in ( )");
        const std::size_t end = at_;
        at_ = from;
        Part all = nothing();
        bool used = false;
        const auto next = [&] { return std::exchange(used, true) ? again() : part; };
        for (std::int64_t i = 0; i < least; i++) all = sequence(all, next());
        if (unlimited) {
          all = sequence(all, optional(repeated(next())));
        } else {
          Part tail = nothing();
          for (std::int64_t i = least; i < most; i++) tail = optional(sequence(next(), tail));
          all = sequence(all, tail);
        }
        at_ = end, part = all;
      } else {
        return part;
      }
      take('?');  // as few as possible: the same texts
    }
  }
  Part alternatives(int depth) {
    if (depth > deepest) fail("parentheses that nest too deep");
    Part all = branch(depth);
    while (take('|')) all = either(all, branch(depth));
    return all;
  }
  Part branch(int depth) {
    Part all = nothing();
    while (more() && peek() != '|' && peek() != ')') {
      if (peek() == '$' && at_ + 1 == text_.size() && depth == 0) {
        at_++;
        break;
      }
      all = sequence(all, piece(depth));
    }
    return all;
  }

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

  std::string_view text_;
  std::size_t at_ = 0;
  ByteNfa nfa_;
};

}  // namespace peft::detail
