// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <vector>

#include "peft/io/atomic_file.hpp"
#include "peft/io/impl/convert.hpp"
#include "peft/io/mapped_file.hpp"
#include "peft/io/npy.hpp"

namespace peft {

namespace detail {

struct NpyType {
  const char* descr;
  DType dtype;
};
inline constexpr std::array<NpyType, 12> npy_types = {{{"<f2", DType::f16},
                                                       {"<f4", DType::f32},
                                                       {"<f8", DType::f64},
                                                       {"|i1", DType::i8},
                                                       {"<i2", DType::i16},
                                                       {"<i4", DType::i32},
                                                       {"<i8", DType::i64},
                                                       {"|u1", DType::u8},
                                                       {"<u2", DType::u16},
                                                       {"<u4", DType::u32},
                                                       {"<u8", DType::u64},
                                                       {"|b1", DType::boolean}}};

struct NpyHeader {
  DType dtype = DType::f32;
  bool fortran_order = false;
  std::vector<std::int64_t> sizes;
};

/// The header is the text of a Python dictionary with three known keys, in any order:
/// {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
class NpyHeaderReader {
 public:
  NpyHeaderReader(std::string_view text, std::string_view path, std::size_t start) : text_(text), path_(path), start_(start) {}

  NpyHeader read() {
    NpyHeader header;
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::size_t where = here();
      const std::string_view key = quoted();
      const auto once = [&](bool& seen) {
        if (std::exchange(seen, true)) fail(where, "the key '" + std::string(key) + "' stands twice");
      };
      expect(':');
      if (key == "descr")
        once(descr), header.dtype = type();
      else if (key == "fortran_order")
        once(order), header.fortran_order = boolean();
      else if (key == "shape")
        once(shape), header.sizes = sizes();
      else
        fail(where, "the key '" + std::string(key) + "'; allowed are descr, fortran_order, shape");
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    if (here() != text_.size()) fail(here(), "text behind the header's dictionary");
    const char* missing = !descr ? "descr" : !order ? "fortran_order" : !shape ? "shape" : nullptr;
    if (missing) fail(0, "the key '" + std::string(missing) + "' is missing");
    return header;
  }

