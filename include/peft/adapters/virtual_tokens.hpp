// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/adapters/adapter.hpp"
#include "peft/adapters/on_linear.hpp"
#include "peft/adapters/own_tensors.hpp"
#include "peft/autograd/functions/activation.hpp"
#include "peft/nn/embedding.hpp"

namespace peft {

// What prompt methods have in common. A virtual token is an id ≥ vocab_size; the adapter on the embedding answers with a row of a table that is
// computed once a pass. Tokens that are not of the prompt, and everything behind the embedding, know nothing of it.

/// Rows of the prompt's table for virtual ids, as they are (Gemma does not scale them); the base's for all others.
template <Scalar T>
struct VirtualTokens {
  int id = 0;                 // of the adapter
  std::int32_t first_id = 0;  // of the first virtual token
  Variable<T> operator()(const Embedding<T>&, const typename Embedding<T>::Input& ids, const Next<Embedding<T>>& next) const {
    if (std::ranges::none_of(ids, [&](std::int32_t i) { return i >= first_id; })) return next(ids);
    const Pass<T>* pass = Pass<T>::current();
    const Variable<T>* table = pass ? pass->prepared_by(id) : nullptr;
    if (!table) throw Error("forward", "virtual tokens without their prompt: the pass is to be one that PeftModel::pass made");
    Ids plain(ids.begin(), ids.end()), which(ids.size(), -1);
    for (std::size_t n = 0; n < plain.size(); n++)
      if (plain[n] >= first_id) {
        which[n] = std::exchange(plain[n], 0) - first_id;
        if (which[n] >= table->rows()) throw Error("forward", "there is no virtual token " + std::to_string(which[n]));
      }
    return replace_rows(next(std::span<const std::int32_t>(plain)), *table, std::move(which));
  }
  static void describe(auto&, auto&&) {}
};

/// Which rows of a prompt's table stand where. Each task has `rows` of them; the first `tokens` are in front of a sequence. Of an encoder-decoder
/// (at_source) these are in front of what is decoded from, and, if in_both, the next `tokens` in front of what is decoded.
struct PromptLayout {
  std::string embedding;  // the path of the Embedding that answers for them
  std::int64_t vocab_size = 0, tokens = 0, rows = 0;
  bool at_source = false, in_both = false;
  bool placed = false;  // a template says where the tokens stand: sequences (sources) come with their ids, and nothing is in front
};

/// Hands a prompt's table (tasks · rows, hidden) to the pass, and its tokens to the sequences of list `list`.
template <Scalar T>
void put_in_front(Pass<T>& pass, std::size_t list, int id, Variable<T> table, const PromptLayout& layout) {
  const auto put = [&](std::vector<Front>& fronts, std::int64_t first_row) {
    if (fronts.size() <= list) fronts.resize(std::max(list + 1, pass.lists ? pass.lists->size() : 0));
    Front& front = fronts[list];
    if (front.tokens + front.placed > 0) throw AdapterError("forward", "two active adapters both give a sequence virtual tokens; deactivate one of them");
    (layout.placed ? front.placed : front.tokens) = layout.tokens;
    front.tasks = table.rows() / layout.rows, front.stride = layout.rows;
    front.first_id = std::int32_t(layout.vocab_size + first_row);
  };
  if (layout.at_source) put(pass.source_fronts, 0);
  if (!layout.at_source || layout.in_both) put(pass.fronts, layout.at_source ? layout.tokens : 0);
  if (!pass.prepared_by(id)) pass.prepared.emplace_back(id, std::move(table));
}

/// Puts the adapter on the input embedding.
template <Scalar T>
bool attach_virtual_tokens(Embedding<T>& site, const PromptLayout& layout, const AttachContext& context) {
  if (context.path != layout.embedding) return false;
  const std::int64_t vocab_size = layout.vocab_size;
  if (vocab_size < 1 || vocab_size != site.num_embeddings())
    throw AdapterError("attach", context.path + " has " + std::to_string(site.num_embeddings()) + " rows, the model says " + std::to_string(vocab_size) +
                                     " tokens; virtual tokens want both to agree");
  site.adapters.attach(context.id, VirtualTokens<T>{context.id, std::int32_t(vocab_size)});
  return true;
}

namespace detail {
/// PEFT wraps no model in its prompt methods, and so their files name the modules of the base without "model.".
inline constexpr const char* prompt_site_prefix = "base_model.";

/// What PEFT stores of the stacks that have a prompt: 1, or 2 of an encoder-decoder, where its task is SEQ_2_SEQ_LM.
template <class C>
std::int64_t prompt_submodules(C& config, const ModelInfo& info) {
  if (info.num_encoder_layers == 0) return 1;
  const std::int64_t given = config.num_transformer_submodules;
  if (given == 0 && (config.task_type.empty() || config.task_type == C().task_type)) config.task_type = "SEQ_2_SEQ_LM";
  if (config.task_type != "SEQ_2_SEQ_LM")
    throw ConfigError(C::peft_type, "task_type \"" + config.task_type + "\" for a model of type \"" + info.model_type +
                                        "\", an encoder-decoder, where prompts and prefixes are SEQ_2_SEQ_LM's");
  if (given < 0 || given > 2) throw ConfigError(C::peft_type, "num_transformer_submodules is " + std::to_string(given) + "; allowed are 1 and 2");
  return given == 0 ? 2 : given;
}
/// Fills in what PEFT stores of the model; throws ConfigError where a config says otherwise. `layers`, as PEFT counts them.
template <class C>
void complete_prompt(C& config, const ModelInfo& info, std::int64_t token_dim, std::int64_t heads, std::int64_t layers) {
  const auto fill = [](std::int64_t& value, const char* field, std::int64_t model) {
    if (value != 0 && value != model)
      throw ConfigError(C::peft_type, std::string(field) + " is " + std::to_string(value) + ", this model's is " + std::to_string(model));
    value = model;
  };
  if (info.hidden_size == 0 || info.embedding.empty()) throw AdapterError(C::peft_type, "prompts want a Transformer; this model has no configuration");
  fill(config.token_dim, "token_dim", token_dim);
  fill(config.num_layers, "num_layers", layers);
  fill(config.num_attention_heads, "num_attention_heads", heads);
  fill(config.num_transformer_submodules, "num_transformer_submodules", prompt_submodules(config, info));
}
/// The same for methods with virtual tokens, which have the input embedding's place. PEFT takes an encoder-decoder's number of layers from its encoder.
template <class C>
void complete_virtual_tokens(C& config, const ModelInfo& info) {
  complete_prompt(config, info, info.hidden_size, info.num_attention_heads, info.num_encoder_layers > 0 ? info.num_encoder_layers : info.num_layers);
  if (is_named(config.modules_to_save, info.embedding))
    throw NotSupported(C::peft_type, "modules_to_save with " + info.embedding + ", the input embedding, together with virtual tokens");
}
template <class C>
PromptLayout prompt_layout(const C& config, const ModelInfo& info, bool in_both = false) {
  const std::int64_t tokens = config.num_virtual_tokens, submodules = config.num_transformer_submodules;
  PromptLayout layout{info.embedding, info.vocab_size, tokens, tokens * submodules, info.num_encoder_layers > 0, in_both && submodules == 2};
  if constexpr (requires { config.token_template; }) layout.placed = !config.token_template.empty();
  return layout;
}

/// A Linear's tensors as torch begins with them.
template <Scalar T>
struct EncoderLayer {
  Parameter<T> weight, bias;
  EncoderLayer() = default;
  EncoderLayer(std::int64_t in, std::int64_t out, Random& random)
      : weight(drawn_uniform<T>({out, in}, 1 / std::sqrt(double(in)), random)), bias(drawn_uniform<T>({out}, 1 / std::sqrt(double(in)), random)) {}
  Variable<T> operator()(const Variable<T>& x) const { return linear(x, weight, bias); }
  static void describe(auto& self, auto&& visit) {
    visit("weight", self.weight);
    visit("bias", self.bias);
  }
};

/// A file has what an encoder gives, not the encoder: `table` under the name that PEFT uses.
template <Scalar T>
void replace_by_table(AdapterTensors& tensors, const Tensor<T>& table) {
  AdapterTensor t{"prompt_embeddings", Tensor<float>(table.shape())};
  for (std::int64_t i = 0; i < table.size(); i++) t.values[i] = float(table[i]);
  std::erase_if(tensors, [](const AdapterTensor& own) { return own.name.starts_with("prompt_"); });  // what is left belongs to modules_to_save
  tensors.push_back(std::move(t));
}
}  // namespace detail

}  // namespace peft
