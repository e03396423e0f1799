// SPDX-License-Identifier: Apache-2.0
#include "peft/io/npy.hpp"

#include <catch2/catch.hpp>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "support/files.hpp"
#include "support/tensors.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

/// A file with this dictionary, as NumPy frames it.
std::string npy(const std::string& dictionary, std::string_view data, int major = 1) {
  std::string text = dictionary;
  const std::size_t prefix = major == 1 ? 10 : 12;
  text.append(63 - (prefix + text.size()) % 64, ' ');
  text += '\n';
  std::string file = "\x93NUMPY" + bytes(std::uint8_t(major)) + bytes(std::uint8_t(0));
  file += major == 1 ? bytes(std::uint16_t(text.size())) : bytes(std::uint32_t(text.size()));
  return file + text + std::string(data);
}
std::string header(const std::string& descr, const std::string& shape, const std::string& fortran_order = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + fortran_order + ", 'shape': " + shape + ", }";
}
template <class V>
std::string packed(const std::vector<V>& values) {
  std::string all;
  for (const V value : values) all += bytes(value);
  return all;
}

template <class T>
Tensor<T> read(const std::string& file) {
  const Folder folder;
  write_file(folder / "a.npy", file);
  return read_npy<T>(folder / "a.npy");
}
template <class T = float>
FormatError refused(const std::string& file) {
  const Folder folder;
  write_file(folder / "a.npy", file);
  return format_error(folder / "a.npy", [&] { read_npy<T>(folder / "a.npy"); });
}
template <class T>
std::string written(const Tensor<T>& tensor) {
  const Folder folder;
  write_npy(folder / "a.npy", tensor);
  return read_file(folder / "a.npy");
}

}  // namespace

TEST_CASE("a file that NumPy 2 saved is read, and written the same to the byte", "[io]") {
  // numpy.save(file, numpy.array([[1.5, -2, 3], [4, 5, numpy.inf]], dtype='<f4')), with its room for a first size of 21 digits
  std::string file("\x93NUMPY\x01\x00v\x00", 10);
  file.append("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }").append(58, ' ').append("\n");
  file += packed<float>({1.5f, -2, 3, 4, 5, std::numeric_limits<float>::infinity()});
  const Tensor<float> t = read<float>(file);
  CHECK(t.shape() == Shape{2, 3});
  CHECK(numbers(t) == std::vector<float>{1.5f, -2, 3, 4, 5, std::numeric_limits<float>::infinity()});
  CHECK(written(t) == file);
}

TEMPLATE_TEST_CASE("what is written is read back", "[io]", float, double, std::int32_t, std::int64_t, std::uint8_t) {
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{5}, Shape{2, 3}, Shape{2, 3, 4}, Shape{0, 4}, Shape{1, 2, 1, 3, 1, 2}}) {
    Tensor<TestType> t(shape);
    TestType value = std::numeric_limits<TestType>::max();
    for (TestType& element : t.span()) element = value, value = TestType(value / 3);
    const std::string file = written(t);
    CHECK((file.size() - std::size_t(t.size()) * sizeof(TestType)) % 64 == 0);
    CHECK(same_bits(read<TestType>(file), t));
  }
}

TEST_CASE("halves and truth values are written as they are", "[io]") {
  const Tensor<Float16> halves({2});
  halves[0] = to_float16(1.5f), halves[1] = to_float16(65504);
  CHECK(written(halves).find("'descr': '<f2'") != std::string::npos);
  CHECK(numbers(read<float>(written(halves))) == std::vector<float>{1.5f, 65504});
  const Tensor<bool> truths({3});
  truths[0] = true, truths[1] = false, truths[2] = true;
  CHECK(numbers(read<std::int32_t>(written(truths))) == std::vector<std::int32_t>{1, 0, 1});
}

TEST_CASE("a part of a tensor is written without what lies between its rows", "[io]") {
  const Tensor<float> t = random_normal<float>({3, 4});
  CHECK(written(with_gaps(t)) == written(t));
}

