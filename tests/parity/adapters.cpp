// SPDX-License-Identifier: Apache-2.0
#include <peft/optim/optim.hpp>

#include <algorithm>
#include <cmath>

#include "model_run.hpp"
#include "parity.hpp"
#include "train_run.hpp"

namespace parity {

namespace {

using Model = peft::Transformer<float>;

// Written again, the two files say the same: every key of the configuration, every byte of the tensors.
void check_saved(Report& report, const std::string& name, const fs::path& folder, const fs::path& base_folder, const peft::PeftModel<Model>& tuned) {
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
    const bool of_now = wanted.get("peft_version");  // older versions wrote fewer keys
    for (const auto& [key, value] : found.object())
      if (of_now && !wanted.get(key)) d.fail("a key that PEFT does not write: " + key);
    const auto before = peft::SafetensorsFile::open((folder / "adapter_model.safetensors").string());
    const auto after = peft::SafetensorsFile::open((out.path / "adapter_model.safetensors").string());
    // PEFT's bias = "all" writes biases of saved modules a second and a third time, by the names of their wrapper.
    const auto again = [](const auto& t) {
      return t.name.find(".modules_to_save.") != std::string::npos || t.name.find(".original_module.") != std::string::npos;
    };
    const auto twice = std::ranges::count_if(before.tensors(), again);
    if (before.tensors().size() != after.tensors().size() + std::size_t(twice)) d.fail("another number of tensors");
    for (const auto& t : before.tensors()) {
      if (again(t)) continue;
      if (!after.find(t.name))
        d.fail(t.name + " is missing");
      else if (t.dtype == peft::DType::i32 || t.dtype == peft::DType::u8 || t.dtype == peft::DType::i16)
        merge(d, compare(after.read<std::int32_t>(t.name), before.read<std::int32_t>(t.name), 0, 0), t.name);
      else  // weights that were logits in between
        merge(d, compare(after.read<float>(t.name), before.read<float>(t.name), t.name.ends_with("_topk_weights") ? 1e-6 : 0, 0), t.name);
    }
    return d;
  });
}

// The same through a GGUF file, where that has a form for it.
void check_gguf_form(Report& report, const std::string& name, const GoldenBatch& batch, const peft::SafetensorsFile& golden,
                     const peft::PeftModel<Model>& tuned) {
  const TemporaryFolder out;
  const std::string file = (out.path / "adapter.gguf").string();
  try {
    peft::save_gguf_adapter(tuned, "golden", file);
  } catch (const peft::NotSupported&) {
    return;
  }
  report.check(name + "/gguf", [&] {
    auto base = tuned.model();
    peft::PeftModel again{base};
    peft::load_adapter(again, "golden", file);
    return compare_rows(batch, run_logits(again, batch), golden.read<float>("logits"), 1e-4, 1e-5);
  });
}

// Twenty steps with the rank allocator.
void check_allocation(Report& report, const std::string& name, const fs::path& folder, const peft::SafetensorsFile& golden, const GoldenBatch& batch,
                      peft::PeftModel<Model>& tuned) {
  const auto schedule = peft::Json::read((folder / "schedule.json").string());
  std::vector<peft::Trainable<float>> trainables;
  tuned.for_each_adapter_tensor("golden", [&](const std::string& file_name, const auto& parameter) { trainables.push_back({file_name, parameter}); });
  peft::AdamW<float> optimizer(trainables, {.weight_decay = 0.01});
  Difference losses, ranks;
  const auto& wanted = schedule.at("losses").array();
  for (std::size_t step = 0; step < wanted.size(); step++) {
    peft::Tape tape;
    const auto run = begin_run(tuned, batch);
    const auto loss = peft::add(loss_of(tuned, *run), tuned.penalty());
    losses.add(double(loss.value()[0]), wanted[step].number(), 0, step == 0 ? 1e-5 : 1e-3);
    tape.backward(loss);
    optimizer.step(1e-2);
    tuned.after_step(std::int64_t(step));
    for (const auto& [file_name, rank] : schedule.at("ranks").array().at(step).object())
      for (const auto& t : trainables)
        if (t.name == file_name) {
          std::int64_t left = 0;
          for (float e : t.parameter.value().span()) left += e != 0;
          if (left != rank.integer())
            ranks.fail("step " + std::to_string(step) + ": " + std::to_string(left) + " left of " + file_name + ", wanted " + std::to_string(rank.integer()));
        }
    peft::zero_grad(trainables);
  }
  report.check(name + "/train.losses", [&] { return losses; });
  report.check(name + "/ranks", [&] { return ranks; });
  report.check(name + "/after_training.logits",
               [&] { return compare_rows(batch, run_logits(tuned, batch), golden.read<float>("after_training.logits"), 1e-2, 1e-3); });
  report.check(name + "/final", [&] {  // the file with the ranks that are left says the same
    const TemporaryFolder out;
    peft::save_adapter(tuned, "golden", out.path.string());
    const auto mine = peft::Json::read((out.path / "adapter_config.json").string()),
               theirs = peft::Json::read((folder / "final" / "adapter_config.json").string());
    Difference d;
    for (const auto& [key, rows] : theirs.at("rank_pattern").object())
      if (const auto* found = mine.at("rank_pattern").get(key); !found || !(*found == rows)) d.fail("rank_pattern of " + key);
    auto base = tuned.model();
    peft::PeftModel again{base};
    peft::load_adapter(again, "golden", (folder / "final").string());
    merge(d, compare_rows(batch, run_logits(again, batch), golden.read<float>("after_training.logits"), 1e-4, 1e-4), "final/");
    return d;
  });
}

