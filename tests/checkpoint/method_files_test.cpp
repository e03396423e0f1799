// SPDX-License-Identifier: Apache-2.0
// Every method of the registry through its file and back.
#include <catch2/catch.hpp>
#include <set>
#include <string>

#include "checkpoint/model_files.hpp"
#include "peft/checkpoint/adapter_file.hpp"
#include "peft/io/json.hpp"
#include "support/is_near.hpp"
#include "support/tiny_encoder_decoder.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

Tensor<float> fronted_logits(const PeftModel<Transformer<float>>& model) {
  Pass<float> pass = model.pass();
  const auto sequences = Sequences::of_lengths(std::vector<std::int64_t>{4, 2});
  const FrontedRows rows = with_fronts(pass.fronts, *sequences, random_ids(6, 11));
  pass.sequences = rows.sequences;
  if (!model.model().encoder_layers.empty()) model.model().encode(pass, Sequences::of_lengths(std::vector<std::int64_t>{2, 5}), random_ids(7, 11, 5));
  const PassScope<float> scope(pass);
  return model.model().logits(model.model().hidden_states(rows.ids)).value();
}

template <class Config>
void through_its_file(const Config& config, bool encodes = false) {
  const Folder folder;
  CAPTURE(Config::peft_type, encodes);
  const TinyShape shape{.biases = std::same_as<Config, BitFitConfig>, .tied = true};
  const auto fresh = [&] { return encodes ? tiny_encoder_decoder<float>(shape) : tiny_transformer<float>(shape); };
  auto base = fresh();
  PeftModel model{base};
  model.add_adapter("a", config, 3);
  model.for_each_adapter_parameter("a", [](const std::string&, Parameter<float>& p) {
    if (!p.requires_grad()) return;
    for (std::int64_t i = 0; i < p.size(); i++) p.value()[i] += 0.05f * std::sin(float(i + 1));
    p.touch();
  });
  const Tensor<float> expected = fronted_logits(model);
  save_adapter(model, "a", folder / "out", "org/base");
  auto again = fresh();
  PeftModel loaded{again};
  load_adapter(loaded, "a", folder / "out");
  CHECK(same_bits(fronted_logits(loaded), expected));
  CHECK(loaded.count_parameters().trainable == 0);
  save_adapter(loaded, "a", folder / "again", "org/base");
  CHECK(read_file(folder / "again/adapter_config.json") == read_file(folder / "out/adapter_config.json"));
  CHECK(read_file(folder / "again/adapter_model.safetensors") == read_file(folder / "out/adapter_model.safetensors"));
}

template <class... C>
std::set<std::string> peft_types(std::type_identity<std::variant<C...>>) {
  return {C::peft_type...};
}

}  // namespace

