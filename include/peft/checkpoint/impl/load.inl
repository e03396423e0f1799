// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "peft/adapters/adapter.hpp"
#include "peft/checkpoint/load.hpp"
#include "peft/io/gguf.hpp"
#include "peft/io/json.hpp"
#include "peft/io/safetensors.hpp"
#include "peft/models/impl/json_fields.hpp"

namespace peft {

namespace detail {

// The longest path that both names are below.
PEFT_INLINE std::string common_parent(const std::string& a, const std::string& b) {
  std::size_t dot = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()) && a[i] == b[i]; i++)
    if (a[i] == '.') dot = i;
  return a.substr(0, dot);
}

// A configuration is part of a file: what it says wrongly is reported with the file's name.
template <class F>
auto in_file(const std::string& path, F f) {
  try {
    return f();
  } catch (const FormatError&) {
    throw;
  } catch (const Error& error) {
    throw FormatError(path, -1, error.what());
  }
}

// The configuration as it would be for another task.
PEFT_INLINE void set_task(Json& json, const ModelTask& task) {
  Json classes = Json::make_array();
  classes.push_back(Json(class_ending(*task.task)));
  json.set("architectures", std::move(classes));
  json.set("num_labels", Json(task.label_names.empty() ? task.num_labels : std::int64_t(task.label_names.size())));
  if (!task.label_names.empty()) {
    Json names = Json::make_object();
    for (std::size_t i = 0; i < task.label_names.size(); i++) names.set(std::to_string(i), Json(task.label_names[i]));
    json.set("id2label", std::move(names));
  }
  json.set("problem_type", task.problem ? Json(name_of(*task.problem)) : Json());
}

// A tensor by its name, or by what else it may be called: a base model that was saved without its head has no prefix ("model."), old files of
// BERT have gamma and beta.
PEFT_INLINE const SafetensorsEntry* find_spelled(const SafetensorsDirectory& weights, const Architecture& architecture, const std::string& wanted) {
  const std::string prefix = std::string(architecture.prefix) + ".";
  const std::string in_file = name_in_file(architecture, wanted);
  for (const std::string& name : {in_file, wanted, in_file.starts_with(prefix) ? in_file.substr(prefix.size()) : prefix + in_file}) {
    if (const auto* tensor = weights.find(name)) return tensor;
    const std::size_t dot = name.rfind('.');
    if (dot == std::string::npos || !std::string_view(name).substr(0, dot).ends_with("LayerNorm")) continue;
    if (const auto* tensor = weights.find(name.substr(0, dot) + (name.ends_with("weight") ? ".gamma" : ".beta"))) return tensor;
  }
  return nullptr;
}

PEFT_INLINE ModelFile open_huggingface(const std::filesystem::path& directory, const ModelTask& task) {
  const std::string config_path = (directory / "config.json").string();
  Json json = Json::read(config_path);
  ModelFile file;
  file.path = directory.string();
  in_file(config_path, [&] {
    file.architecture = &architecture_of(json);
    if (task.task) set_task(json, task);
    if (task.without_prefix && json.get("pre_seq_len")) json.set("pre_seq_len", Json());
    file.config = file.architecture->from_json(json);
    validate(file.config);
    if (task.task) file.fresh_head = task.seed, file.initializer_range = ConfigFields(json).number("initializer_range", 0.02);
    file.config.name = std::filesystem::weakly_canonical(directory).filename().string();
    return 0;
  });
  // Ends of text that only the generation settings name.
  if (const auto settings = directory / "generation_config.json"; std::filesystem::exists(settings)) {
    const Json generation = Json::read(settings.string());
    in_file(settings.string(), [&] {
      for (std::int32_t id : token_ids(generation, "eos_token_id"))
        if (std::ranges::find(file.config.eos_token_ids, id) == file.config.eos_token_ids.end()) file.config.eos_token_ids.push_back(id);
      return 0;
    });
  }
  auto weights = std::make_shared<const SafetensorsDirectory>(SafetensorsDirectory::open(directory.string()));
  std::array<std::int64_t, dtype_infos.size()> stored{};
  for (const auto& tensor : weights->tensors())
    if (tensor.dtype) stored[std::size_t(*tensor.dtype)] += tensor.bytes, file.bytes += tensor.bytes;
  file.storage = std::string(name(DType(std::ranges::max_element(stored) - stored.begin())));
  file.find = [weights, architecture = file.architecture](const std::string& wanted) -> std::optional<StoredTensor> {
    const auto* tensor = find_spelled(*weights, *architecture, wanted);
    if (!tensor) return std::nullopt;
    if (!tensor->dtype || !info(*tensor->dtype).floating)
      throw FormatError(tensor->path, -1, "tensor " + tensor->name + " has the type " + tensor->dtype_name + "; a weight is F32, F64, F16 or BF16");
    StoredTensor found{ops::WeightView(tensor->data, *tensor->dtype, tensor->shape.rows(), tensor->shape.columns()), tensor->shape, tensor->keep, true};
    const FoundName name = find_name(*architecture, wanted.substr(0, wanted.rfind('.')));
    if (name && name.name->layout == Layout::conv1d && tensor->shape.rank() == 2) {
      found.shape = {tensor->shape[1], tensor->shape[0]};
      std::swap(found.view.rows, found.view.cols), found.view.transposed = true;
    }
    return found;
  };
  return file;
}

