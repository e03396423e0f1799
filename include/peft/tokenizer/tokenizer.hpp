// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "peft/core/config.hpp"
#include "peft/tokenizer/chat_template.hpp"
#include "peft/tokenizer/encoding.hpp"
#include "peft/tokenizer/fwd.hpp"

namespace peft {

namespace tokenizer {
struct Part;
struct Pipeline;
struct State;
}  // namespace tokenizer

struct EncodeOptions {
  bool add_special_tokens = true;     // what the tokenizer puts around a text (bos, [CLS], …)
  bool split_special_tokens = false;  // true: "<|im_end|>" in the text is only text
  std::optional<Truncation> truncation = {};
};

struct DecodeOptions {
  bool skip_special_tokens = true;
};

/// Text to ids and back. A cheap handle of shared, immutable state: copy it freely, use it from several threads at once.
class Tokenizer {
 public:
  /// From its parts; load_tokenizer() is the usual way. Throws Error if the added tokens contradict each other or the vocabulary.
  explicit Tokenizer(tokenizer::Pipeline pipeline);

  /// Bytes that are not UTF-8 count as U+FFFD.
  std::vector<std::int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;
  /// One text each, on all threads; the results do not depend on their number.
  std::vector<std::vector<std::int32_t>> encode_batch(std::span<const std::string> texts, const EncodeOptions& options = {}) const;
  /// With offsets, segments and masks; a text alone or a pair (BERT's two segments). Throws Error where the tokenizer has no form for pairs, or a
  /// truncation asks for the impossible.
  Encoding encode_full(std::string_view text, const EncodeOptions& options = {}) const;
  Encoding encode_pair(std::string_view first, std::string_view second, const EncodeOptions& options = {}) const;
  /// A pair of which the text that options.truncation cuts (only_first, only_second) is longer than fits: in windows that follow each other and have `stride`
  /// tokens of it in common, each beside the whole other text. One window if all fits. Throws Error for another truncation, and for a stride as long as a
  /// window.
  std::vector<Encoding> encode_windows(std::string_view first, std::string_view second, const EncodeOptions& options, std::size_t stride) const;
  /// Ids beyond the vocabulary (models often have a few rows more) give nothing. Throws Error on negative ids.
  std::string decode(std::span<const std::int32_t> ids, DecodeOptions options = {}) const;

  std::optional<std::int32_t> token_to_id(std::string_view token) const;
  std::optional<std::string> id_to_token(std::int32_t id) const;
  /// One more than the largest id, added tokens included. The model's own vocab_size may be larger.
  std::int32_t vocab_size() const;
  /// True for added tokens that decode() skips.
  bool is_special(std::int32_t id) const;

  std::optional<std::int32_t> bos_id() const;
  std::optional<std::int32_t> eos_id() const;
  std::optional<std::int32_t> pad_id() const;
  std::optional<std::int32_t> unk_id() const;
  /// All ids that end a generation (generation_config.json may list several); eos_id() is among them.
  const std::vector<std::int32_t>& eos_ids() const;

  const ChatTemplate& chat_template() const;
  /// The same tokenizer with another chat template: load_chat_template("llama3"), ChatTemplate(text). Shares all else.
  Tokenizer with_chat_template(ChatTemplate chat) const;
  /// The conversation as the model was trained to read it, as text with its special tokens: encode it with add_special_tokens = false.
  /// Throws ConfigError if there is no chat template or it is not one of those built in.
  std::string apply_chat(std::span<const ChatMessage> messages, bool add_generation_prompt = true) const;

  /// The "truncation" and "padding" of a tokenizer.json. They are not applied unasked: lengths are the caller's decision.
  const std::optional<Truncation>& truncation() const;
  const std::optional<Padding>& padding() const;

 private:
  std::vector<tokenizer::Part> encode_texts(std::span<const std::string_view> texts, const EncodeOptions& options, bool aligned) const;
  std::size_t added_tokens(std::size_t texts, const EncodeOptions& options) const;
  void arrange(std::vector<tokenizer::Part>& parts, const EncodeOptions& options) const;
  std::vector<tokenizer::Part> encode_parts(std::span<const std::string_view> texts, const EncodeOptions& options, bool aligned) const;

  std::shared_ptr<const tokenizer::State> state_;
  std::shared_ptr<const ChatTemplate> chat_;
};

/// From a Hugging Face directory (tokenizer.json, and where present tokenizer_config.json, special_tokens_map.json, generation_config.json, config.json,
/// chat_template.jinja), a tokenizer.json (what lies beside it is read too), a sentencepiece model (tokenizer.model, spiece.model, or a file of another name
/// that ends in .model; beside it the same), a GGUF file, or a directory that holds just one of these. Throws FormatError that names the file and the part that
/// is not supported.
Tokenizer load_tokenizer(const std::string& path);

/// A built-in chat template by its name (builtin_chat_templates()), or that of a file: of .json its "chat_template", as tokenizer_config.json has it, else
/// the whole text. Throws ConfigError for what is neither, and for a template that is not understood.
ChatTemplate load_chat_template(const std::string& name_or_file);

/// Ids to text while they arrive. What one push returns is final: characters that are still incomplete are held back.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, DecodeOptions options = {}) : tokenizer_(std::move(tokenizer)), options_(options) {}
  /// The new text, often empty.
  std::string push(std::int32_t id);
  /// What is still held back; then everything begins anew.
  std::string flush();

 private:
  Tokenizer tokenizer_;
  DecodeOptions options_;
  std::vector<std::int32_t> ids_;  // the last ids whose text is out, then those whose text is not
  std::size_t shown_ids_ = 0;      // how many are the former,
  std::string shown_;              // and their text alone
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/tokenizer.inl"
#endif
