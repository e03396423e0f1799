// SPDX-License-Identifier: Apache-2.0
#include "peft/data/data.hpp"

#include <catch2/catch.hpp>

#include "peft/core/error.hpp"
#include "tokenizer/small_tokenizer.hpp"

namespace {

using Ids = std::vector<std::int32_t>;
using peft::DatasetOptions;

peft::Dataset load(const std::string& rows, const peft::Tokenizer& tokenizer, const DatasetOptions& options = {}) {
  const small::Folder folder;
  return peft::load_dataset(folder.write("rows.jsonl", rows), tokenizer, options);
}

std::string shown(const peft::Tokenizer& t, const Ids& ids) { return t.decode(ids, {.skip_special_tokens = false}); }

/// The text that is learnt.
std::string learnt(const peft::Tokenizer& t, const peft::Example& example) {
  Ids ids;
  for (std::size_t i = 0; i < example.labels.size(); i++)
    if (example.labels[i] != peft::ignore_index) {
      CHECK(example.labels[i] == example.input_ids[i]);
      ids.push_back(example.labels[i]);
    }
  return shown(t, ids);
}

}  // namespace

TEST_CASE("every format of rows, through a chat template", "[data]") {
  const peft::Tokenizer t = small::chat();
  const std::string expected = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nthe world<|im_end|>\n";
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"prompt_completion", R"({"prompt":"hello","completion":"the world"})"},
      {"prompt_completion", R"({"prompt":"hello","response":"the world","id":7})"},
      {"instruction", R"({"instruction":"hello","input":"","output":"the world"})"},
      {"instruction", R"({"instruction":"hello","output":"the world"})"},
      {"question_answer", R"({"question":"hello","answer":"the world"})"},
      {"messages", R"({"messages":[{"role":"user","content":"hello"},{"role":"assistant","content":"the world"}]})"},
      {"messages", R"({"conversations":[{"from":"human","value":"hello"},{"from":"gpt","value":"the world"}]})"},
      {"messages",
       R"({"messages":[{"role":"user","content":[{"type":"text","text":"hel"},{"type":"text","value":"lo"}]},{"role":"assistant","content":"the world"}]})"}};
  for (const auto& [format, row] : rows) {
    INFO(row);
    for (const std::string& file : {row + "\n", "[\n " + row + "\n]", "\n\n" + row + "\r\n\n"}) {
      const peft::Dataset data = load(file, t);
      REQUIRE(data.size() == 1);
      CHECK(data.report().format == format);
      CHECK(shown(t, data[0].input_ids) == expected);
      CHECK(learnt(t, data[0]) == "the world<|im_end|>");
      CHECK(data[0].input_ids == t.encode(expected, {.add_special_tokens = false}));
    }
  }
}

TEST_CASE("what goes in front of a conversation", "[data]") {
  const peft::Tokenizer t = small::chat();
  CHECK(shown(t, load(R"({"prompt":"a","completion":"b"})", t, {.system_prompt = "Be kind."})[0].input_ids) ==
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n");
  const std::string own = R"({"messages":[{"role":"system","content":"x"},{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})";
  CHECK(shown(t, load(own, t, {.system_prompt = "Be kind."})[0].input_ids).starts_with("<|im_start|>system\nx<|im_end|>"));
  CHECK(shown(t, load(R"({"system":"row","instruction":"a","input":"in","output":"b"})", t)[0].input_ids) ==
        "<|im_start|>system\nrow<|im_end|>\n<|im_start|>user\na\nin<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n");
}

TEST_CASE("answers are learnt through every built-in template, with what ends them", "[data]") {
  const std::string talk = R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"hello"},)"
                           R"({"role":"user","content":"b"},{"role":"assistant","content":"the"}]})";
  const auto learns = [&](const peft::Tokenizer& tokenizer, const char* name) {
    INFO(name);
    const peft::Tokenizer t = tokenizer.with_chat_template(peft::load_chat_template(name));
    const peft::Dataset data = load(talk, t);
    const std::vector<peft::ChatMessage> whole = {{"system", "s"}, {"user", "a"}, {"assistant", "hello"}, {"user", "b"}, {"assistant", "the"}};
    CHECK(shown(t, data[0].input_ids) == t.apply_chat(whole, false));
    return learnt(t, data[0]);
  };
  CHECK(learns(small::chat(), "chatml") == "hello<|im_end|>the<|im_end|>");
  CHECK(learns(small::chat(), "qwen") == "hello<|im_end|>the<|im_end|>");
  CHECK(learns(small::plain(), "llama2") == " hello </s> the </s>");
  CHECK(learns(small::plain(), "zephyr") == "hello</s>the</s>");
  CHECK(learns(small::plain(), "alpaca") == "hello</s>the</s>");
  // Tokenizers that do not know what ends a turn spell it, and learn that.
  CHECK(learns(small::plain(), "llama3") == "hello<|eot_id|>the<|eot_id|>");
  CHECK(learns(small::plain(), "chatml") == "hello<|im_end|>\nthe<|im_end|>\n");
}

