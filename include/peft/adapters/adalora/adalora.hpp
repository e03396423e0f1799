// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <set>

#include "peft/adapters/adalora/config.hpp"
#include "peft/adapters/on_linear.hpp"

namespace peft {

/// AdaLoRA (Zhang et al. 2023, arXiv:2303.10512): a change in the form of a singular value decomposition, whose ranks move to where they matter.
///
///     x ── dropout ── A (r, in) ── ∘ E (r) ── B (out, r) ── · alpha / (r + 1e-5) ── + W x ── y
///
/// A penalty keeps A and B near orthogonal. From step tinit on the E of the least important triplets are set to 0, so that a budget that falls by a
/// cubic from init_r to target_r a module is kept. A file has the rows that are left.
template <Scalar T>
struct AdaLora {
  Parameter<T> A, E, B;  // (r, in), (r, 1), (out, r); all absent where no rank is left
  T scaling = 1;
  SiteDropout<T> drop;
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, Variable<T> y) const {
    if (E.size() == 0) return y;
    return add_product(std::move(y), matmul(drop(x), scale_rows(A.variable(), E.variable()), false, true), B.variable(), scaling);
  }
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    if (E.size() == 0) return;
    const NoGrad guard;
    add_to_weight(fused, scale(matmul(B.variable(), scale_rows(A.variable(), E.variable())), scaling));
  }
  static void describe(auto& self, auto&& visit) {
    visit("lora_A", self.A);
    visit("lora_E", self.E);
    visit("lora_B", self.B);
  }
};

/// Which triplets are important, and how many may be left.
template <Scalar T>
struct RankAllocator {
  AdaLoraConfig config;
  struct Triplets {
    std::string path;
    Parameter<T> A, E, B;
    // Of each entry of A, E and B: the smoothed sensitivity |w g|, and how uncertain it is. Made when the first step has been taken.
    Tensor<double> sensitivity[3], uncertainty[3];
    Tensor<double> kept = {};  // (r): 1, or 0 for a triplet that was given up
    bool keeps(std::int64_t k) const { return !kept || kept[k] != 0; }
    void begin() {
      if (kept) return;
      const Parameter<T>* of[3] = {&A, &E, &B};
      for (std::size_t which = 0; which < 3; which++)
        sensitivity[which] = Tensor<double>::zeros(of[which]->shape()), uncertainty[which] = Tensor<double>::zeros(of[which]->shape());
      kept = Tensor<double>({A.shape()[0]}, 1.0);
    }
  };
  std::vector<Triplets> sites = {};

  /// What a run that goes on must know.
  void for_each_state(auto f) {
    for (Triplets& t : sites) {
      t.begin();
      for (std::size_t which = 0; which < 3; which++) {
        const std::string name = t.path + ".lora_" + "AEB"[which];
        f(name + ".sensitivity", t.sensitivity[which]), f(name + ".uncertainty", t.uncertainty[which]);
      }
      f(t.path + ".kept", t.kept);
    }
  }
  /// True once triplets have been given up.
  bool allocated() const {
    return std::ranges::any_of(sites, [](const Triplets& t) { return t.kept && std::ranges::any_of(t.kept.span(), [](double k) { return k == 0; }); });
  }

  std::int64_t initial() const {
    std::int64_t n = 0;
    for (const Triplets& t : sites) n += t.A.shape()[0];
    return n;
  }
  /// The triplets that may be left behind `step`, and whether they are chosen anew there.
  std::pair<std::int64_t, bool> budget(std::int64_t step) const {
    const std::int64_t first = initial(), last = config.target_r * std::int64_t(sites.size());
    if (step <= config.tinit) return {first, false};
    if (step > config.total_step - config.tfinal) return {last, true};
    const double left = 1 - double(step - config.tinit) / double(config.total_step - config.tfinal - config.tinit);
    return {std::int64_t(double(first - last) * left * left * left + double(last)), step % config.deltaT == 0};
  }
  /// orth_reg_weight · the mean of ‖A Aᵀ − I‖ and ‖Bᵀ B − I‖
  Variable<T> penalty() const {
    Variable<T> sum;
    for (const Triplets& t : sites)
      for (const bool left : {true, false}) {
        const Variable<T> p = left ? t.A.variable() : t.B.variable();
        Variable<T> square = matmul(p, p, !left, left);
        Tensor<T> minus = Tensor<T>::zeros(square.shape());
        for (std::int64_t i = 0; i < minus.rows(); i++) minus(i, i) = -1;
        const Variable<T> norm = frobenius_norm(add(std::move(square), Variable<T>(std::move(minus))));
        sum = sum ? add(std::move(sum), norm) : norm;
      }
    return sum ? scale(sum, T(config.orth_reg_weight / double(2 * sites.size()))) : sum;
  }
  void begin_run(std::int64_t steps) {
    if (config.total_step > 0) return;
    AdaLoraConfig whole = config;
    whole.total_step = steps;
    validate(whole);
    config = whole;
  }
  /// Weights after the step meet gradients from before it, as in PEFT.
  void after_step(std::int64_t step) {
    if (sites.empty()) return;
    if (config.total_step < 1) throw ConfigError("AdaLoraConfig", "total_step is " + std::to_string(config.total_step) + "; set it to the steps of the run");
    const std::int64_t last = config.total_step - config.tfinal;
    if (step < last) observe();
    if (step < last ? budget(step).second : step == last) choose(budget(step).first);
    if (step > last) mask();
  }
  void to_file(std::any& any, AdapterTensors& tensors) const {
    auto* to = std::any_cast<AdaLoraConfig>(&any);
    if (!to) return;
    to->total_step = config.total_step;
    if (!allocated()) return;
    to->rank_pattern.clear();
    for (const Triplets& t : sites) {
      std::vector<bool> kept;
      for (std::int64_t k = 0; k < t.A.shape()[0]; k++) kept.push_back(t.keeps(k));
      to->rank_pattern.emplace_back(t.path + ".lora_E", kept);
      for (const char* name : {"lora_A", "lora_E", "lora_B"})
        if (AdapterTensor* tensor = find_tensor(tensors, "base_model.model." + t.path + "." + name))
          tensor->values = pruned(tensor->values, kept, name[5] == 'B');
    }
  }
  static void describe(auto&, auto&&) {}

