// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "peft/ops/impl/gemm_nest.hpp"

namespace peft::ops::detail {

/// A chunk's part of the working memory (Slots), cut into pieces that begin at whole registers.
template <class T>
class Pieces {
 public:
  explicit Pieces(std::byte* data) : next_(reinterpret_cast<T*>(data)) {}
  static std::int64_t whole(std::int64_t elements) { return (elements + 15) / 16 * 16; }
  T* cut(std::int64_t elements) {
    T* const begin = next_;
    next_ += whole(elements);
    return begin;
  }

 private:
  T* next_;
};

}  // namespace peft::ops::detail