TEST_CASE("alpaca as a chat template writes rows of instructions as Alpaca's own prompt does", "[data]") {
  const peft::Tokenizer plain = small::plain(), chats = plain.with_chat_template(peft::load_chat_template("alpaca"));
  for (const char* row : {R"({"instruction":"hello","output":"the world"})", R"({"instruction":"hello","input":"the sea","output":"the world"})"}) {
    const peft::Dataset prompt = load(row, plain), chat = load(row, chats);
    CHECK(chat[0].input_ids == prompt[0].input_ids);
    CHECK(chat[0].labels == prompt[0].labels);
  }
}

TEST_CASE("every answer of a conversation is learnt, nothing else", "[data]") {
  const peft::Tokenizer t = small::chat();
  const std::string talk = R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"hello"},{"role":"user","content":"b"},)"
                           R"({"role":"assistant","content":"the"},{"role":"user","content":"left open"}]})";
  const peft::Dataset data = load(talk, t);
  CHECK(learnt(t, data[0]) == "hello<|im_end|>the<|im_end|>");
  CHECK(shown(t, data[0].input_ids).ends_with("the<|im_end|>\n"));
  CHECK(learnt(t, load(talk, t, {.train_on_prompt = true})[0]) == shown(t, data[0].input_ids));
  const std::string weighted =
      R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"hello","loss_weight":0.0},{"role":"user","content":"b"},)"
      R"({"role":"assistant","content":"the","loss_weight":1.0}]})";
  CHECK(learnt(t, load(weighted, t)[0]) == "the<|im_end|>");
}

