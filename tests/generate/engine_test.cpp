// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "generate/requests.hpp"
#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/prompt_tuning/prompt_tuning.hpp"
#include "support/threads.hpp"

namespace {

using peft::FinishReason;
using peft::GenerationConfig;
using tiny::endless;
using tiny::ids_of;
using tiny::model;
using tiny::Prompts;
using tiny::prompts;

}  // namespace

TEST_CASE("greedy decoding takes the likeliest token of a forward without a cache", "[generate]") {
  for (const auto& prompt : prompts()) {
    const auto found = peft::generate_ids(model(), {prompt}, endless(12)).at(0);
    CHECK(found.finish_reason == FinishReason::length);
    std::vector<std::int32_t> ids = prompt;
    for (std::int32_t id : found.ids) {
      const auto logits = tiny::all_logits(model(), ids);
      REQUIRE(id == peft::argmax<float>(std::span<const float>(logits.view().row(logits.rows() - 1), std::size_t(logits.cols()))));
      ids.push_back(id);
    }
  }
}

TEST_CASE("a model that fills blanks reads each context as a whole, whoever has read a part of it before", "[generate]") {
  auto filler = tiny::random_model();
  constexpr std::int32_t gmask = 38, sop = 39;
  filler.config.blank_tokens = peft::BlankTokens{.start = sop, .gmask = gmask, .mask = 37};
  const auto rotary = std::make_shared<peft::Rotary<float>>(peft::rope_frequencies({.two_dimensional = true}, 4), 4, false);
  for (auto& block : filler.layers) block.self_attn.rotary = rotary;
  Prompts all(3);
  for (std::size_t p = 0; p < 3; p++) {
    for (std::int32_t i = 0; i < 20; i++) all[p].push_back(2 + i * 7 % 35);  // as long as what is read once elsewhere
    for (std::size_t i = 0; i <= p; i++) all[p].push_back(5);
    all[p].insert(all[p].end(), {gmask, sop});
  }
  const auto next = [&](const std::vector<std::int32_t>& ids) {
    const auto logits = tiny::all_logits(filler, ids);
    return peft::argmax<float>(std::span<const float>(logits.view().row(logits.rows() - 1), std::size_t(logits.cols())));
  };
  Prompts wanted(3);
  for (std::size_t p = 0; p < 3; p++) {
    std::vector<std::int32_t> ids = all[p];
    for (int i = 0; i < 8; i++) wanted[p].push_back(next(ids)), ids.push_back(wanted[p].back());
  }
  CHECK(ids_of(peft::generate_ids(filler, all, endless(8))) == wanted);
  GenerationConfig guessing = endless(8);
  guessing.prompt_lookup_num_tokens = 4;
  CHECK(ids_of(peft::generate_ids(filler, all, guessing)) == wanted);

  // A cache of a conversation: what it holds of another context is of no use, and what follows the same context is.
  peft::LanguageModel<float> view(filler);
  auto cache = view.make_cache(64);
  const auto answer = [&](const std::vector<std::int32_t>& ids) {
    const peft::GenerationRequest<float> request{ids, &cache, 0, {}};
    return peft::run_generation<float>(view, std::span(&request, 1), endless(8)).at(0);
  };
  CHECK(answer(all[0]).ids == wanted[0]);
  cache.truncate(20);
  const auto second = answer(all[1]);
  CHECK(second.ids == wanted[1]);
  CHECK(second.cached_tokens == 0);
  std::vector<std::int32_t> longer = all[1];
  longer.insert(longer.end(), wanted[1].begin(), wanted[1].begin() + 3);
  cache.truncate(std::int64_t(longer.size()) - 1);
  const auto third = answer(longer);
  CHECK(third.cached_tokens == std::int64_t(longer.size()) - 1);
  CHECK(std::vector<std::int32_t>(third.ids.begin(), third.ids.begin() + 5) == std::vector<std::int32_t>(wanted[1].begin() + 3, wanted[1].end()));

  // The last token of a prompt runs with what is scored: here that is <sop>.
  const auto scores = peft::score_continuations<float>(view, all[2], Prompts{wanted[2], {4, 5}});
  CHECK(scores[0].is_greedy);
  std::vector<std::int32_t> scored = all[2];
  scored.insert(scored.end(), {4, 5});
  const auto logits = tiny::all_logits(filler, scored);
  const std::span<const float> row(logits.view().row(logits.rows() - 3), std::size_t(logits.cols()));
  CHECK(scores[1].logprobs[0] == Approx(peft::log_probability<float>(row, 4)).epsilon(1e-5));
  CHECK_THROWS_WITH(peft::generate_ids(filler, {{3, 4, 5}}, endless(2)), Catch::Contains("a sequence without [gMASK]"));
  CHECK_THROWS_WITH(peft::score_continuations<float>(view, std::vector<std::int32_t>{3, gmask, 5}, Prompts{{4}}, 0),
                    Catch::Contains("begins what fills its blank"));
}

