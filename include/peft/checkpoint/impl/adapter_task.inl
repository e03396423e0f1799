// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "peft/checkpoint/adapter_task.hpp"
#include "peft/checkpoint/impl/load.inl"
#include "peft/core/error.hpp"
#include "peft/io/json.hpp"
#include "peft/io/safetensors.hpp"
#include "peft/models/impl/json_fields.hpp"

namespace peft {

PEFT_INLINE ModelTask adapter_task(const std::string& path) {
  namespace fs = std::filesystem;
  const fs::path directory = path;
  ModelTask task;
  if (!fs::is_directory(directory) || !fs::exists(directory / "adapter_config.json")) return task;  // load_adapter says what is wrong with it
  const std::string config_path = (directory / "adapter_config.json").string();
  const Json config = Json::read(config_path);
  const std::string task_type = detail::in_file(config_path, [&] { return detail::ConfigFields(config).string("task_type", ""); });
  static constexpr std::array<std::pair<const char*, TaskType>, 3> with_head = {
      {{"SEQ_CLS", TaskType::seq_cls}, {"TOKEN_CLS", TaskType::token_cls}, {"QUESTION_ANS", TaskType::question_ans}}};
  const auto found = std::ranges::find_if(with_head, [&](const auto& known) { return task_type == known.first; });
  if (found == with_head.end()) return task;

  const fs::path tensors = directory / "adapter_model.safetensors", labels = directory / "labels.json";
  if (!fs::exists(tensors)) return task;
  const SafetensorsFile file = SafetensorsFile::open(tensors.string());
  for (const SafetensorsEntry& tensor : file.tensors())
    for (const char* head : {".classifier.weight", ".score.weight", ".classifier.out_proj.weight", ".qa_outputs.weight"})
      if (tensor.name.ends_with(head)) task.task = found->second, task.num_labels = tensor.shape.rows();
  if (!task.task || *task.task == TaskType::question_ans || !fs::exists(labels)) return task;

  const Json json = Json::read(labels.string());
  detail::in_file(labels.string(), [&] {
    Json as_config = json;
    as_config.set("num_labels", Json(task.num_labels));
    HeadConfig head;
    head.task = *task.task;
    detail::read_labels(as_config, head);
    task.label_names = head.label_names;
    if (head.problem_is_named) task.problem = head.problem;
    return 0;
  });
  return task;
}

PEFT_INLINE void save_labels(const HeadConfig& head, const std::string& directory) {
  if (head.task != TaskType::seq_cls && head.task != TaskType::token_cls) return;
  Json json = Json::make_object();
  detail::set_labels(json, head);
  write_text_atomically((std::filesystem::path(directory) / "labels.json").string(), json.dump(2));
}

}  // namespace peft
