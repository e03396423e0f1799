// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/ops/activation_kind.hpp"
#include "peft/ops/weight_view.hpp"

namespace peft::ops {

/// How a product with a weight is computed. A row's bits depend on the kernel, never on how many rows there are: who decides, decides
/// for a whole forward. `panel`: packed tiles, for training and prefill. `dot`: rows of W streamed once, for decoding few rows.
enum class Kernel { panel, dot };

/// The kernel that products on this thread use; a guard sets it.
Kernel kernel();
class UseKernel {
 public:
  explicit UseKernel(Kernel k);
  ~UseKernel();
  UseKernel(const UseKernel&) = delete;
  UseKernel& operator=(const UseKernel&) = delete;

 private:
  Kernel previous_;
};

/// What products of float with weights multiply: float32, or bfloat16 (bf16), to which both factors are rounded while they are packed; sums
/// are float32. Where the processor has no instruction for it (AVX512-BF16), and for double, the guard changes nothing. Kernel::dot and
/// weights of a few rows stay float32.
DType compute_dtype();
bool has_bf16_products();
class UseComputeDtype {
 public:
  explicit UseComputeDtype(DType dtype);
  ~UseComputeDtype();
  UseComputeDtype(const UseComputeDtype&) = delete;
  UseComputeDtype& operator=(const UseComputeDtype&) = delete;

 private:
  DType previous_;
};

/// What is done to a product while its tiles are in the cache:  Y = f(… + s · xa Bᵀ). The same bits as of the steps one by one.
template <class T>
struct Epilogue {
  View<const T> xa = {};  // (N, r); empty: no such term
  View<const T> b = {};   // (columns of Y, r), or (r, columns) if transposed
  bool transposed = false;
  T s = 1;
  const Activation* f = nullptr;  // null: as it is
};

/// Y (N, out) = X (N, in) Wᵀ + bias, or Y += … . bias (out) may be null.
template <Scalar T>
void linear_forward(View<T> y, View<const T> x, const WeightView& w, const T* bias = nullptr, bool accumulate = false, const Epilogue<T>& then = {});

/// dX (N, in) = dY (N, out) W, or += : one more product on the same weights, widened per tile.
template <Scalar T>
void linear_backward_input(GradSink<T> dx, View<const T> dy, const WeightView& w, const Epilogue<T>& then = {});

/// dW (out, in) = dYᵀ X, or += ;  db (out) = Σ_n dY, or +=. Either may be nobody's.
template <Scalar T>
void linear_backward_weight(GradSink<T> dw, GradSink<T> db, View<const T> dy, View<const T> x);

/// C = alpha · op(A) op(B) + beta · C. With beta = 0, C need not be initialised.
template <Scalar T>
void gemm(T alpha, View<const T> a, bool transpose_a, View<const T> b, bool transpose_b, T beta, View<T> c);

}  // namespace peft::ops

#if !defined(PEFT_COMPILED)
#include "peft/ops/impl/gemm.inl"
#endif
