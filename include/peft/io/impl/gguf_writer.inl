// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <set>

#include "peft/io/atomic_file.hpp"
#include "peft/io/gguf_writer.hpp"
#include "peft/io/impl/gguf.inl"

namespace peft {

namespace detail {
template <class V>
void append_bytes(std::string& to, V value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(V));
}
PEFT_INLINE void append_gguf_text(std::string& to, std::string_view text) {
  append_bytes(to, std::uint64_t(text.size()));
  to.append(text);
}
template <class V>
std::string gguf_list(std::int32_t type, const std::vector<V>& values) {
  std::string bytes;
  append_bytes(bytes, type), append_bytes(bytes, std::uint64_t(values.size()));
  for (const V value : values) append_bytes(bytes, value);
  return bytes;
}
}  // namespace detail

PEFT_INLINE void GgufFileWriter::set(const std::string& key, std::int32_t type, const void* value, std::size_t bytes) {
  std::string all;
  detail::append_bytes(all, type);
  all.append(static_cast<const char*>(value), bytes);
  const auto known = std::ranges::find(metadata_, key, &std::pair<std::string, std::string>::first);
  if (known != metadata_.end())
    known->second = std::move(all);
  else
    metadata_.emplace_back(key, std::move(all));
}
PEFT_INLINE void GgufFileWriter::text(const std::string& key, const std::string& value) {
  std::string bytes;
  detail::append_gguf_text(bytes, value);
  set(key, 8, bytes.data(), bytes.size());
}
PEFT_INLINE void GgufFileWriter::u32(const std::string& key, std::int64_t value) {
  if (value < 0 || value > std::int64_t(UINT32_MAX)) throw ConfigError("gguf", key + " is " + std::to_string(value) + "; 0 … 2^32 - 1 are allowed");
  const auto number = std::uint32_t(value);
  set(key, 4, &number, sizeof number);
}
PEFT_INLINE void GgufFileWriter::f32(const std::string& key, double value) {
  const auto number = float(value);
  set(key, 6, &number, sizeof number);
}
PEFT_INLINE void GgufFileWriter::boolean(const std::string& key, bool value) {
  const std::uint8_t byte = value;
  set(key, 7, &byte, 1);
}
PEFT_INLINE void GgufFileWriter::texts(const std::string& key, const std::vector<std::string>& values) {
  std::string bytes;
  detail::append_bytes(bytes, std::int32_t(8)), detail::append_bytes(bytes, std::uint64_t(values.size()));
  for (const std::string& value : values) detail::append_gguf_text(bytes, value);
  set(key, 9, bytes.data(), bytes.size());
}
PEFT_INLINE void GgufFileWriter::f32s(const std::string& key, const std::vector<float>& values) {
  const std::string bytes = detail::gguf_list(6, values);
  set(key, 9, bytes.data(), bytes.size());
}
PEFT_INLINE void GgufFileWriter::i32s(const std::string& key, const std::vector<std::int32_t>& values) {
  const std::string bytes = detail::gguf_list(5, values);
  set(key, 9, bytes.data(), bytes.size());
}
PEFT_INLINE void GgufFileWriter::copy(const GgufFile& from, const std::string& key) {
  const auto raw = from.raw(key);
  std::int32_t type;
  std::memcpy(&type, raw.data(), sizeof type);
  set(key, type, raw.data() + sizeof type, raw.size() - sizeof type);
}

PEFT_INLINE void GgufFileWriter::write(const std::string& path, const std::vector<GgufTensorToWrite>& tensors) const {
  constexpr std::uint64_t alignment = 32;
  const auto padded = [](std::uint64_t n) { return (n + alignment - 1) / alignment * alignment; };
  std::string header = "GGUF";
  detail::append_bytes(header, std::uint32_t(3));
  detail::append_bytes(header, std::uint64_t(tensors.size())), detail::append_bytes(header, std::uint64_t(metadata_.size()));
  for (const auto& [key, value] : metadata_) {
    detail::append_gguf_text(header, key);
    header += value;
  }
  std::set<std::string_view> names;
  std::uint64_t offset = 0;
  for (const GgufTensorToWrite& t : tensors) {
    const auto fail = [&](const std::string& reason) { throw FormatError(path, -1, "tensor \"" + t.name + "\": " + reason); };
    if (!names.insert(t.name).second) fail("the name stands twice");
    if (t.name.size() > 63) fail("a name of " + std::to_string(t.name.size()) + " bytes; at most 63 are allowed");
    const auto type = std::ranges::find_if(detail::gguf_types, [&](const detail::GgufType& g) { return g.dtype == t.dtype; });
    if (type == detail::gguf_types.end()) fail("GGUF has no type " + std::string(name(t.dtype)));
    const int rank = t.shape.rank();
    if (rank < 1 || rank > 4) fail(std::to_string(rank) + " dimensions; 1 to 4 are allowed");
    if (t.shape[rank - 1] % info(t.dtype).block)
      fail("rows of " + std::to_string(t.shape[rank - 1]) + " elements are not whole blocks of " + std::to_string(info(t.dtype).block));
    detail::append_gguf_text(header, t.name);
    detail::append_bytes(header, std::uint32_t(rank));
    for (int i = rank; i-- > 0;) detail::append_bytes(header, std::int64_t(t.shape[i]));
    detail::append_bytes(header, type->id);
    detail::append_bytes(header, offset);
    offset += padded(std::uint64_t(bytes_of(t.dtype, t.shape.size())));
  }
  header.resize(padded(header.size()), '\0');
  AtomicFile file(path);
  file.write(header.data(), header.size());
  for (const GgufTensorToWrite& t : tensors) {
    std::vector<std::byte> bytes = t.bytes();
    if (std::int64_t(bytes.size()) != bytes_of(t.dtype, t.shape.size()))
      throw FormatError(path, -1, "tensor \"" + t.name + "\": " + std::to_string(bytes.size()) + " bytes do not fit its shape " + to_string(t.shape));
    bytes.resize(padded(bytes.size()));
    file.write(bytes.data(), bytes.size());
  }
  file.commit();
}

}  // namespace peft
