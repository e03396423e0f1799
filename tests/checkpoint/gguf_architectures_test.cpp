// SPDX-License-Identifier: Apache-2.0
// What GGUF files of Gemma 2 and BERT say beside the weights.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "peft/checkpoint/load.hpp"
#include "peft/checkpoint/save_gguf.hpp"
#include "peft/io/gguf.hpp"
#include "peft/tokenizer/tokenizer.hpp"
#include "peft/train/embed.hpp"
#include "support/files.hpp"
#include "support/is_near.hpp"
#include "support/tiny_bert_files.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {

Transformer<float> gemma2(const std::string& keys) {
  return build_model<float>(fresh_model(
      R"({"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "vocab_size": 12, "hidden_size": 8, "num_attention_heads": 2,
          "num_key_value_heads": 1, "head_dim": 6, "intermediate_size": 10, "max_position_embeddings": 64, "initializer_range": 0.4, )" +
          keys + "}",
      3));
}
const std::string usual = R"("num_hidden_layers": 3, "query_pre_attn_scalar": 6, "sliding_window": 5, "attn_logit_softcapping": 40.0)";

// Without a head the vectors are all that there is.
Tensor<float> vectors(const std::string& model, const std::vector<std::string>& texts) { return embed(load_model<float>(model), load_tokenizer(model), texts); }

}  // namespace

TEST_CASE("a GGUF file of Gemma 2 has its caps, its window and four norms a block", "[checkpoint]") {
  const Folder folder;
  save_gguf_model(gemma2(usual + R"(, "final_logit_softcapping": 20.0)"), folder / "a.gguf");
  const GgufFile file = GgufFile::open(folder / "a.gguf");
  CHECK(file.find("general.architecture")->string() == "gemma2");
  CHECK(file.find("gemma2.attn_logit_softcapping")->number() == 40);
  CHECK(file.find("gemma2.final_logit_softcapping")->number() == 20);
  CHECK(file.find("gemma2.attention.sliding_window")->integer() == 5);
  CHECK(file.find("gemma2.attention.key_length")->integer() == 6);
  for (const std::string norm : {"attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"})
    CHECK(file.find_tensor("blk.2." + norm + ".weight")->shape == Shape{8});
  const auto loaded = load_model<float>(folder / "a.gguf").config;
  CHECK(loaded.attention.softcap == 40);
  CHECK(loaded.head.softcap == 20);
  CHECK(loaded.attention.scale == Approx(1 / std::sqrt(6.0)));
  CHECK(loaded.attention.window(0) == 5);
  CHECK(loaded.attention.window(1) == 0);
  CHECK(loaded.attention.window(2) == 5);

  // With 46 layers the scale is that of the 27 billion, whatever the head's width.
  const std::string deep = R"("num_hidden_layers": 46, "sliding_window": 5, "query_pre_attn_scalar": )";
  save_gguf_model(gemma2(deep + "4"), folder / "deep.gguf");
  CHECK(load_model<float>(folder / "deep.gguf").config.attention.scale == Approx(0.5));
  CHECK_THROWS_WITH(save_gguf_model(gemma2(deep + "6"), folder / "b.gguf"), Contains("a scale of attention of its own"));
  CHECK_THROWS_WITH(save_gguf_model(gemma2(R"("num_hidden_layers": 3, "query_pre_attn_scalar": 7)"), folder / "b.gguf"), Contains("a scale of attention"));
  CHECK_THROWS_WITH(save_gguf_model(gemma2(usual + R"(, "final_logit_softcapping": null)"), folder / "b.gguf"), Contains("softcapping of null"));
  CHECK_THROWS_WITH(save_gguf_model(gemma2(usual + R"(, "tie_word_embeddings": false)"), folder / "b.gguf"), Contains("a head of its own"));
  CHECK_THROWS_WITH(save_gguf_model(gemma2(usual + R"(, "layer_types": ["full_attention", "sliding_attention", "full_attention"])"), folder / "b.gguf"),
                    Contains("sliding_window 0 in layer 0"));
}

