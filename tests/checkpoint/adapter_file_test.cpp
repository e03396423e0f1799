// SPDX-License-Identifier: Apache-2.0
#include "peft/checkpoint/adapter_file.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "checkpoint/model_files.hpp"
#include "peft/io/json.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {

/// A LoRA whose B is not zero, on a model of one layer.
LoraConfig config() { return {.r = 2, .lora_alpha = 6, .target_modules = {"q_proj", "v_proj"}, .init_lora_weights = false}; }
const std::string q = "base_model.model.model.layers.0.self_attn.q_proj.", v = "base_model.model.model.layers.0.self_attn.v_proj.";

template <class M>
Tensor<float> adapted_logits(const PeftModel<M>& model) {
  const auto ids = random_ids(9, model.model().config.vocab_size);
  const auto pass = pass_over<float>({5, 4}, model.pass());
  const PassScope<float> scope(pass);
  return model.model().logits(model.model().hidden_states(ids)).value().clone();
}
std::set<std::string> tensor_names(const std::string& path) {
  std::set<std::string> names;
  const auto file = SafetensorsFile::open(path);
  for (const auto& t : file.tensors()) names.insert(t.name);
  return names;
}
/// Saves the adapter of `config` on a fresh model, loads it on another one, and compares.
void there_and_back(const LoraConfig& wanted, const TinyShape& shape = {.layers = 1}) {
  const Folder folder;
  auto base = tiny_transformer<float>(shape), other = tiny_transformer<float>(shape);
  PeftModel saved{base}, loaded{other};
  saved.add_adapter("a", wanted, 3);
  saved.for_each_adapter_parameter("a", [](const std::string& path, Parameter<float>& p) {
    if (path.ends_with(".bias")) p.value()[0] = 0.75f;  // as if trained
  });
  save_adapter(saved, "a", folder.path());
  load_adapter(loaded, "b", folder.path());
  CHECK(same_bits(adapted_logits(loaded), adapted_logits(saved)));
  CHECK_FALSE(same_bits(adapted_logits(saved), logits(base)));
  save_adapter(loaded, "b", folder / "again");
  CHECK(read_file(folder / "again/adapter_model.safetensors") == read_file(folder / "adapter_model.safetensors"));
  CHECK(read_file(folder / "again/adapter_config.json") == read_file(folder / "adapter_config.json"));
}
/// Writes tensors of ones.
void write_tensors(const std::string& path, const std::vector<std::pair<std::string, Shape>>& tensors) {
  static const std::vector<float> ones(1000, 1.0f);
  std::vector<TensorToWrite> all;
  for (const auto& [name, shape] : tensors) all.push_back({name, DType::f32, shape, ones.data()});
  write_safetensors(path, all);
}

}  // namespace

TEST_CASE("an adapter is written with PEFT's names, keys and order", "[checkpoint]") {
  const Folder folder;
  auto base = tiny_transformer<float>({.layers = 1});
  base.config.name = "tiny";
  PeftModel model{base};
  model.add_adapter("a", config());
  save_adapter(model, "a", folder / "out");
  CHECK(std::filesystem::exists(folder / "out/adapter_config.json"));
  const auto file = SafetensorsFile::open(folder / "out/adapter_model.safetensors");
  CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
  CHECK(tensor_names(folder / "out/adapter_model.safetensors") ==
        std::set<std::string>{q + "lora_A.weight", q + "lora_B.weight", v + "lora_A.weight", v + "lora_B.weight"});
  CHECK(file.find(q + "lora_A.weight")->shape == Shape{2, 8});
  CHECK(file.find(v + "lora_B.weight")->shape == Shape{4, 2});
  CHECK(file.find(q + "lora_A.weight")->dtype == DType::f32);

  const std::string text = read_file(folder / "out/adapter_config.json");
  const Json json = Json::parse(text, "adapter_config.json");
  CHECK(text == json.dump(2, true));
  CHECK(json.at("peft_type").string() == "LORA");
  CHECK(json.at("r").dump() == "2");
  CHECK(json.at("lora_alpha").dump() == "6");
  CHECK(json.at("lora_dropout").dump() == "0.0");
  CHECK(json.at("target_modules").dump() == R"(["q_proj", "v_proj"])");
  CHECK(json.at("init_lora_weights").dump() == "false");
  CHECK(json.at("base_model_name_or_path").string() == "tiny");
  CHECK(json.at("inference_mode").boolean());
  CHECK(json.at("task_type").string() == "CAUSAL_LM");
  for (const char* key : {"alora_invocation_tokens",
                          "alpha_pattern",
                          "arrow_config",
                          "auto_mapping",
                          "bias",
                          "corda_config",
                          "ensure_weight_tying",
                          "eva_config",
                          "exclude_modules",
                          "fan_in_fan_out",
                          "layer_replication",
                          "layers_pattern",
                          "layers_to_transform",
                          "loftq_config",
                          "lora_bias",
                          "megatron_config",
                          "megatron_core",
                          "modules_to_save",
                          "peft_version",
                          "qalora_group_size",
                          "rank_pattern",
                          "revision",
                          "target_parameters",
                          "trainable_token_indices",
                          "use_dora",
                          "use_qalora",
                          "use_rslora"})
    CHECK(json.contains(key));
  save_adapter(model, "a", folder / "named", "org/base");
  CHECK(Json::read(folder / "named/adapter_config.json").at("base_model_name_or_path").string() == "org/base");
}

