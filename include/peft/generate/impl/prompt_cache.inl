// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "peft/generate/prompt_cache.hpp"
#include "peft/io/safetensors.hpp"

namespace peft {

template <Scalar T>
PromptCache<T> remember_prompt(LanguageModel<T>& model, std::span<const std::int32_t> ids, int active, bool whole) {
  if (ids.empty()) throw ShapeError("generate", "a prompt without tokens cannot be remembered");
  if (std::int64_t(ids.size()) >= model.context_length())
    throw ShapeError("generate", fmt::format("a prompt of {} tokens; the model's context is {}", ids.size(), model.context_length()));
  PromptCache<T> prompt{{ids.begin(), ids.end()}, model.make_cache(std::int64_t(ids.size()), active, whole)};
  const typename LanguageModel<T>::Continuation all{&prompt.cache, ids, active};
  model.prefill(std::span(&all, 1));
  return prompt;
}

template <Scalar T>
void save_prompt_cache(const std::string& path, const PromptCache<T>& prompt) {
  const KvCache<T>& cache = prompt.cache;
  const std::int64_t rows = cache.rows();
  if (cache.blank) throw NotSupported("save_prompt_cache", "a prompt of a model that fills blanks is not supported");
  if (cache.base()) throw Error("save_prompt_cache", "a cache that continues another one; save the whole: remember_prompt makes it");
  if (cache.length() != std::int64_t(prompt.ids.size()))
    throw ShapeError("save_prompt_cache", fmt::format("{} ids and a cache of {} tokens", prompt.ids.size(), cache.length()));
  std::vector<std::int64_t> ids(prompt.ids.begin(), prompt.ids.end());
  std::vector<TensorToWrite> tensors = {{"ids", DType::i64, Shape{std::int64_t(ids.size())}, ids.data()}};
  for (std::int64_t l = 0; l < cache.layers(); l++) {
    if (cache.forgotten(l) > 0) throw Error("save_prompt_cache", "a cache that has forgotten what its windows left; save the whole: remember_prompt makes it");
    const std::string name = "layers." + std::to_string(l);
    const auto add = [&](const char* which, const auto& tensor) {
      tensors.push_back({name + which, cache.dtype(), Shape{rows, cache.width()}, tensor.data()});
    };
    if (cache.dtype() == DType::f16)
      add(".k", cache.half_keys(l, rows)), add(".v", cache.half_values(l, rows));
    else
      add(".k", cache.keys(l, rows)), add(".v", cache.values(l, rows));
  }
  write_safetensors(path, std::move(tensors), {{"format", "peft-prompt"}, {"front", std::to_string(cache.front())}});
}

template <Scalar T>
PromptCache<T> load_prompt_cache(LanguageModel<T>& model, const std::string& path, int active) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  const auto format = file.metadata().find("format"), front = file.metadata().find("front");
  if (format == file.metadata().end() || format->second != "peft-prompt" || front == file.metadata().end())
    throw FormatError(path, -1, "this is no saved prompt: its metadata does not say format = peft-prompt");
  const auto refuse = [&](const std::string& why) {
    throw CheckpointError("load_prompt_cache", path + ": " + why + "; a prompt is read again by the model and the adapters that made it");
  };
  const Tensor<std::int32_t> ids = file.read<std::int32_t>("ids");
  PromptCache<T> prompt{{ids.span().begin(), ids.span().end()}, {}};
  if (prompt.ids.empty()) throw FormatError(path, -1, "a saved prompt without ids");
  for (std::int32_t id : prompt.ids)
    if (id < 0 || id >= model.config().vocab_size) refuse(fmt::format("it has the token id {}, which this model has not", id));

  // The first tokens, computed anew.
  const auto probed = std::min<std::int64_t>(std::int64_t(prompt.ids.size()), 16);
  const PromptCache<T> probe = remember_prompt<T>(model, std::span<const std::int32_t>(prompt.ids).first(std::size_t(probed)), active);
  const std::int64_t in_front = probe.cache.front(), rows = in_front + std::int64_t(prompt.ids.size()), width = probe.cache.width();
  if (front->second != std::to_string(in_front)) refuse(fmt::format("it begins with {} virtual tokens, here there are {}", front->second, in_front));
  const DType dtype = probe.cache.dtype();
  prompt.cache = model.make_cache(rows, active, true);
  prompt.cache.restart(in_front);
  const auto tensor = [&](const std::string& name) {
    const SafetensorsEntry* entry = file.find(name);
    if (!entry) refuse("it has no \"" + name + "\"");
    if (!entry->dtype || *entry->dtype != dtype)
      refuse("\"" + name + "\" is stored as " + entry->dtype_name + ", and this cache stores " + std::string(peft::name(dtype)));
    if (entry->shape != Shape{rows, width}) refuse("\"" + name + "\" has the shape " + to_string(entry->shape) + ", wanted " + to_string(Shape{rows, width}));
    return file.read<T>(name);
  };
  const auto number = []<class U>(U x) {
    if constexpr (std::is_same_v<U, Float16>)
      return double(to_float(x));
    else
      return double(x);
  };
  // Numbers of other instruction sets differ in their last bits; those of another model, everywhere.
  const auto compare = [&](const Tensor<T>& stored, const auto& fresh, const std::string& name) {
    double largest = 0, off = 0;
    for (std::int64_t r = 0; r < in_front + probed; r++)
      for (std::int64_t c = 0; c < width; c++) {
        const double wanted = number(fresh(r, c)), found = double(stored(r, c));
        largest = std::max(largest, std::abs(wanted));
        off = std::isfinite(found) ? std::max(off, std::abs(found - wanted)) : INFINITY;
      }
    if (!(off <= 2e-3 * largest)) refuse("\"" + name + "\" is not what this model, with the adapters that are active, makes of its first tokens");
  };
  for (std::int64_t l = 0; l < prompt.cache.layers(); l++) {
    const std::string name = "layers." + std::to_string(l);
    const Tensor<T> k = tensor(name + ".k"), v = tensor(name + ".v");
    const std::int64_t n = in_front + probed;
    if (dtype == DType::f16)
      compare(k, probe.cache.half_keys(l, n), name + ".k"), compare(v, probe.cache.half_values(l, n), name + ".v");
    else
      compare(k, probe.cache.keys(l, n), name + ".k"), compare(v, probe.cache.values(l, n), name + ".v");
    prompt.cache.append(l, k.view(), v.view());
  }
  prompt.cache.advance(rows);
  return prompt;
}

}  // namespace peft
