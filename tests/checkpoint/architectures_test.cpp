// SPDX-License-Identifier: Apache-2.0
// What holds for every architecture, from a file of two layers each.
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

TEST_CASE("gradients of every architecture", "[checkpoint][gradcheck]") {
  for (const ArchitectureCase& c : all_cases()) {
    CAPTURE(c.name);
    const Folder folder;
    write_case(c, folder);
    auto model = load_model<double>(folder.path());
    std::vector<Parameter<double>> parameters;
    for_each_parameter(model, [&](const std::string& path, Parameter<double>& p) {
      if (model.config.head.task == TaskType::feature_extraction && path.starts_with("pooler")) return;  // hidden states do not ask for it
      p.set_requires_grad(true);
      if (std::ranges::none_of(parameters, [&](const auto& other) { return other.identity() == p.identity(); })) parameters.push_back(p);
    });
    const Pass<double> pass = pass_over<double>({5, 4});
    const PassScope<double> scope(pass);
    const auto result = gradcheck([&](const Variables&) { return case_loss(model); }, {}, parameters);
    INFO(result.where);
    CHECK(result);
  }
}

TEST_CASE("a saved model of any architecture has the tensors that its file had, and computes the same", "[checkpoint]") {
  for (const ArchitectureCase& c : all_cases()) {
    CAPTURE(c.name);
    const Folder folder;
    write_case(c, folder);
    const auto model = load_model<float>(folder.path());
    save_model(model, folder / "out");
    const auto names = [](const std::string& path) {
      std::map<std::string, std::string> all;
      const SafetensorsFile file = SafetensorsFile::open(path);
      for (const auto& t : file.tensors()) all[t.name] = to_string(t.shape);
      return all;
    };
    CHECK(names(folder / "out/model.safetensors") == names(folder / "model.safetensors"));
    CHECK(Json::read(folder / "out/config.json").at("architectures").dump() == Json::read(folder / "config.json").at("architectures").dump());
    CHECK_THAT(array(case_output_alone(load_model<float>(folder / "out"))), is_near<float>(array(case_output_alone(model))));
  }
}

TEST_CASE("LoRA on every Linear of any architecture: its gradient, and merged it computes the same", "[checkpoint]") {
  for (const ArchitectureCase& c : all_cases()) {
    CAPTURE(c.name);
    const Folder folder;
    write_case(c, folder);
    auto base = load_model<float>(folder.path());
    PeftModel tuned{base};
    tuned.add_adapter("a", LoraConfig{.r = 2, .target_modules = "all-linear", .init_lora_weights = false});
    const Pass<float> pass = tuned.pass(pass_over<float>({5, 4}).sequences);
    const PassScope<float> scope(pass);
    {
      Tape tape;
      const Variable<float> loss = case_loss(tuned.model());
      tape.backward(loss, Tensor<float>(loss.shape(), 1.0f));
      std::int64_t sites = 0;
      tuned.for_each_adapter_parameter("a", [&](const std::string& path, const Parameter<float>& p) {
        CAPTURE(path);
        CHECK(path.find("score") == std::string::npos);  // the head
        if (!path.starts_with("pooler")) CHECK(p.grad());
        sites++;
      });
      CHECK(sites >= 2 * 2 * 4);
    }
    const Tensor<float> with = case_output(tuned.model());
    const auto merged = tuned.merge_and_unload();
    CHECK_THAT(array(case_output_alone(merged)), is_near<float>(array(with), 10));
    save_model(merged, folder / "out");
    CHECK_THAT(array(case_output_alone(load_model<float>(folder / "out"))), is_near<float>(array(with), 10));
  }
}

