// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/lokr/config.hpp"
#include "peft/adapters/on_linear.hpp"

namespace peft {

/// LoKr (LyCORIS, Yeh et al. 2024, arXiv:2309.14859): a Kronecker product of a small matrix and a larger one, either of them low-rank where that is
/// smaller.
///
///     Δ = s · w1 ⊗ w2,   w1 (l, m), w2 (k, n),  out = l k, in = m n          y = W x + Δ x,  s = alpha / r
///
/// In training rank_dropout drops rows of Δ, and module_dropout all of it.
template <Scalar T>
struct LoKr {
  Parameter<T> w1, w1_a, w1_b;  // (l, m), or (l, r) and (r, m)
  Parameter<T> w2, w2_a, w2_b;  // (k, n), or (k, r) and (r, n)
  T scaling = 1;
  Derived<T> memo = {};
  DeltaDropout<T> dropout = {};
  Variable<T> delta() const {
    const Parameter<T>&left = w1 ? w1 : w1_a, &left_b = w1 ? w1 : w1_b, &right = w2 ? w2 : w2_a, &right_b = w2 ? w2 : w2_b;
    return memo({&left, &left_b, &right, &right_b}, [&] {
      const Variable<T> a = w1 ? w1.variable() : matmul(w1_a.variable(), w1_b.variable());
      const Variable<T> b = w2 ? w2.variable() : matmul(w2_a.variable(), w2_b.variable());
      return scale(kronecker(a, b), scaling);
    });
  }
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, Variable<T> y) const {
    return dropout.add(std::move(y), x, [&] { return delta(); });
  }
  void merge_into(Linear<T>& fused, const Linear<T>&) const { add_to_weight(fused, delta()); }
  static void describe(auto& self, auto&& visit) {
    visit("lokr_w1", self.w1);
    visit("lokr_w1_a", self.w1_a);
    visit("lokr_w1_b", self.w1_b);
    visit("lokr_w2", self.w2);
    visit("lokr_w2_a", self.w2_a);
    visit("lokr_w2_b", self.w2_b);
  }
};

/// n = first · second. A factor that divides n is the first; otherwise both are as near to each other as possible, the first at most `factor`
/// (-1: no bound).  128 → (8, 16), 127 → (1, 127), 128 with 4 → (4, 32)
inline std::pair<std::int64_t, std::int64_t> kronecker_split(std::int64_t n, std::int64_t factor) {
  if (factor > 0 && n % factor == 0) return {factor, n / factor};
  if (factor == -1) factor = n;
  std::int64_t first = 1, second = n;
  const std::int64_t length = first + second;
  while (first < second) {
    std::int64_t next = first + 1;
    while (n % next != 0) next++;
    if (next + n / next > length || next > factor) break;
    first = next, second = n / next;
  }
  return first > second ? std::pair{second, first} : std::pair{first, second};
}

template <Scalar T>
bool attach_adapter(const LoKrConfig& config, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&]([[maybe_unused]] Random random) {
    const std::int64_t r = detail::pattern_or("rank_pattern", config.rank_pattern, context.path, config.r);
    const double alpha = detail::pattern_or("alpha_pattern", config.alpha_pattern, context.path, config.alpha);
    const auto [m, n] = kronecker_split(site.in_features(), config.decompose_factor);
    const auto [l, k] = kronecker_split(site.out_features(), config.decompose_factor);
    LoKr<T> lokr;
    lokr.scaling = T(alpha / double(r));
    lokr.dropout = {config.rank_dropout, config.module_dropout, config.rank_dropout_scale, name_hash(context.path)};
    const bool lycoris = config.init_weights.name == "lycoris", zero = config.init_weights.on && !lycoris;
    if (config.decompose_both && 2 * r < std::max(l, m))
      lokr.w1_a = kaiming_or_zero<T>({l, r}, zero, random), lokr.w1_b = kaiming<T>({r, m}, random);
    else
      lokr.w1 = kaiming_or_zero<T>({l, m}, zero, random);
    if (2 * r < std::max(k, n))
      lokr.w2_a = kaiming<T>({k, r}, random), lokr.w2_b = kaiming_or_zero<T>({r, n}, lycoris, random);
    else
      lokr.w2 = kaiming_or_zero<T>({k, n}, lycoris, random);
    return lokr;
  });
}
template <Scalar T>
bool attachable(const LoKrConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
