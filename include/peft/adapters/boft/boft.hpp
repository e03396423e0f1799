// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <numeric>

#include "peft/adapters/boft/config.hpp"
#include "peft/adapters/on_linear.hpp"
#include "peft/adapters/rotation.hpp"

namespace peft {

/// BOFT's multiplicative dropout: in a pass that trains, ⌊p · blocks⌋ blocks of one factor turn nothing. One draw a site and forward, of the factor and
/// of its blocks. What is left is not scaled: rotations have no mean to keep.
template <Scalar T>
struct BlockDropout {
  double p = 0;
  std::uint64_t site = 0;  // names the site
  /// R (factors · blocks, b, b)
  Variable<T> operator()(const Variable<T>& R, std::int64_t blocks) const {
    const Pass<T>* pass = Pass<T>::current();
    const auto dropped = std::size_t(p * double(blocks));
    if (!pass || !pass->training || dropped == 0) return R;
    Random random(mix(mix(pass->seed, pass->forward), site));
    const std::int64_t b = R.cols(), first = std::int64_t(random.below(std::uint64_t(R.shape()[0] / blocks))) * blocks;
    std::vector<std::int64_t> order(static_cast<std::size_t>(blocks));
    std::iota(order.begin(), order.end(), first);
    random.shuffle(order);
    Tensor<T> kept({R.rows()}, T(1)), identities = Tensor<T>::zeros(R.shape());
    for (std::size_t k = 0; k < dropped; k++)
      for (std::int64_t i = 0; i < b; i++) kept[order[k] * b + i] = 0, identities(order[k] * b + i, i) = 1;
    return add(scale_rows(R, Variable<T>(std::move(kept))), Variable<T>(std::move(identities)));
  }
};

/// BOFT (Liu et al. 2024, arXiv:2311.06243): rotates the input by a product of m butterfly factors, and scales the outputs.
///
///     x ── B_{m−1} ── … ── B_0 ── W, frozen ── ∘ s (out) ── + bias ── y         B_i = P_i diag(R_i1, R_i2, …) P_iᵀ
///
/// Each R is a rotation of b features, (I − Q)(I + Q)⁻¹ with Q = (P − Pᵀ) / 2 for the P that trains. The permutation P_i says which features a block of
/// factor i turns: P_0 leaves them in their order, P_i takes half blocks of b / 2 that are 2^i half blocks apart.
template <Scalar T>
struct Boft {
  using Order = std::shared_ptr<const std::vector<std::int64_t>>;
  struct Factor {
    Order into, back;  // the order in which its blocks find the features, and the way back; null: as they are
  };
  Parameter<T> R;  // (m, blocks, b, b), P
  Parameter<T> s;  // (out_features, 1)
  std::vector<Factor> factors;
  BlockDropout<T> dropout = {};
  Derived<T> memo = {};
  /// (m · blocks, b, b)
  Variable<T> rotations() const {
    return memo({&R}, [&] {
      const std::int64_t blocks = R.shape()[0] * R.shape()[1], b = R.shape()[2];
      auto transposes = std::make_shared<ops::GatherMap>();
      for (std::int64_t i = 0; i < blocks * b * b; i++) transposes->from.push_back(i / (b * b) * b * b + i % b * b + i / b % b);
      const Variable<T> P = reshape(R.variable(), {blocks, b, b});
      return cayley(scale(add(scale(gather(P, std::shared_ptr<const ops::GatherMap>(transposes), {blocks, b, b}), T(-1)), P), T(0.5)));
    });
  }
  /// x B_i, with the blocks of that factor.
  Variable<T> turned(const Variable<T>& x, std::size_t i, const Variable<T>& blocks) const {
    const Factor& f = factors[i];
    return f.into ? permute_columns(multiply_blocks(permute_columns(x, f.into), blocks), f.back) : multiply_blocks(x, blocks);
  }
  Variable<T> of_factor(const Variable<T>& all, std::size_t i) const {
    const std::int64_t blocks = R.shape()[1], b = R.shape()[2], first = std::int64_t(i) * blocks * b;
    return factors.size() == 1 ? all : reshape(rows(reshape(all, {all.shape()[0] * b, b}), first, first + blocks * b), {blocks, b, b});
  }
  Variable<T> operator()(const Linear<T>& base, const Variable<T>& x, const Next<Linear<T>>& next) const {
    const Variable<T> all = dropout(rotations(), R.shape()[1]);
    Variable<T> rotated = x;
    for (std::size_t i = factors.size(); i-- > 0;) rotated = turned(rotated, i, of_factor(all, i));
    Variable<T> y = next(rotated);
    if (base.bias) y = add_constant_row(std::move(y), T(-1), base.bias.value());
    y = scale_columns(y, s.variable());
    return base.bias ? add_constant_row(std::move(y), T(1), base.bias.value()) : y;
  }
  /// W ← s ∘ (W B_0ᵀ … B_{m−1}ᵀ); the bias is not scaled.
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    change_weight(fused, [&](Variable<T> W) {
      const Variable<T> back(transposed_blocks(rotations().value()));
      for (std::size_t i = 0; i < factors.size(); i++) W = turned(W, i, of_factor(back, i));
      return scale_rows(W, s.variable());
    });
  }
  static void describe(auto& self, auto&& visit) {
    visit("boft_R", self.R);
    visit("boft_s", self.s);
  }
};

