// SPDX-License-Identifier: Apache-2.0
// What is particular to one architecture, and what is refused.
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/architecture_cases.hpp"
#include "peft/adapters/bottleneck/bottleneck.hpp"
#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/peft_model.hpp"
#include "peft/checkpoint/adapter_file.hpp"
#include "peft/checkpoint/save.hpp"
#include "peft/checkpoint/save_gguf.hpp"
#include "peft/io/gguf.hpp"
#include "peft/io/json.hpp"
#include "support/gradients.hpp"
#include "support/is_near.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;
TEST_CASE("a prefix goes through ChatGLM's own files, and its tokens stay where they are", "[checkpoint]") {
  for (const char* name : {"chatglm", "chatglm-6b"})
    for (const bool projection : {false, true}) {
      CAPTURE(name, projection);
      const Folder folder;
      for (const ArchitectureCase& c : all_cases())
        if (std::string(c.name) == name) write_case(c, folder);
      auto base = load_model<float>(folder.path());
      PeftModel tuned{base};
      tuned.add_adapter("a", PrefixTuningConfig{.num_virtual_tokens = 3, .prefix_projection = projection}, 5);
      const auto output = [](const PeftModel<Transformer<float>>& model) {
        Pass<float> pass = model.pass();
        const Transformer<float>& transformer = model.model();
        const FrontedRows rows = with_fronts(pass.fronts, *Sequences::of_lengths(std::vector<std::int64_t>{5, 4}), case_ids(9, transformer.config));
        CHECK((*rows.sequences)[1].first_position == 0);
        pass.sequences = rows.sequences;
        const PassScope<float> scope(pass);
        return transformer.logits(transformer.hidden_states(rows.ids)).value();
      };
      const Tensor<float> expected = output(tuned);
      save_prefix_encoder(tuned, "a", folder / "prefix");
      const SafetensorsFile written = SafetensorsFile::open(folder / "prefix/prefix_encoder.safetensors");
      const std::int64_t d = base.config.attention.num_key_value_heads * D, all = 2 * 2 * d, embedded = !projection || std::string(name) == "chatglm" ? all : d;
      CHECK(written.find("transformer.prefix_encoder.embedding.weight")->shape == Shape{3, embedded});
      CHECK(written.tensors().size() == (projection ? 5u : 1u));
      if (projection) CHECK(written.find("transformer.prefix_encoder.trans.0.weight")->shape == Shape{H, embedded});
      if (projection) CHECK(written.find("transformer.prefix_encoder.trans.2.weight")->shape == Shape{all, H});
      auto again = load_model<float>(folder.path());
      PeftModel loaded{again};
      load_adapter(loaded, "a", folder / "prefix", true);
      CHECK(same_bits(output(loaded), expected));
      CHECK(loaded.count_parameters().trainable == tuned.count_parameters().trainable);
      save_adapter(loaded, "a", folder / "peft");  // PEFT's form: what the encoder gives, without it
      PeftModel from_peft{again};
      load_adapter(from_peft, "a", folder / "peft");
      CHECK(same_bits(output(from_peft), expected));
      save_prefix_encoder(from_peft, "a", folder / "plain");
      CHECK(Json::read(folder / "plain/config.json").at("prefix_projection").dump() == "false");

      // The whole model in one directory.
      const SafetensorsFile weights = SafetensorsFile::open(folder / "model.safetensors");
      std::vector<TensorToWrite> both;
      for (const SafetensorsFile* file : {&weights, &written})
        for (const auto& t : file->tensors()) both.push_back({t.name, *t.dtype, t.shape, t.data});
      std::filesystem::create_directories(folder / "whole");
      write_safetensors(folder / "whole/model.safetensors", both);
      std::filesystem::copy_file(folder / "prefix/config.json", folder / "whole/config.json");
      CHECK_THROWS_WITH(load_model<float>(folder / "whole"), Contains("pre_seq_len 3: a prefix is an adapter here"));
      auto whole = load_model<float>(folder / "whole", {.without_prefix = true});
      PeftModel from_whole{whole};
      load_adapter(from_whole, "a", folder / "whole");
      CHECK(same_bits(output(from_whole), expected));

      write_safetensors(folder / "prefix/prefix_encoder.safetensors", {both[0]});
      CHECK_THROWS_WITH(load_adapter(from_whole, "b", folder / "prefix"), Contains("its files have no transformer.prefix_encoder.*"));
      tuned.add_adapter("lora", LoraConfig{.r = 2});
      CHECK_THROWS_WITH(save_prefix_encoder(tuned, "lora", folder / "no"), Contains("\"lora\" is of the method LORA"));
      tuned.add_adapter("wide", PrefixTuningConfig{.num_virtual_tokens = 3, .encoder_hidden_size = 5, .prefix_projection = true});
      CHECK_THROWS_WITH(save_prefix_encoder(tuned, "wide", folder / "no"), Contains("encoder_hidden_size 5"));
      CHECK_FALSE(std::filesystem::exists(folder / "no"));
    }
}