TEST_CASE("what was saved computes the same bits when it is loaded", "[checkpoint]") {
  there_and_back(config());
  there_and_back({.r = 3, .lora_alpha = 4.5, .target_modules = "all-linear", .exclude_modules = {"k_proj"}, .lora_dropout = 0.1, .init_lora_weights = false});
  there_and_back({.r = 4, .lora_alpha = 2, .target_modules = R"(.*\.(up|down)_proj)", .use_rslora = true, .init_lora_weights = false});
  there_and_back({.r = 2,
                  .target_modules = {"q_proj", "v_proj", "up_proj"},
                  .init_lora_weights = false,
                  .layers_to_transform = {1},
                  .layers_pattern = {"layers"},
                  .rank_pattern = {{"v_proj", 3}, {"mlp.up_proj", 1}},
                  .alpha_pattern = {{"v_proj", 0.5}, {"up_proj", 16}}},
                 {.layers = 2});
}

TEST_CASE("the scale is alpha / r, alpha / root r with rsLoRA, and the patterns' own", "[checkpoint]") {
  // With ones in A and B every output gains s r Σx, whatever the module.
  const Folder folder;
  write_tensors(folder / "adapter_model.safetensors", {{q + "lora_A.weight", {4, 8}}, {q + "lora_B.weight", {8, 4}}});
  auto base = tiny_transformer<float>({.layers = 1});
  const auto gain = [&](const std::string& keys) {
    write_file(folder / "adapter_config.json", R"({"peft_type": "LORA", "target_modules": ["q_proj"], )" + keys + "}");
    PeftModel model{base};
    load_adapter(model, "a", folder.path());
    model.merge_adapter();
    const auto merged = model.merge_and_unload();
    return double(merged.layers[0].self_attn.q_proj.weight.value()(3, 5) - base.layers[0].self_attn.q_proj.weight.value()(3, 5)) / 4;
  };
  CHECK(gain(R"("r": 4, "lora_alpha": 6)") == Approx(1.5));
  CHECK(gain(R"("r": 4, "lora_alpha": 6, "use_rslora": true)") == Approx(3));
  CHECK(gain(R"("r": 2, "lora_alpha": 6, "rank_pattern": {"q_proj": 4})") == Approx(1.5));
  CHECK(gain(R"("r": 2, "lora_alpha": 6, "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"self_attn.q_proj": 10.0, "q_proj": 1})") ==
        Approx(2.5));                     // the first match
  CHECK(gain(R"("r": 4)") == Approx(2));  // PEFT's default alpha, 8
}

