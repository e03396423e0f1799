// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "peft/io/gguf.hpp"

namespace peft {

namespace detail {

struct GgufType {
  std::int32_t id;
  const char* name;
  std::optional<DType> dtype;
};
inline constexpr std::array<GgufType, 42> gguf_types = {{{0, "F32", DType::f32},
                                                         {1, "F16", DType::f16},
                                                         {2, "Q4_0", DType::q4_0},
                                                         {3, "Q4_1", DType::q4_1},
                                                         {6, "Q5_0", DType::q5_0},
                                                         {7, "Q5_1", DType::q5_1},
                                                         {8, "Q8_0", DType::q8_0},
                                                         {9, "Q8_1", {}},
                                                         {10, "Q2_K", DType::q2_k},
                                                         {11, "Q3_K", DType::q3_k},
                                                         {12, "Q4_K", DType::q4_k},
                                                         {13, "Q5_K", DType::q5_k},
                                                         {14, "Q6_K", DType::q6_k},
                                                         {15, "Q8_K", {}},
                                                         {16, "IQ2_XXS", {}},
                                                         {17, "IQ2_XS", {}},
                                                         {18, "IQ3_XXS", {}},
                                                         {19, "IQ1_S", {}},
                                                         {20, "IQ4_NL", DType::iq4_nl},
                                                         {21, "IQ3_S", {}},
                                                         {22, "IQ2_S", {}},
                                                         {23, "IQ4_XS", DType::iq4_xs},
                                                         {24, "I8", DType::i8},
                                                         {25, "I16", DType::i16},
                                                         {26, "I32", DType::i32},
                                                         {27, "I64", DType::i64},
                                                         {28, "F64", DType::f64},
                                                         {29, "IQ1_M", {}},
                                                         {30, "BF16", DType::bf16},
                                                         {34, "TQ1_0", DType::tq1_0},
                                                         {35, "TQ2_0", DType::tq2_0},
                                                         {39, "MXFP4", DType::mxfp4},
                                                         {40, "NVFP4", {}},
                                                         {41, "Q1_0", {}},
                                                         {42, "Q2_0", {}},
                                                         {4, "Q4_2 (removed)", {}},
                                                         {5, "Q4_3 (removed)", {}},
                                                         {31, "Q4_0_4_4 (removed)", {}},
                                                         {32, "Q4_0_4_8 (removed)", {}},
                                                         {33, "Q4_0_8_8 (removed)", {}},
                                                         {36, "IQ4_NL_4_4 (removed)", {}},
                                                         {37, "IQ4_NL_4_8 (removed)", {}}}};

/// Walks through the header; every step checks that the file goes that far.
class GgufCursor {
 public:
  explicit GgufCursor(const MappedFile& map) : map_(map) {}
  std::size_t at() const { return at_; }
  std::size_t left() const { return map_.size() - at_; }
  [[noreturn]] void fail(std::size_t byte, const std::string& reason) const { throw FormatError(map_.path(), std::int64_t(byte), reason); }
  const std::byte* take(std::uint64_t bytes, const char* what) {
    if (bytes > left()) fail(at_, std::string(what) + " of " + std::to_string(bytes) + " bytes, the file has " + std::to_string(left()) + " left");
    const std::byte* start = map_.data() + at_;
    at_ += bytes;
    return start;
  }
  template <class V>
  V read(const char* what) {
    V value;
    std::memcpy(&value, take(sizeof(V), what), sizeof(V));
    return value;
  }
  std::string_view string(const char* what) {
    const std::size_t start = at_;
    const std::uint64_t length = read<std::uint64_t>(what);
    if (length > left()) fail(start, std::string(what) + ": a text of " + std::to_string(length) + " bytes, the file has " + std::to_string(left()) + " left");
    return {reinterpret_cast<const char*>(take(length, what)), std::size_t(length)};
  }

