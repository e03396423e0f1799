// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "common.hpp"

namespace tool {

/// A folder beside the one that is wanted, which takes its place when all is written; until then, nothing is there.
class NewFolder {
 public:
  explicit NewFolder(const std::string& wanted);
  ~NewFolder();
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  std::string path() const { return path_.string(); }
  void commit();
  /// Instead: each file goes into a folder that is there, config.json last.
  void commit_into(const std::string& folder);

 private:
  std::filesystem::path wanted_, path_;
};

/// The tokenizer of a model, with the chat template that was chosen for it, put into a folder with weights that are worth having without it, too: what was
/// wrong with it; "": nothing.
std::string save_tokenizer_of(const ModelOptions& model, const std::string& folder);

}  // namespace tool
