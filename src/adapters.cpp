// SPDX-License-Identifier: Apache-2.0
#include "peft/adapters/impl/config_fields.inl"
#include "peft/adapters/impl/head.inl"
#include "peft/adapters/impl/peft_model.inl"
#include "peft/adapters/impl/target_modules.inl"
#include "peft/adapters/lora/config.inl"
