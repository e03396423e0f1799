// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "peft/tokenizer/fwd.hpp"
#include "peft/tokenizer/pattern.hpp"

namespace peft::tokenizer {

/// Turns tokens back into text: a chain of steps over the list of token texts, whose last list is concatenated.
class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual void apply(std::vector<std::string>& tokens) const = 0;
};
using DecoderPtr = std::unique_ptr<const Decoder>;

/// From the "decoder" of a tokenizer.json; null gives a null pointer. Throws FormatError(path) that names an unknown type.
DecoderPtr make_decoder(const Json& json, std::string_view path);

/// Visible characters back to bytes; what is then not UTF-8 becomes U+FFFD. A token with any other character stands for itself.
class ByteLevelDecoder final : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override;
};

/// Runs of "<0xNN>" become their characters, or one U+FFFD each if they are not UTF-8.
class ByteFallback final : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override;
};

/// All tokens become one.
class Fuse final : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override;
};

/// Takes up to `start` and `stop` times `content` off both ends of every token.
class StripDecoder final : public Decoder {
 public:
  StripDecoder(std::string content, std::size_t start, std::size_t stop) : content_(std::move(content)), start_(start), stop_(stop) {}
  void apply(std::vector<std::string>& tokens) const override;

 private:
  std::string content_;
  std::size_t start_, stop_;
};

class ReplaceDecoder final : public Decoder {
 public:
  ReplaceDecoder(Pattern pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(std::vector<std::string>& tokens) const override;

 private:
  Pattern pattern_;
  std::string content_;
};

/// `replacement` becomes a space; the first token loses its own where one was prepended.
class MetaspaceDecoder final : public Decoder {
 public:
  MetaspaceDecoder(std::string replacement, bool prepended) : replacement_(std::move(replacement)), prepended_(prepended) {}
  void apply(std::vector<std::string>& tokens) const override;

 private:
  std::string replacement_;
  bool prepended_;
};

/// Tokens without `prefix` begin a word. With `cleanup`, English punctuation moves to the word before it.
class WordPieceDecoder final : public Decoder {
 public:
  WordPieceDecoder(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}
  void apply(std::vector<std::string>& tokens) const override;

 private:
  std::string prefix_;
  bool cleanup_;
};

/// Tokens that say the same as the one before are dropped, `pad_token` is nothing, and with `cleanup` `word_delimiter_token` is a space and English
/// punctuation moves to the word before it (Graves et al. 2006).
class CtcDecoder final : public Decoder {
 public:
  CtcDecoder(const std::string& pad_token, const std::string& word_delimiter_token, bool cleanup)
      : pad_(Pattern::literal(pad_token)), delimiter_(Pattern::literal(word_delimiter_token)), cleanup_(cleanup) {}
  void apply(std::vector<std::string>& tokens) const override;

 private:
  Pattern pad_, delimiter_;
  bool cleanup_;
};

/// `suffix` ends a word.
class BpeDecoder final : public Decoder {
 public:
  explicit BpeDecoder(std::string suffix) : suffix_(std::move(suffix)) {}
  void apply(std::vector<std::string>& tokens) const override;

 private:
  std::string suffix_;
};

class DecoderSequence final : public Decoder {
 public:
  explicit DecoderSequence(std::vector<DecoderPtr> steps) : steps_(std::move(steps)) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (const auto& step : steps_) step->apply(tokens);
  }

 private:
  std::vector<DecoderPtr> steps_;
};

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/decoder.inl"
#endif