TEST_CASE("T5's head is the embedding unless the file has another, whatever its configuration says", "[checkpoint]") {
  for (const ArchitectureCase& c : all_cases()) {
    if (std::string(c.name) != "t5" && std::string(c.name) != "mt5 with a head of its own") continue;
    const Folder folder;
    write_case(c, folder);
    const bool tied = std::string(c.name) == "t5";
    const auto model = load_model<float>(folder.path());
    CHECK(model.config.head.scale == (tied ? Approx(1 / std::sqrt(8.0)) : Approx(1.0)));
    Json config = Json::read(folder / "config.json");
    config.set("tie_word_embeddings", Json(!tied)), config.set("scale_decoder_outputs", Json(tied));
    write_file(folder / "config.json", config.dump());
    const auto again = load_model<float>(folder.path());
    CHECK(again.config.head.tied == tied);
    CHECK((again.lm_head.weight.identity() == again.embed_tokens.weight.identity()) == tied);
    CHECK(same_bits(case_output_alone(again), case_output_alone(model)));
  }
}

TEST_CASE("LoRA on q and v of a model as large as mT0-large has PEFT's number of parameters", "[checkpoint]") {
  ModelFile file;
  file.architecture = &architecture_of_model_type("mt5");
  file.config = file.architecture->from_json(Json::parse(
      R"({"model_type": "mt5", "vocab_size": 250112, "d_model": 1024, "num_layers": 24, "num_heads": 16, "d_kv": 64, "d_ff": 2816})", "config.json"));
  // Nobody reads the weights, so there are none behind the views.
  file.find = [](const std::string& name) -> std::optional<StoredTensor> {
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    const Shape shape = has("bias")                       ? Shape{32, 16}
                        : has("norm")                     ? Shape{1024}
                        : has("shared") || has("lm_head") ? Shape{250112, 1024}
                        : has(".wi_")                     ? Shape{2816, 1024}
                        : has(".wo.")                     ? Shape{1024, 2816}
                                                          : Shape{1024, 1024};
    static const float nothing = 0;
    return StoredTensor{ops::WeightView(&nothing, has("lm_head") ? DType::bf16 : DType::f32, shape.rows(), shape.columns()), shape, nullptr};
  };
  auto base = build_model<float>(file);
  PeftModel tuned{base};
  tuned.add_adapter("a", LoraConfig{.r = 8});
  CHECK(tuned.trainable_parameters() == "trainable params: 2,359,296 || all params: 1,231,940,608 || trainable%: 0.1915");
}