TEST_CASE("an answer that begins with white space stays apart from its prompt", "[data]") {
  const peft::Tokenizer t = small::chat();
  const peft::Dataset data = load(R"({"prompt":"a","completion":"\n\nb"})", t);
  CHECK(shown(t, data[0].input_ids) == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n\n\nb<|im_end|>\n");
  CHECK(learnt(t, data[0]) == "\n\nb<|im_end|>");
}

TEST_CASE("without a chat template", "[data]") {
  const peft::Tokenizer t = small::plain();
  CHECK(shown(t, load(R"({"prompt":"hello","completion":" world"})", t)[0].input_ids) == "<s>hello world</s>");
  CHECK(learnt(t, load(R"({"prompt":"hello","completion":" world"})", t)[0]) == " world</s>");
  const peft::Dataset question = load(R"({"question":"a?","answer":"world"})", t);
  CHECK(shown(t, question[0].input_ids) == "<s>Question: a?\nAnswer: world</s>");
  CHECK(learnt(t, question[0]) == " world</s>");
  CHECK(t.id_to_token(question[0].input_ids[question[0].input_ids.size() - 2]) == "Ġworld");  // one token, space and all
  CHECK(shown(t, load(R"({"instruction":"do","input":"it","output":"ok"})", t)[0].input_ids)
            .ends_with("### Instruction:\ndo\n\n### Input:\nit\n\n### Response:\nok</s>"));
  CHECK(shown(t, load(R"({"instruction":"do","output":"ok"})", t, {.prompt_template = "Q {instruction} A {output}"})[0].input_ids) == "<s>Q do A ok</s>");
  const peft::Dataset talk = load(
      R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"},{"role":"assistant","content":"d"}]})", t);
  CHECK(shown(t, talk[0].input_ids) == "<s>Question: a\nAnswer: b</s>Question: c\nAnswer: d</s>");
  CHECK(learnt(t, talk[0]) == " b</s> d</s>");
}

TEST_CASE("pairs: the prompt to the encoder, the answer and eos to the decoder", "[data]") {
  const peft::Tokenizer t = small::plain(), chat = small::chat();
  const DatasetOptions pairs{.pairs = true};
  const auto both = [](const peft::Tokenizer& with, const peft::Dataset& data) {
    REQUIRE(data.size() == 1);
    CHECK(data[0].labels == data[0].input_ids);
    return shown(with, data[0].source_ids) + " → " + shown(with, data[0].input_ids);
  };
  for (const char* row : {R"({"prompt":"hello","completion":"the world"})", R"({"instruction":"hello","output":"the world"})",
                          R"({"question":"hello","answer":"the world"})", R"({"input":"hello","target":"the world"})",
                          R"({"messages":[{"role":"user","content":"hello"},{"role":"assistant","content":"the world"},{"role":"user","content":"?"}]})"}) {
    INFO(row);
    CHECK(both(t, load(row, t, pairs)) == "<s>hello → <s>the world</s>");
    CHECK(both(chat, load(row, chat, pairs)) == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n → the world<|im_end|>");
  }
  CHECK(load(R"({"input":"hello","target":"the world"})", t)[0].source_ids.empty());  // for a decoder alone, one sequence
  CHECK(learnt(t, load(R"({"input":"hello","target":" world"})", t)[0]) == " world</s>");
  CHECK(both(t, load(R"({"instruction":"do","input":"it","output":"ok","system":"Be kind."})", t, pairs)) == "<s>Be kind.\n\ndo\nit → <s>ok</s>");
  CHECK(both(t, load(R"({"question":"a","answer":"b"})", t, {.prompt_template = "Q: {instruction} A:", .pairs = true})) == "<s>Q: a A: → <s>b</s>");
  const std::string talk = R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"b"},)"
                           R"({"role":"user","content":"c"},{"role":"assistant","content":"d"}]})";
  CHECK(both(t, load(talk, t, pairs)) == "<s>s\n\na\n\nb\n\nc → <s>d</s>");

  // Each side is cut, and a source keeps the end that all have.
  const peft::Dataset cut = load("{\"input\":\"abcdefgh\",\"target\":\"xyz\"}\n{\"input\":\"a\",\"target\":\"b\"}", t, {.max_length = 4, .pairs = true});
  CHECK(shown(t, cut[0].source_ids) == "<s>abc");
  CHECK(shown(t, cut[0].input_ids) == "<s>xyz");
  CHECK(cut.report().truncated == 1);
  const peft::Tokenizer ended = small::encoder_decoder();
  CHECK(both(ended, load(R"({"input":"hello","target":"the world"})", ended, pairs)) == "hello</s> → the world</s>");
  CHECK(shown(ended, load(R"({"input":"abcdefgh","target":"x"})", ended, {.max_length = 4, .pairs = true})[0].source_ids) == "abc</s>");

  CHECK_THROWS_AS(load(R"({"text":"a"})", t, pairs), peft::NotSupported);
  CHECK_THROWS_AS(load(R"({"prompt":"a","completion":"b"})", t, {.train_on_prompt = true, .pairs = true}), peft::ConfigError);
}

TEST_CASE("plain text is learnt as a whole", "[data]") {
  const peft::Tokenizer t = small::plain();
  const peft::Dataset data = load("{\"text\":\"hello\"}\n{\"text\":\"the world\"}", t);
  CHECK(shown(t, data[1].input_ids) == "<s>the world</s>");
  CHECK(data[1].labels == data[1].input_ids);
}