 private:
  [[noreturn]] void fail(std::size_t at, const std::string& reason) const { throw FormatError(path_, std::int64_t(start_ + at), "header: " + reason); }
  std::size_t here() {
    at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size());
    return at_;
  }
  bool accept(char c) {
    if (here() == text_.size() || text_[at_] != c) return false;
    at_++;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail(at_, std::string("a '") + c + "' is wanted here");
  }
  std::string_view quoted() {
    const std::size_t start = here();
    if (start == text_.size() || (text_[start] != '\'' && text_[start] != '"')) fail(start, "a text in quotes is wanted here");
    const std::size_t end = text_.find(text_[start], start + 1);
    if (end == text_.npos) fail(start, "a text without an end");
    at_ = end + 1;
    return text_.substr(start + 1, end - start - 1);
  }
  DType type() {
    const std::size_t where = here();
    if (where < text_.size() && text_[where] == '[') fail(where, "an array of structures; one number an element is wanted");
    const std::string_view descr = quoted();
    for (const NpyType& t : npy_types)
      if (descr == t.descr) return t.dtype;
    if (descr.starts_with('>'))
      fail(where, "'" + std::string(descr) + "' is big-endian, which is not supported; save array.astype(array.dtype.newbyteorder('<'))");
    std::string known;
    for (const NpyType& t : npy_types) known += (known.empty() ? "" : ", ") + std::string(t.descr);
    fail(where, "the type '" + std::string(descr) + "' is not supported; supported are " + known);
  }
  bool boolean() {
    const std::size_t where = here();
    for (const std::string_view word : {"False", "True"})
      if (text_.substr(where).starts_with(word)) return at_ += word.size(), word == "True";
    fail(where, "True or False is wanted here");
  }
  std::vector<std::int64_t> sizes() {
    std::vector<std::int64_t> all;
    expect('(');
    while (!accept(')')) {
      const std::size_t where = here();
      std::int64_t n = 0;
      const auto [end, code] = std::from_chars(text_.data() + where, text_.data() + text_.size(), n);
      if (code != std::errc() || n < 0) fail(where, "a size from 0 to 2^63 - 1 is wanted here");
      all.push_back(n), at_ = std::size_t(end - text_.data());
      accept('L');  // Python 2 wrote long integers so
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return all;
  }
  std::string_view text_, path_;
  std::size_t start_, at_ = 0;
};

/// Where an .npy file says its array lies. `data` is all that follows the header, of just the size that the header wants.
struct NpyArray {
  NpyHeader header;
  Shape shape;
  std::shared_ptr<const MappedFile> map;
  std::size_t begin = 0;
  const std::byte* data() const { return map->data() + begin; }
};

PEFT_INLINE NpyArray open_npy(const std::string& path) {
  NpyArray array;
  array.map = MappedFile::open(path);
  const auto fail = [&](std::size_t byte, const std::string& reason) { throw FormatError(path, std::int64_t(byte), reason); };
  const std::size_t size = array.map->size();
  const std::string_view text(reinterpret_cast<const char*>(array.map->data()), size);
  if (!text.starts_with("\x93NUMPY")) fail(0, "not an .npy file: it does not begin with \\x93NUMPY");
  if (size < 8) fail(size, "the file ends in its header");
  const int major = static_cast<unsigned char>(text[6]), minor = static_cast<unsigned char>(text[7]);
  if (major < 1 || major > 3 || minor != 0) fail(6, "version " + std::to_string(major) + "." + std::to_string(minor) + "; supported are 1.0, 2.0 and 3.0");
  const std::size_t prefix = major == 1 ? 10 : 12;
  if (size < prefix) fail(size, "the file ends in its header");
  std::uint32_t length = 0;
  std::memcpy(&length, text.data() + 8, prefix - 8);
  if (length > size - prefix) fail(8, "a header of " + std::to_string(length) + " bytes, the file has " + std::to_string(size - prefix) + " left");
  array.header = NpyHeaderReader(text.substr(prefix, length), path, prefix).read();
  array.begin = prefix + length;

  const std::vector<std::int64_t>& sizes = array.header.sizes;
  if (sizes.size() > Shape::max_rank)
    fail(prefix, "header: " + std::to_string(sizes.size()) + " dimensions; at most " + std::to_string(Shape::max_rank) + " are supported");
  std::int64_t bytes = info(array.header.dtype).bytes;
  for (const std::int64_t n : sizes)
    if (__builtin_mul_overflow(bytes, n, &bytes)) fail(prefix, "header: the array's size overflows 63 bits");
  array.shape = Shape(sizes);
  if (std::uint64_t(bytes) != size - array.begin)
    fail(std::min(size, array.begin + std::size_t(bytes)), "an array " + to_string(array.shape) + " of " + std::string(name(array.header.dtype)) + " takes " +
                                                               std::to_string(bytes) + " bytes, the file has " + std::to_string(size - array.begin));
  return array;
}

/// Fortran order is the transposed array in C order: element (i, j, k) of (I, J, K) lies at i + I (j + J k).
template <class T>
Tensor<T> from_fortran_order(const Tensor<T>& stored, const Shape& shape) {
  Tensor<T> t(shape);
  std::array<std::int64_t, Shape::max_rank> index{};
  for (std::int64_t to = 0; to < t.size(); to++) {
    std::int64_t from = 0;
    for (int axis = shape.rank(); axis-- > 0;) from = from * shape[axis] + index[std::size_t(axis)];
    t[to] = stored[from];
    for (int axis = shape.rank(); axis-- > 0;) {
      if (++index[std::size_t(axis)] < shape[axis]) break;
      index[std::size_t(axis)] = 0;
    }
  }
  return t;
}

template <class T>
constexpr const char* npy_descr() {
  if constexpr (std::is_same_v<T, float>)
    return "<f4";
  else if constexpr (std::is_same_v<T, double>)
    return "<f8";
  else if constexpr (std::is_same_v<T, Float16>)
    return "<f2";
  else if constexpr (std::is_same_v<T, std::int32_t>)
    return "<i4";
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return "<i8";
  else if constexpr (std::is_same_v<T, std::uint8_t>)
    return "|u1";
  else if constexpr (std::is_same_v<T, bool>)
    return "|b1";
}

/// All that stands in front of the array: magic, version, length and dictionary, padded to 64 bytes.
PEFT_INLINE std::string npy_prefix(const char* descr, const Shape& shape) {
  std::string dictionary = std::string("{'descr': '") + descr + "', 'fortran_order': False, 'shape': (";
  for (int i = 0; i < shape.rank(); i++) dictionary += (i ? ", " : "") + std::to_string(shape[i]);
  dictionary += shape.rank() == 1 ? ",), }" : "), }";
  // NumPy leaves room for the first size to grow to 21 digits in place.
  if (shape.rank() > 0) dictionary.append(21 - std::to_string(shape[0]).size(), ' ');
  dictionary.append(63 - (10 + dictionary.size()) % 64, ' ');
  dictionary += '\n';
  const std::uint16_t length = std::uint16_t(dictionary.size());
  std::string prefix("\x93NUMPY\x01\x00", 8);
  prefix += {char(length & 0xff), char(length >> 8)};
  return prefix + dictionary;
}

}  // namespace detail

template <class T>
Tensor<T> read_npy(const std::string& path) {
  const detail::NpyArray array = detail::open_npy(path);
  const DType type = array.header.dtype;
  if (!std::is_floating_point_v<T> && info(type).floating)
    throw FormatError(path, -1, "holds real numbers (" + std::string(name(type)) + "), which are not read as integers");
  Tensor<T> stored(array.shape);
  const std::int64_t done = detail::convert(stored.data(), type, array.data(), stored.size()).value();
  if (done < stored.size())
    throw FormatError(path, std::int64_t(array.begin) + done * info(type).bytes,
                      "element " + std::to_string(done) + " is a number of " + std::string(name(type)) + " that " +
                          (std::is_floating_point_v<T> ? "a real number of " : "an integer of ") + std::to_string(8 * sizeof(T)) + " bits does not hold");
  return array.header.fortran_order ? detail::from_fortran_order(stored, array.shape) : stored;
}

template <class T>
void write_npy(const std::string& path, const Tensor<T>& tensor) {
  if (!tensor) throw ShapeError("write_npy", path + ": a tensor without numbers");
  const std::string prefix = detail::npy_prefix(detail::npy_descr<T>(), tensor.shape());
  AtomicFile file(path);
  file.write(prefix.data(), prefix.size());
  const std::int64_t rows = tensor.contiguous() ? 1 : tensor.rows(), cols = tensor.contiguous() ? tensor.size() : tensor.cols();
  for (std::int64_t i = 0; i < rows; i++) file.write(tensor.data() + i * tensor.stride(), std::size_t(cols) * sizeof(T));
  file.commit();
}

}  // namespace peft
