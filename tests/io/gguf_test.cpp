// SPDX-License-Identifier: Apache-2.0
#include "peft/io/gguf.hpp"

#include <catch2/catch.hpp>
#include <limits>
#include <string>
#include <vector>

#include "peft/core/storage.hpp"
#include "support/files.hpp"
#include "support/gguf_writer.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

GgufFile open(const std::string& file) {
  const Folder folder;
  write_file(folder / "a.gguf", file);
  return GgufFile::open(folder / "a.gguf");  // the mapping stays when the folder goes
}
FormatError refused(const std::string& file) {
  const Folder folder;
  write_file(folder / "a.gguf", file);
  return format_error(folder / "a.gguf", [&] { GgufFile::open(folder / "a.gguf"); });
}
std::string reason(const GgufWriter& writer) { return refused(writer.file()).reason(); }
const std::string eight(8, '\0');
const std::string four(4, '\0');

}  // namespace

TEST_CASE("every type of metadata is read as what it is", "[io]") {
  using W = GgufWriter;
  W w;
  w.raw("u8", W::u8, bytes(std::uint8_t{255})).raw("i8", W::i8, bytes(std::int8_t{-1})).raw("u16", W::u16, bytes(std::uint16_t{65535}));
  w.raw("i16", W::i16, bytes(std::int16_t{-2})).raw("u32", W::u32, bytes(4294967295u)).raw("i32", W::i32, bytes(-3)).raw("f32", W::f32, bytes(0.5f));
  w.raw("yes", W::boolean, "\1").add("text", "räven").raw("u64", W::u64, bytes(~std::uint64_t{0})).raw("i64", W::i64, bytes(std::int64_t{-4}));
  w.raw("f64", W::f64, bytes(0.1));
  w.list("integers", W::u16, 2, bytes(std::uint16_t{1}) + bytes(std::uint16_t{65535})).list("numbers", W::f32, 2, bytes(1.5f) + bytes(-2.0f));
  w.list("texts", W::string, 2, W::text("a") + W::text("")).list("truths", W::boolean, 2, std::string("\0\1", 2)).list("none", W::i32, 0, "");
  const GgufFile file = open(w.file());
  const auto value = [&](const char* key) -> const GgufValue& { return *file.find(key); };
  CHECK(file.metadata().size() == 17);
  CHECK(value("u8").integer() == 255);
  CHECK(value("i8").integer() == -1);
  CHECK(value("u16").integer() == 65535);
  CHECK(value("i16").integer() == -2);
  CHECK(value("u32").integer() == 4294967295);
  CHECK(value("i32").integer() == -3);
  CHECK(value("f32").number() == 0.5);
  CHECK(value("i32").number() == -3);
  CHECK(value("yes").boolean());
  CHECK(value("text").string() == "räven");
  CHECK_THROWS_WITH(value("u64").integer(), "[gguf] u64 is an integer, wanted is an integer");
  CHECK(value("i64").integer() == -4);
  CHECK(value("f64").number() == 0.1);
  CHECK(value("integers").integers() == std::vector<std::int64_t>{1, 65535});
  CHECK(value("numbers").numbers() == std::vector<double>{1.5, -2});
  CHECK(value("texts").strings() == std::vector<std::string_view>{"a", ""});
  CHECK(value("truths").integers() == std::vector<std::int64_t>{0, 1});
  CHECK(value("none").integers().empty());
  CHECK_THROWS_WITH(value("text").integer(), "[gguf] text is a text, wanted is an integer");
  CHECK_THROWS_WITH(value("integers").strings(), "[gguf] integers is a list of integers, wanted is a list of texts");
  CHECK(file.find("nothing") == nullptr);
}

TEST_CASE("tensors lie where the table says, shapes in PyTorch's order", "[io]") {
  GgufWriter w;
  const std::string q4(18 * 2 * 3, '\x11');
  w.tensor("f32", {2, 3}, 0, std::string(24, 'a'))
      .tensor("q4", {64, 3}, 2, q4)
      .tensor("bf16", {1}, 30, "bb")
      .tensor("scalar", {}, 0, "cccc")
      .tensor("none", {0}, 0, "");
  for (const std::uint32_t version : {2u, 3u}) {
    w.version = version;
    const GgufFile file = open(w.file());
    REQUIRE(file.tensors().size() == 5);
    CHECK(file.find_tensor("f32")->shape == Shape{3, 2});
    CHECK(file.find_tensor("q4")->shape == Shape{3, 64});
    CHECK(file.find_tensor("q4")->dtype == DType::q4_0);
    CHECK(file.find_tensor("q4")->bytes == std::int64_t(q4.size()));
    CHECK(std::memcmp(file.find_tensor("q4")->data, q4.data(), q4.size()) == 0);
    CHECK(std::memcmp(file.find_tensor("bf16")->data, "bb", 2) == 0);
    CHECK(file.find_tensor("scalar")->shape == Shape{});
    CHECK(std::memcmp(file.find_tensor("scalar")->data, "cccc", 4) == 0);
    CHECK(file.find_tensor("f33") == nullptr);
  }
}

