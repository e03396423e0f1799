// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <numeric>

#include "peft/adapters/p_tuning/config.hpp"
#include "peft/adapters/virtual_tokens.hpp"

namespace peft {

/// P-Tuning (Liu et al. 2021, arXiv:2103.10385): a soft prompt that comes out of an encoder.
///
///     E (V, hidden) ── Linear, ReLU, Linear, ReLU, Linear ── P (V, hidden)                       MLP
///     E (V, hidden) ── LSTM, both directions, n layers ── Linear, ReLU, Linear ── P (V, hidden)  LSTM
///
/// P stands in front of the embedded tokens; of an encoder-decoder, the first V of its 2V rows in front of what the encoder reads. A file has P
/// alone: what is loaded trains without the encoder.

/// One direction of one layer, with torch's gates i, f, g, o.
template <Scalar T>
struct LstmDirection {
  Parameter<T> weight_ih, weight_hh, bias_ih, bias_hh;  // (4h, in), (4h, h), (4h), (4h)
  LstmDirection() = default;
  LstmDirection(std::int64_t in, std::int64_t h, Random& random) {
    const double bound = 1 / std::sqrt(double(h));
    weight_ih = drawn_uniform<T>({4 * h, in}, bound, random), weight_hh = drawn_uniform<T>({4 * h, h}, bound, random);
    bias_ih = drawn_uniform<T>({4 * h}, bound, random), bias_hh = drawn_uniform<T>({4 * h}, bound, random);
  }
  /// x (V, in) → (V, h), from the last row to the first if `reverse`.
  Variable<T> operator()(const Variable<T>& x, bool reverse) const {
    const std::int64_t n = x.rows(), width = weight_hh.shape()[1];
    const Variable<T> from_x = linear(x, weight_ih, bias_ih);
    Variable<T> h(Tensor<T>::zeros({1, width})), c(Tensor<T>::zeros({1, width}));
    std::vector<Variable<T>> out(static_cast<std::size_t>(n));
    for (std::int64_t step = 0; step < n; step++) {
      const std::int64_t t = reverse ? n - 1 - step : step;
      const Variable<T> gates = add(linear(h, weight_hh, bias_hh), rows(from_x, t, t + 1));
      const auto gate = [&](std::int64_t k) { return columns(gates, k * width, (k + 1) * width); };
      c = add(multiply(sigmoid(gate(1)), c), multiply(sigmoid(gate(0)), tanh_of(gate(2))));
      h = multiply(sigmoid(gate(3)), tanh_of(c));
      out[std::size_t(t)] = h;
    }
    return concat_rows<T>(out);
  }
  static Variable<T> tanh_of(const Variable<T>& x) {
    return pointwise(
        x, [](T v) { return std::tanh(v); }, [](T, T y) { return 1 - y * y; });
  }
};

template <Scalar T>
struct LstmStack {
  struct Layer {
    LstmDirection<T> forward, backward;
  };
  std::vector<Layer> layers;
  double dropout = 0;  // of what goes from one layer to the next, in a pass that trains
  Variable<T> operator()(Variable<T> x, const Pass<T>& pass) const {
    for (std::size_t l = 0; l < layers.size(); l++) {
      if (l > 0) x = dropped(std::move(x), pass, l);
      x = concat_columns<T>({layers[l].forward(x, false), layers[l].backward(x, true)});
    }
    return x;
  }
  /// x (V, 2h) ahead of layer l. The rows are the prompt's, and named by their number.
  Variable<T> dropped(Variable<T> x, const Pass<T>& pass, std::size_t l) const {
    if (!pass.training || dropout == 0) return x;
    RowKeys names(std::size_t(x.rows()));
    std::iota(names.begin(), names.end(), std::uint64_t(0));
    const Dropping drop{{mix(mix(pass.seed, pass.forward), mix(name_hash("prompt_encoder.lstm_head"), l)), dropout},
                        std::make_shared<const RowKeys>(std::move(names))};
    return peft::dropout(std::move(x), drop);
  }
  static void describe(auto& self, auto&& visit) {
    for (std::size_t l = 0; l < self.layers.size(); l++) {
      const auto direction = [&](auto& d, const std::string& end) {
        visit("weight_ih_l" + end, d.weight_ih);
        visit("weight_hh_l" + end, d.weight_hh);
        visit("bias_ih_l" + end, d.bias_ih);
        visit("bias_hh_l" + end, d.bias_hh);
      };
      direction(self.layers[l].forward, std::to_string(l));
      direction(self.layers[l].backward, std::to_string(l) + "_reverse");
    }
  }
};

template <Scalar T>
struct PromptEncoder {
  static constexpr const char *file_prefix = "", *site_prefix = detail::prompt_site_prefix;
  PromptLayout layout;
  Parameter<T> embedding;
  LstmStack<T> lstm;                             // no layers: MLP
  detail::EncoderLayer<T> first, second, third;  // third: of the MLP alone
  Parameter<T> table;                            // P itself, out of a file

