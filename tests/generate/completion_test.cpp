// SPDX-License-Identifier: Apache-2.0
#include "peft/generate/completion.hpp"

#include <catch2/catch.hpp>

#include "generate/tiny.hpp"
#include "peft/adapters/lora/lora.hpp"

namespace {

using Catch::Contains;
using peft::CompletionRequest;
using peft::FinishReason;

const peft::Tokenizer& letters() {
  static const peft::Tokenizer made = tiny::tokenizer();
  return made;
}
const peft::Transformer<float>& any_model() {
  static const peft::Transformer<float> made = tiny::random_model();
  return made;
}
/// Says "b stop c d d d …" behind "a".
const peft::Transformer<float>& sayer() {
  static const peft::Transformer<float> made = tiny::parrot(tiny::ids_of({"a", "b", "Ġst", "op", "c", "d"}));
  return made;
}
CompletionRequest request_of(const char* json) { return peft::completion_request(peft::Json::parse(json, "request")); }
peft::CompletionResponse answer(const peft::Transformer<float>& model, const char* json) { return answer_completion(model, letters(), request_of(json)); }

}  // namespace

TEST_CASE("a request is read from JSON, with the API's defaults", "[generate]") {
  const CompletionRequest plain = request_of(R"({"prompt": "a"})");
  CHECK(plain.max_tokens == 16);
  CHECK(plain.temperature == 1);
  CHECK(plain.n == 1);
  CHECK_FALSE(plain.logprobs);
  const CompletionRequest all =
      request_of(R"({"engine": "m", "prompt": [[1, 2], [3]], "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "frequency_penalty": 1,
      "presence_penalty": -1, "logit_bias": {"7": -100}, "n": 2, "best_of": 3, "stop": ["x", "y"], "echo": true, "logprobs": 2, "timeout": 2000, "seed": 4,
      "suffix": null, "user": "me", "stream": false})");
  REQUIRE(all.prompt.size() == 2);
  CHECK(std::get<std::vector<std::int32_t>>(all.prompt[1]) == std::vector<std::int32_t>{3});
  CHECK(all.logit_bias == std::vector<std::pair<std::int32_t, double>>{{7, -100}});
  CHECK(all.best_of == 3);
  CHECK(all.stop == std::vector<std::string>{"x", "y"});
  CHECK(all.timeout == 2000);
  CHECK(request_of(R"({"prompt": [1, 2, 3]})").prompt.size() == 1);
  CHECK(request_of(R"({"prompt": ["a", "b"], "stop": "z"})").prompt.size() == 2);
}

TEST_CASE("a malformed completion request is one clear error", "[generate]") {
  const auto refused = [](const char* json, const char* field, const char* value) {
    CHECK_THROWS_AS(request_of(json), peft::ConfigError);
    CHECK_THROWS_WITH(request_of(json), Contains("[completion]") && Contains(field) && Contains(value));
  };
  refused(R"([1])", "a request is a JSON object", "[1]");
  refused(R"({})", "prompt", "missing");
  refused(R"({"prompt": 3})", "prompt", "3");
  refused(R"({"prompt": []})", "prompt", "[]");
  refused(R"({"prompt": [[]]})", "prompt number 0", "no tokens");
  refused(R"({"prompt": ["a", 3]})", "prompt mixes kinds", "3");
  refused(R"({"prompt": [1, -2]})", "-2", "no token id");
  refused(R"({"prompt": [1, 2.5]})", "2.5", "no token id");
  refused(R"({"prompt": "a", "max_token": 3})", "max_token", "did you mean \"max_tokens\"");
  refused(R"({"prompt": "a", "max_tokens": "3"})", "max_tokens", "string");
  refused(R"({"prompt": "a", "max_tokens": -1})", "max_tokens", "-1; allowed: 0 or more");
  refused(R"({"prompt": "a", "max_tokens": 0})", "max_tokens", "0 with echo");
  refused(R"({"prompt": "a", "temperature": 2.1})", "temperature", "2.1; allowed: 0 to 2");
  refused(R"({"prompt": "a", "top_p": -0.1})", "top_p", "-0.1");
  refused(R"({"prompt": "a", "frequency_penalty": 3})", "frequency_penalty", "3");
  refused(R"({"prompt": "a", "presence_penalty": -2.5})", "presence_penalty", "-2.5");
  refused(R"({"prompt": "a", "logit_bias": {"x": 1}})", "logit_bias", "\"x\" is no token id");
  refused(R"({"prompt": "a", "logit_bias": {"3": 101}})", "logit_bias", "101");
  refused(R"({"prompt": "a", "n": 0})", "n = 0", "1 to 128");
  refused(R"({"prompt": "a", "n": 3, "best_of": 2})", "best_of = 2", "3");
  refused(R"({"prompt": "a", "best_of": 21})", "best_of", "21");
  refused(R"({"prompt": "a", "stop": ["a", "b", "c", "d", "e"]})", "stop", "5");
  refused(R"({"prompt": "a", "stop": ["a", ""]})", "stop", "empty");
  refused(R"({"prompt": "a", "logprobs": 6})", "logprobs", "6");
  refused(R"({"prompt": "a", "timeout": 0})", "timeout", "0");
  refused(R"({"prompt": "a", "seed": -1})", "seed", "-1");
  refused(R"({"prompt": "a", "engine": "x", "model": "x"})", "engine and model", "one of them");
  CHECK_THROWS_AS(request_of(R"({"prompt": "a", "suffix": "b"})"), peft::NotSupported);
  CHECK_THROWS_WITH(answer(any_model(), R"({"prompt": "a", "engine": "lama"})"), Contains("did you mean \"llama\""));
  CHECK_THROWS_WITH(answer(any_model(), R"({"prompt": "a", "logit_bias": {"4000": 1}})"), Contains("4000"));
  CHECK_THROWS_WITH(answer(any_model(), R"({"prompt": [99]})"), Contains("99"));
}

