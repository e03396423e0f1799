// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/core/tensor.hpp"

namespace peft::ops {

/// Where a gradient goes. Nobody wants it: data is null. First contribution: written; later ones: added.
template <class T>
struct GradSink {
  View<T> view;
  bool accumulate = false;
  explicit operator bool() const { return view.data != nullptr; }
};

/// A matrix (out, in) of any storage type, seen in Hugging Face's order and orientation whatever the file does.
struct WeightView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t rows = 0, cols = 0;  // (out, in)
  std::int64_t stride = 0;          // elements from one stored row to the next; of NF4 a block more than cols, which each row begins with
  bool transposed = false;          // stored (in, out): GPT-2's Conv1D. Never with a block type
  std::int64_t rope_head_dim = 0;   // > 0: rows of each head are stored as GGUF's llama has them, rotary pairs side by side

  WeightView() = default;
  WeightView(const void* d, DType type, std::int64_t r, std::int64_t c) : data(d), dtype(type), rows(r), cols(c), stride(c) {}
  template <Scalar T>
  WeightView(View<const T> v) : data(v.data), dtype(dtype_of<T>), rows(v.rows), cols(v.cols), stride(v.stride) {}
  template <Scalar T>
  WeightView(View<T> v) : WeightView(View<const T>(v)) {}

  /// The stored row that holds row r: within a head of size d, row j·d/2 + i lies at 2i + j.
  std::int64_t stored_row(std::int64_t r) const {
    if (rope_head_dim == 0) return r;
    const std::int64_t d = rope_head_dim, head = r / d, j = r % d / (d / 2), i = r % (d / 2);
    return head * d + 2 * i + j;
  }
  /// Where row r begins; not for a transposed one.
  const std::byte* row(std::int64_t r) const { return static_cast<const std::byte*>(data) + bytes_of(dtype, stored_row(r) * stride); }
  std::int64_t bytes() const { return bytes_of(dtype, (transposed ? cols : rows) * stride); }
  explicit operator bool() const { return data != nullptr; }
};

}  // namespace peft::ops