TEST_CASE("an adapter of every method is the same after it went through its file", "[checkpoint]") {
  through_its_file(AdaLoraConfig{.init_r = 3, .total_step = 10});
  through_its_file(AdaptionPromptConfig{.adapter_len = 3, .adapter_layers = 1});
  through_its_file(BitFitConfig{});
  through_its_file(BOFTConfig{.boft_block_size = 4});
  through_its_file(BOFTConfig{.boft_block_size = 2, .boft_n_butterfly_factor = 2, .boft_dropout = 0.5, .target_modules = {"q_proj", "down_proj"}});
  through_its_file(BottleneckConfig{.variant = "houlsby", .reduction_factor = 3.5, .dropout = 0.1});
  through_its_file(BottleneckConfig{.bottleneck_size = 3, .non_linearity = "gelu", .learned_scaling = true});
  through_its_file(BottleneckConfig{.variant = "parallel", .layers_to_transform = {1}, .modules_to_save = {"lm_head"}});
  through_its_file(C3AConfig{.block_size = 4});
  through_its_file(DeloraConfig{.r = 2});
  through_its_file(FourierFTConfig{.n_frequency = 7});
  through_its_file(GraloraConfig{.r = 4});
  through_its_file(GraloraConfig{.r = 4, .hybrid_r = 2});
  through_its_file(HiraConfig{.r = 2});
  through_its_file(HRAConfig{.r = 2});
  through_its_file(HRAConfig{.r = 3, .apply_GS = true});
  through_its_file(IA3Config{});
  through_its_file(LNTuningConfig{});
  through_its_file(LoHaConfig{.r = 2, .rank_dropout = 0.25, .module_dropout = 0.5, .alpha_pattern = {{"q_proj", 4}}});
  through_its_file(LoKrConfig{.r = 1, .decompose_both = true, .init_weights = "lycoris"});
  through_its_file(LoraConfig{.r = 2, .use_dora = true});
  through_its_file(LoraConfig{.r = 2, .lora_bias = true});
  through_its_file(LoraConfig{.r = 2, .target_modules = {"embed_tokens", "q_proj"}});
  through_its_file(LoraConfig{.r = 2, .modules_to_save = {"mlp"}, .trainable_token_indices = {{"", {1, 4}}}});
  through_its_file(LoraConfig{.r = 2, .target_modules = {"q_proj"}, .trainable_token_indices = {{"embed_tokens", {1, 4}}, {"lm_head", {2}}}});
  through_its_file(LoraConfig{.r = 2, .target_modules = {"lm_head", "q_proj"}});
  through_its_file(LoraConfig{.r = 2, .target_modules = "model.(embed_tokens|layers.0.mlp.up_proj)"});
  through_its_file(MissConfig{.r = 4, .init_weights = "bat"});
  through_its_file(MultitaskPromptTuningConfig{.num_virtual_tokens = 2, .num_tasks = 3});
  through_its_file(OFTConfig{.oft_block_size = 4, .use_cayley_neumann = false});
  through_its_file(OFTConfig{.oft_block_size = 4, .coft = true, .eps = 0.125});
  through_its_file(PrefixTuningConfig{.num_virtual_tokens = 3});
  through_its_file(PrefixTuningConfig{.num_virtual_tokens = 3, .prefix_projection = true});
  through_its_file(PromptEncoderConfig{.num_virtual_tokens = 3, .encoder_reparameterization_type = "LSTM"});
  through_its_file(PromptTuningConfig{.num_virtual_tokens = 3});
  through_its_file(PromptTuningConfig{.num_virtual_tokens = 3, .modules_to_save = {"lm_head", "norm", "lm_head", "score"}});
  through_its_file(PromptEncoderConfig{.num_virtual_tokens = 3, .modules_to_save = {"lm_head"}});
  through_its_file(PrefixTuningConfig{.num_virtual_tokens = 3, .modules_to_save = {"lm_head"}});
  through_its_file(MultitaskPromptTuningConfig{.num_virtual_tokens = 2, .modules_to_save = {"lm_head"}});
  through_its_file(RoadConfig{.group_size = 4});
  through_its_file(ShiraConfig{.r = 1});
  through_its_file(TrainableTokensConfig{.token_indices = {2, 5}});
  through_its_file(VBLoRAConfig{.r = 2, .num_vectors = 6, .vector_length = 4});
  through_its_file(VeraConfig{.r = 4});
  through_its_file(VeraConfig{.r = 4, .save_projection = false});
  CHECK(peft_types(std::type_identity<AnyAdapterConfig>()).size() == 27);  // a new method: one more line above
}

TEST_CASE("prompts and prefixes of an encoder-decoder are the same after they went through their files", "[checkpoint]") {
  through_its_file(MultitaskPromptTuningConfig{.num_virtual_tokens = 2, .num_tasks = 3}, true);
  through_its_file(PrefixTuningConfig{.num_virtual_tokens = 3}, true);
  through_its_file(PrefixTuningConfig{.num_virtual_tokens = 3, .prefix_projection = true}, true);
  through_its_file(PromptEncoderConfig{.num_virtual_tokens = 3, .encoder_reparameterization_type = "LSTM", .encoder_hidden_size = 3}, true);
  through_its_file(PromptTuningConfig{.num_virtual_tokens = 3, .prompt_tuning_init = "SAMPLE_VOCAB"}, true);
}

TEST_CASE("a prompt's file names saved modules of the base without \"model.\"", "[checkpoint]") {
  const Folder folder;
  auto base = tiny_transformer<float>();
  PeftModel model{base};
  model.add_adapter("a", PrefixTuningConfig{.num_virtual_tokens = 3, .modules_to_save = {"lm_head"}});
  save_adapter(model, "a", folder / "out");
  const SafetensorsFile file = SafetensorsFile::open(folder / "out/adapter_model.safetensors");
  std::set<std::string> names;
  for (const auto& t : file.tensors()) names.insert(t.name);
  CHECK(names == std::set<std::string>{"base_model.lm_head.weight", "prompt_embeddings"});
}

TEST_CASE("files of PiSSA, OLoRA and LoftQ have A and B alone; what they began with is made of the base again", "[checkpoint]") {
  for (const char* init : {"pissa", "olora", "loftq_q4_0_niter_2"}) {
    const Folder folder;
    auto base = tiny_transformer<float>({.hidden = 32});
    PeftModel model{base};
    model.add_adapter("a", LoraConfig{.r = 2, .target_modules = {"q_proj"}, .init_lora_weights = init});
    std::size_t tensors = 0;
    model.for_each_adapter_parameter("a", [&](const std::string&, Parameter<float>& p) {
      tensors++;
      for (float& value : p.value().span()) value *= 1.1f;
    });
    CHECK(tensors == 4);  // two layers
    save_adapter(model, "a", folder / "out");
    CHECK(Json::read(folder / "out/adapter_config.json").at("init_lora_weights").string() == init);
    PeftModel loaded{base};
    load_adapter(loaded, "a", folder / "out");
    CHECK(same_bits(fronted_logits(loaded), fronted_logits(model)));
  }
}

