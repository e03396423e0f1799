// SPDX-License-Identifier: Apache-2.0
#include "peft/generate/chat.hpp"

#include <catch2/catch.hpp>

#include "generate/requests.hpp"
#include "peft/adapters/lora/lora.hpp"

namespace {

using peft::ChatSession;
using Chatter = ChatSession<peft::Transformer<float>>;

peft::GenerationConfig short_answers() {
  peft::GenerationConfig c = tiny::endless(20);
  c.system_prompt = "be good";
  return c;
}
// The answer that the same history gets from its beginning.
std::string answer_to(const peft::Transformer<float>& m, std::vector<peft::ChatMessage> history, const peft::GenerationConfig& c) {
  const peft::Tokenizer tokenizer = tiny::tokenizer(true);
  const auto ids = tokenizer.encode(tokenizer.apply_chat(history), {.add_special_tokens = false});
  peft::LanguageModel<float> view(m);
  const peft::GenerationRequest<float> request{ids};
  return peft::run_generation<float>(view, std::span(&request, 1), c, &tokenizer).at(0).text;
}
peft::Transformer<float> roomy_model(std::int64_t window = 0) {
  peft::Transformer<float> m = tiny::random_model();
  m.config.max_position_embeddings = 4096;
  for (auto& block : m.layers) block.self_attn.core.shape.window = window;
  return m;
}

}  // namespace

TEST_CASE("a conversation's turns are answered as the whole would be, and only what is new is read", "[generate]") {
  for (const std::int64_t window : {0, 24}) {
    const peft::Transformer<float> m = roomy_model(window);
    const peft::GenerationConfig c = short_answers();
    Chatter chat(m, tiny::tokenizer(true), c);
    for (int turn = 0; turn < 40; turn++) {
      const auto before = chat.history();
      const std::string question = "the stop " + std::string(std::size_t(turn % 5), 'a');
      const peft::Generation answer = chat.say(question);
      if (turn > 0) CHECK(answer.cached_tokens > 20 * turn);
      if (turn % 13 > 0) continue;
      auto all = before;
      all.push_back({"user", question});
      CHECK(answer.text == answer_to(m, all, c));
      CHECK(chat.again().text == answer.text);
    }
    CHECK(chat.history().size() == 81);
    // Another conversation begins elsewhere: what the cache holds does not count, even where a window has forgotten it.
    auto shorter = chat.history();
    shorter.resize(5);
    chat.set_history(shorter);
    const auto answer = chat.say("go on");
    shorter.push_back({"user", "go on"});
    CHECK(answer.text == answer_to(m, shorter, c));
    chat.reset();
    CHECK(chat.history().size() == 1);
  }
}

TEST_CASE("a chat with guesses ahead says the same", "[generate]") {
  const peft::Transformer<float> m = roomy_model();
  peft::Transformer<float> small = roomy_model();
  for (float& w : small.lm_head.weight.value().span()) w *= 0.9f;
  small.layers.pop_back(), small.config.num_hidden_layers = 1;
  peft::LanguageModel<float> draft(small);
  for (const bool drawn : {false, true}) {
    peft::GenerationConfig c = short_answers();
    if (drawn) c.temperature = 0.9, c.seed = 4;
    c.num_assistant_tokens = 4, c.assistant_confidence_threshold = 0;
    Chatter alone(m, tiny::tokenizer(true), c), helped(m, tiny::tokenizer(true), c), looked_up(m, tiny::tokenizer(true), c);
    helped.set_draft(&draft);
    looked_up.config().prompt_lookup_num_tokens = 3;
    std::int64_t accepted = 0, proposed = 0;
    for (const char* question : {"the stop", "go", "the stop"}) {
      const auto wanted = alone.say(question), with = helped.say(question);
      CHECK(with.text == wanted.text);
      CHECK(looked_up.say(question).text == wanted.text);
      accepted += with.accepted_tokens, proposed += with.proposed_tokens;
    }
    CHECK(accepted > 0);
    CHECK(accepted < proposed);
    CHECK(helped.again().ids == alone.again().ids);
    helped.set_draft(nullptr);
    CHECK(helped.again().proposed_tokens == 0);
  }
  Chatter both(m, tiny::tokenizer(true), short_answers());
  both.set_draft(&draft), both.config().prompt_lookup_num_tokens = 3;
  CHECK_THROWS_WITH(both.say("a"), Catch::Contains("a draft model together with"));
  CHECK(both.history().size() == 1);  // as it was
}

TEST_CASE("a chat goes on with other adapters, stops when it is told to, and says what it cannot do", "[generate]") {
  peft::Transformer<float> base = roomy_model();
  peft::PeftModel tuned{base};
  for (const char* name : {"one", "two"}) {
    tuned.add_adapter(name, peft::LoraConfig{.r = 4, .lora_alpha = 8, .init_lora_weights = false}, std::uint64_t(name[0]));
    tuned.for_each_adapter_parameter(name, [](const std::string&, auto& p) {
      for (float& w : p.value().span()) w *= 3;
    });
  }
  const auto say_both = [&](const char* first, const char* second) {
    ChatSession<peft::PeftModel<peft::Transformer<float>>> chat(tuned, tiny::tokenizer(true), short_answers());
    tuned.set_adapter(first);
    const std::string said = chat.say("the stop").text;
    tuned.set_adapter(second);
    return std::pair(said, chat.again().text);
  };
  const auto [one, two] = say_both("one", "two");
  CHECK(one != two);
  CHECK(say_both("two", "one") == std::pair(two, one));

  Chatter chat(base, tiny::tokenizer(true), short_answers());
  std::string heard;
  const auto cut = chat.say("the stop", [&](std::string_view piece) { return heard += piece, heard.size() < 5; });
  CHECK(cut.finish_reason == peft::FinishReason::cancelled);
  CHECK(cut.text == heard);
  CHECK(chat.history().back().content == heard);
  Chatter silent(base, tiny::tokenizer(true), short_answers());
  CHECK_THROWS_WITH(silent.again(), Catch::Contains("there is no answer yet"));
  CHECK_THROWS_AS(Chatter(base, tiny::tokenizer(false)), peft::ConfigError);
  peft::GenerationConfig beams = short_answers();
  beams.num_beams = 2;
  CHECK_THROWS_WITH(Chatter(base, tiny::tokenizer(true), beams), Catch::Contains("one answer a turn"));
}
