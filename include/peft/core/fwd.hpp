// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace peft {
class Error;
class Shape;
class Storage;
template <class T>
struct View;
template <class T>
class Tensor;
}  // namespace peft
