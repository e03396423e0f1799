// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "peft/autograd/parameter.hpp"
#include "peft/ops/gemm.hpp"
#include "peft/ops/lengths.hpp"

namespace peft {

/// The lengths that DoRA divides by: n = ‖W + s B A‖ by the rows of a Linear's W (out, in), or ‖Wᵀ + s B A‖ by those of a table's (in, out), where
///
///     n² = ‖W‖² + 2 s Σ B ∘ (A Wᵀ)ᵀ + s² Σ B ∘ (B A Aᵀ)
///
/// takes products with the stored weight, and no dense one. ‖W‖² is summed up at the first call, n anew when A, B or W have changed: one forward of a
/// step pays, and of generation the first alone.
template <Scalar T>
class DirectionNorms {
 public:
  Tensor<T> operator()(const Parameter<T>& W, bool is_table, const Parameter<T>& A, const Parameter<T>& B, double s) const {
    State& at = *state_;
    const std::lock_guard<std::mutex> lock(at.mutex);
    const std::uint64_t factors = A.version() + B.version();
    const bool same_base = at.base == W.identity() && at.base_version == W.version();
    if (same_base && at.n && at.factors == factors) return at.n;
    const std::int64_t r = A.shape()[0], out = B.shape()[0];
    if (!same_base) {
      at.squares.assign(std::size_t(out), 0.0);
      ops::squared_lengths<T>(at.squares, W.view(), is_table);
      at.base = W.identity(), at.base_version = W.version();
    }
    Tensor<T> aw({r, out}), aa({r, r}), baa({out, r}), n({out});
    const View<const T> a = A.value().view(), b = B.value().view();
    {
      const ops::UseKernel few_rows(ops::Kernel::dot);
      if (is_table)
        ops::linear_backward_input<T>({aw.view(), false}, a, W.view());
      else
        ops::linear_forward<T>(aw.view(), a, W.view());
    }
    ops::gemm<T>(T(1), a, false, a, true, T(0), aa.view());
    ops::gemm<T>(T(1), b, false, aa.view(), false, T(0), baa.view());
    ops::lengths_of_sum<T>(n.span(), at.squares, b, aw.view(), baa.view(), s);
    at.n = n, at.factors = factors;
    return n;
  }

 private:
  struct State {
    std::mutex mutex;
    const void* base = nullptr;
    std::uint64_t base_version = 0, factors = 0;
    std::vector<double> squares;  // ‖W‖² by rows
    Tensor<T> n;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace peft
