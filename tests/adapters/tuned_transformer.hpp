// SPDX-License-Identifier: Apache-2.0
// Adapters on a transformer small enough for differences: what it reads, its loss, its gradients.
#pragma once

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "peft/adapters/peft_model.hpp"
#include "peft/adapters/registry.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"
#include "support/tiny_encoder_decoder.hpp"

namespace peft::testing {

using TunedDouble = PeftModel<Transformer<double>>;

struct Fed {
  std::vector<std::int32_t> ids, targets;
  std::shared_ptr<const Sequences> sequences;
};
inline std::shared_ptr<const Sequences> sequences_of(const std::vector<std::int64_t>& sizes, const std::vector<int>& tasks) {
  std::vector<Sequence, PoolAllocator<Sequence>> all;
  std::int64_t n = 0;
  for (std::size_t i = 0; i < sizes.size(); i++) {
    Sequence s;
    s.begin = n, s.end = n += sizes[i], s.id = i, s.task = tasks.empty() ? 0 : tasks[i];
    all.push_back(s);
  }
  return std::make_shared<Sequences>(std::move(all));
}
inline Fed fed_to(const TunedDouble& tuned, const std::vector<std::int64_t>& sizes, Pass<double>& pass, const std::vector<int>& tasks = {}) {
  const auto sequences = sequences_of(sizes, tasks);
  Fed fed{random_ids(sequences->rows(), 11), random_labels(sequences->rows(), 11), sequences};
  pass = tuned.pass();
  const FrontedRows rows = with_fronts(pass.fronts, *fed.sequences, fed.ids, fed.targets);
  pass.sequences = rows.sequences;
  return {rows.ids, {rows.targets.begin(), rows.targets.end()}, rows.sequences};
}
inline Variable<double> loss_of_tuned(const TunedDouble& tuned, const std::vector<int>& tasks = {}) {
  Pass<double> pass;
  const Fed fed = fed_to(tuned, {4, 3}, pass, tasks);
  if (!tuned.model().encoder_layers.empty()) tuned.model().encode(pass, sequences_of({2, 5}, tasks), random_ids(7, 11, 5));
  const PassScope<double> scope(pass);
  return tuned.model().loss(tuned.model().hidden_states(fed.ids), fed.targets);
}
inline std::vector<Parameter<double>> parameters_of(const TunedDouble& tuned) {
  std::vector<Parameter<double>> all;
  tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<double>& p) {
    const bool seen = std::ranges::any_of(all, [&](const auto& other) { return other.identity() == p.identity(); });  // one tensor at two sites
    if (p.requires_grad() && !seen) all.push_back(p);
  });
  return all;
}
template <class Config>
void check_gradients_on(Transformer<double> base, const Config& config, const std::vector<int>& tasks = {}) {
  TunedDouble tuned{base};
  tuned.add_adapter("a", config, 5);
  const auto parameters = parameters_of(tuned);
  REQUIRE(!parameters.empty());
  for (const auto& p : parameters)  // what begins at a neutral value shows nothing
    for (std::int64_t i = 0; i < p.size(); i++) p.value()[i] += 0.1 * std::sin(double(i + 1));
  for (const auto& p : parameters) p.touch();
  CHECK(gradcheck([&](const Variables&) { return loss_of_tuned(tuned, tasks); }, {}, parameters));
}
template <class Config>
void check_gradients(const Config& config, const std::vector<int>& tasks = {}, const TinyShape& shape = {}) {
  check_gradients_on(tiny_transformer<double>(shape), config, tasks);
}
// Of sources and what is decoded from them, as they are, under the adapters' pass or under none of theirs.
inline Tensor<double> decoded(const Transformer<double>& model, Pass<double> pass, std::span<const std::int32_t> source,
                              std::span<const std::int32_t> targets) {
  pass.sequences = Sequences::of_lengths(std::vector<std::int64_t>{std::int64_t(targets.size())});
  model.encode(pass, Sequences::of_lengths(std::vector<std::int64_t>{std::int64_t(source.size())}), source);
  return hidden_states(model, targets, pass);
}

}  // namespace peft::testing