  Variable<T> encoded(const Pass<T>& pass = {}) const {
    if (table) return table.variable();
    const auto relu = [](Variable<T> x) { return activation(std::move(x), Activation::relu); };
    if (!lstm.layers.empty()) return second(relu(first(lstm(embedding.variable(), pass))));
    return third(relu(second(relu(first(embedding.variable())))));
  }
  void prepare(Pass<T>& pass, std::size_t list, int id) const { put_in_front(pass, list, id, encoded(pass), layout); }
  void to_file(AdapterTensors& tensors) const {
    const NoGrad guard;
    detail::replace_by_table(tensors, encoded().value());
  }
  void from_file(AdapterTensors&) {
    table = Parameter<T>(Tensor<T>::zeros(embedding.shape()), true);
    embedding = {}, lstm = {}, first = {}, second = {}, third = {};
  }
  static void describe(auto& self, auto&& visit) {
    visit("prompt_encoder.embedding.weight", self.embedding);
    visit("prompt_encoder.lstm_head", self.lstm);
    visit("prompt_encoder.mlp_head.0", self.first);
    visit("prompt_encoder.mlp_head.2", self.second);
    visit("prompt_encoder.mlp_head.4", self.third);
    visit("prompt_embeddings", self.table);
  }
};

inline void complete(PromptEncoderConfig& config, const ModelInfo& info) {
  detail::complete_virtual_tokens(config, info);
  if (config.encoder_hidden_size == 0) config.encoder_hidden_size = config.token_dim;
}
template <Scalar T>
PromptEncoder<T> shared_part(const PromptEncoderConfig& config, const ModelInfo& info, Random random) {
  const std::int64_t d = config.token_dim, h = config.encoder_hidden_size;
  PromptEncoder<T> encoder;
  encoder.layout = detail::prompt_layout(config, info);
  encoder.embedding = drawn_normal<T>({encoder.layout.rows, d}, 0, 1, random);
  if (config.encoder_reparameterization_type == "LSTM") {
    for (std::int64_t l = 0; l < config.encoder_num_layers; l++) {
      const std::int64_t in = l == 0 ? d : 2 * h;
      LstmDirection<T> forward(in, h, random);
      encoder.lstm.layers.push_back({std::move(forward), LstmDirection<T>(in, h, random)});
    }
    encoder.lstm.dropout = config.encoder_dropout;
    encoder.first = {2 * h, 2 * h, random};
    encoder.second = {2 * h, d, random};
  } else {
    encoder.first = {d, h, random};
    encoder.second = {h, h, random};
    encoder.third = {h, d, random};
  }
  return encoder;
}
template <Scalar T>
bool attach_adapter(const PromptEncoderConfig&, PromptEncoder<T>& encoder, Embedding<T>& site, const AttachContext& context) {
  return attach_virtual_tokens(site, encoder.layout, context);
}

}  // namespace peft
