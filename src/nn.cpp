// SPDX-License-Identifier: Apache-2.0
#include "peft/nn/impl/blank.inl"
#include "peft/nn/impl/front.inl"
#include "peft/nn/impl/module.inl"
#include "peft/nn/impl/relative_positions.inl"
#include "peft/nn/impl/sequences.inl"
#include "peft/nn/impl/transformer_config.inl"
#include "peft/nn/transformer.hpp"

namespace peft {
template struct Walked<Transformer<float>>;
template struct Walked<Transformer<double>>;
template Variable<float> Transformer<float>::through(const std::vector<Block<float>>&, const std::optional<RelativePositions<float>>&, std::int64_t,
                                                     std::int64_t, Variable<float>) const;
template Variable<double> Transformer<double>::through(const std::vector<Block<double>>&, const std::optional<RelativePositions<double>>&, std::int64_t,
                                                       std::int64_t, Variable<double>) const;
}  // namespace peft
