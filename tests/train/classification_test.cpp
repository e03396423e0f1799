// SPDX-License-Identifier: Apache-2.0
#include "peft/train/classification.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "peft/adapters/head.hpp"
#include "peft/checkpoint/adapter_file.hpp"
#include "peft/checkpoint/load.hpp"
#include "peft/checkpoint/save.hpp"
#include "peft/data/labelled.hpp"
#include "peft/freeze/freeze.hpp"
#include "peft/io/json.hpp"
#include "peft/train/embed.hpp"
#include "support/is_near.hpp"
#include "support/tiny_bert_files.hpp"
#include "train/tiny_task.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

/// Sequences of words between [CLS] and [SEP], in two segments. Of class 1, words 4 … 11; of class 0, words 12 … 19.
Dataset which_half(std::size_t n, std::uint64_t seed = 1) {
  Random random(seed);
  std::vector<Example> examples(n);
  for (Example& e : examples) {
    e.input_ids = {2};
    const std::size_t length = 2 + std::size_t(random.below(6));
    const bool low = random.below(2) == 1;
    for (std::size_t i = 0; i < length; i++) e.input_ids.push_back((low ? 4 : 12) + std::int32_t(random.below(8)));
    e.targets = {low ? 1.0f : 0.0f};
    e.input_ids.push_back(3);
    e.labels.assign(e.input_ids.size(), ignore_index);
    e.token_types.assign(e.input_ids.size(), 0);
    e.token_types.back() = 1;
  }
  return Dataset(std::move(examples));
}
/// Each word has its own class: its number modulo 3.
Dataset thirds(std::size_t n) {
  const Dataset rows = which_half(n);
  std::vector<Example> examples(rows.begin(), rows.end());
  for (Example& e : examples) {
    e.targets.clear();
    for (std::size_t i = 1; i + 1 < e.labels.size(); i++) e.labels[i] = e.input_ids[i] % 3;
  }
  return Dataset(std::move(examples));
}
/// Rows with these numbers to give, `columns` each.
Dataset with_numbers(std::size_t n, std::size_t columns, bool zero_or_one) {
  const Dataset rows = which_half(n);
  std::vector<Example> examples(rows.begin(), rows.end());
  Random random(5);
  for (Example& e : examples) {
    e.targets.resize(columns);
    for (float& target : e.targets) target = zero_or_one ? float(random.below(2)) : float(random.normal());
  }
  return Dataset(std::move(examples));
}
Batch whole(const Dataset& data) {
  std::vector<std::size_t> all(data.size());
  for (std::size_t i = 0; i < all.size(); i++) all[i] = i;
  return collate(data, all);
}

template <Scalar T = double>
Transformer<T> tiny_bert(const ModelTask& task, bool pooler = true) {
  const TemporaryFolder folder;
  write_tiny_bert(folder.path(), pooler);
  return load_model<T>(folder.path(), task);
}
ModelTask classes(std::vector<std::string> names, TaskType task = TaskType::seq_cls) {
  const auto n = std::int64_t(names.size());
  return {.task = task, .num_labels = n, .problem = ProblemType::single_label_classification, .seed = 3, .label_names = std::move(names)};
}
double log_probability(const Tensor<double>& logits, std::int64_t row, std::int64_t label) {
  double sum = 0;
  for (std::int64_t j = 0; j < logits.cols(); j++) sum += std::exp(logits(row, j));
  return logits(row, label) - std::log(sum);
}
std::set<std::string> tensor_names(const PeftModel<Transformer<float>>& model, const std::string& adapter) {
  std::set<std::string> names;
  model.for_each_adapter_tensor(adapter, [&](const std::string& name, const auto&) { names.insert(name); });
  return names;
}

}  // namespace

