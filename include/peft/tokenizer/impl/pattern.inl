// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(PEFT_HAS_ONIGURUMA)
#include <oniguruma.h>
#endif

#include <limits>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/tokenizer/pattern.hpp"
#include "peft/tokenizer/unicode.hpp"

namespace peft::tokenizer {
namespace detail {

/// One character with its classes; at the end of the text length is 0 and no class is set.
struct Look {
  char32_t value = 0;
  std::uint32_t length = 0;
  std::uint8_t classes = 0;
  bool any(std::uint8_t mask) const { return (classes & mask) != 0; }
  bool none(std::uint8_t mask) const { return length != 0 && (classes & mask) == 0; }
};

inline Look look(std::string_view text, std::size_t at) {
  if (at >= text.size()) return {};
  const unicode::Character character = unicode::decode(text, at);
  return {character.value, character.length, unicode::classes_of(character.value)};
}

template <class Accept>
std::size_t run(std::string_view text, std::size_t at, Accept accept, std::size_t most = std::numeric_limits<std::size_t>::max()) {
  for (; most > 0; most--) {
    const Look c = look(text, at);
    if (c.length == 0 || !accept(c)) break;
    at += c.length;
  }
  return at;
}

inline std::size_t run_of(std::string_view text, std::size_t at, std::uint8_t mask) {
  return run(text, at, [mask](const Look& c) { return c.any(mask); });
}

/// 's|'t|'re|'ve|'m|'ll|'d. With `fold`, (?i:…): U+017F folds to s.
inline std::size_t contraction(std::string_view text, std::size_t at, bool fold) {
  if (at >= text.size() || text[at] != '\'') return at;
  const auto letter = [&](std::size_t i) -> char {
    const char c = i < text.size() ? text[i] : '\0';
    return fold && c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  };
  const char first = letter(at + 1), second = letter(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l')) return at + 3;
  if (fold && text.substr(at + 1, 2) == "\xC5\xBF") return at + 3;
  return at;
}

/// \s+(?!\S)|\s+ for a run of white space [at, end): all of it at the end of the text, else all but its last character, which belongs to
/// the next word, unless it is the only one.
inline std::size_t spaces(std::string_view text, std::size_t at, std::size_t end) {
  if (end == text.size()) return end;
  const std::size_t last = end - unicode::decode_before(text, end).length;
  return last > at ? last : end;
}

/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
inline std::size_t scan_gpt2(std::string_view text, std::size_t at) {
  if (const std::size_t end = contraction(text, at, false); end > at) return end;
  const std::size_t start = text[at] == ' ' ? at + 1 : at;
  const Look c = look(text, start);
  if (c.any(unicode::letter)) return run_of(text, start + c.length, unicode::letter);
  if (c.any(unicode::number)) return run_of(text, start + c.length, unicode::number);
  if (c.none(unicode::space)) return run(text, start, [](const Look& l) { return l.none(unicode::space | unicode::letter | unicode::number); });
  return spaces(text, at, run_of(text, at, unicode::space));
}

/// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
template <std::size_t digits>
std::size_t scan_llama3(std::string_view text, std::size_t at) {
  constexpr std::uint8_t alphanumeric = unicode::letter | unicode::number;
  const auto is_newline = [](char32_t c) { return c == '\r' || c == '\n'; };
  if (const std::size_t end = contraction(text, at, true); end > at) return end;
  const Look c = look(text, at);
  if (c.any(unicode::letter)) return run_of(text, at + c.length, unicode::letter);
  if (c.any(unicode::number))
    return run(
        text, at, [](const Look& l) { return l.any(unicode::number); }, digits);
  if (!is_newline(c.value))
    if (const Look next = look(text, at + c.length); next.any(unicode::letter)) return run_of(text, at + c.length + next.length, unicode::letter);
  const std::size_t start = c.value == ' ' ? at + 1 : at;
  if (look(text, start).none(unicode::space | alphanumeric)) {
    std::size_t end = run(text, start, [](const Look& l) { return l.none(unicode::space | alphanumeric); });
    while (end < text.size() && is_newline(static_cast<unsigned char>(text[end]))) end++;
    return end;
  }
  const std::size_t end = run_of(text, at, unicode::space);
  for (std::size_t i = end; i > at; i--)  // \s*[\r\n]+ ends behind the last newline of the run
    if (is_newline(static_cast<unsigned char>(text[i - 1]))) return i;
  return spaces(text, at, end);
}

/// \w+|[^\w\s]+
template <std::uint8_t word>
std::size_t scan_words(std::string_view text, std::size_t at) {
  const Look c = look(text, at);
  if (c.any(word)) return run_of(text, at, word);
  return run(text, at, [](const Look& l) { return l.none(word | unicode::space); });
}

/// [\p{P}\$\+<=>\^~\|]+, the first of the four expressions that llama.cpp applies to a byte-level BPE without a known `.pre`
inline std::size_t scan_punctuation(std::string_view text, std::size_t at) {
  return run(text, at, [](const Look& c) {
    return c.any(unicode::punctuation) || c.value == '$' || c.value == '+' || (c.value >= '<' && c.value <= '>') || c.value == '^' || c.value == '~' ||
           c.value == '|';
  });
}

/// " ?[^(\\s|[.,!?…。，、।۔،])]+", BLOOM's: words with the space in front of them; what it does not match stands apart
inline std::size_t scan_bloom(std::string_view text, std::size_t at) {
  static constexpr std::u32string_view stops = U"(|.,!?…。，、।۔،)";
  const auto in_word = [](const Look& c) { return c.none(unicode::space) && stops.find(c.value) == stops.npos; };
  const std::size_t start = text[at] == ' ' ? at + 1 : at, end = run(text, start, in_word);
  return end > start ? end : at;
}

struct KnownPattern {
  std::string_view expression;
  std::size_t (*scanner)(std::string_view, std::size_t);
};
inline constexpr KnownPattern known_patterns[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", scan_gpt2},
    {R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", scan_gpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)", scan_llama3<3>},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)", scan_llama3<1>},
    {R"( ?[^(\s|[.,!?…。，、।۔،])]+)", scan_bloom},
    {R"( ?[^(\s|.,!?…。，、।۔،)]+)", scan_bloom},
    {R"(\w+|[^\w\s]+)", scan_words<unicode::regex_word>},
    {R"([\p{P}\$\+<=>\^~\|]+)", scan_punctuation},
};

/// Reads `{m}`, `{m,}`, `{m,n}`, `+` or nothing from the whole of `text`.
inline bool read_quantifier(std::string_view text, std::size_t& least, std::size_t& most) {
  least = most = 1;
  if (text.empty()) return true;
  if (text == "+") return most = std::numeric_limits<std::size_t>::max(), true;
  if (text.size() < 3 || text.front() != '{' || text.back() != '}') return false;
  text = text.substr(1, text.size() - 2);
  const auto number = [](std::string_view digits, std::size_t& value) {
    if (digits.empty() || digits.size() > 6 || digits.find_first_not_of("0123456789") != digits.npos) return false;
    return value = std::stoul(std::string(digits)), true;
  };
  const std::size_t comma = text.find(',');
  if (comma == text.npos) return number(text, least) && (most = least) > 0;
  if (!number(text.substr(0, comma), least) || least == 0) return false;
  if (comma + 1 == text.size()) return most = std::numeric_limits<std::size_t>::max(), true;
  return number(text.substr(comma + 1), most) && most >= least;
}

}  // namespace detail

#if defined(PEFT_HAS_ONIGURUMA)
/// A compiled expression. Searching leaves it as it is, so threads share it.
class RegexEngine {
 public:
  RegexEngine(std::string_view expression, std::string_view path) {
    static const int ready = [] {
      OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
      return onig_initialize(encodings, 1);
    }();
    OnigErrorInfo info{};
    const int result = ready != ONIG_NORMAL ? ready
                                            : onig_new(&regex_, bytes(expression), bytes(expression) + expression.size(), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8,
                                                       ONIG_SYNTAX_DEFAULT, &info);
    if (result != ONIG_NORMAL)
      throw FormatError(path, -1, "the regular expression \"" + std::string(expression) + "\" is not understood: " + message(result, &info));
  }
  ~RegexEngine() { onig_free(regex_); }
  RegexEngine(const RegexEngine&) = delete;
  RegexEngine& operator=(const RegexEngine&) = delete;

