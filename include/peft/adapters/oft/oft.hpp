// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <limits>

#include "peft/adapters/oft/config.hpp"
#include "peft/adapters/on_linear.hpp"
#include "peft/adapters/rotation.hpp"

namespace peft {

/// OFT (Qiu et al. 2023, arXiv:2306.07280; on the input, OFTv2, arXiv:2506.19847): rotates what enters the map, block by block.
///
///     x ── in blocks of b ── · R (b, b) each ── W, frozen ── y
///
/// R follows from a skew-symmetric Q of which the strict upper triangle trains: by Cayley's transform, or by its series. Q = 0 changes nothing.
/// COFT bounds each block, ‖Q‖ ≤ ε / √blocks: what is larger is scaled down.
template <Scalar T>
struct Oft {
  Parameter<T> R;  // (blocks, b (b − 1) / 2), of Q
  std::shared_ptr<const ops::GatherMap> skew;
  std::int64_t blocks = 0, b = 0, terms = 0;  // terms: 0 for the exact transform
  T bound = 0;                                // of ‖Q‖; 0: none
  Derived<T> memo = {};
  /// The triangles of Q within their bound. As in PEFT they are written back, for the optimiser to go on from there, unless they are frozen; what was
  /// taken off has no gradient of its own.
  Variable<T> triangles() const {
    if (bound == 0) return R.variable();
    Tensor<T> within = R.value().clone();
    bool changed = false;
    for (std::int64_t k = 0; k < within.rows(); k++) {
      const View<T> block = within.view().row_range(k, k + 1);
      const T norm = T(std::sqrt(2 * ops::sum_of_squares<T>(block)));  // each number is there twice
      if (norm > bound * (1 + 8 * std::numeric_limits<T>::epsilon())) ops::scale<T>(block, bound / norm, block), changed = true;
    }
    if (!changed) return R.variable();
    if (!R.requires_grad()) return Variable<T>(std::move(within));
    R.assign(std::move(within));
    return R.variable();
  }
  /// (blocks, b, b)
  Variable<T> rotation() const {
    return memo({&R}, [&] {
      const Variable<T> Q = gather(triangles(), skew, {blocks, b, b});
      return terms > 0 ? cayley_neumann(Q, terms) : cayley(Q);
    });
  }
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, const Next<Linear<T>>& next) const { return next(multiply_blocks(x, rotation())); }
  /// W ← W Rᵀ
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    const Variable<T> back(transposed_blocks(rotation().value()));
    change_weight(fused, [&](const Variable<T>& W) { return multiply_blocks(W, back); });
  }
  static void describe(auto& self, auto&& visit) { visit("oft_R.weight", self.R); }
};

/// The divisor of `in` nearest to `wanted`, the smaller of two.
inline std::int64_t nearest_divisor(std::int64_t in, std::int64_t wanted) {
  std::int64_t above = wanted, below = std::min(wanted, in);
  while (above <= in && in % above != 0) above++;
  while (below > 1 && in % below != 0) below--;
  return above > in || wanted - below <= above - wanted ? below : above;
}

template <Scalar T>
bool attach_adapter(const OFTConfig& config, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&]([[maybe_unused]] Random random) {
    const std::int64_t in = site.in_features();
    const std::int64_t b = config.oft_block_size > 0 ? nearest_divisor(in, config.oft_block_size) : in / nearest_divisor(in, config.r);
    const std::int64_t own = config.block_share ? 1 : in / b, count = b * (b - 1) / 2;
    Oft<T> oft{kaiming_or_zero<T>({own, count}, config.init_weights, random),
               skew_map(in / b, b, config.block_share),
               in / b,
               b,
               config.use_cayley_neumann ? config.num_cayley_neumann_terms : 0,
               config.coft ? T(config.eps / std::sqrt(double(own))) : T(0)};
    return oft;
  });
}
template <Scalar T>
bool attachable(const OFTConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
