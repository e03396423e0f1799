// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "peft/tokenizer/aligned_text.hpp"
#include "peft/tokenizer/charsmap.hpp"
#include "peft/tokenizer/fwd.hpp"
#include "peft/tokenizer/pattern.hpp"
#include "peft/tokenizer/unicode.hpp"

namespace peft::tokenizer {

/// Rewrites a text before it is cut into pieces. One object per "type" of tokenizer.json.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(AlignedText& text) const = 0;

  std::string operator()(std::string_view text) const {
    AlignedText aligned(text);
    apply(aligned);
    return aligned.text;
  }
};
using NormalizerPtr = std::unique_ptr<const Normalizer>;

/// From the "normalizer" of a tokenizer.json; null gives a null pointer. Throws FormatError(path) that names an unknown type.
NormalizerPtr make_normalizer(const Json& json, std::string_view path);

class UnicodeForm final : public Normalizer {  // NFC, NFD, NFKC, NFKD
 public:
  explicit UnicodeForm(unicode::Form form) : form_(form) {}
  void apply(AlignedText& text) const override;

 private:
  unicode::Form form_;
};

class Lowercase final : public Normalizer {
 public:
  void apply(AlignedText& text) const override;
};

/// Puts a text in front of every part that is not empty (Llama 2's "▁").
class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void apply(AlignedText& text) const override;

 private:
  std::string prefix_;
};

class Replace final : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(AlignedText& text) const override;

 private:
  Pattern pattern_;
  std::string content_;
};

class Strip final : public Normalizer {  // white space at the ends
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void apply(AlignedText& text) const override;

 private:
  bool left_, right_;
};

class StripAccents final : public Normalizer {  // drops combining marks
 public:
  void apply(AlignedText& text) const override;
};

class ByteLevelNormalizer final : public Normalizer {  // bytes as visible characters
 public:
  void apply(AlignedText& text) const override;
};

/// Control characters dropped and white space made spaces, spaces around Chinese characters, accents stripped, lower case: each if asked for.
class BertNormalizer final : public Normalizer {
 public:
  struct Options {
    bool clean_text = true, handle_chinese_chars = true, strip_accents = true, lowercase = true;
  };
  explicit BertNormalizer(Options options) : options_(options) {}
  void apply(AlignedText& text) const override;

 private:
  Options options_;
};

/// The rules nmt of sentencepiece: control characters dropped, other blanks made spaces.
class Nmt final : public Normalizer {
 public:
  void apply(AlignedText& text) const override;
};

/// "Precompiled": a grapheme of less than six bytes is replaced by what the map has for the shortest of its beginnings, otherwise each of its
/// characters alone. (So Hugging Face's tokenizers; sentencepiece itself takes the longest match, see SentencepieceNormalizer.)
class Precompiled final : public Normalizer {
 public:
  explicit Precompiled(CharacterMap map) : map_(std::move(map)) {}
  void apply(AlignedText& text) const override;

 private:
  CharacterMap map_;
};

class NormalizerSequence final : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<NormalizerPtr> steps) : steps_(std::move(steps)) {}
  void apply(AlignedText& text) const override {
    for (const auto& step : steps_) step->apply(text);
  }

 private:
  std::vector<NormalizerPtr> steps_;
};

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/normalizer.inl"
#endif
