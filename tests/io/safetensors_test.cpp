// SPDX-License-Identifier: Apache-2.0
#include "peft/io/safetensors.hpp"

#include <catch2/catch.hpp>
#include <limits>
#include <string>
#include <vector>

#include "support/files.hpp"
#include "support/tensors.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

std::string safetensors(const std::string& header, std::string_view data = "") { return bytes(std::uint64_t(header.size())) + header + std::string(data); }
/// "name":{…} of a header.
std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, std::int64_t begin, std::int64_t end) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) +
         "]}";
}
SafetensorsFile open(const std::string& file) {
  const Folder folder;
  write_file(folder / "a.safetensors", file);
  return SafetensorsFile::open(folder / "a.safetensors");  // the mapping stays when the folder goes
}
FormatError refused(const std::string& file) {
  const Folder folder;
  write_file(folder / "a.safetensors", file);
  return format_error(folder / "a.safetensors", [&] { SafetensorsFile::open(folder / "a.safetensors"); });
}
const std::string eight(8, '\0');

}  // namespace

TEST_CASE("a file is written as the reference writes it", "[io]") {
  const Folder folder;
  const std::vector<float> f = {1, 2, 3};
  const std::vector<std::uint16_t> h = {0x3f80};
  const std::uint8_t b = 1;
  write_safetensors(
      folder / "a",
      {{"b", DType::boolean, {}, &b}, {"z", DType::f32, {2}, f.data()}, {"h", DType::bf16, {1, 1}, h.data()}, {"a", DType::f32, {1}, f.data() + 2}});
  std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"z":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},)"
      R"("h":{"dtype":"BF16","shape":[1,1],"data_offsets":[12,14]},"b":{"dtype":"BOOL","shape":[],"data_offsets":[14,15]}})";
  header.append((8 - header.size() % 8) % 8, ' ');
  CHECK(read_file(folder / "a") == safetensors(header, bytes(3.0f) + bytes(1.0f) + bytes(2.0f) + bytes(std::uint16_t{0x3f80}) + "\1"));
  CHECK(folder.names() == std::set<std::string>{"a"});

  write_safetensors(folder / "empty", {}, {});
  CHECK(read_file(folder / "empty") == safetensors("{}      "));
  CHECK(SafetensorsFile::open(folder / "empty").tensors().empty());
}

TEST_CASE("every type of the format goes out and comes back where it lies", "[io]") {
  const Folder folder;
  std::vector<std::byte> data(64);
  for (std::size_t i = 0; i < data.size(); i++) data[i] = std::byte(i * 7);
  std::vector<TensorToWrite> tensors;
  for (const DType type : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i8, DType::u8, DType::i16, DType::u16, DType::i32, DType::u32, DType::i64,
                           DType::u64, DType::boolean})
    tensors.push_back({std::string(name(type)), type, {2, 3}, data.data()});
  write_safetensors(folder / "a", tensors, {{"format", "pt"}, {"note", "ä \"quoted\"\n"}});
  const auto file = SafetensorsFile::open(folder / "a");
  CHECK(file.tensors().size() == 13);
  CHECK(file.metadata().at("note") == "ä \"quoted\"\n");
  for (const TensorToWrite& t : tensors) {
    const auto* found = file.find(t.name);
    REQUIRE(found);
    CHECK(found->dtype == t.dtype);
    CHECK(found->dtype_name == t.name);
    CHECK(found->shape == t.shape);
    CHECK(found->bytes == bytes_of(t.dtype, 6));
    CHECK(std::memcmp(found->data, data.data(), std::size_t(found->bytes)) == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(found->data) % std::size_t(info(t.dtype).bytes) == 0);  // largest alignment first
  }
  CHECK(file.find("F16 ") == nullptr);
}