TEST_CASE("biases are stored as PEFT names them", "[checkpoint]") {
  const Folder folder;
  const TinyShape biased{.layers = 1, .biases = true};
  const auto names = [&](const std::string& bias) {
    auto base = tiny_transformer<float>(biased);
    PeftModel model{base};
    LoraConfig c = config();
    c.bias = bias, c.target_modules = {"q_proj"};
    model.add_adapter("a", c);
    save_adapter(model, "a", folder / bias);
    std::set<std::string> biases;
    for (const std::string& name : tensor_names(folder / (bias + "/adapter_model.safetensors")))
      if (name.ends_with("bias")) biases.insert(name);
    return biases;
  };
  CHECK(names("none").empty());
  CHECK(names("lora_only") == std::set<std::string>{q + "base_layer.bias"});
  const auto all = names("all");
  CHECK(all.contains(q + "base_layer.bias"));
  CHECK(all.contains(v + "bias"));
  CHECK(all.contains("base_model.model.model.norm.bias"));
  CHECK(all.size() == 7 + 3 + 1);  // of seven maps and three norms in the model, and of the head
  for (const char* bias : {"lora_only", "all"}) {
    LoraConfig c = config();
    c.bias = bias;
    there_and_back(c, biased);
  }
}

TEST_CASE("a configuration is read with what it leaves out and what nobody knows", "[checkpoint]") {
  const Folder folder;
  write_file(folder / "adapter_config.json",
             R"({"peft_type": "LORA", "r": null, "target_modules": ["v_proj", "q_proj", "of_another_model"], "bias": null, "task_type": null,
    "lora_alpha": 4.5, "init_lora_weights": "eva", "eva_config": {"rho": 2.0}, "layers_to_transform": 0, "loftq_config": {}, "revision": "main", "new_option": [1, {"x": null}]})");
  write_tensors(folder / "adapter_model.safetensors",
                {{q + "lora_A.weight", {8, 8}}, {q + "lora_B.weight", {8, 8}}, {v + "lora_A.weight", {8, 8}}, {v + "lora_B.weight", {4, 8}}});
  const AdapterFileConfig file = read_adapter_config(folder.path());
  const LoraConfig& c = std::get<LoraConfig>(file.config);
  CHECK(c.r == 8);
  CHECK(c.lora_alpha == 4.5);
  CHECK(c.bias == "none");
  CHECK(c.layers_to_transform == std::vector<std::int64_t>{0});
  CHECK(c.task_type.empty());
  CHECK(file.extra.at("new_option") == R"([1, {"x": null}])");

  auto base = tiny_transformer<float>({.layers = 1});
  PeftModel model{base};
  load_adapter(model, "a", folder.path());
  save_adapter(model, "a", folder / "out");
  const Json json = Json::read(folder / "out/adapter_config.json");
  CHECK(json.at("new_option").dump() == R"([1, {"x": null}])");  // written again as it was read
  CHECK(json.at("init_lora_weights").string() == "eva");
  CHECK(json.at("eva_config").dump() == R"({"rho": 2.0})");
  CHECK(json.at("revision").string() == "main");
  CHECK(json.at("layers_to_transform").integer() == 0);
  CHECK(json.at("task_type").is_null());
}

