// SPDX-License-Identifier: Apache-2.0
// Texts that are decoded from a source: every way of decoding, from an encoder that runs once.
#include <catch2/catch.hpp>
#include <cmath>

#include "generate/requests.hpp"
#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/prompt_tuning/prompt_tuning.hpp"
#include "support/threads.hpp"
#include "support/tiny_t5.hpp"

namespace {

using peft::GenerationConfig;
using peft::testing::decoder_logits;
using tiny::endless;
using Sources = std::vector<std::vector<std::int32_t>>;

const peft::Transformer<float>& seq2seq() {
  static const peft::Transformer<float> made = peft::testing::tiny_t5<float>();
  return made;
}
const Sources the_sources = {{5, 9, 13, 1}, {4, 1}, {20, 21, 22, 23, 2, 3, 20, 21, 19, 18, 17, 1}, {10, 2, 2, 7, 11, 1}};

std::vector<std::vector<std::int32_t>> answers_of(const GenerationConfig& config, const Sources& of = the_sources) {
  return tiny::ids_of(peft::generate_ids(seq2seq(), of, config));
}
GenerationConfig sampled(std::int64_t tokens) {
  GenerationConfig c = endless(tokens);
  c.temperature = 1.5, c.num_return_sequences = 3, c.seed = 9;
  return c;
}

}  // namespace

TEST_CASE("an encoder-decoder answers with the likeliest tokens of forwards without caches", "[generate]") {
  const auto found = answers_of(endless(14));
  for (std::size_t i = 0; i < the_sources.size(); i++) {
    std::vector<std::int32_t> ids = {0};
    for (std::int32_t id : found[i]) {
      const auto logits = decoder_logits(seq2seq(), the_sources[i], ids);
      REQUIRE(id == peft::argmax<float>(std::span<const float>(logits.view().row(logits.rows() - 1), std::size_t(logits.cols()))));
      ids.push_back(id);
    }
  }
  CHECK(found[0] != found[1]);  // the source is what they differ by
  CHECK(found[2] != found[3]);

  SECTION("what is greedy in other words is greedy") {
    const auto same = [&](auto change) {
      GenerationConfig c = endless(14);
      change(c);
      CHECK(answers_of(c) == found);
    };
    same([](GenerationConfig& c) { c.batch_size = 1; });
    same([](GenerationConfig& c) { c.batch_size = 3; });
    same([](GenerationConfig& c) { c.top_k = 1, c.do_sample = true; });
    same([](GenerationConfig& c) { c.prompt_lookup_num_tokens = 3; });
    same([](GenerationConfig& c) { c.penalty_alpha = 1e-9, c.top_k = 3; });
    same([](GenerationConfig& c) { c.decoder_start_token_id = 0; });
    const peft::Transformer<float> draft = peft::testing::tiny_t5<float>(24, 8, 5);
    for (const auto* guesses : {&draft, &seq2seq()}) {
      const auto assisted = peft::generate_ids_assisted(seq2seq(), *guesses, the_sources, endless(14));
      CHECK(tiny::ids_of(assisted) == found);
      if (guesses == &seq2seq()) CHECK(assisted[0].accepted_tokens == assisted[0].proposed_tokens);
    }
  }
  SECTION("eos ends it, and not sooner than it may") {
    const std::int32_t third = found[3][2];
    GenerationConfig c = endless(14);
    c.eos_token_ids = std::vector<std::int32_t>{third};
    const auto ended = peft::generate_ids(seq2seq(), the_sources, c);
    const auto at = std::find(found[3].begin(), found[3].end(), third);
    CHECK(ended[3].ids == std::vector<std::int32_t>(found[3].begin(), at + 1));
    CHECK(ended[3].finish_reason == peft::FinishReason::stop);
    CHECK(ended[3].prompt_tokens == std::int64_t(the_sources[3].size()));
    c.min_length = 9;  // with the token that it starts from
    for (const auto& ids : answers_of(c))
      for (std::size_t i = 0; i < std::min<std::size_t>(8, ids.size()); i++) CHECK(ids[i] != third);
  }
}