void check_case(Report& report, const std::string& name, const fs::path& folder, const fs::path& base_folder) {
  const auto golden = peft::SafetensorsFile::open((folder / "golden.safetensors").string());
  auto base = peft::load_model<float>(base_folder.string());
  const GoldenBatch batch(golden, base.config);
  peft::PeftModel tuned{base};
  peft::load_adapter(tuned, "golden", folder.string(), true);

  const auto compare_logits = [&] {
    const auto found = run_logits(tuned, batch);
    const std::int64_t front = (found.rows() - std::int64_t(batch.places.size())) / batch.rows;
    return compare_rows(with_virtual_tokens(batch, front), found, golden.read<float>("logits"), 1e-4, 1e-5);
  };
  report.check(name + "/logits", compare_logits);
  check_saved(report, name, folder, base_folder, tuned);
  check_gguf_form(report, name, batch, golden, tuned);
  // Where training wants more than the file has, the adapter begins again and takes the golden file's values.
  const auto file = peft::SafetensorsFile::open((folder / "adapter_model.safetensors").string());
  if (std::ranges::any_of(golden.tensors(), [&](const auto& t) { return t.name.starts_with("param.") && !file.find(t.name.substr(6)); })) {
    tuned.delete_adapter("golden");
    peft::add_adapter(tuned, "golden", peft::read_adapter_config(folder.string()).config);
    tuned.set_adapter("golden");
    report.check(name + "/begun", [&] {
      Difference d;
      tuned.for_each_adapter_tensor("golden", [&](const std::string& file_name, const auto& parameter) {
        if (golden.find("param." + file_name))
          parameter.assign(golden.read<float>("param." + file_name));
        else if (file.find(file_name))  // a saved module
          parameter.assign(file.read<float>(file_name));
        else
          d.fail("no golden value for " + file_name);
      });
      merge(d, compare_logits(), "logits");
      return d;
    });
  }
  report.check(name + "/loss", [&] {
    Difference d;
    d.add(double(run_loss(tuned, batch)[0]), double(golden.read<float>("loss")[0]), 0, 1e-5);
    return d;
  });
  // PEFT's backward of C3A correlates where its forward asks for a convolution, so that what flows below the last such module is wrong there
  // (b = 8: w[p + q] instead of w[q - p]). Only the last layer's gradients are those of the forward.
  const bool is_c3a = tuned.entry("golden").peft_type == "C3A";
  const std::string last_layer = "layers." + std::to_string(tuned.model().config.num_hidden_layers - 1) + ".";
  const auto skip_gradient = [&](const std::string& file_name) { return is_c3a && file_name.find(last_layer) == std::string::npos; };
  const bool penalised = golden.find("loss_with_orthogonal");
  if (penalised)
    report.check(name + "/penalty", [&] {
      Difference d;
      d.add(double(run_loss(tuned, batch)[0]) + double(tuned.penalty().value()[0]), double(golden.read<float>("loss_with_orthogonal")[0]), 0, 1e-5);
      return d;
    });
  report.check(name + "/gradients", [&] {
    peft::Tape tape;
    const auto run = begin_run(tuned, batch);
    auto loss = loss_of(tuned, *run);
    if (penalised) loss = peft::add(std::move(loss), tuned.penalty());
    tape.backward(loss);
    Difference all;
    std::size_t found = 0;
    std::vector<peft::Parameter<float>> seen, named;  // a tensor at two sites stands in the golden file under one of its names
    tuned.for_each_adapter_tensor("golden", [&](const std::string& file_name, const auto& parameter) {
      if (!parameter.requires_grad()) return;
      seen.push_back(parameter);
      const std::string wanted = "grad." + file_name;
      if (!golden.find(wanted)) return;
      named.push_back(parameter);
      found++;
      if (skip_gradient(file_name)) return;
      if (!parameter.grad()) return all.fail("no gradient at " + file_name);
      merge(all, compare_to_largest(parameter.grad(), golden.read<float>(wanted), 1e-4), file_name);
    });
    for (const auto& parameter : seen) {
      if (std::ranges::none_of(named, [&](const auto& other) { return other.identity() == parameter.identity(); }))
        all.fail("a gradient that is not in the golden file");
      parameter.zero_grad();
    }
    for (const auto& t : golden.tensors()) found -= t.name.starts_with("grad.");
    if (found != 0) all.fail("gradients of tensors that this adapter does not have");
    return all;
  });
  bool mergeable = true;
  try {
    tuned.merge_adapter();
    tuned.unmerge_adapter();
  } catch (const peft::AdapterError&) {  // no change of a weight
    mergeable = false;
  }
  if (mergeable)
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
  if (penalised)
    check_allocation(report, name, folder, golden, batch, tuned);
  else
    check_training(report, name, golden, batch, tuned);
}