TEST_CASE("the narrower bounds of tutorials, where they are wanted", "[generate]") {
  const auto narrow = [](const char* json) { return peft::completion_request(peft::Json::parse(json, "request"), peft::CompletionBounds::tutorial); };
  CHECK(narrow(R"({"prompt": "a"})").temperature == 0.5);
  CHECK(narrow(R"({"prompt": "a", "temperature": 1, "presence_penalty": 1})").temperature == 1);
  CHECK_THROWS_WITH(narrow(R"({"prompt": "a", "temperature": 1.5})"), Contains("temperature = 1.5; allowed: 0 to 1"));
  CHECK_THROWS_WITH(narrow(R"({"prompt": "a", "frequency_penalty": -0.5})"), Contains("frequency_penalty = -0.5; allowed: 0 to 1"));
}

TEST_CASE("a completion ends at a stop string across tokens, at its length, or at eos", "[generate]") {
  const auto stopped = answer(sayer(), R"({"prompt": "a", "temperature": 0, "logprobs": 0, "stop": [" stop", "zz"]})").choices.at(0);
  CHECK(stopped.text == "b");
  CHECK(stopped.logprobs->tokens == std::vector<std::string>{"b"});
  CHECK(stopped.finish_reason == FinishReason::stop);
  const auto cut = answer(sayer(), R"({"prompt": "a", "temperature": 0, "max_tokens": 5})").choices.at(0);
  CHECK(cut.text == "b stopcd");
  CHECK(cut.finish_reason == FinishReason::length);
  const auto m = tiny::parrot({tiny::id("a"), tiny::id("b"), tiny::im_end});
  const auto ended = answer(m, R"({"prompt": "a", "temperature": 0})").choices.at(0);
  CHECK(ended.text == "b");
  CHECK(ended.finish_reason == FinishReason::stop);
  const auto late = answer(any_model(), R"({"prompt": ["a", "b"], "timeout": 1, "max_tokens": 100, "logit_bias": {"1": -100}})");
  for (const auto& choice : late.choices) CHECK((choice.finish_reason == FinishReason::timeout || choice.ids.size() == 100));
}

TEST_CASE("the answer is the API's JSON", "[generate]") {
  const auto response = answer(sayer(), R"({"prompt": "a", "temperature": 0, "max_tokens": 3, "echo": true, "logprobs": 2, "n": 2})");
  const peft::Json json = peft::to_json(response);
  CHECK(json.at("object").string() == "text_completion");
  CHECK_THAT(json.at("id").string(), Catch::StartsWith("cmpl-"));
  CHECK(json.at("model").string() == "llama");
  CHECK(json.at("usage").at("prompt_tokens").integer() == 1);
  CHECK(json.at("usage").at("completion_tokens").integer() == 3);  // greedy: made once
  CHECK(json.at("usage").at("total_tokens").integer() == 4);
  REQUIRE(json.at("choices").size() == 2);
  const peft::Json& choice = json.at("choices").array()[1];
  CHECK(choice.at("index").integer() == 1);
  CHECK(choice.at("text").string() == "ab stop");
  CHECK(choice.at("finish_reason").string() == "length");
  const peft::Json& logprobs = choice.at("logprobs");
  CHECK(logprobs.at("tokens").dump() == R"(["a", "b", " st", "op"])");
  CHECK(logprobs.at("token_logprobs").array()[0].is_null());
  CHECK(logprobs.at("token_logprobs").array()[1].number() == Approx(0).margin(1e-6));
  CHECK(logprobs.at("top_logprobs").array()[2].size() == 2);
  CHECK(logprobs.at("text_offset").dump() == "[0, 1, 2, 5]");
  CHECK(peft::to_json(answer(sayer(), R"({"prompt": "a"})")).at("choices").array()[0].at("logprobs").is_null());
}