TEST_CASE("what is greedy in other words is greedy", "[generate]") {
  const auto greedy = ids_of(peft::generate_ids(model(), prompts(), endless(16)));
  const auto same = [&](auto change) {
    GenerationConfig c = endless(16);
    change(c);
    CHECK(ids_of(peft::generate_ids(model(), prompts(), c)) == greedy);
  };
  same([](GenerationConfig& c) { c.temperature = 1e-4, c.do_sample = true; });
  same([](GenerationConfig& c) { c.top_k = 1, c.do_sample = true; });
  same([](GenerationConfig& c) { c.top_p = 1e-6, c.do_sample = true; });
  same([](GenerationConfig& c) { c.min_p = 1, c.do_sample = true; });
  same([](GenerationConfig& c) { c.num_beams = 1, c.length_penalty = 3; });
  same([](GenerationConfig& c) { c.prompt_lookup_num_tokens = 4; });
  same([](GenerationConfig& c) { c.penalty_alpha = 1e-9, c.top_k = 3; });
  same([](GenerationConfig& c) { c.batch_size = 1; });
  same([](GenerationConfig& c) { c.batch_size = 3; });
}

TEST_CASE("a seed gives the same text on any number of threads and in any batch", "[generate]") {
  GenerationConfig c = endless(16);
  c.temperature = 1, c.top_p = 0.9, c.num_return_sequences = 3, c.seed = 9, c.output_logprobs = true;
  const auto all = peft::generate_ids(model(), prompts(), c);
  for (int threads : {1, 2, 7}) {
    const peft::testing::Threads use(threads);
    CHECK(ids_of(peft::generate_ids(model(), prompts(), c)) == ids_of(all));
  }
  for (std::size_t p = 0; p < prompts().size(); p++) {
    const auto alone = peft::generate_ids(model(), {prompts()[p]}, c);
    for (std::size_t a = 0; a < 3; a++) {
      CHECK(alone[a].ids == all[3 * p + a].ids);
      CHECK(alone[a].logprobs == all[3 * p + a].logprobs);  // to the bit
    }
  }
  c.batch_size = 2;
  CHECK(ids_of(peft::generate_ids(model(), prompts(), c)) == ids_of(all));

  c.num_beams = 4, c.do_sample = true, c.output_logprobs = false;
  const auto beams = peft::generate_ids(model(), prompts(), c);
  for (int threads : {1, 7}) {
    const peft::testing::Threads use(threads);
    CHECK(ids_of(peft::generate_ids(model(), prompts(), c)) == ids_of(beams));
  }
  for (std::size_t p = 0; p < prompts().size(); p++)
    for (std::size_t a = 0; a < 3; a++) CHECK(peft::generate_ids(model(), {prompts()[p]}, c)[a].ids == beams[3 * p + a].ids);
}

TEST_CASE("answers that share their prompt's cache are those that have it alone, to the bit", "[generate]") {
  std::vector<std::int32_t> prompt(83);
  for (std::size_t i = 0; i < prompt.size(); i++) prompt[i] = std::int32_t(2 + i * 11 % 37);
  peft::Transformer<float> windowed = tiny::random_model();
  for (auto& block : windowed.layers) block.self_attn.core.shape.window = 20;
  for (const auto* m : {&model(), static_cast<const peft::Transformer<float>*>(&windowed)})
    for (const bool half : {false, true}) {
      GenerationConfig c = endless(30);
      c.temperature = 1, c.output_logprobs = true, c.half_cache = half;
      const auto alone = peft::generate_ids(*m, {prompt}, c).at(0);
      c.num_return_sequences = 3;
      const auto shared = peft::generate_ids(*m, {prompt}, c);
      CHECK(shared[0].ids == alone.ids);
      CHECK(shared[0].logprobs == alone.logprobs);
      CHECK(shared[1].ids != alone.ids);
      c = endless(12);
      c.num_beams = 1, c.half_cache = half;
      const auto greedy = peft::generate_ids(*m, {prompt}, c).at(0);
      c.num_beams = 4;
      const auto beams = peft::generate_ids(*m, {prompt}, c).at(0);
      peft::LanguageModel<float> view(*m);
      const auto sum = [&](const std::vector<std::int32_t>& ids) {
        const Prompts one = {ids};
        return peft::score_continuations<float>(view, prompt, one).at(0).sum();
      };
      CHECK(beams.score * 12 == Approx(sum(beams.ids)).epsilon(half ? 2e-3 : 1e-5));
      CHECK(sum(beams.ids) >= sum(greedy.ids) - 1e-2);
    }
}