// A prefix in ChatGLM's own files.
void check_prefix_case(Report& report, const std::string& name, const fs::path& folder, const fs::path& base_folder) {
  const auto golden = peft::SafetensorsFile::open((folder / "golden.safetensors").string());
  auto base = peft::load_model<float>(base_folder.string());
  const GoldenBatch batch(golden, base.config);
  peft::PeftModel tuned{base};
  peft::load_adapter(tuned, "golden", folder.string(), true);
  const auto golden_name = [](const std::string& ours) {
    const std::string root = "prompt_encoder.", inner = ours.substr(std::min(root.size(), ours.size()));
    return "transformer.prefix_encoder." + (inner.starts_with("transform.") ? "trans." + inner.substr(10) : inner);
  };
  report.check(name + "/logits", [&] { return compare_rows(batch, run_logits(tuned, batch), golden.read<float>("logits"), 1e-4, 1e-5); });
  report.check(name + "/loss", [&] {
    Difference d;
    d.add(double(run_loss(tuned, batch)[0]), double(golden.read<float>("loss")[0]), 0, 1e-5);
    return d;
  });
  report.check(name + "/prefix_past_key_values", [&] {
    const peft::NoGrad guard;
    const auto past = tuned.pass().past.at(0);
    const auto wanted = golden.read<float>("prefix_past_key_values");
    Difference d;
    for (std::size_t l = 0; l < past->k.size(); l++) {
      const auto &k = past->k[l].value(), &v = past->v[l].value();
      const std::int64_t at = 2 * std::int64_t(l) * k.cols();
      merge(d, compare(k, wanted.columns(at, at + k.cols()), 1e-5, 1e-5), "keys");
      merge(d, compare(v, wanted.columns(at + k.cols(), at + 2 * k.cols()), 1e-5, 1e-5), "values");
    }
    if (2 * std::int64_t(past->k.size()) * past->k[0].cols() != wanted.cols()) d.fail("another width");
    return d;
  });
  report.check(name + "/gradients", [&] {
    peft::Tape tape;
    const auto run = begin_run(tuned, batch);
    tape.backward(loss_of(tuned, *run));
    Difference all;
    std::size_t found = 0;
    tuned.for_each_adapter_tensor("golden", [&](const std::string& ours, const auto& parameter) {
      const std::string wanted = "grad." + golden_name(ours);
      if (!golden.find(wanted)) return all.fail("no golden gradient for " + ours);
      found++;
      if (!parameter.grad()) return all.fail("no gradient at " + ours);
      merge(all, compare_to_largest(parameter.grad(), golden.read<float>(wanted), 1e-4), ours);
      parameter.zero_grad();
    });
    for (const auto& t : golden.tensors()) found -= t.name.starts_with("grad.");
    if (found != 0) all.fail("gradients of tensors that this prefix does not have");
    return all;
  });
  report.check(name + "/saved", [&] {
    const TemporaryFolder out;
    peft::save_prefix_encoder(tuned, "golden", out.path.string());
    const auto wanted = peft::Json::read((folder / "config.json").string()), found = peft::Json::read((out.path / "config.json").string());
    Difference d;
    for (const char* key : {"model_type", "pre_seq_len", "prefix_projection", "hidden_size", "num_layers", "num_attention_heads"})
      if (!found.get(key) || !(*found.get(key) == wanted.at(key))) d.fail(std::string(key) + " is another");
    const auto before = peft::SafetensorsFile::open((folder / "prefix_encoder.safetensors").string());
    const auto after = peft::SafetensorsFile::open((out.path / "prefix_encoder.safetensors").string());
    if (before.tensors().size() != after.tensors().size()) d.fail("another number of tensors");
    for (const auto& t : before.tensors())
      if (after.find(t.name))
        merge(d, compare(after.read<float>(t.name), before.read<float>(t.name), 0, 0), t.name);
      else
        d.fail(t.name + " is missing");
    return d;
  });
  check_training(report, name, golden, batch, tuned, golden_name);
}

