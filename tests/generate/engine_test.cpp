// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <set>

#include "generate/tiny.hpp"
#include "peft/adapters/lora/lora.hpp"
#include "peft/generate/generate.hpp"
#include "support/threads.hpp"

namespace {

using peft::FinishReason;
using peft::GenerationConfig;
using Prompts = std::vector<std::vector<std::int32_t>>;

const Prompts& prompts() {
  static const Prompts all = {{5, 9, 13}, {4}, {20, 21, 22, 23, 24, 25, 20, 21}, {30, 2, 2, 7, 11}};
  return all;
}
const peft::Transformer<float>& model() {
  static const peft::Transformer<float> made = tiny::random_model();
  return made;
}
std::vector<std::vector<std::int32_t>> ids_of(const std::vector<peft::Generation>& all) {
  std::vector<std::vector<std::int32_t>> ids;
  for (const auto& g : all) ids.push_back(g.ids);
  return ids;
}
GenerationConfig endless(std::int64_t tokens) {
  GenerationConfig c;
  c.max_new_tokens = tokens, c.eos_token_ids = std::vector<std::int32_t>{};
  return c;
}
/// Σ log p of an answer, from one forward without a cache.
double log_probability_of(const std::vector<std::int32_t>& prompt, const std::vector<std::int32_t>& answer) {
  std::vector<std::int32_t> ids = prompt;
  ids.insert(ids.end(), answer.begin(), answer.end());
  const auto logits = tiny::all_logits(model(), ids);
  double sum = 0;
  for (std::size_t i = 0; i < answer.size(); i++) {
    const std::span<const float> row(logits.view().row(std::int64_t(prompt.size() + i) - 1), std::size_t(logits.cols()));
    sum += peft::log_probability<float>(row, answer[i]);
  }
  return sum;
}

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
  for (std::int32_t id : peft::generate_ids(model(), {prompts()[2]}, c).at(0).ids)
    CHECK(std::find(prompts()[2].begin(), prompts()[2].end(), id) == prompts()[2].end());
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
