// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the readers of configurations share: fields with defaults, rope in the spellings that exist, token ids. Included by .inl files alone.

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "peft/io/gguf.hpp"
#include "peft/io/json.hpp"
#include "peft/nn/transformer.hpp"

namespace peft::detail {

/// Names the field in what its value throws.
template <class F>
auto named_field(const char* key, F f) {
  try {
    return f();
  } catch (const Error& error) {
    throw ConfigError("config", std::string(key) + ": " + error.what());
  }
}

/// Fields of a config.json; a null field counts as absent.
class ConfigFields {
 public:
  explicit ConfigFields(const Json& json) : json_(json) {}
  const Json* find(const char* key) const {
    const Json* value = json_.get(key);
    return value && !value->is_null() ? value : nullptr;
  }
  std::int64_t integer(const char* key) const {
    if (const Json* value = find(key)) return named_field(key, [&] { return value->integer(); });
    throw ConfigError("config", std::string(key) + " is missing");
  }
  std::int64_t integer(const char* key, std::int64_t otherwise) const { return find(key) ? integer(key) : otherwise; }
  double number(const char* key) const {
    if (const Json* value = find(key)) return named_field(key, [&] { return value->number(); });
    throw ConfigError("config", std::string(key) + " is missing");
  }
  double number(const char* key, double otherwise) const { return find(key) ? number(key) : otherwise; }
  bool boolean(const char* key, bool otherwise) const {
    const Json* value = find(key);
    return value ? named_field(key, [&] { return value->boolean(); }) : otherwise;
  }
  std::string string(const char* key, const char* otherwise) const {
    const Json* value = find(key);
    return value ? named_field(key, [&] { return std::string(value->string()); }) : otherwise;
  }