TEST_CASE("losses of heads are those of their formulas, in parts as in one", "[train]") {
  const auto check = [](const Transformer<double>& model, const Dataset& data, auto loss_of) {
    const Batch batch = whole(data);
    const std::vector<Tensor<double>> logits = predict(model, data, 20);
    double sum = 0;
    for (std::size_t i = 0; i < data.size(); i++) sum += loss_of(data[i], logits[i]);
    const auto n = double(num_targets(model, batch));
    CHECK(double(head_loss(model, batch).value()[0]) == Approx(sum / n).epsilon(1e-12));
    double parts = 0;
    for (const Batch& part : split(batch, 20)) parts += double(task_loss(model, part, n).value()[0]);
    CHECK(parts == Approx(sum / n).epsilon(1e-12));
    CHECK(evaluate(model, data, 20).loss == Approx(sum / n).epsilon(1e-12));
  };
  const auto classifier = tiny_bert(classes({"a", "b"}));
  check(classifier, which_half(9), [](const Example& e, const Tensor<double>& y) { return -log_probability(y, 0, std::int64_t(e.targets[0])); });
  check(tiny_bert(classes({"a", "b", "c"}, TaskType::token_cls)), thirds(9), [](const Example& e, const Tensor<double>& y) {
    double sum = 0;
    for (std::size_t i = 0; i < e.labels.size(); i++)
      if (e.labels[i] != ignore_index) sum -= log_probability(y, std::int64_t(i), e.labels[i]);
    return sum;
  });
  check(tiny_bert({.task = TaskType::seq_cls, .num_labels = 1, .problem = ProblemType::regression}), with_numbers(9, 1, false),
        [](const Example& e, const Tensor<double>& y) { return (y[0] - e.targets[0]) * (y[0] - e.targets[0]); });
  check(tiny_bert({.task = TaskType::seq_cls, .num_labels = 3, .problem = ProblemType::multi_label_classification}), with_numbers(9, 3, true),
        [](const Example& e, const Tensor<double>& y) {
          double sum = 0;
          for (std::int64_t j = 0; j < 3; j++) sum += std::log1p(std::exp(e.targets[std::size_t(j)] > 0 ? -y[j] : y[j])) / 3;
          return sum;
        });

  // Segments count, and neighbours in the batch do not.
  const Dataset data = which_half(5);
  std::vector<Example> without(data.begin(), data.end());
  for (Example& e : without) e.token_types.clear();
  const auto together = predict(classifier, data), alone = predict(classifier, data, 1), no_types = predict(classifier, Dataset(without));
  for (std::size_t i = 0; i < data.size(); i++) {
    CHECK(same_bits(together[i], alone[i]));
    CHECK_FALSE(same_bits(together[i], no_types[i]));
  }
  CHECK(together[0].shape() == Shape{1, 2});

  CHECK_THROWS_WITH(head_loss(classifier, whole(thirds(2))), Catch::Contains("0 targets for 2 sequences"));
  CHECK_THROWS_WITH(head_loss(tiny_bert(classes({"only"})), whole(which_half(9))), Catch::Contains("this head has classes 0 to 0"));
  CHECK_THROWS_WITH(head_loss(tiny_bert({}), whole(data)), Catch::Contains("the task feature_extraction"));
}