TEST_CASE("a BERT goes through a GGUF file with its tokenizer: the same ids and vectors", "[checkpoint]") {
  const Folder folder;
  write_tiny_bert(folder / "bert");
  std::filesystem::create_directories(folder / "bert/pool");
  write_file(folder / "bert/modules.json", R"([{"path": "", "type": "st.models.Transformer"}, {"path": "pool", "type": "st.models.Pooling"}])");
  write_file(folder / "bert/pool/config.json", R"({"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true})");
  const auto model = load_model<float>(folder / "bert");
  const std::string exact = folder / "f32.gguf";
  save_gguf_model(model, exact, DType::f32, folder / "bert");

  const GgufFile file = GgufFile::open(exact);
  CHECK(file.find("general.architecture")->string() == "bert");
  CHECK_FALSE(file.find("bert.attention.causal")->boolean());
  CHECK(file.find("bert.attention.layer_norm_epsilon")->number() == Approx(1e-12));
  CHECK(file.find("bert.pooling_type")->integer() == 1);
  CHECK(file.find("tokenizer.ggml.token_type_count")->integer() == 2);
  CHECK(file.find("tokenizer.ggml.model")->string() == "bert");
  CHECK(file.find("tokenizer.ggml.seperator_token_id")->integer() == 3);
  const auto tokens = file.find("tokenizer.ggml.tokens")->strings();
  REQUIRE(tokens.size() == tiny_bert_vocabulary().size());
  CHECK(tokens[2] == "[CLS]");
  CHECK(tokens[5] ==
        "\xE2\x96\x81"
        "film");
  CHECK(tokens[12] == "ly");
  CHECK(file.find("tokenizer.ggml.token_type")->integers()[1] == 2);
  for (const std::string name : {"token_types", "position_embd", "token_embd_norm", "blk.1.attn_output_norm", "blk.1.layer_output_norm", "blk.0.ffn_up"})
    CHECK(file.find_tensor(name + ".weight") != nullptr);
  CHECK(std::ranges::none_of(file.tensors(), [](const GgufTensor& t) { return t.name.find("pooler") != std::string::npos; }));

  const std::vector<std::string> texts = {"The plot was good.", "a FILMS badly ünknown", "", "Anna lives in Paris. great, dull"};
  const Tokenizer from = load_tokenizer(folder / "bert"), to = load_tokenizer(exact);
  for (const std::string& text : texts) {
    CHECK(to.encode(text) == from.encode(text));
    CHECK(to.encode_pair(text, texts[0]).type_ids == from.encode_pair(text, texts[0]).type_ids);
  }
  CHECK(to.pad_id() == 0);
  CHECK(to.unk_id() == 1);
  const Tensor<float> wanted = vectors(folder / "bert", texts);
  CHECK(same_bits(vectors(exact, texts), wanted));
  CHECK(load_model<float>(exact).config.head.task == TaskType::feature_extraction);

  save_gguf_model(model, folder / "q8_0.gguf", DType::q8_0, exact);  // rows of 16 are no whole blocks: F16. The tokenizer of a GGUF file
  CHECK(GgufFile::open(folder / "q8_0.gguf").find_tensor("position_embd.weight")->dtype == DType::f32);
  CHECK(GgufFile::open(folder / "q8_0.gguf").find("bert.pooling_type")->integer() == 1);
  CHECK_THAT(array(vectors(folder / "q8_0.gguf", texts)), IsNear(array(wanted), 2e-3));

  CHECK_THROWS_WITH(open_model(exact, {.task = TaskType::seq_cls}), Contains("of an encoder, has no head"));
  CHECK_THROWS_WITH(open_model(exact, {.task = TaskType::causal_lm}), Contains("the task causal_lm"));
  CHECK(open_model(exact, {.task = TaskType::feature_extraction}).config.head.task == TaskType::feature_extraction);
}

TEST_CASE("what GGUF's vocabulary of BERT cannot say is refused", "[checkpoint]") {
  const Folder folder;
  write_tiny_bert(folder / "bert");
  const auto model = load_model<float>(folder / "bert");
  const std::string whole = tiny_bert_tokenizer();
  const auto refused = [&](const std::string& was, const std::string& is, const std::string& why) {
    std::string changed = whole;
    REQUIRE(changed.find(was) != std::string::npos);
    write_file(folder / "bert/tokenizer.json", changed.replace(changed.find(was), was.size(), is));
    CHECK_THROWS_WITH(save_gguf_model(model, folder / "a.gguf", DType::f32, folder / "bert"), Contains(why));
    CHECK_FALSE(std::filesystem::exists(folder / "a.gguf"));
  };
  refused(R"("lowercase":true)", R"("lowercase":false)", "that is not lowercase");
  refused(R"("paris")", R"("Paris")", "capitals in the vocabulary");
  refused(R"("handle_chinese_chars":true)", R"("handle_chinese_chars":false)", "handle_chinese_chars false");
  refused(R"("BertPreTokenizer")", R"("WhitespaceSplit")", "a pre_tokenizer other than");
  refused(R"("##s":11)", R"("##s":31)", "a token with the id 31; the model's vocabulary has");
}