 private:
  const MappedFile& map_;
  std::size_t at_ = 0;
};

PEFT_INLINE std::size_t gguf_value_bytes(std::int32_t type) {
  constexpr std::array<std::size_t, 13> bytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type >= 0 && type < 13 ? bytes[std::size_t(type)] : 0;
}

PEFT_INLINE GgufValue::Storage gguf_scalar(GgufCursor& c, std::int32_t type) {
  const std::size_t start = c.at();
  switch (type) {
    case 0:
      return std::int64_t(c.read<std::uint8_t>("value"));
    case 1:
      return std::int64_t(c.read<std::int8_t>("value"));
    case 2:
      return std::int64_t(c.read<std::uint16_t>("value"));
    case 3:
      return std::int64_t(c.read<std::int16_t>("value"));
    case 4:
      return std::int64_t(c.read<std::uint32_t>("value"));
    case 5:
      return std::int64_t(c.read<std::int32_t>("value"));
    case 6:
      return double(c.read<float>("value"));
    case 7: {
      const auto b = c.read<std::uint8_t>("value");
      if (b > 1) c.fail(start, "a truth value of " + std::to_string(b) + "; 0 and 1 are allowed");
      return b == 1;
    }
    case 8:
      return std::string(c.string("value"));
    case 10:
      return c.read<std::uint64_t>("value");
    case 11:
      return c.read<std::int64_t>("value");
    case 12:
      return c.read<double>("value");
    default:
      c.fail(start, "value type " + std::to_string(type) + "; allowed are 0 … 12");
  }
}

PEFT_INLINE GgufValue::Storage gguf_list(GgufCursor& c) {
  const std::size_t start = c.at();
  const auto type = c.read<std::int32_t>("list");
  const auto count = c.read<std::uint64_t>("list");
  if (type == 9) c.fail(start, "a list of lists");
  if (type < 0 || type > 12) c.fail(start, "a list of value type " + std::to_string(type) + "; allowed are 0 … 12 without 9");
  const std::size_t least = type == 8 ? 8 : gguf_value_bytes(type);
  if (count > (1u << 30) || count > c.left() / least)
    c.fail(start, "a list of " + std::to_string(count) + " values, the file has " + std::to_string(c.left()) + " bytes left");
  if (type == 8) {
    std::vector<std::string_view> all;
    all.reserve(count);
    for (std::uint64_t i = 0; i < count; i++) all.push_back(c.string("list"));
    return all;
  }
  if (type == 6 || type == 12) {
    std::vector<double> all;
    all.reserve(count);
    for (std::uint64_t i = 0; i < count; i++) all.push_back(type == 6 ? double(c.read<float>("list")) : c.read<double>("list"));
    return all;
  }
  std::vector<std::int64_t> all;
  all.reserve(count);
  for (std::uint64_t i = 0; i < count; i++) {
    const std::size_t here = c.at();
    const GgufValue::Storage value = gguf_scalar(c, type);
    if (const auto* integer = std::get_if<std::int64_t>(&value))
      all.push_back(*integer);
    else if (const auto* truth = std::get_if<bool>(&value))
      all.push_back(*truth);
    else if (const auto* large = std::get_if<std::uint64_t>(&value); large && *large <= std::uint64_t(INT64_MAX))
      all.push_back(std::int64_t(*large));
    else
      c.fail(here, "an integer beyond 63 bits");
  }
  return all;
}

PEFT_INLINE GgufTensor gguf_tensor(GgufCursor& c, std::uint64_t& offset) {
  const std::size_t start = c.at();
  GgufTensor t;
  t.name = std::string(c.string("tensor name"));
  const auto fail = [&](const std::string& reason) { c.fail(start, "tensor \"" + t.name + "\": " + reason); };
  const auto dimensions = c.read<std::uint32_t>("tensor table");
  if (dimensions > 4) fail(std::to_string(dimensions) + " dimensions; at most 4 are allowed");
  std::array<std::int64_t, 4> ne = {1, 1, 1, 1};
  std::int64_t elements = 1;
  for (std::uint32_t i = 0; i < dimensions; i++) {
    ne[i] = c.read<std::int64_t>("tensor table");
    if (ne[i] < 0) fail("a dimension of " + std::to_string(ne[i]));
    if (__builtin_mul_overflow(elements, ne[i], &elements)) fail("the number of elements overflows 63 bits");
  }
  std::vector<std::int64_t> sizes(ne.begin(), ne.begin() + dimensions);
  std::reverse(sizes.begin(), sizes.end());
  t.shape = Shape(sizes);
  const auto type = c.read<std::int32_t>("tensor table");
  const auto known = std::ranges::find_if(gguf_types, [&](const GgufType& g) { return g.id == type; });
  if (known == gguf_types.end()) fail("type number " + std::to_string(type) + " is not known");
  if (!known->dtype)
    fail(std::string("type ") + known->name +
         " is not supported; supported are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K … Q6_K, IQ4_NL, IQ4_XS, MXFP4, TQ1_0, TQ2_0");
  t.dtype = *known->dtype;
  if (ne[0] % info(t.dtype).block)
    fail("rows of " + std::to_string(ne[0]) + " elements are not whole blocks of " + std::to_string(info(t.dtype).block) + " (" + known->name + ")");
  if (__builtin_mul_overflow(elements / info(t.dtype).block, info(t.dtype).bytes, &t.bytes)) fail("its size overflows 63 bits");
  offset = c.read<std::uint64_t>("tensor table");
  return t;
}

}  // namespace detail

PEFT_INLINE GgufFile GgufFile::open(const std::string& path) {
  GgufFile file;
  file.path_ = path, file.map_ = MappedFile::open(path);
  detail::GgufCursor c(*file.map_);
  if (file.map_->size() < 4 || std::memcmp(file.map_->data(), "GGUF", 4) != 0) c.fail(0, "not a GGUF file: it does not begin with the letters GGUF");
  c.take(4, "header");
  const auto version = c.read<std::uint32_t>("header");
  if (version != 2 && version != 3)
    c.fail(4, (version & 0xffff) == 0 ? "the file is big-endian, which is not supported" : "version " + std::to_string(version) + "; supported are 2 and 3");
  const auto tensor_count = c.read<std::uint64_t>("header"), key_count = c.read<std::uint64_t>("header");
  // A tensor takes at least 24 bytes of the table and a key 13: more of them than the file can hold is no header.
  if (tensor_count > c.left() / 24) c.fail(8, std::to_string(tensor_count) + " tensors in a file of " + std::to_string(file.map_->size()) + " bytes");
  if (key_count > c.left() / 13) c.fail(16, std::to_string(key_count) + " metadata keys in a file of " + std::to_string(file.map_->size()) + " bytes");

  for (std::uint64_t i = 0; i < key_count; i++) {
    const std::size_t start = c.at();
    std::string key(c.string("key"));
    if (key.empty()) c.fail(start, "an empty key");
    const std::size_t value_start = c.at();
    const auto type = c.read<std::int32_t>("value type");
    if (type < 0 || type > 12) c.fail(c.at() - 4, "key \"" + key + "\": value type " + std::to_string(type) + "; allowed are 0 … 12");
    if (!file.keys_.emplace(key, file.metadata_.size()).second) c.fail(start, "the key \"" + key + "\" stands twice");
    GgufValue::Storage value = type == 9 ? detail::gguf_list(c) : detail::gguf_scalar(c, type);
    file.metadata_.emplace_back(std::move(key), std::move(value));
    file.raw_.emplace_back(file.map_->data() + value_start, c.at() - value_start);
  }
  std::uint64_t alignment = 32;
  if (const GgufValue* wanted = file.find("general.alignment")) {
    const std::int64_t* n = std::get_if<std::int64_t>(&wanted->storage());
    if (!n || *n <= 0 || (*n & (*n - 1)) || *n > (1 << 30))
      c.fail(c.at(), "general.alignment is " + (n ? std::to_string(*n) : "no integer") + "; a power of two to 2^30 is wanted");
    alignment = std::uint64_t(*n);
  }

  std::vector<std::uint64_t> offsets(tensor_count);
  std::vector<std::size_t> where(tensor_count);
  for (std::uint64_t i = 0; i < tensor_count; i++) {
    where[i] = c.at();
    GgufTensor tensor = detail::gguf_tensor(c, offsets[i]);
    if (!file.names_.emplace(tensor.name, file.tensors_.size()).second) c.fail(where[i], "tensor \"" + tensor.name + "\" stands twice");
    file.tensors_.push_back(std::move(tensor));
  }
  const auto padded = [&](std::uint64_t n) { return (n + alignment - 1) / alignment * alignment; };
  const std::uint64_t data = padded(c.at()), size = file.map_->size();
  if (tensor_count && data > size) c.fail(c.at(), "the file ends before its data");
  std::uint64_t expected = 0;
  for (std::size_t i = 0; i < file.tensors_.size(); i++) {
    GgufTensor& t = file.tensors_[i];
    if (offsets[i] != expected)
      c.fail(where[i],
             "tensor \"" + t.name + "\" lies at " + std::to_string(offsets[i]) + " of the data, the one before it ends at " + std::to_string(expected));
    if (std::uint64_t(t.bytes) > size - data || expected > size - data - std::uint64_t(t.bytes))
      c.fail(where[i], "tensor \"" + t.name + "\" takes " + std::to_string(t.bytes) + " bytes from " + std::to_string(expected) + " of the data, which has " +
                           std::to_string(size - data));
    t.data = file.map_->data() + data + expected;
    expected = padded(expected + std::uint64_t(t.bytes));
  }
  return file;
}

PEFT_INLINE const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = keys_.find(std::string(key));
  return found == keys_.end() ? nullptr : &metadata_[found->second];
}
PEFT_INLINE std::span<const std::byte> GgufFile::raw(std::string_view key) const {
  const auto found = keys_.find(std::string(key));
  if (found == keys_.end()) throw ConfigError("gguf", path_ + " has no key " + std::string(key));
  return raw_[found->second];
}
PEFT_INLINE const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = names_.find(std::string(name));
  return found == names_.end() ? nullptr : &tensors_[found->second];
}