TEST_CASE("every type of number that NumPy saves", "[io]") {
  CHECK(numbers(read<float>(npy(header("<f2", "(2,)"), packed<std::uint16_t>({0x3c00, 0xc000})))) == std::vector<float>{1, -2});
  CHECK(numbers(read<float>(npy(header("<f8", "(2,)"), packed<double>({0.1, 1e300})))) ==
        std::vector<float>{0.1f, std::numeric_limits<float>::infinity()});  // rounded
  CHECK(numbers(read<double>(npy(header("<f4", "(1,)"), packed<float>({0.1f})))) == std::vector<double>{double(0.1f)});
  CHECK(numbers(read<std::int64_t>(npy(header("|i1", "(2,)"), packed<std::int8_t>({-128, 127})))) == std::vector<std::int64_t>{-128, 127});
  CHECK(numbers(read<std::int64_t>(npy(header("<i2", "(2,)"), packed<std::int16_t>({-300, 300})))) == std::vector<std::int64_t>{-300, 300});
  CHECK(numbers(read<std::int64_t>(npy(header("<u2", "(1,)"), packed<std::uint16_t>({65535})))) == std::vector<std::int64_t>{65535});
  CHECK(numbers(read<std::int64_t>(npy(header("<u4", "(1,)"), packed<std::uint32_t>({4294967295u})))) == std::vector<std::int64_t>{4294967295});
  CHECK(numbers(read<std::int64_t>(npy(header("<u8", "(1,)"), packed<std::uint64_t>({7})))) == std::vector<std::int64_t>{7});
  CHECK(numbers(read<float>(npy(header("|b1", "(3,)"), std::string("\0\1\2", 3)))) == std::vector<float>{0, 1, 1});
  CHECK(numbers(read<float>(npy(header("<i4", "(2,)"), packed<std::int32_t>({-7, 1 << 30})))) == std::vector<float>{-7, 1 << 30});
}

TEST_CASE("an integer that does not fit is refused where it stands", "[io]") {
  const FormatError error = refused<std::int32_t>(npy(header("<i8", "(2,)"), packed<std::int64_t>({1, std::int64_t{1} << 31})));
  CHECK(error.byte() == 128 + 8);
  CHECK(error.reason() == "element 1 is a number of I64 that an integer of 32 bits does not hold");
  CHECK(refused<std::uint8_t>(npy(header("<i4", "(1,)"), packed<std::int32_t>({-1}))).byte() == 128);
  CHECK(refused<float>(npy(header("<i4", "(1,)"), packed<std::int32_t>({(1 << 24) + 1}))).reason() ==
        "element 0 is a number of I32 that a real number of 32 bits does not hold");
  CHECK(refused<std::int64_t>(npy(header("<u8", "(1,)"), packed<std::uint64_t>({std::uint64_t{1} << 63}))).byte() == 128);
  CHECK(refused<std::int64_t>(npy(header("<f4", "(1,)"), packed<float>({1}))).reason() == "holds real numbers (F32), which are not read as integers");
  CHECK(numbers(read<double>(npy(header("<i8", "(2,)"), packed<std::int64_t>({std::numeric_limits<std::int64_t>::min(), (std::int64_t{1} << 53) - 1})))) ==
        std::vector<double>{-0x1p63, 0x1p53 - 1});
}

TEST_CASE("Fortran order is put into rows", "[io]") {
  CHECK(numbers(read<float>(npy(header("<f4", "(2, 3)", "True"), packed<float>({1, 4, 2, 5, 3, 6})))) == std::vector<float>{1, 2, 3, 4, 5, 6});
  std::vector<std::int32_t> data;
  for (int k = 0; k < 4; k++)
    for (int j = 0; j < 3; j++)
      for (int i = 0; i < 2; i++) data.push_back(100 * i + 10 * j + k);
  const Tensor<std::int32_t> t = read<std::int32_t>(npy(header("<i4", "(2, 3, 4)", "True"), packed(data)));
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 3; j++)
      for (int k = 0; k < 4; k++) CHECK(t[12 * i + 4 * j + k] == 100 * i + 10 * j + k);
}

TEST_CASE("headers of versions 1 to 3, in every spelling that Python reads", "[io]") {
  const std::string data = packed<float>({1, 2, 3, 4, 5, 6});
  for (const int version : {1, 2, 3}) CHECK(read<float>(npy(header("<f4", "(2, 3)"), data, version)).shape() == Shape{2, 3});
  for (const char* text : {"{'shape':(2,3),'descr':'<f4','fortran_order':False}", "{\"descr\": \"<f4\", \"fortran_order\": False, \"shape\": (2L, 3L)}",
                           " { 'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 2 , 3 , ) , } "})
    CHECK(read<float>(npy(text, data)).shape() == Shape{2, 3});
  CHECK(read<float>(npy(header("<f4", "(6, )"), data)).shape() == Shape{6});
}

