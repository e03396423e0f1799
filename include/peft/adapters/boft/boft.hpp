// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/boft/config.hpp"
#include "peft/adapters/on_linear.hpp"
#include "peft/adapters/rotation.hpp"

namespace peft {

/// BOFT (Liu et al. 2024, arXiv:2311.06243) with one butterfly factor, as PEFT has it without its GPU extension: rotates the input in blocks and
/// scales the outputs.
///
///     x ── in blocks of b ── · R (b, b) each ── W, frozen ── ∘ s (out) ── + bias ── y
///
/// R = (I − Q)(I + Q)⁻¹ with Q = (P − Pᵀ) / 2 for the P that trains.
template <Scalar T>
struct Boft {
  Parameter<T> R;  // (1, blocks, b, b), P
  Parameter<T> s;  // (out_features, 1)
  Derived<T> memo = {};
  Variable<T> rotation() const {
    return memo({&R}, [&] {
      const std::int64_t blocks = R.shape()[1], b = R.shape()[2];
      auto transposes = std::make_shared<ops::GatherMap>();
      for (std::int64_t i = 0; i < blocks * b * b; i++) transposes->from.push_back(i / (b * b) * b * b + i % b * b + i / b % b);
      const Variable<T> P = reshape(R.variable(), {blocks, b, b});
      return cayley(scale(add(scale(gather(P, std::shared_ptr<const ops::GatherMap>(transposes), {blocks, b, b}), T(-1)), P), T(0.5)));
    });
  }
  Variable<T> operator()(const Linear<T>& base, const Variable<T>& x, const Next<Linear<T>>& next) const {
    Variable<T> y = next(multiply_blocks(x, rotation()));
    if (base.bias) y = add_constant_row(std::move(y), T(-1), base.bias.value());
    y = scale_columns(y, s.variable());
    return base.bias ? add_constant_row(std::move(y), T(1), base.bias.value()) : y;
  }
  /// W ← s ∘ (W Rᵀ); the bias is not scaled.
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    const Variable<T> back(transposed_blocks(rotation().value()));
    change_weight(fused, [&](const Variable<T>& W) { return scale_rows(multiply_blocks(W, back), s.variable()); });
  }
  static void describe(auto& self, auto&& visit) {
    visit("boft_R", self.R);
    visit("boft_s", self.s);
  }
};

template <Scalar T>
bool attach_adapter(const BOFTConfig& config, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&]([[maybe_unused]] Random random) {
    const std::int64_t in = site.in_features(), out = site.out_features();
    must_divide("boft.attach", config.boft_block_size > 0 ? "boft_block_size" : "boft_block_num", config.boft_block_size + config.boft_block_num, context.path,
                in);
    const std::int64_t b = config.boft_block_size > 0 ? config.boft_block_size : in / config.boft_block_num;
    if (config.init_weights) return Boft<T>{constant<T>({1, in / b, b, b}, 0), constant<T>({out, 1}, 1)};
    Parameter<T> R = drawn_normal<T>({1, in / b, b, b}, 0, 0.1, random);
    return Boft<T>{std::move(R), drawn_normal<T>({out, 1}, 1, 0.1, random)};
  });
}
template <Scalar T>
bool attachable(const BOFTConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
