// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>
#include <variant>

#include "peft/adapters/adalora/adalora.hpp"                                  // AdaLoraConfig
#include "peft/adapters/adaption_prompt/adaption_prompt.hpp"                  // AdaptionPromptConfig
#include "peft/adapters/bitfit/bitfit.hpp"                                    // BitFitConfig
#include "peft/adapters/boft/boft.hpp"                                        // BOFTConfig
#include "peft/adapters/bottleneck/bottleneck.hpp"                            // BottleneckConfig
#include "peft/adapters/c3a/c3a.hpp"                                          // C3AConfig
#include "peft/adapters/delora/delora.hpp"                                    // DeloraConfig
#include "peft/adapters/fourierft/fourierft.hpp"                              // FourierFTConfig
#include "peft/adapters/gralora/gralora.hpp"                                  // GraloraConfig
#include "peft/adapters/hira/hira.hpp"                                        // HiraConfig
#include "peft/adapters/hra/hra.hpp"                                          // HRAConfig
#include "peft/adapters/ia3/ia3.hpp"                                          // IA3Config
#include "peft/adapters/ln_tuning/ln_tuning.hpp"                              // LNTuningConfig
#include "peft/adapters/loha/loha.hpp"                                        // LoHaConfig
#include "peft/adapters/lokr/lokr.hpp"                                        // LoKrConfig
#include "peft/adapters/lora/lora.hpp"                                        // LoraConfig
#include "peft/adapters/miss/miss.hpp"                                        // MissConfig
#include "peft/adapters/multitask_prompt_tuning/multitask_prompt_tuning.hpp"  // MultitaskPromptTuningConfig
#include "peft/adapters/oft/oft.hpp"                                          // OFTConfig
#include "peft/adapters/p_tuning/p_tuning.hpp"                                // PromptEncoderConfig
#include "peft/adapters/peft_model.hpp"
#include "peft/adapters/prefix_tuning/prefix_tuning.hpp"        // PrefixTuningConfig
#include "peft/adapters/prompt_tuning/prompt_tuning.hpp"        // PromptTuningConfig
#include "peft/adapters/road/road.hpp"                          // RoadConfig
#include "peft/adapters/shira/shira.hpp"                        // ShiraConfig
#include "peft/adapters/trainable_tokens/trainable_tokens.hpp"  // TrainableTokensConfig
#include "peft/adapters/vblora/vblora.hpp"                      // VBLoRAConfig
#include "peft/adapters/vera/vera.hpp"                          // VeraConfig
#include "peft/nn/transformer.hpp"

namespace peft {

/// Every method that a file or a command may name, by its config: an include above and a name here make one known. Only readers of adapter files
/// need this list; `add_adapter` takes any config that has an `attach_adapter`, a user's own included.
using AnyAdapterConfig =
    std::variant<LoraConfig, AdaLoraConfig, AdaptionPromptConfig, BitFitConfig, BOFTConfig, BottleneckConfig, C3AConfig, DeloraConfig, FourierFTConfig,
                 GraloraConfig, HiraConfig, HRAConfig, IA3Config, LNTuningConfig, LoHaConfig, LoKrConfig, MissConfig, MultitaskPromptTuningConfig, OFTConfig,
                 PromptEncoderConfig, PrefixTuningConfig, PromptTuningConfig, RoadConfig, ShiraConfig, TrainableTokensConfig, VBLoRAConfig, VeraConfig>;

/// f(std::type_identity<Config>()) for every method of the registry.
template <class F>
void for_each_method(F f) {
  [&]<class... C>(std::type_identity<std::variant<C...>>) { (f(std::type_identity<C>()), ...); }(std::type_identity<AnyAdapterConfig>());
}

/// PeftModel::add_adapter of whichever method it is.
template <class M>
void add_adapter(PeftModel<M>& model, const std::string& name, const AnyAdapterConfig& config, std::uint64_t seed = 0, bool every_name = true) {
  std::visit([&](const auto& c) { model.add_adapter(name, c, seed, every_name); }, config);
}

#if defined(PEFT_COMPILED)
// Many methods, each at every kind of site: compiled once.
extern template void add_adapter(PeftModel<Transformer<float>>&, const std::string&, const AnyAdapterConfig&, std::uint64_t, bool);
#endif

}  // namespace peft
