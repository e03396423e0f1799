// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <numeric>

#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/peft_model.hpp"
#include "peft/ops/incremental_pca.hpp"
#include "peft/train/objective.hpp"

namespace peft {

/// EVA's options, named and defaulted as PEFT's EvaConfig.
struct EvaConfig {
  double rho = 2;                      // a module gets at most rho · r components
  double tau = 0.99;                   // a component stands when a batch leaves it as it was, by the cosine
  bool use_label_mask = true;          // only rows of tokens that have a label
  bool whiten = false;                 // divide components by the root of their singular values
  bool adjust_scaling_factors = true;  // alpha follows r, so that the scale stays
  std::int64_t batch_size = 8;         // examples a batch, in the dataset's order, which is gone through again as long as it takes
};

namespace detail {
/// What is seen of one module's inputs.
template <Scalar T>
struct EvaModule {
  std::string path;
  std::int64_t r = 0, most = 0;              // as configured; components that are looked at
  std::shared_ptr<ops::IncrementalPca> pca;  // shared by modules of the same inputs
  std::size_t leader = 0;                    // the first of these
  std::uint64_t inputs = 0;                  // a hash of the first batch's
  std::vector<bool> converged = {};
  bool done = false;
};
/// Reads the inputs of modules; changes nothing.
template <Scalar T>
struct EvaObserver {
  static constexpr const char* peft_type = "EVA";
  std::map<std::string, std::function<void(const Variable<T>&)>> at;
};
template <Scalar T>
EvaObserver<T> resolved(EvaObserver<T> config, std::string_view) {
  return config;
}
template <Scalar T>
struct EvaEye {
  std::function<void(const Variable<T>&)> see;
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, Variable<T> y) const {
    see(x);
    return y;
  }
  static void describe(auto&, auto&&) {}
};
template <Scalar T>
bool attach_adapter(const EvaObserver<T>& config, Linear<T>& site, const AttachContext& context) {
  const auto found = config.at.find(context.path);
  if (found != config.at.end()) site.adapters.attach(context.id, EvaEye<T>{found->second});
  return found != config.at.end();
}
/// The chosen rows, in double.
template <Scalar T>
Tensor<double> rows_in_double(View<const T> x, const std::vector<std::int64_t>& rows) {
  Tensor<double> chosen({std::int64_t(rows.size()), x.cols});
  for (std::size_t i = 0; i < rows.size(); i++)
    for (std::int64_t j = 0; j < x.cols; j++) chosen(std::int64_t(i), j) = double(x(rows[i], j));
  return chosen;
}
/// For each component, whether it has the direction that it had before.
inline std::vector<bool> unmoved(const Tensor<double>& before, const Tensor<double>& now, double tau) {
  std::vector<bool> same;
  for (std::int64_t k = 0; k < now.rows(); k++) {
    double dot = 0, a = 0, b = 0;
    for (std::int64_t j = 0; j < now.cols(); j++) dot += before(k, j) * now(k, j), a += before(k, j) * before(k, j), b += now(k, j) * now(k, j);
    same.push_back((a == 0 && b == 0) || dot >= tau * std::sqrt(a * b));
  }
  return same;
}
/// The budget Σ r goes to the components that explain most of their module's inputs. Of modules with the same inputs the first has the largest rank.
template <Scalar T>
std::vector<std::int64_t> ranks_by_explained_variance(const std::vector<EvaModule<T>>& modules) {
  struct Component {
    double explained;
    std::size_t module;
  };
  std::vector<Component> all;
  std::int64_t budget = 0;
  for (const EvaModule<T>& m : modules) budget += m.r;
  for (const bool leaders : {true, false})
    for (std::size_t i = 0; i < modules.size(); i++)
      if ((modules[i].leader == i) == leaders)
        for (std::int64_t k = 0; k < modules[i].most; k++) all.push_back({modules[i].pca->explained(k), i});
  std::stable_sort(all.begin(), all.end(), [](const Component& a, const Component& b) { return a.explained > b.explained; });
  std::vector<std::int64_t> ranks(modules.size());
  for (std::size_t k = 0; k < std::min(all.size(), std::size_t(budget)); k++) ranks[all[k].module]++;
  for (std::size_t i = 0; i < modules.size(); i++)
    if (std::int64_t& first = ranks[modules[i].leader]; first < ranks[i]) std::swap(first, ranks[i]);
  return ranks;
}
}  // namespace detail