TEST_CASE("bottleneck adapters on every architecture: nothing at first, gradients in every block, and the same from their file", "[checkpoint]") {
  for (const ArchitectureCase& c : all_cases())
    for (const char* variant : {"houlsby", "pfeiffer", "parallel"}) {
      CAPTURE(c.name, variant);
      const Folder folder;
      write_case(c, folder);
      auto base = load_model<float>(folder.path());
      PeftModel tuned{base}, loaded{base};
      const auto output = [](const PeftModel<Transformer<float>>& model) {
        const Pass<float> pass = model.pass(pass_over<float>({5, 4}).sequences);
        const PassScope<float> scope(pass);
        return case_output(model.model());
      };
      tuned.add_adapter("a", BottleneckConfig{.variant = variant, .bottleneck_size = 3, .non_linearity = "gelu"});
      CHECK(same_bits(output(tuned), case_output_alone(base)));
      std::size_t tensors = 0;
      tuned.for_each_adapter_parameter("a", [&](const std::string&, Parameter<float>& p) { p.assign(random_normal<float>(p.shape(), ++tensors, 0.5)); });
      const std::size_t blocks = base.layers.size() + base.encoder_layers.size();
      CHECK(tensors == 4 * blocks * (variant == std::string("houlsby") ? 2 : 1));
      {
        const Pass<float> pass = tuned.pass(pass_over<float>({5, 4}).sequences);
        const PassScope<float> scope(pass);
        Tape tape;
        const Variable<float> loss = case_loss(tuned.model());
        tape.backward(loss, Tensor<float>(loss.shape(), 1.0f));
      }
      tuned.for_each_adapter_parameter("a", [&](const std::string& path, const Parameter<float>& p) {
        CAPTURE(path);
        CHECK(p.grad());
      });
      CHECK_FALSE(same_bits(output(tuned), case_output_alone(base)));
      save_adapter(tuned, "a", folder / "adapter");
      load_adapter(loaded, "a", folder / "adapter");
      CHECK(same_bits(output(loaded), output(tuned)));
    }
}

TEST_CASE("LoRA goes through a GGUF file on every architecture that GGUF has, A as (rank, in) and B as (out, rank)", "[checkpoint]") {
  std::int64_t written = 0;
  for (const ArchitectureCase& c : all_cases()) {
    CAPTURE(c.name);
    const Folder folder;
    write_case(c, folder);
    auto base = load_model<float>(folder.path());
    PeftModel tuned{base}, loaded{base};
    tuned.add_adapter("a", LoraConfig{.r = 2, .target_modules = "all-linear", .init_lora_weights = false});
    try {
      save_gguf_adapter(tuned, "a", folder / "a.gguf");
    } catch (const NotSupported&) {
      continue;
    }
    written++;
    load_adapter(loaded, "a", folder / "a.gguf");
    const auto output = [](const PeftModel<Transformer<float>>& model) {
      const Pass<float> pass = model.pass(pass_over<float>({5, 4}).sequences);
      const PassScope<float> scope(pass);
      return case_output(model.model());
    };
    CHECK(same_bits(output(loaded), output(tuned)));
    CHECK_FALSE(same_bits(output(loaded), case_output_alone(base)));
    const GgufFile file = GgufFile::open(folder / "a.gguf");
    const std::string down = "blk.1.ffn_down.weight.";
    CHECK(file.find_tensor(down + "lora_a")->shape == Shape{2, I});
    CHECK(file.find_tensor(down + "lora_b")->shape == Shape{H, 2});
  }
  CHECK(written == 10);  // mistral, qwen2 twice, qwen3, gemma, gemma2, gpt2, llama, gpt2 and bert with other heads
}

TEST_CASE("a model of every architecture that GGUF has goes through a GGUF file; what GGUF cannot say is refused", "[checkpoint]") {
  std::vector<std::string> written;
  for (const ArchitectureCase& c : all_cases()) {
    CAPTURE(c.name);
    const Folder folder;
    write_case(c, folder);
    const auto model = load_model<float>(folder.path());
    const auto double_model = load_model<double>(folder.path());
    try {
      save_gguf_model(model, folder / "a.gguf");
    } catch (const NotSupported&) {
      CHECK_FALSE(std::filesystem::exists(folder / "a.gguf"));
      continue;
    }
    written.push_back(c.name);
    save_gguf_model(double_model, folder / "b.gguf");
    CHECK(read_file(folder / "b.gguf") == read_file(folder / "a.gguf"));
    const auto loaded = load_model<float>(folder / "a.gguf");
    CHECK(loaded.config.model_type == model.config.model_type);
    CHECK(loaded.config.bos_token_ids == model.config.bos_token_ids);
    CHECK(loaded.config.eos_token_ids == model.config.eos_token_ids);
    CHECK(loaded.config.pad_token_id == model.config.pad_token_id);
    CHECK(loaded.config.max_position_embeddings == model.config.max_position_embeddings);
    CHECK_THAT(array(case_output_alone(loaded)), is_near<float>(array(case_output_alone(model)), 10));
    save_gguf_model(loaded, folder / "again.gguf", DType::f32, folder / "a.gguf");  // from a file that lies in GGUF's order
    const auto again = GgufFile::open(folder / "again.gguf"), first = GgufFile::open(folder / "a.gguf");
    REQUIRE(again.tensors().size() == first.tensors().size());
    for (const GgufTensor& t : first.tensors()) CHECK(std::memcmp(again.find_tensor(t.name)->data, t.data, std::size_t(t.bytes)) == 0);
  }
  CHECK(written == std::vector<std::string>{"qwen2", "qwen3", "gemma", "gemma2", "gpt2", "bert alone"});
}

