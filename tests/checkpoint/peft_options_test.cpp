// SPDX-License-Identifier: Apache-2.0
// Every option of PEFT's configs: read, refused by name and value, or known to change nothing.
#include <catch2/catch.hpp>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include "checkpoint/model_files.hpp"
#include "peft/checkpoint/adapter_file.hpp"
#include "peft/io/json.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

// The fields of PEFT 0.21.2's config classes, but for those that all have and LoRA's runtime_config, which is in no file.
const std::map<std::string, std::string> peft_fields = {
    {"ADALORA",
     "r target_modules exclude_modules lora_alpha lora_dropout fan_in_fan_out bias use_rslora modules_to_save init_lora_weights "
     "layers_to_transform layers_pattern rank_pattern alpha_pattern megatron_config megatron_core trainable_token_indices loftq_config eva_config "
     "corda_config lora_ga_config use_dora velora_config alora_invocation_tokens use_qalora qalora_group_size monteclora_config layer_replication "
     "lora_bias target_parameters use_bdlora arrow_config kasa_config ensure_weight_tying target_r init_r tinit tfinal deltaT beta1 beta2 "
     "orth_reg_weight total_step"},
    {"ADAPTION_PROMPT", "target_modules adapter_len adapter_layers"},
    {"BOFT",
     "boft_block_size boft_block_num boft_n_butterfly_factor target_modules exclude_modules boft_dropout fan_in_fan_out bias modules_to_save "
     "init_weights layers_to_transform layers_pattern"},
    {"C3A", "block_size target_modules bias modules_to_save layers_to_transform layers_pattern block_size_pattern init_weights"},
    {"DELORA",
     "r delora_lambda module_dropout target_modules exclude_modules bias init_weights layers_to_transform layers_pattern rank_pattern "
     "lambda_pattern modules_to_save"},
    {"FOURIERFT",
     "n_frequency scaling random_loc_seed fan_in_fan_out target_modules exclude_modules bias modules_to_save layers_to_transform layers_pattern "
     "n_frequency_pattern init_weights"},
    {"GRALORA",
     "r hybrid_r target_modules alpha gralora_dropout gralora_k fan_in_fan_out bias modules_to_save init_weights layers_to_transform "
     "layers_pattern"},
    {"HIRA", "r target_modules exclude_modules hira_dropout fan_in_fan_out modules_to_save init_weights layers_to_transform layers_pattern rank_pattern"},
    {"HRA", "r apply_GS target_modules exclude_modules init_weights layers_to_transform layers_pattern bias modules_to_save"},
    {"IA3", "target_modules exclude_modules feedforward_modules fan_in_fan_out modules_to_save init_ia3_weights"},
    {"LN_TUNING", "target_modules exclude_modules modules_to_save"},
    {"LOHA",
     "rank_pattern alpha_pattern r alpha rank_dropout module_dropout use_effective_conv2d target_modules exclude_modules init_weights "
     "layers_to_transform layers_pattern modules_to_save"},
    {"LOKR",
     "rank_pattern alpha_pattern r alpha rank_dropout module_dropout use_effective_conv2d decompose_both decompose_factor rank_dropout_scale "
     "target_modules exclude_modules init_weights layers_to_transform layers_pattern modules_to_save"},
    {"LORA",
     "r target_modules exclude_modules lora_alpha lora_dropout fan_in_fan_out bias use_rslora modules_to_save init_lora_weights "
     "layers_to_transform layers_pattern rank_pattern alpha_pattern megatron_config megatron_core trainable_token_indices loftq_config eva_config "
     "corda_config lora_ga_config use_dora velora_config alora_invocation_tokens use_qalora qalora_group_size monteclora_config layer_replication "
     "lora_bias target_parameters use_bdlora arrow_config kasa_config ensure_weight_tying"},
    {"MISS", "r miss_dropout mini_r target_modules exclude_modules init_weights layers_to_transform layers_pattern bias modules_to_save"},
    {"MULTITASK_PROMPT_TUNING",
     "num_virtual_tokens token_dim num_transformer_submodules num_attention_heads num_layers modules_to_save prompt_tuning_init "
     "prompt_tuning_init_text tokenizer_name_or_path tokenizer_kwargs prompt_tuning_init_state_dict_path prompt_tuning_init_task num_ranks "
     "num_tasks"},
    {"OFT",
     "r oft_block_size module_dropout target_modules fan_in_fan_out bias exclude_modules init_weights layers_to_transform layers_pattern "
     "modules_to_save coft eps block_share use_cayley_neumann num_cayley_neumann_terms"},
    {"P_TUNING",
     "num_virtual_tokens token_dim num_transformer_submodules num_attention_heads num_layers modules_to_save encoder_reparameterization_type "
     "encoder_hidden_size encoder_num_layers encoder_dropout"},
    {"PREFIX_TUNING",
     "num_virtual_tokens token_dim num_transformer_submodules num_attention_heads num_layers modules_to_save init_weights encoder_hidden_size "
     "prefix_projection"},
    {"PROMPT_TUNING",
     "num_virtual_tokens token_dim num_transformer_submodules num_attention_heads num_layers modules_to_save prompt_tuning_init "
     "prompt_tuning_init_text tokenizer_name_or_path tokenizer_kwargs"},
    {"ROAD", "variant group_size init_weights target_modules modules_to_save"},
    {"SHIRA", "r mask_type random_seed target_modules fan_in_fan_out init_weights modules_to_save"},
    {"TRAINABLE_TOKENS", "token_indices target_modules init_weights"},
    {"VBLORA",
     "r num_vectors vector_length topk target_modules exclude_modules save_only_topk_weights vblora_dropout fan_in_fan_out bias modules_to_save "
     "init_vector_bank_bound init_logits_std layers_to_transform layers_pattern"},
    {"VERA",
     "r target_modules projection_prng_key save_projection vera_dropout d_initial fan_in_fan_out bias modules_to_save init_weights "
     "layers_to_transform layers_pattern"},
};

