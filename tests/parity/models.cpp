// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "model_run.hpp"
#include "parity.hpp"

namespace parity {

namespace {

template <class T>
void check_one(Report& report, const std::string& name, const fs::path& folder) {
  const auto file = peft::open_model(folder.string());
  const peft::SafetensorsFile golden = peft::SafetensorsFile::open((folder / "golden.safetensors").string());
  const bool is_double = std::is_same_v<T, double>;
  const std::string prefix = is_double ? "f64." : "";
  const bool has_head = golden.find(prefix + "logits");
  if (!has_head && (is_double || !golden.find("last_hidden_state"))) return;
  auto model = peft::build_model<T>(file);
  const GoldenBatch batch(golden, model.config);
  const double abs = is_double ? 1e-9 : 1e-4, rel = is_double ? 1e-9 : 1e-5;

  if (has_head)
    report.check(name + "/" + prefix + "logits", [&] { return compare_rows(batch, run_logits(model, batch), golden.read<T>(prefix + "logits"), abs, rel); });
  if (has_head)
    report.check(name + "/" + prefix + "loss", [&] {
      Difference d;
      d.add(double(run_loss(model, batch)[0]), double(golden.read<T>(prefix + "loss")[0]), 0, is_double ? 1e-9 : 1e-5);
      return d;
    });
  if (is_double) return;
  if (golden.find("last_hidden_state"))
    report.check(name + "/last_hidden_state", [&] { return compare_rows(batch, run_hidden(model, batch), golden.read<T>("last_hidden_state"), abs, rel); });

  bool has_gradients = false;
  for (const auto& t : golden.tensors()) has_gradients = has_gradients || t.name.starts_with("grad.");
  if (!has_gradients) return;
  report.check(name + "/gradients", [&] {
    peft::freeze(model, peft::Everything{});
    peft::Tape tape;
    const auto run = begin_run(model, batch);
    tape.backward(loss_of(model, *run));
    Difference all;
    std::size_t found = 0;
    // Some gradients are 0 in exact arithmetic (a key's bias without rotary positions): both sides have rounding there, which is measured by the
    // largest gradient of the model.
    double largest = 0;
    for (const auto& t : golden.tensors())
      if (t.name.starts_with("grad."))
        for (const T g : golden.read<T>(t.name).span()) largest = std::max(largest, std::abs(double(g)));
    const double floor = std::max(1e-7, 1e-6 * largest);
    peft::for_each_parameter(model, [&](const std::string& path, const peft::Parameter<T>& parameter) {
      const std::string wanted = "grad." + peft::name_in_file(*file.architecture, path);
      if (!golden.find(wanted)) return;  // a tied weight stands under the embedding's name
      found++;
      if (!parameter.grad()) return all.fail("no gradient at " + path);
      merge(all, compare_to_largest(as_in_file(model.config.model_type, path, parameter.grad()), golden.read<T>(wanted), 1e-4, floor), path);
    });
    for (const auto& t : golden.tensors()) found -= t.name.starts_with("grad.");
    if (found != 0) all.fail("gradients of tensors that this model does not have");
    return all;
  });
}

void check_padded(Report& report, const std::string& name, const fs::path& folder, const std::string& side) {
  const fs::path path = folder / ("golden_" + side + ".safetensors");
  if (!fs::exists(path)) return;
  const auto golden = peft::SafetensorsFile::open(path.string());
  const auto model = peft::load_model<float>(folder.string());
  const GoldenBatch batch(golden, model.config);
  report.check(name + "/" + side + "/logits", [&] { return compare_rows(batch, run_logits(model, batch), golden.read<float>("logits"), 1e-4, 1e-5); });
  report.check(name + "/" + side + "/loss", [&] {
    Difference d;
    d.add(run_loss(model, batch)[0], golden.read<float>("loss")[0], 0, 1e-5);
    return d;
  });
  if (golden.find("f64.logits"))
    report.check(name + "/" + side + "/f64.logits", [&] {
      const auto exact = peft::load_model<double>(folder.string());
      return compare_rows(batch, run_logits(exact, batch), golden.read<double>("f64.logits"), 1e-9, 1e-9);
    });
}

// The three losses that a classifier of sequences may have, on the same logits.
void check_losses(Report& report, const std::string& name, const fs::path& folder) {
  const fs::path path = folder / "golden_losses.safetensors";
  if (!fs::exists(path)) return;
  const auto golden = peft::SafetensorsFile::open(path.string());
  auto model = peft::load_model<float>(folder.string());
  const GoldenBatch batch(golden, model.config);
  const auto run = begin_run(model, batch);
  const auto hidden = model.hidden_states(batch.ids, batch.token_types);
  const std::vector<std::pair<std::string, peft::ProblemType>> problems = {{"single_label_classification", peft::ProblemType::single_label_classification},
                                                                           {"multi_label_classification", peft::ProblemType::multi_label_classification},
                                                                           {"regression", peft::ProblemType::regression}};
  for (const auto& [problem, type] : problems) {
    if (!golden.find("labels." + problem)) continue;
    model.config.head.problem = type;
    peft::Variable<float> loss;
    if (type == peft::ProblemType::single_label_classification) {
      const auto classes = golden.read<std::int32_t>("labels." + problem);
      loss = model.loss(hidden, classes.span());
    } else {
      loss = model.loss(hidden, golden.read<float>("labels." + problem));
    }
    report.check(name + "/" + problem, [&, wanted = golden.read<float>("loss." + problem)[0], found = loss.value()[0]] {
      Difference d;
      d.add(double(found), double(wanted), 0, 1e-5);
      return d;
    });
  }
}

// Where blanks are, and the frequencies that both of their positions turn by.
void check_blanks(Report& report, const std::string& name, const fs::path& folder) {
  const auto golden = peft::SafetensorsFile::open((folder / "golden.safetensors").string());
  if (!golden.find("position_ids")) return;
  const auto model = peft::load_model<float>(folder.string());
  const GoldenBatch batch(golden, model.config);
  report.check(name + "/position_ids", [&] {
    peft::Pass<float> pass;
    pass.sequences = batch.sequences;
    const auto sequences = model.with_blanks(pass, batch.ids);
    const auto wanted = golden.read<std::int32_t>("position_ids");  // (rows, 2, length)
    Difference d;
    for (std::size_t i = 0; i < batch.places.size(); i++) {
      const std::int64_t b = batch.places[i] / batch.length, t = batch.places[i] % batch.length;
      d.add((*sequences->positions())[i], wanted[(2 * b) * batch.length + t], 0, 0);
      d.add((*sequences->block_positions())[i], wanted[(2 * b + 1) * batch.length + t], 0, 0);
    }
    return d;
  });
  if (golden.find("rotary.inv_freq"))
    report.check(name + "/rotary.inv_freq", [&] {
      const auto& found = model.layers[0].self_attn.rotary->frequencies();
      const auto wanted = golden.read<float>("rotary.inv_freq");
      Difference d;
      if (std::int64_t(found.size()) != wanted.size()) d.fail(std::to_string(found.size()) + " frequencies, wanted " + std::to_string(wanted.size()));
      for (std::size_t i = 0; d.ok && i < found.size(); i++) d.add(found[i], wanted[std::int64_t(i)], 0, 0);
      return d;
    });
}

// What the folder holds, written again, must be read as the same model.
void check_saved(Report& report, const std::string& name, const fs::path& folder) {
  report.check(name + "/saved", [&] {
    const auto model = peft::load_model<float>(folder.string());
    const TemporaryFolder out;
    peft::save_model(model, out.path.string());
    const auto again = peft::load_model<float>(out.path.string());
    const auto golden = peft::SafetensorsFile::open((folder / "golden.safetensors").string());
    const GoldenBatch batch(golden, model.config);
    if (!golden.find("logits")) return compare_rows(batch, run_hidden(again, batch), golden.read<float>("last_hidden_state"), 1e-4, 1e-5);
    return compare_rows(batch, run_logits(again, batch), golden.read<float>("logits"), 1e-4, 1e-5);
  });
}

}  // namespace

void check_models(Report& report, const fs::path& root) {
  std::vector<fs::path> folders = entries(root / "models");
  for (const fs::path& model : entries(root / "chatglm")) folders.push_back(model / "base");
  for (const fs::path& folder : folders) {
    if (!fs::is_directory(folder)) continue;
    const std::string name = fs::relative(folder, root).string();
    if (!report.wants(name)) continue;
    if (const std::string type = model_type_of(folder); !supported_model_type(type)) {
      report.skip(name + "/logits", "model_type " + type);
      continue;
    }
    // Shards and their whole have one golden file.
    fs::path with_golden = folder;
    if (!fs::exists(folder / "golden.safetensors")) {
      check_like(report, name, folder, root);
      continue;
    }
    guarded(report, name, [&] {
      check_one<float>(report, name, folder);
      check_one<double>(report, name, folder);
      check_padded(report, name, folder, "left");
      check_padded(report, name, folder, "right");
      check_losses(report, name, folder);
      check_blanks(report, name, folder);
      check_saved(report, name, folder);
      if (fs::exists(folder / "config.legacy.json"))
        report.check(name + "/legacy_config", [&] {
          const TemporaryFolder out;
          fs::copy_file(folder / "config.legacy.json", out.path / "config.json");
          for (const fs::path& file : entries(folder))
            if (file.filename().string().starts_with("model")) fs::copy_file(file, out.path / file.filename());
          const auto golden = peft::SafetensorsFile::open((folder / "golden.safetensors").string());
          const auto model = peft::load_model<float>(out.path.string());
          const GoldenBatch batch(golden, model.config);
          return compare_rows(batch, run_logits(model, batch), golden.read<float>("logits"), 1e-4, 1e-5);
        });
    });
  }
}

}  // namespace parity
