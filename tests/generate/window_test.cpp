// SPDX-License-Identifier: Apache-2.0
// Caches of layers that see a window, several times past it: what is generated is what whole caches give, to the bit.
#include <catch2/catch.hpp>

#include "generate/requests.hpp"
#include "peft/adapters/prefix_tuning/prefix_tuning.hpp"
#include "peft/adapters/prompt_tuning/prompt_tuning.hpp"

namespace {

using peft::GenerationConfig;

// One layer sees 30 keys, the other one 100.
peft::Transformer<float> windowed_model() {
  peft::Transformer<float> m = tiny::random_model();
  m.config.max_position_embeddings = 4096;
  m.layers[0].self_attn.core.shape.window = 30, m.layers[1].self_attn.core.shape.window = 100;
  return m;
}
std::vector<std::int32_t> some_ids(std::size_t n, std::size_t by = 11) {
  std::vector<std::int32_t> ids(n);
  for (std::size_t i = 0; i < n; i++) ids[i] = std::int32_t(2 + (i * by + i * i / 7) % 37);
  return ids;
}
GenerationConfig drawn(std::int64_t tokens, bool half) {
  GenerationConfig c = tiny::endless(tokens);
  c.temperature = 1, c.output_logprobs = true, c.half_cache = half;
  return c;
}
using View = peft::LanguageModel<float>;
using Request = peft::GenerationRequest<float>;

// What whole caches give.
std::vector<peft::Generation> by_whole_caches(View& view, const tiny::Prompts& prompts, const GenerationConfig& c) {
  view.set_cache_dtype(c.half_cache ? peft::DType::f16 : peft::DType::f32);
  std::vector<peft::KvCache<float>> caches;
  for (const auto& prompt : prompts) caches.push_back(view.make_cache(std::int64_t(prompt.size()), 0, true));
  std::vector<Request> requests;
  for (std::size_t i = 0; i < prompts.size(); i++) requests.push_back({prompts[i], &caches[i]});
  auto all = peft::run_generation<float>(view, requests, c);
  for (const auto& cache : caches) CHECK(cache.forgotten(0) == 0);
  return all;
}
void check_same(const std::vector<peft::Generation>& found, const std::vector<peft::Generation>& wanted) {
  REQUIRE(found.size() == wanted.size());
  for (std::size_t i = 0; i < found.size(); i++) {
    CHECK(found[i].ids == wanted[i].ids);
    CHECK(found[i].logprobs == wanted[i].logprobs);
  }
}

}  // namespace

TEST_CASE("caches with windows give what whole ones give, and hold no more than their windows", "[generate]") {
  const peft::Transformer<float> m = windowed_model();
  View view(m);
  const tiny::Prompts prompts = {some_ids(5), some_ids(1100), some_ids(700, 5)};
  for (const bool half : {false, true}) {
    const GenerationConfig c = drawn(700, half);
    const auto wanted = by_whole_caches(view, prompts, c);
    std::vector<peft::KvCache<float>> caches;
    for (std::size_t i = 0; i < prompts.size(); i++) caches.push_back(view.make_cache(1));
    std::vector<Request> requests;
    for (std::size_t i = 0; i < prompts.size(); i++) requests.push_back({prompts[i], &caches[i]});
    check_same(peft::run_generation<float>(view, requests, c), wanted);
    for (const auto& cache : caches) {
      CHECK(cache.capacity(0) <= 30 + 576);
      CHECK(cache.capacity(1) <= 100 + 576);
      CHECK(cache.forgotten(0) > 0);
    }
    check_same(peft::generate_ids(m, prompts, c), wanted);
    // The same without any cache, where attention has a window of its own.
    if (half) continue;
    std::vector<std::int32_t> ids = prompts[1];
    ids.insert(ids.end(), wanted[1].ids.begin(), wanted[1].ids.end());
    const auto logits = tiny::all_logits(m, ids);
    for (const std::size_t i : {std::size_t(0), std::size_t(350), std::size_t(699)}) {
      const std::span<const float> row(logits.view().row(std::int64_t(1100 + i - 1)), std::size_t(logits.cols()));
      CHECK(peft::log_probability<float>(row, wanted[1].ids[i]) == Approx(wanted[1].logprobs[i]).margin(1e-4));
    }
  }
}

