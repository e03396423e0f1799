// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "peft/checkpoint/gguf_adapter.hpp"
#include "peft/io/gguf.hpp"
#include "peft/io/gguf_writer.hpp"
#include "peft/models/config.hpp"
#include "peft/ops/quantized.hpp"

namespace peft {

namespace detail {

inline constexpr const char* gguf_embedding = "token_embd";

PEFT_INLINE Tensor<float> transposed(const Tensor<float>& t) {
  Tensor<float> turned({t.cols(), t.rows()});
  for (std::int64_t i = 0; i < t.rows(); i++)
    for (std::int64_t j = 0; j < t.cols(); j++) turned(j, i) = t(i, j);
  return turned;
}

/// Rows between Hugging Face's order and that of GGUF's llama, head by head:  gguf[h d + 2 i + j] = hf[h d + j d/2 + i].
PEFT_INLINE Tensor<float> permuted_rows(const Tensor<float>& t, std::int64_t d, bool to_gguf) {
  Tensor<float> moved(t.shape());
  for (std::int64_t row = 0; row < t.rows(); row++) {
    const std::int64_t k = row % d, other = row - k + k % 2 * (d / 2) + k / 2;
    std::copy_n(&t(to_gguf ? other : row, 0), t.cols(), &moved(to_gguf ? row : other, 0));
  }
  return moved;
}

PEFT_INLINE Tensor<float> gguf_values(const GgufTensor& t) {
  Tensor<float> values({t.shape.rows(), t.shape.columns()});  // trailing dimensions of 1 may have been dropped
  for (std::int64_t r = 0; r < values.rows(); r++)
    ops::widen<float>(values.data() + r * values.cols(), t.data + bytes_of(t.dtype, r * values.cols()), t.dtype, 0, values.cols());
  return values;
}

/// Names for these modules as a list of targets has them: the last part where that means all modules of the model that end so, else the path.
PEFT_INLINE std::vector<std::string> short_targets(const std::set<std::string>& paths, const std::vector<std::string>& all) {
  std::map<std::string, bool> whole;
  const auto last = [](const std::string& path) { return path.substr(path.rfind('.') + 1); };
  for (const std::string& path : all) whole.try_emplace(last(path), true).first->second &= paths.count(path) > 0;
  std::set<std::string> names;
  for (const std::string& path : paths) names.insert(whole[last(path)] ? last(path) : path);
  return {names.begin(), names.end()};
}

/// What the modules of a model that GGUF has a name for are called there.
struct GgufModule {
  std::string path;
  const TensorName* name;
};
PEFT_INLINE std::map<std::string, GgufModule> gguf_modules(const Architecture& architecture, const TransformerConfig& c) {
  std::map<std::string, GgufModule> all;
  for (const TensorName& n : architecture.names) {
    if (!n.gguf) continue;
    const bool in_layers = std::string_view(n.gguf).find("{}") != std::string_view::npos;
    for (std::int64_t l = 0; l < (in_layers ? c.num_hidden_layers : 1); l++)
      all[tensor_name(n.gguf, l)] = {module_path(architecture, c.head.task, n.ours, l), &n};
  }
  return all;
}

}  // namespace detail

PEFT_INLINE GgufAdapter read_gguf_adapter(const std::string& path, const TransformerConfig& base) {
  const GgufFile file = GgufFile::open(path);
  const auto fail = [&](const std::string& reason) { throw FormatError(path, -1, reason); };
  const auto text = [&](const char* key) {
    const GgufValue* value = file.find(key);
    return value && value->is_string() ? value->string() : std::string();
  };
  if (const std::string type = text("general.type"); type != "adapter")
    fail("general.type is \"" + type + "\"; an adapter is wanted" + (type == "adapter" || file.tensors().empty() ? "" : ", and this looks like a model"));
  if (const std::string type = text("adapter.type"); type != "lora") fail("adapter.type is \"" + type + "\"; \"lora\" is supported");
  const Architecture& architecture = architecture_of(base);
  if (const std::string found = text("general.architecture"), wanted = gguf_architecture(architecture); found != wanted)
    fail("the adapter is for the architecture \"" + found + "\", this base is \"" + wanted + "\"");
  if (file.find("adapter.alora.invocation_tokens"))
    throw NotSupported("load_adapter", path + ": adapter.alora.invocation_tokens, an activated LoRA, is not supported");
  double alpha = 0;
  if (const GgufValue* value = file.find("adapter.lora.alpha")) {
    try {
      alpha = value->number();
    } catch (const ConfigError& error) {
      fail(error.what());
    }
    if (!std::isfinite(alpha)) fail("adapter.lora.alpha is not finite");
  }

  const auto modules = detail::gguf_modules(architecture, base);
  struct Pair {
    const GgufTensor *a = nullptr, *b = nullptr;
  };
  std::map<std::string, Pair> pairs;
  for (const GgufTensor& t : file.tensors()) {
    const bool is_a = t.name.ends_with(".weight.lora_a"), is_b = t.name.ends_with(".weight.lora_b");
    if (!is_a && !is_b) {
      if (t.name.ends_with("norm.weight")) throw NotSupported("load_adapter", path + ": " + t.name + ", a change of a norm, is not supported");
      fail("tensor \"" + t.name + "\"; what is wanted ends in .weight.lora_a or .weight.lora_b");
    }
    if (t.shape.rank() < 1 || t.shape.rank() > 2 || !info(t.dtype).floating)
      fail("tensor \"" + t.name + "\" is " + std::string(name(t.dtype)) + " " + to_string(t.shape) + "; a matrix of real numbers is wanted");
    const std::string of = t.name.substr(0, t.name.size() - std::string_view(".weight.lora_a").size());
    if (!modules.count(of)) fail("tensor \"" + t.name + "\": this base has no " + of);
    (is_a ? pairs[of].a : pairs[of].b) = &t;
  }
  if (pairs.empty()) fail("the adapter has no tensors");

  GgufAdapter adapter;
  LoraConfig& c = adapter.config;
  std::set<std::string> targets;
  std::vector<std::pair<std::string, std::int64_t>> ranks;
  std::map<std::int64_t, std::size_t> frequency;
  for (const auto& [of, pair] : pairs) {
    if (!pair.a || !pair.b) fail(of + ".weight has a " + (pair.a ? "lora_a" : "lora_b") + " and no " + (pair.a ? "lora_b" : "lora_a"));
    const detail::GgufModule& module = modules.at(of);
    Tensor<float> A = detail::gguf_values(*pair.a), B = detail::gguf_values(*pair.b);
    const bool embedding = of == detail::gguf_embedding;
    if (embedding) A = detail::transposed(A);
    if (A.rows() != B.cols())
      fail(of + ".weight: lora_a is " + to_string(pair.a->shape) + " and lora_b " + to_string(pair.b->shape) + "; they do not share a rank" +
           (A.rows() == B.rows() || A.cols() == B.cols() ? " (is one of them transposed?)" : ""));
    if (module.name->layout == Layout::rotary_in_gguf) {
      if (B.rows() % base.attention.head_dim)
        fail(of + ".weight.lora_b is " + to_string(pair.b->shape) + "; whole heads of " + std::to_string(base.attention.head_dim) + " rows are wanted");
      B = detail::permuted_rows(B, base.attention.head_dim, false);
    }
    const std::string front = "base_model.model." + module.path + (embedding ? ".lora_embedding_" : ".lora_"), end = embedding ? "" : ".weight";
    targets.insert(module.path), ranks.emplace_back(module.path, A.rows()), frequency[A.rows()]++;
    adapter.tensors.push_back({front + "A" + end, std::move(A)}), adapter.tensors.push_back({front + "B" + end, std::move(B)});
  }
  std::vector<std::string> all;
  for (const auto& [of, module] : modules) all.push_back(module.path);
  c.target_modules = TargetModules(detail::short_targets(targets, all));
  c.r = std::ranges::max_element(frequency, {}, [](const auto& f) { return f.second; })->first;
  c.lora_alpha = alpha != 0 ? alpha : double(c.r);
  for (const auto& [module, r] : ranks)
    if (r != c.r) {
      c.rank_pattern.emplace_back(module, r);
      if (alpha == 0) c.alpha_pattern.emplace_back(module, double(r));
    }
  try {
    validate(c);
  } catch (const ConfigError& error) {
    fail(error.what());
  }
  return adapter;
}

PEFT_INLINE void write_gguf_adapter(const std::string& path, const TransformerConfig& base, const LoraConfig& config, const AdapterTensors& tensors) {
  const Architecture& architecture = architecture_of(base);
  const auto refuse = [](const std::string& what) { throw NotSupported("save_gguf_adapter", what + " has no form in GGUF; merge the adapter instead"); };
  if (config.init_lora_weights.changes_base()) refuse("init_lora_weights \"" + config.init_lora_weights.toggle().name + "\", a LoRA on a changed base,");
  struct Site {
    const AdapterTensor *A = nullptr, *B = nullptr;
    bool embedding = false;
  };
  std::map<std::string, Site> sites;
  for (const AdapterTensor& t : tensors) {
    const std::string_view front = "base_model.model.";
    bool found = false;
    for (const char* end : {".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B"}) {
      if (!t.name.starts_with(front) || !t.name.ends_with(end)) continue;
      const std::string_view kind = end;
      Site& site = sites[t.name.substr(front.size(), t.name.size() - front.size() - kind.size())];
      site.embedding = kind.find("embedding") != std::string_view::npos;
      (kind.find("_A") != std::string_view::npos ? site.A : site.B) = &t;
      found = true;
    }
    if (!found) refuse(t.name.starts_with(front) ? t.name.substr(front.size()) : t.name);
  }
  if (sites.empty()) throw AdapterError("save_gguf_adapter", "the adapter has no tensors");

  const auto scale = [&](const std::string& module, std::int64_t r) { return lora_scale(config, module).scaling * double(r); };
  double alpha = scale(sites.begin()->first, sites.begin()->second.A->values.rows());
  for (const auto& [module, site] : sites)  // the alpha that most sites are likely to have, and none that means "no scale"
    if (alpha == 0) alpha = scale(module, site.A->values.rows());
  if (alpha == 0) alpha = 1;
  GgufFileWriter writer;
  writer.text("general.architecture", gguf_architecture(architecture));
  writer.text("general.type", "adapter"), writer.text("adapter.type", "lora");
  writer.f32("adapter.lora.alpha", alpha);
  if (!base.name.empty()) writer.text("general.name", base.name + " LoRA");
  std::vector<GgufTensorToWrite> all;
  const auto put = [&](const std::string& name, Tensor<float> values) {
    const Shape shape = values.shape();
    all.push_back({name, DType::f32, shape, [values = std::move(values)] {
                     const auto* start = reinterpret_cast<const std::byte*>(values.data());
                     return std::vector<std::byte>(start, start + 4 * values.size());
                   }});
  };
  for (const auto& [module, site] : sites) {
    const FoundName name = find_name(architecture, module);
    if (!name || !name.name->gguf || (site.embedding && std::string_view(name.name->gguf) != detail::gguf_embedding)) refuse("LoRA on " + module);
    if (std::string_view(name.name->ours) == "causal_lm.out" && base.head.tied) refuse("LoRA on " + module + ", a head that shares the embedding's tensor,");
    const std::string of = tensor_name(name.name->gguf, name.layer) + ".weight";
    Tensor<float> B = site.B->values.clone();
    const double rest = scale(module, site.A->values.rows()) / alpha;
    if (rest != 1)
      for (float& b : B.span()) b = float(double(b) * rest);
    if (name.name->layout == Layout::rotary_in_gguf) B = detail::permuted_rows(B, base.attention.head_dim, true);
    put(of + ".lora_a", site.embedding ? detail::transposed(site.A->values) : site.A->values);
    put(of + ".lora_b", std::move(B));
  }
  writer.write(path, all);
}

}  // namespace peft
