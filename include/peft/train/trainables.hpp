// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <vector>

#include "peft/adapters/lora/lora_plus.hpp"
#include "peft/adapters/peft_model.hpp"
#include "peft/nn/norm.hpp"
#include "peft/optim/optimizer.hpp"

namespace peft {

namespace detail {
template <class M>
inline constexpr bool is_peft_model = false;
template <class M>
inline constexpr bool is_peft_model<PeftModel<M>> = true;

// The layer norms' tensors, those that adapters lend them included.
template <Scalar T, class M>
std::vector<const void*> layer_norm_tensors(const M& model) {
  std::vector<const void*> all;
  const auto visit = [&](const std::string&, const Parameter<T>& parameter) { all.push_back(parameter.identity()); };
  const auto search = [&](const auto& modules, const auto& also) {
    for_each_site(modules, [&]<class S>(const std::string&, const S& site) {
      if constexpr (std::same_as<S, Norm<T>>)
        if (site.kind == NormKind::layer) for_each_parameter(site, visit), also(site);
    });
  };
  if constexpr (is_peft_model<M>)
    search(model.model(), [&](const Norm<T>& site) {
      for (const std::string& name : model.adapter_names()) site.adapters.for_each_parameter(model.entry(name).id, visit);
    });
  else
    search(model, [](const Norm<T>&) {});
  return all;
}
}  // namespace detail

/// LoRA+'s rates as parts of the learning rate.
struct LoraPlusRates {
  double ratio = 0;      // B's over A's; 0: no LoRA+, all train at one rate
  double embedding = 1;  // that of an embedding's factors
};

/// What requires a gradient, as the optimiser takes it: each with its share of the rates.
template <Scalar T, class M>
std::vector<Trainable<T>> trainables_of(M& model, const LoraPlusRates& rates = {}) {
  const std::vector<const void*> in_layer_norms = rates.ratio > 0 ? detail::layer_norm_tensors<T>(model) : std::vector<const void*>();
  std::vector<Trainable<T>> trainables;
  detail::visit_parameters(model, [&](const ParameterInfo& info, auto& parameter) {
    if (!parameter.requires_grad()) return;
    Trainable<T> t{info.adapter.empty() ? info.path : info.adapter + ":" + info.path, parameter};
    if (rates.ratio > 0) {
      const LoraPlusGroup group = lora_plus_group(info, std::ranges::find(in_layer_norms, parameter.identity()) != in_layer_norms.end());
      if (group == LoraPlusGroup::B || group == LoraPlusGroup::B_no_decay) t.lr_scale = rates.ratio;
      if (group == LoraPlusGroup::B_no_decay) t.decay_scale = 0;
      if (group == LoraPlusGroup::embedding) t.lr_scale = rates.embedding;
    }
    trainables.push_back(std::move(t));
  });
  return trainables;
}

}  // namespace peft
