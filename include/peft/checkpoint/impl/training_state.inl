// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <filesystem>

#include "peft/checkpoint/training_state.hpp"
#include "peft/io/json.hpp"
#include "peft/io/safetensors.hpp"

namespace peft::detail {

PEFT_INLINE std::string state_path(const std::string& directory) { return (std::filesystem::path(directory) / "state.safetensors").string(); }

PEFT_INLINE void write_training_state(const std::string& directory, const TrainingState& s, std::int64_t optimizer_steps,
                                      const std::vector<StateTensor>& tensors) {
  std::error_code failure;
  std::filesystem::create_directories(directory, failure);
  if (failure) throw FormatError(directory, -1, "cannot be created: " + failure.message());
  Json j = Json::make_object(), losses = Json::make_array();
  for (double loss : s.losses) losses.push_back(Json(loss));
  j.set("step", Json(s.step)), j.set("forwards", Json(s.forwards)), j.set("epoch", Json(s.epoch)), j.set("position", Json(s.position)),
      j.set("tokens", Json(s.tokens));
  j.set("optimizer_steps", Json(optimizer_steps)), j.set("losses", std::move(losses));
  // Numbers and tensors in one file: a crash leaves this state or the one before, never half of each.
  std::vector<TensorToWrite> all;
  for (const StateTensor& t : tensors) all.push_back({t.name, t.dtype, t.shape, t.data});
  write_safetensors(state_path(directory), all, {{"format", "pt"}, {"state", j.dump()}});
}

PEFT_INLINE TrainingState read_training_state(const std::string& directory, std::int64_t& optimizer_steps, const std::vector<StateTensor>& tensors) {
  const std::string path = state_path(directory);
  if (!std::filesystem::exists(path)) throw FormatError(path, -1, "no such file: there is no run to go on with");
  const auto file = SafetensorsFile::open(path);
  TrainingState s;
  std::int64_t steps = 0;
  try {
    const auto text = file.metadata().find("state");
    if (text == file.metadata().end()) throw ConfigError("resume", "the metadata \"state\" are missing");
    const Json j = Json::parse(text->second, path);
    s.step = j.at("step").integer(), s.forwards = j.at("forwards").integer(), s.epoch = j.at("epoch").integer(), s.position = j.at("position").integer();
    s.tokens = j.at("tokens").integer(), steps = j.at("optimizer_steps").integer();
    for (const Json& loss : j.at("losses").array()) s.losses.push_back(loss.number());
  } catch (const Error& error) {
    throw FormatError(path, -1, std::string("no training state: ") + error.what());
  }
  std::string wrong;
  std::size_t count = 0;
  for (const StateTensor& t : tensors) {
    const auto* found = file.find(t.name);
    if (found && found->dtype == t.dtype && found->shape == t.shape) continue;
    if (count++ < 4)
      wrong += (wrong.empty() ? "" : ", ") + t.name +
               (found ? " is " + found->dtype_name + " " + to_string(found->shape) + ", this run wants " + std::string(name(t.dtype)) + " " + to_string(t.shape)
                      : " is missing");
  }
  if (count || file.tensors().size() != tensors.size())
    throw CheckpointError("resume", directory + " belongs to another run: " + std::to_string(count) + " tensors do not fit (" + wrong + "), it holds " +
                                        std::to_string(file.tensors().size()) + ", this run has " + std::to_string(tensors.size()));
  optimizer_steps = steps;
  for (const StateTensor& t : tensors) std::memcpy(t.data, file.find(t.name)->data, std::size_t(file.find(t.name)->bytes));
  return s;
}

}  // namespace peft::detail