TEST_CASE("numbers are read converted, from any place", "[io]") {
  const std::string data =
      "\1" + bytes(0.1) + bytes(std::uint16_t{0x3c00}) + bytes(std::uint16_t{0xbfc0}) + bytes(std::int64_t{-5}) + bytes(std::int64_t{1} << 31);
  const auto file = open(safetensors("{" + entry("b", "BOOL", "1", 0, 1) + "," + entry("d", "F64", "1", 1, 9) + "," + entry("h", "F16", "", 9, 11) + "," +
                                         entry("bf", "BF16", "1,1", 11, 13) + "," + entry("i", "I64", "1", 13, 21) + "," + entry("l", "I64", "1", 21, 29) + "}",
                                     data));
  CHECK(file.read<double>("d")[0] == 0.1);
  CHECK(file.read<float>("d")[0] == 0.1f);
  CHECK(file.read<float>("h")[0] == 1);
  CHECK(file.read<float>("h").shape() == Shape{});
  CHECK(file.read<double>("bf")[0] == -1.5);
  CHECK(file.read<std::int32_t>("i")[0] == -5);
  CHECK(file.read<std::int32_t>("b")[0] == 1);
  CHECK(file.read<std::int64_t>("l")[0] == std::int64_t{1} << 31);
  CHECK_THROWS_WITH(file.read<std::int32_t>("l"), Catch::EndsWith("tensor \"l\": element 0 is an integer that 32 bits do not hold"));
  CHECK_THROWS_WITH(file.read<float>("i"), Catch::EndsWith("tensor \"i\" has the type I64, which is not read as a real number"));
  CHECK_THROWS_WITH(file.read<std::int64_t>("d"), Catch::EndsWith("which is not read as an integer"));
  CHECK_THROWS_WITH(file.read<float>("dd"), Catch::Contains("there is no tensor \"dd\"; did you mean \"b\"?") || Catch::Contains("did you mean \"d\"?"));
}

TEST_CASE("types that exist there and not here are listed, and not read", "[io]") {
  const auto file = open(safetensors("{" + entry("q", "F8_E4M3", "8", 0, 8) + "," + entry("n", "F4", "16", 8, 16) + "}", eight + eight));
  CHECK_FALSE(file.find("q")->dtype.has_value());
  CHECK(file.find("n")->dtype_name == "F4");
  CHECK_THROWS_WITH(file.read<float>("q"), Catch::Contains("has the type F8_E4M3"));
}

TEST_CASE("tensors without elements and without dimensions", "[io]") {
  const auto file = open(safetensors("{" + entry("none", "F32", "3,0", 0, 0) + "," + entry("one", "F32", "", 0, 4) + "}", bytes(7.0f)));
  CHECK(file.read<float>("none").size() == 0);
  CHECK(file.read<float>("one")[0] == 7);
}

TEST_CASE("a safetensors file that ends early is refused, wherever it ends", "[io]") {
  const std::string whole = safetensors("{" + entry("a", "F32", "2", 0, 8) + "}", eight);
  CHECK(open(whole).tensors().size() == 1);
  for (std::size_t n = 0; n < whole.size(); n++) CHECK(refused(whole.substr(0, n)).byte() <= std::int64_t(n));
  CHECK(refused(whole + "x").reason() == "1 bytes behind the last tensor");
  CHECK(refused(whole + "x").byte() == std::int64_t(whole.size()));
}

TEST_CASE("a header length beyond the file or the limit is refused before it is read", "[io]") {
  CHECK(refused(bytes(std::uint64_t{100'000'001}) + "{}").reason() == "a header of 100000001 bytes; at most 100,000,000 are allowed");
  CHECK(refused(bytes(~std::uint64_t{0}) + "{}").byte() == 0);
  CHECK(refused(bytes(std::uint64_t{3}) + "{}").reason() == "a header of 3 bytes in a file of 10");
}

TEST_CASE("a damaged header is refused with its tensor", "[io]") {
  const auto reason = [](const std::string& header, const std::string& data = eight) {
    const FormatError error = refused(safetensors(header, data));
    CHECK(error.byte() >= 8);
    return error.reason();
  };
  using Catch::Contains;
  CHECK_THAT(reason(""), Contains("no JSON object"));
  CHECK_THAT(reason("[]"), Contains("no JSON object"));
  CHECK_THAT(reason("{\"a\":}"), Contains("not JSON"));
  CHECK(refused(safetensors("{\"a\":}")).byte() == 8 + 5);
  CHECK_THAT(reason("{\"a\xff\":1}"), Contains("UTF-8"));
  CHECK_THAT(reason("{" + entry("a", "F32", "1", 0, 4) + "," + entry("a", "F32", "1", 4, 8) + "}"), Contains("the key \"a\" stands twice"));
  CHECK_THAT(reason("{\"a\":1}"), Contains("tensor \"a\""));
  CHECK_THAT(reason("{\"a\":{\"shape\":[1],\"data_offsets\":[0,8]}}"), Contains("\"dtype\" is missing"));
  CHECK_THAT(reason("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}"), Contains("\"shape\" is missing"));
  CHECK_THAT(reason("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}"), Contains("\"data_offsets\" is missing"));
  CHECK_THAT(reason("{" + entry("a", "F33", "2", 0, 8) + "}"), Contains("the type F33 is not known; did you mean \"F32\"?"));
  CHECK_THAT(reason("{" + entry("a", "F32", "-2", 0, 8) + "}"), Contains("a dimension of -2"));
  CHECK_THAT(reason("{" + entry("a", "F32", "1.5", 0, 8) + "}"), Contains("wanted an integer"));
  CHECK_THAT(reason("{" + entry("a", "F32", "3", 0, 8) + "}"), Contains("8 bytes for the shape (3) of F32, which takes 12"));
  CHECK_THAT(reason("{" + entry("a", "F4", "3", 0, 1) + "}"), Contains("of F4"));
  CHECK_THAT(reason("{" + entry("a", "F32", "2", 8, 0) + "}"), Contains("data_offsets 8..0"));
  CHECK_THAT(reason("{" + entry("a", "F32", "2", -8, 0) + "}"), Contains("data_offsets -8..0"));
  CHECK_THAT(reason("{" + entry("a", "F32", "4", 0, 16) + "}"), Contains("data to byte 16, the file holds 8"));
  CHECK_THAT(reason("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4,8]}}"), Contains("data_offsets has 3 numbers"));
  CHECK_THAT(reason("{" + entry("a", "F32", "1,1,1,1,1,1,2", 0, 8) + "}"), Contains("7 dimensions"));
  CHECK_THAT(reason("{" + entry("a", "F32", "4294967296,4294967296,2", 0, 8) + "}"), Contains("overflows"));
  CHECK_THAT(reason("{" + entry("a", "F32", "4611686018427387904", 0, 8) + "}"), Contains("overflows"));
  CHECK_THAT(reason("{\"__metadata__\":{\"step\":1}," + entry("a", "F32", "2", 0, 8) + "}"), Contains("__metadata__") && Contains("wanted a string"));
  CHECK_THAT(reason(std::string(100000, '{')), Contains("not JSON") || Contains("nested"));
}

