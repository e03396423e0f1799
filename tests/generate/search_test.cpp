// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "generate/requests.hpp"

namespace {

using peft::FinishReason;
using peft::GenerationConfig;
using tiny::endless;
using tiny::ids_of;
using tiny::log_probability_of;
using tiny::model;
using tiny::Prompts;
using tiny::prompts;

}  // namespace

TEST_CASE("a beam's score is its text's mean log probability, and none of the best is below greedy's", "[generate]") {
  for (const std::int64_t beams : {2, 4, 7})
    for (const auto& prompt : prompts()) {
      GenerationConfig c = endless(10);
      const auto greedy = peft::generate_ids(model(), {prompt}, c).at(0);
      c.num_beams = beams;
      const auto best = peft::generate_ids(model(), {prompt}, c).at(0);
      CHECK(best.score == Approx(log_probability_of(prompt, best.ids) / 10).epsilon(1e-5));
      CHECK(best.score >= log_probability_of(prompt, greedy.ids) / 10 - 1e-5);
    }
}

TEST_CASE("groups of beams: one group is beam search, a penalty makes them differ", "[generate]") {
  GenerationConfig c = endless(8);
  c.num_beams = 6, c.num_return_sequences = 6;
  const auto plain = peft::generate_ids(model(), {prompts()[0]}, c);
  c.num_beam_groups = 1;
  CHECK(ids_of(peft::generate_ids(model(), {prompts()[0]}, c)) == ids_of(plain));

  // Without a penalty all groups find the same; each is beam search with its share of beams.
  c.num_beam_groups = 3;
  const auto alike = peft::generate_ids(model(), {prompts()[0]}, c);
  c.num_beam_groups = 1, c.num_beams = 2, c.num_return_sequences = 2;
  const auto pair = peft::generate_ids(model(), {prompts()[0]}, c);
  REQUIRE(alike.size() == 6);
  for (std::size_t i = 0; i < 6; i++) CHECK(alike[i].ids == pair[i / 3].ids);

  // A penalty beyond all log probabilities: no two groups begin with the same token.
  c.num_beams = 3, c.num_beam_groups = 3, c.num_return_sequences = 3, c.diversity_penalty = 1000;
  std::set<std::int32_t> first;
  for (const auto& g : peft::generate_ids(model(), {prompts()[0]}, c)) first.insert(g.ids[0]);
  CHECK(first.size() == 3);
}

TEST_CASE("beams that are drawn follow the seed, and the scores of texts", "[generate]") {
  GenerationConfig c = endless(1);
  c.num_beams = 3, c.num_return_sequences = 1, c.do_sample = true, c.temperature = 1;
  const auto row = tiny::all_logits(model(), prompts()[0]);
  const std::span<const float> last(row.view().row(row.rows() - 1), std::size_t(row.cols()));
  // Without replacement: the first of the three that were drawn first is in them with more than its own probability, and the text returned is the
  // likeliest of three. So the likeliest token of all is returned exactly if it was among them: compared with the sum over ordered triples.
  const std::int32_t best = peft::argmax<float>(last);
  const double p = std::exp(peft::log_probability<float>(last, best));
  double among = p;
  std::vector<double> others;
  for (std::size_t i = 0; i < last.size(); i++)
    if (std::int32_t(i) != best) others.push_back(std::exp(peft::log_probability<float>(last, std::int32_t(i))));
  for (std::size_t i = 0; i < others.size(); i++) {
    among += others[i] * p / (1 - others[i]);
    for (std::size_t j = 0; j < others.size(); j++)
      if (i != j) among += others[i] * others[j] / (1 - others[i]) * p / (1 - others[i] - others[j]);
  }
  constexpr int rounds = 3000;
  int hits = 0;
  for (int i = 0; i < rounds; i++) {
    c.seed = std::uint64_t(i);
    hits += peft::generate_ids(model(), {prompts()[0]}, c).at(0).ids[0] == best;
  }
  CHECK(double(hits) / rounds == Approx(among).margin(4 * std::sqrt(among * (1 - among) / rounds)));

  c = endless(8);
  c.num_beams = 4, c.num_return_sequences = 4, c.do_sample = true, c.temperature = 1.5, c.seed = 5;
  const auto drawn = ids_of(peft::generate_ids(model(), prompts(), c));
  CHECK(ids_of(peft::generate_ids(model(), prompts(), c)) == drawn);
  c.seed = 6;
  CHECK(ids_of(peft::generate_ids(model(), prompts(), c)) != drawn);
}

