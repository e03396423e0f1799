// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "peft/tokenizer/fwd.hpp"
#include "peft/tokenizer/pattern.hpp"
#include "peft/tokenizer/pieces.hpp"

namespace peft::tokenizer {

/// Cuts pieces into smaller ones; the model then sees each alone. One object per "type" of tokenizer.json.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void apply(Pieces& pieces) const = 0;
  /// Whether Pieces::at_start changes anything.
  virtual bool asks_start() const { return false; }
};
using PreTokenizerPtr = std::unique_ptr<const PreTokenizer>;

/// From the "pre_tokenizer" of a tokenizer.json; null gives a null pointer. Throws FormatError(path) that names an unknown type.
PreTokenizerPtr make_pre_tokenizer(const Json& json, std::string_view path);

/// What becomes of a match: a piece of its own, nothing, part of the piece before or behind, or one piece with its neighbours of the same kind.
enum class SplitBehavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };

/// Cuts at the matches of a pattern, or with `invert` at what lies between them. Also Digits, Whitespace, WhitespaceSplit, Punctuation,
/// CharDelimiterSplit and FixedLength, which are this with a fixed pattern, and BertPreTokenizer, which is two of them.
class Split final : public PreTokenizer {
 public:
  Split(Pattern pattern, SplitBehavior behavior, bool invert = false) : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void apply(Pieces& pieces) const override;

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

/// GPT-2's cut (unless use_regex is false), then every byte becomes a visible character.
class ByteLevel final : public PreTokenizer {
 public:
  explicit ByteLevel(bool add_prefix_space = true, bool use_regex = true);
  void apply(Pieces& pieces) const override;

 private:
  bool add_prefix_space_, use_regex_;
  Split words_;
};

enum class PrependScheme { always, first, never };

/// sentencepiece's way: spaces become `replacement` (▁), one is put in front (always, or only where the input begins), and each begins a piece.
class Metaspace final : public PreTokenizer {
 public:
  Metaspace(std::string replacement, PrependScheme prepend, bool split);
  void apply(Pieces& pieces) const override;
  bool asks_start() const override { return prepend_ == PrependScheme::first; }

 private:
  std::string replacement_;
  PrependScheme prepend_;
  bool split_;
  Split words_;
};

/// Cuts where another script begins (sentencepiece's way, as XLNet's); Han, Hiragana and Katakana are one. Spaces, and characters of no script, go with
/// what is in front of them; where there is nothing, they are dropped.
class UnicodeScripts final : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override;
};

class PreTokenizerSequence final : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<PreTokenizerPtr> steps) : steps_(std::move(steps)) {}
  void apply(Pieces& pieces) const override {
    for (const auto& step : steps_) step->apply(pieces);
  }
  bool asks_start() const override {
    for (const auto& step : steps_)
      if (step->asks_start()) return true;
    return false;
  }

 private:
  std::vector<PreTokenizerPtr> steps_;
};

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/pre_tokenizer.inl"
#endif