PEFT_INLINE void GgufValue::wrong(const char* wanted) const {
  constexpr std::array<const char*, 8> kinds = {"a truth value", "an integer",         "an integer",        "a number",
                                                "a text",        "a list of integers", "a list of numbers", "a list of texts"};
  throw ConfigError("gguf", key_ + " is " + kinds[value_.index()] + ", wanted is " + wanted);
}
PEFT_INLINE bool GgufValue::boolean() const {
  if (const auto* v = std::get_if<bool>(&value_)) return *v;
  wrong("a truth value");
}
PEFT_INLINE std::int64_t GgufValue::integer() const {
  if (const auto* v = std::get_if<std::int64_t>(&value_)) return *v;
  if (const auto* v = std::get_if<std::uint64_t>(&value_); v && *v <= std::uint64_t(INT64_MAX)) return std::int64_t(*v);
  wrong("an integer");
}
PEFT_INLINE double GgufValue::number() const {
  if (const auto* v = std::get_if<double>(&value_)) return *v;
  return double(integer());
}
PEFT_INLINE const std::string& GgufValue::string() const {
  if (const auto* v = std::get_if<std::string>(&value_)) return *v;
  wrong("a text");
}
PEFT_INLINE const std::vector<std::int64_t>& GgufValue::integers() const {
  if (const auto* v = std::get_if<std::vector<std::int64_t>>(&value_)) return *v;
  wrong("a list of integers");
}
PEFT_INLINE const std::vector<double>& GgufValue::numbers() const {
  if (const auto* v = std::get_if<std::vector<double>>(&value_)) return *v;
  wrong("a list of numbers");
}
PEFT_INLINE const std::vector<std::string_view>& GgufValue::strings() const {
  if (const auto* v = std::get_if<std::vector<std::string_view>>(&value_)) return *v;
  wrong("a list of texts");
}

}  // namespace peft
