// SPDX-License-Identifier: Apache-2.0
// The loss of a batch: what is predicted, what counts, what it is divided by.
#include "peft/train/objective.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "support/gradients.hpp"
#include "support/is_near.hpp"
#include "train/tiny_task.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
// −log softmax(logits of row i)[the next token], summed over next tokens that have a label; how many these are.
std::pair<double, int> by_hand(const Transformer<double>& model, const Dataset& data) {
  double sum = 0;
  int count = 0;
  for (const Example& e : data) {
    const Pass<double> pass = pass_over<double>({std::int64_t(e.input_ids.size())});
    const PassScope<double> scope(pass);
    const Tensor<double> logits = model.lm_head(model.hidden_states(e.input_ids)).value();
    for (std::int64_t i = 0; i + 1 < logits.rows(); i++) {
      const std::int32_t label = e.labels[std::size_t(i + 1)];
      if (label == ignore_index) continue;
      double total = 0;
      for (std::int64_t c = 0; c < logits.cols(); c++) total += std::exp(logits(i, c));
      sum += std::log(total) - logits(i, label), count++;
    }
  }
  return {sum, count};
}
std::vector<std::size_t> all_of(const Dataset& data) {
  std::vector<std::size_t> all(data.size());
  for (std::size_t i = 0; i < all.size(); i++) all[i] = i;
  return all;
}
}  // namespace

TEST_CASE("a row predicts the label behind it, and never across sequences", "[train]") {
  const int none = ignore_index;
  const Dataset data({{{1, 2, 3}, {1, 2, 3}}, {{4}, {4}}, {{5, 6, 7, 8}, {none, none, 7, 8}}});
  const std::vector<std::size_t> indices = {2, 0, 1};
  const Batch batch = collate(data, indices);
  const BatchRows rows = rows_of(batch);
  CHECK(std::vector<int>(rows.targets.begin(), rows.targets.end()) == std::vector<int>{none, 7, 8, none, 2, 3, none, none});
  CHECK(rows.input_ids == batch.input_ids);
  CHECK(batch.num_shifted_labels == 4);
  const auto sequences = rows.sequences;
  REQUIRE(sequences->size() == 3);
  CHECK((*sequences)[0].id == 2);  // named by the dataset, wherever it is packed
  CHECK((*sequences)[2].id == 1);
  CHECK((*sequences)[1].begin == 4);
  CHECK((*sequences)[2].end == 8);
}

TEST_CASE("what all sequences begin with is computed once, for the same loss and gradients", "[train]") {
  const int none = ignore_index;
  const auto example = [&](std::vector<std::int32_t> ids, std::size_t prompt) {
    Example e{ids, ids};
    std::fill_n(e.labels.begin(), prompt, none);
    return e;
  };
  const Dataset data({example({1, 2, 3, 4, 5, 6, 7}, 6), example({1, 2, 3, 4, 5, 9, 8, 7}, 6), example({1, 2, 3, 4, 5, 6, 2}, 6)});
  const Batch batch = collate(data, all_of(data));
  CHECK(shared_beginning(batch) == 5);
  const BatchRows rows = rows_of(batch);
  CHECK(rows.input_ids == std::vector<std::int32_t>{1, 2, 3, 4, 5, 6, 7, 9, 8, 7, 6, 2});
  CHECK(std::vector<int>(rows.targets.begin(), rows.targets.end()) == std::vector<int>{none, none, none, none, none, 7, none, 8, 7, none, 2, none});
  const Ids& positions = *rows.sequences->positions();
  CHECK(std::vector<int>(positions.begin(), positions.end()) == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 5, 6, 7, 5, 6});

  SECTION("what predicts a label, and a last row, stay with their sequence") {
    const auto shared = [](const Dataset& d) { return shared_beginning(collate(d, all_of(d))); };
    CHECK(shared(Dataset({example({1, 2, 3, 4, 5, 6, 7}, 5), example({1, 2, 3, 4, 5, 6, 8}, 6)})) == 4);
    CHECK(shared(Dataset({example({1, 2, 3, 4, 5, 6, 7}, 7), example({1, 2, 3, 4, 5, 6, 7}, 7)})) == 6);
    CHECK(shared(Dataset({example({1, 2, 3, 4, 5, 6, 7}, 2), example({1, 2, 3, 4, 5, 6, 8}, 6)})) == 0);  // too few to be worth it
    CHECK(shared(Dataset({example({1, 2, 3, 4, 5, 6, 7}, 6), example({2, 2, 3, 4, 5, 6, 8}, 6)})) == 0);
    CHECK(shared(Dataset({example({1, 2, 3, 4, 5, 6, 7}, 6)})) == 0);
  }
  SECTION("the model cannot tell") {
    auto model = tiny_transformer<double>();
    for_each_parameter(model, [](const std::string&, auto& parameter) { parameter.set_requires_grad(true); });
    const auto run = [&](bool share, bool checkpointing) {
      Tape tape;
      const auto loss = lm_loss(model, batch, 0, {.training = true, .checkpointing = checkpointing, .share_beginning = share});
      tape.backward(loss);
      std::vector<Tensor<double>> gradients;
      for_each_parameter(model, [&](const std::string&, auto& parameter) { gradients.push_back(parameter.gradient().take()); });
      return std::pair(loss.value()[0], gradients);
    };
    const auto [loss, gradients] = run(false, false);
    for (const bool checkpointing : {false, true}) {
      const auto [shared_loss, shared_gradients] = run(true, checkpointing);
      CHECK(shared_loss == Approx(loss).epsilon(1e-13));
      for (std::size_t i = 0; i < gradients.size(); i++) CHECK_THAT(array(shared_gradients[i]), is_near<double>(array(gradients[i])));
    }
    CHECK(evaluate(model, data).loss == Approx(loss).epsilon(1e-13));
  }
}