TEST_CASE("echo with no tokens scores the prompt", "[generate]") {
  const auto response = answer(any_model(), R"({"prompt": "the abc", "max_tokens": 0, "echo": true, "logprobs": 1})");
  const auto& choice = response.choices.at(0);
  CHECK(choice.text == "the abc");
  CHECK(response.completion_tokens == 0);
  const auto ids = letters().encode("the abc");
  const auto scores = peft::score_ids(any_model(), {ids[0]}, {{ids.begin() + 1, ids.end()}}).at(0);
  REQUIRE(choice.logprobs->tokens.size() == ids.size());
  for (std::size_t i = 1; i < ids.size(); i++) CHECK(*choice.logprobs->token_logprobs[i] == Approx(scores.logprobs[i - 1]).epsilon(1e-9));
}

TEST_CASE("n choices differ, best_of keeps the likeliest, several prompts keep their order", "[generate]") {
  const auto mean = [](const peft::CompletionChoice& c) {
    double sum = 0;
    for (const auto& l : c.logprobs->token_logprobs) sum += *l;
    return sum / double(c.logprobs->token_logprobs.size());
  };
  const auto all = answer(any_model(), R"({"prompt": ["a", "the b"], "n": 8, "max_tokens": 6, "logprobs": 0, "seed": 3})");
  REQUIRE(all.choices.size() == 16);
  CHECK(all.choices[0].text != all.choices[1].text);
  CHECK(all.choices[9].index == 9);
  const auto best = answer(any_model(), R"({"prompt": ["a", "the b"], "n": 2, "best_of": 8, "max_tokens": 6, "logprobs": 0, "seed": 3})");
  REQUIRE(best.choices.size() == 4);
  CHECK(best.completion_tokens == all.completion_tokens);
  for (std::size_t p = 0; p < 2; p++) {
    std::vector<double> means;
    for (std::size_t i = 0; i < 8; i++) means.push_back(mean(all.choices[8 * p + i]));
    std::sort(means.rbegin(), means.rend());
    CHECK(mean(best.choices[2 * p]) == means[0]);
    CHECK(mean(best.choices[2 * p + 1]) == means[1]);
  }
}

TEST_CASE("streamed pieces are the texts, without any part of a stop string", "[generate]") {
  std::map<std::int64_t, std::string> texts;
  const auto collect = [&](std::int64_t index, std::string_view piece) {
    texts[index] += piece;
    CHECK(texts[index].find(" s") == std::string::npos);
    return true;
  };
  const auto response = answer_completion(sayer(), letters(), request_of(R"({"prompt": ["a", "a"], "temperature": 0, "n": 2, "stop": " stop"})"), collect);
  REQUIRE(texts.size() == 4);
  for (const auto& choice : response.choices) CHECK(texts[choice.index] == choice.text);
  const auto drawn = request_of(R"({"prompt": "a", "n": 3, "seed": 2, "max_tokens": 8})");
  texts.clear();
  const auto take = [&](std::int64_t index, std::string_view piece) { return texts[index] += piece, true; };
  for (const auto& choice : answer_completion(any_model(), letters(), drawn, take).choices) CHECK(texts[choice.index] == choice.text);
  CHECK_THROWS_WITH(answer_completion(any_model(), letters(), request_of(R"({"prompt": "a", "best_of": 2})"), take), Contains("best_of"));
}

TEST_CASE("logit_bias bans and forces; an engine may be an adapter", "[generate]") {
  const auto forced = answer(any_model(), R"({"prompt": "a", "logit_bias": {"7": 100}, "max_tokens": 4, "temperature": 0.1})").choices.at(0);
  CHECK(forced.ids == std::vector<std::int32_t>{7, 7, 7, 7});
  const auto free = answer(sayer(), R"({"prompt": "a", "temperature": 0, "max_tokens": 1})").choices.at(0).ids[0];
  const auto banned = request_of((R"({"prompt": "a", "temperature": 0, "max_tokens": 1, "logit_bias": {")" + std::to_string(free) + "\": -100}}").c_str());
  CHECK(answer_completion(sayer(), letters(), banned).choices.at(0).ids[0] != free);

  peft::Transformer<float> base = tiny::random_model();
  peft::PeftModel tuned{base};
  tuned.add_adapter("tickets", peft::LoraConfig{.r = 4, .lora_alpha = 32, .init_lora_weights = false});
  tuned.set_adapter(std::vector<std::string>{});
  CompletionRequest r = request_of(R"({"prompt": "the a", "max_tokens": 8, "temperature": 0})");
  const auto without = answer_completion(tuned, letters(), r).choices.at(0).ids;
  CHECK(without == answer_completion(base, letters(), r).choices.at(0).ids);
  r.engine = "tickets";
  const auto with = answer_completion(tuned, letters(), r);
  CHECK(with.model == "tickets");
  CHECK(with.choices.at(0).ids != without);
  r.engine = "ticket";
  CHECK_THROWS_WITH(answer_completion(tuned, letters(), r), Contains("did you mean \"tickets\""));
}