TEST_CASE("a source's answers are the same alone and in any batch, to the bit", "[generate]") {
  for (const bool half : {false, true}) {
    GenerationConfig c = sampled(12);
    c.output_logprobs = true, c.half_cache = half;
    const auto all = peft::generate_ids(seq2seq(), the_sources, c);
    for (std::size_t p = 0; p < the_sources.size(); p++) {
      const peft::testing::Threads use(p == 0 ? 7 : 1);
      const auto alone = peft::generate_ids(seq2seq(), {the_sources[p]}, c);
      for (std::size_t a = 0; a < 3; a++) {
        CHECK(alone[a].ids == all[3 * p + a].ids);
        CHECK(alone[a].logprobs == all[3 * p + a].logprobs);
      }
    }
    c.batch_size = 4;
    CHECK(tiny::ids_of(peft::generate_ids(seq2seq(), the_sources, c)) == tiny::ids_of(all));
  }
  // Sources that together are more than one forward of the encoder takes.
  Sources many;
  for (std::int32_t i = 0; i < 9; i++) {
    many.emplace_back(std::size_t(90 + 7 * i));
    for (std::size_t t = 0; t < many.back().size(); t++) many.back()[t] = std::int32_t(2 + (t * std::size_t(3 + i)) % 22);
  }
  const auto together = answers_of(endless(4), many);
  for (std::size_t i = 0; i < many.size(); i++) CHECK(answers_of(endless(4), {many[i]})[0] == together[i]);
}

TEST_CASE("beams of an encoder-decoder are scored as one forward without a cache scores them", "[generate]") {
  for (const std::int64_t groups : {1, 2}) {
    GenerationConfig c = endless(7);
    c.num_beams = 4, c.num_return_sequences = 4, c.num_beam_groups = groups, c.length_penalty = 0.5;
    if (groups > 1) c.diversity_penalty = 1e-12;  // groups that hardly push each other away
    const auto found = peft::generate_ids(seq2seq(), the_sources, c);
    for (std::size_t i = 0; i < found.size(); i++) {
      std::vector<std::int32_t> ids = {0};
      ids.insert(ids.end(), found[i].ids.begin(), found[i].ids.end());
      const auto logits = decoder_logits(seq2seq(), the_sources[i / 4], ids);
      double sum = 0;
      for (std::size_t t = 0; t < found[i].ids.size(); t++)
        sum += peft::log_probability<float>(std::span<const float>(logits.view().row(std::int64_t(t)), std::size_t(logits.cols())), found[i].ids[t]);
      CHECK(found[i].score == Approx(sum / std::sqrt(7.0)).margin(1e-4));
      if (i % 4 > 0) CHECK(found[i].score <= found[i - 1].score);
    }
    for (std::size_t p = 0; p < the_sources.size(); p++) {
      const auto alone = peft::generate_ids(seq2seq(), {the_sources[p]}, c);
      for (std::size_t a = 0; a < 4; a++) CHECK(alone[a].score == found[4 * p + a].score);
    }
  }
}

