// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <random>

#include "peft/adapters/fourierft/config.hpp"
#include "peft/adapters/on_linear.hpp"
#include "peft/autograd/functions/fourier.hpp"

namespace peft {

/// FourierFT (Gao et al. 2024, arXiv:2405.03003): n coefficients at random places of the change's spectrum.
///
///     Δ = scaling · Re IDFT₂(spectrum), zero but for n places          y = W x + Δ x
///
/// The places are not in a file: they are the first n of torch.randperm(out · in) with a fixed seed.
template <Scalar T>
struct FourierFT {
  Parameter<T> spectrum;  // (n_frequency)
  std::shared_ptr<const SparseSpectrum<T>> places;
  T scaling = 1;
  Derived<T> memo = {};
  Variable<T> delta() const {
    return memo({&spectrum}, [&] { return sparse_inverse_fourier(spectrum.variable(), places, scaling); });
  }
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, Variable<T> y) const { return add_product(std::move(y), x, delta()); }
  void merge_into(Linear<T>& fused, const Linear<T>&) const { add_to_weight(fused, delta()); }
  static void describe(auto& self, auto&& visit) { visit("fourierft_spectrum", self.spectrum); }
};

/// The first `count` of torch.randperm(n) with this seed: Fisher and Yates with a Mersenne twister, as its CPU generator does it for n < 2³² / 20.
inline std::vector<std::int64_t> torch_randperm(std::int64_t n, std::int64_t count, std::int64_t seed) {
  if (n >= (std::int64_t{1} << 32) / 20) throw NotSupported("torch_randperm", std::to_string(n) + " elements; fewer than 2^32 / 20 are supported");
  std::mt19937 twister(static_cast<std::uint32_t>(seed));
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; i++) order[std::size_t(i)] = i;
  for (std::int64_t i = 0; i < std::min(count, n - 1); i++)
    std::swap(order[std::size_t(i)], order[std::size_t(i) + std::size_t(twister() % std::uint64_t(n - i))]);
  order.resize(std::size_t(count));
  return order;
}

template <Scalar T>
bool attach_adapter(const FourierFTConfig& config, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&]([[maybe_unused]] Random random) {
    const std::int64_t in = site.in_features(), out = site.out_features();
    const std::int64_t n = detail::pattern_or("n_frequency_pattern", config.n_frequency_pattern, context.path, config.n_frequency);
    if (n < 1 || n > in * out)
      throw ConfigError("fourierft.attach", "n_frequency is " + std::to_string(n) + "; " + context.path + " has room for 1 to " + std::to_string(in * out));
    ops::SparsePlaces at;
    for (const std::int64_t place : torch_randperm(in * out, n, config.random_loc_seed))
      at.row.push_back(std::int32_t(place / in)), at.column.push_back(std::int32_t(place % in));
    Parameter<T> spectrum = config.init_weights ? constant<T>({n}, 0) : drawn_normal<T>({n}, 0, 1, random);
    return FourierFT<T>{std::move(spectrum), std::make_shared<const SparseSpectrum<T>>(SparseSpectrum<T>{out, in, std::move(at)}), T(config.scaling)};
  });
}
template <Scalar T>
bool attachable(const FourierFTConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