TEST_CASE("every storage type is found under its number", "[io]") {
  const std::vector<std::pair<std::int32_t, DType>> types = {
      {0, DType::f32},     {1, DType::f16},     {2, DType::q4_0},   {3, DType::q4_1},   {6, DType::q5_0},  {7, DType::q5_1},
      {8, DType::q8_0},    {10, DType::q2_k},   {11, DType::q3_k},  {12, DType::q4_k},  {13, DType::q5_k}, {14, DType::q6_k},
      {24, DType::i8},     {25, DType::i16},    {26, DType::i32},   {27, DType::i64},   {28, DType::f64},  {30, DType::bf16},
      {20, DType::iq4_nl}, {23, DType::iq4_xs}, {34, DType::tq1_0}, {35, DType::tq2_0}, {39, DType::mxfp4}};
  GgufWriter w;
  for (const auto& [id, type] : types) w.tensor(std::string(name(type)), {256, 2}, id, std::string(std::size_t(bytes_of(type, 512)), char(id)));
  const GgufFile file = open(w.file());
  for (const auto& [id, type] : types) {
    const GgufTensor* tensor = file.find_tensor(name(type));
    REQUIRE(tensor);
    CHECK(tensor->dtype == type);
    CHECK(tensor->bytes == bytes_of(type, 512));
    CHECK(char(*tensor->data) == char(id));
  }
}

TEST_CASE("the alignment that a file states holds for its data", "[io]") {
  GgufWriter w;
  w.alignment = 128;
  w.add("general.alignment", std::uint32_t{128}).tensor("a", {1}, 0, "aaaa").tensor("b", {1}, 0, "bbbb");
  const GgufFile file = open(w.file());
  CHECK(file.find_tensor("b")->data - file.find_tensor("a")->data == 128);
  CHECK(std::memcmp(file.find_tensor("b")->data, "bbbb", 4) == 0);
  for (const std::uint32_t bad : {0u, 24u, 1u << 31}) {
    GgufWriter broken;
    CHECK_THAT(reason(broken.add("general.alignment", bad).tensor("a", {1}, 0, four)), Catch::Contains("general.alignment is " + std::to_string(bad)));
  }
  GgufWriter text;
  CHECK_THAT(reason(text.add("general.alignment", "32")), Catch::Contains("general.alignment"));
}

TEST_CASE("a GGUF file that ends early is refused, wherever it ends", "[io]") {
  GgufWriter w;
  w.add("general.architecture", "llama").list("tokens", GgufWriter::string, 2, GgufWriter::text("a") + GgufWriter::text("bc")).add("x", 1.0f);
  w.tensor("a", {8, 2}, 0, std::string(64, 'x')).tensor("b", {4}, 0, std::string(16, 'y'));
  std::string whole = w.file();
  whole.resize(whole.size() - 16);  // the padding behind the last tensor may be missing
  CHECK(open(whole).tensors().size() == 2);
  for (std::size_t n = 0; n < whole.size(); n++) CHECK(refused(whole.substr(0, n)).byte() <= std::int64_t(n));
}

TEST_CASE("other files, versions and byte orders are refused", "[io]") {
  CHECK(refused("GGML" + std::string(20, '\0')).byte() == 0);
  GgufWriter w;
  for (const std::uint32_t version : {0u, 1u, 4u, 3u << 24}) {
    w.version = version;
    CHECK(refused(w.file()).byte() == 4);
  }
  CHECK(reason(w) == "the file is big-endian, which is not supported");
  w.version = 1;
  CHECK(reason(w) == "version 1; supported are 2 and 3");
}

