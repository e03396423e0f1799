// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "peft/adapters/on_linear.hpp"
#include "peft/adapters/vblora/config.hpp"

namespace peft {

/// VB-LoRA (Li et al. 2024, arXiv:2405.15179): the pieces of A and B are mixes of k vectors of a bank that all sites share and train.
///
///     bank (n, v) ── top k by logits, softmax ── pieces of A (r, in) and B (out, r)          y = W x + B A dropout(x)
template <Scalar T>
struct VectorBank {
  Parameter<T> bank;  // (num_vectors, vector_length)
  static void describe(auto& self, auto&& visit) { visit("vblora_vector_bank", self.bank); }
};

template <Scalar T>
struct VBLoRA {
  Parameter<T> logits_A, logits_B;  // (r, in / v, n), (out / v, r, n)
  Parameter<T> bank;                // the shared one
  std::int64_t k = 0;
  std::shared_ptr<const ops::GatherMap> pieces_of_B;  // (out / v, r, v) → (out, r)
  SiteDropout<T> drop;
  Variable<T> A() const { return reshape(mix_top_rows(logits_A.variable(), bank.variable(), k), {logits_A.shape()[0], logits_A.shape()[1] * bank.shape()[1]}); }
  Variable<T> B() const {
    return gather(mix_top_rows(logits_B.variable(), bank.variable(), k), pieces_of_B, {logits_B.shape()[0] * bank.shape()[1], logits_B.shape()[1]});
  }
  /// Throws Error in training on logits that a file with save_only_topk_weights does not have.
  Variable<T> operator()(const Linear<T>&, const Variable<T>& x, Variable<T> y) const {
    const Pass<T>* pass = Pass<T>::current();
    const auto none = [](T logit) { return std::isinf(logit); };
    if (pass && pass->training && std::any_of(logits_A.value().data(), logits_A.value().data() + logits_A.shape()[2], none))
      throw Error("vblora",
                  "this adapter was saved with save_only_topk_weights, which keeps what inference needs and not what training does; a run goes on from "
                  "its training state");
    return add_product(std::move(y), matmul(drop(x), A(), false, true), B());
  }
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    const NoGrad guard;
    add_to_weight(fused, matmul(B(), A()));
  }
  static void describe(auto& self, auto&& visit) {
    visit("vblora_logits_A", self.logits_A);
    visit("vblora_logits_B", self.logits_B);
  }
};

// A file with save_only_topk_weights: instead of logits (…, n), which k vectors are mixed, the largest first, in the smallest type, and the weights of all but
// the last of these. Read again, what is not among them has the logit −∞.
inline void to_file(VBLoRAConfig& config, AdapterTensors& tensors) {
  if (!config.save_only_topk_weights) return;
  const std::int64_t n = config.num_vectors, k = config.topk;
  AdapterTensors all;
  for (AdapterTensor& t : tensors) {
    if (t.name.find(".vblora_logits_") == std::string::npos) {
      all.push_back(std::move(t));
      continue;
    }
    const std::int64_t rows = t.values.size() / n, a = t.values.shape()[0], b = t.values.shape()[1];
    const DType type = n < (1 << 8) ? DType::u8 : n < (1 << 15) ? DType::i16 : DType::i32;
    AdapterTensor indices{t.name + "_topk_indices", Tensor<float>({a, b, k}), type}, weights{t.name + "_topk_weights", Tensor<float>({a, b, k - 1})};
    std::vector<std::int64_t> top(static_cast<std::size_t>(k));
    for (std::int64_t row = 0; row < rows; row++) {
      const float* logits = t.values.data() + row * n;
      ops::top_of_row<float>(top.data(), k, logits, n);
      double sum = 0;
      for (const std::int64_t i : top) sum += std::exp(double(logits[i]) - double(logits[top[0]]));
      for (std::int64_t j = 0; j < k; j++) {
        indices.values[row * k + j] = float(top[std::size_t(j)]);
        if (j + 1 < k) weights.values[row * (k - 1) + j] = float(std::exp(double(logits[top[std::size_t(j)]]) - double(logits[top[0]])) / sum);
      }
    }
    all.push_back(std::move(indices)), all.push_back(std::move(weights));
  }
  tensors = std::move(all);
}
inline void from_file(const VBLoRAConfig& config, AdapterTensors& tensors) {
  if (!config.save_only_topk_weights) return;
  const std::int64_t n = config.num_vectors, k = config.topk;
  AdapterTensors all;
  for (AdapterTensor& t : tensors) {
    const std::size_t end = t.name.find("_topk_indices");
    if (t.name.ends_with("_topk_weights") && t.name.find(".vblora_logits_") != std::string::npos) continue;
    if (end == std::string::npos) {
      all.push_back(std::move(t));
      continue;
    }
    const std::string name = t.name.substr(0, end);
    const AdapterTensor* weights = find_tensor(tensors, name + "_topk_weights");
    const Shape shape = t.values.shape();
    if (shape.rank() != 3 || shape[2] != k || !weights || !(weights->values.shape() == Shape{shape[0], shape[1], k - 1}))
      throw CheckpointError("vblora", t.name + " is " + to_string(shape) + "; with topk " + std::to_string(k) + " it is to be (…, …, " + std::to_string(k) +
                                          "), beside " + name + "_topk_weights with one less");
    AdapterTensor logits{name, Tensor<float>({shape[0], shape[1], n}, -std::numeric_limits<float>::infinity())};
    for (std::int64_t row = 0; row < shape[0] * shape[1]; row++) {
      float left = 1;
      for (std::int64_t j = 0; j < k; j++) {
        const float at = t.values[row * k + j], weight = j + 1 < k ? weights->values[row * (k - 1) + j] : std::max(left, 0.0f);
        if (!(at >= 0 && at < float(n))) throw CheckpointError("vblora", t.name + " names vector " + std::to_string(at) + " of " + std::to_string(n));
        logits.values[row * n + std::int64_t(at)] = std::log(weight), left -= weight;
      }
    }
    all.push_back(std::move(logits));
  }
  tensors = std::move(all);
}

template <Scalar T>
VectorBank<T> shared_part(const VBLoRAConfig& config, const ModelInfo&, Random random) {
  return {drawn_uniform<T>({config.num_vectors, config.vector_length}, config.init_vector_bank_bound, random)};
}
template <Scalar T>
bool attach_adapter(const VBLoRAConfig& config, VectorBank<T>& shared, Linear<T>& site, const AttachContext& context) {
  return attach_if_targeted(config, site, context, [&](Random random) {
    const std::int64_t in = site.in_features(), out = site.out_features(), v = config.vector_length, r = config.r;
    must_divide("vblora.attach", "vector_length", v, context.path, in);
    must_divide("vblora.attach", "vector_length", v, context.path, out);
    auto pieces = std::make_shared<ops::GatherMap>();
    for (std::int64_t o = 0; o < out; o++)
      for (std::int64_t j = 0; j < r; j++) pieces->from.push_back((o / v * r + j) * v + o % v);
    Parameter<T> A = drawn_normal<T>({r, in / v, config.num_vectors}, 0, config.init_logits_std, random);
    Parameter<T> B = drawn_normal<T>({out / v, r, config.num_vectors}, 0, config.init_logits_std, random);
    return VBLoRA<T>{std::move(A), std::move(B), shared.bank, config.topk, std::move(pieces), {config.vblora_dropout, name_hash(context.path)}};
  });
}
template <Scalar T>
bool attachable(const VBLoRAConfig&, const Linear<T>&) {
  return true;
}

}  // namespace peft