// What changes nothing in an adapter that is read, or in none at all.
const std::set<std::string> changes_nothing = {
    "fan_in_fan_out",     // PEFT sets it as the layer wants it
    "megatron_core",      // goes with megatron_config
    "qalora_group_size",  // goes with use_qalora
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "LORA.loftq_config",  // how it began, as init_lora_weights says
    "MULTITASK_PROMPT_TUNING.prompt_tuning_init",
    "MULTITASK_PROMPT_TUNING.prompt_tuning_init_text",  // how it began
    "prompt_tuning_init_state_dict_path",
    "prompt_tuning_init_task",
    "tokenizer_name_or_path",
    "tokenizer_kwargs",
    "use_effective_conv2d",  // of convolutions
    "OFT.module_dropout",
    "ADALORA.r",
    "HIRA.rank_pattern",
    "ADALORA.alpha_pattern",  // which PEFT itself reads and does not use
};

// A config's `describe`, collecting its keys.
struct Keys {
  std::set<std::string> read, handed_on;
  std::map<std::string, std::string> refused;  // but for this value
  template <class V>
  void operator()(const char* key, const V&) {
    read.insert(key);
  }
  template <class V>
  void whole(const char* key, const V&) {
    read.insert(key);
  }
  void own(const char*, const std::string&) {}
  void as_written(const char*) {}
  void keep(const char* key, const char*) { handed_on.insert(key); }
  void only(const char* key, const char* value) { refused[key] = value; }
};

template <class F>
void for_each_peft_method(F f) {
  for_each_method([&]<class C>(std::type_identity<C>) {
    if (!peft_fields.contains(C::peft_type)) return;
    Keys keys;
    const C config;
    C::describe(config, keys);
    f(std::string(C::peft_type), keys);
  });
}

}  // namespace

TEST_CASE("no option of PEFT's is passed over", "[checkpoint]") {
  std::size_t methods = 0;
  for_each_peft_method([&](const std::string& method, const Keys& keys) {
    methods++;
    std::istringstream fields(peft_fields.at(method));
    for (std::string field; fields >> field;) {
      CAPTURE(method, field);
      const int places = int(keys.read.contains(field)) + int(keys.handed_on.contains(field)) + int(keys.refused.contains(field));
      CHECK(places == 1);
      if (keys.handed_on.contains(field)) CHECK((changes_nothing.contains(field) || changes_nothing.contains(method + "." + field)));
    }
  });
  CHECK(methods == peft_fields.size());
}

TEST_CASE("an option that is not built is refused by its name and value", "[checkpoint]") {
  const std::map<std::string, std::string> others = {
      {"null", R"({"a": 1})"}, {"{}", R"({"a": 1})"}, {"false", "true"}, {"\"none\"", "\"all\""}, {"\"random\"", "\"magnitude\""}};
  const Folder folder;
  std::size_t refused = 0;
  for_each_peft_method([&](const std::string& method, const Keys& keys) {
    for (const auto& [key, supported] : keys.refused) {
      CAPTURE(method, key, supported);
      REQUIRE(others.contains(supported));
      const Json other = Json::parse(others.at(supported), key);
      write_file(folder / "adapter_config.json", "{\"peft_type\": \"" + method + "\", \"" + key + "\": " + other.dump() + "}");
      CHECK_THROWS_AS(read_adapter_config(folder.path()), NotSupported);
      CHECK_THROWS_WITH(read_adapter_config(folder.path()), Catch::Contains(key + " = " + other.dump() + " is not supported"));
      write_file(folder / "adapter_config.json", "{\"peft_type\": \"" + method + "\", \"" + key + "\": " + supported + "}");
      CHECK_NOTHROW(read_adapter_config(folder.path()));
      refused++;
    }
  });
  CHECK(refused > 30);
}
