// SPDX-License-Identifier: Apache-2.0
#include "peft/io/impl/atomic_file.inl"
#include "peft/io/impl/gguf.inl"
#include "peft/io/impl/json.inl"
#include "peft/io/impl/mapped_file.inl"
#include "peft/io/impl/safetensors.inl"

namespace peft {
template Tensor<float> SafetensorsFile::read<float>(std::string_view) const;
template Tensor<double> SafetensorsFile::read<double>(std::string_view) const;
template Tensor<std::int32_t> SafetensorsFile::read<std::int32_t>(std::string_view) const;
template Tensor<std::int64_t> SafetensorsFile::read<std::int64_t>(std::string_view) const;
}  // namespace peft