TEST_CASE("what would change the result and is not done here is refused by key and value", "[checkpoint]") {
  const Folder folder;
  const auto text = [&](const std::string& keys) {
    write_file(folder / "adapter_config.json", R"({"peft_type": "LORA", "target_modules": ["q_proj"])" + keys + "}");
    try {
      read_adapter_config(folder.path());
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("read");
  };
  CHECK(text("") == "read");
  CHECK(text(R"(, "use_dora": true, "modules_to_save": ["lm_head"], "layer_replication": null, "kasa_config": {})") == "read");
  CHECK_THAT(text(R"(, "use_qalora": true)"), Contains("use_qalora = true is not supported"));
  CHECK_THAT(text(R"(, "layer_replication": [[0, 2]])"), Contains("layer_replication = [[0, 2]] is not supported"));
  CHECK_THAT(text(R"(, "alora_invocation_tokens": [5])"), Contains("alora_invocation_tokens = [5]"));
  CHECK_THAT(text(R"(, "init_lora_weights": "corda")"), Contains("init_lora_weights \"corda\"") && Contains("path_initial_model_for_weight_conversion"));
  CHECK_THAT(text(R"(, "r": "eight")"), Contains("adapter_config.json") && Contains("r: ") && Contains("found a string (\"eight\"), wanted an integer"));
  CHECK_THAT(text(R"(, "r": 0)"), Contains("r is 0"));
  CHECK_THAT(text(R"(, "lora_dropout": 1.5)"), Contains("lora_dropout is 1.5"));
  CHECK_THAT(text(R"(, "bias": "some")"), Contains("bias \"some\""));
  CHECK_THAT(text(R"(, "rank_pattern": {"q_proj": "4"})"), Contains("rank_pattern"));
  CHECK_THAT(text(R"(, "task_type": "CAUSAL")"), Contains("task_type \"CAUSAL\" is not known"));
  CHECK_THAT(text(R"(, "target_modules": [])"), Contains("the key \"target_modules\" stands twice"));
  write_file(folder / "adapter_config.json", R"({"peft_type": "POLY"})");
  CHECK_THROWS_WITH(read_adapter_config(folder.path()), Contains("peft_type \"POLY\" is not supported"));
  CHECK_THROWS_AS(read_adapter_config(folder.path()), NotSupported);
  for (const char* whole : {"[]", "{}", "{", R"({"peft_type": 5})"}) {
    write_file(folder / "adapter_config.json", whole);
    CHECK_THROWS_AS(read_adapter_config(folder.path()), FormatError);
  }
  CHECK_THAT(format_error(folder / "none/adapter_config.json", [&] { read_adapter_config(folder / "none"); }).reason(),
             Contains("an adapter is a directory with"));
}

TEST_CASE("every tensor that does not fit is named at once, and nothing is attached", "[checkpoint]") {
  const Folder folder;
  write_file(folder / "adapter_config.json", R"({"peft_type": "LORA", "r": 2, "target_modules": ["q_proj", "v_proj"]})");
  write_tensors(folder / "adapter_model.safetensors", {{q + "lora_A.weight", {2, 8}},
                                                       {q + "lora_B.weight", {2, 8}},
                                                       {v + "lora_A.weight", {3, 8}},
                                                       {v + "lora_B.bias", {4}},
                                                       {"base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight", {2, 8}}});
  auto base = tiny_transformer<float>({.layers = 1});
  PeftModel model{base};
  const std::string text = checkpoint_error([&] { load_adapter(model, "a", folder.path()); });
  CHECK_THAT(text, Contains("missing 1 tensors (" + v + "lora_B.weight)"));
  CHECK_THAT(text, Contains("unexpected 2 (" + v + "lora_B.bias, base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight)"));
  CHECK_THAT(text,
             Contains("wrong shape 2 (" + q + "lora_B.weight is (2, 8), this model wants (8, 2), " + v + "lora_A.weight is (3, 8), this model wants (2, 8))"));
  CHECK_THAT(text, Catch::EndsWith("Nothing was loaded."));
  CHECK(model.adapter_names().empty());
  CHECK(model.active_adapters().empty());
  CHECK(same_bits(adapted_logits(model), logits(base)));

  write_file(folder / "adapter_model.safetensors", "broken");
  CHECK_THROWS_AS(load_adapter(model, "a", folder.path()), FormatError);
  std::filesystem::remove(folder / "adapter_model.safetensors");
  write_file(folder / "adapter_model.bin", "pickle");
  CHECK_THROWS_WITH(load_adapter(model, "a", folder.path()), Contains("adapter_model.bin, a Python pickle"));
  write_file(folder / "adapter_config.json", R"({"peft_type": "LORA", "target_modules": ["query"]})");
  CHECK_THROWS_WITH(load_adapter(model, "a", folder.path()), Contains("target_modules \"query\" matches no Linear of this model"));
  CHECK(model.adapter_names().empty());
}

TEST_CASE("integers are no weights, and a configuration that asks for too much memory is refused", "[checkpoint]") {
  const Folder folder;
  const std::vector<std::int32_t> ones(16, 1);
  const std::vector<float> halves(16, 0.5f);
  write_file(folder / "adapter_config.json", R"({"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]})");
  write_safetensors(folder / "adapter_model.safetensors",
                    {{q + "lora_A.weight", DType::i32, {2, 8}, ones.data()}, {q + "lora_B.weight", DType::f32, {8, 2}, halves.data()}});
  auto base = tiny_transformer<float>({.layers = 1});
  PeftModel model{base};
  CHECK_THAT(checkpoint_error([&] { load_adapter(model, "a", folder.path()); }), Contains("lora_A.weight has the type I32, and weights are no integers"));
  write_file(folder / "adapter_config.json", R"({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 1000000000000000})");
  CHECK_THROWS_AS(load_adapter(model, "a", folder.path()), Error);
  CHECK(model.adapter_names().empty());
  CHECK(same_bits(adapted_logits(model), logits(base)));
}