TEST_CASE("what a header must not say is refused at its byte", "[io]") {
  const std::string one = packed<float>({1});
  const auto reason = [&](const std::string& dictionary) {
    const FormatError error = refused(npy(dictionary, one));
    CHECK(error.byte() >= 10);
    return error.reason();
  };
  CHECK(reason(header(">f4", "(1,)")) == "header: '>f4' is big-endian, which is not supported; save array.astype(array.dtype.newbyteorder('<'))");
  CHECK(refused(npy(header(">f4", "(1,)"), one)).byte() == 20);
  CHECK(reason(header("<c8", "(1,)")) == "header: the type '<c8' is not supported; supported are <f2, <f4, <f8, |i1, <i2, <i4, <i8, |u1, <u2, <u4, <u8, |b1");
  CHECK(reason(header("|O", "(1,)")).find("'|O' is not supported") != std::string::npos);
  CHECK(reason("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }") == "header: an array of structures; one number an element is wanted");
  CHECK(reason("{'descr': '<f4', 'fortran_order': False, }") == "header: the key 'shape' is missing");
  CHECK(reason("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,), }") == "header: the key 'descr' stands twice");
  CHECK(reason("{'descr': '<f4', 'order': False, 'shape': (1,), }") == "header: the key 'order'; allowed are descr, fortran_order, shape");
  CHECK(reason(header("<f4", "(1,)", "0")) == "header: True or False is wanted here");
  CHECK(reason(header("<f4", "(-1,)")) == "header: a size from 0 to 2^63 - 1 is wanted here");
  CHECK(reason(header("<f4", "(9223372036854775808,)")) == "header: a size from 0 to 2^63 - 1 is wanted here");
  CHECK(reason(header("<f4", "1")) == "header: a '(' is wanted here");
  CHECK(reason(header("<f4", "(1 1)")) == "header: a ')' is wanted here");
  CHECK(reason(header("<f4", "(1,)") + "{}") == "header: text behind the header's dictionary");
  CHECK(reason("{'descr': '<f4") == "header: a text without an end");
  CHECK(reason("") == "header: a '{' is wanted here");
  CHECK(reason(header("<f4", "(1, 1, 1, 1, 1, 1, 1)")) == "header: 7 dimensions; at most 6 are supported");
}

TEST_CASE("a size that the file does not have is refused before anything is allocated", "[io]") {
  const std::string one = packed<float>({1});
  memory::reset_peak();
  const std::int64_t before = memory::statistics().peak;
  CHECK(refused(npy(header("<f4", "(1000000000000,)"), one)).reason() == "an array (1000000000000) of F32 takes 4000000000000 bytes, the file has 4");
  CHECK(refused(npy(header("<f4", "(4294967296, 4294967296)"), one)).reason() == "header: the array's size overflows 63 bits");
  CHECK(refused(npy(header("<f4", "(2,)"), one)).byte() == 132);
  CHECK(refused(npy(header("<f4", "(1,)"), one + "x")).byte() == 132);
  CHECK(memory::statistics().peak == before);
}

TEST_CASE("an .npy file that ends early is refused, wherever it ends", "[io]") {
  for (const int version : {1, 2}) {
    const std::string whole = npy(header("<f4", "(2, 3)"), packed<float>({1, 2, 3, 4, 5, 6}), version);
    for (std::size_t n = 0; n < whole.size(); n++) CHECK(refused(whole.substr(0, n)).byte() <= std::int64_t(n));
  }
  CHECK(refused("\x93NUMPZ\x01").byte() == 0);
  CHECK(refused(std::string("\x93NUMPY\x04\x00\x00\x00", 10)).reason() == "version 4.0; supported are 1.0, 2.0 and 3.0");
}

TEST_CASE("a file that cannot be written leaves nothing", "[io]") {
  const Folder folder;
  CHECK_THROWS_AS(write_npy(folder / "none/a.npy", Tensor<float>({1}, 1.0f)), FormatError);
  CHECK_THROWS_AS(write_npy(folder / "a.npy", Tensor<float>()), ShapeError);
  CHECK(folder.names().empty());
}
