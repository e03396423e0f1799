// SPDX-License-Identifier: Apache-2.0
#include "peft/checkpoint/impl/adapter_file.inl"
#include "peft/checkpoint/impl/adapter_task.inl"
#include "peft/checkpoint/impl/gguf_adapter.inl"
#include "peft/checkpoint/impl/load.inl"
#include "peft/checkpoint/impl/mlx_adapter.inl"
#include "peft/checkpoint/impl/prefix_file.inl"
#include "peft/checkpoint/impl/save.inl"
#include "peft/checkpoint/impl/save_gguf.inl"
#include "peft/checkpoint/impl/training_state.inl"

namespace peft {
template void save_adapter(const PeftModel<Transformer<float>>&, const std::string&, const std::string&, std::string);
template void load_adapter(PeftModel<Transformer<float>>&, const std::string&, const std::string&, bool);
template Transformer<float> build_model<float>(const ModelFile&, const LoadOptions&);
template Transformer<double> build_model<double>(const ModelFile&, const LoadOptions&);
template void save_model<float>(const Transformer<float>&, const std::string&, DType, std::int64_t);
template void save_model<double>(const Transformer<double>&, const std::string&, DType, std::int64_t);
template void save_gguf_model<float>(const Transformer<float>&, const std::string&, DType, const std::string&, const std::string&);
template void save_gguf_model<double>(const Transformer<double>&, const std::string&, DType, const std::string&, const std::string&);
}  // namespace peft
