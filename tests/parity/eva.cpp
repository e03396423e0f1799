// SPDX-License-Identifier: Apache-2.0
// eva/MODEL/CASE: how a LoRA begins that has seen batches.
#include <peft/adapters/adapters.hpp>
#include <peft/checkpoint/adapter_file.hpp>
#include <peft/checkpoint/load.hpp>
#include <peft/io/json.hpp>
#include <peft/io/safetensors.hpp>
#include <peft/train/eva.hpp>

#include <map>
#include <set>

#include "parity.hpp"

namespace parity {

namespace {

/// The rows of all batches without their padding.
peft::Dataset rows_of_batches(const peft::SafetensorsFile& file, std::int64_t& batch_size) {
  std::vector<peft::Example> rows;
  for (int batch = 0; file.find(std::to_string(batch) + ".input_ids"); batch++) {
    const auto column = [&](const char* name) { return file.read<std::int32_t>(std::to_string(batch) + "." + name); };
    const auto ids = column("input_ids"), mask = column("attention_mask"), labels = column("labels");
    batch_size = ids.rows();
    for (std::int64_t row = 0; row < ids.rows(); row++) {
      peft::Example example;
      for (std::int64_t t = 0; t < ids.cols(); t++)
        if (mask(row, t)) example.input_ids.push_back(ids(row, t)), example.labels.push_back(labels(row, t));
      rows.push_back(std::move(example));
    }
  }
  return peft::Dataset(std::move(rows));
}

std::map<std::string, std::pair<std::int64_t, double>> scales(const peft::LoraConfig& config) {
  std::map<std::string, std::pair<std::int64_t, double>> all;
  for (const std::string& path : config.target_modules.names()) {
    const peft::LoraScale scale = peft::lora_scale(config, path);
    all[path] = {scale.r, scale.alpha};
  }
  return all;
}

void check_case(Report& report, const std::string& name, const fs::path& folder, const fs::path& base_folder) {
  report.check(name + "/ranks and directions", [&] {
    Difference d;
    auto base = peft::load_model<float>(base_folder.string());
    peft::PeftModel tuned{base};
    const auto begun = peft::read_adapter_config((folder / "begun").string()), wanted = peft::read_adapter_config(folder.string());
    const peft::Json options = peft::Json::parse(begun.extra.at("eva_config"), "eva_config");
    peft::EvaConfig eva;
    eva.rho = options.at("rho").number(), eva.tau = options.at("tau").number(), eva.use_label_mask = options.at("use_label_mask").boolean();
    eva.whiten = options.at("whiten").boolean(), eva.adjust_scaling_factors = options.at("adjust_scaling_factors").boolean();
    const peft::Dataset data = rows_of_batches(peft::SafetensorsFile::open((folder / "batches.safetensors").string()), eva.batch_size);
    peft::add_adapter(tuned, "golden", begun.config);
    peft::initialize_lora_eva_weights(tuned, "golden", data, eva);
    if (scales(std::any_cast<const peft::LoraConfig&>(tuned.entry("golden").config)) != scales(std::get<peft::LoraConfig>(wanted.config)))
      d.fail("other modules, ranks or alphas");
    const auto file = peft::SafetensorsFile::open((folder / "adapter_model.safetensors").string());
    tuned.for_each_adapter_tensor("golden", [&](const std::string& tensor, const auto& parameter) {
      if (!file.find(tensor)) return d.fail(tensor + " is not in the golden file");
      const auto golden = file.read<float>(tensor), found = parameter.value();
      if (!(golden.shape() == found.shape())) return d.fail(tensor + " is " + to_string(found.shape()) + ", wanted " + to_string(golden.shape()));
      // Singular vectors, up to their sign; the reference works in float32.
      for (std::int64_t k = 0; k < golden.rows(); k++) {
        double dot = 0;
        for (std::int64_t j = 0; j < golden.cols(); j++) dot += double(golden(k, j)) * double(found(k, j));
        const double sign = dot < 0 ? -1 : 1;
        for (std::int64_t j = 0; j < golden.cols(); j++) d.add(sign * double(found(k, j)), double(golden(k, j)), 1e-4, 0);
      }
    });
    return d;
  });
}

}  // namespace

void check_eva(Report& report, const fs::path& root) {
  for (const fs::path& model : entries(root / "eva"))
    for (const fs::path& folder : entries(model)) {
      const std::string name = "eva/" + model.filename().string() + "/" + folder.filename().string();
      if (report.wants(name)) check_case(report, name, folder, root / "models" / model.filename());
    }
}

}  // namespace parity
