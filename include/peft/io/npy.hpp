// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "peft/core/float16.hpp"
#include "peft/core/tensor.hpp"

namespace peft {

/// Reads an array that NumPy saved (.npy, format versions 1 to 3): little-endian f2, f4, f8, i1 … i8, u1 … u4 and bool, in C or Fortran order.
/// T is float, double, std::int32_t, std::int64_t or std::uint8_t. Real numbers are rounded to T; integers and truth values become a T only if it
/// holds them exactly; real numbers are not read as integers. Throws FormatError naming the byte: a damaged header, other types and byte orders,
/// more than six dimensions, a file longer or shorter than its shape says, an integer that T does not hold. Sizes are checked before anything is
/// allocated.
template <class T>
Tensor<T> read_npy(const std::string& path);

/// Writes the file that numpy.save writes, byte for byte: version 1.0, C order. T is float, double, Float16, std::int32_t, std::int64_t,
/// std::uint8_t or bool. Atomic. Throws FormatError if the file cannot be written.
template <class T>
void write_npy(const std::string& path, const Tensor<T>& tensor);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/io/impl/npy.inl"
#endif