TEST_CASE("behind prefixes and virtual tokens, windows slide over them", "[generate]") {
  for (const bool prefix : {true, false}) {
    peft::Transformer<float> base = windowed_model();
    peft::PeftModel tuned{base};
    if (prefix)
      tuned.add_adapter("p", peft::PrefixTuningConfig{.num_virtual_tokens = 9}, 1);
    else
      tuned.add_adapter("p", peft::PromptTuningConfig{.num_virtual_tokens = 9}, 1);
    View view(tuned);
    const tiny::Prompts prompts = {some_ids(5), some_ids(600)};
    for (const bool half : {false, true}) {
      const GenerationConfig c = drawn(500, half);
      check_same(peft::generate_ids(tuned, prompts, c), by_whole_caches(view, prompts, c));
    }
  }
}

TEST_CASE("a prompt that was read before, whole or not, serves caches with windows", "[generate]") {
  const peft::Transformer<float> m = windowed_model();
  View view(m);
  const std::vector<std::int32_t> beginning = some_ids(900);
  tiny::Prompts prompts(3, beginning);
  for (std::size_t i = 0; i < prompts.size(); i++)
    for (std::size_t k = 0; k < 1 + 600 * i; k++) prompts[i].push_back(std::int32_t(2 + (k * 3 + i) % 37));
  for (const bool half : {false, true}) {
    const GenerationConfig c = drawn(400, half);
    const auto wanted = by_whole_caches(view, prompts, c);
    const auto together = peft::generate_ids(m, prompts, c);  // reads the common beginning once
    CHECK(together[0].cached_tokens == 900);
    check_same(together, wanted);
    const auto known = peft::remember_prompt<float>(view, prompts[2]);
    CHECK(known.cache.forgotten(0) == 0);
    std::vector<Request> requests;
    for (const auto& prompt : prompts) requests.push_back({prompt, nullptr, 0, {}, &known, {}});
    const auto found = peft::run_generation<float>(view, requests, c);
    CHECK(found[1].cached_tokens >= 900);
    check_same(found, wanted);
    // One that kept its windows serves what goes on from its end; what does not is read anew.
    const auto windows = peft::remember_prompt<float>(view, prompts[2], 0, false);
    for (Request& r : requests) r.prefix = &windows;
    const auto again = peft::run_generation<float>(view, requests, c);
    CHECK(again[1].cached_tokens == 0);
    CHECK(again[2].cached_tokens == 2100);
    check_same(again, wanted);
    CHECK_THROWS_WITH(peft::save_prompt_cache<float>("never.safetensors", windows), Catch::Contains("forgotten"));
  }
  GenerationConfig c = drawn(4, true);
  view.set_cache_dtype(peft::DType::f32);
  const auto full = peft::remember_prompt<float>(view, beginning);
  const Request request{prompts[0], nullptr, 0, {}, &full, {}};
  CHECK_THROWS_WITH(peft::run_generation<float>(view, std::span(&request, 1), c),
                    Catch::Contains("half_cache = true with a prompt that was remembered as F32"));
}

TEST_CASE("beams, candidates and guesses go on within windows", "[generate]") {
  const peft::Transformer<float> m = windowed_model();
  View view(m);
  const std::vector<std::int32_t> prompt = some_ids(800);
  const auto known = peft::remember_prompt<float>(view, std::span(prompt).first(700));
  const auto both = [&](const GenerationConfig& c) {
    const Request alone{prompt}, behind{prompt, nullptr, 0, {}, &known, {}};
    const auto one = peft::run_generation<float>(view, std::span(&alone, 1), c), two = peft::run_generation<float>(view, std::span(&behind, 1), c);
    CHECK(one[0].ids == two[0].ids);
    return one[0];
  };
  GenerationConfig c = tiny::endless(700);
  const auto greedy = both(c);
  c.num_beams = 3, c.length_penalty = 0;
  const auto beams = both(c);
  const auto sum = [&](const std::vector<std::int32_t>& ids) {
    const tiny::Prompts one = {ids};
    return peft::score_continuations<float>(view, prompt, one).at(0).sum();
  };
  CHECK(beams.score == Approx(sum(beams.ids)).epsilon(1e-4));
  CHECK(sum(beams.ids) >= sum(greedy.ids) - 1e-2);

  c = tiny::endless(700);
  c.penalty_alpha = 1e-9, c.top_k = 3;
  CHECK(both(c).ids == greedy.ids);
  c = tiny::endless(700);
  c.prompt_lookup_num_tokens = 8;
  CHECK(both(c).ids == greedy.ids);
  peft::Transformer<float> draft = windowed_model();
  for (float& w : draft.lm_head.weight.value().span()) w *= 0.9f;
  draft.layers.pop_back(), draft.config.num_hidden_layers = 1;
  c = tiny::endless(700);
  c.num_assistant_tokens = 6, c.assistant_confidence_threshold = 0;
  CHECK(peft::generate_ids_assisted(m, draft, {prompt}, c).at(0).ids == greedy.ids);
}
