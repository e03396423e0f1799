// SPDX-License-Identifier: Apache-2.0
#include "peft/freeze/impl/policies.inl"
