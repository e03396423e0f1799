// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace peft {

/// What arithmetic is done in. Everything else (float16, Q4_K, …) is a DType of frozen storage, widened where it is used.
template <class T>
concept Scalar = std::same_as<T, float> || std::same_as<T, double>;

/// How numbers lie in a file or in memory. The block types are GGUF's, but NF4, which is in no file.
enum class DType : std::uint8_t {
  f32,
  f64,
  f16,
  bf16,
  i8,
  u8,
  i16,
  u16,
  i32,
  u32,
  i64,
  u64,
  boolean,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
  tq1_0,
  tq2_0,
  nf4
};

struct DTypeInfo {
  std::string_view name;   // as GGUF and safetensors spell it
  std::int64_t block = 1;  // elements in a block
  std::int64_t bytes = 0;  // bytes of a block
  bool floating = false;   // a real number, so that it can be a weight
};

inline constexpr std::array<DTypeInfo, 29> dtype_infos = {
    {{"F32", 1, 4, true},      {"F64", 1, 8, true},      {"F16", 1, 2, true},      {"BF16", 1, 2, true},     {"I8", 1, 1, false},
     {"U8", 1, 1, false},      {"I16", 1, 2, false},     {"U16", 1, 2, false},     {"I32", 1, 4, false},     {"U32", 1, 4, false},
     {"I64", 1, 8, false},     {"U64", 1, 8, false},     {"BOOL", 1, 1, false},    {"Q4_0", 32, 18, true},   {"Q4_1", 32, 20, true},
     {"Q5_0", 32, 22, true},   {"Q5_1", 32, 24, true},   {"Q8_0", 32, 34, true},   {"Q2_K", 256, 84, true},  {"Q3_K", 256, 110, true},
     {"Q4_K", 256, 144, true}, {"Q5_K", 256, 176, true}, {"Q6_K", 256, 210, true}, {"IQ4_NL", 32, 18, true}, {"IQ4_XS", 256, 136, true},
     {"MXFP4", 32, 17, true},  {"TQ1_0", 256, 54, true}, {"TQ2_0", 256, 66, true}, {"NF4", 64, 33, true}}};

constexpr const DTypeInfo& info(DType type) { return dtype_infos[std::size_t(type)]; }
constexpr std::string_view name(DType type) { return info(type).name; }

/// Bytes of `n` consecutive elements; n must be whole blocks.
constexpr std::int64_t bytes_of(DType type, std::int64_t n) { return n / info(type).block * info(type).bytes; }

constexpr bool is_quantized(DType type) { return info(type).block > 1; }

template <class T>
inline constexpr DType dtype_of = std::same_as<T, float>          ? DType::f32
                                  : std::same_as<T, double>       ? DType::f64
                                  : std::same_as<T, std::int64_t> ? DType::i64
                                                                  : DType::i32;

}  // namespace peft
