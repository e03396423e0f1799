// SPDX-License-Identifier: Apache-2.0
#include "everything.hpp"

const void* where_isa_stands();
int threads_as_the_other_unit_sees_them();

const void* where_isa_stands() { return reinterpret_cast<const void*>(&peft::isa); }
int threads_as_the_other_unit_sees_them() { return peft::num_threads(); }
