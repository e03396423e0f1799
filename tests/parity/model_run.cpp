// SPDX-License-Identifier: Apache-2.0
#include "model_run.hpp"

namespace parity {

GoldenBatch::GoldenBatch(const peft::SafetensorsFile& golden, const peft::TransformerConfig& config) {
  auto all_ids = golden.read<std::int32_t>("input_ids");
  if (golden.find("attention_mask"))
    mask = golden.read<std::int32_t>("attention_mask");
  else  // padding is read as any token is, and nothing sees it
    mask = peft::Tensor<std::int32_t>(all_ids.shape()), mask.fill(1);
  const auto tasks = golden.find("task_ids") ? golden.read<std::int32_t>("task_ids") : peft::Tensor<std::int32_t>();
  const bool of_values = golden.find("labels") && golden.find("labels")->dtype == peft::DType::f32;
  if (of_values) {
    values = golden.read<double>("labels");
    if (values.rank() == 1) values = values.reshape({values.size(), 1});
  }
  const auto labels = golden.find("labels") && !of_values ? golden.read<std::int32_t>("labels") : peft::Tensor<std::int32_t>();
  const auto types = golden.find("token_type_ids") ? golden.read<std::int32_t>("token_type_ids") : peft::Tensor<std::int32_t>();
  if (config.num_encoder_layers > 0) {
    std::vector<peft::Sequence, peft::PoolAllocator<peft::Sequence>> packed;
    for (std::int64_t b = 0; b < all_ids.rows(); b++) {
      peft::Sequence s;
      s.begin = std::int64_t(source_ids.size()), s.id = std::uint64_t(b);
      if (tasks) s.task = tasks[b];
      for (std::int64_t t = 0; t < all_ids.cols(); t++)
        if (mask(b, t)) source_ids.push_back(all_ids(b, t));
      s.end = std::int64_t(source_ids.size());
      packed.push_back(s);
    }
    sources = std::make_shared<peft::Sequences>(std::move(packed));
    // The decoder reads the labels, one behind.
    all_ids = peft::Tensor<std::int32_t>(labels.shape()), mask = peft::Tensor<std::int32_t>(labels.shape());
    for (std::int64_t b = 0; b < labels.rows(); b++)
      for (std::int64_t t = 0; t < labels.cols(); t++) {
        mask(b, t) = labels(b, t) != peft::ignore_index;
        all_ids(b, t) = t == 0 ? std::int32_t(config.decoder_start_token_id) : mask(b, t - 1) ? labels(b, t - 1) : std::int32_t(config.pad_token_id);
      }
  }
  rows = all_ids.rows(), length = all_ids.cols();
  const std::int64_t shift = config.head.task == peft::TaskType::causal_lm ? 1 : 0;
  if (labels && config.head.task == peft::TaskType::seq_cls) targets.assign(labels.span().begin(), labels.span().end());
  // OPT counts positions by the mask, and rotary frequencies that go by the length count padding behind a text.
  const bool padding_has_position = config.embedding.padding_has_position && config.model_type != "opt";
  const bool length_counts =
      config.head.task != peft::TaskType::seq_cls && config.attention.rope && config.attention.rope->scaling == peft::RopeScaling::dynamic;
  std::vector<peft::Sequence, peft::PoolAllocator<peft::Sequence>> packed;
  for (std::int64_t b = 0; b < rows; b++) {
    peft::Sequence s;
    s.begin = std::int64_t(ids.size()), s.id = std::uint64_t(b), s.first_position = -1;
    if (tasks) s.task = tasks[b];
    for (std::int64_t t = 0; t < length; t++) {
      if (!mask(b, t)) {
        if (!length_counts || s.first_position < 0) continue;
        ids.push_back(all_ids(b, t)), targets.push_back(peft::ignore_index), places.push_back(-1);
        continue;
      }
      if (s.first_position < 0) s.first_position = padding_has_position ? t : 0;
      ids.push_back(all_ids(b, t));
      if (types && config.embedding.token_types > 0) token_types.push_back(types(b, t));
      if (config.head.task != peft::TaskType::seq_cls)
        targets.push_back(labels && t + shift < length && mask(b, t + shift) ? labels(b, t + shift) : peft::ignore_index);
      places.push_back(b * length + t);
    }
    s.end = std::int64_t(ids.size());
    packed.push_back(s);
  }
  sequences = std::make_shared<peft::Sequences>(std::move(packed));
}

std::shared_ptr<const peft::Sequences> with_padding_behind_fronts(const peft::Sequences& fronted, std::span<const peft::Front> fronts) {
  std::vector<peft::Sequence, peft::PoolAllocator<peft::Sequence>> all;
  for (const peft::Sequence& s : fronted.all()) {
    const std::int64_t tokens = fronts[std::size_t(s.active)].tokens;
    if (tokens == 0 || s.first_position == 0) {
      all.push_back(s);
      continue;
    }
    peft::Sequence front = s, text = s;
    front.end = text.begin = s.begin + tokens, front.first_position = 0;
    text.first_position += tokens, text.behind = int(all.size());
    all.push_back(front), all.push_back(text);
  }
  return std::make_shared<peft::Sequences>(std::move(all));
}

std::string model_type_of(const fs::path& folder) {
  const auto json = peft::Json::read((folder / "config.json").string());
  const auto* type = json.get("model_type");
  return type && type->is_string() ? type->string() : "";
}

bool supported_model_type(const std::string& type) {
  for (const auto& a : peft::architectures())
    if (type == a.model_type) return true;
  return false;
}

void guarded(Report& report, const std::string& name, const std::function<void()>& run) {
  try {
    run();
  } catch (const peft::NotSupported& error) {
    report.skip(name + "/logits", error.what());
  } catch (const std::exception& error) {
    const std::string text = error.what();
    report.check(name + "/load", [&] {
      Difference d;
      d.fail(text);
      return d;
    });
  }
}

void merge(Difference& all, const Difference& one, const std::string& name) {
  all.max_abs = std::max(all.max_abs, one.max_abs), all.max_rel = std::max(all.max_rel, one.max_rel);
  if (!one.ok) all.fail(name + ": " + one.note);
}

void check_like(Report& report, const std::string& name, const fs::path& folder, const fs::path& root) {
  const auto mine = peft::Json::read((folder / "config.json").string());
  const auto same = [&](const peft::Json& other) {
    for (const auto& [key, value] : mine.object()) {
      if (key == "dtype" || key == "torch_dtype") continue;
      const auto* there = other.get(key);
      if (!there || !(*there == value)) return false;
    }
    return true;
  };
  for (const fs::path& other : entries(root / "models")) {
    if (!fs::exists(other / "golden.safetensors") || !fs::exists(other / "config.json") || !same(peft::Json::read((other / "config.json").string()))) continue;
    const auto golden = peft::SafetensorsFile::open((other / "golden.safetensors").string());
    if (!golden.find("grad.model.embed_tokens.weight")) continue;  // the same numbers rounded to fewer bits are another model
    report.check(name + "/logits", [&] {
      const auto model = peft::load_model<float>(folder.string());
      const GoldenBatch batch(golden);
      return compare_rows(batch, run_logits(model, batch), golden.read<float>("logits"), 1e-4, 1e-5);
    });
    return;
  }
  report.skip(name + "/logits", "no golden numbers in this folder, nor a model of the same configuration that has some");
}

}  // namespace parity