PEFT_INLINE ModelFile open_gguf_model(const std::string& path) {
  auto gguf = std::make_shared<const GgufFile>(GgufFile::open(path));
  ModelFile file;
  file.path = path;
  in_file(path, [&] {
    const GgufValue* architecture = gguf->find("general.architecture");
    if (!architecture) throw ConfigError("config", "general.architecture is missing");
    file.architecture = &architecture_of_gguf(architecture->string());
    file.config = file.architecture->from_gguf(*gguf);
    validate(file.config);
    if (file.config.name.empty()) file.config.name = std::filesystem::path(path).stem().string();
    return 0;
  });
  std::array<std::int64_t, dtype_infos.size()> stored{};
  for (const auto& tensor : gguf->tensors()) stored[std::size_t(tensor.dtype)] += tensor.bytes, file.bytes += tensor.bytes;
  file.storage = std::string(name(DType(std::ranges::max_element(stored) - stored.begin())));
  file.find = [gguf, architecture = file.architecture, head_dim = file.config.attention.head_dim](const std::string& wanted) -> std::optional<StoredTensor> {
    const std::size_t dot = wanted.rfind('.');
    const FoundName name = find_name(*architecture, wanted.substr(0, dot));
    if (!name || !name.name->gguf) return std::nullopt;
    const auto* tensor = gguf->find_tensor(tensor_name(name.name->gguf, name.layer) + wanted.substr(dot));
    if (!tensor) return std::nullopt;
    StoredTensor found{ops::WeightView(tensor->data, tensor->dtype, tensor->shape.rows(), tensor->shape.columns()), tensor->shape, gguf, true};
    if (name.name->layout == Layout::rotary_in_gguf && tensor->shape.rank() == 2) found.view.rope_head_dim = head_dim;
    if (name.name->layout == Layout::plus_one_in_gguf) {
      const auto values = std::make_shared<Tensor<float>>(tensor->shape);
      ops::widen<float>(values->view(), found.view);
      for (float& value : values->span()) value -= 1;
      found.view = ops::WeightView(values->view()), found.keep = values, found.mapped = false;
    }
    return found;
  };
  return file;
}

/// Turns what build_model takes into a block type.
struct Quantizing {
  std::string path;
  std::optional<DType> type;
  bool any = false;