TEST_CASE("settings of the prompt are of the source, those of the sequence begin with the start token", "[generate]") {
  const auto plain = answers_of(endless(10));
  SECTION("encoder_no_repeat_ngram_size") {
    GenerationConfig c = sampled(10);
    c.encoder_no_repeat_ngram_size = 1;
    const auto without = peft::generate_ids(seq2seq(), the_sources, c);
    for (std::size_t i = 0; i < without.size(); i++)
      for (std::int32_t id : without[i].ids) CHECK(std::ranges::count(the_sources[i / 3], id) == 0);
    const auto with = answers_of(sampled(10));
    CHECK(std::ranges::any_of(with[0], [](std::int32_t id) { return std::ranges::count(the_sources[0], id) > 0; }));
  }
  SECTION("encoder_repetition_penalty") {
    GenerationConfig c = endless(1);
    c.encoder_repetition_penalty = 1e4, c.output_logprobs = true;
    for (std::size_t i = 0; i < the_sources.size(); i++) {
      const auto logits = decoder_logits(seq2seq(), the_sources[i], {0});
      // A token of the source with a positive logit wins, if there is one.
      std::int32_t best = -1;
      for (std::int32_t id : the_sources[i])
        if (logits(0, id) > 0 && (best < 0 || logits(0, id) > logits(0, best))) best = id;
      if (best >= 0) CHECK(answers_of(c)[i][0] == best);
    }
  }
  SECTION("lengths, and what is forced at the start and the end") {
    GenerationConfig c;
    c.eos_token_ids = std::vector<std::int32_t>{}, c.max_length = 6, c.temperature = 0;
    for (const auto& ids : answers_of(c)) CHECK(ids.size() == 5);
    c.forced_bos_token_id = 17, c.forced_eos_token_id = {19};
    const auto forced = answers_of(c);
    for (const auto& ids : forced) {
      CHECK(ids.front() == 17);
      CHECK(ids.back() == 19);
    }
    c.begin_suppress_tokens = {forced[0][1]};  // of the first token that is free
    const auto suppressed = answers_of(c);
    CHECK(suppressed[0][0] == 17);
    CHECK(suppressed[0][1] != forced[0][1]);
  }
  SECTION("another start is another answer") {
    GenerationConfig c = endless(10);
    c.decoder_start_token_id = 7;
    CHECK(answers_of(c) != plain);
    const auto logits = decoder_logits(seq2seq(), the_sources[0], {7});
    CHECK(answers_of(c)[0][0] == peft::argmax<float>(std::span<const float>(logits.view().row(0), std::size_t(logits.cols()))));
  }
}

TEST_CASE("adapters answer for their own the_sources in one batch", "[generate]") {
  peft::Transformer<float> base = seq2seq();
  peft::PeftModel tuned{base};
  for (const char* name : {"a", "b"}) {
    tuned.add_adapter(name, peft::LoraConfig{.r = 3, .lora_alpha = 24, .target_modules = {"q", "k", "v", "o"}});  // of both stacks
    std::uint64_t seed = std::uint64_t(name[0]);
    tuned.for_each_adapter_parameter(name, [&](const std::string&, peft::Parameter<float>& p) {
      peft::Random random(seed++);
      for (float& w : p.value().span()) w = float(0.4 * random.normal());
    });
  }
  std::vector<int> list_of;
  peft::LanguageModel<float> view(tuned, peft::active_lists(tuned, {{"a"}, {}, {"b"}, {"a", "b"}}, list_of));
  std::vector<peft::GenerationRequest<float>> requests;
  for (std::size_t i = 0; i < the_sources.size(); i++) requests.push_back({the_sources[0], nullptr, list_of[i]});
  const auto together = tiny::ids_of(peft::run_generation<float>(view, requests, endless(8)));
  const std::vector<std::vector<std::string>> names = {{"a"}, {}, {"b"}, {"a", "b"}};
  for (std::size_t i = 0; i < names.size(); i++) {
    tuned.set_adapter(names[i]);
    CHECK(peft::generate_ids(tuned, {the_sources[0]}, endless(8))[0].ids == together[i]);
    for (std::size_t j = 0; j < i; j++) CHECK(together[i] != together[j]);
  }
  // Without caches, the adapters' forward says the same.
  tuned.set_adapter("a");
  std::vector<std::int32_t> ids = {0};
  for (std::int32_t id : together[0]) {
    const auto logits = decoder_logits(tuned.model(), the_sources[0], ids, tuned.pass());
    REQUIRE(id == peft::argmax<float>(std::span<const float>(logits.view().row(logits.rows() - 1), std::size_t(logits.cols()))));
    ids.push_back(id);
  }
}