TEST_CASE("max_length cuts, and what is left with nothing to learn is dropped", "[data]") {
  const peft::Tokenizer t = small::plain();
  const std::string rows =
      "{\"prompt\":\"abc\",\"completion\":\"defg\"}\n{\"prompt\":\"abcdefgh\",\"completion\":\"x\"}\n{\"prompt\":\"a\",\"completion\":\"b\"}";
  const peft::Dataset data = load(rows, t, {.max_length = 6});
  CHECK(data.size() == 2);
  CHECK(data.report().rows == 3);
  CHECK(data.report().truncated == 2);
  CHECK(data.report().dropped == 1);
  CHECK(data.longest() == 6);
  CHECK(data.tokens() == 6 + 4);
  CHECK(data.trained_tokens() == 2 + 2);
  CHECK(learnt(t, data[0]) == "de");
  CHECK(data.summary() == "2 examples, 10 tokens (4 trained on), longest 6, 2 truncated, 1 rows dropped (nothing to train on within max_length)");
  CHECK_THROWS_WITH(load(rows, t, {.max_length = 2}), Catch::Contains("max_length = 2"));
}

TEST_CASE("a bad row is named by its line and field", "[data]") {
  const peft::Tokenizer t = small::chat();
  const std::string good = "{\"prompt\":\"a\",\"completion\":\"b\"}\n";
  CHECK_THROWS_AS(load(good + "\n{\"prompt\":\"a\"}", t), peft::FormatError);
  CHECK_THROWS_WITH(load(good + "\n{\"prompt\":\"a\"}", t), Catch::Contains("rows.jsonl") && Catch::Contains("line 3") && Catch::Contains("\"completion\""));
  CHECK_THROWS_WITH(load(good + "{\"prompt\":\"a\",\"completion\":5}", t), Catch::Contains("line 2") && Catch::Contains("not a text"));
  CHECK_THROWS_WITH(load(good + "{\"prompt\":", t), Catch::Contains("line 2"));
  CHECK_THROWS_WITH(load(good + "[1]", t), Catch::Contains("line 2"));
  CHECK_THROWS_WITH(load("{\"frage\":\"a\",\"antwort\":\"b\"}", t), Catch::Contains("\"frage\"") && Catch::Contains("prompt_completion"));
  CHECK_THROWS_WITH(load("[{\"text\":\"a\"},{\"text\":null}]", t), Catch::Contains("row 2"));
  CHECK_THROWS_WITH(load(R"({"messages":[{"role":"tool","content":"b"}]})", t), Catch::Contains("\"tool\"") && Catch::Contains("assistant"));
  CHECK_THROWS_WITH(load(R"({"messages":"a"})", t), Catch::Contains("list"));
  CHECK_THROWS_WITH(load("", t), Catch::Contains("no rows"));
  CHECK_THROWS_AS(peft::load_dataset("/no/such/file.jsonl", t), peft::FormatError);
  CHECK_THROWS_WITH(load(good, t, {.format = "instructions"}), Catch::Contains("did you mean \"instruction\""));
  CHECK_THROWS_AS(load(good, t, {.max_length = 1}), peft::ConfigError);
  CHECK_THROWS_AS(load(good, t, {.prompt_template = "no place"}), peft::ConfigError);
  CHECK_THROWS_AS(load(good, small::plain(), {.prompt_template = "chat"}), peft::ConfigError);
}

TEST_CASE("prompt templates", "[data]") {
  const peft::PromptTemplate own("Ask: {instruction}  {output}");
  CHECK(own.render("why", "", "so").prompt == "Ask: why");
  CHECK(own.render("why", "", "so").answer == "  so");
  CHECK(own.render("why", "here", "").prompt == "Ask: why\nhere");
  CHECK(peft::PromptTemplate("plain").render("ends in space ", "", "x").prompt == "ends in space ");
  CHECK(peft::PromptTemplate("chatglm").render("a", "b", "c").prompt == "[Round 1]\n问：ab\n答：[gMASK]<sop>");
  CHECK(peft::PromptTemplate("chatglm2").render("a", "b", "c").prompt == "[Round 1]\n\n问：ab\n\n答：");
  CHECK(peft::PromptTemplate("chatglm3").render("a", "b", "c").prompt == "<|user|>\n ab<|assistant|>\n");
  CHECK(peft::PromptTemplate("chatglm3").render("a", "b", "c").answer == " c");
  CHECK(peft::PromptTemplate("plain").render("{input}", "", "x").prompt == "{input}");  // what is filled in is not read again
  CHECK_THROWS_AS(peft::PromptTemplate("{instruction} {output} more"), peft::ConfigError);
}