/// EVA (Paischer et al. 2024, arXiv:2410.07170): A begins as the leading right singular vectors of its module's inputs, B as zero, and the ranks go where
/// components explain most. `name`: a LoRA with init_lora_weights "eva" that sees `data`; it is put anew, with rank_pattern and alpha_pattern as was found,
/// and without the modules that are left with no rank. As PEFT's initialize_lora_eva_weights, with exact decompositions where that draws (svd_lowrank).
/// Throws ConfigError for options, and where no batch has as many rows as there are components; then nothing has changed.
template <Scalar T>
void initialize_lora_eva_weights(PeftModel<Transformer<T>>& model, const std::string& name, const Dataset& data, const EvaConfig& eva = {},
                                 std::uint64_t seed = 0) {
  constexpr const char* operation = "initialize_lora_eva_weights";
  const auto* found = std::any_cast<LoraConfig>(&model.entry(name).config);
  if (!found || found->init_lora_weights.kind() != InitLoraWeights::eva)
    throw ConfigError(operation, "\"" + name + "\" is no LoRA with init_lora_weights \"eva\"");
  LoraConfig config = *found;
  if (!(eva.rho >= 1)) throw ConfigError(operation, "rho is " + std::to_string(eva.rho) + "; at least 1 is wanted");
  if (!(eva.tau > 0 && eva.tau <= 1)) throw ConfigError(operation, "tau is " + std::to_string(eva.tau) + "; allowed is 0 < tau ≤ 1");
  if (eva.batch_size < 1 || data.empty()) throw ConfigError(operation, "there is no batch of examples");
  if (model.model().config.num_encoder_layers > 0) throw NotSupported(operation, "EVA of an encoder-decoder");

  std::vector<detail::EvaModule<T>> modules;
  const int id = model.entry(name).id;
  bool on_head = false;
  for_each_site(model.model(), [&]<class S>(const std::string& path, const S& site) {
    if constexpr (std::same_as<S, Linear<T>>) {
      if (!site.adapters.has(id) || !targets(config, path, &site == &model.model().lm_head)) return;
      const std::int64_t r = lora_scale(config, path).r, most = std::int64_t(std::nearbyint(double(r) * eva.rho));
      if (most > site.in_features())
        throw ConfigError(operation, path + " has " + std::to_string(site.in_features()) + " inputs, and rho · r = " + std::to_string(most) + " are more");
      on_head = on_head || &site == &model.model().lm_head;
      modules.push_back({path, r, most, nullptr, modules.size()});
    }
  });

  std::vector<std::vector<std::size_t>> batches(1);
  for (std::size_t i = 0; i < data.size(); i++) {
    if (std::int64_t(batches.back().size()) == eva.batch_size) batches.emplace_back();
    batches.back().push_back(i);
  }
  std::vector<std::int64_t> seen_rows, all_rows;
  // f(module, its inputs) at every module that `wanted` chooses, for one batch.
  const auto observe = [&](const Batch& batch, const std::function<bool(std::size_t)>& wanted, const std::function<void(std::size_t, const Variable<T>&)>& f) {
    seen_rows.clear(), all_rows.resize(batch.input_ids.size());
    std::iota(all_rows.begin(), all_rows.end(), std::int64_t(0));
    for (const std::int64_t i : all_rows)
      if (!eva.use_label_mask || batch.labels[std::size_t(i)] != ignore_index) seen_rows.push_back(i);
    detail::EvaObserver<T> observer;
    for (std::size_t i = 0; i < modules.size(); i++)
      if (wanted(i)) observer.at[modules[i].path] = [&f, i](const Variable<T>& x) { f(i, x); };
    const auto active = model.active_adapters();
    model.add_adapter("eva-observer", observer);
    try {
      model.set_adapter("eva-observer");
      const NoGrad guard;
      const Pass<T> pass = model.pass(rows_of(batch, false).sequences);
      const PassScope<T> scope(pass);
      const Variable<T> states = model.model().hidden_states(batch.input_ids, detail::types_for(model.model(), batch.token_types));
      if (on_head) model.model().logits(states);
    } catch (...) {
      model.delete_adapter("eva-observer"), model.set_adapter(active);
      throw;
    }
    model.delete_adapter("eva-observer"), model.set_adapter(active);
  };

  // Modules whose first inputs are equal share one decomposition.
  observe(
      collate(data, batches[0]), [](std::size_t) { return true; },
      [&](std::size_t i, const Variable<T>& x) {
        const Tensor<T> rows = x.value().contiguous() ? x.value() : x.value().clone();
        modules[i].inputs = name_hash({reinterpret_cast<const char*>(rows.data()), std::size_t(rows.size()) * sizeof(T)});
      });
  for (std::size_t i = 0; i < modules.size(); i++)
    for (std::size_t k = 0; k < i && modules[i].leader == i; k++)
      if (modules[k].inputs == modules[i].inputs) modules[i].leader = k;
  for (auto& m : modules) modules[m.leader].most = std::max(modules[m.leader].most, m.most);
  for (std::size_t i = 0; i < modules.size(); i++) {
    auto& m = modules[i];
    m.most = modules[m.leader].most;
    m.pca = m.leader == i ? std::make_shared<ops::IncrementalPca>(m.most) : modules[m.leader].pca;
    m.converged.assign(std::size_t(m.most), false);
  }

  std::vector<std::int64_t> ranks;
  for (const auto& m : modules) ranks.push_back(m.most);
  for (std::size_t round = 0;; round++) {
    bool all_done = true, all_begun = true;
    for (std::size_t i = 0; i < modules.size(); i++) {
      auto& m = modules[i];
      if (m.leader != i) continue;
      m.done = std::all_of(m.converged.begin(), m.converged.begin() + ranks[i], [](bool c) { return c; });
      all_done = all_done && m.done, all_begun = all_begun && m.pca->rows_seen() > 0;
    }
    if (all_done) break;
    if (round >= batches.size() && !all_begun)
      throw ConfigError(operation, "no batch has as many rows with labels as there are components (rho · r); take a larger batch_size");
    observe(
        collate(data, batches[round % batches.size()]), [&](std::size_t i) { return modules[i].leader == i && !modules[i].done; },
        [&](std::size_t i, const Variable<T>& x) {
          auto& m = modules[i];
          const auto& rows = std::size_t(x.rows()) == all_rows.size() ? seen_rows : all_rows;
          if (std::int64_t(rows.size()) < m.most) return;
          const Tensor<double> before = m.pca->components();
          m.pca->add(detail::rows_in_double<T>(x.value().view(), rows).view());
          if (before) m.converged = detail::unmoved(before, m.pca->components(), eva.tau);
        });
    if (std::ranges::all_of(modules, [](const auto& m) { return m.pca->rows_seen() > 0; })) ranks = detail::ranks_by_explained_variance(modules);
  }

  // What was configured by patterns is now said for each module.
  LoraConfig wanted = config;
  wanted.rank_pattern.clear(), wanted.alpha_pattern.clear(), wanted.exclude_modules = {}, wanted.layers_to_transform.clear(), wanted.layers_pattern.clear();
  std::vector<std::string> left;
  for (std::size_t i = 0; i < modules.size(); i++) {
    if (ranks[i] == 0) continue;
    const double alpha = lora_scale(config, modules[i].path).alpha * (eva.adjust_scaling_factors ? double(ranks[i]) / double(modules[i].r) : 1);
    left.push_back(modules[i].path);
    if (ranks[i] != config.r) wanted.rank_pattern.emplace_back(modules[i].path, ranks[i]);
    if (alpha != config.lora_alpha) wanted.alpha_pattern.emplace_back(modules[i].path, alpha);
  }
  wanted.target_modules = TargetModules(left);
  const auto active = model.active_adapters();
  const auto extra = model.entry(name).extra;
  model.delete_adapter(name);
  model.add_adapter(name, wanted, seed);
  model.set_adapter(active);
  auto& entry = model.entry(name);
  entry.extra = extra;
  entry.extra["eva_config"] = "{\"rho\": " + std::to_string(eva.rho) + ", \"tau\": " + std::to_string(eva.tau) +
                              ", \"use_label_mask\": " + (eva.use_label_mask ? "true" : "false") +
                              ", \"label_mask_value\": -100, \"whiten\": " + (eva.whiten ? "true" : "false") +
                              ", \"adjust_scaling_factors\": " + (eva.adjust_scaling_factors ? "true" : "false") + "}";
  for (std::size_t i = 0; i < modules.size(); i++)
    model.for_each_adapter_parameter(name, [&](const std::string& path, const Parameter<T>& p) {
      if (path != modules[i].path + ".lora_A.weight") return;
      Tensor<T> A(p.shape());
      for (std::int64_t k = 0; k < A.rows(); k++) {
        const double by = eva.whiten ? 1 / std::sqrt(modules[i].pca->singular_values()[std::size_t(k)]) : 1;
        for (std::int64_t j = 0; j < A.cols(); j++) A(k, j) = T(by * modules[i].pca->components()(k, j));
      }
      p.assign(std::move(A));
    });
}

}  // namespace peft