TEST_CASE("answers to a source are scored as one forward without a cache scores them", "[generate]") {
  const std::vector<std::vector<std::int32_t>> answers = {{4, 5, 6}, {7}, answers_of(endless(5))[2]};
  const auto scores = peft::score_ids(seq2seq(), the_sources[2], answers);
  for (std::size_t i = 0; i < answers.size(); i++) {
    std::vector<std::int32_t> ids = {0};
    ids.insert(ids.end(), answers[i].begin(), answers[i].end());
    const auto logits = decoder_logits(seq2seq(), the_sources[2], ids);
    REQUIRE(scores[i].logprobs.size() == answers[i].size());
    for (std::size_t t = 0; t < answers[i].size(); t++)
      CHECK(scores[i].logprobs[t] ==
            Approx(peft::log_probability<float>(std::span<const float>(logits.view().row(std::int64_t(t)), std::size_t(logits.cols())), answers[i][t]))
                .margin(1e-5));
    CHECK(scores[i].is_greedy == (i == 2));
  }
}

TEST_CASE("what an encoder-decoder cannot do is refused", "[generate]") {
  using Catch::Contains;
  peft::LanguageModel<float> view(seq2seq());
  CHECK_THROWS_WITH(peft::generate_ids(seq2seq(), {{}}, endless(3)), Contains("prompt is empty"));
  CHECK_THROWS_WITH(peft::generate_ids(seq2seq(), {{3, 24}}, endless(3)), Contains("24") && Contains("0 to 23"));
  GenerationConfig c = endless(3);
  c.decoder_start_token_id = 24;
  CHECK_THROWS_WITH(peft::generate_ids(seq2seq(), the_sources, c), Contains("24") && Contains("0 to 23"));
  auto cache = view.make_cache(8);
  const peft::GenerationRequest<float> request{the_sources[0], &cache};
  CHECK_THROWS_AS(peft::run_generation<float>(view, std::span(&request, 1), endless(3)), peft::NotSupported);
  CHECK_THROWS_AS(peft::remember_prompt<float>(view, the_sources[0]), peft::NotSupported);
  CHECK_THROWS_AS(peft::token_perplexity<float>(view, the_sources[0]), peft::NotSupported);
  CHECK_THROWS_WITH(peft::generate_ids_assisted(seq2seq(), tiny::model(), the_sources, endless(3)), Contains("encoder-decoders"));
  const peft::Transformer<float>& decoder = tiny::model();
  const typename peft::LanguageModel<float>::Source source{the_sources[0]};
  CHECK_THROWS_AS(peft::LanguageModel<float>(decoder).read_sources(std::span(&source, 1)), peft::ConfigError);
}

TEST_CASE("virtual tokens among a source's tokens are read as tokens in their places", "[generate]") {
  peft::Transformer<float> base = peft::testing::tiny_t5<float>();
  peft::PeftModel tuned{base};
  tuned.add_adapter(
      "a", peft::PromptTuningConfig{.num_virtual_tokens = 2, .prompt_tuning_init = "TEXT", .init_ids = {5, 9, 2, 3}, .token_template = "[P]{a}[P] {answer}"});
  const auto v = static_cast<std::int32_t>(base.config.vocab_size);
  const Sources placed = {{v, 13, v + 1, 1}, {20, v, v + 1, 1}}, plain = {{5, 13, 9, 1}, {20, 5, 9, 1}};
  CHECK(tiny::ids_of(peft::generate_ids(tuned, placed, endless(8))) == answers_of(endless(8), plain));
  CHECK_THROWS_WITH(peft::generate_ids(tuned, plain, endless(8)), Catch::Contains("without any of the virtual tokens"));
  CHECK_THROWS_WITH(peft::generate_ids(tuned, {{v, v + 2}}, endless(8)), Catch::Contains("token id " + std::to_string(v + 2)));
}
