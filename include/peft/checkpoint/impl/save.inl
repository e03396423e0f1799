// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <vector>

#include "peft/checkpoint/save.hpp"
#include "peft/core/bfloat16.hpp"
#include "peft/core/float16.hpp"
#include "peft/io/json.hpp"
#include "peft/io/safetensors.hpp"
#include "peft/models/config.hpp"
#include "peft/models/impl/json_fields.hpp"

namespace peft {

namespace detail {
// The bytes of `values`, or of their transpose, as F32, F16 or BF16.
template <Scalar T>
std::vector<std::byte> converted(Tensor<T> values, bool transposed, DType dtype) {
  if (transposed) {
    const Tensor<T> columns = values;
    values = Tensor<T>(Shape{columns.cols(), columns.rows()});
    for (std::int64_t i = 0; i < values.rows(); i++)
      for (std::int64_t j = 0; j < values.cols(); j++) values(i, j) = columns(j, i);
  }
  std::vector<std::byte> bytes(std::size_t(bytes_of(dtype, values.size())));
  for (std::int64_t i = 0; i < values.size(); i++) {
    const float value = float(values[i]);
    if (dtype == DType::f32) {
      std::memcpy(bytes.data() + 4 * i, &value, 4);
    } else {
      const std::uint16_t half = dtype == DType::f16 ? to_float16(value).bits : to_bfloat16(value).bits;
      std::memcpy(bytes.data() + 2 * i, &half, 2);
    }
  }
  return bytes;
}
}  // namespace detail

template <Scalar T>
void save_model(const Transformer<T>& model, const std::string& directory, DType dtype, std::int64_t max_shard_bytes) {
  namespace fs = std::filesystem;
  const TransformerConfig& c = model.config;
  const char* torch_name = dtype == DType::f32 ? "float32" : dtype == DType::f16 ? "float16" : dtype == DType::bf16 ? "bfloat16" : nullptr;
  if (!torch_name) throw ConfigError("save_model", "dtype " + std::string(name(dtype)) + "; a Hugging Face directory is written as F32, F16 or BF16");
  const Architecture& architecture = architecture_of(c);
  Json config = architecture.to_json(c);
  config.set("dtype", Json(torch_name)), config.set("torch_dtype", Json(torch_name));

  std::vector<TensorToWrite> tensors;
  std::vector<const void*> seen;
  for_each_parameter(model, [&](const std::string& path, const Parameter<T>& parameter) {
    if (std::find(seen.begin(), seen.end(), parameter.identity()) != seen.end()) return;  // a tied head
    seen.push_back(parameter.identity());
    const FoundName name = find_name(architecture, path.substr(0, path.rfind('.')));
    const bool transposed = name && name.name->layout == Layout::conv1d && parameter.shape().rank() == 2;
    const std::string in_file = name_in_file(architecture, path);
    const Shape shape = transposed ? Shape{parameter.shape()[1], parameter.shape()[0]} : parameter.shape();
    const ops::WeightView stored = parameter.view();
    if (parameter.is_stored() && stored.transposed == transposed && stored.rope_head_dim == 0 && stored.stride == (transposed ? stored.rows : stored.cols) &&
        (stored.dtype == DType::f16 || stored.dtype == DType::bf16)) {
      tensors.push_back({in_file, stored.dtype, shape, stored.data});
      return;
    }
    // Converted when it is written, so that one tensor is there at a time.
    tensors.push_back({in_file, dtype, shape, nullptr, [parameter, transposed, dtype](const auto& write) {
                         const std::vector<std::byte> bytes = detail::converted(parameter.dense(), transposed, dtype);
                         write(bytes.data(), bytes.size());
                       }});
  });
  write_safetensors_directory(directory, std::move(tensors), max_shard_bytes);
  Json generation = Json::make_object();
  generation.set("bos_token_id", detail::ids_json(c.bos_token_ids)), generation.set("eos_token_id", detail::ids_json(c.eos_token_ids));
  write_text_atomically((fs::path(directory) / "generation_config.json").string(), generation.dump(2, true));
  write_text_atomically((fs::path(directory) / "config.json").string(), config.dump(2, true));
}

}  // namespace peft