  /// The leftmost match from `from` on that is not empty; what stands before counts for look-behind.
  bool find(std::string_view text, std::size_t from, std::size_t& begin, std::size_t& end) const {
    const std::unique_ptr<OnigRegion, void (*)(OnigRegion*)> region(onig_region_new(), [](OnigRegion* r) { onig_region_free(r, 1); });
    for (const OnigUChar* const last = bytes(text) + text.size(); from < text.size(); from += unicode::decode(text, from).length) {
      const int at = onig_search(regex_, bytes(text), last, bytes(text) + from, last, region.get(), ONIG_OPTION_NONE);
      if (at == ONIG_MISMATCH) return false;
      if (at < 0) throw Error("tokenizer.pattern", "a search failed: " + message(at, nullptr));
      begin = static_cast<std::size_t>(region->beg[0]), end = static_cast<std::size_t>(region->end[0]);
      if (end > begin) return true;
      if (begin >= text.size()) return false;
      from = begin;
    }
    return false;
  }

 private:
  static const OnigUChar* bytes(std::string_view text) { return reinterpret_cast<const OnigUChar*>(text.data()); }
  static std::string message(int code, OnigErrorInfo* info) {
    OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
    const int size = onig_error_code_to_str(text, code, info);
    return std::string(reinterpret_cast<const char*>(text), static_cast<std::size_t>(size));
  }
  regex_t* regex_ = nullptr;
};
#endif

PEFT_INLINE Pattern Pattern::literal(std::string text) {
  Pattern pattern;
  pattern.literal_ = std::move(text);
  return pattern;
}

PEFT_INLINE Pattern Pattern::words() {
  Pattern pattern;
  pattern.kind_ = Kind::scanner, pattern.scanner_ = detail::scan_words<unicode::word>;
  return pattern;
}

PEFT_INLINE Pattern Pattern::punctuation() {
  Pattern pattern;
  pattern.kind_ = Kind::scanner, pattern.scanner_ = [](std::string_view text, std::size_t at) {
    const unicode::Character c = unicode::decode(text, at);
    return unicode::is_bert_punctuation(c.value) ? at + c.length : at;
  };
  return pattern;
}

PEFT_INLINE Pattern Pattern::chunks(std::size_t length) {
  Pattern pattern;
  pattern.kind_ = Kind::repeated, pattern.low_ = 0, pattern.high_ = 0x10FFFF, pattern.most_ = length;
  return pattern;
}

PEFT_INLINE Pattern Pattern::regex(std::string_view expression, std::string_view path) {
  Pattern pattern;
  for (const detail::KnownPattern& known : detail::known_patterns)
    if (known.expression == expression) {
      pattern.kind_ = Kind::scanner, pattern.scanner_ = known.scanner;
      return pattern;
    }
  struct Atom {
    std::string_view text;
    std::uint8_t classes;
    bool negated;
    char32_t low, high;
  };
  static constexpr Atom atoms[] = {{"\\p{L}", unicode::letter, false, 1, 0},      {"\\p{N}", unicode::number, false, 1, 0},
                                   {"\\p{P}", unicode::punctuation, false, 1, 0}, {"\\p{Nd}", unicode::decimal, false, 1, 0},
                                   {"\\d", unicode::decimal, false, 1, 0},        {"\\s", unicode::space, false, 1, 0},
                                   {"\\S", unicode::space, true, 1, 0},           {"\\w", unicode::regex_word, false, 1, 0},
                                   {"\\W", unicode::regex_word, true, 1, 0},      {"[0-9]", 0, false, '0', '9'},
                                   {"[^\\s]", unicode::space, true, 1, 0}};
  pattern.kind_ = Kind::repeated;
  for (const Atom& atom : atoms)
    if (expression.starts_with(atom.text) && detail::read_quantifier(expression.substr(atom.text.size()), pattern.least_, pattern.most_)) {
      pattern.classes_ = atom.classes, pattern.negated_ = atom.negated, pattern.low_ = atom.low, pattern.high_ = atom.high;
      return pattern;
    }
  if (expression == "[0-9][0-9][0-9]") return regex("[0-9]{3}", path);
  if (!expression.empty()) {
    const unicode::Character first = unicode::decode(expression, 0);
    const bool plain = first.valid && (first.value >= 0x80 || std::string_view("\\^$.|?*+()[]{}").find(expression[0]) == std::string_view::npos);
    if (plain && detail::read_quantifier(expression.substr(first.length), pattern.least_, pattern.most_)) {
      pattern.low_ = pattern.high_ = first.value;
      return pattern;
    }
  }
#if defined(PEFT_HAS_ONIGURUMA)
  pattern.kind_ = Kind::engine, pattern.engine_ = std::make_shared<RegexEngine>(expression, path);
  return pattern;
#else
  throw FormatError(path, -1,
                    "the regular expression \"" + std::string(expression) +
                        "\" is not built in; there are those of GPT-2, Llama 3 and Qwen 2, \\w+|[^\\w\\s]+, and one repeated class such as \\p{N}{1,3}, "
                        "\\s+ or [0-9]; any other needs a library that was configured with PEFT_ONIGURUMA");
#endif
}

PEFT_INLINE bool Pattern::accepts(char32_t character) const {
  if (classes_ == 0) return character >= low_ && character <= high_;
  return unicode::is(character, classes_) != negated_;
}

PEFT_INLINE bool Pattern::find(std::string_view text, std::size_t from, std::size_t& begin, std::size_t& end) const {
  if (kind_ == Kind::literal) {
    begin = literal_.empty() ? text.npos : text.find(literal_, from);
    end = begin == text.npos ? begin : begin + literal_.size();
    return begin != text.npos;
  }
#if defined(PEFT_HAS_ONIGURUMA)
  if (kind_ == Kind::engine) return engine_->find(text, from, begin, end);
#endif
  for (begin = from; begin < text.size(); begin += unicode::decode(text, begin).length) {
    if (kind_ == Kind::scanner) {
      if ((end = scanner_(text, begin)) > begin) return true;
      continue;
    }
    std::size_t count = 0;
    for (end = begin; end < text.size() && count < most_; count++) {
      const unicode::Character character = unicode::decode(text, end);
      if (!accepts(character.value)) break;
      end += character.length;
    }
    if (count >= least_) return true;
  }
  return false;
}

}  // namespace peft::tokenizer
