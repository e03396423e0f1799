// SPDX-License-Identifier: Apache-2.0
// Every method on every architecture: that training lowers the loss, that a file says everything, that merging changes nothing. What does not go
// together says why. docs/compatibility.md is what this finds.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "peft/checkpoint/adapter_file.hpp"
#include "peft/checkpoint/load.hpp"
#include "peft/checkpoint/save.hpp"
#include "peft/freeze/freeze.hpp"
#include "peft/io/json.hpp"
#include "peft/optim/optim.hpp"
#include "support/files.hpp"
#include "support/is_near.hpp"
#include "support/tiny_transformer.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

using Tuned = PeftModel<Transformer<float>>;

struct Base {
  std::string title, config, task_type;
};
constexpr const char* page = "docs/compatibility.md";

/// Two layers of each architecture, of widths that 4 and 8 divide.
std::vector<Base> bases() {
  const std::string size = R"("vocab_size": 24, "hidden_size": 16, "initializer_range": 0.3, "max_position_embeddings": 32, "pad_token_id": 1)";
  const std::string heads = size + R"(, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24)";
  const std::string grouped = heads + R"(, "num_key_value_heads": 2, "head_dim": 4)";
  const std::string gpt2 = R"("vocab_size": 24, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": 24, "n_positions": 32, "initializer_range": 0.3)";
  const std::string t5 =
      R"("vocab_size": 24, "d_model": 16, "num_layers": 2, "num_heads": 4, "d_kv": 2, "d_ff": 24, "relative_attention_num_buckets": 4,
         "relative_attention_max_distance": 6, "pad_token_id": 0, "decoder_start_token_id": 0, "initializer_range": 0.3)";
  const std::string distilbert =
      R"("vocab_size": 24, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24, "max_position_embeddings": 32, "pad_token_id": 1,
         "initializer_range": 0.3)";
  const std::string chatglm =
      R"("padded_vocab_size": 24, "hidden_size": 16, "num_layers": 2, "num_attention_heads": 4, "multi_query_attention": true,
         "multi_query_group_num": 2, "kv_channels": 4, "ffn_hidden_size": 24, "add_qkv_bias": true, "add_bias_linear": false, "seq_length": 32,
         "initializer_range": 0.3)";
  const std::string chatglm_6b =
      R"("vocab_size": 24, "hidden_size": 16, "num_layers": 2, "num_attention_heads": 4, "inner_hidden_size": 24, "max_sequence_length": 32,
         "bos_token_id": 22, "eos_token_id": 23, "gmask_token_id": 21, "mask_token_id": 20, "initializer_range": 0.3)";
  std::vector<Base> all;
  const auto add = [&](const std::string& type, const std::string& architecture, const std::string& keys, const std::string& title = "",
                       const std::string& task = "CAUSAL_LM") {
    all.push_back({title.empty() ? type : title, R"({"model_type": ")" + type + R"(", "architectures": [")" + architecture + "\"], " + keys + "}", task});
  };
  add("llama", "LlamaForCausalLM", grouped);
  add("mistral", "MistralForCausalLM", grouped + R"(, "sliding_window": 3)");
  add("qwen2", "Qwen2ForCausalLM", grouped);
  add("qwen3", "Qwen3ForCausalLM", grouped);
  add("gemma", "GemmaForCausalLM", grouped);
  add("gemma2", "Gemma2ForCausalLM",
      grouped + R"(, "query_pre_attn_scalar": 4, "sliding_window": 3, "attn_logit_softcapping": 4.0, "final_logit_softcapping": 6.0)");
  add("glm", "GlmForCausalLM", grouped);
  add("glm4", "Glm4ForCausalLM", grouped);
  add("chatglm", "ChatGLMForConditionalGeneration", chatglm);
  add("chatglm", "ChatGLMForConditionalGeneration", chatglm_6b, "chatglm, 6B");
  add("phi3", "Phi3ForCausalLM", grouped);
  add("gpt2", "GPT2LMHeadModel", gpt2);
  add("opt", "OPTForCausalLM", heads + R"(, "ffn_dim": 24)");
  add("gpt_neox", "GPTNeoXForCausalLM", heads + R"(, "rotary_pct": 0.5)");
  add("bloom", "BloomForCausalLM", size + R"(, "n_layer": 2, "n_head": 4)");
  add("t5", "T5ForConditionalGeneration", t5, "", "SEQ_2_SEQ_LM");
  add("mt5", "MT5ForConditionalGeneration", t5 + R"(, "tie_word_embeddings": false)", "", "SEQ_2_SEQ_LM");
  add("bert", "BertForMaskedLM", heads, "", "FEATURE_EXTRACTION");
  add("roberta", "RobertaForMaskedLM", heads, "", "FEATURE_EXTRACTION");
  add("xlm-roberta", "XLMRobertaForMaskedLM", heads, "", "FEATURE_EXTRACTION");
  add("distilbert", "DistilBertForMaskedLM", distilbert, "", "FEATURE_EXTRACTION");
  add("llama", "LlamaForSequenceClassification", grouped + R"(, "num_labels": 3)", "llama, classes", "SEQ_CLS");
  add("bert", "BertForSequenceClassification", heads + R"(, "num_labels": 3)", "bert, classes", "SEQ_CLS");
  add("distilbert", "DistilBertForSequenceClassification", distilbert + R"(, "num_labels": 3)", "distilbert, classes", "SEQ_CLS");
  return all;
}
Transformer<float> build(const Base& base) {
  auto model = build_model<float>(fresh_model(base.config, 5));
  Random random(6);  // biases and norms that a method may lose
  for_each_parameter(model, [&](const std::string&, Parameter<float>& p) {
    if (p.shape().rank() != 1) return;
    Tensor<float> values = p.dense();
    for (float& value : values.span()) value += float(0.1 * random.normal());
    p.assign(std::move(values));
  });
  return model;
}

