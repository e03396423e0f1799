// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <map>

#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/peft_model.hpp"
#include "peft/nn/transformer.hpp"
#include "peft/ops/task_arithmetic.hpp"

namespace peft {

/// What became of one Linear.
struct ConvertedSite {
  std::string path;
  std::int64_t r = 0;
  double lost = 0;  // ‖Δ − B A‖ / ‖Δ‖
};

namespace detail {
/// What the adapter adds to the tensors of a Linear: it is merged, and the base taken off again. A change of the bias alone has Δ = 0.
template <Scalar T>
struct ChangeOfLinear {
  Tensor<double> weight, bias;  // (out, in), (1, out)
  bool has_bias = false;        // something is added to the bias
  ChangeOfLinear(const Linear<T>& site, int id) {
    const NoGrad guard;
    const Linear<T> before = site.dense();
    Linear<T> after = site.adapters.dense_base(site, {id}), added = before;
    added.weight = Parameter<T>(Tensor<T>::zeros(before.weight.shape()));
    if (before.bias) added.bias = Parameter<T>(Tensor<T>::zeros(before.bias.shape()));
    site.adapters.merge_into(after, site, {id});
    site.adapters.merge_into(added, site, {id});
    weight = ops::change_between<T>(before.weight.value().view(), after.weight.value().view(), added.weight.value().view());
    if (!after.bias) return;
    const Tensor<T> none = Tensor<T>::zeros(after.bias.shape());
    bias = ops::change_between<T>(row(before.bias ? before.bias.value() : none), row(after.bias.value()), row(added.bias ? added.bias.value() : none));
    has_bias = std::ranges::any_of(bias.span(), [](double b) { return b != 0; });
  }
  static View<const T> row(const Tensor<T>& values) { return {values.data(), 1, values.size()}; }
};
template <Scalar T>
Tensor<T> in_type(const Tensor<double>& values, const Shape& shape) {
  Tensor<T> copy(shape);
  for (std::int64_t i = 0; i < copy.size(); i++) copy[i] = T(values[i]);
  return copy;
}
/// Last parts of paths ("q_proj") if these select just these Linears of the model, else the paths.
template <class M>
std::vector<std::string> names_of_targets(const PeftModel<M>& model, const std::vector<std::string>& paths) {
  std::vector<std::string> names;
  for (const std::string& path : paths) {
    std::string last = path.substr(path.rfind('.') + 1);
    if (std::ranges::find(names, last) == names.end()) names.push_back(std::move(last));
  }
  const TargetModules short_names(names);
  bool more = false;
  for_each_site(model.model(),
                [&](const std::string& path, const auto&) { more = more || (short_names.matches(path) && std::ranges::find(paths, path) == paths.end()); });
  return more ? paths : names;
}
}  // namespace detail

/// Adds a LoRA `name` that does what the adapter `from` does, as nearly as its ranks allow: Δ = W' − W of each Linear by its leading singular values.
/// Works for whatever can be merged into Linears, of any method. A scale of 1 (alpha = r); with keep.energy each Linear has a rank of its own. Modules
/// that `from` saves are copied; where it changes biases, B has one (lora_bias). Throws AdapterError if it changes anything else, ConfigError for a rank
/// that a Linear has not; then nothing was added. Returns what was lost at each Linear. As PEFT's convert_to_lora.
template <class M>
std::vector<ConvertedSite> convert_to_lora(PeftModel<M>& model, const std::string& from, const std::string& name, const ops::KeptRank& keep) {
  using T = typename PeftModel<M>::T;
  constexpr const char* operation = "convert_to_lora";
  struct Factors {
    ops::LowRank change;
    Tensor<double> bias;
  };
  const auto entry = model.entry(from);
  validate_adapter_name(name);
  model.check_mergeable(operation, {entry.id});
  if (keep.r < 0 || (keep.r == 0 && !(keep.energy > 0 && keep.energy <= 1)))
    throw ConfigError(operation, "a rank of " + std::to_string(keep.r) + ", an energy of " + std::to_string(keep.energy) +
                                     "; a rank of at least 1 is wanted, or a share of the energy up to 1");
  for_each_site(model.model(), [&]<class S>(const std::string& path, const S& site) {
    if (!site.adapters.has(entry.id) || site.adapters.template get<OwnTensors<S>>(entry.id)) return;
    if constexpr (std::same_as<S, Linear<T>>) {
      if (const std::int64_t most = std::min(site.in_features(), site.out_features()); keep.r > most)
        throw ConfigError(operation, "a rank of " + std::to_string(keep.r) + "; " + path + " has one of at most " + std::to_string(most));
    } else {
      throw AdapterError(operation, "\"" + from + "\" (" + entry.peft_type + ") changes " + path + ", which is no Linear");
    }
  });

  std::map<std::string, Factors> made;
  std::vector<std::string> paths;
  std::vector<ConvertedSite> report;
  LoraConfig config{.r = 1, .modules_to_save = entry.modules_to_save, .task_type = entry.task_type};
  for_each_site(model.model(), [&]<class S>(const std::string& path, const S& site) {
    if constexpr (std::same_as<S, Linear<T>>) {
      if (!site.adapters.has(entry.id) || site.adapters.template get<OwnTensors<S>>(entry.id)) return;
      const detail::ChangeOfLinear<T> change(site, entry.id);
      Factors factors{ops::low_rank(change.weight.view(), keep), change.bias};
      const std::int64_t r = factors.change.A.rows();
      config.r = std::max(config.r, r), config.lora_bias = config.lora_bias || change.has_bias;
      paths.push_back(path), report.push_back({path, r, factors.change.lost});
      made.emplace(path, std::move(factors));
    }
  });
  if (paths.empty()) throw AdapterError(operation, "\"" + from + "\" (" + entry.peft_type + ") is on no Linear");
  config.lora_alpha = double(config.r), config.target_modules = detail::names_of_targets(model, paths);
  for (const ConvertedSite& site : report)
    if (site.r != config.r) config.rank_pattern.emplace_back(site.path, site.r), config.alpha_pattern.emplace_back(site.path, double(site.r));

  model.add_adapter(name, config);
  const int id = model.entry(name).id;
  for_each_site(model.model(), [&]<class S>(const std::string& path, const S& site) {
    if (site.adapters.template get<OwnTensors<S>>(entry.id)) {
      std::vector<Parameter<T>> saved;
      site.adapters.for_each_parameter(entry.id, [&](const std::string&, Parameter<T>& of) { saved.push_back(of); });
      auto next = saved.begin();
      site.adapters.for_each_parameter(id, [&](const std::string&, Parameter<T>& to) { to.assign((next++)->value().clone()); });
    }
    if constexpr (std::same_as<S, Linear<T>>) {
      if (!made.count(path)) return;
      const Factors& factors = made.at(path);
      const auto* with_bias = site.adapters.template get<LoraWithBiasOfB<T>>(id);
      const Lora<T>* lora = with_bias ? &with_bias->lora : site.adapters.template get<Lora<T>>(id);
      lora->A.assign(detail::in_type<T>(factors.change.A, lora->A.shape()));
      lora->B.assign(detail::in_type<T>(factors.change.B, lora->B.shape()));
      if (with_bias && factors.bias.size() > 0) with_bias->bias.assign(detail::in_type<T>(factors.bias, with_bias->bias.shape()));
    }
  });
  return report;
}

#if defined(PEFT_COMPILED)
extern template std::vector<ConvertedSite> convert_to_lora(PeftModel<Transformer<float>>&, const std::string&, const std::string&, const ops::KeptRank&);
#endif

}  // namespace peft