TEST_CASE("absurd counts and lengths are refused before anything is allocated", "[io]") {
  memory::reset_peak();
  const std::string start = "GGUF" + bytes(std::uint32_t{3});
  for (const std::uint64_t count : {std::uint64_t{1} << 20, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    const std::string rest(64, '\0');
    CHECK(refused(start + bytes(count) + bytes(std::uint64_t{0}) + rest).byte() == 8);
    CHECK(refused(start + bytes(std::uint64_t{0}) + bytes(count) + rest).byte() == 16);
    CHECK(refused(start + bytes(std::uint64_t{0}) + bytes(std::uint64_t{1}) + bytes(count) + rest).byte() == 24);  // the length of a key
    GgufWriter texts, numbers, value;
    CHECK_THAT(reason(texts.list("a", GgufWriter::string, count, rest)), Catch::Contains("a list of " + std::to_string(count) + " values"));
    CHECK_THAT(reason(numbers.list("a", GgufWriter::u8, count, rest)), Catch::Contains("a list of " + std::to_string(count) + " values"));
    CHECK_THAT(reason(value.raw("a", GgufWriter::string, bytes(count) + rest)), Catch::Contains("a text of " + std::to_string(count) + " bytes"));
  }
}

TEST_CASE("damaged metadata are refused at their byte", "[io]") {
  using W = GgufWriter;
  const auto broken = [](auto change) {
    W w;
    change(w);
    const FormatError error = refused(w.file());
    CHECK(error.byte() >= 24);
    return error.reason();
  };
  CHECK(broken([](W& w) { w.add("a", 1u).add("a", 2u); }) == "the key \"a\" stands twice");
  CHECK(broken([](W& w) { w.add("", 1u); }) == "an empty key");
  CHECK(broken([](W& w) { w.raw("a", 13, eight); }) == "key \"a\": value type 13; allowed are 0 … 12");
  CHECK(broken([](W& w) { w.raw("a", -1, eight); }) == "key \"a\": value type -1; allowed are 0 … 12");
  CHECK(broken([](W& w) { w.raw("a", W::boolean, "\2"); }) == "a truth value of 2; 0 and 1 are allowed");
  CHECK(broken([](W& w) { w.list("a", W::array, 1, eight); }) == "a list of lists");
  CHECK(broken([](W& w) { w.list("a", 99, 1, eight); }) == "a list of value type 99; allowed are 0 … 12 without 9");
  CHECK(broken([](W& w) { w.list("a", W::u64, 1, bytes(~std::uint64_t{0})); }) == "an integer beyond 63 bits");
}

TEST_CASE("a damaged table of tensors is refused with the tensor", "[io]") {
  const auto broken = [](auto change) {
    GgufWriter w;
    change(w);
    const FormatError error = refused(w.file());
    CHECK(error.byte() >= 24);
    return error.reason();
  };
  using W = GgufWriter;
  using Catch::Contains;
  CHECK_THAT(broken([](W& w) { w.tensor("a", {1}, 0, four).tensor("a", {1}, 0, four); }), Contains("tensor \"a\" stands twice"));
  CHECK_THAT(broken([](W& w) { w.tensor("a", {1, 1, 1, 1, 1}, 0, four); }), Contains("5 dimensions; at most 4"));
  CHECK_THAT(broken([](W& w) { w.tensor("a", {-1}, 0, four); }), Contains("a dimension of -1"));
  CHECK_THAT(broken([](W& w) { w.tensor("a", {std::int64_t{1} << 40, std::int64_t{1} << 40}, 0, four); }), Contains("overflows 63 bits"));
  CHECK_THAT(broken([](W& w) { w.tensor("a", {std::numeric_limits<std::int64_t>::max()}, 0, four); }), Contains("its size overflows"));
  CHECK_THAT(broken([](W& w) { w.tensor("a", {std::int64_t{1} << 40}, 0, four); }), Contains("takes 4398046511104 bytes"));
  CHECK_THAT(broken([](W& w) { w.tensor("a", {48}, 2, std::string(27, '\0')); }), Contains("rows of 48 elements are not whole blocks of 32 (Q4_0)"));
  CHECK_THAT(broken([](W& w) { w.tensor("a", {1}, 99, four); }), Contains("type number 99 is not known"));
  CHECK_THAT(broken([](W& w) { w.tensor("a", {256}, 16, four); }), Contains("type IQ2_XXS is not supported; supported are F32"));
  CHECK_THAT(broken([](W& w) { w.tensor("a", {1}, 4, four); }), Contains("Q4_2 (removed)"));
  CHECK_THAT(broken([](W& w) { w.tensor("a", {1}, 0, four).tensor("b", {1}, 0, four, 0); }),
             Contains("tensor \"b\" lies at 0 of the data, the one before it ends at 32"));
  CHECK_THAT(broken([](W& w) { w.tensor("a", {1}, 0, four).tensor("b", {1}, 0, four, 64); }), Contains("lies at 64"));
  CHECK_THAT(broken([](W& w) { w.tensor("a", {1}, 0, four, 4); }), Contains("lies at 4"));
}