  Quantizing(const std::string& of, std::optional<DType> to) : path(of), type(to) {
    if (type && !ops::quantizable(*type, 0))
      throw ConfigError("load_model", "quantize is " + std::string(name(*type)) + "; allowed are NF4, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1");
  }
  void operator()(StoredTensor& tensor, const std::string& of) {
    if (!type) return;
    if (is_quantized(tensor.view.dtype))
      throw ConfigError("load_model", of + " of " + path + " is " + std::string(name(tensor.view.dtype)) +
                                          " already; quantize is for weights that are F32, F64, F16 or BF16");
    if (!ops::quantizable(*type, tensor.view.cols)) return;
    ops::OwnedWeight owned = ops::quantized(tensor.view, *type);
    if (tensor.mapped) give_back_pages(tensor.view.data, tensor.view.bytes());
    tensor.view = owned.view, tensor.keep = std::move(owned.keep), any = true;
  }
  void check() const {
    if (type && !any)
      throw ConfigError("load_model", "no Linear of " + path + " has rows of whole blocks of " + std::to_string(info(*type).block) + ", as " +
                                          std::string(name(*type)) + " needs them");
  }
};

PEFT_INLINE bool same_bytes(const StoredTensor& a, const StoredTensor& b) {
  return a.shape == b.shape && a.view.dtype == b.view.dtype && std::memcmp(a.view.data, b.view.data, std::size_t(bytes_of(a.view.dtype, a.shape.size()))) == 0;
}

}  // namespace detail

PEFT_INLINE ModelFile open_model(const std::string& path, const ModelTask& task) {
  namespace fs = std::filesystem;
  const auto gguf = [&](const std::string& file) {
    const auto refuse = [&] {
      throw NotSupported("load_model", "the task " + std::string(name(*task.task)) + " from " + file +
                                           "; a GGUF file predicts tokens (causal_lm) or, of an encoder, has no head (feature_extraction)");
    };
    if (task.task && *task.task != TaskType::causal_lm && *task.task != TaskType::feature_extraction) refuse();
    ModelFile opened = detail::open_gguf_model(file);
    if (task.task && *task.task != opened.config.head.task) refuse();
    return opened;
  };
  if (fs::is_directory(path)) {
    if (fs::exists(fs::path(path) / "config.json")) return detail::open_huggingface(path, task);
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(path))
      if (entry.path().extension() == ".gguf") found.push_back(entry.path().string());
    if (found.size() == 1) return gguf(found[0]);
    throw FormatError(path, -1,
                      "this directory has no config.json" + std::string(found.empty() ? ", and no GGUF file" : ", and several GGUF files: name one of them"));
  }
  if (!fs::exists(path)) throw FormatError(path, -1, "no such file or directory; a Hugging Face directory or a .gguf file is wanted");
  return gguf(path);
}

PEFT_INLINE ModelFile fresh_model(const std::string& config, std::uint64_t seed) {
  const Json json = Json::parse(config, "config.json");
  ModelFile file;
  file.architecture = &architecture_of(json);
  file.config = file.architecture->from_json(json);
  validate(file.config);
  file.fresh = seed, file.initializer_range = detail::ConfigFields(json).number("initializer_range", 0.02);
  file.find = [](const std::string&) { return std::optional<StoredTensor>(); };
  return file;
}