/// What a method is to be told here, where its defaults are for large models or it wants to be told something.
const std::map<std::string, std::string> options = {
    {"ADALORA", R"("init_r": 3, "target_r": 2, "tinit": 3, "tfinal": 2, "total_step": 12)"},
    {"ADAPTION_PROMPT", R"("adapter_len": 3, "adapter_layers": 2)"},
    {"BOFT", R"("boft_block_size": 4)"},
    {"BOTTLENECK", R"("bottleneck_size": 4, "non_linearity": "tanh")"},
    {"C3A", R"("block_size": 4)"},
    {"DELORA", R"("r": 2)"},
    {"FOURIERFT", R"("n_frequency": 9)"},
    {"GRALORA", R"("r": 4)"},
    {"HIRA", R"("r": 2)"},
    {"HRA", R"("r": 2)"},
    {"LOHA", R"("r": 2)"},
    {"LOKR", R"("r": 1)"},
    {"LORA", R"("r": 2)"},
    {"MISS", R"("r": 4)"},
    {"MULTITASK_PROMPT_TUNING", R"("num_virtual_tokens": 3)"},
    {"OFT", R"("oft_block_size": 4)"},
    {"P_TUNING", R"("num_virtual_tokens": 3)"},
    {"PREFIX_TUNING", R"("num_virtual_tokens": 3)"},
    {"PROMPT_TUNING", R"("num_virtual_tokens": 3)"},
    {"ROAD", R"("group_size": 4)"},
    {"SHIRA", R"("r": 1)"},
    {"TRAINABLE_TOKENS", R"("token_indices": [3, 7])"},
    {"VBLORA", R"("r": 2, "num_vectors": 6, "vector_length": 4)"},
    {"VERA", R"("r": 4)"},
};
AnyAdapterConfig config_of(const std::string& method, const Base& base, const std::string& target_modules = "") {
  const Folder folder;
  const std::string more = options.contains(method) ? options.at(method) : "";
  write_file(folder / "adapter_config.json", R"({"peft_type": ")" + method + R"(", "task_type": ")" + base.task_type + "\"" +
                                                 (more.empty() ? "" : ", " + more) +
                                                 (target_modules.empty() ? "" : R"(, "target_modules": )" + target_modules) + "}");
  return read_adapter_config(folder.path()).config;
}

std::vector<std::int32_t> ids_of(std::int64_t n) {  // none of them padding
  std::vector<std::int32_t> ids = random_ids(n, 12);
  for (std::int32_t& id : ids) id += 2;
  return ids;
}
// f(hidden states, targets) of two sequences.
template <class F>
auto forward(const Tuned& tuned, F f) {
  const Transformer<float>& model = tuned.model();
  Pass<float> pass = tuned.pass();
  std::vector<std::int32_t> ids = ids_of(9);
  if (const auto& blank = model.config.blank_tokens) ids[0] = ids[5] = blank->gmask, ids[1] = ids[6] = blank->start;
  const FrontedRows rows = with_fronts(pass.fronts, *Sequences::of_lengths(std::vector<std::int64_t>{5, 4}), ids, random_labels(9, 12));
  pass.sequences = rows.sequences;
  if (!model.encoder_layers.empty()) model.encode(pass, Sequences::of_lengths(std::vector<std::int64_t>{3, 6}), ids_of(9));
  const PassScope<float> scope(pass);
  return f(model.hidden_states(rows.ids), std::span<const std::int32_t>(rows.targets));
}
Variable<float> loss_of(const Tuned& tuned) {
  const std::vector<std::int32_t> classes = {2, 0};
  const bool by_sequence = tuned.model().config.head.task == TaskType::seq_cls;
  return forward(tuned, [&](const Variable<float>& hidden, std::span<const std::int32_t> targets) {
    return tuned.model().loss(hidden, by_sequence ? std::span<const std::int32_t>(classes) : targets);
  });
}
Tensor<float> logits_of(const Tuned& tuned) {
  return forward(tuned, [&](const Variable<float>& hidden, auto) { return tuned.model().logits(hidden).value().clone(); });
}

