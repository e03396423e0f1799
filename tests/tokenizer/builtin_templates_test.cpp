// SPDX-License-Identifier: Apache-2.0
#include "peft/tokenizer/builtin_templates.hpp"

#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/io/json.hpp"
#include "peft/tokenizer/save.hpp"
#include "small_tokenizer.hpp"

namespace {

using Talk = std::vector<peft::ChatMessage>;

// A system message, two rounds with blanks around what is said, and a question.
const Talk two_rounds = {{"system", "Be brief."}, {"user", " Hi\n"}, {"assistant", "Hello. "}, {"user", "And {{ now }}?"}};
const Talk one_question = {{"user", "Hi"}};
const Talk one_round = {{"user", "Hi"}, {"assistant", "Hello."}};

std::string written(const std::string& name, const Talk& talk, bool prompt, const peft::Json* variables = nullptr) {
  return peft::load_chat_template(name).render(talk, prompt, "<s>", "</s>", variables);
}

}  // namespace

TEST_CASE("built-in templates have names, and others are refused", "[tokenizer]") {
  CHECK(peft::builtin_chat_templates() ==
        std::vector<std::string>{"alpaca", "chatglm", "chatglm2", "chatglm3", "chatml", "llama2", "llama3", "qwen", "zephyr"});
  for (const std::string& name : peft::builtin_chat_templates()) {
    INFO(name);
    CHECK(peft::ChatTemplate(peft::builtin_chat_template(name)).failure().empty());
    CHECK(peft::load_chat_template(name).text() == peft::builtin_chat_template(name));
  }
  CHECK_THROWS_AS(peft::builtin_chat_template(""), peft::ConfigError);
  CHECK_THROWS_WITH(peft::builtin_chat_template("lama3"), Catch::Contains("\"lama3\"") && Catch::Contains("did you mean \"llama3\"?") &&
                                                              Catch::Contains("alpaca, chatglm, chatglm2, chatglm3, chatml, llama2, llama3, qwen, zephyr"));
}

