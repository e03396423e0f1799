// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>

#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/peft_model.hpp"
#include "peft/ops/task_arithmetic.hpp"

namespace peft {

/// How LoRAs are combined, named as PEFT's add_weighted_adapter.
///     cat                    A above A, B beside B: exact, the ranks add up
///     linear                 of A and of B, each by √|weight · scaling|: cheap, with cross terms; equal ranks
///     svd                    of the changes B A themselves, then the svd_rank largest singular values
///     ties, magnitude_prune, dare_linear, dare_ties, and each with _svd: entries are dropped first, down to `density`
struct WeightedAdapterOptions {
  std::string combination_type = "svd";
  std::int64_t svd_rank = 0;                   // 0: the largest rank of those combined
  double density = 1;                          // what is left by the pruning types
  std::string majority_sign_method = "total";  // total | frequency
  std::uint64_t seed = 0;                      // of dare
};

namespace detail {
template <Scalar T>
Tensor<T> combined(std::vector<Tensor<T>> tasks, const std::vector<double>& weights, std::string_view kind, const WeightedAdapterOptions& options,
                   Random& random) {
  for (Tensor<T>& task : tasks) {
    if (kind == "ties" || kind == "magnitude_prune") ops::prune_by_magnitude<T>(task.span(), options.density);
    if (kind == "dare_ties" || kind == "dare_linear") ops::prune_at_random<T>(task.span(), options.density, random);
  }
  if (kind == "ties" || kind == "dare_ties") return ops::mean_of_majority<T>(tasks, weights, options.majority_sign_method == "frequency");
  return ops::weighted_sum<T>(tasks, weights);
}
}  // namespace detail

/// Adds a LoRA `name` that is Σ weights[i] · adapters[i], each with the scale that it has, rsLoRA's too (PEFT's is √r times too large where the first
/// adapter is an rsLoRA: it hands use_rslora on). Throws ConfigError for options, AdapterError for adapters that are no plain LoRAs.
template <class M>
void add_weighted_adapter(PeftModel<M>& model, const std::vector<std::string>& adapters, const std::vector<double>& weights, const std::string& name,
                          const WeightedAdapterOptions& options = {}) {
  using T = typename PeftModel<M>::T;
  constexpr const char* operation = "add_weighted_adapter";
  if (adapters.empty() || adapters.size() != weights.size())
    throw ConfigError(operation, std::to_string(adapters.size()) + " adapters with " + std::to_string(weights.size()) + " weights; one for each is wanted");
  detail::check_choice(
      operation, "combination_type", options.combination_type,
      {"svd", "linear", "cat", "ties", "ties_svd", "dare_linear", "dare_linear_svd", "dare_ties", "dare_ties_svd", "magnitude_prune", "magnitude_prune_svd"});
  detail::check_choice(operation, "majority_sign_method", options.majority_sign_method, {"total", "frequency"});
  if (!(options.density > 0 && options.density <= 1))
    throw ConfigError(operation, "density is " + std::to_string(options.density) + "; allowed is 0 < density ≤ 1");
  // One adapter is itself, whatever the type.
  const std::string type = adapters.size() == 1 ? "linear" : options.combination_type;
  const bool by_svd = type.ends_with("svd");
  const std::string kind = type == "svd" ? "linear" : by_svd ? type.substr(0, type.size() - 4) : type;

  // What each site has of each.
  struct Part {
    const Lora<T>* lora;
    double weight;
  };
  std::map<std::string, std::vector<Part>> sites;
  std::vector<std::string> names;
  std::string pattern;
  for (std::size_t i = 0; i < adapters.size(); i++) {
    const auto& entry = model.entry(adapters[i]);
    const auto* config = std::any_cast<LoraConfig>(&entry.config);
    if (!config) throw AdapterError(operation, "\"" + adapters[i] + "\" is of the method " + entry.peft_type + "; LoRAs can be combined");
    std::size_t tensors = 0, plain = 0;
    model.for_each_adapter_parameter(adapters[i], [&](const std::string&, const auto&) { tensors++; });
    for_each_site(model.model(), [&]<class S>(const std::string& path, const S& site) {
      if constexpr (std::same_as<S, Linear<T>>)
        if (const auto* lora = site.adapters.template get<Lora<T>>(entry.id)) sites[path].push_back({lora, weights[i]}), plain += 2;
    });
    if (plain != tensors)
      throw AdapterError(operation, "\"" + adapters[i] + "\" is more than plain LoRA (DoRA, biases, embeddings, saved modules); that cannot be combined");
    if (!config->target_modules.is_list()) pattern += (pattern.empty() ? "(" : "|(") + config->target_modules.pattern() + ")";
    for (const std::string& target : config->target_modules.names())
      if (std::ranges::find(names, target) == names.end()) names.push_back(target);
  }
  if (!pattern.empty() && !names.empty()) throw AdapterError(operation, "target_modules of some are lists, of others patterns; PEFT's files cannot say both");

  // Each site's rank; alpha is the rank, so that the scale is 1.
  LoraConfig config;
  config.target_modules = pattern.empty() ? TargetModules(names) : TargetModules(pattern);
  std::map<std::string, std::int64_t> ranks;
  config.r = 1;
  for (const auto& [path, parts] : sites) {
    std::int64_t largest = 0, sum = 0;
    for (const Part& part : parts) largest = std::max(largest, part.lora->A.shape()[0]), sum += part.lora->A.shape()[0];
    for (const Part& part : parts)
      if (!by_svd && type != "cat" && part.lora->A.shape()[0] != largest)
        throw ConfigError(operation, path + " has ranks " + std::to_string(part.lora->A.shape()[0]) + " and " + std::to_string(largest) + "; " + type +
                                         " wants equal ones, cat and svd do not");
    const std::int64_t full = std::min(parts[0].lora->A.shape()[1], parts[0].lora->B.shape()[0]);
    ranks[path] = type == "cat" ? sum : by_svd ? std::min(options.svd_rank > 0 ? options.svd_rank : largest, full) : largest;
    config.r = std::max(config.r, ranks[path]);
  }
  config.lora_alpha = double(config.r);
  for (const auto& [path, r] : ranks)
    if (r != config.r) config.rank_pattern.emplace_back(path, r), config.alpha_pattern.emplace_back(path, double(r));
  model.add_adapter(name, config);
  const int id = model.entry(name).id;

  Random random(options.seed);
  for_each_site(model.model(), [&]<class S>(const std::string& path, const S& site) {
    if constexpr (std::same_as<S, Linear<T>>) {
      const auto* to = site.adapters.template get<Lora<T>>(id);
      if (!to) return;
      if (!sites.count(path)) {  // named by one adapter's list, but not targeted by it
        to->A.assign(Tensor<T>::zeros(to->A.shape()));
        return;
      }
      const auto& parts = sites.at(path);
      Tensor<T> A = Tensor<T>::zeros(to->A.shape()), B = Tensor<T>::zeros(to->B.shape());
      std::vector<Tensor<T>> left, right, deltas;
      std::vector<double> for_A, for_B, plain;
      std::int64_t at = 0;
      for (const Part& part : parts) {
        const View<T> a = part.lora->A.value().view(), b = part.lora->B.value().view();
        const double s = part.weight * double(part.lora->scaling);
        if (type == "cat") {
          ops::scale<T>(A.view().row_range(at, at + a.rows), T(s), a);
          ops::copy<T>(B.view().columns(at, at + a.rows), b);
          at += a.rows;
        } else if (by_svd) {
          deltas.emplace_back(Shape{b.rows, a.cols});
          ops::gemm<T>(part.lora->scaling, b, false, a, false, T(0), deltas.back().view());
          plain.push_back(part.weight);
        } else {  // a negative sign on one side alone
          left.push_back(part.lora->A.value().clone()), right.push_back(part.lora->B.value().clone());
          for_A.push_back(std::copysign(std::sqrt(std::abs(s)), s)), for_B.push_back(std::sqrt(std::abs(s)));
        }
      }
      if (by_svd) {
        const Tensor<T> delta = detail::combined(std::move(deltas), plain, kind, options, random);
        ops::split_by_svd<T>(B.view(), A.view(), delta.view(), 1.0);
      } else if (type != "cat") {
        A = detail::combined(std::move(left), for_A, kind, options, random), B = detail::combined(std::move(right), for_B, kind, options, random);
      }
      to->A.assign(std::move(A)), to->B.assign(std::move(B));
    }
  });
}

}  // namespace peft
