// SPDX-License-Identifier: Apache-2.0
#include "peft/generate/scoring.hpp"

#include <catch2/catch.hpp>

#include "generate/tiny.hpp"
#include "peft/adapters/lora/lora.hpp"
#include "peft/generate/generate.hpp"
#include "support/files.hpp"

namespace {

using Catch::Contains;

const peft::Transformer<float>& scored_model() {
  static const peft::Transformer<float> made = tiny::random_model();
  return made;
}
std::vector<std::int32_t> long_text() {
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < 300; i++) ids.push_back((i * i + 3 * i / 7) % 38);
  return ids;
}

}  // namespace

TEST_CASE("perplexity with a stride: every token once, with its window in front", "[generate]") {
  peft::LanguageModel<float> view(scored_model());
  const auto ids = long_text();
  for (const auto& [length, stride] : std::vector<std::pair<std::int64_t, std::int64_t>>{{40, 10}, {64, 32}, {100, 99}, {50, 50}}) {
    double wanted = 0;
    std::int64_t count = 0, previous = 1;
    for (std::int64_t begin = 0; previous < 300; begin += stride) {
      const std::int64_t end = std::min<std::int64_t>(begin + length, 300);
      const auto logits = tiny::all_logits(scored_model(), {ids.begin() + begin, ids.begin() + end});
      for (std::int64_t i = std::max(previous, begin + 1); i < end; i++, count++)
        wanted -= peft::log_probability<float>(std::span<const float>(logits.view().row(i - 1 - begin), std::size_t(logits.cols())), ids[std::size_t(i)]);
      previous = end;
    }
    const peft::Perplexity found = peft::token_perplexity<float>(view, ids, {.max_length = length, .stride = stride});
    CHECK(found.tokens == count);
    CHECK(found.negative_log_likelihood == Approx(wanted).epsilon(1e-5));
    CHECK(found.value() == Approx(std::exp(wanted / double(count))).epsilon(1e-5));
  }
  const auto bad = [&](const peft::PerplexityOptions& options) { return peft::token_perplexity<float>(view, ids, options); };
  CHECK_THROWS_WITH(bad({.max_length = 4000}), Contains("max_length = 4000"));
  CHECK_THROWS_WITH(bad({.max_length = 10, .stride = 11}), Contains("stride = 11"));
  CHECK_THROWS_AS(peft::token_perplexity<float>(view, std::vector<std::int32_t>{3}), peft::ShapeError);

  peft::Transformer<float> broken = tiny::random_model();
  broken.lm_head.weight.value()(3, 0) = std::numeric_limits<float>::quiet_NaN();
  peft::LanguageModel<float> of_broken(broken);
  CHECK_THROWS_WITH(peft::token_perplexity<float>(of_broken, ids), Contains("[perplexity] the loss of the tokens") && Contains("is not finite"));
}

TEST_CASE("choices are ranked by the mean of their log probabilities, or by the sum", "[generate]") {
  const peft::Tokenizer tokenizer = tiny::tokenizer();
  const std::vector<std::string> choices = {" stop", "e", "the the the", " st!"};
  const auto scores = peft::score(scored_model(), tokenizer, "the a", choices);
  for (const bool normalised : {true, false}) {
    const auto ranked = peft::rank_choices(scored_model(), tokenizer, "the a", choices, normalised);
    REQUIRE(ranked.size() == 4);
    for (std::size_t i = 0; i < 4; i++) {
      const auto& of = scores[ranked[i].index];
      CHECK(ranked[i].value == (normalised ? of.mean() : of.sum()));
      if (i > 0) CHECK(ranked[i - 1].value >= ranked[i].value);
    }
  }
}

TEST_CASE("a remembered prompt is saved, and read by the model and the adapters that made it", "[generate]") {
  const peft::testing::Folder folder;
  const std::string path = folder.path() + "/prompt.safetensors";
  const auto all = long_text();
  const std::vector<std::int32_t> prompt(all.begin(), all.begin() + 60), whole(all.begin(), all.begin() + 64);
  peft::Transformer<float> base = tiny::random_model();
  peft::PeftModel tuned{base};
  tuned.add_adapter("a", peft::LoraConfig{.r = 4, .lora_alpha = 8, .init_lora_weights = false}, 1);
  tuned.add_adapter("b", peft::LoraConfig{.r = 4, .lora_alpha = 8, .init_lora_weights = false}, 2);
  peft::GenerationConfig c;
  c.max_new_tokens = 10, c.eos_token_ids = std::vector<std::int32_t>{};
  for (const bool half : {false, true}) {
    peft::LanguageModel<float> view(tuned);
    c.half_cache = half;
    view.set_cache_dtype(half ? peft::DType::f16 : peft::DType::f32);
    peft::save_prompt_cache<float>(path, peft::remember_prompt<float>(view, prompt));
    const auto loaded = peft::load_prompt_cache<float>(view, path);
    CHECK(loaded.ids == prompt);
    const peft::GenerationRequest<float> with{whole, nullptr, 0, {}, &loaded, {}}, without{whole};
    const auto found = peft::run_generation<float>(view, std::span(&with, 1), c).at(0);
    CHECK(found.cached_tokens == 60);
    CHECK(found.ids == peft::run_generation<float>(view, std::span(&without, 1), c).at(0).ids);

    tuned.set_adapter("b");
    peft::LanguageModel<float> other(tuned);
    other.set_cache_dtype(half ? peft::DType::f16 : peft::DType::f32);
    CHECK_THROWS_AS(peft::load_prompt_cache<float>(other, path), peft::CheckpointError);
    CHECK_THROWS_WITH(peft::run_generation<float>(other, std::span(&with, 1), c), Contains("other active adapters"));
    tuned.set_adapter("a");
    peft::LanguageModel<float> kept_otherwise(tuned);
    kept_otherwise.set_cache_dtype(half ? peft::DType::f32 : peft::DType::f16);
    CHECK_THROWS_WITH(peft::load_prompt_cache<float>(kept_otherwise, path), Contains("stored as"));
  }
  peft::Transformer<float> deeper = tiny::empty<float>(tiny::vocab_size(), 32, 3, 4, 2, 48, 1.5);
  peft::LanguageModel<float> another(deeper);
  CHECK_THROWS_AS(peft::load_prompt_cache<float>(another, path), peft::CheckpointError);
  peft::testing::write_file(folder / "no.safetensors", "x");
  CHECK_THROWS_AS(peft::load_prompt_cache<float>(another, folder / "no.safetensors"), peft::FormatError);
}