TEST_CASE("a fresh head and an adapter learn to classify sequences, and come back from their files", "[train]") {
  const TemporaryFolder folder;
  const bool pooler = GENERATE(true, false);
  write_tiny_bert(folder.path() + "/base", pooler);
  auto base = load_model<float>(folder.path() + "/base", classes({"high", "low"}));
  PeftModel<Transformer<float>> tuned{base};
  tuned.add_adapter("a", with_head(LoraConfig{.r = 4, .lora_alpha = 8, .target_modules = {"query", "value"}}, base), 1);
  const Dataset data = which_half(64), unseen = which_half(64, 9);
  const Evaluation before = evaluate(tuned, unseen);
  CHECK(before.loss == Approx(std::log(2)).epsilon(0.15));
  Trainer{tuned, {.num_epochs = 25, .learning_rate = 1e-2, .batch_size = 16, .tokens_per_forward = 64, .output_dir = folder.path() + "/run"}}.fit(data);
  const Evaluation after = evaluate(tuned, unseen);
  CHECK(after.loss < 0.7 * before.loss);
  CHECK(after.scores->accuracy() > 0.8);
  CHECK(after.tokens == 64);

  const std::string out = folder.path() + "/a";
  save_adapter(tuned, "a", out);
  const Json config = Json::read(out + "/adapter_config.json"), labels = Json::read(out + "/labels.json");
  CHECK(config.at("task_type").string() == "SEQ_CLS");
  CHECK(config.at("modules_to_save").dump() == (pooler ? R"(["classifier", "score"])" : R"(["classifier", "score", "bert.pooler.dense"])"));
  CHECK(labels.dump() == R"({"id2label": {"0": "high", "1": "low"}, "label2id": {"high": 0, "low": 1}, "problem_type": "single_label_classification"})");
  const auto names = tensor_names(tuned, "a");
  CHECK(names.size() == 2 * 2 * 2 + (pooler ? 2u : 4u));
  CHECK(names.count("base_model.model.classifier.weight") == 1);
  CHECK(names.count("base_model.model.classifier.bias") == 1);
  CHECK(names.count("base_model.model.bert.pooler.dense.weight") == (pooler ? 0 : 1));

  const auto score = [&](const std::string& adapter) {
    const ModelTask task = adapter_task(adapter);
    CHECK(task.task == TaskType::seq_cls);
    CHECK(task.num_labels == 2);
    auto again = load_model<float>(folder.path() + "/base", task);
    PeftModel<Transformer<float>> loaded{again};
    load_adapter(loaded, "b", adapter);
    const auto wanted = predict(tuned, unseen), found = predict(loaded, unseen);
    for (std::size_t i = 0; i < wanted.size(); i++) CHECK(same_bits(found[i], wanted[i]));
    return again.config.head.label_name(1);
  };
  CHECK(score(out) == "low");
  std::filesystem::remove(out + "/labels.json");  // as PEFT leaves an adapter
  CHECK(score(out) == "LABEL_1");

  save_model(tuned.merge_and_unload(), folder.path() + "/merged");
  const auto merged = load_model<float>(folder.path() + "/merged");
  CHECK(merged.config.head.label_names == std::vector<std::string>{"high", "low"});
  const auto wanted = predict(tuned, unseen), found = predict(merged, unseen);
  for (std::size_t i = 0; i < wanted.size(); i++) CHECK_THAT(array(found[i]), is_near<float>(array(wanted[i]), 20));
}

TEST_CASE("words and numbers are learnt, decoders classify by their last token", "[train]") {
  const auto learnt = [](Transformer<float> base, const Dataset& data) {
    PeftModel<Transformer<float>> tuned{base};
    tuned.add_adapter("a", with_head(LoraConfig{.r = 8, .lora_alpha = 16, .target_modules = "all-linear"}, base), 1);
    Trainer{tuned, {.num_epochs = 60, .learning_rate = 1e-2, .batch_size = 16}}.fit(data);
    return *evaluate(tuned, data).scores;
  };
  const Scores words = learnt(tiny_bert<float>(classes({"a", "b", "c"}, TaskType::token_cls)), thirds(64));
  CHECK(words.accuracy() > 0.9);
  CHECK(words.total() == thirds(64).trained_tokens());
  const Dataset rows = which_half(64);
  std::vector<Example> numbers(rows.begin(), rows.end());
  for (Example& e : numbers) e.targets[0] = 3 * e.targets[0] - 1;
  CHECK(learnt(tiny_bert<float>({.task = TaskType::seq_cls, .num_labels = 1, .problem = ProblemType::regression}), Dataset(numbers)).pearson() > 0.9);

  Transformer<float> decoder = tiny_transformer<float>({.vocab = 20, .hidden = 16, .layers = 2, .heads = 2, .kv_heads = 1, .inner = 24});
  decoder.config.head = {.tied = false, .task = TaskType::seq_cls, .num_labels = 2, .pooling = Pooling::last};
  Random random(4);
  Tensor<float> score({2, 16});
  for (float& value : score.span()) value = float(0.02 * random.normal());
  decoder.lm_head = Linear<float>(Parameter<float>(score), {}, "score");
  CHECK(learnt(decoder, which_half(64)).accuracy() > 0.9);
}

