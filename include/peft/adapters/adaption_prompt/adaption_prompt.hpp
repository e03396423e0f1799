// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/adaption_prompt/config.hpp"
#include "peft/adapters/on_linear.hpp"
#include "peft/nn/attention.hpp"

namespace peft {

/// Adaption prompt (LLaMA-Adapter, Zhang et al. 2023, arXiv:2303.16199): in the last layers each query also looks at a few prompt tokens, with a
/// softmax of its own and a gate that begins at 0.
///
///     context += gate · softmax(q K_pᵀ / √head_dim) V_p,   K_p = k_proj(prompt), V_p = v_proj(prompt)          ahead of o_proj; q is rotated, K_p is not
template <Scalar T>
struct AdaptionPrompt {
  Parameter<T> prompt;       // (1, adapter_len, hidden)
  Parameter<T> gate;         // (1)
  Linear<T> k_proj, v_proj;  // the base's, bare
  Variable<T> operator()(const AttentionCore<T>& base, const typename AttentionCore<T>::Input& in, Variable<T> y) const {
    const std::int64_t length = prompt.shape()[1], d = base.shape.head_dim, heads = base.shape.heads, group = heads / base.shape.kv_heads;
    const Variable<T> p = reshape(prompt.variable(), {length, prompt.shape()[2]});
    const Variable<T> K = k_proj.forward(p), V0 = v_proj.forward(p);
    const Variable<T> V = reshape(scale_rows(reshape(V0, {1, V0.value().size()}), gate.variable()), V0.shape());
    std::vector<Variable<T>> contexts;
    for (std::int64_t h = 0; h < heads; h++) {
      const std::int64_t at = h / group * d;
      const Variable<T> scores = scale(matmul(columns(in.q, h * d, (h + 1) * d), columns(K, at, at + d), false, true), T(1 / std::sqrt(double(d))));
      contexts.push_back(matmul(softmax_rows(scores), columns(V, at, at + d)));
    }
    return add(std::move(y), concat_columns(contexts));
  }
  static void describe(auto& self, auto&& visit) {
    visit("adaption_gate", self.gate);
    visit("adaption_prompt", self.prompt);
  }
};

namespace detail {
/// A string is the end of a path here, as in PEFT, and no pattern.
inline bool is_adapted_attention(const TargetModules& modules, std::string_view path) {
  return modules.is_list() ? modules.matches(path) : is_suffix_of(modules.pattern(), path);
}
}  // namespace detail

inline void complete(AdaptionPromptConfig& config, const ModelInfo& info) {
  if (config.adapter_layers > info.num_layers)
    throw ConfigError("adaption_prompt.attach",
                      "adapter_layers is " + std::to_string(config.adapter_layers) + "; the model has " + std::to_string(info.num_layers));
  config.num_layers = info.num_layers;
}
/// The core goes by the attention's path, under which a file has the prompt.
template <Scalar T>
bool attach_adapter(const AdaptionPromptConfig& config, Attention<T>& site, const AttachContext& context) {
  if (!detail::is_adapted_attention(config.target_modules, context.path) || detail::layer_index(context.path, {}) < config.num_layers - config.adapter_layers)
    return false;
  Random random = context.at_site();
  Linear<T> k = site.k_proj, v = site.v_proj;  // copies start without adapters
  const std::int64_t hidden = k.in_features();
  site.core.path = context.path;
  site.core.adapters.attach(context.id,
                            AdaptionPrompt<T>{drawn_normal<T>({1, config.adapter_len, hidden}, 0, 1, random), constant<T>({1}, 0), std::move(k), std::move(v)});
  return true;
}
template <Scalar T>
bool attachable(const AdaptionPromptConfig&, const Attention<T>&) {
  return true;
}

}  // namespace peft