TEST_CASE("a Conv1D is seen as (out, in), and one site", "[checkpoint]") {
  const Folder folder;
  for (const ArchitectureCase& c : all_cases())
    if (std::string(c.name) == "gpt2") write_case(c, folder);
  auto model = load_model<float>(folder.path());
  const Linear<float>& c_attn = *model.layers[1].self_attn.qkv_proj;
  CHECK(c_attn.path == "transformer.h.1.attn.c_attn");
  CHECK(c_attn.weight.shape() == Shape{3 * H, H});
  const Tensor<double> stored = SafetensorsFile::open(folder / "model.safetensors").read<double>("transformer.h.1.attn.c_attn.weight");
  CHECK(c_attn.weight.dense()(17, 3) == float(stored(3, 17)));
  PeftModel tuned{model};
  tuned.add_adapter("a", LoraConfig{.r = 2});  // PEFT's default for GPT-2
  std::set<std::string> paths;
  tuned.for_each_adapter_parameter("a", [&](const std::string& path, const auto& p) { paths.insert(path + " " + to_string(p.shape())); });
  CHECK(paths == std::set<std::string>{"transformer.h.0.attn.c_attn.lora_A.weight (2, 8)", "transformer.h.0.attn.c_attn.lora_B.weight (24, 2)",
                                       "transformer.h.1.attn.c_attn.lora_A.weight (2, 8)", "transformer.h.1.attn.c_attn.lora_B.weight (24, 2)"});
}

TEST_CASE("a model takes another task, with a head that is drawn where its file has none", "[checkpoint]") {
  const auto folder_of = [](const char* name) {
    auto folder = std::make_unique<Folder>();
    for (const ArchitectureCase& c : all_cases())
      if (std::string(c.name) == name) write_case(c, *folder);
    return folder;
  };
  const auto masked = folder_of("bert with masked words");
  const ModelTask task{.task = TaskType::seq_cls, .num_labels = 4, .seed = 3};
  const auto model = load_model<float>(masked->path(), task);
  const Tensor<float> y = case_output_alone(model);
  CHECK(y.shape() == Shape{2, 4});
  CHECK(same_bits(case_output_alone(load_model<float>(masked->path(), task)), y));
  CHECK_FALSE(same_bits(case_output_alone(load_model<float>(masked->path(), {.task = TaskType::seq_cls, .num_labels = 4, .seed = 4})), y));
  CHECK(same_bits(model.layers[1].mlp.up_proj.weight.dense(), load_model<float>(masked->path()).layers[1].mlp.up_proj.weight.dense()));
  save_model(model, *masked / "out");  // from now on it is a classifier
  CHECK(Json::read(*masked / "out/config.json").at("architectures").dump() == R"(["BertForSequenceClassification"])");
  CHECK_THAT(array(case_output_alone(load_model<float>(*masked / "out"))), is_near<float>(array(y)));
  CHECK_FALSE(Json::read(*masked / "out/config.json").get("problem_type"));

  // A head that is there stays.
  const auto classifier = folder_of("bert that classifies sequences");
  CHECK(same_bits(case_output_alone(load_model<float>(classifier->path(), {.task = TaskType::seq_cls, .num_labels = 3})),
                  case_output_alone(load_model<float>(classifier->path()))));
  CHECK_THROWS_WITH(load_model<float>(classifier->path(), {.task = TaskType::seq_cls, .num_labels = 5}),
                    Contains("classifier.weight is (3, 8), the configuration wants (5, 8)"));

  const auto decoder = folder_of("gpt2");
  const ModelTask regression{.task = TaskType::seq_cls, .num_labels = 1, .problem = ProblemType::regression};
  CHECK(load_model<float>(decoder->path(), regression).config.head.problem == ProblemType::regression);
  CHECK(case_output_alone(load_model<float>(decoder->path(), regression)).shape() == Shape{2, 1});
  CHECK_THROWS_WITH(load_model<float>(decoder->path(), {.task = TaskType::masked_lm}), Contains("\"gpt2\" for the task masked_lm"));
  CHECK_THROWS_WITH(load_model<float>(masked->path(), {.task = TaskType::causal_lm}), Contains("is not supported for an encoder"));
  write_file(*decoder / "m.gguf", "");
  CHECK_THROWS_WITH(open_model(*decoder / "m.gguf", regression), Contains("the task seq_cls"));
}

