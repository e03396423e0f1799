// SPDX-License-Identifier: Apache-2.0
// Another library's products in place of the loop nest, where PEFT_GEMM_OPENBLAS or PEFT_GEMM_ONEDNN is defined: for comparison, and for
// machines that the kernels do not know. Weights that are not plain numbers of T are widened as a whole first. Results then depend on
// that library: on its number of threads, and on which rows a batch holds.
#pragma once
#include "peft/ops/impl/gemm_nest.hpp"
#include "peft/ops/isa.hpp"

#if defined(PEFT_GEMM_OPENBLAS)
#include <cblas.h>
#elif defined(PEFT_GEMM_ONEDNN)
#include <oneapi/dnnl/dnnl.h>
#endif

namespace peft::ops::detail {

/// A row-major matrix, or the transpose of one.
template <class T>
struct Operand {
  const T* data;
  std::int64_t stride;
  bool transposed;
};

#if defined(PEFT_GEMM_OPENBLAS)
inline constexpr const char* gemm_engine = "OpenBLAS";
template <class T>
inline constexpr bool engine_multiplies = true;

template <class T>
void engine_gemm(std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const Operand<T>& a, const Operand<T>& b, T beta, View<T> c) {
  static thread_local int threads = 0;
  if (threads != num_threads()) openblas_set_num_threads(threads = num_threads());
  const auto trans = [](const Operand<T>& x) { return x.transposed ? CblasTrans : CblasNoTrans; };
  const auto small = [](std::int64_t x) { return blasint(x); };
  if constexpr (sizeof(T) == 4)
    cblas_sgemm(CblasRowMajor, trans(a), trans(b), small(m), small(n), small(k), alpha, a.data, small(a.stride), b.data, small(b.stride), beta, c.data,
                small(c.stride));
  else
    cblas_dgemm(CblasRowMajor, trans(a), trans(b), small(m), small(n), small(k), alpha, a.data, small(a.stride), b.data, small(b.stride), beta, c.data,
                small(c.stride));
}
#elif defined(PEFT_GEMM_ONEDNN)
inline constexpr const char* gemm_engine = "oneDNN";
template <class T>
inline constexpr bool engine_multiplies = sizeof(T) == 4;

template <class T>
void engine_gemm(std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const Operand<T>& a, const Operand<T>& b, T beta, View<T> c) {
  const auto trans = [](const Operand<T>& x) { return x.transposed ? 'T' : 'N'; };
  if (dnnl_sgemm(trans(a), trans(b), m, n, k, alpha, a.data, a.stride, b.data, b.stride, beta, c.data, c.stride) != dnnl_success)
    throw Error("gemm",
                "oneDNN refused a product of " + std::to_string(m) + " x " + std::to_string(k) + " and " + std::to_string(k) + " x " + std::to_string(n));
}
#else
inline constexpr const char* gemm_engine = "own";
template <class T>
inline constexpr bool engine_multiplies = false;
template <class T>
void engine_gemm(std::int64_t, std::int64_t, std::int64_t, T, const Operand<T>&, const Operand<T>&, T, View<T>) {}
#endif

/// A factor as (lines, depth) numbers of T: where it lies, or widened into scratch memory.
template <class T>
Operand<T> operand(const GemmKernels<T>& f, const Factor& w, int which) {
  constexpr std::int64_t size = sizeof(T);
  if (w.type == dtype_of<T> && w.rope_head_dim == 0) return {reinterpret_cast<const T*>(w.data), w.stride / size, !w.along};
  const std::int64_t rows = w.along ? w.lines : w.depth, cols = w.along ? w.depth : w.lines;
  T* const to = reinterpret_cast<T*>(scratch(which, rows * cols * size));
  const Widen<T> widen = f.widener(w.type);
  parallel_ranges(rows, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; r++) widen(to + r * cols, w.data + w.stored(r) * w.stride, 0, cols);
  });
  return {to, cols, !w.along};
}

/// The product by the loop nest, or by the engine that the library was built with.
template <class T>
void multiply(const GemmKernels<T>& f, const Product<T>& p) {
  const GemmKernels<T>& exact = PEFT_DISPATCH(gemm_kernels<T>, );
  if constexpr (engine_multiplies<T>) {
    if (f.panel_type != dtype_of<T> || p.xa.depth > 0 || p.finish || p.a.depth == 0) return Nest<T>(f, exact, p).run();
    const std::int64_t m = p.a.lines, n = p.b.lines, k = p.a.depth;
    if (m == 0 || n == 0) return;
    Operand<T> a = operand(f, p.a, 0), b = operand(f, p.b, 1);
    // C = A Bᵀ, or its transpose B Aᵀ.
    if (p.flipped)
      a.transposed = !a.transposed, engine_gemm<T>(n, m, k, p.alpha, b, a, p.beta, p.c);
    else
      b.transposed = !b.transposed, engine_gemm<T>(m, n, k, p.alpha, a, b, p.beta, p.c);
    for (std::int64_t i = 0; p.bias && i < m; i++)
      for (std::int64_t j = 0; j < n; j++) (p.flipped ? p.c(j, i) : p.c(i, j)) += p.bias[j];
  } else {
    Nest<T>(f, exact, p).run();
  }
}

}  // namespace peft::ops::detail
