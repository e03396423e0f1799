// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/ops/update.hpp"
#include "peft/optim/optimizer.hpp"

namespace peft {

struct AdamWConfig {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double weight_decay = 0.01;
  bool as_transformers = false;  // ε beside √v instead of √v̂, and decay behind the step: the AdamW that transformers had
};

/// AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101), with PyTorch's semantics: weights decay by lr · weight_decay before the step, both
/// moments are corrected for their start; or with those that transformers' AdamW had. A parameter without a gradient is passed over. State exists for what
/// trains alone.
template <Scalar T>
class AdamW {
 public:
  AdamW(std::vector<Trainable<T>> trainables, AdamWConfig config = {}) : trainables_(unique_trainables(std::move(trainables))), config_(config) {
    if (!(config.beta1 >= 0 && config.beta1 < 1 && config.beta2 >= 0 && config.beta2 < 1))
      throw ConfigError("adamw", "betas are " + std::to_string(config.beta1) + ", " + std::to_string(config.beta2) + "; allowed is 0 ≤ β < 1");
    if (!(config.eps >= 0) || !(config.weight_decay >= 0)) throw ConfigError("adamw", "eps and weight_decay must not be negative");
    for (const auto& t : trainables_) states_.push_back({Tensor<T>::zeros(t.parameter.shape()), Tensor<T>::zeros(t.parameter.shape())});
  }
  void step(double lr) {
    steps_++;
    ops::AdamwStep s;
    s.beta1 = config_.beta1, s.beta2 = config_.beta2, s.eps = config_.eps;
    s.root_bias2 = std::sqrt(1 - std::pow(config_.beta2, double(steps_)));
    std::vector<ops::AdamwTensor<T>, PoolAllocator<ops::AdamwTensor<T>>> all;
    all.reserve(trainables_.size());
    for (std::size_t i = 0; i < trainables_.size(); i++) {
      const Trainable<T>& t = trainables_[i];
      const Tensor<T> g = t.parameter.grad();
      if (!g) continue;
      const double rate = lr * t.lr_scale;
      s.step_size = rate / (1 - std::pow(config_.beta1, double(steps_))), s.decay = 1 - rate * config_.weight_decay * t.decay_scale;
      // √v/√(1 − β₂^t) + ε/√(1 − β₂^t) is √v + ε as a factor, and (p − d) · decay = decay · p − decay · d.
      if (config_.as_transformers) s.eps = config_.eps / s.root_bias2, s.step_size *= s.decay;
      all.push_back({t.parameter.value().view(), states_[i].m.view(), states_[i].v.view(), g.view(), s});
    }
    ops::adamw_update<T>(all);
    for (const auto& t : trainables_)
      if (t.parameter.grad()) t.parameter.touch();
  }
  const std::vector<Trainable<T>>& trainables() const { return trainables_; }
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }
  /// f(name, tensor) for both moments of every parameter: what a resumed run needs.
  template <class F>
  void for_each_state(F f) {
    for (std::size_t i = 0; i < trainables_.size(); i++)
      f(trainables_[i].name + ".exp_avg", states_[i].m), f(trainables_[i].name + ".exp_avg_sq", states_[i].v);
  }

 private:
  struct State {
    Tensor<T> m, v;  // first and second moment
  };
  std::vector<Trainable<T>> trainables_;
  std::vector<State> states_;
  AdamWConfig config_;
  std::int64_t steps_ = 0;
};

}  // namespace peft