void check_training(Tuned& tuned) {
  std::vector<Trainable<float>> trainables;
  std::vector<Tensor<float>> before;
  tuned.visit_parameters([&](const ParameterInfo& info, Parameter<float>& p) {
    if (p.requires_grad()) trainables.push_back({info.path, p});
  });
  trainables = unique_trainables(std::move(trainables));
  REQUIRE(!trainables.empty());
  for (const auto& t : trainables) before.push_back(t.parameter.dense());
  AdamW<float> optimizer(trainables);
  std::vector<bool> trains(trainables.size(), false);
  const float first = loss_of(tuned).value()[0];
  for (int step = 0; step < 8; step++) {
    Tape tape;
    Variable<float> loss = loss_of(tuned);
    if (const auto penalty = tuned.penalty()) loss = add(std::move(loss), penalty);
    tape.backward(loss);
    optimizer.step(0.02);
    for (std::size_t i = 0; i < trainables.size(); i++) trains[i] = trains[i] || !same_bits(trainables[i].parameter.dense(), before[i]);
    tuned.after_step(step);
    zero_grad(trainables);
  }
  CHECK(loss_of(tuned).value()[0] < first);
  for (std::size_t i = 0; i < trainables.size(); i++) {
    CAPTURE(trainables[i].name);
    CHECK(trains[i]);
  }
}
void check_file(const Tuned& tuned, const Base& base) {
  const Folder folder;
  save_adapter(tuned, "a", folder / "first");
  auto other = build(base);
  Tuned again{other};
  load_adapter(again, "a", folder / "first");
  CHECK(same_bits(logits_of(again), logits_of(tuned)));
  save_adapter(again, "a", folder / "second");
  for (const char* name : {"/adapter_config.json", "/adapter_model.safetensors"})
    CHECK(read_file(folder / ("first" + std::string(name))) == read_file(folder / ("second" + std::string(name))));
}
// False if the method is no change of weights.
bool check_merge(Tuned& tuned) {
  const Tensor<float> apart = logits_of(tuned);
  try {
    tuned.merge_adapter();
  } catch (const AdapterError&) {
    CHECK(same_bits(logits_of(tuned), apart));
    return false;
  }
  CHECK_THAT(array(logits_of(tuned)), is_near<float>(array(apart), 50));
  tuned.unmerge_adapter();
  CHECK(same_bits(logits_of(tuned), apart));
  return true;
}

/// What is found of one pair: what it can do, or why not.
struct Cell {
  bool merges = false, named = false;
  std::string refusal;
};
Cell try_pair(const std::string& method, const Base& base) {
  Cell cell;
  auto model = build(base);
  Tuned alone{model};
  const Tensor<float> untouched = logits_of(alone);
  Tuned tuned{model};
  const auto attach = [&](const std::string& target_modules) {
    try {
      add_adapter(tuned, "a", config_of(method, base, target_modules), 3);
      return std::string();
    } catch (const ConfigError& error) {
      return std::string(error.what());
    } catch (const AdapterError& error) {
      return std::string(error.what());
    }
  };
  cell.refusal = attach("");
  if (cell.refusal.find("target_modules is not set") != std::string::npos || cell.refusal.find("matches no self-attention") != std::string::npos) {
    cell.named = true;
    const std::string& attention = model.layers[0].self_attn.path;
    const std::string names = method == "ADAPTION_PROMPT" ? "[\"" + attention.substr(attention.rfind('.') + 1) + "\"]"
                              : method == "LN_TUNING"     ? "\".*\""
                                                          : "\"all-linear\"";
    cell.refusal = attach(names);
  }
  if (!cell.refusal.empty()) {  // nothing is attached, then
    CHECK(tuned.adapter_names().empty());
    CHECK(same_bits(logits_of(tuned), untouched));
    return cell;
  }
  check_training(tuned);
  check_file(tuned, base);
  cell.merges = check_merge(tuned);
  const auto without = tuned.disable_adapters();
  CHECK(same_bits(logits_of(tuned), untouched));
  return cell;
}

