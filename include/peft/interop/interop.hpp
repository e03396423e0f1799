// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/interop/eigen.hpp"
#include "peft/interop/xtensor.hpp"