template <Scalar T>
Transformer<T> build_model(const ModelFile& file, const LoadOptions& options) {
  const TransformerConfig& c = file.config;
  detail::Quantizing quantizing{file.path, options.quantize};
  std::vector<std::string> missing, misshapen;
  const auto drawn = [&](std::uint64_t seed, const std::string& name, const Shape& shape, double vector) {
    Tensor<T> values(shape, T(vector));
    Random random = Random(seed).fork(name_hash(name));
    if (shape.rank() == 2)
      for (T& value : values.span()) value = T(file.initializer_range * random.normal());
    return Parameter<T>(std::move(values));
  };
  const auto take = [&](const std::string& name, const Shape& shape, bool to_quantize = false, double fresh_vector = 0) -> Parameter<T> {
    std::optional<StoredTensor> tensor = file.find(name);
    if (!tensor && file.fresh) return drawn(*file.fresh, name, shape, fresh_vector);
    if (!tensor) {
      missing.push_back(name);
      return {};
    }
    if (!(tensor->shape == shape)) {
      misshapen.push_back(name + " is " + to_string(tensor->shape) + ", the configuration wants " + to_string(shape));
      return {};
    }
    if (to_quantize && missing.empty() && misshapen.empty()) quantizing(*tensor, name);
    return Parameter<T>(tensor->view, shape, tensor->keep);
  };
  const auto path_of = [&](std::string_view ours, std::int64_t layer = 0) { return module_path(*file.architecture, c.head.task, ours, layer); };
  const auto linear = [&](std::string_view ours, std::int64_t layer, std::int64_t out, std::int64_t in, bool bias) {
    const std::string path = path_of(ours, layer);
    return Linear<T>(take(path + ".weight", {out, in}, true), bias ? take(path + ".bias", {out}) : Parameter<T>(), path);
  };
  const auto norm = [&](std::string_view ours, std::int64_t layer, std::int64_t size, NormConfig of) {
    Norm<T> n;
    n.path = path_of(ours, layer);
    n.weight = take(n.path + ".weight", {size}, false, 1 - of.offset);
    if (of.kind == NormKind::layer) n.bias = take(n.path + ".bias", {size});
    n.kind = of.kind, n.eps = T(of.eps), n.offset = T(of.offset);
    return n;
  };
  const auto embedding = [&](std::string_view ours, std::int64_t rows) {
    Embedding<T> e;
    e.path = path_of(ours);
    e.weight = take(e.path + ".weight", {rows, c.hidden_size});
    return e;
  };

  Transformer<T> model;
  model.config = c;
  model.embed_tokens = embedding("embed_tokens", c.vocab_size);
  model.embed_tokens.scale = T(c.embedding.scale), model.embed_tokens.padding_idx = c.embedding.padding_idx;
  if (c.embedding.positions > 0) {
    model.embed_positions = embedding("embed_positions", c.embedding.positions);
    if (!c.embedding.padding_has_position) model.embed_positions->padding_idx = std::int32_t(c.embedding.first_position) - 1;
  }
  if (c.embedding.token_types > 0) model.embed_token_types = embedding("embed_token_types", c.embedding.token_types);
  if (c.embedding.norm) model.embedding_norm = norm("embedding_norm", 0, c.hidden_size, c.norm);
  const AttentionConfig& a = c.attention;
  const std::int64_t q = a.num_attention_heads * a.head_dim, kv = a.num_key_value_heads * a.head_dim, inner = c.mlp.intermediate_size;
  const std::shared_ptr<Rotary<T>> rotary =
      a.rope ? std::make_shared<Rotary<T>>(rope_frequencies(*a.rope, a.rotary_dim()), a.turned_dim(), a.rope->interleaved, rope_magnitude(*a.rope)) : nullptr;
  if (a.rope && a.rope->scaling == RopeScaling::dynamic)
    rotary->stretch_beyond(a.rope->original_max_position_embeddings,
                           [rope = *a.rope, dim = a.rotary_dim()](std::int64_t length) { return rope_frequencies(rope, dim, length); });
  // Where a plain and a gated MLP of one architecture have different names, those of the plain one are apart.
  const bool plain_apart = c.mlp.kind == MlpKind::plain && std::ranges::any_of(file.architecture->names, [](const TensorName& n) {
                             return std::string_view(n.ours).ends_with(".mlp.plain_up_proj");
                           });
  const auto block_of = [&](const std::string& stack, std::int64_t l, bool causal, bool has_cross_attention) {
    Block<T> block;
    const auto linear_of = [&](std::string_view ours, std::int64_t out, std::int64_t in, bool bias) {
      return linear(stack + ".{}." + std::string(ours), l, out, in, bias);
    };
    const auto block_norm = [&](std::string_view ours) { return norm(stack + ".{}." + std::string(ours), l, c.hidden_size, c.norm); };
    if (c.norm_placement != NormPlacement::behind) {
      block.input_layernorm = block_norm("input_layernorm");
      block.post_attention_layernorm = block_norm("post_attention_layernorm");
    }
    Attention<T>& attention = block.self_attn;
    if (a.fused_qkv) {
      attention.qkv_proj = linear_of("self_attn.qkv_proj", q + 2 * kv, c.hidden_size, a.qkv_bias);
    } else {
      attention.q_proj = linear_of("self_attn.q_proj", q, c.hidden_size, a.qkv_bias);
      attention.k_proj = linear_of("self_attn.k_proj", kv, c.hidden_size, a.qkv_bias);
      attention.v_proj = linear_of("self_attn.v_proj", kv, c.hidden_size, a.qkv_bias);
    }
    attention.o_proj = linear_of("self_attn.o_proj", c.hidden_size, q, a.o_bias);
    if (a.qk_norm) {
      attention.q_norm = norm(stack + ".{}.self_attn.q_norm", l, a.head_dim, c.norm);
      attention.k_norm = norm(stack + ".{}.self_attn.k_norm", l, a.head_dim, c.norm);
    }
    attention.rotary = rotary, attention.layer = l, attention.qkv_by_head = a.qkv_by_head, block.parallel = c.parallel_residual;
    block.normed_residual = T(c.normed_residual);
    if (a.alibi) attention.alibi_slopes = alibi_slopes(a.num_attention_heads);
    attention.core.shape = {
        a.num_attention_heads, a.num_key_value_heads, a.head_dim, a.scale > 0 ? a.scale : 1 / std::sqrt(double(a.head_dim)), causal, a.window(l), a.softcap};
    if (has_cross_attention) {
      block.cross_attn_layernorm = block_norm("cross_attn_layernorm");
      Attention<T>& across = block.cross_attn.emplace();
      across.cross = true, across.layer = l;
      across.q_proj = linear_of("cross_attn.q_proj", q, c.hidden_size, a.qkv_bias);
      across.k_proj = linear_of("cross_attn.k_proj", kv, c.hidden_size, a.qkv_bias);
      across.v_proj = linear_of("cross_attn.v_proj", kv, c.hidden_size, a.qkv_bias);
      across.o_proj = linear_of("cross_attn.o_proj", c.hidden_size, q, a.o_bias);
      across.core.shape = attention.core.shape, across.core.shape.causal = false, across.core.shape.window = 0;
      across.path = detail::common_parent(across.q_proj.path, across.o_proj.path), across.core.path = across.path + ".core";
    }
    Mlp<T>& mlp = block.mlp;
    mlp.kind = c.mlp.kind, mlp.act = c.mlp.activation;
    if (c.mlp.fused_gate_up) {
      mlp.gate_up_proj = linear_of("mlp.gate_up_proj", 2 * inner, c.hidden_size, c.mlp.bias);
    } else {
      if (c.mlp.kind == MlpKind::gated) mlp.gate_proj = linear_of("mlp.gate_proj", inner, c.hidden_size, c.mlp.bias);
      mlp.up_proj = linear_of(plain_apart ? "mlp.plain_up_proj" : "mlp.up_proj", inner, c.hidden_size, c.mlp.bias);
    }
    mlp.down_proj = linear_of("mlp.down_proj", c.hidden_size, inner, c.mlp.bias);
    if (c.norm_placement == NormPlacement::around) {
      block.post_self_attn_layernorm = block_norm("post_self_attn_layernorm");
      block.post_mlp_layernorm = block_norm("post_mlp_layernorm");
    }
    if (c.norm_placement == NormPlacement::behind) {
      block.attention_join.norm = block_norm("attention_join.norm");
      block.mlp_join.norm = block_norm("mlp_join.norm");
    }
    // Sites that are no module of the file are named below those that are.
    const std::string in_attention = (attention.qkv_proj ? *attention.qkv_proj : attention.q_proj).path;
    const std::string in_mlp = (mlp.gate_up_proj ? *mlp.gate_up_proj : mlp.up_proj).path;
    attention.path = detail::common_parent(in_attention, attention.o_proj.path), mlp.path = detail::common_parent(in_mlp, mlp.down_proj.path);
    const std::string layer_path = detail::common_parent(attention.path + ".", mlp.path + ".");
    if (mlp.path == layer_path) mlp.path += ".mlp";
    attention.core.path = attention.path + ".core";
    block.attention_join.path = layer_path + ".attention_join", block.mlp_join.path = layer_path + ".mlp_join";
    if (has_cross_attention) block.cross_attention_join.emplace().path = layer_path + ".cross_attention_join";
    return block;
  };
  const auto positions = [&](std::string_view ours, bool bidirectional) {
    RelativePositions<T> p;
    p.path = path_of(ours), p.max_distance = a.relative_max_distance, p.bidirectional = bidirectional;
    p.weight = take(p.path + ".weight", {a.relative_buckets, a.num_attention_heads});
    return p;
  };
  const bool encodes = c.num_encoder_layers > 0;
  if (encodes) {
    if (a.relative_buckets > 0) model.encoder_positions = positions("encoder_positions", true);
    for (std::int64_t l = 0; l < c.num_encoder_layers && missing.size() < 1000; l++)
      model.encoder_layers.push_back(block_of("encoder_layers", l, false, false));
    model.encoder_norm = norm("encoder_norm", 0, c.hidden_size, c.norm);
  }
  if (a.relative_buckets > 0) model.relative_positions = positions("relative_positions", !a.causal);
  for (std::int64_t l = 0; l < c.num_hidden_layers && missing.size() < 1000; l++) model.layers.push_back(block_of("layers", l, a.causal, encodes));
  if (c.norm_placement != NormPlacement::behind) model.norm = norm("norm", 0, c.hidden_size, c.norm);

  const std::string head = name(c.head.task);
  const auto take_head = [&](const std::string& tensor, const Shape& shape) {
    if (!file.fresh_head || file.find(tensor)) return take(tensor, shape);
    if (tensor.ends_with(".weight")) model.config.head.drawn.push_back(tensor.substr(0, tensor.size() - 7));
    return drawn(*file.fresh_head, tensor, shape, 0);
  };
  // A base model may have been saved without its pooler.
  const bool pooler_absent = c.head.task == TaskType::feature_extraction && c.head.dense && !file.fresh && !file.find(path_of(head + ".dense") + ".weight");
  if (c.head.dense && !pooler_absent) {
    model.head_transform.emplace();
    const std::string path = path_of(head + ".dense");
    model.head_transform->dense = Linear<T>(take_head(path + ".weight", {c.hidden_size, c.hidden_size}), take_head(path + ".bias", {c.hidden_size}), path);
    model.head_transform->act = *c.head.dense;
    if (c.head.norm) model.head_transform->norm = norm(head + ".norm", 0, c.hidden_size, c.norm);
  }
  if (c.head.task != TaskType::feature_extraction) {
    model.lm_head.path = path_of(head + ".out");
    bool tied = c.head.tied && c.head.is_language_model();
    // Configurations of T5 do not tell: transformers 5 writes true for all, and unties where the file has another tensor.
    if (c.head.task == TaskType::seq_2_seq_lm && !file.fresh) {
      const auto words = file.find(model.embed_tokens.path + ".weight"), out = file.find(model.lm_head.path + ".weight");
      tied = model.config.head.tied = !out || (words && detail::same_bytes(*words, *out));
    }
    model.lm_head.weight = tied ? model.embed_tokens.weight : take_head(model.lm_head.path + ".weight", {c.head_size(), c.hidden_size});
    if (c.head.bias) model.lm_head.bias = take_head(model.lm_head.path + ".bias", {c.head_size()});
  }

  if (!missing.empty() || !misshapen.empty()) {
    std::string text = file.path + " does not fit its configuration: missing " + std::to_string(missing.size()) + " tensors";
    for (std::size_t i = 0; i < missing.size() && i < 8; i++) text += (i ? ", " : " (") + missing[i];
    if (!missing.empty()) text += missing.size() > 8 ? ", …)" : ")";
    text += ", wrong shape " + std::to_string(misshapen.size());
    for (std::size_t i = 0; i < misshapen.size() && i < 8; i++) text += (i ? "; " : " (") + misshapen[i];
    if (!misshapen.empty()) text += ")";
    throw CheckpointError("load_model", text + ". Nothing was loaded.");
  }
  quantizing.check();
  return model;
}

}  // namespace peft
