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
    const Variable<T> p = rows_of_prompt();
    return add(std::move(y), gated(in.q, k_proj.forward(p), v_proj.forward(p), base.shape));
  }
  Variable<T> rows_of_prompt() const { return reshape(prompt.variable(), {prompt.shape()[1], prompt.shape()[2]}); }
  /// gate · softmax(q Kᵀ / √head_dim) V
  Variable<T> gated(const Variable<T>& q, const Variable<T>& K, const Variable<T>& V, const ops::AttentionShape& shape) const {
    const std::int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads;
    const Variable<T> gated_V = reshape(scale_rows(reshape(V, {1, V.value().size()}), gate.variable()), V.shape());
    std::vector<Variable<T>> contexts;
    for (std::int64_t h = 0; h < shape.heads; h++) {
      const std::int64_t at = h / group * d;
      const Variable<T> scores = scale(matmul(columns(q, h * d, (h + 1) * d), columns(K, at, at + d), false, true), T(1 / std::sqrt(double(d))));
      contexts.push_back(matmul(softmax_rows(scores), columns(gated_V, at, at + d)));
    }
    return concat_columns(contexts);
  }
  static void describe(auto& self, auto&& visit) {
    visit("adaption_gate", self.gate);
    visit("adaption_prompt", self.prompt);
  }
};

/// The same on GPT-2, as PEFT has it there: what is found is added behind o_proj (c_proj), and does not go through it.
template <Scalar T>
struct AdaptionPromptBehind {
  AdaptionPrompt<T> inner;
  Linear<T> qkv_proj;  // the base's, bare
  Variable<T> operator()(const Attention<T>& base, const Variable<T>& x, Variable<T> y) const {
    const ops::AttentionShape& shape = base.core.shape;
    const std::int64_t width = shape.heads * shape.head_dim, kv = shape.kv_heads * shape.head_dim;
    const Variable<T> of_prompt = qkv_proj.forward(inner.rows_of_prompt());
    return add(std::move(y), inner.gated(columns(qkv_proj.forward(x), 0, width), columns(of_prompt, width, width + kv),
                                         columns(of_prompt, width + kv, width + 2 * kv), shape));
  }
  static void describe(auto& self, auto&& visit) { AdaptionPrompt<T>::describe(self.inner, visit); }
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
  config.behind_o_proj = info.model_type == "gpt2";
}
/// On the core, which then goes by the attention's path, under which a file has the prompt; on GPT-2, on the attention itself.
template <Scalar T>
bool attach_adapter(const AdaptionPromptConfig& config, Attention<T>& site, const AttachContext& context) {
  if (!detail::is_adapted_attention(config.target_modules, context.path) || detail::layer_index(context.path, {}) < config.num_layers - config.adapter_layers)
    return false;
  if (site.qkv_proj && !config.behind_o_proj)
    throw NotSupported("adaption_prompt.attach", "an adaption prompt on " + context.path + ", whose q, k and v are one Linear, " + site.qkv_proj->path +
                                                     "; PEFT has one for llama, mistral and gpt2");
  Random random = context.at_site();
  AdaptionPrompt<T> adapter{drawn_normal<T>({1, config.adapter_len, site.o_proj.out_features()}, 0, 1, random), constant<T>({1}, 0), {}, {}};
  if (config.behind_o_proj) {
    site.adapters.attach(context.id, AdaptionPromptBehind<T>{std::move(adapter), Linear<T>(*site.qkv_proj)});  // copies start without adapters
  } else {
    adapter.k_proj = site.k_proj, adapter.v_proj = site.v_proj;
    site.core.path = context.path;
    site.core.adapters.attach(context.id, std::move(adapter));
  }
  return true;
}
template <Scalar T>
bool attachable(const AdaptionPromptConfig&, const Attention<T>&) {
  return true;
}

}  // namespace peft
