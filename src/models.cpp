// SPDX-License-Identifier: Apache-2.0
#include "peft/models/impl/config.inl"
#include "peft/models/impl/llama.inl"
