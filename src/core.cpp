// SPDX-License-Identifier: Apache-2.0
#include "peft/core/impl/error.inl"
#include "peft/core/impl/parallel.inl"
#include "peft/core/impl/storage.inl"
#include "peft/core/impl/token_template.inl"
