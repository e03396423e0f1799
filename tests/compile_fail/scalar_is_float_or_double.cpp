// SPDX-License-Identifier: Apache-2.0
// Storage types are tags of frozen tensors; what is computed with is float or double.
// expect: Scalar
#include "peft/autograd/variable.hpp"

#ifdef VALID
using Number = double;
#else
using Number = int;
#endif

int main() { return peft::Variable<Number>().needs_grad() ? 1 : 0; }
