// SPDX-License-Identifier: Apache-2.0
#include "everything.hpp"

const void* where_isa_stands();
int threads_as_the_other_unit_sees_them();

// Both units must share one copy of every inline function, and so one pool and one choice of kernels.
int main() {
  peft::set_num_threads(3);
  if (threads_as_the_other_unit_sees_them() != 3) return 1;
  return where_isa_stands() == reinterpret_cast<const void*>(&peft::isa) ? 0 : 2;
}