TEST_CASE("an embedding that a LoRA's file brings along must be the base's", "[checkpoint]") {
  const Folder folder;
  auto base = tiny_transformer<float>();
  PeftModel model{base};
  model.add_adapter("a", LoraConfig{.r = 2, .target_modules = {"embed_tokens"}});
  save_adapter(model, "a", folder / "out");
  auto other = tiny_transformer<float>({}, 8);
  PeftModel wrong{other};
  CHECK_THROWS_WITH(load_adapter(wrong, "a", folder / "out"), Catch::Contains("embed_tokens.base_layer.weight, which is not this base's"));
  CHECK(wrong.adapter_names().empty());
}

TEST_CASE("as PEFT does, a file brings the embedding's and the head's tensors along where target_modules names them so", "[checkpoint]") {
  const Folder folder;
  const auto along = [&](const LoraConfig& config) {
    auto base = tiny_transformer<float>();
    PeftModel model{base};
    model.add_adapter("a", config);
    save_adapter(model, "a", folder / "out");
    std::set<std::string> names;
    const SafetensorsFile file = SafetensorsFile::open(folder / "out/adapter_model.safetensors");
    for (const auto& t : file.tensors())
      if (t.name.find(".base_layer.") != std::string::npos) names.insert(t.name);
    return names;
  };
  const std::string embedding = "base_model.model.model.embed_tokens.base_layer.weight", head = "base_model.model.lm_head.base_layer.weight";
  CHECK(along({.r = 2, .target_modules = {"embed_tokens"}}) == std::set<std::string>{embedding});
  CHECK(along({.r = 2, .target_modules = {"embed_tokens", "lm_head"}}) == std::set<std::string>{embedding, head});
  CHECK(along({.r = 2, .target_modules = {"lm_head"}, .use_dora = true}) == std::set<std::string>{head});
  CHECK(along({.r = 2, .target_modules = ".*embed_tokens"}) == std::set<std::string>{embedding});
  CHECK(along({.r = 2, .target_modules = {"model.embed_tokens"}}).empty());
  CHECK(along({.r = 2, .target_modules = {"lm_head"}, .trainable_token_indices = {{"", {1}}}}).empty());
  CHECK(along({.r = 2, .target_modules = "all-linear"}).empty());

  // Nor is it missed where a file lacks it.
  auto base = tiny_transformer<float>();
  PeftModel model{base};
  along({.r = 2, .target_modules = {"embed_tokens"}});
  const SafetensorsFile file = SafetensorsFile::open(folder / "out/adapter_model.safetensors");
  std::vector<Tensor<float>> values;
  std::vector<TensorToWrite> rest;
  for (const auto& t : file.tensors())
    if (t.name != embedding) values.push_back(file.read<float>(t.name)), rest.push_back({t.name, DType::f32, t.shape, values.back().data()});
  write_safetensors(folder / "out/adapter_model.safetensors", rest);
  load_adapter(model, "a", folder / "out");
}

TEST_CASE("what PEFT writes twice or reads without a use stays as it was", "[checkpoint]") {
  const Folder folder;
  auto base = tiny_transformer<float>({.biases = true});
  {
    PeftModel model{base};
    model.add_adapter("a", LoraConfig{.r = 2, .target_modules = {"q_proj"}, .bias = "all", .modules_to_save = {"lm_head"}});
    save_adapter(model, "a", folder / "out");
  }
  const SafetensorsFile file = SafetensorsFile::open(folder / "out/adapter_model.safetensors");
  std::vector<Tensor<float>> values;
  std::vector<TensorToWrite> all;
  for (const auto& t : file.tensors()) values.push_back(file.read<float>(t.name)), all.push_back({t.name, DType::f32, t.shape, values.back().data()});
  for (const char* name : {"base_model.model.lm_head.modules_to_save.bias", "base_model.model.lm_head.original_module.bias"})
    all.push_back({name, DType::f32, {values[0].size()}, values[0].data()});
  write_safetensors(folder / "out/adapter_model.safetensors", all);
  PeftModel model{base};
  load_adapter(model, "a", folder / "out");

  const auto written_again = [&](const std::string& type, const std::string& keys) {
    write_file(folder / "adapter_config.json", R"({"peft_type": ")" + type + R"(", "task_type": "CAUSAL_LM", )" + keys + "}");
    const AdapterFileConfig read = read_adapter_config(folder.path());
    detail::write_adapter(folder / "again", read.config, "", read.extra, {});
    return Json::read(folder / "again/adapter_config.json");
  };
  CHECK(written_again("SHIRA", R"("random_seed": null)").at("random_seed").is_null());
  CHECK(written_again("SHIRA", R"("random_seed": 4)").at("random_seed").integer() == 4);
  CHECK(written_again("IA3", R"("target_modules": ["q_proj"], "feedforward_modules": [])").at("feedforward_modules").is_array());
  CHECK(written_again("HIRA", R"("rank_pattern": {"q_proj": 5})").at("rank_pattern").at("q_proj").integer() == 5);
}

