// SPDX-License-Identifier: Apache-2.0
#include <peft/checkpoint/save_gguf.hpp>
#include <peft/ops/quantized.hpp>

#include <cstring>

#include "model_run.hpp"
#include "tokenizer_run.hpp"

namespace parity {

namespace {

// A golden file of padded ids and logits without a mask: every row counts.
struct PlainBatch {
  std::vector<std::int32_t> ids;
  std::shared_ptr<const peft::Sequences> sequences;
  explicit PlainBatch(const peft::Tensor<std::int32_t>& all) : ids(all.span().begin(), all.span().end()) {
    const std::vector<std::int64_t> lengths(std::size_t(all.rows()), all.cols());
    sequences = peft::Sequences::of_lengths(lengths);
  }
};

void check_model(Report& report, const std::string& name, const fs::path& path) {
  const fs::path folder = path.parent_path(), stem = path.stem();
  const auto gguf = peft::GgufFile::open(path.string());
  const auto* architecture = gguf.find("general.architecture");
  bool supported = false;
  for (const auto& a : peft::architectures()) supported = supported || (a.gguf && architecture && architecture->string() == a.gguf);
  if (!supported) return report.skip(name + "/logits", "general.architecture " + (architecture ? architecture->string() : std::string("?")));
  const auto golden = peft::SafetensorsFile::open((folder / (stem.string() + ".logits.safetensors")).string());
  report.check(name + "/logits", [&] {
    const auto model = peft::load_model<float>(path.string());
    if (golden.find("attention_mask")) {
      const GoldenBatch batch(golden);
      return compare_rows(batch, run_logits(model, batch), golden.read<float>("logits"), 1e-4, 1e-5);
    }
    const PlainBatch batch(golden.read<std::int32_t>("input_ids"));
    peft::Pass<float> pass;
    pass.sequences = batch.sequences;
    const peft::PassScope<float> scope(pass);
    return compare(model.logits(model.hidden_states(batch.ids)).value(), golden.read<float>("logits"), 1e-4, 1e-5);
  });
  const fs::path expected_path = folder / (stem.string() + ".expected.safetensors");
  if (!fs::exists(expected_path)) return;
  report.check(name + "/values", [&] {
    const auto expected = peft::SafetensorsFile::open(expected_path.string());
    Difference all;
    for (const auto& t : expected.tensors()) {
      const auto* stored = gguf.find_tensor(t.name);
      if (!stored) {
        all.fail(t.name + " is missing");
        continue;
      }
      peft::Tensor<float> values(stored->shape);
      for (std::int64_t r = 0; r < values.rows(); r++)
        peft::ops::widen<float>(values.data() + r * values.cols(), stored->data + peft::bytes_of(stored->dtype, r * values.cols()), stored->dtype, 0,
                                values.cols());
      merge(all, compare(values, expected.read<float>(t.name), 0, 0), t.name);
    }
    return all;
  });
}

// The Hugging Face model that a file was made of (index.json), written as GGUF with matrices of the same type: the reference's tensors, byte for byte,
// and the logits of the file.
void check_written(Report& report, const std::string& name, const fs::path& path, const fs::path& root) {
  const fs::path index_path = path.parent_path() / "index.json";
  if (!fs::exists(index_path)) return;
  const auto index = peft::Json::read(index_path.string());
  const auto* entry = index.get(path.filename().string());
  if (!entry || !entry->get("types") || !fs::exists(root / entry->at("base").string() / "config.json")) return;
  const auto wanted = peft::GgufFile::open(path.string());
  const auto* table = wanted.find_tensor("token_embd.weight");
  report.check(name + "/written", [&] {
    Difference d;
    const TemporaryFolder out;
    const std::string file = (out.path / "model.gguf").string();
    peft::save_gguf_model(peft::load_model<float>((root / entry->at("base").string()).string()), file, table->dtype, path.string());
    const auto found = peft::GgufFile::open(file);
    if (found.tensors().size() != wanted.tensors().size()) d.fail("another number of tensors");
    for (const auto& t : wanted.tensors()) {
      const auto* mine = found.find_tensor(t.name);
      if (!mine || !(mine->shape == t.shape) || mine->dtype != t.dtype || std::memcmp(mine->data, t.data, std::size_t(t.bytes)) != 0)
        d.fail(t.name + " is another one");
    }
    for (const auto& value : wanted.metadata())
      if (!found.find(value.key()) || found.find(value.key())->storage() != value.storage()) d.fail("the key " + value.key() + " is another one");
    const auto before = peft::load_model<float>(path.string()), after = peft::load_model<float>(file);
    const PlainBatch batch(peft::Tensor<std::int32_t>({2, 7}, 3));
    const auto logits = [&](const auto& model) {
      peft::Pass<float> pass;
      pass.sequences = batch.sequences;
      const peft::PassScope<float> scope(pass);
      return model.logits(model.hidden_states(batch.ids)).value();
    };
    merge(d, compare(logits(after), logits(before), 0, 0), "logits");
    return d;
  });
}

// An adapter on its base (index.json) gives the logits of PEFT's; written again it is the same adapter, and so is PEFT's, written.
void check_adapter(Report& report, const std::string& name, const fs::path& path, const fs::path& root) {
  const fs::path index_path = path.parent_path() / "index.json";
  if (!fs::exists(index_path)) return report.skip(name + "/logits", "no index.json says what it belongs to");
  const auto index = peft::Json::read(index_path.string());
  const auto* entry = index.get(path.filename().string());
  if (!entry || !entry->get("adapter")) return report.skip(name + "/logits", "index.json does not say what it belongs to");
  const fs::path base_path = root / entry->at("base").string(), folder = root / entry->at("adapter").string();
  const auto golden = peft::SafetensorsFile::open((root / entry->at("golden").string()).string());
  auto base = peft::load_model<float>(base_path.string());
  const GoldenBatch batch(golden, base.config);
  const auto compare_logits = [&](const std::string& file) {
    peft::PeftModel tuned{base};
    peft::load_adapter(tuned, "golden", file);
    return compare_rows(batch, run_logits(tuned, batch), golden.read<float>("logits"), 1e-4, 1e-5);
  };
  report.check(name + "/logits", [&] { return compare_logits(path.string()); });
  for (const fs::path& from : {path, folder})
    report.check(name + (from == path ? "/saved" : "/exported"), [&] {
      const TemporaryFolder out;
      const std::string file = (out.path / "adapter.gguf").string();
      peft::PeftModel tuned{base};
      peft::load_adapter(tuned, "golden", from.string());
      peft::save_gguf_adapter(tuned, "golden", file);
      Difference d = compare_logits(file);
      const auto wanted = peft::GgufFile::open(path.string()), found = peft::GgufFile::open(file);
      if (wanted.tensors().size() != found.tensors().size()) d.fail("another number of tensors");
      for (const auto& t : wanted.tensors()) {
        const auto* mine = found.find_tensor(t.name);
        if (!mine || !(mine->shape == t.shape) || mine->bytes != t.bytes || std::memcmp(mine->data, t.data, std::size_t(t.bytes)) != 0)
          d.fail(t.name + " is another one");
      }
      return d;
    });
}

void check_blocks(Report& report, const fs::path& folder) {
  const auto file = peft::SafetensorsFile::open((folder / "blocks.safetensors").string());
  const auto type_named = [](std::string_view text) -> std::optional<peft::DType> {
    for (std::size_t i = 0; i < peft::dtype_infos.size(); i++)
      if (peft::dtype_infos[i].name == text) return peft::DType(i);
    return std::nullopt;
  };
  for (const auto& t : file.tensors()) {
    if (!t.name.ends_with(".blocks")) continue;
    const std::string type_name = t.name.substr(0, t.name.size() - 7), name = "gguf/blocks/" + type_name;
    const auto type = type_named(type_name);
    if (!type) {
      report.skip(name, "the type " + type_name);
      continue;
    }
    report.check(name, [&] {
      const auto wanted = file.read<float>(type_name + ".values");
      peft::Tensor<float> found(wanted.shape());
      peft::ops::widen<float>(found.data(), t.data, *type, 0, found.size());
      return compare(found, wanted, 0, 0);
    });
  }
  const auto* input = file.find("quantize.input");
  if (!input) return;
  for (const auto& t : file.tensors()) {
    if (!t.name.starts_with("quantize.") || !t.name.ends_with(".bytes")) continue;
    const std::string type_name = t.name.substr(9, t.name.size() - 9 - 6), name = "gguf/quantize/" + type_name;
    const auto type = type_named(type_name);
    if (!type) {
      report.skip(name, "the type " + type_name);
      continue;
    }
    report.check(name, [&] {
      const auto values = file.read<float>("quantize.input");
      std::vector<std::byte> bytes(std::size_t(peft::bytes_of(*type, values.size())));
      peft::ops::quantize(bytes.data(), *type, values.data(), values.size());
      Difference d;
      if (std::int64_t(bytes.size()) != t.bytes)
        d.fail(std::to_string(bytes.size()) + " bytes, wanted " + std::to_string(t.bytes));
      else
        for (std::size_t i = 0; i < bytes.size(); i++) d.add(double(bytes[i]), double(t.data[i]), 0, 0);
      return d;
    });
  }
}

}  // namespace

void check_gguf(Report& report, const fs::path& root) {
  const fs::path folder = root / "gguf";
  for (const fs::path& path : entries(folder)) {
    if (path.extension() != ".gguf") continue;
    const std::string stem = path.stem().string(), name = "gguf/" + stem;
    if (!report.wants(name)) continue;
    guarded(report, name, [&] {
      if (stem.starts_with("vocab-")) {
        const fs::path texts = root / "tokenizers" / stem.substr(6) / "golden.jsonl";
        if (!fs::exists(texts)) return;
        try {
          check_texts(report, name, peft::load_tokenizer(path.string()), texts);
        } catch (const peft::NotSupported& error) {
          report.skip(name + "/ids", error.what());
        }
      } else if (fs::exists(folder / (stem + ".logits.safetensors"))) {
        check_model(report, name, path);
        check_written(report, name, path, root);
      } else {
        check_adapter(report, name, path, root);
      }
    });
  }
  if (fs::exists(folder / "blocks.safetensors")) guarded(report, "gguf/blocks", [&] { check_blocks(report, folder); });
}

}  // namespace parity
