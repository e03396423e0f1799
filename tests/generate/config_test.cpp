// SPDX-License-Identifier: Apache-2.0
#include "peft/generate/config.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "peft/core/error.hpp"
#include "peft/io/json.hpp"
#include "support/files.hpp"

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
  refused({.max_length = 0}, "max_length", "0");
  refused({.max_time = 0}, "max_time", "0");
  refused({.encoder_repetition_penalty = 0}, "encoder_repetition_penalty", "0");
  refused({.encoder_no_repeat_ngram_size = -1}, "encoder_no_repeat_ngram_size", "-1");
  refused({.num_beams = 4, .num_beam_groups = 3}, "num_beam_groups", "3");
  refused({.do_sample = true, .num_beams = 4, .num_beam_groups = 2}, "num_beam_groups", "sampling");
  refused({.num_beams = 4, .diversity_penalty = 1}, "diversity_penalty", "num_beam_groups");
  refused({.top_k = 4, .penalty_alpha = 1.5}, "penalty_alpha", "1.5");
  refused({.penalty_alpha = 0.6}, "top_k", "0");
  refused({.do_sample = true, .top_k = 4, .penalty_alpha = 0.6}, "penalty_alpha", "sampling");
  refused({.prompt_lookup_num_tokens = -1}, "prompt_lookup_num_tokens", "-1");
  refused({.num_beams = 2, .prompt_lookup_num_tokens = 3}, "prompt_lookup_num_tokens", "num_beams");
  refused({.max_matching_ngram_size = 0}, "max_matching_ngram_size", "0");
  refused({.num_assistant_tokens = 0}, "num_assistant_tokens", "0");
  refused({.assistant_confidence_threshold = 2}, "assistant_confidence_threshold", "2");
  refused({.top_logprobs = -1}, "top_logprobs", "-1");
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

TEST_CASE("settings are read by Hugging Face's names", "[generate]") {
  const auto read = [](const char* json) { return peft::generation_config(peft::Json::parse(json, "settings")); };
  const GenerationConfig c =
      read(R"({"max_new_tokens": 7, "do_sample": true, "temperature": 0.6, "top_k": 5, "typical_p": 0.9, "num_beams": 4, "early_stopping": "never",
      "bad_words_ids": [[3], [4, 5]], "sequence_bias": [[[6, 7], -2.5]], "forced_eos_token_id": 2, "eos_token_id": [1, 2], "stop_strings": "x", "pad_token_id": 0,
      "exponential_decay_length_penalty": [3, 1.5], "use_cache": true, "guidance_scale": 1.0, "transformers_version": "5.23.0", "min_p": null})");
  CHECK(c.max_new_tokens == 7);
  CHECK(c.do_sample == true);
  CHECK(c.temperature == 0.6);
  CHECK(c.early_stopping == peft::EarlyStopping::never);
  CHECK(c.bad_words_ids == std::vector<std::vector<std::int32_t>>{{3}, {4, 5}});
  CHECK(c.sequence_bias.at(0).second == -2.5);
  CHECK(c.forced_eos_token_id == std::vector<std::int32_t>{2});
  CHECK(c.eos_token_ids == std::vector<std::int32_t>{1, 2});
  CHECK(c.stop == std::vector<std::string>{"x"});
  CHECK(c.exponential_decay_length_penalty == std::pair<std::int64_t, double>{3, 1.5});
  CHECK_THROWS_WITH(read(R"({"temprature": 1})"), Contains("did you mean \"temperature\""));
  CHECK_THROWS_WITH(read(R"({"top_k": "many"})"), Contains("top_k") && Contains("string"));
  CHECK_THROWS_WITH(read(R"({"top_p": 2})"), Contains("top_p = 2"));
  CHECK_THROWS_WITH(read(R"({"early_stopping": "always"})"), Contains("never"));
  CHECK_THROWS_AS(read(R"({"guidance_scale": 1.5})"), peft::NotSupported);
}

TEST_CASE("a model's generation_config.json is honoured as transformers does", "[generate]") {
  const peft::testing::Folder folder;
  CHECK(peft::load_generation_config(folder.path(), {.top_k = 3}).top_k == 3);
  peft::testing::write_file(folder / "generation_config.json",
                            R"({"do_sample": true, "temperature": 0.6, "top_p": 0.9, "eos_token_id": 7, "repetition_penalty": 1.1})");
  const GenerationConfig drawn = peft::load_generation_config(folder.path());
  CHECK(peft::samples(drawn));
  CHECK(drawn.top_p == 0.9);
  CHECK(drawn.repetition_penalty == 1.1);
  CHECK_FALSE(drawn.eos_token_ids);  // the model has it
  peft::testing::write_file(folder / "generation_config.json", R"({"temperature": 0.6, "top_p": 0.9})");
  CHECK_FALSE(peft::samples(peft::load_generation_config(folder.path())));
  peft::testing::write_file(folder / "generation_config.json", R"({"top_q": 0.6})");
  CHECK_THROWS_WITH(peft::load_generation_config(folder.path()), Contains("generation_config.json") && Contains("top_q"));
}
