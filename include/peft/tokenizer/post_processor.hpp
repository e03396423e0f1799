// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "peft/tokenizer/encoding.hpp"
#include "peft/tokenizer/fwd.hpp"
#include "peft/tokenizer/vocabulary.hpp"

namespace peft::tokenizer {

/// How many characters of white space a token begins and ends with; below 0: those that the vocabulary spells.
struct Spaces {
  std::int64_t leading = -1, trailing = -1;
};
Spaces spaces_around(std::string_view token);

/// What a post-processor arranges: the ids of a text, or special tokens. `offsets` is empty where nobody asked for them.
struct Part {
  std::vector<std::int32_t> ids;
  std::vector<Offsets> offsets;
  std::vector<Spaces> spaces = {};  // as many as offsets: an added token may have taken white space along
  std::int32_t type_id = 0;
  bool special = false;
  std::int32_t text = -1;  // which of the texts this is of
};

/// Puts special tokens around the ids of one text or two, and says to which segment each belongs.
class PostProcessor {
 public:
  struct Context {
    bool add_special_tokens = true;
    const Vocabulary* vocabulary = nullptr;  // for the texts of tokens, where offsets are trimmed
  };
  virtual ~PostProcessor() = default;
  /// `parts` are one text or two, or what an earlier step has made of them. Without add_special_tokens only types and offsets change.
  virtual void apply(std::vector<Part>& parts, const Context& context) const = 0;
};
using PostProcessorPtr = std::unique_ptr<const PostProcessor>;

/// From the "post_processor" of a tokenizer.json; null gives a null pointer. Throws FormatError(path) that names an unknown type.
PostProcessorPtr make_post_processor(const Json& json, std::string_view path);

/// TemplateProcessing, BertProcessing and the arrangement of RobertaProcessing: special tokens and the two texts in a given order.
class Template final : public PostProcessor {
 public:
  struct Step {
    int text = -1;  // 0 or 1: that text; -1: the special tokens
    std::vector<std::int32_t> special = {};
    std::int32_t type_id = 0;
  };
  enum class Types { assigned, only_with_special };  // whether segments are set also where no special tokens are wanted
  Template(std::vector<Step> single, std::vector<Step> pair, Types types = Types::assigned)
      : single_(std::move(single)), pair_(std::move(pair)), types_(types) {}
  /// before… $A after…, and for a pair before… $A after… before… $B after… with B in the second segment.
  Template(std::vector<std::int32_t> before, std::vector<std::int32_t> after);
  /// Throws Error for a pair if the template has none.
  void apply(std::vector<Part>& parts, const Context& context) const override;
  const std::vector<Step>& single() const { return single_; }
  const std::vector<Step>& pair() const { return pair_; }

 private:
  std::vector<Step> single_, pair_;
  Types types_ = Types::assigned;
};

/// White space at the ends of a token leaves its offsets: ByteLevel, RobertaProcessing.
class TrimOffsets final : public PostProcessor {
 public:
  explicit TrimOffsets(bool add_prefix_space) : add_prefix_space_(add_prefix_space) {}
  void apply(std::vector<Part>& parts, const Context& context) const override;

 private:
  bool add_prefix_space_;
};

class PostProcessorSequence final : public PostProcessor {
 public:
  explicit PostProcessorSequence(std::vector<PostProcessorPtr> steps) : steps_(std::move(steps)) {}
  void apply(std::vector<Part>& parts, const Context& context) const override {
    for (const auto& step : steps_) step->apply(parts, context);
  }

 private:
  std::vector<PostProcessorPtr> steps_;
};

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/post_processor.inl"
#endif
