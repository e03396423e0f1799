// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/ops/update.hpp"
#include "peft/optim/optimizer.hpp"

namespace peft {

struct SgdConfig {
  double momentum = 0, weight_decay = 0;
};

/// p ← p − lr · (g + weight_decay · p), with momentum as in PyTorch.
template <Scalar T>
class Sgd {
 public:
  Sgd(std::vector<Trainable<T>> trainables, SgdConfig config = {}) : trainables_(unique_trainables(std::move(trainables))), config_(config) {
    if (!(config.momentum >= 0 && config.momentum < 1))
      throw ConfigError("sgd", "momentum is " + std::to_string(config.momentum) + "; allowed is 0 ≤ momentum < 1");
    if (!(config.weight_decay >= 0)) throw ConfigError("sgd", "weight_decay must not be negative");
    for (const auto& t : trainables_) buffers_.push_back(config.momentum > 0 ? Tensor<T>::zeros(t.parameter.shape()) : Tensor<T>());
  }
  void step(double lr) {
    steps_++;
    for (std::size_t i = 0; i < trainables_.size(); i++) {
      const Trainable<T>& t = trainables_[i];
      if (t.parameter.gradient().empty()) continue;
      const double decay = config_.weight_decay * t.decay_scale;
      if (decay > 0) ops::axpy<T>(t.parameter.gradient().sink().view, T(decay), t.parameter.value().view());
      ops::sgd_update<T>(t.parameter.value().view(), buffers_[i] ? buffers_[i].view() : View<T>(), t.parameter.grad().view(), lr * t.lr_scale, config_.momentum,
                         1);
      t.parameter.touch();
    }
  }
  const std::vector<Trainable<T>>& trainables() const { return trainables_; }
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }
  template <class F>
  void for_each_state(F f) {
    for (std::size_t i = 0; i < trainables_.size(); i++)
      if (buffers_[i]) f(trainables_[i].name + ".momentum", buffers_[i]);
  }

 private:
  std::vector<Trainable<T>> trainables_;
  std::int64_t steps_ = 0;
  std::vector<Tensor<T>> buffers_;
  SgdConfig config_;
};

}  // namespace peft