TEST_CASE("decoding with a cache gives what the whole forward gives, to the bit, in every decoder", "[checkpoint]") {
  for (const ArchitectureCase& c : all_cases()) {
    CAPTURE(c.name);
    const Folder folder;
    write_case(c, folder);
    const auto model = load_model<float>(folder.path());
    const AttentionConfig& a = model.config.attention;
    if (!a.causal) continue;
    const auto ids = case_ids(12, model.config);
    Pass<float> source;
    if (!model.encoder_layers.empty()) model.encode(source, Sequences::of_lengths(std::vector<std::int64_t>{7}), case_ids(7));
    const Tensor<float> whole = hidden_states(model, ids, pass_over<float>({12}, source));
    KvCache<float> cache(2, a.num_key_value_heads * a.head_dim, 2);
    if (source.source) {
      const auto known = std::make_shared<KvCache<float>>(2, a.num_key_value_heads * a.head_dim);
      model.remember_source(source, std::span(known.get(), 1));
      cache.source = known;
    }
    std::int64_t row = 0;
    for (const std::int64_t n : {5, 1, 1, 4, 1}) {
      Pass<float> pass = source;
      Sequence s;
      s.end = n, s.first_position = row;
      pass.sequences = std::make_shared<Sequences>(std::vector<Sequence, PoolAllocator<Sequence>>{s});
      pass.caches = {&cache};
      CHECK(same_bits(hidden_states(model, std::span(ids).subspan(std::size_t(row), std::size_t(n)), pass), whole.row_range(row, row + n)));
      row += n;
    }
  }
}

TEST_CASE("each sequence of a batch may have its own adapter, in front of a head that reads one row of it", "[checkpoint]") {
  const Folder folder;
  for (const ArchitectureCase& c : all_cases())
    if (std::string(c.name) == "roberta that classifies sequences") write_case(c, folder);
  auto base = load_model<float>(folder.path());
  PeftModel tuned{base};
  tuned.add_adapter("a", LoraConfig{.r = 2, .target_modules = "all-linear", .init_lora_weights = false}, 1);
  tuned.add_adapter("b", LoraConfig{.r = 2, .target_modules = "all-linear", .init_lora_weights = false}, 2);
  const auto alone = [&](const char* name) {
    tuned.set_adapter(name);
    const Pass<float> pass = tuned.pass(pass_over<float>({5, 4}).sequences);
    const PassScope<float> scope(pass);
    return case_output(tuned.model());
  };
  const Tensor<float> a = alone("a"), b = alone("b");
  Pass<float> pass;
  std::vector<Sequence, PoolAllocator<Sequence>> sequences(2);
  sequences[0].end = sequences[1].begin = 5, sequences[1].end = 9, sequences[1].id = 1, sequences[1].active = 1;
  pass.sequences = std::make_shared<Sequences>(std::move(sequences));
  pass.lists = std::make_shared<const std::vector<Active>>(std::vector<Active>{{tuned.entry("a").id}, {tuned.entry("b").id}});
  const PassScope<float> scope(pass);
  const Tensor<float> both = case_output(tuned.model());
  CHECK_THAT(array(both.row_range(0, 1)), is_near<float>(array(a.row_range(0, 1))));
  CHECK_THAT(array(both.row_range(1, 2)), is_near<float>(array(b.row_range(1, 2))));
}