namespace detail {
/// The factors' orders of `in` features in blocks of b, as PEFT's block_butterfly_perm has them: in each group of 2^i blocks, half block 0, 2, 4, … and
/// then 1, 3, 5, ….
template <Scalar T>
std::vector<typename Boft<T>::Factor> butterfly_factors(std::int64_t count, std::int64_t in, std::int64_t b) {
  std::vector<typename Boft<T>::Factor> factors{{}};
  for (std::int64_t i = 1; i < count; i++) {
    const std::int64_t half = b / 2, halves = std::int64_t{2} << i, group = half * halves;
    std::vector<std::int64_t> back(static_cast<std::size_t>(in)), into(static_cast<std::size_t>(in));
    for (std::int64_t j = 0; j < in; j++) {
      const std::int64_t place = j % group / half, from = place < halves / 2 ? 2 * place : 2 * (place - halves / 2) + 1;
      back[std::size_t(j)] = j / group * group + from * half + j % half;
    }
    for (std::int64_t j = 0; j < in; j++) into[std::size_t(back[std::size_t(j)])] = j;
    factors.push_back({std::make_shared<const std::vector<std::int64_t>>(std::move(into)), std::make_shared<const std::vector<std::int64_t>>(std::move(back))});
  }
  return factors;
}
}  // namespace detail

template <Scalar T>
bool attach_adapter(const BOFTConfig& config, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&]([[maybe_unused]] Random random) {
    const std::int64_t in = site.in_features(), out = site.out_features(), m = config.boft_n_butterfly_factor;
    must_divide("boft.attach", config.boft_block_size > 0 ? "boft_block_size" : "boft_block_num", config.boft_block_size + config.boft_block_num, context.path,
                in);
    const std::int64_t b = config.boft_block_size > 0 ? config.boft_block_size : in / config.boft_block_num;
    // The last factor's groups are of 2^(m − 1) blocks, which are halved.
    if (m > 1 && (b % 2 != 0 || in % (b << (m - 1)) != 0))
      throw ConfigError("boft.attach", "boft_n_butterfly_factor is " + std::to_string(m) + ", which wants blocks of an even size, and " +
                                           std::to_string(std::int64_t{1} << (m - 1)) + " of them to divide the " + std::to_string(in) + " features of " +
                                           context.path + "; blocks here have " + std::to_string(b));
    auto factors = detail::butterfly_factors<T>(m, in, b);
    const BlockDropout<T> dropout{config.boft_dropout, name_hash(context.path)};
    if (config.init_weights) return Boft<T>{constant<T>({m, in / b, b, b}, 0), constant<T>({out, 1}, 1), std::move(factors), dropout};
    Parameter<T> R = drawn_normal<T>({m, in / b, b, b}, 0, 0.1, random);
    return Boft<T>{std::move(R), drawn_normal<T>({out, 1}, 1, 0.1, random), std::move(factors), dropout};
  });
}
template <Scalar T>
bool attachable(const BOFTConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