TEST_CASE("files of old: no prefix, gamma and beta", "[checkpoint]") {
  for (const ArchitectureCase& c : all_cases()) {
    const bool gpt2 = std::string(c.name) == "gpt2";
    if (!gpt2 && std::string(c.name) != "bert with masked words") continue;
    const Folder folder;
    write_case(c, folder);
    const auto model = load_model<float>(folder.path());
    const SafetensorsFile file = SafetensorsFile::open(folder / "model.safetensors");
    std::vector<TensorToWrite> renamed;
    for (const auto& t : file.tensors()) {
      std::string name = t.name;
      if (gpt2) name = name.substr(std::string("transformer.").size());
      if (const std::size_t at = name.find("LayerNorm.weight"); at != std::string::npos) name.replace(at, 16, "LayerNorm.gamma");
      if (const std::size_t at = name.find("LayerNorm.bias"); at != std::string::npos) name.replace(at, 14, "LayerNorm.beta");
      renamed.push_back({name, *t.dtype, t.shape, t.data});
    }
    const Folder old;
    write_file(old / "config.json", c.config);
    write_safetensors(old / "model.safetensors", renamed);
    CHECK(same_bits(case_output_alone(load_model<float>(old.path())), case_output_alone(model)));
  }
}

TEST_CASE("options that are not done are refused before any weight is looked for", "[checkpoint]") {
  const Folder folder;  // no weights here
  const auto reason = [&](const char* type, const std::string& keys) {
    write_file(folder / "config.json", R"({"model_type": ")" + std::string(type) + "\", " + keys + "}");
    return format_error(folder / "config.json", [&] { load_model<float>(folder.path()); }).reason();
  };
  CHECK_THAT(reason("mistral", llama_keys + R"(, "num_local_experts": 8)"), Contains("num_local_experts 8 is not supported"));
  CHECK_THAT(reason("qwen2", llama_keys + R"(, "layer_types": ["full_attention", "linear_attention"])"),
             Contains("layer_types \"linear_attention\" is not supported"));
  CHECK_THAT(reason("qwen2", llama_keys + R"(, "layer_types": ["full_attention"])"), Contains("layer_types has 1 entries for 2 layers"));
  CHECK_THAT(reason("qwen3", llama_keys + R"(, "partial_rotary_factor": 0.5)"), Contains("partial_rotary_factor 0.5 is not supported"));
  CHECK_THAT(reason("glm", llama_keys + R"(, "partial_rotary_factor": 0.2)"), Contains("partial_rotary_factor 0.2"));
  CHECK_THAT(reason("phi3", llama_keys + R"(, "rope_scaling": {"type": "longrope"})"), Contains("rope_type \"longrope\" is not supported"));
  CHECK_THAT(reason("chatglm", R"("inner_hidden_size": 6, "position_encoding_2d": false)"), Contains("position_encoding_2d false is not supported"));
  CHECK_THAT(reason("chatglm", R"("inner_hidden_size": 6, "vocab_size": 11, "hidden_size": 8, "num_layers": 2, "num_attention_heads": 2)"),
             Contains("gmask_token_id is 150001, where the file says nothing, of a vocabulary of 11"));
  CHECK_THAT(reason("chatglm", chatglm_6b_keys + R"(, "quantization_bit": 4)"), Contains("quantization_bit 4 is not supported"));
  CHECK_THAT(reason("chatglm", R"("padded_vocab_size": 11, "hidden_size": 8)"), Contains("multi_query_attention false"));
  CHECK_THAT(reason("chatglm", chatglm_keys + R"(, "rope_ratio": 50)"), Contains("rope_ratio 50 is not supported"));
  CHECK_THAT(reason("chatglm", chatglm_keys + R"(, "pre_seq_len": 4)"), Contains("pre_seq_len 4: a prefix is an adapter here"));
  CHECK_THAT(reason("chatglm", chatglm_keys + R"(, "architectures": ["ChatGLMForSequenceClassification"])"), Contains("\"ChatGLMForSequenceClassification\""));
  CHECK_THAT(reason("t5", t5_keys + R"(, "architectures": ["T5EncoderModel"])"), Contains("is not supported for an encoder-decoder"));
  CHECK_THAT(reason("t5", t5_keys + R"(, "feed_forward_proj": "gated-mish")"), Contains("feed_forward_proj \"mish\" is not supported"));
  CHECK_THAT(reason("gemma", llama_keys + R"(, "use_bidirectional_attention": true)"), Contains("use_bidirectional_attention true is not supported"));
  CHECK_THAT(reason("gemma2", llama_keys + R"(, "layer_types": ["sliding_attention"])"), Contains("layer_types has 1 entries for 2 layers"));
  CHECK_THAT(reason("gemma2", llama_keys + R"(, "attn_logit_softcapping": -50.0)"), Contains("attn_logit_softcapping is -50"));
  CHECK_THAT(reason("gemma2", llama_keys + R"(, "query_pre_attn_scalar": 0)"), Contains("query_pre_attn_scalar is 0"));
  CHECK_THAT(reason("gpt2", gpt2_keys + R"(, "scale_attn_by_inverse_layer_idx": true)"), Contains("scale_attn_by_inverse_layer_idx true"));
  CHECK_THAT(reason("gpt2", gpt2_keys + R"(, "architectures": ["GPT2DoubleHeadsModel2"])"), Contains("\"GPT2DoubleHeadsModel2\" is not supported"));
  CHECK_THAT(reason("bert", bert_keys + R"(, "is_decoder": true)"), Contains("is_decoder true is not supported"));
  CHECK_THAT(reason("bert", bert_keys + R"(, "position_embedding_type": "relative_key")"), Contains("position_embedding_type \"relative_key\""));
  CHECK_THAT(reason("bert", bert_keys + R"(, "architectures": ["BertForSequenceClassification"], "problem_type": "ranking")"),
             Contains("problem_type \"ranking\""));
}

