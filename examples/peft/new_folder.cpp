// SPDX-License-Identifier: Apache-2.0
#include "new_folder.hpp"

#include <sys/stat.h>
#include <unistd.h>
#include <peft/core/error.hpp>
#include <peft/tokenizer/save.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace tool {

namespace fs = std::filesystem;

namespace {
fs::perms umask_of_process() {
  const mode_t mask = ::umask(0);
  ::umask(mask);
  return fs::perms(mask);
}
}  // namespace

NewFolder::NewFolder(const std::string& wanted) : wanted_(fs::path(wanted).lexically_normal()) {
  if (!wanted_.has_filename()) wanted_ = wanted_.parent_path();
  std::error_code failure;
  if (fs::exists(wanted_) && !(fs::is_directory(wanted_) && fs::is_empty(wanted_, failure)))
    throw peft::ConfigError("merge", wanted + " exists already; give --out a new folder");
  if (wanted_.has_parent_path()) fs::create_directories(wanted_.parent_path(), failure);
  std::string pattern = wanted_.string() + ".XXXXXX";
  if (!::mkdtemp(pattern.data())) throw peft::FormatError(wanted, -1, std::string("cannot be created: ") + std::strerror(errno));
  path_ = pattern;
  fs::permissions(path_, fs::perms::all & ~umask_of_process());  // mkdtemp makes it private
}

NewFolder::~NewFolder() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

void NewFolder::commit() {
  fs::rename(path_, wanted_);
  path_.clear();
}

void NewFolder::commit_into(const std::string& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path_)) files.push_back(entry.path());
  std::ranges::partition(files, [](const fs::path& file) { return file.filename() != "config.json"; });
  for (const fs::path& file : files) fs::rename(file, fs::path(folder) / file.filename());
}

std::string save_tokenizer_of(const ModelOptions& model, const std::string& folder) {
  try {
    peft::save_tokenizer(model.model, folder);
    if (const auto chat = chosen_chat_template(model)) peft::save_chat_template(*chat, folder);
  } catch (const peft::Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace tool