// Adapters that begin by taking a part off the base: the folders initial (A₀ and B₀ as an ordinary LoRA, for conversion), trained (by their A
// and B alone) and trained-as-lora (of twice the rank).
void check_residual_case(Report& report, const std::string& name, const fs::path& folder, const fs::path& base_folder) {
  const auto golden = peft::SafetensorsFile::open((folder / "golden.safetensors").string());
  auto base = peft::load_model<float>(base_folder.string());
  const GoldenBatch batch(golden, base.config);
  // s B A at each module
  const auto compare_deltas = [&](peft::PeftModel<Model>& tuned, auto lora_of) {
    Difference d;
    peft::for_each_site(tuned.model(), [&]<class S>(const std::string& path, const S& site) {
      if constexpr (std::same_as<S, peft::Linear<float>>) {
        const peft::Lora<float>* lora = lora_of(site, tuned.entry("golden").id);
        if (!lora) return;
        peft::Tensor<float> delta({site.out_features(), site.in_features()});
        peft::ops::gemm<float>(lora->scaling, lora->B.value().view(), false, lora->A.value().view(), false, 0, delta.view());
        merge(d, compare(delta, golden.read<float>("init_delta." + path), 1e-4, 1e-4), path);
      }
    });
    return d;
  };
  report.check(name + "/begun", [&] {  // Δ at the beginning, and that it changes nothing
    peft::PeftModel tuned{base};
    peft::add_adapter(tuned, "golden", peft::read_adapter_config((folder / "trained").string()).config);
    Difference d = compare_rows(batch, run_logits(tuned, batch), golden.read<float>("base_logits"), 1e-4, 1e-5);
    merge(d,
          compare_deltas(tuned,
                         [](const auto& site, int id) {
                           const auto* adapter = site.adapters.template get<peft::LoraOnResidual<float>>(id);
                           return adapter ? &adapter->lora : nullptr;
                         }),
          "delta");
    return d;
  });
  report.check(name + "/initial", [&] {
    peft::PeftModel tuned{base};
    peft::load_adapter(tuned, "golden", (folder / "initial").string());
    return compare_deltas(tuned, [](const auto& site, int id) { return site.adapters.template get<peft::Lora<float>>(id); });
  });
  for (const char* which : {"trained", "trained-as-lora"}) {
    if (!fs::exists(folder / which / "adapter_config.json")) continue;
    report.check(name + "/" + which, [&] {
      peft::PeftModel tuned{base};
      peft::load_adapter(tuned, "golden", (folder / which).string());
      const char* wanted = "after_training.logits";
      Difference d = compare_rows(batch, run_logits(tuned, batch), golden.read<float>(wanted), 1e-3, 1e-4);
      tuned.merge_adapter();
      merge(d, compare_rows(batch, run_logits(tuned, batch), golden.read<float>(wanted), 1e-3, 1e-4), "merged");
      return d;
    });
  }
  report.check(name + "/gradients", [&] {
    peft::PeftModel tuned{base};
    peft::load_adapter(tuned, "golden", (folder / "trained").string(), true);
    const auto initial = peft::SafetensorsFile::open((folder / "initial" / "adapter_model.safetensors").string());
    tuned.for_each_adapter_tensor("golden", [&](const std::string& file_name, const auto& parameter) { parameter.assign(initial.read<float>(file_name)); });
    peft::Tape tape;
    const auto run = begin_run(tuned, batch);
    tape.backward(loss_of(tuned, *run));
    Difference d = compare_rows(batch, run_logits(tuned, batch), golden.read<float>("logits"), 1e-3, 1e-4);
    tuned.for_each_adapter_tensor("golden", [&](const std::string& file_name, const auto& parameter) {
      merge(d, compare_to_largest(parameter.grad(), golden.read<float>("grad." + file_name), 1e-3), file_name);
    });
    return d;
  });
}

