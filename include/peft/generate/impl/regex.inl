// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <cctype>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "peft/generate/impl/byte_automaton.inl"
#include "peft/tokenizer/unicode.hpp"

namespace peft::detail {

/// Reads a regular expression and builds its automaton.
class RegexReader : private NfaBuilder {
 public:
  explicit RegexReader(std::string_view pattern, std::span<const std::int64_t> reaches = {}) : NfaBuilder(reaches), text_(pattern) {
    if (text_.starts_with('^')) at_ = 1;
  }
  ByteNfa read() {
    const Part whole = alternatives(0);
    if (at_ < text_.size()) fail("a ) without its (");
    return finish(whole);
  }

 private:
  static constexpr int deepest = 200;

  [[noreturn]] void fail(const std::string& what) const { throw ConfigError("regex", fmt::format("{} at byte {} of \"{}\"", what, at_, text_)); }
  [[noreturn]] void unbuilt(const std::string& what) const { throw NotSupported("regex", fmt::format("{} at byte {} of \"{}\"", what, at_, text_)); }
  bool more() const { return at_ < text_.size(); }
  char peek() const { return text_[at_]; }
  bool take(char c) { return more() && peek() == c ? (at_++, true) : false; }

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
    const std::int32_t begin = count();
    Part part = atom(depth);
    const std::int32_t states = count() - begin;
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
        std::vector<std::int32_t> copies;  // where their states begin
        const auto next = [&] {
          copies.push_back(copies.empty() ? begin : count());
          if (copies.size() == 1) return part;
          at_ = from;
          return atom(depth);
        };
        Part all = nothing();
        for (std::int64_t i = 0; i < least; i++) all = sequence(all, next());
        repeat_alike(copies, states, part.bytes);
        if (unlimited) {
          all = sequence(all, optional(repeated(next())));
        } else if (most > least) {
          const std::int32_t out = state();
          for (std::int64_t i = least; i < most; i++) {
            const std::int32_t choice = state();
            const Part one = next();
            join(all.out, choice), join(choice, one.in), join(choice, out);
            all.out = one.out;
          }
          join(all.out, out);
          all.out = out;
          repeat_alike(std::span(copies).subspan(std::size_t(least)), states, part.bytes);
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

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace peft::detail