 private:
  static Tensor<float> pruned(const Tensor<float>& from, const std::vector<bool>& kept, bool columns) {
    std::vector<std::int64_t> at;
    for (std::size_t i = 0; i < kept.size(); i++)
      if (kept[i]) at.push_back(std::int64_t(i));
    const auto n = std::int64_t(at.size());
    Tensor<float> to(columns ? Shape{from.rows(), n} : Shape{n, from.cols()});
    for (std::int64_t i = 0; i < to.rows(); i++)
      for (std::int64_t j = 0; j < to.cols(); j++) to(i, j) = columns ? from(i, at[std::size_t(j)]) : from(at[std::size_t(i)], j);
    return to;
  }
  void observe() {
    for (Triplets& t : sites) {
      t.begin();
      const Parameter<T>* parameters[3] = {&t.A, &t.E, &t.B};
      for (std::size_t which = 0; which < 3; which++) {
        const Parameter<T>& p = *parameters[which];
        auto &mean = t.sensitivity[which], &off = t.uncertainty[which];
        const Tensor<T> g = p.grad();
        if (!g) continue;
        for (std::int64_t i = 0; i < p.size(); i++) {
          const double now = std::abs(double(p.value()[i]) * double(g[i]));
          double &m = mean[i], &u = off[i];
          m = config.beta1 * m + (1 - config.beta1) * now;
          u = config.beta2 * u + (1 - config.beta2) * std::abs(now - m);
        }
      }
    }
  }
  void choose(std::int64_t wanted) {
    std::vector<double> all;
    std::vector<std::vector<double>> scores;
    for (const Triplets& t : sites) {
      const std::int64_t r = t.A.shape()[0], in = t.A.shape()[1], out = t.B.shape()[0];
      const auto score = [&](std::size_t which, std::int64_t i) { return t.sensitivity[which] ? t.sensitivity[which][i] * t.uncertainty[which][i] : 0.0; };
      std::vector<double> mine;
      for (std::int64_t k = 0; k < r; k++) {
        double a = 0, b = 0;
        for (std::int64_t i = 0; i < in; i++) a += score(0, k * in + i);
        for (std::int64_t o = 0; o < out; o++) b += score(2, o * r + k);
        mine.push_back(score(1, k) + a / double(in) + b / double(out));
      }
      all.insert(all.end(), mine.begin(), mine.end());
      scores.push_back(std::move(mine));
    }
    const std::int64_t gone = std::int64_t(all.size()) - wanted;
    if (gone < 1) return;
    std::nth_element(all.begin(), all.begin() + gone - 1, all.end());
    const double threshold = all[std::size_t(gone - 1)];
    for (std::size_t s = 0; s < sites.size(); s++) {
      sites[s].begin();
      for (std::size_t k = 0; k < scores[s].size(); k++) sites[s].kept[std::int64_t(k)] = double(scores[s][k] > threshold);
    }
    mask();
  }
  void mask() {
    for (Triplets& t : sites) {
      for (std::int64_t k = 0; k < t.A.shape()[0]; k++)
        if (!t.keeps(k)) t.E.value()[k] = 0;
      t.E.touch();
    }
  }
};

template <Scalar T>
RankAllocator<T> shared_part(const AdaLoraConfig& config, const ModelInfo&, Random) {
  return {config};
}
template <Scalar T>
bool attach_adapter(const AdaLoraConfig& config, RankAllocator<T>& allocator, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&](Random random) {
    std::int64_t r = config.init_r;
    for (const auto& [name, rows_left] : config.rank_pattern)
      if (name == context.path + ".lora_E") r = std::count(rows_left.begin(), rows_left.end(), true);
    AdaLora<T> adapter;
    // The rank that it began with, however many rows are left.
    adapter.scaling = T((config.lora_alpha > 0 ? config.lora_alpha : double(config.init_r)) / (double(config.init_r) + 1e-5));
    adapter.drop = {config.lora_dropout, name_hash(context.path)};
    adapter.A = drawn_normal<T>({r, site.in_features()}, 0, 0.02, random), adapter.B = drawn_normal<T>({site.out_features(), r}, 0, 0.02, random);
    adapter.E = config.init_lora_weights.on ? constant<T>({r, 1}, 0) : drawn_normal<T>({r, 1}, 0, 1, random);
    if (r > 0) allocator.sites.push_back({context.path, adapter.A, adapter.E, adapter.B, {}, {}, {}});  // without any rank left its tensors have no rows
    return adapter;
  });
}
template <Scalar T>
bool attachable(const AdaLoraConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
