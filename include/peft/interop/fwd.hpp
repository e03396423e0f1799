// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/core/fwd.hpp"  // as_eigen, as_xtensor and as_tensor are templates over these