TEST_CASE("chatml", "[tokenizer]") {
  CHECK(written("chatml", two_rounds, true) ==
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\nHello. <|im_end|>\n"
        "<|im_start|>user\nAnd {{ now }}?<|im_end|>\n<|im_start|>assistant\n");
  CHECK(written("chatml", one_round, false) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n");
  CHECK(peft::load_chat_template("chatml").format() == peft::ChatTemplate::Format::chatml);
}

TEST_CASE("qwen has a system prompt of its own", "[tokenizer]") {
  const std::string own = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n";
  CHECK(written("qwen", one_question, true) == own + "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  CHECK(written("qwen", two_rounds, true) == written("chatml", two_rounds, true));
  CHECK(written("qwen", {{"user", "a"}, {"system", "b"}, {"tool", "1"}, {"tool", "2"}, {"assistant", "c"}, {"tool", "3"}}, false) ==
        own +
            "<|im_start|>user\na<|im_end|>\n<|im_start|>system\nb<|im_end|>\n"
            "<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response><|im_end|>\n"
            "<|im_start|>assistant\nc<|im_end|>\n<|im_start|>user\n<tool_response>\n3\n</tool_response><|im_end|>\n");
  CHECK_THROWS_WITH(written("qwen", {{"critic", "a"}}, false), Catch::Contains("not critic"));
  const peft::Json tools = peft::Json::parse(R"({"tools":[{"name":"f"}]})", "test");
  CHECK_THROWS_WITH(written("qwen", one_question, true, &tools), Catch::Contains("no words for tools"));
}

TEST_CASE("llama2", "[tokenizer]") {
  CHECK(written("llama2", two_rounds, true) == "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hi [/INST] Hello. </s><s>[INST] And {{ now }}? [/INST]");
  CHECK(written("llama2", one_round, false) == "<s>[INST] Hi [/INST] Hello. </s>");
  for (const Talk& wrong : {Talk{{"user", "a"}, {"user", "b"}}, Talk{{"assistant", "a"}}, Talk{{"system", "a"}, {"assistant", "b"}},
                            Talk{{"user", "a"}, {"system", "b"}}, Talk{{"system", "a"}, {"system", "b"}}})
    CHECK_THROWS_WITH(written("llama2", wrong, false), Catch::Contains("roles must alternate user/assistant") && Catch::Contains("stands wrong"));
}

TEST_CASE("llama3", "[tokenizer]") {
  CHECK(written("llama3", two_rounds, true) ==
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAnd {{ now }}?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n");
  CHECK(written("llama3", one_question, false) == "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>");
  CHECK(peft::load_chat_template("llama3").format() == peft::ChatTemplate::Format::llama3);
}

TEST_CASE("zephyr", "[tokenizer]") {
  CHECK(written("zephyr", two_rounds, true) ==
        "<|system|>\nBe brief.</s>\n<|user|>\n Hi\n</s>\n<|assistant|>\nHello. </s>\n<|user|>\nAnd {{ now }}?</s>\n<|assistant|>\n");
  CHECK(written("zephyr", one_round, false) == "<|user|>\nHi</s>\n<|assistant|>\nHello.</s>\n");
  CHECK_THROWS_WITH(written("zephyr", {{"tool", "a"}}, false), Catch::Contains("not tool"));
}

TEST_CASE("alpaca", "[tokenizer]") {
  const std::string preamble = "<s>Below is an instruction that describes a task. Write a response that appropriately completes the request.";
  const std::string paired =
      "<s>Below is an instruction that describes a task, paired with an input that provides further context. "
      "Write a response that appropriately completes the request.";
  CHECK(written("alpaca", one_question, true) == preamble + "\n\n### Instruction:\nHi\n\n### Response:\n");
  CHECK(written("alpaca", one_round, false) == preamble + "\n\n### Instruction:\nHi\n\n### Response:\nHello.</s>");
  CHECK(written("alpaca", {{"user", "Add."}, {"input", "1, 2"}, {"assistant", "3"}, {"user", "More."}}, true) ==
        paired + "\n\n### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:\n3</s>\n\n### Instruction:\nMore.\n\n### Response:\n");
  CHECK(written("alpaca", {{"system", "Be brief."}, {"user", "Hi"}}, true) == "<s>Be brief.\n\n### Instruction:\nHi\n\n### Response:\n");
  CHECK(peft::load_chat_template("alpaca").has_inputs());
  CHECK_FALSE(peft::load_chat_template("llama2").has_inputs());
  for (const Talk& wrong : {Talk{{"user", "a"}, {"user", "b"}}, Talk{{"input", "a"}}, Talk{{"user", "a"}, {"input", "b"}, {"input", "c"}},
                            Talk{{"user", "a"}, {"assistant", "b"}, {"input", "c"}}, Talk{{"user", "a"}, {"system", "b"}}, Talk{{"assistant", "a"}}})
    CHECK_THROWS_WITH(written("alpaca", wrong, false), Catch::Contains("stands wrong"));
}

TEST_CASE("a template is chosen by name or from a file", "[tokenizer]") {
  const small::Folder folder;
  const std::string jinja = folder.write("own.jinja", "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}\n");
  CHECK(peft::load_chat_template(jinja).render(one_question, false, "", "!") == "<user>Hi!");
  CHECK(peft::load_chat_template(folder.write("tokenizer_config.json", R"({"chat_template":"{{ messages[0].content }}"})")).render(one_question, false) ==
        "Hi");
  CHECK_THROWS_WITH(peft::load_chat_template("zephir"), Catch::Contains("neither a file nor a built-in template; did you mean \"zephyr\"?"));
  CHECK_THROWS_WITH(peft::load_chat_template(folder.path()), Catch::Contains("neither a file nor"));
  CHECK_THROWS_WITH(peft::load_chat_template(folder.write("broken.jinja", "a\n{% if %}")), Catch::Contains("not understood") && Catch::Contains("line 2"));
  CHECK_THROWS_WITH(peft::load_chat_template(folder.write("empty.jinja", "")), Catch::Contains("has no chat template"));
  CHECK_THROWS_WITH(peft::load_chat_template(folder.write("other.json", R"({"a":1})")), Catch::Contains("has no chat template"));
}

TEST_CASE("a tokenizer takes another template, and a folder keeps it", "[tokenizer]") {
  const peft::Tokenizer plain = small::plain();
  CHECK_THROWS_WITH(plain.apply_chat(one_question),
                    Catch::Contains("no chat template") && Catch::Contains("--chat-template") && Catch::Contains("alpaca, chatglm"));
  const peft::Tokenizer chats = plain.with_chat_template(peft::load_chat_template("llama2"));
  CHECK(chats.apply_chat(one_question) == "<s>[INST] Hi [/INST]");
  CHECK_FALSE(plain.chat_template().usable());
  CHECK(chats.encode("hello") == plain.encode("hello"));
  // bos and eos of the text are the tokens themselves.
  const auto ids = chats.encode(chats.apply_chat(one_round, false), {.add_special_tokens = false});
  CHECK(ids.front() == *chats.bos_id());
  CHECK(ids.back() == *chats.eos_id());
  const small::Folder folder;
  peft::save_chat_template(chats.chat_template(), folder.path());
  CHECK(peft::load_chat_template(folder.path() + "/chat_template.jinja").text() == peft::builtin_chat_template("llama2"));
}
