// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "peft/autograd/functions/embedding.hpp"
#include "peft/ops/fourier.hpp"
#include "peft/ops/gemm.hpp"
#include "peft/ops/matrix.hpp"

namespace peft {

/// cos and sin of 2π u p / n for u, p = 0 … ⌊n/2⌋.
template <Scalar T>
struct HalfWaves {
  Tensor<T> cosine, sine;
  explicit HalfWaves(std::int64_t n) : cosine({ops::half_period(n), ops::half_period(n)}), sine(cosine.shape()) {
    ops::half_waves<T>(cosine.view(), sine.view(), n);
  }
  /// The tables of n, one for all who hold them.
  static std::shared_ptr<const HalfWaves> of(std::int64_t n) {
    static std::mutex mutex;
    static std::map<std::int64_t, std::weak_ptr<const HalfWaves>> tables;
    const std::lock_guard<std::mutex> lock(mutex);
    std::weak_ptr<const HalfWaves>& known = tables[n];
    std::shared_ptr<const HalfWaves> waves = known.lock();
    if (!waves) known = waves = std::make_shared<const HalfWaves>(n);
    return waves;
  }
};

/// The places (u, v) of a spectrum (out, in) that are not zero, and what its transform needs.
template <Scalar T>
struct SparseSpectrum {
  std::int64_t out, in;
  ops::SparsePlaces at;
  std::shared_ptr<const HalfWaves<T>> along_out = HalfWaves<T>::of(out), along_in = HalfWaves<T>::of(in);

  /// cosines · even · cosines into even, sines · odd · sines into odd.
  void transform(Tensor<T>& even, Tensor<T>& odd) const {
    Tensor<T> half(even.shape());
    ops::gemm<T>(T(1), along_out->cosine.view(), false, even.view(), false, T(0), half.view());
    ops::gemm<T>(T(1), half.view(), false, along_in->cosine.view(), false, T(0), even.view());
    ops::gemm<T>(T(1), along_out->sine.view(), false, odd.view(), false, T(0), half.view());
    ops::gemm<T>(T(1), half.view(), false, along_in->sine.view(), false, T(0), odd.view());
  }
  /// f(k, u', v', the product of the signs of both sines) for each place.
  template <class F>
  void each(F f) const {
    for (std::size_t k = 0; k < at.row.size(); k++) {
      const ops::Folded<T> u(at.row[k], out), v(at.column[k], in);
      f(std::int64_t(k), u.index, v.index, u.sign * v.sign);
    }
  }
};

/// The real part of the inverse discrete Fourier transform of a spectrum (out, in) that is zero but for `values` (K) at (u[k], v[k]):
///     y(p, q) = alpha / (out · in) Σ_k values[k] cos(2π (u[k] p / out + v[k] q / in))
/// cos(a + b) = cos a cos b − sin a sin b, and both factors fold to half a period: four products of a quarter of y's size, whatever K is.
template <Scalar T>
Variable<T> sparse_inverse_fourier(const Variable<T>& values, std::shared_ptr<const SparseSpectrum<T>> spectrum, T alpha = 1) {
  const SparseSpectrum<T>& s = *spectrum;
  const Shape folded{ops::half_period(s.out), ops::half_period(s.in)};
  const T factor = alpha / (T(s.out) * T(s.in));
  Tensor<T> even = Tensor<T>::zeros(folded), odd = Tensor<T>::zeros(folded), y({s.out, s.in});
  s.each([&](std::int64_t k, std::int64_t u, std::int64_t v, T sign) {
    const T value = values.value()[k];
    even(u, v) += value, odd(u, v) += sign * value;
  });
  s.transform(even, odd);
  ops::unfold_waves<T>(y.view(), even.view(), odd.view(), factor);
  return recorded(std::move(y), values.needs_grad(), [dv = values.gradient(), spectrum, folded, factor](Tensor<T> dy) {
    Tensor<T> plus(folded), minus(folded), g({std::int64_t(spectrum->at.row.size())});
    ops::fold_waves<T>(plus.view(), minus.view(), dy.view());
    spectrum->transform(plus, minus);
    spectrum->each([&](std::int64_t k, std::int64_t u, std::int64_t v, T sign) { g[k] = factor * (plus(u, v) - sign * minus(u, v)); });
    dv.add(std::move(g));
  });
}

}  // namespace peft