/// The model's own weights: all of them, or those of the last layer while the others stay as they are.
void check_weights(const Base& base, bool all) {
  auto model = build(base);
  Tuned tuned{model};
  const std::int64_t layers = num_layers(model);
  all ? freeze(tuned, Everything()) : freeze(tuned, layers_of(model, layers - 1, layers));
  std::vector<std::pair<Parameter<float>, Tensor<float>>> frozen;
  for_each_parameter(model, [&](const std::string&, Parameter<float>& p) {
    if (!p.requires_grad()) frozen.emplace_back(p, p.dense());
  });
  CHECK(frozen.empty() == all);
  check_training(tuned);
  for (const auto& [parameter, before] : frozen) CHECK(same_bits(parameter.dense(), before));
  const Folder folder;
  save_model(tuned.model(), folder / "first");
  auto again = load_model<float>(folder / "first");
  const Tensor<float> expected = logits_of(tuned), found = logits_of(Tuned{again});
  if (base.title == "gpt2")  // whose file has its weights turned: they are summed in another order from there
    CHECK_THAT(array(found), is_near<float>(array(expected), 50));
  else
    CHECK(same_bits(found, expected));
  save_model(again, folder / "second");
  for (const char* name : {"/config.json", "/model.safetensors"})
    CHECK(read_file(folder / ("first" + std::string(name))) == read_file(folder / ("second" + std::string(name))));
}

std::string written_page() {
  std::set<std::string> methods, types;
  for_each_method([&]<class C>(std::type_identity<C>) { methods.insert(C::peft_type); });
  for (const Base& base : bases()) types.insert(Json::parse(base.config, base.title).at("model_type").string());
  for (const Architecture& a : architectures()) CHECK(types.contains(a.model_type));  // a new architecture: a line in bases()

  std::vector<std::string> refusals;
  std::string head = "| |", line = "|---|", rows;
  for (const Base& base : bases()) head += " " + base.title + " |", line += ":-:|";
  for (const std::string& method : methods) {
    rows += "| `" + method + "` |";
    for (const Base& base : bases()) {
      CAPTURE(method, base.title);
      Cell cell;
      try {
        cell = try_pair(method, base);
      } catch (const std::exception& error) {
        FAIL_CHECK("neither done nor refused: " << error.what());
      }
      if (cell.refusal.empty()) {
        rows += std::string(cell.merges ? " ●" : " ○") + (cell.named ? "ᵗ |" : " |");
        continue;
      }
      auto known = std::ranges::find(refusals, cell.refusal);
      if (known == refusals.end()) known = refusals.insert(known, cell.refusal);
      rows += " " + std::to_string(known - refusals.begin() + 1) + " |";
    }
    rows += "\n";
  }
  for (const bool all : {true, false}) {
    rows += all ? "| all weights |" : "| the last layer |";
    for (const Base& base : bases()) {
      CAPTURE(all, base.title);
      try {
        check_weights(base, all);
        rows += " ● |";
      } catch (const std::exception& error) {
        FAIL_CHECK("not done: " << error.what());
      }
    }
    rows += "\n";
  }
  std::string text =
      "# Which method on which architecture\n\n"
      "Written by [`tests/compatibility`](../tests/compatibility), which tries every pair on a model of two layers with random weights and fails where\n"
      "this page says something else:\n\n"
      "    PEFT_WRITE_PAGES=1 build/bin/peft_test_compatibility\n\n"
      "| | |\n|---|---|\n"
      "| ● | eight steps of training lower the loss and change every tensor that trains; saved and loaded it computes the same bits, and saves the same "
      "bytes; merged it computes the same, and unmerged the same bits |\n"
      "| ○ | the same, but for merging, which is refused: it is no change of weights |\n"
      "| ᵗ | `target_modules` must be given, as PEFT has no default for the architecture; tried here with \"all-linear\", all norms, or the attention |\n"
      "| 1, 2, … | refused when it is attached, with the error below |\n\n"
      "Decoders predict the next token, encoders masked words, T5 an answer to a source; \"classes\" are classifiers of sequences (`SEQ_CLS`), whose head "
      "trains along. The last two rows are fine-tuning without an adapter, all of the model or its last layer with the rest frozen; their file is the "
      "model's.\n\n" +
      head + "\n" + line + "\n" + rows + "\n";
  for (std::size_t i = 0; i < refusals.size(); i++) {
    std::string one = refusals[i];
    for (char& c : one) c = c == '\n' ? ' ' : c;
    text += std::to_string(i + 1) + ". `" + one + "`\n";
  }
  return text;
}

}  // namespace

TEST_CASE("every method on every architecture does what docs/compatibility.md says", "[compatibility]") {
  const std::string found = written_page();
  if (std::getenv("PEFT_WRITE_PAGES")) write_file(page, found);
  const bool current = std::filesystem::exists(page) && read_file(page) == found;
  INFO("PEFT_WRITE_PAGES=1 build/bin/peft_test_compatibility, run where docs/ is, writes it anew");
  CHECK(current);
}
