// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/c3a/config.hpp"
#include "peft/adapters/on_linear.hpp"

namespace peft {

/// C³A (Chen et al. 2024, arXiv:2407.19342): a change of circulant blocks, each with b numbers of its own.
///
///     Δ[m b + p, n b + q] = kernel[m, n, (q − p) mod b] / in          y = W x + Δ x
template <Scalar T>
struct C3A {
  Parameter<T> kernel;  // (out / b, in / b, b)
  std::int64_t in = 0;
  Derived<T> memo = {};
  Variable<T> delta() const {
    return memo({&kernel}, [&] { return circulant(kernel.variable(), T(1) / T(in)); });
  }
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, Variable<T> y) const { return add_product(std::move(y), x, delta()); }
  void merge_into(Linear<T>& fused, const Linear<T>&) const { add_to_weight(fused, delta()); }
  static void describe(auto& self, auto&& visit) { visit("c3a_kernel", self.kernel); }
};

template <Scalar T>
bool attach_adapter(const C3AConfig& config, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&]([[maybe_unused]] Random random) {
    const std::int64_t in = site.in_features(), out = site.out_features();
    const std::int64_t b = detail::pattern_or("block_size_pattern", config.block_size_pattern, context.path, config.block_size);
    must_divide("c3a.attach", "block_size", b, context.path, in);
    must_divide("c3a.attach", "block_size", b, context.path, out);
    const Shape shape{out / b, in / b, b};
    const std::string& init = config.init_weights.name;
    Parameter<T> kernel = init == "gaussian"                                    ? drawn_normal<T>(shape, 0, 1, random)
                          : init == "kaiming_uniform"                           ? drawn_uniform<T>(shape, 1 / std::sqrt(double(in)), random)
                          : init == "xavier_uniform" || !config.init_weights.on ? drawn_uniform<T>(shape, std::sqrt(6.0 / double(in + out)), random)
                                                                                : constant<T>(shape, 0);
    return C3A<T>{std::move(kernel), in};
  });
}
template <Scalar T>
bool attachable(const C3AConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
