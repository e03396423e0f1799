// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/core/bfloat16.hpp"
#include "peft/core/dtype.hpp"
#include "peft/core/error.hpp"
#include "peft/core/float16.hpp"
#include "peft/core/labels.hpp"
#include "peft/core/parallel.hpp"
#include "peft/core/random.hpp"
#include "peft/core/shape.hpp"
#include "peft/core/storage.hpp"
#include "peft/core/tensor.hpp"
#include "peft/core/token_template.hpp"
