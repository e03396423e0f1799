// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <peft/adapters/adapters.hpp>
#include <peft/checkpoint/adapter_file.hpp>
#include <peft/checkpoint/load.hpp>
#include <peft/checkpoint/save.hpp>
#include <peft/freeze/freeze.hpp>
#include <peft/io/io.hpp>
#include <peft/models/config.hpp>

#include <cstdlib>
#include <optional>

#include "parity.hpp"

namespace parity {

/// A folder that goes away.
struct TemporaryFolder {
  fs::path path;
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "peft-parity-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
    path = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
};

/// The padded batch of a golden file as a packed one: tokens whose mask is 1, with the positions that the reference gives them (0 … T−1,
/// padding in front counted, but for models whose padding has no position).
struct GoldenBatch {
  std::int64_t rows = 0, length = 0;
  std::vector<std::int32_t> ids, token_types;  // packed
  std::vector<std::int32_t> targets;           // packed and, of a causal model, already shifted; or one a sequence
  peft::Tensor<double> values;                 // (rows, labels): what a regression, or a choice of several labels, is held against
  std::vector<std::int64_t> places;            // of each packed row in the padded (B · T); −1: padding
  std::shared_ptr<const peft::Sequences> sequences;
  peft::Tensor<std::int32_t> mask;  // (rows, length)
  // Of an encoder-decoder, whose rows above are the decoder's.
  std::vector<std::int32_t> source_ids;
  std::shared_ptr<const peft::Sequences> sources;

