// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "peft/core/dtype.hpp"
#include "peft/tokenizer/tokenizer.hpp"

namespace peft {

class Json;

/// A language that the generated text must belong to, as masks of tokens: a finite automaton over bytes, walked by the bytes of each token (Willard
/// and Louf 2023, arXiv:2307.09702). The automaton is made as far as texts reach into it, the mask of a state when a text first stands there; both
/// are kept, 64 MiB of each at most, and shared by all that use the same constraint, on any thread. States that no token can tell apart have one
/// mask: in a counted repetition, all that are farther from its end than a token is long.
class TokenConstraint {
 public:
  using State = std::int32_t;

  /// See constrain_to_regex.
  TokenConstraint(const Tokenizer& tokenizer, std::string_view pattern);
  ~TokenConstraint();
  TokenConstraint(const TokenConstraint&) = delete;
  TokenConstraint& operator=(const TokenConstraint&) = delete;

  State start() const;
  /// Behind a token. Throws Error for one that is not allowed, NotSupported (as mask does) when the automaton would outgrow its memory.
  State next(State state, std::int32_t token) const;
  /// True if the text may end here,
  bool complete(State state) const;
  /// and if it must.
  bool finished(State state) const;
  /// Takes out of a row of logits what must not follow. Ends of text (eos) stay where the text may end. `left`: tokens that the answer may still
  /// have; what could not be completed within them goes, too, as long as something remains (a byte is counted as a token, which byte-level
  /// vocabularies have for each).
  template <Scalar T>
  void mask(std::span<T> row, State state, std::int64_t left, std::span<const std::int32_t> eos) const;

 private:
  struct Automaton;
  std::unique_ptr<Automaton> automaton_;
};

/// Texts that match a regular expression as a whole: characters, . [a-z] [^"] \d \w \s \D \W \S, escapes (\n, \t, \xHH, \uHHHH, and \ before
/// punctuation), ( ), (?: ), |, * + ? {n} {n,} {n,m}. ^ and $ at the ends are allowed and say nothing. \d, \w and \s are ASCII. Throws ConfigError
/// with the place of what is wrong, NotSupported for look-around, back references, and what grows beyond 200,000 states.
std::shared_ptr<const TokenConstraint> constrain_to_regex(const Tokenizer& tokenizer, std::string_view pattern);

/// Texts that are JSON of this schema: type (also a list), enum, const, properties, required, items, minItems, maxItems, minLength, maxLength,
/// pattern, format (date, time, date-time, uuid), anyOf, oneOf (as anyOf), $ref to $defs or definitions, without recursion. Objects have the
/// properties that are named, in that order, and no others. Values of any type nest three deep. Throws ConfigError for a schema that is none,
/// NotSupported for keywords that would restrict further (minimum, allOf, …), naming where they stand.
std::shared_ptr<const TokenConstraint> constrain_to_json_schema(const Tokenizer& tokenizer, const Json& schema);

/// The regular expression behind it.
std::string json_schema_regex(const Json& schema);

/// The bytes that a token adds to a text that has begun; empty for special tokens and ids without a token.
std::string token_bytes(const Tokenizer& tokenizer, std::int32_t id);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/generate/impl/constraint.inl"
#include "peft/generate/impl/json_schema.inl"
#endif
