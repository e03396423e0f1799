// SPDX-License-Identifier: Apache-2.0
#include "train_run.hpp"

#include <peft/optim/optim.hpp>

#include <cmath>

namespace parity {

namespace {
// A tensor at two sites stands in the golden file under one of its names.
template <class P>
bool has_other_name(peft::PeftModel<peft::Transformer<float>>& tuned, const std::string& name, const P& parameter, const peft::SafetensorsFile& golden) {
  bool found = false;
  tuned.for_each_adapter_tensor("golden", [&](const std::string& other, const auto& p) {
    found = found || (other != name && p.identity() == parameter.identity() && golden.find("after." + other));
  });
  return found;
}
}  // namespace

void check_training(Report& report, const std::string& name, const peft::SafetensorsFile& golden, const GoldenBatch& batch,
                    peft::PeftModel<peft::Transformer<float>>& tuned, const GoldenName& golden_name) {
  if (!golden.find("train.losses")) return;
  std::vector<double> losses;
  const auto train = [&] {
    if (!losses.empty()) return;
    std::vector<peft::Trainable<float>> trainables;
    tuned.for_each_adapter_parameter("golden", [&](const std::string& path, const auto& parameter) {
      if (parameter.requires_grad()) trainables.push_back({path, parameter});
    });
    trainables = peft::unique_trainables(std::move(trainables));
    peft::AdamW<float> optimizer(trainables, {.weight_decay = 0.01});
    for (int step = 0; step < 10; step++) {
      peft::Tape tape;
      const auto run = begin_run(tuned, batch);
      const auto loss = loss_of(tuned, *run);
      losses.push_back(loss.value()[0]);
      tape.backward(loss);
      optimizer.step(1e-2);
      peft::zero_grad(trainables);
    }
    losses.push_back(run_loss(tuned, batch)[0]);
  };
  // A file whose values "after" training are those before it, to the bit, says nothing of training (its generator kept references and put the
  // initial values back); the logits after training do.
  bool moved = false;
  tuned.for_each_adapter_tensor("golden", [&](const std::string& file_name, const auto& parameter) {
    if (const std::string after = "after." + golden_name(file_name); golden.find(after))
      moved = moved || compare(parameter.value(), golden.read<float>(after), 0, 0).max_abs > 0;
  });
  report.check(name + "/train.losses", [&] {
    train();
    const auto wanted = golden.read<double>("train.losses");
    Difference d;
    if (wanted.size() != std::int64_t(losses.size()))
      d.fail(std::to_string(wanted.size()) + " losses in the golden file, ten steps were made");
    else
      for (std::size_t i = 0; i < losses.size(); i++) d.add(losses[i], wanted[std::int64_t(i)], 0, i == 0 ? 1e-5 : 1e-3);
    return d;
  });
  // A gradient near zero may turn a rounding error into a different sign, and AdamW then steps the other way: few entries may be off.
  if (moved)
    report.check(name + "/after", [&] {
      train();
      Difference all;
      std::int64_t off = 0, count = 0;
      tuned.for_each_adapter_tensor("golden", [&](const std::string& file_name, const auto& parameter) {
        const std::string wanted_name = "after." + golden_name(file_name);
        if (!parameter.requires_grad()) return;
        if (!golden.find(wanted_name)) {
          if (!has_other_name(tuned, file_name, parameter, golden)) all.fail("no golden values for " + file_name);
          return;
        }
        const auto wanted = golden.read<float>(wanted_name);
        for (std::int64_t i = 0; i < wanted.size(); i++) {
          const double difference = std::abs(double(parameter.value()[i]) - double(wanted[i]));
          all.max_abs = std::max(all.max_abs, difference);
          count++, off += difference > 2e-3;
        }
      });
      if (double(off) > 0.001 * double(count)) all.fail(std::to_string(off) + " of " + std::to_string(count) + " entries are more than 2e-3 off");
      return all;
    });
  if (golden.find("after_training.logits"))
    report.check(name + "/after_training.logits", [&] {
      train();
      const auto found = run_logits(tuned, batch);
      const std::int64_t front = (found.rows() - std::int64_t(batch.places.size())) / batch.rows;
      return compare_rows(with_virtual_tokens(batch, front), found, golden.read<float>("after_training.logits"), 1e-2, 1e-3);
    });
}

}  // namespace parity
