// SPDX-License-Identifier: Apache-2.0
#include <peft/generate/generate.hpp>

#include <algorithm>
#include <cmath>

#include "model_run.hpp"

namespace parity {

namespace {

using Ids = std::vector<std::int32_t>;

Ids ids_of(const peft::Json& value) {
  Ids ids;
  if (value.is_array())
    for (const peft::Json& id : value.array()) ids.push_back(std::int32_t(id.integer()));
  else if (!value.is_null())
    ids.push_back(std::int32_t(value.integer()));
  return ids;
}

// Hugging Face's settings by their names. One that is not built is passed over by its name, not ignored.
peft::GenerationConfig config_of(const peft::Json& settings) {
  peft::GenerationConfig c{.do_sample = false};
  if (const peft::Json* eos = settings.get("eos_token_id"); eos && eos->is_null()) c.eos_token_ids = Ids{};
  try {
    return peft::generation_config(settings, std::move(c));
  } catch (const peft::NotSupported& error) {
    throw Skip{error.what()};
  }
}

// How much of a golden row the answer follows: the prompt with its padding, or the token that an encoder-decoder starts from.
std::size_t beginning_of(const peft::TransformerConfig& config, const peft::Json& ids) { return config.num_encoder_layers > 0 ? 1 : ids.array().at(0).size(); }

// The rows of a padded batch without their padding: nothing is padded here.
std::vector<Ids> prompts_of(const peft::Json& ids, const peft::Json& mask) {
  std::vector<Ids> all;
  for (std::size_t b = 0; b < ids.size(); b++) {
    const Ids row = ids_of(ids.array()[b]), wanted = ids_of(mask.array()[b]);
    all.emplace_back();
    for (std::size_t t = 0; t < row.size(); t++)
      if (wanted[t]) all.back().push_back(row[t]);
  }
  return all;
}

// What Hugging Face returns for a prompt: padding, prompt, answer, filling. A greedy batch is filled with the pad token, beams (where that is 0) with the first
// eos.
void add_ids(Difference& d, const Ids& found, const Ids& wanted, std::size_t padded_prompt, std::int32_t pad, const Ids& eos, const std::string& which) {
  const auto is_filling = [&](std::int32_t id) { return id == pad || (!eos.empty() && id == eos[0]); };
  const Ids answer(wanted.begin() + std::ptrdiff_t(std::min(padded_prompt, wanted.size())), wanted.end());
  const bool same = found.size() <= answer.size() && std::equal(found.begin(), found.end(), answer.begin()) &&
                    std::all_of(answer.begin() + std::ptrdiff_t(found.size()), answer.end(), is_filling);
  const auto text = [](const Ids& ids) {
    peft::Json list = peft::Json::make_array();
    for (std::int32_t id : ids) list.push_back(peft::Json(std::int64_t(id)));
    return list.dump();
  };
  if (!same) d.fail(which + ": generated " + text(found) + ", wanted " + text(answer));
}

// All prompts together, then each alone: the same ids (and the same bits of the scores) as in the golden rows.
template <class M>
Difference compare_generation(const M& model, const std::vector<Ids>& prompts, std::size_t padded_prompt, const peft::GenerationConfig& config,
                              std::int32_t pad, const peft::Json& sequences, const peft::Json* scores) {
  Difference d;
  const auto found = peft::generate_ids(model, prompts, config);
  const std::size_t answers = std::size_t(config.num_return_sequences);
  if (found.size() != sequences.size()) {
    d.fail(std::to_string(found.size()) + " sequences, wanted " + std::to_string(sequences.size()));
    return d;
  }
  for (std::size_t i = 0; i < found.size(); i++) {
    add_ids(d, found[i].ids, ids_of(sequences.array()[i]), padded_prompt, pad, config.eos_token_ids.value_or(Ids{}), "sequence " + std::to_string(i));
    if (scores) d.add(found[i].score, scores->array().at(i).number(), 1e-4, 1e-5);
  }
  for (std::size_t p = 0; p < prompts.size(); p++) {
    const auto alone = peft::generate_ids(model, {prompts[p]}, config);
    for (std::size_t a = 0; a < answers; a++)
      if (alone[a].ids != found[p * answers + a].ids || alone[a].score != found[p * answers + a].score)
        d.fail("prompt " + std::to_string(p) + " alone has another answer than among the others");
  }
  return d;
}

void check_decoding(Report& report, const std::string& name, const fs::path& path, const fs::path& base) {
  const peft::Json json = peft::Json::read(path.string());
  const auto model = peft::load_model<float>(base.string());
  const peft::Json& prompts = json.at("prompts");
  for (const auto& [title, entry] : json.at("cases").object()) {
    const peft::Json& golden = entry;
    const std::string variant = title.substr(0, title.find('/'));
    report.check(name + "/" + title, [&] {
      const peft::Json& ids = prompts.at(variant + ".input_ids");
      const peft::GenerationConfig config = config_of(golden.at("settings"));
      return compare_generation(model, prompts_of(ids, prompts.at(variant + ".attention_mask")), beginning_of(model.config, ids), config,
                                std::int32_t(json.at("pad_token_id").integer()), golden.at("sequences"), golden.get("sequences_scores"));
    });
  }
}

// "greedy" or "beam<n>" of a model with an adapter.
void check_with_adapter(Report& report, const std::string& name, const peft::Json& golden, const fs::path& base, const fs::path& adapter) {
  auto model = peft::load_model<float>(base.string());
  peft::PeftModel tuned{model};
  peft::load_adapter(tuned, "golden", adapter.string());
  const peft::Json& ids = golden.at("input_ids");
  // With virtual tokens in front, the reference pads a short prompt between them and its tokens and counts the padding in positions: its answer
  // then depends on the other rows. Alone it gives what is given here; so rows that are padded are passed over.
  std::vector<std::size_t> compared;
  const bool prompted = !tuned.pass().fronts.empty() && tuned.pass().fronts[0].tokens > 0;
  for (std::size_t b = 0; b < ids.size(); b++)
    if (const Ids mask = ids_of(golden.at("attention_mask").array()[b]); !prompted || std::ranges::count(mask, 0) == 0) compared.push_back(b);
  const auto chosen = [&](const peft::Json& all) {
    peft::Json some = peft::Json::make_array();
    for (std::size_t b : compared) some.push_back(all.array().at(b));
    return some;
  };
  for (const auto& [title, wanted] : golden.object()) {
    const bool beams = title.starts_with("beam");
    if (!beams && title != "greedy") continue;
    const std::string way = title;
    const peft::Json& sequences = wanted;
    report.check(name + "/" + way, [&] {
      peft::GenerationConfig config = config_of(golden.at("settings"));
      if (beams) config.num_beams = std::stoll(way.substr(4));
      return compare_generation(tuned, prompts_of(chosen(ids), chosen(golden.at("attention_mask"))), beginning_of(model.config, ids), config, 0,
                                chosen(sequences), nullptr);
    });
  }
}

void check_processors(Report& report, const fs::path& folder) {
  const auto file = peft::SafetensorsFile::open((folder / "processors.safetensors").string());
  const peft::Json index = peft::Json::read((folder / "processors.json").string());
  const auto logits = file.read<float>("logits");
  const auto all_ids = file.read<std::int32_t>("input_ids");
  for (const auto& [title, entry] : index.object()) {
    const std::string name = title;
    const peft::Json& golden = entry;
    report.check("generation/processors/" + name, [&] {
      std::string processor = golden.at("processor").string();
      if (processor.starts_with("formula mu[j] -= c[j]*frequency")) processor = "FrequencyPresencePenalty";
      peft::Json settings = golden.at("settings");
      const auto columns = std::size_t(golden.at("input_ids").integer());
      const peft::Json* encoder = settings.get("encoder_input_ids");
      const bool from_ids = encoder && encoder->is_string();  // "the first 5 columns of input_ids"
      const std::size_t encoder_columns = from_ids ? std::stoul(encoder->string().substr(std::string("the first ").size())) : 0;
      peft::Tensor<float> found(logits.shape());
      for (std::int64_t r = 0; r < logits.rows(); r++) {
        const std::span<float> row(found.view().row(r), std::size_t(found.cols()));
        const std::span<const std::int32_t> ids(all_ids.view().row(r), columns);
        std::copy_n(logits.view().row(r), logits.cols(), row.data());
        if (from_ids) {
          peft::Json list = peft::Json::make_array();
          for (std::int32_t id : ids.first(encoder_columns)) list.push_back(peft::Json(std::int64_t(id)));
          settings.set("encoder_input_ids", list);
        }
        try {
          peft::process_logits<float>(processor, settings, ids, row);
        } catch (const peft::ConfigError& error) {
          if (std::string(error.what()).find("no processor is named") != std::string::npos) throw Skip{"the processor " + processor};
          throw;
        }
      }
      Difference d = compare(found, file.read<float>(name), 1e-6, 1e-5);
      if (!file.find(name + ".probabilities")) return d;
      for (std::int64_t r = 0; r < found.rows(); r++) {
        const std::span<float> row(found.view().row(r), std::size_t(found.cols()));
        peft::logits::log_softmax<float>(row);
        for (float& p : row) p = std::exp(p);
      }
      merge(d, compare(found, file.read<float>(name + ".probabilities"), 1e-6, 1e-5), "probabilities");
      return d;
    });
  }
}

// True if the model is in this tree and of an architecture that is built.
bool usable(Report& report, const std::string& name, const fs::path& base) {
  const std::string type = fs::exists(base / "config.json") ? model_type_of(base) : "";
  if (supported_model_type(type)) return true;
  report.skip(name, type.empty() ? "its model is not in this tree" : "model_type " + type);
  return false;
}

}  // namespace

void check_generation(Report& report, const fs::path& root) {
  const fs::path folder = root / "generation";
  for (const fs::path& entry : entries(folder)) {
    const fs::path path = entry / "decoding.json", base = root / "models" / entry.filename();
    const std::string name = "generation/" + entry.filename().string();
    if (fs::exists(path) && report.wants(name) && usable(report, name, base)) guarded(report, name, [&] { check_decoding(report, name, path, base); });
  }
  if (fs::exists(folder / "processors.json") && report.wants("generation/processors"))
    guarded(report, "generation/processors", [&] { check_processors(report, folder); });
  if (fs::exists(folder / "with_adapters.json") && report.wants("generation/with_adapters")) {
    const peft::Json json = peft::Json::read((folder / "with_adapters.json").string());
    for (const auto& [title, entry] : json.object()) {
      const std::string name = "generation/with_adapters/" + title;
      const peft::Json& golden = entry;
      const fs::path adapter = root / "adapters" / title, base = root / "models" / title.substr(0, title.find('/'));
      if (!report.wants(name) || !usable(report, name, base)) continue;
      try {
        peft::read_adapter_config(adapter.string());
      } catch (const peft::NotSupported& error) {
        report.skip(name, error.what());
        continue;
      } catch (const std::exception&) {  // the check below reports it
      }
      guarded(report, name, [&] { check_with_adapter(report, name, golden, base, adapter); });
    }
  }
}

}  // namespace parity
