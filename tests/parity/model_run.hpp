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
  std::vector<std::int64_t> places;            // of each packed row in the padded (B · T)
  std::shared_ptr<const peft::Sequences> sequences;

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
    for (std::int64_t j = 0; j < found.cols(); j++) d.add(double(found(std::int64_t(i), j)), double(wanted(batch.places[i], j)), abs, rel);
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

template <class T>
struct Run {
  peft::Pass<T> pass;
  peft::PassScope<T> scope;
  explicit Run(peft::Pass<T> p) : pass(std::move(p)), scope(pass) {}
};
template <class M>
auto begin_run(const M& model, const GoldenBatch& batch) {
  using T = typename std::remove_cvref_t<decltype(transformer_of(model))>::Scalar_;
  return std::make_unique<Run<T>>(pass_of(model, batch));
}
template <class M>
auto loss_of(const M& model, const GoldenBatch& batch) {
  const auto& t = transformer_of(model);
  return t.loss(t.hidden_states(batch.ids, batch.token_types), batch.targets);
}
template <class M>
auto run_hidden(const M& model, const GoldenBatch& batch) {
  const auto run = begin_run(model, batch);
  return transformer_of(model).hidden_states(batch.ids, batch.token_types).value();
}
template <class M>
auto run_logits(const M& model, const GoldenBatch& batch) {
  const auto run = begin_run(model, batch);
  const auto& t = transformer_of(model);
  return t.logits(t.hidden_states(batch.ids, batch.token_types)).value();
}
template <class M>
auto run_loss(const M& model, const GoldenBatch& batch) {
  const auto run = begin_run(model, batch);
  return loss_of(model, batch).value();
}

}  // namespace parity
