// SPDX-License-Identifier: Apache-2.0
// Runs the command-line tool as a user's shell does.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "tokenizer/small_tokenizer.hpp"

namespace cli {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

inline std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
inline std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> all;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    all.push_back(text.substr(at, end - at)), at = end + 1;
  }
  return all;
}

/// The names of what is in a folder, sorted.
inline std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}
/// A call with more words.
inline Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

/// How a program ended, and what it said.
struct Outcome {
  int code = -1;  // 128 + the signal that ended it, as shells count
  std::string out, err;
};

/// A program that runs, its standard streams in files. The working folder is the test's.
class Running {
 public:
  /// `file_limit`: bytes that a file may grow to; writing more fails as on a full disk. 0: none.
  Running(const Words& words, const std::string& in = "", rlim_t file_limit = 0) {
    const std::string input = streams_.write("in", in), out = streams_.path() + "/out", err = streams_.path() + "/err";
    std::vector<char*> argv;
    static std::string program = PEFT_PROGRAM;
    argv.push_back(program.data());
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    child_ = ::fork();
    if (child_ < 0) throw std::runtime_error("fork failed");
    if (child_ > 0) return;
    const auto stream = [](const std::string& path, int flags, int to) { ::dup2(::open(path.c_str(), flags, 0600), to); };
    stream(input, O_RDONLY, 0), stream(out, O_WRONLY | O_CREAT, 1), stream(err, O_WRONLY | O_CREAT, 2);
    if (file_limit > 0) {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{file_limit, file_limit};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() {
    if (child_ > 0) ::kill(child_, SIGKILL), ::waitpid(child_, nullptr, 0);
  }

  void send(int signal) const { ::kill(child_, signal); }
  std::string out() const { return read(streams_.path() + "/out"); }
  Outcome wait() {
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = -1;
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), out(), read(streams_.path() + "/err")};
  }

 private:
  small::Folder streams_;
  pid_t child_ = -1;
};

inline Outcome run(const Words& words, const std::string& in = "", rlim_t file_limit = 0) { return Running(words, in, file_limit).wait(); }

}  // namespace cli