TEST_CASE("assisted decoding gives the text of decoding alone, drawn or not", "[generate]") {
  const peft::Transformer<float> draft = [] {
    peft::Transformer<float> m = tiny::random_model();
    for (float& w : m.lm_head.weight.value().span()) w *= 0.9f;  // the same guesses, mostly
    m.layers.pop_back(), m.config.num_hidden_layers = 1;
    return m;
  }();
  std::int64_t accepted = 0, proposed = 0;
  for (const bool drawn : {false, true})
    for (const bool penalties : {false, true}) {
      GenerationConfig c = endless(24);
      if (drawn) c.temperature = 0.8, c.top_k = 12, c.seed = 3;
      if (penalties) c.repetition_penalty = 1.2, c.no_repeat_ngram_size = 3;
      c.output_logprobs = true;
      const auto alone = peft::generate_ids(model(), prompts(), c);
      c.num_assistant_tokens = 4, c.assistant_confidence_threshold = 0;
      const auto same = peft::generate_ids_assisted(model(), model(), prompts(), c), helped = peft::generate_ids_assisted(model(), draft, prompts(), c);
      CHECK(ids_of(same) == ids_of(alone));
      CHECK(ids_of(helped) == ids_of(alone));
      for (std::size_t i = 0; i < alone.size(); i++) {
        CHECK(helped[i].logprobs == alone[i].logprobs);
        CHECK(same[i].accepted_tokens == same[i].proposed_tokens);  // its own draft is always right
        accepted += helped[i].accepted_tokens, proposed += helped[i].proposed_tokens;
      }
      c.prompt_lookup_num_tokens = 3;
      CHECK(ids_of(peft::generate_ids(model(), prompts(), c)) == ids_of(alone));
    }
  CHECK(accepted > 0);
  CHECK(accepted < proposed);
}

TEST_CASE("assisted draws have the model's distribution", "[generate]") {
  peft::Transformer<float> draft = tiny::random_model();
  draft.layers.pop_back(), draft.config.num_hidden_layers = 1;
  GenerationConfig c = endless(3);
  c.temperature = 0.7, c.top_k = 4, c.num_assistant_tokens = 3, c.assistant_confidence_threshold = 0;
  // χ² of the second token, given the most frequent first one, against the filtered softmax.
  std::map<std::int32_t, std::map<std::int32_t, int>> counts;
  for (int i = 0; i < 4000; i++) {
    c.seed = std::uint64_t(i);
    const auto ids = peft::generate_ids_assisted(model(), draft, {prompts()[0]}, c).at(0).ids;
    counts[ids[0]][ids[1]]++;
  }
  const auto total = [](const auto& of) { return std::accumulate(of.begin(), of.end(), 0, [](int n, const auto& x) { return n + x.second; }); };
  auto most = counts.begin();
  for (auto it = counts.begin(); it != counts.end(); ++it)
    if (total(it->second) > total(most->second)) most = it;
  std::vector<std::int32_t> ids = prompts()[0];
  ids.push_back(most->first);
  auto logits = tiny::all_logits(model(), ids);
  const std::span<float> row(logits.view().row(logits.rows() - 1), std::size_t(logits.cols()));
  peft::logits::temperature<float>(row, 0.7), peft::logits::top_k<float>(row, 4);
  const int n = total(most->second);
  REQUIRE(n > 500);
  double chi2 = 0;
  for (std::size_t i = 0; i < row.size(); i++) {
    const double expected = std::isinf(row[i]) ? 0 : n * std::exp(peft::log_probability<float>(row, std::int32_t(i)));
    const auto found = most->second.find(std::int32_t(i));
    const double seen = found == most->second.end() ? 0 : found->second;
    if (expected == 0) {
      CHECK(seen == 0);
      continue;
    }
    chi2 += (seen - expected) * (seen - expected) / expected;
  }
  CHECK(chi2 < 16.3);  // 3 degrees of freedom: one run in a thousand would be beyond
}

