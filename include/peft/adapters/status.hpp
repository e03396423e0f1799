// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "peft/adapters/peft_model.hpp"

namespace peft {

/// What sits on one module (PEFT's get_layer_status). Adapters are named in the order in which they came.
struct LayerStatus {
  std::string path;
  std::vector<std::string> adapters, active, trainable;  // here; of these: active by default, with a tensor that wants a gradient
  bool merged = false;                                   // a dense copy with the active ones in it is used
};

/// One adapter as a whole.
struct AdapterStatus {
  std::string name, peft_type;
  bool active = false;
  std::int64_t layers = 0;                     // modules that it sits on
  std::int64_t parameters = 0, trainable = 0;  // numbers; a tensor at two places counts once
};
/// The model (PEFT's get_model_status).
struct ModelStatus {
  std::vector<AdapterStatus> adapters;
  std::int64_t layers = 0, merged_layers = 0;  // modules with an adapter; of these, merged
  std::int64_t parameters = 0, trainable = 0;  // of the base and all adapters
};

/// A line a module that has an adapter, in the order of the model.
template <class M>
std::vector<LayerStatus> layer_status(const PeftModel<M>& model) {
  const std::vector<std::string> names = model.adapter_names(), active = model.active_adapters();
  std::vector<LayerStatus> all;
  for_each_site(model.model(), [&](const std::string& path, const auto& site) {
    LayerStatus here{path, {}, {}, {}, site.adapters.merged() != nullptr};
    for (const std::string& name : names) {
      const int id = model.entry(name).id;
      if (!site.adapters.has(id)) continue;
      here.adapters.push_back(name);
      if (std::ranges::find(active, name) != active.end()) here.active.push_back(name);
      bool trains = false;
      auto visit = [&](const std::string&, const auto& parameter) { trains = trains || parameter.requires_grad(); };
      site.adapters.for_each_parameter(id, visit);
      if (trains) here.trainable.push_back(name);
    }
    if (!here.adapters.empty()) all.push_back(std::move(here));
  });
  return all;
}

template <class M>
ModelStatus model_status(PeftModel<M>& model) {
  ModelStatus status;
  const std::vector<LayerStatus> layers = layer_status(model);
  const auto active = model.active_adapters();
  for (const std::string& name : model.adapter_names()) {
    AdapterStatus a{name, model.entry(name).peft_type, std::ranges::find(active, name) != active.end()};
    for (const LayerStatus& layer : layers) a.layers += std::ranges::count(layer.adapters, name);
    std::vector<const void*> seen;
    model.for_each_adapter_parameter(name, [&](const std::string&, const auto& parameter) {
      if (std::ranges::find(seen, parameter.identity()) != seen.end()) return;
      seen.push_back(parameter.identity());
      a.parameters += parameter.size(), a.trainable += parameter.requires_grad() ? parameter.size() : 0;
    });
    status.adapters.push_back(std::move(a));
  }
  status.layers = std::int64_t(layers.size()), status.merged_layers = std::ranges::count(layers, true, &LayerStatus::merged);
  const auto count = model.count_parameters();
  status.parameters = count.total, status.trainable = count.trainable;
  return status;
}

}  // namespace peft