TEST_CASE("tensors follow each other without a hole and without an overlap", "[io]") {
  const auto refuse = [](const std::string& first, const std::string& second, std::size_t size) {
    return refused(safetensors("{" + first + "," + second + "}", std::string(size, '\0'))).reason();
  };
  CHECK(refuse(entry("a", "F32", "1", 0, 4), entry("b", "F32", "1", 2, 6), 6) == "tensor \"b\" begins at 2 of the data, the one before it ends at 4");
  CHECK(refuse(entry("a", "F32", "1", 0, 4), entry("b", "F32", "1", 0, 4), 4) == "tensor \"b\" begins at 0 of the data, the one before it ends at 4");
  CHECK(refuse(entry("b", "F32", "1", 8, 12), entry("a", "F32", "1", 0, 4), 12) == "tensor \"b\" begins at 8 of the data, the one before it ends at 4");
  CHECK(refuse(entry("a", "F32", "1", 4, 8), entry("b", "F32", "1", 8, 12), 12) == "tensor \"a\" begins at 4 of the data, the one before it ends at 0");
  CHECK(open(safetensors("{" + entry("b", "F32", "1", 4, 8) + "," + entry("a", "F32", "1", 0, 4) + "}", eight)).tensors().size() ==
        2);  // any order in the header
}

TEST_CASE("what the format cannot hold is not written", "[io]") {
  const Folder folder;
  const std::vector<float> f = {1, 2};
  write_safetensors(folder / "a", {{"x", DType::f32, {2}, f.data()}});
  const std::string before = read_file(folder / "a");
  CHECK_THROWS_WITH(write_safetensors(folder / "a", {{"x", DType::f32, {1}, f.data()}, {"x", DType::f32, {1}, f.data()}}),
                    Catch::Contains("two tensors are named \"x\""));
  CHECK_THROWS_WITH(write_safetensors(folder / "a", {{"x", DType::q4_0, {32}, f.data()}}), Catch::Contains("safetensors has no type Q4_0"));
  CHECK_THROWS_AS(write_safetensors(folder / "none/a", {{"x", DType::f32, {1}, f.data()}}), FormatError);
  CHECK(read_file(folder / "a") == before);
  CHECK(folder.names() == std::set<std::string>{"a"});
}