TEST_CASE("penalties lower repetition, the more the larger they are", "[generate]") {
  const auto repeated = [](auto set) {
    std::vector<double> by_strength;
    for (const double strength : {0.0, 0.3, 0.6, 1.0}) {
      GenerationConfig c = endless(40);
      c.temperature = 0.6, c.num_return_sequences = 24;
      set(c, strength);
      double repeats = 0;
      for (const auto& g : peft::generate_ids(model(), prompts(), c))
        repeats += double(g.ids.size() - std::set<std::int32_t>(g.ids.begin(), g.ids.end()).size());
      by_strength.push_back(repeats);
    }
    return by_strength;
  };
  for (const auto& counts :
       {repeated([](GenerationConfig&c, double s) { c.frequency_penalty = 2 * s; }), repeated([](GenerationConfig&c, double s) { c.presence_penalty = 2 * s; }),
        repeated([](GenerationConfig&c, double s) { c.repetition_penalty = 1 + s; })}) {
    CAPTURE(counts);
    CHECK(std::is_sorted(counts.rbegin(), counts.rend()));
    CHECK(counts.back() < counts.front());
  }
}

TEST_CASE("the prompt's own penalties", "[generate]") {
  GenerationConfig c = endless(12);
  c.encoder_repetition_penalty = 1e6;  // only what the prompt says
  const auto kept = peft::generate_ids(model(), {prompts()[2]}, c).at(0).ids;
  for (std::int32_t id : kept) CHECK(std::find(prompts()[2].begin(), prompts()[2].end(), id) != prompts()[2].end());
  c = endless(12);
  c.encoder_no_repeat_ngram_size = 1;  // nothing of it
  const auto fresh = peft::generate_ids(model(), {prompts()[2]}, c).at(0).ids;
  for (std::int32_t id : fresh) CHECK(std::find(prompts()[2].begin(), prompts()[2].end(), id) == prompts()[2].end());
}

TEST_CASE("prefix_allowed_tokens_fn decides which tokens may follow", "[generate]") {
  GenerationConfig c = endless(9);
  c.prefix_allowed_tokens_fn = [](std::size_t prompt, std::span<const std::int32_t> ids) {
    return std::vector<std::int32_t>{std::int32_t(prompt), std::int32_t(10 + ids.size() % 7)};
  };
  for (const std::int64_t beams : {1, 3}) {
    c.num_beams = beams;
    const auto all = peft::generate_ids(model(), prompts(), c);
    for (std::size_t p = 0; p < all.size(); p++)
      for (std::size_t i = 0; i < all[p].ids.size(); i++) {
        const std::int32_t id = all[p].ids[i];
        CHECK((id == std::int32_t(p) || id == std::int32_t(10 + (prompts()[p].size() + i) % 7)));
      }
  }
  c.prefix_allowed_tokens_fn = [](std::size_t, std::span<const std::int32_t>) { return std::vector<std::int32_t>{}; };
  CHECK_THROWS_WITH(peft::generate_ids(model(), prompts(), c), Catch::Contains("prefix_allowed_tokens_fn"));
}

TEST_CASE("max_length counts the prompt, and leaves room or is refused", "[generate]") {
  GenerationConfig c;
  c.eos_token_ids = std::vector<std::int32_t>{}, c.max_length = 10;
  const auto all = peft::generate_ids(model(), prompts(), c);
  for (std::size_t p = 0; p < all.size(); p++) CHECK(all[p].ids.size() + prompts()[p].size() == 10);
  c.max_length = 8;
  CHECK_THROWS_AS(peft::generate_ids(model(), prompts(), c), peft::ShapeError);
}

TEST_CASE("time that is over ends every text", "[generate]") {
  GenerationConfig c = endless(100);
  c.max_time = 1e-9;
  for (const std::int64_t beams : {1, 2}) {
    c.num_beams = beams;
    for (const auto& g : peft::generate_ids(model(), prompts(), c)) {
      CHECK(g.finish_reason == FinishReason::timeout);
      CHECK(g.ids.size() < 3);
    }
  }
}