 private:
  const Json& json_;
};

/// An option that changes the result and is not done here: anything but absent or its default is refused.
inline void refuse_other(const ConfigFields& f, const char* key, const Json& only) {
  if (const Json* value = f.find(key); value && !(*value == only))
    throw NotSupported("config", std::string(key) + " " + value->dump() + " is not supported; supported is " + only.dump());
}

inline std::int64_t head_dim(const TransformerConfig& c) {
  const std::int64_t heads = c.attention.num_attention_heads;
  if (heads < 1) throw ConfigError("config", "num_attention_heads is " + std::to_string(heads) + "; at least 1 is wanted");
  if (c.hidden_size % heads)
    throw ConfigError("config", "num_attention_heads " + std::to_string(heads) + " does not divide hidden_size " + std::to_string(c.hidden_size) +
                                    ", and there is no head_dim");
  return c.hidden_size / heads;
}

inline Activation activation_named(const char* key, const std::string& name) {
  static const std::array<std::pair<const char*, Activation>, 11> known = {{{"silu", Activation::silu},
                                                                            {"swish", Activation::silu},
                                                                            {"gelu", Activation::gelu},
                                                                            {"gelu_python", Activation::gelu},
                                                                            {"gelu_new", Activation::gelu_tanh},
                                                                            {"gelu_pytorch_tanh", Activation::gelu_tanh},
                                                                            {"gelu_python_tanh", Activation::gelu_tanh},
                                                                            {"gelu_accurate", Activation::gelu_tanh},
                                                                            {"gelu_fast", Activation::gelu_tanh},
                                                                            {"relu", Activation::relu},
                                                                            {"tanh", Activation::tanh}}};
  std::vector<std::string> names;
  for (const auto& [text, value] : known) {
    if (name == text) return value;
    names.emplace_back(text);
  }
  throw NotSupported("config", std::string(key) + " \"" + name + "\" is not supported" + did_you_mean(name, names, "supported are"));
}

/// Rotary positions as transformers 5 (`rope_parameters`) and older versions (`rope_theta`, `rope_scaling`) write them.
inline RopeConfig rope_config(const Json& json, double partial_rotary_factor = 1) {
  const ConfigFields f(json);
  RopeConfig rope;
  rope.theta = f.number("rope_theta", 10000);
  rope.partial_rotary_factor = f.number("partial_rotary_factor", partial_rotary_factor);
  const Json* block = f.find("rope_parameters");
  if (!block) block = f.find("rope_scaling");
  if (!block) return rope;
  if (!block->is_object()) throw ConfigError("config", "rope_parameters (or rope_scaling) is " + block->dump() + "; an object is wanted");
  const ConfigFields r(*block);
  rope.partial_rotary_factor = r.number("partial_rotary_factor", rope.partial_rotary_factor);
  rope.theta = r.number("rope_theta", rope.theta);
  const std::string type = r.string("rope_type", r.string("type", "default").c_str());
  if (type == "default") return rope;
  const auto original_length = [&] {
    rope.original_max_position_embeddings = r.integer("original_max_position_embeddings", f.integer("max_position_embeddings", 8192));
    if (rope.original_max_position_embeddings < 1)
      throw ConfigError("config", "original_max_position_embeddings is " + std::to_string(rope.original_max_position_embeddings) + "; at least 1 is wanted");
  };
  if (type == "linear") {
    rope.scaling = RopeScaling::linear;
  } else if (type == "llama3") {
    rope.scaling = RopeScaling::llama3;
    rope.low_freq_factor = r.number("low_freq_factor"), rope.high_freq_factor = r.number("high_freq_factor");
    if (!(rope.high_freq_factor > rope.low_freq_factor))
      throw ConfigError("config", "high_freq_factor " + std::to_string(rope.high_freq_factor) + " must be larger than low_freq_factor " +
                                      std::to_string(rope.low_freq_factor));
    original_length();
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::yarn;
    rope.beta_fast = r.number("beta_fast", 32), rope.beta_slow = r.number("beta_slow", 1);
    rope.attention_factor = r.number("attention_factor", 0), rope.truncate = r.boolean("truncate", true);
    // DeepSeek's way to say the factor: the magnitudes of both, one over the other. Either alone says nothing.
    const double mscale = r.number("mscale", 0), all = r.number("mscale_all_dim", 0), growth = std::log(std::max(1.0, r.number("factor")));
    if (rope.attention_factor == 0 && mscale != 0 && all != 0) rope.attention_factor = (0.1 * mscale * growth + 1) / (0.1 * all * growth + 1);
    if (!(rope.beta_fast >= rope.beta_slow && rope.beta_slow > 0))
      throw ConfigError("config", "beta_fast " + std::to_string(rope.beta_fast) + " and beta_slow " + std::to_string(rope.beta_slow) +
                                      "; wanted is beta_fast ≥ beta_slow > 0");
    original_length();
  } else if (type == "dynamic") {
    rope.scaling = RopeScaling::dynamic;
    rope.original_max_position_embeddings = f.integer("max_position_embeddings");
    if (rope.original_max_position_embeddings < 1)
      throw ConfigError("config", "max_position_embeddings is " + std::to_string(rope.original_max_position_embeddings) + "; at least 1 is wanted");
  } else {
    const std::array<std::string, 5> known = {"default", "linear", "llama3", "yarn", "dynamic"};
    throw NotSupported("config", "rope_type \"" + type + "\" is not supported" + did_you_mean(type, known, "supported are"));
  }
  rope.factor = r.number("factor");
  return rope;
}

inline std::vector<std::int32_t> token_ids(const Json& json, const char* key) {
  const Json* value = ConfigFields(json).find(key);
  std::vector<std::int32_t> ids;
  const auto add = [&](const Json& id) {
    const std::int64_t n = named_field(key, [&] { return id.integer(); });
    if (!std::in_range<std::int32_t>(n)) throw ConfigError("config", std::string(key) + " is " + std::to_string(n) + ", which is no token id");
    ids.push_back(std::int32_t(n));
  };
  if (value && value->is_array())
    std::ranges::for_each(value->array(), add);
  else if (value)
    add(*value);
  return ids;
}
inline void read_token_ids(const Json& json, TransformerConfig& c) {
  c.pad_token_id = ConfigFields(json).integer("pad_token_id", -1);
  if (c.pad_token_id >= c.vocab_size)
    throw ConfigError("config", "pad_token_id is " + std::to_string(c.pad_token_id) + " of a vocabulary of " + std::to_string(c.vocab_size));
  c.embedding.padding_idx = std::int32_t(c.pad_token_id);
  c.bos_token_ids = token_ids(json, "bos_token_id"), c.eos_token_ids = token_ids(json, "eos_token_id");
}

/// What the model is for, by the class that `architectures` names.
inline TaskType task_type(const Json& json, TaskType otherwise) {
  const Json* list = ConfigFields(json).find("architectures");
  if (!list || !list->is_array() || list->array().empty()) return otherwise;
  const std::string class_name = named_field("architectures", [&] { return std::string(list->array()[0].string()); });
  static const std::array<std::pair<const char*, TaskType>, 8> endings = {{{"ForCausalLM", TaskType::causal_lm},
                                                                           {"LMHeadModel", TaskType::causal_lm},
                                                                           {"ForMaskedLM", TaskType::masked_lm},
                                                                           {"ForSequenceClassification", TaskType::seq_cls},
                                                                           {"ForTokenClassification", TaskType::token_cls},
                                                                           {"ForQuestionAnswering", TaskType::question_ans},
                                                                           {"ForConditionalGeneration", TaskType::seq_2_seq_lm},
                                                                           {"Model", TaskType::feature_extraction}}};
  std::string known;
  for (const auto& [ending, task] : endings) {
    if (class_name.ends_with(ending)) return task;
    known += (known.empty() ? "…" : ", …") + std::string(ending);
  }
  throw NotSupported("config", "architectures \"" + class_name + "\" is not supported; supported are " + known);
}
inline const char* class_ending(TaskType task) {
  switch (task) {
    case TaskType::causal_lm:
      return "ForCausalLM";
    case TaskType::masked_lm:
      return "ForMaskedLM";
    case TaskType::seq_cls:
      return "ForSequenceClassification";
    case TaskType::token_cls:
      return "ForTokenClassification";
    case TaskType::question_ans:
      return "ForQuestionAnswering";
    case TaskType::seq_2_seq_lm:
      return "ForConditionalGeneration";
    case TaskType::feature_extraction:
      return "Model";
  }
  return "";
}

inline const char* name_of(ProblemType problem) {
  return problem == ProblemType::regression                   ? "regression"
         : problem == ProblemType::multi_label_classification ? "multi_label_classification"
                                                              : "single_label_classification";
}

/// Labels and the kind of problem, for heads that classify.
inline void read_labels(const Json& json, HeadConfig& head) {
  const ConfigFields f(json);
  if (head.is_language_model() || head.task == TaskType::feature_extraction) return;
  head.tied = false;
  const Json* names = f.find("id2label");
  head.num_labels = f.integer("num_labels", names && names->is_object() ? std::int64_t(names->object().size()) : 2);
  if (names && names->is_object() && std::int64_t(names->object().size()) == head.num_labels)
    for (std::int64_t i = 0; i < head.num_labels; i++) {
      const Json* name = names->get(std::to_string(i));
      if (!name || !name->is_string()) throw ConfigError("config", "id2label has no name for the label " + std::to_string(i));
      head.label_names.push_back(name->string());
    }
  head.problem = head.num_labels == 1 && head.task == TaskType::seq_cls ? ProblemType::regression : ProblemType::single_label_classification;
  const std::string problem = f.string("problem_type", "");
  if (problem.empty()) return;
  for (const ProblemType kind : {ProblemType::single_label_classification, ProblemType::multi_label_classification, ProblemType::regression})
    if (problem == name_of(kind)) {
      head.problem = kind, head.problem_is_named = true;
      return;
    }
  throw ConfigError("config", "problem_type \"" + problem + "\"; allowed are single_label_classification, multi_label_classification, regression");
}

// Writing, what all have.

/// The names of labels, and the kind of problem where it is named.
inline void set_labels(Json& j, const HeadConfig& head) {
  Json names = Json::make_object(), ids = Json::make_object();
  for (std::int64_t i = 0; i < head.num_labels; i++) {
    const std::string name = head.label_name(i);
    names.set(std::to_string(i), Json(name)), ids.set(name, Json(i));
  }
  j.set("id2label", std::move(names)), j.set("label2id", std::move(ids));
  if (head.problem_is_named) j.set("problem_type", Json(name_of(head.problem)));
}

inline Json ids_json(const std::vector<std::int32_t>& ids) {
  if (ids.empty()) return Json();
  if (ids.size() == 1) return Json(std::int64_t(ids[0]));
  Json list = Json::make_array();
  for (std::int32_t id : ids) list.push_back(Json(std::int64_t(id)));
  return list;
}
inline const char* name_of(Activation f) {
  switch (f) {
    case Activation::silu:
      return "silu";
    case Activation::gelu:
      return "gelu";
    case Activation::gelu_tanh:
      return "gelu_pytorch_tanh";
    case Activation::relu:
      return "relu";
    case Activation::tanh:
      return "tanh";
  }
  return "";
}

/// The keys that every config.json has. `class_name` is the part in front of "ForCausalLM".
inline Json common_json(const TransformerConfig& c, const std::string& class_name, const char* language_model = nullptr) {
  Json j = Json::make_object();
  Json architectures = Json::make_array();
  architectures.push_back(Json(class_name + (language_model && c.head.task == TaskType::causal_lm ? language_model : class_ending(c.head.task))));
  j.set("architectures", std::move(architectures));
  j.set("model_type", Json(c.model_type)), j.set("vocab_size", Json(c.vocab_size)), j.set("use_cache", Json(true));
  j.set("bos_token_id", ids_json(c.bos_token_ids)), j.set("eos_token_id", ids_json(c.eos_token_ids));
  j.set("pad_token_id", c.pad_token_id >= 0 ? Json(c.pad_token_id) : Json());
  if (c.head.is_language_model()) j.set("tie_word_embeddings", Json(c.head.tied));
  if (c.head.task == TaskType::seq_cls || c.head.task == TaskType::token_cls) set_labels(j, c.head);
  return j;
}

/// Rotary positions in the keys of transformers 5 and of older versions. `partial_rotary_factor` is what an absent key means.
inline void set_rope(Json& j, const RopeConfig& rope, double partial_rotary_factor = 1) {
  if (!rope.divisors.empty()) throw ConfigError("save_model", "rotary factors that a GGUF file gives as a table have no form in config.json");
  static constexpr std::array<const char*, 5> types = {"default", "linear", "llama3", "yarn", "dynamic"};
  Json scaling = Json();
  if (rope.scaling != RopeScaling::none) {
    scaling = Json::make_object();
    scaling.set("rope_type", Json(types[std::size_t(rope.scaling)])), scaling.set("factor", Json(rope.factor));
    if (rope.scaling == RopeScaling::llama3 || rope.scaling == RopeScaling::yarn)
      scaling.set("original_max_position_embeddings", Json(rope.original_max_position_embeddings));
    if (rope.scaling == RopeScaling::llama3)
      scaling.set("low_freq_factor", Json(rope.low_freq_factor)), scaling.set("high_freq_factor", Json(rope.high_freq_factor));
    if (rope.scaling == RopeScaling::yarn) {
      scaling.set("beta_fast", Json(rope.beta_fast)), scaling.set("beta_slow", Json(rope.beta_slow)), scaling.set("truncate", Json(rope.truncate));
      if (rope.attention_factor > 0) scaling.set("attention_factor", Json(rope.attention_factor));
    }
  }
  j.set("rope_theta", Json(rope.theta)), j.set("rope_scaling", scaling);
  Json parameters = scaling.is_null() ? Json::make_object() : scaling;
  if (scaling.is_null()) parameters.set("rope_type", Json("default"));
  parameters.set("rope_theta", Json(rope.theta));
  if (rope.partial_rotary_factor != 1 || partial_rotary_factor != 1)
    parameters.set("partial_rotary_factor", Json(rope.partial_rotary_factor)), j.set("partial_rotary_factor", Json(rope.partial_rotary_factor));
  j.set("rope_parameters", std::move(parameters));
}

}  // namespace peft::detail