// Combinations of LoRAs: their change at one module, and what they compute.
void check_weighted(Report& report, const std::string& name, const fs::path& folder, const fs::path& base_folder) {
  const auto golden = peft::SafetensorsFile::open((folder / "golden.safetensors").string());
  const auto index = peft::Json::read((folder / "index.json").string());
  auto base = peft::load_model<float>(base_folder.string());
  const GoldenBatch batch(golden, base.config);
  for (const auto& [title, entry] : index.object()) {
    const std::string combination = title;
    const peft::Json& how = entry;
    report.check(name + "/" + combination, [&] {
      peft::PeftModel tuned{base};
      std::vector<std::string> adapters;
      std::vector<double> weights;
      for (const auto& adapter : how.at("adapters").array()) {
        adapters.push_back(adapter.string());
        peft::load_adapter(tuned, adapters.back(), (folder / adapters.back()).string());
      }
      for (const auto& weight : how.at("weights").array()) weights.push_back(weight.number());
      peft::WeightedAdapterOptions options;
      for (const auto& [key, value] : how.object()) {
        if (key == "combination_type") options.combination_type = value.string();
        if (key == "svd_rank" && value.is_integer()) options.svd_rank = value.integer();
        if (key == "density" && value.is_number()) options.density = value.number();
        if (key == "majority_sign_method" && value.is_string()) options.majority_sign_method = value.string();
      }
      peft::add_weighted_adapter(tuned, adapters, weights, "golden", options);
      tuned.set_adapter("golden");
      // An SVD of float32 numbers, cut off, against one of doubles.
      Difference d = compare_rows(batch, run_logits(tuned, batch), golden.read<float>(combination + ".logits"), 1e-3, 1e-4);
      peft::for_each_site(tuned.model(), [&]<class S>(const std::string& path, const S& site) {
        if constexpr (std::same_as<S, peft::Linear<float>>) {
          const auto* lora = site.adapters.template get<peft::Lora<float>>(tuned.entry("golden").id);
          const std::string wanted = combination + ".delta." + path;
          if (!lora || !golden.find(wanted)) return;
          peft::Tensor<float> delta({site.out_features(), site.in_features()});
          peft::ops::gemm<float>(lora->scaling, lora->B.value().view(), false, lora->A.value().view(), false, 0, delta.view());
          merge(d, compare(delta, golden.read<float>(wanted), 1e-4, 1e-4), path);
        }
      });
      return d;
    });
  }
}

}  // namespace

void check_adapters(Report& report, const fs::path& root) {
  for (const fs::path& model : entries(root / "chatglm"))
    for (const fs::path& folder : entries(model)) {
      const std::string name = "chatglm/" + model.filename().string() + "/" + folder.filename().string();
      if (folder.filename() == "base" || !report.wants(name)) continue;
      if (peft::has_prefix_encoder(folder.string()))
        guarded(report, name, [&] { check_prefix_case(report, name, folder, model / "base"); });
      else
        guarded(report, name, [&] { check_case(report, name, folder, model / "base"); });
    }
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
      if (fs::exists(folder / "initial" / "adapter_config.json")) {
        guarded(report, name, [&] { check_residual_case(report, name, folder, base); });
        continue;
      }
      if (fs::exists(folder / "index.json")) {
        guarded(report, name, [&] { check_weighted(report, name, folder, base); });
        continue;
      }
      if (!fs::exists(folder / "adapter_config.json")) {
        report.skip(name + "/logits", "a folder without an adapter_config.json");
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
