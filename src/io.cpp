// SPDX-License-Identifier: Apache-2.0
#include "peft/io/impl/atomic_file.inl"
#include "peft/io/impl/gguf.inl"
#include "peft/io/impl/gguf_writer.inl"
#include "peft/io/impl/json.inl"
#include "peft/io/impl/mapped_file.inl"
#include "peft/io/impl/npy.inl"
#include "peft/io/impl/safetensors.inl"

namespace peft {
template Tensor<float> SafetensorsFile::read<float>(std::string_view) const;
template Tensor<double> SafetensorsFile::read<double>(std::string_view) const;
template Tensor<std::int32_t> SafetensorsFile::read<std::int32_t>(std::string_view) const;
template Tensor<std::int64_t> SafetensorsFile::read<std::int64_t>(std::string_view) const;
template Tensor<float> read_npy<float>(const std::string&);
template Tensor<double> read_npy<double>(const std::string&);
template Tensor<std::int32_t> read_npy<std::int32_t>(const std::string&);
template Tensor<std::int64_t> read_npy<std::int64_t>(const std::string&);
template Tensor<std::uint8_t> read_npy<std::uint8_t>(const std::string&);
template void write_npy<float>(const std::string&, const Tensor<float>&);
template void write_npy<double>(const std::string&, const Tensor<double>&);
template void write_npy<Float16>(const std::string&, const Tensor<Float16>&);
template void write_npy<std::int32_t>(const std::string&, const Tensor<std::int32_t>&);
template void write_npy<std::int64_t>(const std::string&, const Tensor<std::int64_t>&);
template void write_npy<std::uint8_t>(const std::string&, const Tensor<std::uint8_t>&);
template void write_npy<bool>(const std::string&, const Tensor<bool>&);
}  // namespace peft
