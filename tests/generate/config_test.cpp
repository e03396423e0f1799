// SPDX-License-Identifier: Apache-2.0
#include "peft/generate/config.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "peft/core/error.hpp"

using Catch::Contains;
using peft::GenerationConfig;

TEST_CASE("sampling follows from what is given", "[generate]") {
  CHECK_FALSE(peft::samples({}));
  CHECK(peft::samples({.temperature = 0.7}));
  CHECK_FALSE(peft::samples({.temperature = 0}));
  CHECK(peft::samples({.do_sample = true}));
  CHECK_FALSE(peft::samples({.do_sample = false, .temperature = 0.7}));
  CHECK_FALSE(peft::samples({.do_sample = true, .temperature = 0}));
  CHECK(peft::samples({.top_k = 5}));
  CHECK(peft::samples({.top_p = 0.9}));
  CHECK_FALSE(peft::samples({.temperature = 0, .top_p = 0.9}));
  CHECK_FALSE(peft::samples({.repetition_penalty = 1.2}));
  CHECK_FALSE(peft::samples({.top_k = 5, .num_beams = 2}));
}

TEST_CASE("max_tokens is another name for max_new_tokens", "[generate]") {
  CHECK(peft::max_new_tokens({}) == 256);
  CHECK(peft::max_new_tokens({.max_tokens = 64}) == 64);
  CHECK(peft::max_new_tokens({.max_new_tokens = 65}) == 65);
  CHECK_NOTHROW(validate(GenerationConfig{.max_new_tokens = 65, .max_tokens = 65}));
  CHECK_THROWS_WITH(validate(GenerationConfig{.max_new_tokens = 65, .max_tokens = 64}), Contains("65") && Contains("64") && Contains("give one"));
}

TEST_CASE("a malformed request names the field, its value and what is allowed", "[generate]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto refused = [](const GenerationConfig& config, const char* field, const char* value) {
    CHECK_THROWS_AS(validate(config), peft::ConfigError);
    CHECK_THROWS_WITH(validate(config), Contains("generate") && Contains(field) && Contains(value));
  };
  CHECK_NOTHROW(validate(GenerationConfig{}));
  refused({.max_new_tokens = 0}, "max_new_tokens", "0; allowed: 1 or more");
  refused({.max_tokens = -3}, "max_tokens", "-3");
  refused({.max_tokens = 4, .min_new_tokens = 5}, "min_new_tokens", "5");
  refused({.min_new_tokens = -1}, "min_new_tokens", "-1");
  refused({.temperature = -0.1}, "temperature", "-0.1; allowed: 0 (greedy) or more");
  refused({.temperature = nan}, "temperature", "nan");
  refused({.temperature = INFINITY}, "temperature", "inf");
  refused({.top_k = -1}, "top_k", "-1");
  refused({.top_p = 1.01}, "top_p", "1.01; allowed: 0 to 1");
  refused({.top_p = nan}, "top_p", "nan");
  refused({.min_p = -0.5}, "min_p", "-0.5");
  refused({.typical_p = 0}, "typical_p", "0");
  refused({.epsilon_cutoff = 1}, "epsilon_cutoff", "1");
  refused({.eta_cutoff = -1}, "eta_cutoff", "-1");
  refused({.temperature = 1, .num_return_sequences = 0}, "num_return_sequences", "0");
  refused({.num_return_sequences = 2}, "num_return_sequences", "2 with greedy decoding");
  refused({.repetition_penalty = 0}, "repetition_penalty", "0");
  refused({.repetition_penalty = nan}, "repetition_penalty", "nan");
  refused({.no_repeat_ngram_size = -2}, "no_repeat_ngram_size", "-2");
  refused({.frequency_penalty = 2.5}, "frequency_penalty", "2.5");
  refused({.presence_penalty = -2.5}, "presence_penalty", "-2.5");
  refused({.num_beams = 0}, "num_beams", "0");
  refused({.num_return_sequences = 3, .num_beams = 2}, "num_return_sequences", "3");
  refused({.do_sample = true, .num_beams = 2}, "num_beams", "2");
  refused({.num_beams = 2, .length_penalty = nan}, "length_penalty", "nan");
  refused({.bad_words_ids = {{}}}, "bad_words_ids", "empty");
  refused({.bad_words_ids = {{3, -1}}}, "bad_words_ids", "-1");
  refused({.sequence_bias = {{{}, 1.0}}}, "sequence_bias", "empty");
  refused({.sequence_bias = {{{1}, nan}}}, "sequence_bias", "nan");
  refused({.suppress_tokens = {-100}}, "suppress_tokens", "-100");
  refused({.forced_bos_token_id = -1}, "forced_bos_token_id", "-1");
  refused({.exponential_decay_length_penalty = {{-1, 1.5}}}, "exponential_decay_length_penalty", "-1");
  refused({.eos_token_ids = {{-1}}}, "eos_token_ids", "-1");
  refused({.stop = {"a", ""}}, "stop", "empty");
  refused({.prompt_template = "cat"}, "prompt_template", "did you mean \"chat\"");
  refused({.batch_size = 0}, "batch_size", "0");
}