TEST_CASE("a directory's shards are one set of tensors", "[io]") {
  const Folder folder;
  const std::vector<float> f = {1, 2, 3};
  write_safetensors(folder / "model-1.safetensors", {{"a", DType::f32, {1}, f.data()}, {"c", DType::f32, {1}, f.data() + 2}});
  write_safetensors(folder / "model-2.safetensors", {{"b", DType::f32, {1}, f.data() + 1}});
  const std::string index = folder / "model.safetensors.index.json";
  const auto with_index = [&](const std::string& map) { write_file(index, "{\"metadata\":{\"total_size\":12},\"weight_map\":" + map + "}"); };
  const auto reason = [&](const std::string& map) {
    with_index(map);
    return format_error(index, [&] { SafetensorsDirectory::open(folder.path()); }).reason();
  };
  with_index(R"({"a":"model-1.safetensors","b":"model-2.safetensors","c":"model-1.safetensors"})");
  const auto all = SafetensorsDirectory::open(folder.path());
  CHECK(all.tensors().size() == 3);
  float value = 0;
  std::memcpy(&value, all.find("b")->data, 4);
  CHECK(value == 2);
  CHECK(all.find("b")->path == folder / "model-2.safetensors");
  CHECK(all.find("d") == nullptr);

  CHECK(reason(R"({"a":"model-1.safetensors","b":"model-3.safetensors","c":"model-4.safetensors"})") ==
        "shards that are not there: model-3.safetensors, model-4.safetensors");
  CHECK(reason(R"({"d":"model-1.safetensors"})") == "weight_map: tensor \"d\" is not in model-1.safetensors");
  CHECK(reason(R"({"a":"../model-1.safetensors"})") == "weight_map: \"../model-1.safetensors\" is no plain file name in this directory");
  CHECK(reason(R"({"a":".."})") == "weight_map: \"..\" is no plain file name in this directory");
  CHECK(reason(R"({"a":"/etc/passwd"})") == "weight_map: \"/etc/passwd\" is no plain file name in this directory");
  CHECK(reason(R"({"a":""})") == "weight_map: \"\" is no plain file name in this directory");
  CHECK(reason(R"({"a":5})") == "weight_map: \"a\" is no file name");
  CHECK(reason("[]") == "weight_map is missing or no object: it says which file holds each tensor");

  // A single file goes before shards, as in transformers: it was saved over them.
  write_safetensors(folder / "model.safetensors", {{"d", DType::f32, {1}, f.data()}});
  CHECK(SafetensorsDirectory::open(folder.path()).tensors().size() == 1);
}

TEST_CASE("a directory is one file, or shards and their index", "[io]") {
  const Folder folder;
  const std::vector<float> f = {1, 2, 3, 4, 5};
  const auto tensors = [&] {
    return std::vector<TensorToWrite>{{"c", DType::f32, {2}, f.data()}, {"a", DType::f32, {1}, f.data() + 2}, {"b", DType::f32, {2}, f.data() + 3}};
  };
  write_safetensors_directory(folder.path(), tensors(), 20);
  CHECK(SafetensorsFile::open(folder / "model.safetensors").tensors().size() == 3);
  CHECK_FALSE(std::filesystem::exists(folder / "model.safetensors.index.json"));

  write_safetensors_directory(folder.path(), tensors(), 12);  // in the order that they are given in, which need not be that of names
  CHECK_FALSE(std::filesystem::exists(folder / "model.safetensors"));
  CHECK(read_file(folder / "model.safetensors.index.json") == R"({
  "metadata": {
    "total_parameters": 5,
    "total_size": 20
  },
  "weight_map": {
    "a": "model-00001-of-00002.safetensors",
    "b": "model-00002-of-00002.safetensors",
    "c": "model-00001-of-00002.safetensors"
  }
}
)");
  const auto all = SafetensorsDirectory::open(folder.path());
  CHECK(all.tensors().size() == 3);
  CHECK(std::memcmp(all.find("b")->data, f.data() + 3, 8) == 0);
  write_safetensors_directory(folder / "each", tensors(), 1);  // a tensor is never cut
  CHECK(SafetensorsFile::open(folder / "each/model-00003-of-00003.safetensors").find("b") != nullptr);
}

TEST_CASE("a tensor may be written in pieces, and must then be whole", "[io]") {
  const Folder folder;
  const std::vector<float> f = {1, 2, 3};
  const auto stream = [&](std::size_t second) {
    return TensorToWrite{"a", DType::f32, {3}, nullptr, [&f, second](const auto& write) { write(f.data(), 4), write(f.data() + 1, second); }};
  };
  write_safetensors(folder / "pieces", {stream(8)});
  write_safetensors(folder / "whole", {{"a", DType::f32, {3}, f.data()}});
  CHECK(read_file(folder / "pieces") == read_file(folder / "whole"));
  CHECK(format_error(folder / "short", [&] { write_safetensors(folder / "short", {stream(4)}); }).reason() == "tensor \"a\" takes 12 bytes, its stream gave 8");
  CHECK_FALSE(std::filesystem::exists(folder / "short"));
}

TEST_CASE("a directory without weights says so", "[io]") {
  const Folder folder;
  CHECK(format_error(folder.path(), [&] { SafetensorsDirectory::open(folder.path()); }).reason() ==
        "no weights: neither model.safetensors nor model.safetensors.index.json is here");
}
