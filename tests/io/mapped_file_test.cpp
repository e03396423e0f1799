// SPDX-License-Identifier: Apache-2.0
#include "peft/io/mapped_file.hpp"

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <string>

#include "support/files.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
std::string contents(const MappedFile& file) { return {reinterpret_cast<const char*>(file.data()), file.size()}; }
}  // namespace

TEST_CASE("a mapped file is its bytes", "[io]") {
  const Folder folder;
  std::string text(10000, 'x');
  text += std::string("\0end", 4);
  write_file(folder / "a", text);
  const auto file = MappedFile::open(folder / "a");
  CHECK(file->size() == text.size());
  CHECK(contents(*file) == text);
  CHECK(file->path() == folder / "a");
}

TEST_CASE("an empty file is fine", "[io]") {
  const Folder folder;
  write_file(folder / "empty", "");
  CHECK(MappedFile::open(folder / "empty")->size() == 0);
}

TEST_CASE("a mapping outlives its file's name and its replacement", "[io]") {
  const Folder folder;
  write_file(folder / "a", "old");
  const auto file = MappedFile::open(folder / "a");
  write_file(folder / "b", "new!");
  std::filesystem::rename(folder / "b", folder / "a");
  CHECK(contents(*file) == "old");
  CHECK(contents(*MappedFile::open(folder / "a")) == "new!");
}

TEST_CASE("what is no file is refused with its reason", "[io]") {
  const Folder folder;
  const auto reason = [](const std::string& path) {
    const FormatError error = format_error(path, [&] { MappedFile::open(path); });
    CHECK(error.byte() == -1);
    return error.reason();
  };
  CHECK(reason(folder / "none") == "cannot be opened: No such file or directory");
  CHECK(reason(folder.path()) == "is a directory, a file is wanted");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(reason(folder / "pipe") == "is no regular file");  // at once: nobody will ever write to it
  CHECK(reason("/dev/null") == "is no regular file");
}