TEST_CASE("what prompts have in common is read once, and changes nothing", "[generate]") {
  std::vector<std::int32_t> common(70);
  for (std::size_t i = 0; i < common.size(); i++) common[i] = std::int32_t(2 + i * 7 % 35);
  Prompts all;
  for (std::int32_t i = 0; i < 4; i++) {
    all.push_back(common);
    for (std::int32_t k = 0; k <= i; k++) all.back().push_back(3 + 5 * k + i);
  }
  GenerationConfig c = endless(12);
  c.temperature = 1, c.output_logprobs = true;
  const auto together = peft::generate_ids(model(), all, c);
  CHECK(together[0].cached_tokens == 70);
  for (std::size_t i = 0; i < all.size(); i++) {
    const auto alone = peft::generate_ids(model(), {all[i]}, c).at(0);
    CHECK(alone.cached_tokens == 0);
    CHECK(alone.ids == together[i].ids);
    CHECK(alone.logprobs == together[i].logprobs);
  }
  // Kept, it serves later calls, beams too.
  peft::LanguageModel<float> view(model());
  const auto kept = peft::remember_prompt<float>(view, common);
  for (const std::int64_t beams : {1, 3}) {
    GenerationConfig greedy = endless(8);
    greedy.num_beams = beams;
    const peft::GenerationRequest<float> with{all[3], nullptr, 0, {}, &kept, {}}, without{all[3]};
    CHECK(peft::run_generation<float>(view, std::span(&with, 1), greedy).at(0).ids ==
          peft::run_generation<float>(view, std::span(&without, 1), greedy).at(0).ids);
  }
}

TEST_CASE("every sequence of a batch has its own adapters", "[generate]") {
  peft::Transformer<float> base = tiny::random_model();
  peft::PeftModel tuned{base};
  for (const char* name : {"one", "two"}) {
    tuned.add_adapter(name, peft::LoraConfig{.r = 4, .lora_alpha = 8, .init_lora_weights = false}, std::uint64_t(name[0]));
    tuned.for_each_adapter_parameter(name, [](const std::string&, auto& p) {
      for (float& w : p.value().span()) w *= 3;
    });
  }
  const peft::Tokenizer tokenizer = tiny::tokenizer();
  GenerationConfig c = endless(12);
  c.prompt_template = "plain", c.temperature = 0.8;
  const std::vector<std::string> texts = {"the a", "the a", "the a", "the b", "the a"};
  const auto all = peft::complete_all_with(tuned, tokenizer, texts, {{"one"}, {}, {"two"}, {"one"}, {"one", "two"}}, c);
  const auto alone = [&](const std::string& text, const std::vector<std::string>& names) {
    tuned.set_adapter(names);
    return peft::complete(tuned, tokenizer, text, c).ids;
  };
  CHECK(all[0].ids == alone("the a", {"one"}));
  CHECK(all[1].ids == alone("the a", {}));
  CHECK(all[2].ids == alone("the a", {"two"}));
  CHECK(all[3].ids == alone("the b", {"one"}));
  CHECK(all[4].ids == alone("the a", {"one", "two"}));
  CHECK(all[0].ids != all[1].ids);
  CHECK(all[0].ids != all[2].ids);
  CHECK_THROWS_AS(peft::complete_all_with(tuned, tokenizer, {"a"}, {{"three"}}, c), peft::AdapterError);
}

TEST_CASE("virtual tokens among a prompt's tokens are read as tokens in their places", "[generate]") {
  auto base = tiny::model();
  peft::PeftModel tuned{base};
  tuned.add_adapter(
      "a", peft::PromptTuningConfig{.num_virtual_tokens = 3, .prompt_tuning_init = "TEXT", .init_ids = {5, 9, 30}, .token_template = "[P]{a}[P]{b}[P]"});
  const auto v = std::int32_t(tiny::vocab_size());
  auto config = tiny::endless(6);
  config.temperature = 0;
  const std::vector<std::vector<std::int32_t>> placed = {{v, 13, v + 1, 4}, {20, 21, v, v + 1, v + 2}}, plain = {{5, 13, 9, 4}, {20, 21, 5, 9, 30}};
  CHECK(tiny::ids_of(peft::generate_ids(tuned, placed, config)) == tiny::ids_of(peft::generate_ids(base, plain, config)));
  config.repetition_penalty = 1.5;  // what a virtual token says is no word that could be said again
  CHECK(peft::generate_ids(tuned, placed, config)[0].ids.size() == 6);
  CHECK_THROWS_WITH(peft::generate_ids(tuned, plain, config), Catch::Contains("without any of the virtual tokens"));
  CHECK_THROWS_WITH(peft::generate_ids(tuned, {{v + 3}}, config), Catch::Contains("token id " + std::to_string(v + 3)));
}