TEST_CASE("a model that fills blanks shares no beginning, and its frozen layers are remembered with their blanks", "[train]") {
  auto model = tiny_transformer<double>();
  model.config.blank_tokens = BlankTokens{.start = 9, .gmask = 8, .mask = 7};
  const auto rotary = std::make_shared<Rotary<double>>(rope_frequencies({.two_dimensional = true}, 2), 2, false);
  for (auto& block : model.layers) block.self_attn.rotary = rotary;
  const int none = ignore_index;
  const Dataset data({{{1, 2, 3, 4, 5, 8, 9, 6}, {none, none, none, none, none, none, 9, 6}},
                      {{1, 2, 3, 4, 5, 6, 8, 9, 2, 3}, {none, none, none, none, none, none, none, none, 2, 3}}});
  const auto [sum, count] = by_hand(model, data);
  const Batch batch = collate(data, all_of(data));
  CHECK(lm_loss(model, batch).value()[0] == Approx(sum / count).epsilon(1e-12));
  FrozenStates<double> frozen(1, data.size());
  for (int i = 0; i < 2; i++) CHECK(lm_loss(model, batch, 0, {}, &frozen).value()[0] == Approx(sum / count).epsilon(1e-12));
}

TEST_CASE("the loss is the mean over labelled tokens, whoever they belong to", "[train]") {
  const auto model = tiny_transformer<double>();
  for (const std::size_t prompt : {1u, 0u, 3u}) {  // 0: the first label has nothing before it to predict it from
    const Dataset data = tiny_task(7, prompt);
    const auto [sum, count] = by_hand(model, data);
    const Batch batch = collate(data, all_of(data));
    CHECK(batch.num_shifted_labels == count);
    CHECK(lm_loss(model, batch).value()[0] == Approx(sum / count).epsilon(1e-12));
    CHECK(lm_loss(model, batch, 1).value()[0] == Approx(sum).epsilon(1e-12));
  }
}

TEST_CASE("what has no label changes nothing but the context", "[train]") {
  auto model = tiny_transformer<double>();
  model.layers[0].mlp.up_proj.weight.set_requires_grad(true);
  const auto gradient = [&](const Dataset& data) {
    Tape tape;
    const auto loss = lm_loss(model, collate(data, all_of(data)));
    tape.backward(loss);
    return std::pair(loss.value()[0], model.layers[0].mlp.up_proj.weight.gradient().take());
  };
  // Tokens behind the answer, without labels: a causal model's loss cannot see them.
  const Example answer{{1, 4, 2, 7}, {ignore_index, ignore_index, 2, 7}},
      longer{{1, 4, 2, 7, 9, 9}, {ignore_index, ignore_index, 2, 7, ignore_index, ignore_index}};
  const auto [loss, g] = gradient(Dataset({answer}));
  const auto [same_loss, same_g] = gradient(Dataset({longer}));
  CHECK(same_loss == loss);
  CHECK_THAT(array(same_g), is_near<double>(array(g)));
  // A sequence without labels beside it neither.
  const auto [third_loss, third_g] = gradient(Dataset({answer, {{5, 6, 7}, {ignore_index, ignore_index, ignore_index}}}));
  CHECK(third_loss == loss);
  CHECK_THAT(array(third_g), is_near<double>(array(g)));
  // The prompt is context: another one is another loss.
  CHECK(gradient(Dataset({{{3, 4, 2, 7}, {ignore_index, ignore_index, 2, 7}}})).first != loss);
  // A label more is another loss.
  CHECK(gradient(Dataset({{{1, 4, 2, 7}, {ignore_index, 4, 2, 7}}})).first != loss);
}

