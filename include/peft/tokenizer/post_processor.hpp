// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "peft/tokenizer/fwd.hpp"

namespace peft::tokenizer {

/// Puts special tokens around the ids of one text.
class PostProcessor {
 public:
  virtual ~PostProcessor() = default;
  virtual void apply(std::vector<std::int32_t>& ids) const = 0;
};
using PostProcessorPtr = std::unique_ptr<const PostProcessor>;

/// From the "post_processor" of a tokenizer.json; null gives a null pointer. Throws FormatError(path) that names an unknown type.
PostProcessorPtr make_post_processor(const Json& json, std::string_view path);

/// before… $A after…: TemplateProcessing's "single", BertProcessing, RobertaProcessing. ByteLevel adds nothing and is no object.
class Template final : public PostProcessor {
 public:
  Template(std::vector<std::int32_t> before, std::vector<std::int32_t> after) : before_(std::move(before)), after_(std::move(after)) {}
  void apply(std::vector<std::int32_t>& ids) const override {
    ids.insert(ids.begin(), before_.begin(), before_.end());
    ids.insert(ids.end(), after_.begin(), after_.end());
  }

 private:
  std::vector<std::int32_t> before_, after_;
};

class PostProcessorSequence final : public PostProcessor {
 public:
  explicit PostProcessorSequence(std::vector<PostProcessorPtr> steps) : steps_(std::move(steps)) {}
  void apply(std::vector<std::int32_t>& ids) const override {
    for (const auto& step : steps_) step->apply(ids);
  }

 private:
  std::vector<PostProcessorPtr> steps_;
};

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/post_processor.inl"
#endif
