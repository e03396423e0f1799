// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "peft/core/random.hpp"
#include "peft/ops/weight_view.hpp"

namespace peft::ops {

/// y = x, or y += x
template <Scalar T>
void copy(View<T> y, View<const T> x);
template <Scalar T>
void add_into(View<T> y, View<const T> x);
/// y = a + b; y may be a or b.
template <Scalar T>
void add(View<T> y, View<const T> a, View<const T> b);
/// y += alpha · x
template <Scalar T>
void axpy(View<T> y, T alpha, View<const T> x);
/// y = alpha · x, y may be x
template <Scalar T>
void scale(View<T> y, T alpha, View<const T> x);
/// y = a ∘ b
template <Scalar T>
void multiply(View<T> y, View<const T> a, View<const T> b);
/// Writes x into the sink: as it is, or added.
template <Scalar T>
void into(GradSink<T> sink, View<const T> x);
/// y row n, column c = x · (1/(1−p) or 0), by the key and (row_keys[n], c): the same element is dropped wherever it is packed. y may be x.
template <Scalar T>
void dropout(View<T> y, View<const T> x, const DropoutKey& key, std::span<const std::uint64_t> row_keys);
/// Σ x² in double, in an order that does not depend on the number of threads.
template <Scalar T>
double sum_of_squares(View<const T> x);
/// Log of the softmax of each row, in place.
template <Scalar T>
void log_softmax(View<T> x);
bool all_finite(View<const float> x);
bool all_finite(View<const double> x);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/elementwise.inl"
#endif
