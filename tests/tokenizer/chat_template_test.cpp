// SPDX-License-Identifier: Apache-2.0
#include "peft/tokenizer/chat_template.hpp"

#include <catch2/catch.hpp>
#include <vector>

#include "peft/core/error.hpp"
#include "small_tokenizer.hpp"

using peft::ChatMessage;
using peft::ChatTemplate;
using Format = ChatTemplate::Format;

namespace {

const std::string chatml =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const std::vector<ChatMessage> question = {{"user", " Hi\n"}};
const std::vector<ChatMessage> talk = {{"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Hello."}, {"user", "Bye"}};

}  // namespace

TEST_CASE("ChatML in the spellings that exist", "[tokenizer]") {
  const std::string other =
      "{%- for message in messages %}\n  {{- \"<|im_start|>\" + message.role + \"\\n\" + message.content + \"<|im_end|>\\n\" }}\n{%- endfor %}\n";
  for (const std::string& text : {chatml, other}) {
    const ChatTemplate t(text);
    REQUIRE(t.format() == Format::chatml);
    CHECK(t.render(question, true) == "<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\n");
    CHECK(
        t.render(talk, false) ==
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n");
  }
}

TEST_CASE("a default system prompt is the template's own", "[tokenizer]") {
  const ChatTemplate t(
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a parrot.<|im_end|>\n' }}{% endif "
      "%}" +
      chatml.substr(chatml.find("{{'")));
  REQUIRE(t.format() == Format::chatml);
  CHECK(t.default_system() == "You are a parrot.");
  CHECK(t.render(question, false) == "<|im_start|>system\nYou are a parrot.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n");
  CHECK(t.render(talk, false).find("parrot") == std::string::npos);
}

TEST_CASE("Llama 3, Zephyr and Llama 2", "[tokenizer]") {
  const ChatTemplate llama3(
      "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + "
      "'<|eot_id|>' %}"
      "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}");
  REQUIRE(llama3.format() == Format::llama3);
  CHECK(llama3.render(question, true, "<b>") == "<b><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");

  const ChatTemplate zephyr("{{ '<|user|>\n' + message['content'] + eos_token }}{{ '<|assistant|>\n'  + message['content'] + eos_token }}");
  REQUIRE(zephyr.format() == Format::zephyr);
  CHECK(zephyr.render(question, true, "", "</s>") == "<|user|>\n Hi\n</s>\n<|assistant|>\n");

  const ChatTemplate llama2(
      "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
      "{{ ' '  + content.strip() + ' ' + eos_token }}");
  REQUIRE(llama2.format() == Format::llama2);
  CHECK(llama2.render(talk, true, "<s>", "</s>") == "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] Bye [/INST]");
  CHECK_THROWS_AS(llama2.render(std::vector<ChatMessage>{{"user", "a"}, {"user", "b"}}, true), peft::ConfigError);
}

TEST_CASE("what is not built in is not guessed", "[tokenizer]") {
  CHECK(ChatTemplate("").format() == Format::none);
  CHECK_THROWS_AS(ChatTemplate().render(question, true), peft::ConfigError);
  CHECK(ChatTemplate(chatml + "{% if enable_thinking %}{% endif %}").format() == Format::unknown);
  CHECK(ChatTemplate("{{ messages }}").format() == Format::unknown);
  CHECK_THROWS_WITH(ChatTemplate("{{ messages }}").render(question, true), Catch::Contains("{{ messages }}"));
  const ChatTemplate tools(chatml + "{% if message.role == 'tool' %}{% endif %}");
  CHECK_THROWS_WITH(tools.render(std::vector<ChatMessage>{{"tool", "42"}}, true), Catch::Contains("\"tool\""));
}

TEST_CASE("a tokenizer applies its own", "[tokenizer]") {
  const peft::Tokenizer t = small::chat();
  CHECK(t.apply_chat(question) == "<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\n");
}
