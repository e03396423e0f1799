// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/head.hpp"

namespace peft::detail {

PEFT_INLINE std::string task_type_of_head(TaskType task) {
  switch (task) {
    case TaskType::seq_cls:
      return "SEQ_CLS";
    case TaskType::token_cls:
      return "TOKEN_CLS";
    case TaskType::question_ans:
      return "QUESTION_ANS";
    default:
      return "";
  }
}

PEFT_INLINE void save_head(std::vector<std::string>& modules_to_save, const HeadConfig& head) {
  const auto add = [&](const std::string& name) {
    if (std::ranges::find(modules_to_save, name) == modules_to_save.end()) modules_to_save.push_back(name);
  };
  if (head.task == TaskType::question_ans)
    add("qa_outputs");
  else
    add("classifier"), add("score");
  for (const std::string& path : head.drawn) {
    bool below = false;
    for (std::size_t dot = path.size(); !below && dot != std::string::npos; dot = dot > 0 ? path.rfind('.', dot - 1) : std::string::npos)
      below = std::ranges::any_of(modules_to_save, [&](const std::string& name) { return is_suffix_of(name, std::string_view(path).substr(0, dot)); });
    if (!below) add(path);
  }
}

}  // namespace peft::detail