TEST_CASE("what a method does not do is refused by key and value in its file, too", "[checkpoint]") {
  const Folder folder;
  const auto text = [&](const std::string& keys) {
    write_file(folder / "adapter_config.json", "{" + keys + "}");
    try {
      read_adapter_config(folder.path());
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("read");
  };
  CHECK(text(R"("peft_type": "LOHA", "rank_dropout": 0, "module_dropout": 0.0)") == "read");
  CHECK_THAT(text(R"("peft_type": "LOKR", "rank_dropout": 1.5)"), Catch::Contains("rank_dropout is 1.500000; allowed is 0 ≤ p < 1"));
  CHECK_THAT(text(R"("peft_type": "OFT", "bias": "all")"), Catch::Contains("bias = \"all\" is not supported"));
  CHECK_THAT(text(R"("peft_type": "BOFT", "boft_dropout": 1.5)"), Catch::Contains("boft_dropout is 1.500000; allowed is 0 ≤ p < 1"));
  CHECK_THAT(text(R"("peft_type": "ROAD", "variant": "road_3")"), Catch::Contains("variant \"road_3\""));
  CHECK_THAT(text(R"("peft_type": "POLY")"), Catch::Contains("peft_type \"POLY\" is not supported"));
}

TEST_CASE("VB-LoRA's file may have the weights of its largest logits alone, for inference", "[checkpoint]") {
  for (const std::int64_t vectors : {6, 300}) {
    const Folder folder;
    auto base = tiny_transformer<float>();
    PeftModel model{base};
    model.add_adapter("a", VBLoRAConfig{.r = 2, .num_vectors = vectors, .vector_length = 4, .topk = 3, .init_logits_std = 1, .save_only_topk_weights = true},
                      3);
    save_adapter(model, "a", folder / "out");
    const auto file = SafetensorsFile::open(folder / "out/adapter_model.safetensors");
    std::size_t indices = 0;
    for (const auto& tensor : file.tensors()) {
      CHECK_FALSE(tensor.name.ends_with("logits_A"));
      if (!tensor.name.ends_with("_topk_indices")) continue;
      indices++;
      CHECK(tensor.dtype == (vectors < 256 ? DType::u8 : DType::i16));
      CHECK(file.find(tensor.name.substr(0, tensor.name.size() - 8) + "_weights")->shape[2] == 2);
    }
    CHECK(indices == 8);
    PeftModel loaded{base};
    load_adapter(loaded, "a", folder / "out", true);
    CHECK_THAT(array(fronted_logits(loaded)), is_near<float>(array(fronted_logits(model)), 50));
    Pass<float> pass = loaded.pass();
    pass.sequences = Sequences::of_lengths(std::vector<std::int64_t>{3}), pass.training = true;
    const PassScope<float> scope(pass);
    CHECK_THROWS_WITH(loaded.model().hidden_states(random_ids(3, 11)), Catch::Contains("saved with save_only_topk_weights"));
    save_adapter(loaded, "a", folder / "again");
    PeftModel again{base};
    load_adapter(again, "a", folder / "again");
    CHECK_THAT(array(fronted_logits(again)), is_near<float>(array(fronted_logits(loaded)), 50));
  }
}

TEST_CASE("adapters of several methods that act together are the same after each went through its file", "[checkpoint]") {
  const Folder folder;
  auto base = tiny_transformer<float>();
  PeftModel model{base};
  const std::vector<std::string> names = {"lora", "prefix", "ia3", "tokens"};
  model.add_adapter("lora", LoraConfig{.r = 2, .target_modules = {"q_proj"}, .init_lora_weights = false});
  model.add_adapter("prefix", PrefixTuningConfig{.num_virtual_tokens = 2});
  model.add_adapter("ia3", IA3Config{.init_ia3_weights = false});
  model.add_adapter("tokens", PromptTuningConfig{.num_virtual_tokens = 2});
  model.set_adapter(names);
  const Tensor<float> expected = fronted_logits(model);
  PeftModel loaded{base};
  for (const std::string& name : names) save_adapter(model, name, folder / name), load_adapter(loaded, name, folder / name);
  loaded.set_adapter(names);
  CHECK(same_bits(fronted_logits(loaded), expected));
  loaded.set_adapter(std::vector<std::string>{"prefix", "lora"});
  CHECK_FALSE(same_bits(fronted_logits(loaded), expected));
}