TEST_CASE("look_up proposes what followed the longest n-gram", "[generate]") {
  const std::vector<std::int32_t> ids = {1, 2, 3, 4, 9, 2, 3, 5, 7, 2, 3};
  CHECK(peft::detail::look_up(ids, 3, 2) == std::vector<std::int32_t>{4, 9, 2});
  CHECK(peft::detail::look_up(ids, 100, 1) == std::vector<std::int32_t>{4, 9, 2, 3, 5, 7, 2, 3});
  CHECK(peft::detail::look_up(ids, 3, 3) == std::vector<std::int32_t>{4, 9, 2});
  CHECK(peft::detail::look_up(std::vector<std::int32_t>{1, 2, 3}, 3, 2).empty());
  CHECK(peft::detail::look_up(std::vector<std::int32_t>{1, 1}, 3, 2) == std::vector<std::int32_t>{1});
}

TEST_CASE("contrastive search maximises (1 - α) p - α cos at every step", "[generate]") {
  GenerationConfig c = endless(6);
  c.penalty_alpha = 0.6, c.top_k = 4;
  const auto& m = model();
  const auto hidden_of = [&](const std::vector<std::int32_t>& ids) {
    const auto length = std::int64_t(ids.size());
    peft::Pass<float> pass;
    pass.sequences = peft::Sequences::of_lengths(std::span(&length, 1));
    const peft::PassScope<float> scope(pass);
    return m.hidden_states(ids).value();
  };
  const auto cosine = [](const float* a, const float* b, std::int64_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (std::int64_t i = 0; i < n; i++) ab += double(a[i]) * double(b[i]), aa += double(a[i]) * double(a[i]), bb += double(b[i]) * double(b[i]);
    return ab / std::sqrt(aa * bb);
  };
  for (const auto& prompt : prompts()) {
    const auto found = peft::generate_ids(m, {prompt}, c).at(0).ids;
    std::vector<std::int32_t> ids = prompt;
    for (std::int32_t id : found) {
      const auto logits = tiny::all_logits(m, ids);
      const std::span<const float> row(logits.view().row(logits.rows() - 1), std::size_t(logits.cols()));
      std::int32_t best = -1;
      double best_score = -10;
      for (const auto& candidate : peft::top_log_probabilities<float>(row, 4)) {
        std::vector<std::int32_t> longer = ids;
        longer.push_back(candidate.first);
        const auto hidden = hidden_of(longer);
        double largest = -1;
        for (std::int64_t r = 0; r + 1 < hidden.rows(); r++)
          largest = std::max(largest, cosine(hidden.view().row(r), hidden.view().row(hidden.rows() - 1), hidden.cols()));
        const double score = 0.4 * std::exp(candidate.second) - 0.6 * largest;
        if (score > best_score) best_score = score, best = candidate.first;
      }
      REQUIRE(id == best);
      ids.push_back(id);
    }
  }
}

TEST_CASE("stop strings end a beam as they end any text", "[generate]") {
  const auto m = tiny::parrot(tiny::ids_of({"a", "b", "Ġst", "op", "c", "d"}));
  const peft::Tokenizer tokenizer = tiny::tokenizer();
  for (const std::int64_t beams : {1, 3}) {
    const auto g = peft::complete(m, tokenizer, "a", {.max_new_tokens = 6, .num_beams = beams, .stop = {" stop", "xyz"}, .prompt_template = "plain"});
    CHECK(g.text == "b");
    CHECK(g.finish_reason == FinishReason::stop);
    CHECK(g.ids == tiny::ids_of({"b", "Ġst", "op"}));
  }
}
