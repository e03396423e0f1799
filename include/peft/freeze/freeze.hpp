// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/freeze/parts.hpp"
#include "peft/freeze/policies.hpp"
#include "peft/freeze/policy.hpp"
