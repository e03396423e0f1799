// SPDX-License-Identifier: Apache-2.0
#include "peft/adapters/impl/config_fields.inl"
#include "peft/adapters/impl/head.inl"
#include "peft/adapters/impl/peft_model.inl"
#include "peft/adapters/impl/target_modules.inl"
#include "peft/adapters/lora/config.inl"
#include "peft/adapters/lora/convert.hpp"
#include "peft/adapters/registry.hpp"

namespace peft {
template void add_adapter(PeftModel<Transformer<float>>&, const std::string&, const AnyAdapterConfig&, std::uint64_t, bool);
template std::vector<ConvertedSite> convert_to_lora(PeftModel<Transformer<float>>&, const std::string&, const std::string&, const ops::KeptRank&);
}  // namespace peft