TEST_CASE("Gemma's norms in GGUF are one larger, and Qwen's rows are not permuted", "[checkpoint]") {
  for (const std::string type : {"gemma", "qwen2", "qwen3"}) {
    CAPTURE(type);
    const Folder folder, other;
    for (const ArchitectureCase& c : all_cases())
      if (c.name == type) write_case(c, folder);
    const auto model = load_model<float>(folder.path());
    GgufWriter w;
    const auto u = [](std::int64_t n) { return std::uint32_t(n); };
    w.add("general.architecture", type).add(type + ".context_length", 64u).add(type + ".embedding_length", u(H)).add(type + ".block_count", 2u);
    w.add(type + ".feed_forward_length", u(I)).add(type + ".attention.head_count", 2u).add(type + ".attention.head_count_kv", 1u);
    w.add(type + ".attention.key_length", u(D)).add(type + ".attention.value_length", u(D));
    w.add(type + ".attention.layer_norm_rms_epsilon", 1e-6f);
    const Architecture& architecture = architecture_of_model_type(type);
    for_each_parameter(model, [&](const std::string& path, const Parameter<float>& p) {
      if (model.config.head.tied && path == "lm_head.weight") return;
      const std::size_t dot = path.rfind('.');
      const FoundName name = find_name(architecture, path.substr(0, dot));
      Tensor<float> values = p.dense();
      if (type == "gemma" && path.find("norm") != std::string::npos)
        for (float& value : values.span()) value += 1;
      const std::string in_gguf = tensor_name(name.name->gguf, name.layer) + path.substr(dot);
      if (values.rank() == 1)
        w.tensor(in_gguf, {values.size()}, 0, as_stored(values, DType::f32));
      else
        w.tensor(in_gguf, {values.cols(), values.rows()}, 0, as_stored(values, DType::f32));
    });
    write_file(other / "m.gguf", w.file());
    const auto loaded = load_model<float>(other / "m.gguf");
    CHECK_THAT(array(case_output_alone(loaded)), is_near<float>(array(case_output_alone(model)), 10));
    save_model(loaded, other / "out");
    CHECK_THAT(array(case_output_alone(load_model<float>(other / "out"))), is_near<float>(array(case_output_alone(model)), 10));
  }
}
