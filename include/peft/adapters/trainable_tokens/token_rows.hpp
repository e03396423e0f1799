// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unordered_map>

#include "peft/adapters/adapter.hpp"
#include "peft/autograd/functions/matrix.hpp"
#include "peft/autograd/functions/rows.hpp"
#include "peft/nn/embedding.hpp"
#include "peft/nn/linear.hpp"

namespace peft {

/// Rows of an embedding that train in place of the base's (absolute, not differences): y row n = scale · rows[k] where ids[n] is token k.
///
///     ids ── Embedding, frozen ── rows of chosen tokens replaced ── y
///
/// A head that shares its tensor with the embedding answers with the same rows: logits of token k are x · rows[k]. One Parameter at two sites.
template <Scalar T>
struct TokenRows {
  std::vector<std::int64_t> tokens;
  Parameter<T> rows;  // (tokens, hidden)
};

template <Scalar T>
struct TokenEmbedding {
  TokenRows<T> trained;
  std::string name;  // of the rows in a file
  Variable<T> operator()(const Embedding<T>& base, const typename Embedding<T>::Input& ids, Variable<T> y) const {
    Ids which(ids.size());
    for (std::size_t n = 0; n < ids.size(); n++) {
      const auto found = std::find(trained.tokens.begin(), trained.tokens.end(), std::int64_t(ids[n]));
      which[n] = found == trained.tokens.end() ? -1 : std::int32_t(found - trained.tokens.begin());
    }
    return replace_rows(std::move(y), trained.rows.variable(), std::move(which), base.scale);
  }
  void merge_into(Embedding<T>& fused, const Embedding<T>&) const {
    const View<T> W = fused.weight.value().view();
    for (std::size_t k = 0; k < trained.tokens.size(); k++)
      ops::copy<T>(W.row_range(trained.tokens[k], trained.tokens[k] + 1), trained.rows.value().view().row_range(std::int64_t(k), std::int64_t(k) + 1));
    fused.weight.touch();
  }
  static void describe(auto& self, auto&& visit) { visit(self.name, self.trained.rows); }
};

template <Scalar T>
struct TokenHead {
  TokenRows<T> trained;
  std::string name;  // empty: the embedding's file entry is enough
  Variable<T> operator()(const Linear<T>& base, const Variable<T>& x, Variable<T> y) const {
    Variable<T> z = matmul(x, trained.rows.variable(), false, true);
    if (base.bias) {
      Tensor<T> bias({std::int64_t(trained.tokens.size())});
      for (std::size_t k = 0; k < trained.tokens.size(); k++) bias[std::int64_t(k)] = base.bias.value()[trained.tokens[k]];
      z = add_constant_row(std::move(z), T(1), bias);
    }
    return replace_columns(std::move(y), z, trained.tokens);
  }
  void merge_into(Linear<T>& fused, const Linear<T>&) const {
    const View<T> W = fused.weight.value().view();
    for (std::size_t k = 0; k < trained.tokens.size(); k++)
      ops::copy<T>(W.row_range(trained.tokens[k], trained.tokens[k] + 1), trained.rows.value().view().row_range(std::int64_t(k), std::int64_t(k) + 1));
    fused.weight.touch();
  }
  static void describe(auto& self, auto&& visit) {
    if (!self.name.empty()) visit(self.name, self.trained.rows);
  }
};

/// The rows `tokens` of an embedding's table or a head's, to be trained. Throws ConfigError for an id that it does not have, or one that occurs twice.
template <Scalar T>
TokenRows<T> make_token_rows(std::string_view method, const Parameter<T>& table, const std::vector<std::int64_t>& tokens) {
  const std::int64_t count = table.shape()[0];
  Tensor<T> rows({std::int64_t(tokens.size()), table.shape()[1]});
  Ids ids;
  for (std::int64_t token : tokens) {
    if (token < 0 || token >= count) throw ConfigError(method, "token " + std::to_string(token) + "; the model has tokens 0 to " + std::to_string(count - 1));
    if (std::find(ids.begin(), ids.end(), std::int32_t(token)) != ids.end()) throw ConfigError(method, "token " + std::to_string(token) + " is named twice");
    ids.push_back(std::int32_t(token));
  }
  ops::embedding_forward<T>(rows.view(), ids, table.view());
  return {tokens, Parameter<T>(std::move(rows), true)};
}

}  // namespace peft
