// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/autograd/checkpoint.hpp"
#include "peft/autograd/functions/activation.hpp"
#include "peft/autograd/functions/attention.hpp"
#include "peft/autograd/functions/cross_entropy.hpp"
#include "peft/autograd/functions/elementwise.hpp"
#include "peft/autograd/functions/embedding.hpp"
#include "peft/autograd/functions/linear.hpp"
#include "peft/autograd/functions/low_rank.hpp"
#include "peft/autograd/functions/matrix.hpp"
#include "peft/autograd/functions/norm.hpp"
#include "peft/autograd/functions/rope.hpp"
#include "peft/autograd/functions/target_loss.hpp"
#include "peft/autograd/gradient.hpp"
#include "peft/autograd/parameter.hpp"
#include "peft/autograd/tape.hpp"
#include "peft/autograd/variable.hpp"
