// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "model_run.hpp"
#include "parity.hpp"
#include "train_run.hpp"

namespace parity {

namespace {

using Model = peft::Transformer<float>;
const std::string file_prefix = "base_model.model.";

void check_case(Report& report, const std::string& name, const fs::path& folder, const fs::path& base_folder) {
  const auto golden = peft::SafetensorsFile::open((folder / "golden.safetensors").string());
  auto base = peft::load_model<float>(base_folder.string());
  const GoldenBatch batch(golden, base.config);
  peft::PeftModel tuned{base};
  peft::load_adapter(tuned, "golden", folder.string(), true);

  report.check(name + "/logits", [&] { return compare_rows(batch, run_logits(tuned, batch), golden.read<float>("logits"), 1e-4, 1e-5); });
  report.check(name + "/loss", [&] {
    Difference d;
    d.add(double(run_loss(tuned, batch)[0]), double(golden.read<float>("loss")[0]), 0, 1e-5);
    return d;
  });
  report.check(name + "/gradients", [&] {
    peft::Tape tape;
    const auto run = begin_run(tuned, batch);
    tape.backward(loss_of(tuned, batch));
    Difference all;
    std::size_t found = 0;
    tuned.for_each_adapter_parameter("golden", [&](const std::string& path, const auto& parameter) {
      const std::string wanted = "grad." + file_prefix + path;
      if (!golden.find(wanted)) return all.fail("no golden gradient for " + path);
      found++;
      if (!parameter.grad()) return all.fail("no gradient at " + path);
      merge(all, compare_to_largest(parameter.grad(), golden.read<float>(wanted), 1e-4), path);
      parameter.zero_grad();
    });
    for (const auto& t : golden.tensors()) found -= t.name.starts_with("grad.");
    if (found != 0) all.fail("gradients of tensors that this adapter does not have");
    return all;
  });
  report.check(name + "/merged_logits", [&] {
    tuned.merge_adapter();
    const auto found = run_logits(tuned, batch);
    tuned.unmerge_adapter();
    return compare_rows(batch, found, golden.read<float>("logits"), 1e-4, 1e-5);
  });
  if (fs::exists(folder / "merged.safetensors"))
    report.check(name + "/merged", [&] {
      const auto wanted = peft::SafetensorsFile::open((folder / "merged.safetensors").string());
      auto merged = tuned.merge_and_unload();
      Difference all;
      std::size_t found = 0;
      peft::for_each_parameter(merged, [&](const std::string& path, const auto& parameter) {
        if (!wanted.find(path)) return;
        found++;
        merge(all, compare(as_in_file(base.config.model_type, path, parameter.dense()), wanted.read<float>(path), 1e-5, 1e-5), path);
      });
      if (found != wanted.tensors().size()) all.fail(std::to_string(found) + " of " + std::to_string(wanted.tensors().size()) + " merged tensors were found");
      return all;
    });
  // Written again, the two files say the same: every key of the configuration, every byte of the tensors.
  report.check(name + "/saved", [&] {
    const TemporaryFolder out;
    peft::save_adapter(tuned, "golden", out.path.string(), "models/" + base_folder.filename().string());
    Difference d;
    const auto wanted = peft::Json::read((folder / "adapter_config.json").string()), found = peft::Json::read((out.path / "adapter_config.json").string());
    const auto sorted = [](const peft::Json& list) {
      std::vector<std::string> all;
      for (const auto& item : list.array()) all.push_back(item.dump());
      std::sort(all.begin(), all.end());
      return all;
    };
    for (const auto& [key, value] : wanted.object()) {
      const auto* mine = found.get(key);
      if (!mine)
        d.fail("the key " + key + " is missing");
      else if (key == "base_model_name_or_path")
        continue;
      else if (value.is_array() && mine->is_array() ? sorted(value) != sorted(*mine) : !(value == *mine))
        d.fail(key + " is " + mine->dump() + ", wanted " + value.dump());
    }
    for (const auto& [key, value] : found.object())
      if (!wanted.get(key)) d.fail("a key that PEFT does not write: " + key);
    const auto before = peft::SafetensorsFile::open((folder / "adapter_model.safetensors").string());
    const auto after = peft::SafetensorsFile::open((out.path / "adapter_model.safetensors").string());
    if (before.tensors().size() != after.tensors().size()) d.fail("another number of tensors");
    for (const auto& t : before.tensors()) {
      if (!after.find(t.name))
        d.fail(t.name + " is missing");
      else
        merge(d, compare(after.read<float>(t.name), before.read<float>(t.name), 0, 0), t.name);
    }
    return d;
  });
  check_training(report, name, golden, batch, tuned);
}

}  // namespace

void check_adapters(Report& report, const fs::path& root) {
  for (const fs::path& model : entries(root / "adapters")) {
    if (!fs::is_directory(model)) continue;
    for (const fs::path& folder : entries(model)) {
      if (!fs::is_directory(folder)) continue;
      const std::string name = "adapters/" + model.filename().string() + "/" + folder.filename().string();
      if (!report.wants(name)) continue;
      const fs::path base = root / "models" / model.filename();
      if (!fs::exists(base / "config.json")) {
        report.skip(name + "/logits", "its base is not in this tree");
        continue;
      }
      if (const std::string type = model_type_of(base); !supported_model_type(type)) {
        report.skip(name + "/logits", "model_type " + type);
        continue;
      }
      if (!fs::exists(folder / "adapter_config.json")) {
        report.skip(name + "/logits", "adapters that begin with a changed base, and combinations of adapters");
        continue;
      }
      try {
        peft::read_adapter_config(folder.string());
      } catch (const peft::NotSupported& error) {
        report.skip(name + "/logits", error.what());
        continue;
      } catch (const std::exception&) {  // the check below reports it
      }
      guarded(report, name, [&] { check_case(report, name, folder, base); });
    }
  }
}

}  // namespace parity
