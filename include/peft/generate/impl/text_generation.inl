// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/generate/impl/beam_generation.inl"
#include "peft/generate/impl/contrastive_search.inl"
#include "peft/generate/impl/generation_step.inl"
#include "peft/generate/text_generation.hpp"

namespace peft {

PEFT_INLINE std::string_view name(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::timeout:
      return "timeout";
  }
  return "";
}

PEFT_INLINE std::vector<std::int32_t> encode_prompt(const Tokenizer& tokenizer, std::string_view prompt, const GenerationConfig& config) {
  const bool chat = config.prompt_template == "chat" || (config.prompt_template == "auto" && tokenizer.chat_template().format() != ChatTemplate::Format::none);
  if (!chat) {
    if (!config.system_prompt.empty())
      throw ConfigError("generate", "system_prompt = \"" + config.system_prompt + "\" needs a chat template; this prompt is plain text");
    return tokenizer.encode(prompt);
  }
  std::vector<ChatMessage> messages;
  if (!config.system_prompt.empty()) messages.push_back({"system", config.system_prompt});
  messages.push_back({"user", std::string(prompt)});
  return tokenizer.encode(tokenizer.apply_chat(messages), {.add_special_tokens = false});
}

PEFT_INLINE std::vector<std::int32_t> eos_token_ids(const GenerationConfig& config, const TransformerConfig& model, const Tokenizer* tokenizer) {
  if (config.eos_token_ids) return *config.eos_token_ids;
  std::vector<std::int32_t> all = model.eos_token_ids;
  if (tokenizer) {
    all.insert(all.end(), tokenizer->eos_ids().begin(), tokenizer->eos_ids().end());
    if (const auto id = tokenizer->token_to_id(tokenizer->chat_template().turn_end())) all.push_back(*id);
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

template <Scalar T>
std::vector<Generation> run_generation(LanguageModel<T>& model, std::span<const GenerationRequest<T>> requests, const GenerationConfig& config,
                                       const Tokenizer* tokenizer, LanguageModel<T>* draft) {
  const bool chats = tokenizer && config.prompt_template != "plain" && !config.eos_token_ids;
  const std::string_view end = chats ? tokenizer->chat_template().turn_end() : std::string_view();
  if (end.empty() || tokenizer->token_to_id(end)) return detail::GenerationRun<T>(model, requests, config, tokenizer, draft).run();
  GenerationConfig with_end = config;  // what ends a turn is several tokens here
  with_end.stop.emplace_back(end);
  return detail::GenerationRun<T>(model, requests, with_end, tokenizer, draft).run();
}

}  // namespace peft
