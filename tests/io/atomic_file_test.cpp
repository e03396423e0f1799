// SPDX-License-Identifier: Apache-2.0
#include "peft/io/atomic_file.hpp"

#include <sys/resource.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>
#include <string>

#include "peft/io/json.hpp"
#include "support/files.hpp"

using namespace peft;
using namespace peft::testing;

TEST_CASE("a file appears whole, when it is committed", "[io]") {
  const Folder folder;
  AtomicFile file(folder / "a");
  file.write("first ", 6);
  CHECK_FALSE(std::filesystem::exists(folder / "a"));
  file.write("second", 6);
  file.commit();
  CHECK(read_file(folder / "a") == "first second");
  CHECK(folder.names() == std::set<std::string>{"a"});
}

TEST_CASE("without commit the old file stays and nothing is left", "[io]") {
  const Folder folder;
  write_file(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("new", 3);
    CHECK(folder.names().size() == 2);
    CHECK(read_file(folder / "a") == "old");
  }
  CHECK(read_file(folder / "a") == "old");
  CHECK(folder.names() == std::set<std::string>{"a"});
}

TEST_CASE("two writers of one file do not meet; the last one to commit stays", "[io]") {
  const Folder folder;
  AtomicFile one(folder / "a"), two(folder / "a");
  one.write("one", 3), two.write("second", 6);
  two.commit(), one.commit();
  CHECK(read_file(folder / "a") == "one");
  CHECK(folder.names() == std::set<std::string>{"a"});
}

TEST_CASE("a written file has the permissions of any new file", "[io]") {
  const Folder folder;
  const mode_t mask = ::umask(027);
  write_text_atomically(folder / "a", "text");
  write_file(folder / "b", "text");
  ::umask(mask);
  CHECK(std::filesystem::status(folder / "a").permissions() == std::filesystem::perms(0640));
  CHECK(std::filesystem::status(folder / "a").permissions() == std::filesystem::status(folder / "b").permissions());
}

TEST_CASE("what cannot be written says why and leaves nothing", "[io]") {
  const Folder folder;
  const std::string nowhere = folder / "none/a", occupied = folder / "directory";
  CHECK(format_error(nowhere, [&] { AtomicFile file(nowhere); }).reason() == "cannot be written: No such file or directory");
  std::filesystem::create_directory(occupied);
  const FormatError error = format_error(occupied, [&] { write_text_atomically(occupied, "text"); });
  CHECK(error.reason() == "cannot be put in place: Is a directory");
  CHECK(error.byte() == -1);
  CHECK(folder.names() == std::set<std::string>{"directory"});
}

TEST_CASE("a write that the system refuses is an error, and the old file stays", "[io]") {
  const Folder folder;
  write_file(folder / "a", "old");
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small{1000, before.rlim_max};  // as on a full disk
  const auto previous = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string reason;
  try {
    write_text_atomically(folder / "a", std::string(5000, 'x'));
  } catch (const FormatError& error) {
    reason = error.reason();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, previous);
  CHECK(reason == "cannot be written: File too large");
  CHECK(read_file(folder / "a") == "old");
  CHECK(folder.names() == std::set<std::string>{"a"});
}
