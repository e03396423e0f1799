// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "peft/tokenizer/bpe.hpp"
#include "peft/tokenizer/impl/component_json.inl"
#include "peft/tokenizer/impl/post_processor.inl"
#include "peft/tokenizer/make_model.hpp"
#include "peft/tokenizer/unigram.hpp"
#include "peft/tokenizer/wordlevel.hpp"
#include "peft/tokenizer/wordpiece.hpp"

namespace peft::tokenizer {
namespace detail {

/// "a b" or ["a", "b"].
inline std::pair<std::string_view, std::string_view> merge_parts(const Component& c, const Json& json, std::size_t i) {
  const auto wrong = [&] { return c.error("merge " + std::to_string(i) + " must be two tokens, \"a b\" or [\"a\", \"b\"]"); };
  if (json.is_string()) {
    const std::string_view text = json.string();
    const std::size_t space = text.find(' ');
    if (space == text.npos || space == 0 || space + 1 == text.size() || text.find(' ', space + 1) != text.npos) throw wrong();
    return {text.substr(0, space), text.substr(space + 1)};
  }
  if (!json.is_array()) throw wrong();
  std::string_view parts[2];
  std::size_t count = 0;
  for (const Json& part : json.array()) {
    if (count == 2 || !part.is_string()) throw wrong();
    parts[count++] = part.string();
  }
  if (count != 2) throw wrong();
  return {parts[0], parts[1]};
}

/// With a continuing_subword_prefix ("##", of `prefix` bytes) the right part loses it in the merged token.
inline Merge merge_of(const Vocabulary& vocabulary, std::string_view left, std::string_view right, std::size_t i, std::size_t prefix) {
  const std::string merged = std::string(left) + std::string(right.substr(std::min(prefix, right.size())));
  const Merge merge{vocabulary.id(left), vocabulary.id(right), vocabulary.id(merged), static_cast<std::uint32_t>(i)};
  for (const auto& [id, token] : {std::pair<std::int32_t, std::string_view>{merge.left, left}, {merge.right, right}, {merge.merged, merged}})
    if (id < 0)
      throw Error("tokenizer.merges", "merge " + std::to_string(i) + " (\"" + std::string(left) + "\", \"" + std::string(right) + "\") needs the token \"" +
                                          std::string(token) + "\", which is not in the vocabulary");
  return merge;
}

/// "vocab": {token: id, …}
inline Vocabulary vocabulary_of(const Component& c) {
  if (!c.at("vocab").is_object()) throw c.error("\"vocab\" is not an object");
  std::vector<std::pair<std::string, std::int32_t>> tokens;
  for (const auto& [token, id] : c.at("vocab").object()) tokens.emplace_back(std::string(token), token_id(c, id, "\"" + std::string(token) + "\""));
  return Vocabulary(tokens);
}

inline ModelPtr bpe_of(const Component& c) {
  if (const Json* dropout = c.find("dropout"))
    if (!dropout->is_number() || dropout->number() != 0) throw c.error("dropout is not supported");
  Vocabulary vocabulary = vocabulary_of(c);
  BpeOptions options{.fuse_unk = c.boolean("fuse_unk", false),
                     .byte_fallback = c.boolean("byte_fallback", false),
                     .ignore_merges = c.boolean("ignore_merges", false),
                     .continuing_subword_prefix = c.string("continuing_subword_prefix", ""),
                     .end_of_word_suffix = c.string("end_of_word_suffix", "")};
  if (const std::string unk = c.string("unk_token", ""); !unk.empty()) {
    options.unk_id = vocabulary.id(unk);
    if (options.unk_id < 0) throw c.error("unk_token \"" + unk + "\" is not in the vocabulary");
  }
  std::vector<Merge> merges;
  for (const Json& item : c.list("merges").array()) {
    const auto [left, right] = merge_parts(c, item, merges.size());
    merges.push_back(merge_of(vocabulary, left, right, merges.size(), options.continuing_subword_prefix.size()));
  }
  return std::make_unique<Bpe>(std::move(vocabulary), merges, std::move(options));
}

inline ModelPtr wordpiece_of(const Component& c) {
  Vocabulary vocabulary = vocabulary_of(c);
  const std::string unk = c.string("unk_token", "[UNK]");
  const std::int32_t id = vocabulary.id(unk);
  if (id < 0) throw c.error("unk_token \"" + unk + "\" is not in the vocabulary");
  const auto longest = static_cast<std::size_t>(c.find("max_input_chars_per_word") != nullptr ? c.integer("max_input_chars_per_word", 0, 1 << 30) : 100);
  return std::make_unique<WordPiece>(std::move(vocabulary), id, c.string("continuing_subword_prefix", "##"), longest);
}

inline ModelPtr wordlevel_of(const Component& c) { return std::make_unique<WordLevel>(vocabulary_of(c), c.string("unk_token", "<unk>")); }

/// A number as tokenizers' reader of JSON has it: its digits as an integer, rounded, then times or over a power of ten, rounded again. That is at times
/// the last bit off, which decides between paths of the same pieces in another order.
inline double read_twice_rounded(double number) {
  char text[40] = {};
  const char* const end = std::to_chars(text, text + sizeof text, number, std::chars_format::scientific).ptr;
  std::uint64_t digits = 0;
  int exponent = 0;
  const char* at = text;
  for (bool fraction = false; at != end && *at != 'e'; at++) {
    if (*at == '.') fraction = true;
    if (*at < '0' || *at > '9') continue;
    digits = 10 * digits + static_cast<std::uint64_t>(*at - '0'), exponent -= fraction ? 1 : 0;
  }
  if (at != end) exponent += std::atoi(at + 1);
  const auto power = [](int n) { return std::strtod(("1e" + std::to_string(n)).c_str(), nullptr); };
  double value = static_cast<double>(digits);
  if (exponent < -308) value /= power(308), exponent += 308;
  value = exponent < 0 ? value / power(-exponent) : value * power(exponent);
  return number < 0 ? -value : value;
}

/// "vocab": [[token, log p], …]
inline ModelPtr unigram_of(const Component& c) {
  std::vector<std::pair<std::string, std::int32_t>> tokens;
  std::vector<double> scores;
  for (const Json& entry : c.list("vocab").array()) {
    const bool pair = entry.is_array() && entry.size() == 2 && entry.array()[0].is_string() && entry.array()[1].is_number();
    if (!pair || !std::isfinite(entry.array()[1].number()))
      throw c.error("entry " + std::to_string(tokens.size()) + " of \"vocab\" must be [token, log probability]");
    tokens.emplace_back(entry.array()[0].string(), static_cast<std::int32_t>(tokens.size()));
    scores.push_back(read_twice_rounded(entry.array()[1].number()));
  }
  if (tokens.empty()) throw c.error("\"vocab\" is empty");
  UnigramOptions options{.byte_fallback = c.boolean("byte_fallback", false)};
  if (c.find("unk_id") != nullptr) options.unk_id = static_cast<std::int32_t>(c.integer("unk_id", 0, static_cast<std::int64_t>(tokens.size()) - 1));
  return std::make_unique<Unigram>(Vocabulary(tokens), std::move(scores), std::move(options));
}

}  // namespace detail

PEFT_INLINE ModelPtr make_model(const Json& json, std::string_view path) {
  return detail::in_file(path, [&]() -> ModelPtr {
    detail::Component c(json, path, "model");
    // Older files have no type; only BPE has merges, and only Unigram a list of tokens.
    if (c.find("type") == nullptr && c.find("merges") != nullptr) return detail::bpe_of(c);
    if (c.find("type") == nullptr && c.at("vocab").is_array()) return detail::unigram_of(c);
    const std::string type = c.type();
    if (type == "BPE") return detail::bpe_of(c);
    if (type == "WordPiece") return detail::wordpiece_of(c);
    if (type == "WordLevel") return detail::wordlevel_of(c);
    if (type == "Unigram") return detail::unigram_of(c);
    throw c.unknown({"BPE", "WordPiece", "WordLevel", "Unigram"});
  });
}

}  // namespace peft::tokenizer