TEST_CASE("an adapter that fails to load leaves those that are there", "[checkpoint]") {
  const Folder folder;
  auto base = tiny_transformer<float>({.layers = 1});
  PeftModel model{base};
  model.add_adapter("first", config(), 1);
  const Tensor<float> before = adapted_logits(model);
  save_adapter(model, "first", folder.path());
  write_tensors(folder / "adapter_model.safetensors", {});
  CHECK_THROWS_AS(load_adapter(model, "second", folder.path()), CheckpointError);
  CHECK(model.adapter_names() == std::vector<std::string>{"first"});
  CHECK(model.active_adapters() == std::vector<std::string>{"first"});
  CHECK(same_bits(adapted_logits(model), before));
  CHECK_THROWS_AS(load_adapter(model, "first", folder.path()), AdapterError);
  CHECK(same_bits(adapted_logits(model), before));
}

TEST_CASE("an adapter is swapped for that of a file, of whatever method, or stays", "[checkpoint]") {
  const Folder folder;
  auto base = tiny_transformer<float>({.layers = 1});
  PeftModel other{base}, model{base};
  other.add_adapter("x", LoHaConfig{.r = 2, .init_weights = false, .target_modules = {"up_proj", "q_proj"}}, 5);
  save_adapter(other, "x", folder / "x");
  model.add_adapter("a", config(), 1);
  model.add_adapter("b", config(), 2);
  model.set_adapter("a");
  const Tensor<float> before = adapted_logits(model);
  CHECK_THROWS_AS(hotswap_adapter(model, "a", folder / "none"), FormatError);
  CHECK_THROWS_WITH(hotswap_adapter(model, "c", folder / "x"), Contains("no adapter is named \"c\""));
  CHECK(same_bits(adapted_logits(model), before));
  hotswap_adapter(model, "a", folder / "x");
  CHECK(same_bits(adapted_logits(model), adapted_logits(other)));
  CHECK(model.adapter_names() == std::vector<std::string>{"b", "a"});
  CHECK(model.active_adapters() == std::vector<std::string>{"a"});
  CHECK(model.entry("a").peft_type == "LOHA");
}

TEST_CASE("half-precision tensors are widened, and train only if asked", "[checkpoint]") {
  const Folder folder;
  write_file(folder / "adapter_config.json", R"({"peft_type": "LORA", "r": 1, "target_modules": ["q_proj"]})");
  std::string a, b;
  for (int i = 0; i < 8; i++) a += bytes(to_float16(0.5f).bits), b += bytes(to_bfloat16(-2.0f).bits);
  write_safetensors(folder / "adapter_model.safetensors",
                    {{q + "lora_A.weight", DType::f16, {1, 8}, a.data()}, {q + "lora_B.weight", DType::bf16, {8, 1}, b.data()}});
  for (const bool trainable : {false, true}) {
    auto base = tiny_transformer<float>({.layers = 1});
    PeftModel model{base};
    load_adapter(model, "a", folder.path(), trainable);
    model.for_each_adapter_parameter("a", [&](const std::string& path, Parameter<float>& p) {
      CHECK(p.value()[7] == (path.ends_with("lora_A.weight") ? 0.5f : -2.0f));
      CHECK(p.requires_grad() == trainable);
    });
  }
}

TEST_CASE("an adapter that cannot be written leaves nothing", "[checkpoint]") {
  const Folder folder;
  write_file(folder / "file", "");
  auto base = tiny_transformer<float>({.layers = 1});
  PeftModel model{base};
  model.add_adapter("a", config());
  CHECK_THROWS_AS(save_adapter(model, "a", folder / "file/out"), FormatError);
  CHECK_THROWS_WITH(save_adapter(model, "b", folder / "out"), Contains("no adapter is named \"b\""));
  CHECK(folder.names() == std::set<std::string>{"file"});
}