TEST_CASE("layers below the first trained one are computed once for heads, too", "[train]") {
  const auto run = [](bool cache_frozen) {
    auto base = tiny_bert<float>(classes({"a", "b"}));
    PeftModel<Transformer<float>> tuned{base};
    tuned.add_adapter("a", with_head(LoraConfig{.r = 2, .target_modules = {"value"}, .layers_to_transform = {1}}, base), 1);
    return Trainer{tuned, {.num_epochs = 3, .learning_rate = 1e-2, .cache_frozen = cache_frozen}}.fit(which_half(20)).losses;
  };
  CHECK(run(true) == run(false));
}

TEST_CASE("scores are those of their formulas", "[train]") {
  Scores two(2);
  const std::vector<std::pair<int, int>> pairs = {{1, 1}, {1, 1}, {1, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 1}, {1, 1}};
  for (const auto& [wanted, given] : pairs) two.add(wanted, given);
  CHECK(two.accuracy() == 0.75);
  CHECK(two.f1() == 0.75);
  CHECK(two.matthews() == Approx((3.0 * 3 - 1 * 1) / std::sqrt(4.0 * 4 * 4 * 4)));  // (tp tn − fp fn) / √…
  Scores three(3);
  for (const auto& [wanted, given] : std::vector<std::pair<int, int>>{{0, 0}, {0, 1}, {1, 1}, {2, 2}, {2, 0}, {2, 2}}) three.add(wanted, given);
  CHECK(three.f1(0) == 0.5);
  CHECK(three.f1() == Approx((0.5 + 2.0 / 3 + 0.8) / 3));
  CHECK(three.matthews() == Approx(12 / std::sqrt(24.0 * 22)));  // (c s − Σ t p) / √…: c 4, s 6, t 2 1 3, p 2 2 2
  Scores constant(2);
  constant.add(1, 1);
  CHECK(constant.matthews() == 0);
  CHECK(constant.f1(0) == 0);
  Scores numbers(0);
  for (const auto& [wanted, given] : std::vector<std::pair<double, double>>{{1e8 + 1, 2}, {1e8 + 2, 3}, {1e8 + 3, 7}, {1e8 + 4, 6}})
    numbers.add_number(wanted, given);
  CHECK(numbers.pearson() == Approx(0.8677218312746245));  // numpy.corrcoef
  CHECK(numbers.named().size() == 1);
}

TEST_CASE("a text's vector is the mean of its hidden states", "[train]") {
  const auto model = tiny_bert({});
  const Tokenizer tokenizer = small::from_json(tiny_bert_tokenizer());
  const std::vector<std::string> texts = {"the film was good", "paris", "a plot"};
  const Tensor<double> vectors = embed(model, tokenizer, texts), plain = embed(model, tokenizer, texts, {.normalize = false}),
                       first = embed(model, tokenizer, texts, {.pooling = TextPooling::first, .normalize = false}),
                       last = embed(model, tokenizer, texts, {.pooling = TextPooling::last, .normalize = false});
  for (std::size_t i = 0; i < texts.size(); i++) {
    const auto ids = tokenizer.encode(texts[i]);
    const auto n = std::int64_t(ids.size());
    const Tensor<double> h = hidden_states(model, ids, pass_over<double>({n}));
    double length = 0;
    for (std::int64_t j = 0; j < h.cols(); j++) {
      double mean = 0;
      for (std::int64_t t = 0; t < n; t++) mean += h(t, j) / double(n);
      CHECK(plain(std::int64_t(i), j) == Approx(mean));
      CHECK(first(std::int64_t(i), j) == h(0, j));
      CHECK(last(std::int64_t(i), j) == h(n - 1, j));
      length += mean * mean;
    }
    for (std::int64_t j = 0; j < h.cols(); j++) CHECK(vectors(std::int64_t(i), j) * std::sqrt(length) == Approx(plain(std::int64_t(i), j)));
  }
  auto broken = tiny_bert({});
  broken.embed_tokens.weight = Parameter<double>(Tensor<double>({20, 16}, std::numeric_limits<double>::infinity()));
  CHECK_THROWS_WITH(embed(broken, tokenizer, texts), Catch::Contains("[embed] a vector is not finite"));
}
