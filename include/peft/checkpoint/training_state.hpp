// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "peft/optim/optimizer.hpp"

namespace peft {

/// Where a run stands besides its tensors. The order of data and dropout follow from seeds and these numbers, so a resumed run makes the very
/// steps that the interrupted one would have made.
struct TrainingState {
  std::int64_t step = 0, forwards = 0;   // optimiser steps, forwards (dropout)
  std::int64_t epoch = 0, position = 0;  // of the data loader
  std::int64_t tokens = 0;
  std::vector<double> losses = {};
};

namespace detail {
struct StateTensor {
  std::string name;
  DType dtype;
  Shape shape;
  void* data;
};
void write_training_state(const std::string& directory, const TrainingState& state, std::int64_t optimizer_steps, const std::vector<StateTensor>& tensors);
/// Fills the tensors; all of them must be there with their shape and type.
TrainingState read_training_state(const std::string& directory, std::int64_t& optimizer_steps, const std::vector<StateTensor>& tensors);

struct NothingCarried {};
template <class O, class M>
std::vector<StateTensor> state_tensors(O& optimizer, [[maybe_unused]] const M& model) {
  std::vector<StateTensor> all;
  const auto add = [&](const std::string& name, const auto& tensor) {
    all.push_back({name, dtype_of<std::remove_reference_t<decltype(tensor[0])>>, tensor.shape(), const_cast<void*>(static_cast<const void*>(tensor.data()))});
  };
  for (const auto& t : optimizer.trainables()) add("parameter." + t.name, t.parameter.value());
  optimizer.for_each_state([&](const std::string& name, auto& tensor) { add("optimizer." + name, tensor); });
  const auto carried = [&](const std::string& name, auto& tensor) { add("adapter." + name, tensor); };
  if constexpr (requires { model.for_each_state(carried); }) model.for_each_state(carried);
  return all;
}
}  // namespace detail

/// Writes DIR/state.safetensors (parameters in full precision, moments, the numbers as metadata), whole or not at all. `model`, a PeftModel: what its
/// adapters carry from step to step is part of it.
template <class O, class M = detail::NothingCarried>
void save_training_state(const std::string& directory, const TrainingState& state, O& optimizer, const M& model = {}) {
  std::int64_t steps = 0;
  if constexpr (requires { optimizer.steps(); }) steps = optimizer.steps();
  detail::write_training_state(directory, state, steps, detail::state_tensors(optimizer, model));
}
/// Puts parameters and moments back. Throws CheckpointError if they are not those of this optimiser, FormatError for a
/// file that is missing or broken; then nothing has changed.
template <class O, class M = detail::NothingCarried>
TrainingState load_training_state(const std::string& directory, O& optimizer, const M& model = {}) {
  std::int64_t steps = 0;
  const TrainingState state = detail::read_training_state(directory, steps, detail::state_tensors(optimizer, model));
  if constexpr (requires { optimizer.set_steps(steps); }) optimizer.set_steps(steps);
  for (const auto& t : optimizer.trainables()) t.parameter.touch();
  return state;
}

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/checkpoint/impl/training_state.inl"
#endif
