// SPDX-License-Identifier: Apache-2.0
#include "peft/tokenizer/chat_template.hpp"

#include <catch2/catch.hpp>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/io/json.hpp"
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
    REQUIRE(t.usable());
    CHECK(t.format() == Format::chatml);
    CHECK(t.render(question, false) == "<|im_start|>user\n Hi\n<|im_end|>\n");
    CHECK(
        t.render(talk, false) ==
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n");
  }
  CHECK(ChatTemplate(chatml).render(question, true).ends_with("<|im_start|>assistant\n"));
}

TEST_CASE("a template sees the tokens that begin and end a text, and what it is given", "[tokenizer]") {
  const ChatTemplate llama3(
      "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + "
      "'<|eot_id|>' %}"
      "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}");
  CHECK(llama3.format() == Format::llama3);
  CHECK(llama3.render(question, false, "<b>") == "<b><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>");
  const ChatTemplate zephyr("{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token }}{% endfor %}");
  CHECK(zephyr.format() == Format::other);
  CHECK(zephyr.render(question, false, "", "</s>") == "<|user|>\n Hi\n</s>");
  const ChatTemplate asks("{{ tools is none }} {{ enable_thinking }} {{ date is defined }}");
  const peft::Json more = peft::Json::parse(R"({"enable_thinking":false})", "test");
  CHECK(asks.render(question, false, "", "", &more) == "True False False");
  const peft::Json wrong = peft::Json::parse(R"({"messages":[]})", "test");
  CHECK_THROWS_WITH(asks.render(question, false, "", "", &wrong), Catch::Contains("messages"));
}

TEST_CASE("a template may refuse a conversation", "[tokenizer]") {
  const ChatTemplate strict(
      "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}{% "
      "endfor %}");
  CHECK(strict.render(std::vector<ChatMessage>{{"user", "a"}, {"assistant", "b"}}, true) == "ab");
  CHECK_THROWS_WITH(strict.render(std::vector<ChatMessage>{{"user", "a"}, {"user", "b"}}, true), Catch::Contains("roles must alternate"));
}

TEST_CASE("no template, and one that is not understood", "[tokenizer]") {
  CHECK(ChatTemplate("").format() == Format::none);
  CHECK_THROWS_AS(ChatTemplate().render(question, true), peft::ConfigError);
  const ChatTemplate broken("{% for %}");
  CHECK_FALSE(broken.usable());
  CHECK_THROWS_WITH(broken.render(question, true), Catch::Contains("{% for %}") && Catch::Contains("line 1"));
}

TEST_CASE("a tokenizer applies its own", "[tokenizer]") {
  const peft::Tokenizer t = small::chat();
  CHECK(t.apply_chat(question) == "<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\n");
}