  explicit GoldenBatch(const peft::SafetensorsFile& golden, const peft::TransformerConfig& config = {});
};

std::string model_type_of(const fs::path& folder);
bool supported_model_type(const std::string& type);
/// Turns what a folder's loading throws into one failed check instead of the end of the run.
void guarded(Report& report, const std::string& name, const std::function<void()>& run);
void merge(Difference& all, const Difference& one, const std::string& name);
/// A folder without numbers of its own (shards) against those of the model with the same configuration.
void check_like(Report& report, const std::string& name, const fs::path& folder, const fs::path& root);

/// A gradient or a weight as the file has it, which may be transposed.
template <class T>
peft::Tensor<T> as_in_file(const std::string& model_type, const std::string& path, const peft::Tensor<T>& values) {
  const auto name = peft::find_name(peft::architecture_of_model_type(model_type), path.substr(0, path.rfind('.')));
  if (!name || name.name->layout != peft::Layout::conv1d || values.rank() != 2) return values;
  peft::Tensor<T> turned({values.cols(), values.rows()});
  for (std::int64_t i = 0; i < turned.rows(); i++)
    for (std::int64_t j = 0; j < turned.cols(); j++) turned(i, j) = values(j, i);
  return turned;
}

/// Compares packed rows with the padded (B, T, C) tensor where the mask is 1, or what there is one of for each sequence with (B, C).
template <class A, class B>
Difference compare_rows(const GoldenBatch& batch, const peft::Tensor<A>& found, const peft::Tensor<B>& wanted, double abs, double rel) {
  Difference d;
  if (wanted.rank() == 2 && found.rows() == batch.rows) return compare(found, wanted, abs, rel);
  if (found.cols() != wanted.cols() || wanted.rows() != batch.rows * batch.length) {
    d.fail("shape " + to_string(found.shape()) + ", wanted " + to_string(wanted.shape()));
    return d;
  }
  for (std::size_t i = 0; i < batch.places.size(); i++)
    for (std::int64_t j = 0; batch.places[i] >= 0 && j < found.cols(); j++)
      d.add(double(found(std::int64_t(i), j)), double(wanted(batch.places[i], j)), abs, rel);
  return d;
}

/// The transformer and the pass, of a plain model and of one with adapters alike.
template <class T>
const peft::Transformer<T>& transformer_of(const peft::Transformer<T>& model) {
  return model;
}
template <class M>
const M& transformer_of(const peft::PeftModel<M>& model) {
  return model.model();
}
template <class T>
peft::Pass<T> pass_of(const peft::Transformer<T>&, const GoldenBatch& batch) {
  peft::Pass<T> pass;
  pass.sequences = batch.sequences;
  return pass;
}
template <class M>
auto pass_of(const peft::PeftModel<M>& model, const GoldenBatch& batch) {
  return model.pass(batch.sequences);
}

/// The reference puts virtual tokens ahead of a padded row, at positions 0 … n−1, and so padding in front of the text stands between the two: what a sequence
/// has of its own goes behind its virtual tokens with the positions it had, `tokens` later.
std::shared_ptr<const peft::Sequences> with_padding_behind_fronts(const peft::Sequences& fronted, std::span<const peft::Front> fronts);

/// A forward over a batch, with what the model puts in front of it.
template <class T>
struct Run {
  peft::Pass<T> pass;
  std::vector<std::int32_t> ids, token_types, targets;
  peft::Tensor<T> values;
  std::optional<peft::PassScope<T>> scope;
  template <class M>
  Run(const M& model, const GoldenBatch& batch) : pass(pass_of(model, batch)), ids(batch.ids), token_types(batch.token_types), targets(batch.targets) {
    if (batch.values) {
      values = peft::Tensor<T>(batch.values.shape());
      for (std::int64_t i = 0; i < values.size(); i++) values[i] = T(batch.values[i]);
    }
    if (!pass.fronts.empty()) {
      const bool by_row = batch.targets.size() == batch.ids.size();
      const peft::FrontedRows rows =
          peft::with_fronts(pass.fronts, *batch.sequences, batch.ids, by_row ? std::span<const std::int32_t>(batch.targets) : std::span<const std::int32_t>());
      pass.sequences = with_padding_behind_fronts(*rows.sequences, pass.fronts), ids = rows.ids;
      if (by_row) targets.assign(rows.targets.begin(), rows.targets.end());
      if (!token_types.empty()) {
        token_types.assign(ids.size(), 0);
        for (std::size_t i = 0; i < rows.place.size(); i++) token_types[std::size_t(rows.place[i])] = batch.token_types[i];
      }
    }
    if (batch.sources) {
      std::vector<std::int32_t> source_ids = batch.source_ids;
      transformer_of(model).encode(pass, batch.sources, source_ids);
    }
    scope.emplace(pass);
  }
};
template <class M>
auto begin_run(const M& model, const GoldenBatch& batch) {
  using T = typename std::remove_cvref_t<decltype(transformer_of(model))>::Scalar_;
  return std::make_unique<Run<T>>(model, batch);
}
template <class M, class R>
auto loss_of(const M& model, const R& run) {
  const auto& t = transformer_of(model);
  const auto hidden = t.hidden_states(run.ids, run.token_types);
  return run.values ? t.loss(hidden, run.values) : t.loss(hidden, run.targets);
}
/// The padded batch as the outputs have it: `tokens` virtual tokens in front of each row.
inline GoldenBatch with_virtual_tokens(const GoldenBatch& batch, std::int64_t tokens) {
  GoldenBatch wide = batch;
  wide.length += tokens, wide.places.clear();
  for (std::int64_t b = 0; b < batch.rows; b++) {
    for (std::int64_t i = 0; i < tokens; i++) wide.places.push_back(b * wide.length + i);
    for (std::int64_t t = 0; t < batch.length; t++)
      if (batch.mask(b, t)) wide.places.push_back(b * wide.length + tokens + t);
  }
  return wide;
}
template <class M>
auto run_hidden(const M& model, const GoldenBatch& batch) {
  const auto run = begin_run(model, batch);
  return transformer_of(model).hidden_states(run->ids, run->token_types).value();
}
template <class M>
auto run_logits(const M& model, const GoldenBatch& batch) {
  const auto run = begin_run(model, batch);
  const auto& t = transformer_of(model);
  return t.logits(t.hidden_states(run->ids, run->token_types)).value();
}
template <class M>
auto run_loss(const M& model, const GoldenBatch& batch) {
  const auto run = begin_run(model, batch);
  return loss_of(model, *run).value();
}

}  // namespace parity
