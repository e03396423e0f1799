// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "peft/adapters/lora/config.hpp"
#include "peft/adapters/peft_model.hpp"
#include "peft/ops/elementwise.hpp"
#include "peft/ops/factorise.hpp"
#include "peft/ops/gemm.hpp"

namespace peft {

/// LoRA-FA (Zhang et al. 2023, arXiv:2308.03303), as PEFT's create_lorafa_optimizer does it: A stays as it began, and B's gradient is turned into the
/// one whose step changes W as the full gradient's would, as nearly as A's rows allow:
///
///     g_B ← g_B (A Aᵀ + 1e-8 I)⁺ / s²
template <Scalar T>
class LoraFa {
 public:
  /// Freezes A of every LoRA whose B trains. Throws ConfigError if there is none, NotSupported for what has more to a site than A and B; then
  /// nothing was frozen.
  template <class M>
  explicit LoraFa(PeftModel<M>& model) {
    std::vector<Parameter<T>> frozen;
    for (const std::string& name : model.adapter_names()) {
      const auto* config = std::any_cast<LoraConfig>(&model.entry(name).config);
      if (!config) continue;
      Parameter<T> A;
      model.for_each_adapter_parameter(name, [&](const std::string& path, Parameter<T>& parameter) {
        if (path.ends_with(".lora_A.weight") || path.ends_with(".lora_embedding_A")) A = parameter;
        if (!(path.ends_with(".lora_B.weight") || path.ends_with(".lora_embedding_B")) || !parameter.requires_grad()) return;
        if (config->use_dora || config->lora_bias)
          throw NotSupported("lorafa", std::string(config->use_dora ? "use_dora" : "lora_bias") + " of the adapter \"" + name + "\"; LoRA-FA trains B alone");
        const double s = lora_scale(*config, path.substr(0, path.rfind(".lora_"))).scaling;
        Tensor<T> P({A.shape()[0], A.shape()[0]});
        ops::inverse_gram<T>(P.view(), A.value().view(), 1e-8);
        ops::scale<T>(P.view(), T(1 / (s * s)), P.view());
        frozen.push_back(A), sites_.push_back({parameter, std::move(P)});
      });
    }
    if (sites_.empty()) throw ConfigError("lorafa", "no LoRA trains here; LoRA-FA trains the B of LoRAs");
    for (const Parameter<T>& A : frozen) A.set_requires_grad(false);
  }
  /// To be called between backward, with whatever clips, and the optimiser's step.
  void turn_gradients() const {
    for (const Site& site : sites_) {
      if (site.B.gradient().empty()) continue;
      const Tensor<T> g = site.B.grad().clone();
      ops::gemm<T>(T(1), g.view(), false, site.P.view(), false, T(0), site.B.gradient().sink().view);
    }
  }

 private:
  struct Site {
    Parameter<T> B;
    Tensor<T> P;  // (A Aᵀ + 1e-8 I)⁺ / s²
  };
  std::vector<Site> sites_;
};

}  // namespace peft