TEST_CASE("parts with one denominator add up to the whole batch", "[train]") {
  const TunedTiny<double> t;
  for (const auto& p : t.parameters()) p.assign(normal(p.shape(), std::uint64_t(p.size())));  // B is zero at first, and A without a gradient
  const Dataset data = tiny_task(6);
  const auto gradients = [&](const std::vector<std::vector<std::size_t>>& parts, bool mean_of_means) {
    const double labels = double(collate(data, all_of(data)).num_shifted_labels);
    for (const auto& part : parts) {
      Tape tape;
      const Batch batch = collate(data, part);
      const double denominator = mean_of_means ? double(batch.num_shifted_labels) * double(parts.size()) : labels;
      tape.backward(lm_loss(t.tuned, batch, denominator));
    }
    std::vector<Array> all;
    for (const auto& p : t.parameters()) all.push_back(array(p.gradient().take()));
    return all;
  };
  const auto whole = gradients({{0, 1, 2, 3, 4, 5}}, false), parts = gradients({{0, 1}, {2}, {3, 4, 5}}, false),
             wrong = gradients({{0, 1}, {2}, {3, 4, 5}}, true);
  for (std::size_t i = 0; i < whole.size(); i++) {
    CHECK_THAT(parts[i], is_near<double>(whole[i], 10));
    CHECK_THAT(wrong[i], !is_near<double>(whole[i], 1e11));  // 1e-3: the mean of means is something else
  }
}

TEST_CASE("a batch in parts gives the gradients of the whole, dropout included", "[train]") {
  const TunedTiny<double> t(0.3);
  for (const auto& p : t.parameters()) p.assign(normal(p.shape(), std::uint64_t(p.size())));
  const Batch batch = collate(tiny_task(6), all_of(tiny_task(6)));
  const auto gradients = [&](std::int64_t tokens) {
    const double loss = accumulate_gradients(t.tuned, batch, double(batch.num_shifted_labels), {.training = true, .share_beginning = false, .seed = 4}, tokens);
    std::vector<Array> all;
    for (const auto& p : t.parameters()) all.push_back(array(p.gradient().take()));
    return std::pair(loss, all);
  };
  const auto [whole_loss, whole] = gradients(0);
  for (const std::int64_t tokens : {20, 10, 1}) {
    const auto [loss, parts] = gradients(tokens);
    CHECK(loss == Approx(whole_loss).epsilon(1e-13));
    for (std::size_t i = 0; i < whole.size(); i++) CHECK_THAT(parts[i], is_near<double>(whole[i], 10));
  }
}

TEST_CASE("evaluation is the mean over all labelled tokens, however they are batched", "[train]") {
  TunedTiny<double> t(0.5);
  const Dataset data = tiny_task(9);
  const auto [sum, count] = by_hand(t.base, data);  // the adapter is fresh
  for (const std::int64_t tokens : {1, 10, 25, 10000}) {
    Tape tape;
    const Evaluation e = evaluate(t.tuned, data, tokens);
    CHECK(tape.nodes() == 0);
    CHECK(e.tokens == count);
    CHECK(e.loss == Approx(sum / count).epsilon(1e-12));
    CHECK(e.perplexity() == Approx(std::exp(sum / count)));
  }
  // Nothing is dropped: twice is the same, though the adapter has dropout.
  for (const auto& p : t.parameters()) p.assign(normal(p.shape(), std::uint64_t(p.size())));
  CHECK(evaluate(t.tuned, data).loss == evaluate(t.tuned, data).loss);
  const Evaluation nothing = evaluate(t.base, Dataset({{{5}, {5}}}));
  CHECK(nothing.tokens == 0);
  CHECK(nothing.loss == 0);
  // One broken weight, and there is no number to give.
  t.parameters()[0].value().data()[0] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(evaluate(t.tuned, data), Catch::Contains("[evaluate] the loss is not finite"));
}

TEST_CASE("a masked language model predicts each label in its own place", "[train]") {
  const int none = ignore_index;
  auto model = tiny_transformer<double>();
  model.config.head.task = TaskType::masked_lm;
  for (auto& layer : model.layers) layer.self_attn.core.shape.causal = false;
  model.config.attention.causal = false;
  const Dataset data({{{1, 2, 3}, {4, none, 5}}, {{4, 2}, {none, 6}}});
  const Batch batch = collate(data, all_of(data));
  CHECK(num_targets(model, batch) == 3);
  double sum = 0;
  for (const Example& e : data) {
    const Pass<double> pass = pass_over<double>({std::int64_t(e.input_ids.size())});
    const PassScope<double> scope(pass);
    const Tensor<double> logits = model.lm_head(model.hidden_states(e.input_ids)).value();
    for (std::int64_t i = 0; i < logits.rows(); i++) {
      if (e.labels[std::size_t(i)] == none) continue;
      double total = 0;
      for (std::int64_t c = 0; c < logits.cols(); c++) total += std::exp(logits(i, c));
      sum += std::log(total) - logits(i, e.labels[std::size_t(i)]);
    }
  }
  CHECK(lm_loss(model, batch).value()[0] == Approx(sum / 3).epsilon(1e-12));
  CHECK(evaluate(model, data).loss == Approx(sum / 3).epsilon(1e-12));
  CHECK(evaluate(model, data).tokens == 3);
}
