// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <vector>

#include "peft/checkpoint/impl/gguf_adapter.inl"
#include "peft/checkpoint/save_gguf.hpp"
#include "peft/io/gguf.hpp"
#include "peft/io/gguf_writer.hpp"
#include "peft/io/json.hpp"
#include "peft/models/gguf_metadata.hpp"
#include "peft/ops/quantized.hpp"
#include "peft/tokenizer/write_gguf.hpp"

namespace peft {

namespace detail {

/// general.file_type of files whose matrices are of this type.
struct GgufFileType {
  DType dtype;
  int number;
};
inline constexpr std::array<GgufFileType, 8> gguf_file_types = {
    {{DType::f32, 0}, {DType::f16, 1}, {DType::bf16, 32}, {DType::q8_0, 7}, {DType::q4_0, 2}, {DType::q4_1, 3}, {DType::q5_0, 8}, {DType::q5_1, 9}}};

/// The tokenizer and what is said for people, of another file of the same architecture.
PEFT_INLINE void carry_over(GgufFileWriter& writer, const std::string& source, const char* architecture) {
  const GgufFile file = GgufFile::open(source);
  const GgufValue* found = file.find("general.architecture");
  if (!found || !found->is_string() || found->string() != architecture)
    throw ConfigError("save_gguf_model", source + " is of another architecture than \"" + architecture + "\"; its tokenizer does not go along");
  const std::array<std::string_view, 5> own = {"general.architecture", "general.type", "general.file_type", "general.quantization_version",
                                               "general.alignment"};
  for (const GgufValue& value : file.metadata()) {
    const std::string& key = value.key();
    if (key.starts_with("tokenizer.") || key.ends_with(".pooling_type") || (key.starts_with("general.") && std::ranges::find(own, key) == own.end()))
      writer.copy(file, key);
  }
}

/// How sentence-transformers makes a text's vector of its tokens', where the directory says so: 1 the mean, 2 the first one's, 3 the last one's.
inline void write_gguf_pooling(GgufFileWriter& w, const std::filesystem::path& directory) {
  const std::filesystem::path listed = directory / "modules.json";
  if (!std::filesystem::exists(listed)) return;
  const Json modules = Json::read(listed.string());
  for (const Json& module : modules.array()) {
    if (!module.at("type").string().ends_with(".Pooling")) continue;
    const std::string path = (directory / module.at("path").string() / "config.json").string();
    const Json pooling = Json::read(path);
    for (const auto& [key, type] : {std::pair("pooling_mode_mean_tokens", 1), std::pair("pooling_mode_cls_token", 2), std::pair("pooling_mode_lasttoken", 3)})
      if (const Json* on = pooling.get(key); on && on->boolean()) return w.u32("bert.pooling_type", type);
    throw NotSupported("save_gguf_model", path + ": GGUF has the mean of the tokens, the first and the last one");
  }
}

/// A parameter's rows as GGUF has them.
template <Scalar T>
std::vector<std::byte> gguf_bytes(const Parameter<T>& parameter, Layout layout, std::int64_t head_dim, DType dtype) {
  const Shape shape = parameter.shape();
  const bool rotary = layout == Layout::rotary_in_gguf && shape.rank() == 2;
  if (parameter.is_stored()) {
    const ops::WeightView stored = parameter.view();
    if (stored.dtype == dtype && !stored.transposed && stored.stride == stored.cols && stored.rope_head_dim == (rotary ? head_dim : 0) &&
        layout != Layout::plus_one_in_gguf) {
      const auto* start = static_cast<const std::byte*>(static_cast<const void*>(stored.data));
      return {start, start + bytes_of(dtype, shape.size())};
    }
  }
  const Tensor<T> from = parameter.dense();
  Tensor<float> values({shape.rows(), shape.columns()});
  for (std::int64_t i = 0; i < values.size(); i++) values[i] = float(from[i]) + (layout == Layout::plus_one_in_gguf ? 1.0f : 0.0f);
  if (rotary) values = permuted_rows(values, head_dim, true);
  std::vector<std::byte> bytes(std::size_t(bytes_of(dtype, values.size())));
  const std::int64_t row_bytes = bytes_of(dtype, values.cols());
  for (std::int64_t r = 0; r < values.rows(); r++) ops::quantize(bytes.data() + r * row_bytes, dtype, values.data() + r * values.cols(), values.cols());
  return bytes;
}

}  // namespace detail

template <Scalar T>
void save_gguf_model(const Transformer<T>& model, const std::string& path, DType dtype, const std::string& source, const std::string& chat_template) {
  const auto file_type = std::ranges::find(detail::gguf_file_types, dtype, &detail::GgufFileType::dtype);
  if (file_type == detail::gguf_file_types.end())
    throw ConfigError("save_gguf_model", "dtype " + std::string(name(dtype)) + "; allowed are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1");
  const TransformerConfig& c = model.config;
  const Architecture& architecture = architecture_of(c);
  GgufFileWriter writer;
  set_gguf_metadata(writer, c);
  writer.u32("general.file_type", file_type->number), writer.u32("general.quantization_version", 2);
  if (source.empty()) {
    writer.text("tokenizer.ggml.model", "none");
  } else if (std::filesystem::is_directory(source)) {
    write_gguf_tokenizer(writer, source, c.vocab_size);
    if (std::string_view(gguf_architecture(architecture)) == "bert") detail::write_gguf_pooling(writer, source);
  } else {
    detail::carry_over(writer, source, gguf_architecture(architecture));
  }
  if (!chat_template.empty()) writer.text("tokenizer.chat_template", chat_template);

  std::vector<GgufTensorToWrite> tensors;
  std::vector<const void*> seen;
  for_each_parameter(model, [&](const std::string& of, const Parameter<T>& parameter) {
    if (std::ranges::find(seen, parameter.identity()) != seen.end()) return;  // a tied head
    seen.push_back(parameter.identity());
    const std::size_t dot = of.rfind('.');
    const FoundName name = find_name(architecture, of.substr(0, dot));
    if (name && std::string_view(name.name->ours) == "feature_extraction.dense") return;  // a pooler, which readers do not expect
    if (!name || !name.name->gguf) throw NotSupported("save_gguf_model", of + " has no name in GGUF");
    const Shape shape = parameter.shape();
    const std::string_view ours = name.name->ours;  // what an encoder adds to its word vectors stays as exact as vectors are
    const bool whole = shape.rank() < 2 || (c.embedding.token_types > 0 && (ours == "embed_token_types" || ours == "embed_positions"));
    const DType as = whole ? DType::f32 : shape.columns() % info(dtype).block ? DType::f16 : dtype;
    tensors.push_back(
        {tensor_name(name.name->gguf, name.layer) + of.substr(dot), as, shape,
         [parameter, as, layout = name.name->layout, head_dim = c.attention.head_dim] { return detail::gguf_bytes(parameter, layout, head_dim, as); }});
  });
  if (const std::vector<float> divisors = gguf_rope_divisors(c); !divisors.empty())
    tensors.push_back({"rope_freqs.weight", DType::f32, Shape{std::int64_t(divisors.size())}, [divisors] {
                         const auto* start = reinterpret_cast<const std::byte*>(divisors.data());
                         return std::vector<std::byte>(start, start + 4 * divisors.size());
                       }});
  writer.write(path, tensors);
}

}  // namespace peft
