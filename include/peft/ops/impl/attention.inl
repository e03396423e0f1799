// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <vector>

#include "peft/ops/attention.hpp"
#include "peft/ops/impl/attention_tiles.hpp"
#include "peft/ops/impl/rowwise.hpp"

namespace peft::ops {

namespace detail {

template <class T>
bool past_fits(const AttentionSequence<T>& s, std::int64_t cols) {
  const auto fits = [&](const auto& k, const auto& v) { return !k ? !v : k.cols == cols && v.cols == cols && v.rows == k.rows; };
  return fits(s.past_k, s.past_v) && fits(s.past_k_half, s.past_v_half) && !(s.past_k && s.past_k_half);
}

template <class T>
void check_attention(const char* operation, View<const T> q, std::span<const AttentionSequence<T>> sequences, const AttentionShape& shape) {
  if (shape.heads < 1 || shape.kv_heads < 1 || shape.head_dim < 1 || shape.heads % shape.kv_heads || q.cols != shape.heads * shape.head_dim)
    throw ShapeError(operation, std::to_string(shape.heads) + " heads over " + std::to_string(shape.kv_heads) + " key heads of " +
                                    std::to_string(shape.head_dim) + ", q has " + std::to_string(q.cols) + " columns");
  if (!(shape.softcap >= 0)) throw ConfigError(operation, "softcap is " + std::to_string(shape.softcap) + "; allowed is softcap ≥ 0, 0 for none");
  const std::int64_t cols = shape.kv_heads * shape.head_dim;
  for (std::size_t i = 0; i < sequences.size(); i++) {
    const AttentionSequence<T>& s = sequences[i];
    const std::int64_t prefix = prefix_rows(s), past = s.past_keys();
    const std::int64_t keys = s.own_keys(), values = s.v_half ? s.v_half.rows : s.v.rows;
    const std::int64_t k_cols = s.k_half ? s.k_half.cols : s.k.cols, v_cols = s.v_half ? s.v_half.cols : s.v.cols;
    if (s.begin < 0 || s.end < s.begin || s.end > q.rows || keys != values || (s.end - s.begin > prefix + past + keys && (shape.causal || shape.window > 0)) ||
        bool(s.k_half) != bool(s.v_half) || (s.k_half && s.k) || (keys > 0 && (k_cols != cols || v_cols != cols)) ||
        (prefix > 0 && (s.prefix_k.cols != cols || s.prefix_v.cols != cols || s.prefix_v.rows != prefix)) || !past_fits(s, cols))
      throw ShapeError(operation, "sequence " + std::to_string(i) + ": rows " + std::to_string(s.begin) + " … " + std::to_string(s.end) + " of " +
                                      std::to_string(q.rows) + ", k " + to_string(Shape{keys, k_cols}) + ", v " + to_string(Shape{values, v_cols}) +
                                      ", a prefix " + to_string(Shape{prefix, s.prefix_k.cols}) + ", a past of " + std::to_string(past) + "; keys have " +
                                      std::to_string(cols) + " columns");
  }
}

template <class T>
void check_bias(const char* operation, const RelativeBias<T>& bias, std::span<const AttentionSequence<T>> sequences, const AttentionShape& shape) {
  if (!bias) return;
  if (shape.softcap > 0) throw NotSupported(operation, "a softcap of " + std::to_string(shape.softcap) + " besides a relative bias");
  std::int64_t back = 0, ahead = 0;
  for (const AttentionSequence<T>& s : sequences)
    if (const std::int64_t rows = s.end - s.begin; rows > 0) {
      back = std::max(back, keys_ahead(s) + s.own_keys() - 1);
      ahead = std::max(ahead, shape.causal ? std::max<std::int64_t>(0, s.context - (keys_ahead(s) + s.own_keys() - rows) - 1) : rows - 1);
    }
  if (bias.table.cols != shape.heads || bias.zero < back || bias.zero + ahead >= bias.table.rows)
    throw ShapeError(operation, "a relative bias " + to_string(Shape{bias.table.rows, bias.table.cols}) + " with row " + std::to_string(bias.zero) +
                                    " for distance 0; " + std::to_string(shape.heads) + " heads and the distances " + std::to_string(-back) + " … " +
                                    std::to_string(ahead) + " are wanted");
}

/// Queries first … end of a sequence for one key head. In backward, its dK and dV begin at `at`, `keys` rows each.
struct AttentionChunk {
  std::size_t sequence;
  std::int64_t kv_head, first, end;
  std::int64_t at = 0, keys = 0;
};
using AttentionChunks = std::vector<AttentionChunk, PoolAllocator<AttentionChunk>>;

/// Every sequence in pieces of at most `queries`, the last ones first, because they see the most keys.
template <class T, class Queries>
AttentionChunks attention_chunks(std::span<const AttentionSequence<T>> sequences, const AttentionShape& shape, const Queries& queries) {
  AttentionChunks chunks;
  for (std::size_t i = 0; i < sequences.size(); i++) {
    const std::int64_t rows = sequences[i].end - sequences[i].begin;
    if (rows == 0) continue;
    const std::int64_t each = queries(rows);
    for (std::int64_t first = (rows - 1) / each * each; first >= 0; first -= each)
      for (std::int64_t head = 0; head < shape.kv_heads; head++)
        chunks.push_back({i, head, sequences[i].begin + first, sequences[i].begin + std::min(rows, first + each), 0, 0});
  }
  return chunks;
}

}  // namespace detail

namespace detail {

template <class T>
void clear_range(const QueryBlock<T>& b, T* o, T* largest, T* total) {
  std::fill(o, o + b.width * b.padded, T(0)), std::fill(total, total + b.width, T(0));
  std::fill(largest, largest + b.width, -std::numeric_limits<T>::infinity());
}

/// out = Σ e^s v / Σ e^s;  lse = max s + log Σ e^s. A query that sees no key gives zeros.
template <class T>
void finish_block(const QueryBlock<T>& b, const Block<T>& block, View<T> out, View<T> lse) {
  for (std::int64_t lane = 0; lane < b.lanes; lane++) {
    const T total = b.all_total[lane], factor = total == T(0) ? T(0) : T(1) / total;
    T* to = out.row(block.row(lane)) + block.head(lane) * b.dim;
    PEFT_DISPATCH(row_scale_add<T>, to, factor, static_cast<const T*>(b.all_o + lane * b.padded), T(0), b.dim);
    lse(block.row(lane), block.head(lane)) = b.all_largest[lane] + std::log(total);
  }
}

/// Blocks of queries, each over all of its keys.
template <class T>
void attend_in_blocks(View<T> out, View<T> lse, View<const T> q, std::span<const AttentionSequence<T>> sequences, const AttentionShape& shape,
                      const AttentionChunks& chunks, const BiasRows<T>& bias) {
  const std::int64_t width = round_up(queries_per_block(shape) * (shape.heads / shape.kv_heads), 16), padded = round_up(shape.head_dim, 16);
  Slots slots(std::int64_t(chunks.size()), std::int64_t(sizeof(T)) * (block_elements(shape) + 2 * width * padded + 6 * width));
  parallel_for(std::int64_t(chunks.size()), [&](std::int64_t number) {
    const AttentionChunk& chunk = chunks[std::size_t(number)];
    const Block<T> block(shape, sequences[chunk.sequence], chunk.kv_head, chunk.first, chunk.end);
    const Slots::Slot slot(slots);
    Pieces<T> memory(slot.data());
    QueryBlock<T> b{};
    KeyTile<T> t;
    cut_block<T>(b, t, memory, shape);
    b.o = memory.cut(width * padded), b.largest = memory.cut(width), b.total = memory.cut(width), b.shrink = memory.cut(width);
    b.all_o = memory.cut(width * padded), b.all_largest = memory.cut(width), b.all_total = memory.cut(width), b.keep = memory.cut(width);
    load_queries<T>(b, block, q);
    clear_range<T>(b, b.o, b.largest, b.total), clear_range<T>(b, b.all_o, b.all_largest, b.all_total);
    for (std::int64_t range = 0; range < block.last(); range += key_range) {
      const bool any = each_tile<T>(block, range, range + key_range, [&](std::int64_t begin) {
        load_tile<T>(t, b, block, begin, false);
        load_bias<T>(t, b, block, bias, begin, b.width, 1);
        PEFT_DISPATCH(attend<T>, b, t);
      });
      if (any) PEFT_DISPATCH(join_range<T>, b);
    }
    finish_block<T>(b, block, out, lse);
  });
}

/// A few queries behind a cache are bound by memory.
template <class T>
bool few_queries(const AttentionSequence<T>& s, const AttentionShape& shape) {
  return (s.end - s.begin) * (shape.heads / shape.kv_heads) <= few_lanes;
}

/// A sequence of one or few queries over a long past. A chunk is one range of keys for all heads, so that the rows of a cache are read from one end
/// to the other; where there is one range only, each head is a chunk.
template <class T>
struct FewQueries {
  const AttentionSequence<T>* sequence;
  std::int64_t ranges, together;  // heads of a chunk
  std::int64_t first_chunk, first_state;
};

/// All such sequences at once.
template <class T>
void attend_in_ranges(View<T> out, View<T> lse, View<const T> q, std::span<const AttentionSequence<T>> sequences, const AttentionShape& shape,
                      const BiasRows<T>& bias) {
  constexpr std::int64_t width = round_up(few_lanes, 16);
  const std::int64_t padded = round_up(shape.head_dim, 16), heads = shape.kv_heads, state = width * padded + 2 * width;
  std::vector<FewQueries<T>, PoolAllocator<FewQueries<T>>> all;
  std::int64_t chunks = 0, states_wanted = 0, together = 1, widened = 0;
  for (const AttentionSequence<T>& s : sequences) {
    if (s.end == s.begin || !few_queries(s, shape)) continue;
    const std::int64_t ranges = (Block<T>(shape, s, 0, s.begin, s.end).last() + key_range - 1) / key_range;
    all.push_back({&s, ranges, ranges > 1 ? heads : 1, chunks, states_wanted});
    chunks += ranges * heads / all.back().together, states_wanted += ranges * heads, together = std::max(together, all.back().together);
    if (has_half_keys(s)) widened = 2 * key_tile * padded;  // keys of half precision are not read where they are
  }
  if (all.empty()) return;
  const Tensor<T> states({states_wanted, state});  // o, largest and total of each range and head
  const std::int64_t attending = together * width * padded + key_tile * width + 4 * width + padded + widened, joining = state + 2 * width;
  Slots slots(std::max(chunks, std::int64_t(all.size())), std::int64_t(sizeof(T)) * std::max(attending, joining));
  const auto place = [&](QueryBlock<T>& b, std::int64_t number) {
    b.o = states.view().row(number), b.largest = b.o + width * padded, b.total = b.largest + width;
  };
  parallel_for(chunks, [&](std::int64_t number) {
    const FewQueries<T>& of = *std::prev(std::upper_bound(all.begin(), all.end(), number, [](std::int64_t n, const auto& a) { return n < a.first_chunk; }));
    const AttentionSequence<T>& s = *of.sequence;
    const std::int64_t begin_head = (number - of.first_chunk) * of.together, range = begin_head / heads, first = begin_head % heads;
    const Slots::Slot slot(slots);
    Pieces<T> memory(slot.data());
    QueryBlock<T> b{};
    KeyTile<T> t;
    b.dim = shape.head_dim, b.padded = padded, b.width = width, b.softcap = T(shape.softcap);
    b.p = memory.cut(key_tile * width), b.first = memory.cut(width), b.last = memory.cut(width), b.shrink = memory.cut(width), b.spare = memory.cut(padded);
    T* const queries = memory.cut(of.together * width * padded);
    if (has_half_keys(s)) t.k = memory.cut(key_tile * padded), t.v = memory.cut(key_tile * padded);
    const auto take_head = [&](std::int64_t head) {
      place(b, of.first_state + range * heads + head);
      b.q = queries + (head - first) * width * padded;
      return Block<T>(shape, s, head, s.begin, s.end);
    };
    std::fill(b.spare, b.spare + padded, T(0));
    for (std::int64_t head = first; head < first + of.together; head++) {
      const Block<T> block = take_head(head);
      b.lanes = block.lanes();
      load_lanes<T>(b.q, b, block, q, T(shape.scale));
      clear_range<T>(b, b.o, b.largest, b.total);
    }
    each_tile<T>(Block<T>(shape, s, 0, s.begin, s.end), range * key_range, (range + 1) * key_range, [&](std::int64_t begin) {
      for (std::int64_t head = first; head < first + of.together; head++) {
        const Block<T> block = take_head(head);
        load_tile<T>(t, b, block, begin, true);
        load_bias<T>(t, b, block, bias, begin, 1, key_tile);
        PEFT_DISPATCH(attend_few<T>, b, t);
      }
    });
  });
  parallel_for(std::int64_t(all.size()), [&](std::int64_t number) {
    const FewQueries<T>& of = all[std::size_t(number)];
    const AttentionSequence<T>& s = *of.sequence;
    const Slots::Slot slot(slots);
    for (std::int64_t head = 0; head < heads; head++) {
      Pieces<T> memory(slot.data());
      QueryBlock<T> b{};
      const Block<T> block(shape, s, head, s.begin, s.end);
      b.dim = shape.head_dim, b.padded = padded, b.width = width, b.lanes = block.lanes();
      b.all_o = memory.cut(width * padded), b.all_largest = memory.cut(width), b.all_total = memory.cut(width), b.shrink = memory.cut(width);
      b.keep = memory.cut(width);
      clear_range<T>(b, b.all_o, b.all_largest, b.all_total);
      for (std::int64_t range = 0; range < of.ranges; range++) place(b, of.first_state + range * heads + head), PEFT_DISPATCH(join_range<T>, b);
      finish_block<T>(b, block, out, lse);
    }
  });
}

}  // namespace detail

template <Scalar T>
void attention_forward(View<T> out, View<T> lse, View<const T> q, std::span<const AttentionSequence<T>> sequences, const AttentionShape& shape,
                       const RelativeBias<T>& bias) {
  detail::check_attention<T>("attention", q, sequences, shape);
  detail::check_bias<T>("attention", bias, sequences, shape);
  const detail::BiasRows<T> bias_rows(bias);
  detail::AttentionChunks chunks = detail::attention_chunks<T>(sequences, shape, [&](std::int64_t) { return detail::queries_per_block(shape); });
  std::erase_if(chunks, [&](const detail::AttentionChunk& c) { return detail::few_queries(sequences[c.sequence], shape); });
  if (!chunks.empty()) detail::attend_in_blocks<T>(out, lse, q, sequences, shape, chunks, bias_rows);
  detail::attend_in_ranges<T>(out, lse, q, sequences, shape, bias_rows);
}

template <Scalar T>
void attention_backward(GradSink<T> dq, std::span<const AttentionSequenceGrad<T>> grads, View<const T> dout, View<const T> out, View<const T> lse,
                        View<const T> q, std::span<const AttentionSequence<T>> sequences, const AttentionShape& shape, const RelativeBias<T>& bias,
                        GradSink<T> dbias) {
  detail::check_attention<T>("attention backward", q, sequences, shape);
  detail::check_bias<T>("attention backward", bias, sequences, shape);
  if (dbias && (dbias.view.rows != bias.table.rows || dbias.view.cols != bias.table.cols))
    throw ShapeError("attention backward", "the gradient of a relative bias " + to_string(Shape{bias.table.rows, bias.table.cols}) + " in " +
                                               to_string(Shape{dbias.view.rows, dbias.view.cols}));
  const detail::BiasRows<T> bias_rows(bias);
  for (const AttentionSequence<T>& s : sequences)
    if (s.k_half || s.past_keys() > 0) throw Error("attention backward", "keys of half precision and a past are a cache's, for inference");
  if (grads.size() != sequences.size())
    throw ShapeError("attention backward", std::to_string(grads.size()) + " sets of gradients for " + std::to_string(sequences.size()) + " sequences");
  // A chunk owns the rows of dq, and a part of dK and dV of its own; parts are added in the order of the queries. A long sequence is cut,
  // so that few key heads keep more than few threads busy; how, depends on its own length alone.
  detail::AttentionChunks chunks = detail::attention_chunks<T>(sequences, shape, [&](std::int64_t rows) {
    const std::int64_t parts = std::clamp<std::int64_t>(std::min(rows / 128, (16 + shape.kv_heads - 1) / shape.kv_heads), 1, 4);
    return detail::round_up((rows + parts - 1) / parts, detail::queries_per_block(shape));
  });
  const std::int64_t width = detail::round_up(detail::queries_per_block(shape) * (shape.heads / shape.kv_heads), 16),
                     padded = detail::round_up(shape.head_dim, 16);
  std::vector<std::size_t, PoolAllocator<std::size_t>> starts(sequences.size() + 1, chunks.size());  // of each sequence's chunks
  for (std::size_t c = chunks.size(); c-- > 0;) starts[chunks[c].sequence] = c;
  for (std::size_t i = sequences.size(); i-- > 0;)
    if (sequences[i].begin == sequences[i].end) starts[i] = starts[i + 1];
  if (chunks.empty() && sequences.empty()) return;
  std::int64_t elements = 0;
  for (detail::AttentionChunk& c : chunks) {
    const AttentionSequenceGrad<T>& g = grads[c.sequence];
    if (!g.k && !g.v && !g.prefix_k && !g.prefix_v) continue;
    c.at = elements, c.keys = detail::round_up(detail::Block<T>(shape, sequences[c.sequence], c.kv_head, c.first, c.end).last(), detail::key_tile);
    elements += 2 * c.keys * padded;
  }
  const Tensor<T> parts({elements});
  // And a part of the bias's gradient, (group, distances).
  const std::int64_t group = shape.heads / shape.kv_heads, bias_part = dbias ? group * bias_rows.distances() : 0;
  const Tensor<T> bias_parts = Tensor<T>::zeros({std::int64_t(chunks.size()) * bias_part});
  detail::Slots slots(std::int64_t(chunks.size()),
                      std::int64_t(sizeof(T)) * (detail::block_elements(shape) + 3 * width * padded + detail::key_tile * width + 2 * width));
  parallel_for(std::int64_t(chunks.size()), [&](std::int64_t number) {
    const detail::AttentionChunk& chunk = chunks[std::size_t(number)];
    const AttentionSequenceGrad<T>& to = grads[chunk.sequence];
    const detail::Slots::Slot slot(slots);
    detail::Pieces<T> memory(slot.data());
    detail::QueryBlock<T> b{};
    detail::KeyTile<T> t;
    detail::cut_block<T>(b, t, memory, shape);
    b.dout = memory.cut(width * padded), b.doutt = memory.cut(width * padded), b.ds = memory.cut(detail::key_tile * width), b.lse = memory.cut(width);
    b.delta = memory.cut(width), b.dq = dq ? memory.cut(width * padded) : nullptr, b.wants_ds = bool(dbias);
    T* const dbias_part = bias_parts.data() + number * bias_part;
    T* const dk = to.k || to.prefix_k ? parts.data() + chunk.at : nullptr;
    T* const dv = to.v || to.prefix_v ? parts.data() + chunk.at + chunk.keys * padded : nullptr;
    if (dk) std::fill(dk, dk + chunk.keys * padded, T(0));
    if (dv) std::fill(dv, dv + chunk.keys * padded, T(0));
    for (std::int64_t first = chunk.first; first < chunk.end; first += detail::queries_per_block(shape)) {
      const detail::Block<T> block(shape, sequences[chunk.sequence], chunk.kv_head, first, std::min(chunk.end, first + detail::queries_per_block(shape)));
      detail::load_queries<T>(b, block, q);
      detail::load_lanes<T>(b.dout, b, block, dout, T(1));
      PEFT_DISPATCH(turn<T>, b.doutt, static_cast<const T*>(b.dout), b.width, padded);
      std::fill(b.lse, b.lse + b.width, T(0)), std::fill(b.delta, b.delta + b.width, T(0));
      for (std::int64_t lane = 0; lane < b.lanes; lane++) {
        const std::int64_t row = block.row(lane), head = block.head(lane);
        b.lse[lane] = lse(row, head);
        b.delta[lane] = PEFT_DISPATCH(row_dot<T>, dout.row(row) + head * b.dim, out.row(row) + head * b.dim, b.dim);
      }
      if (dq) std::fill(b.dq, b.dq + b.width * padded, T(0));
      detail::each_tile<T>(block, 0, block.last(), [&](std::int64_t begin) {
        detail::load_tile<T>(t, b, block, begin, false);
        detail::load_bias<T>(t, b, block, bias_rows, begin, b.width, 1);
        PEFT_DISPATCH(attend_backward<T>, b, t, dk ? dk + begin * padded : nullptr, dv ? dv + begin * padded : nullptr);
        for (std::int64_t lane = 0; dbias && lane < b.lanes; lane++)
          for (std::int64_t j = 0; j < t.count; j++)
            dbias_part[lane % group * bias_rows.distances() + bias_rows.at(block, lane, begin + j)] += b.ds[j * b.width + lane];
      });
      for (std::int64_t lane = 0; dq && lane < b.lanes; lane++) {
        T* row = dq.view.row(block.row(lane)) + block.head(lane) * b.dim;
        PEFT_DISPATCH(row_scale_add<T>, row, T(shape.scale), static_cast<const T*>(b.dq + lane * padded), T(dq.accumulate), b.dim);
      }
    }
  });

  if (dbias) {
    if (!dbias.accumulate)
      for (std::int64_t d = 0; d < dbias.view.rows; d++) std::fill_n(dbias.view.row(d), dbias.view.cols, T(0));
    for (std::size_t c = 0; c < chunks.size(); c++)
      for (std::int64_t g = 0; g < group; g++)
        for (std::int64_t d = 0; d < bias_rows.distances(); d++)
          dbias.view(d, chunks[c].kv_head * group + g) += bias_parts[std::int64_t(c) * bias_part + g * bias_rows.distances() + d];
  }

  // Key rows begin … end of one sequence and key head into a sink that has no prefix of `shift` rows.
  const auto add_parts = [&](std::size_t sequence, std::int64_t kv_head, std::int64_t begin, std::int64_t end, bool values, const GradSink<T>& sink,
                             std::int64_t shift) {
    if (!sink) return;
    const auto to = [&](std::int64_t j) { return sink.view.row(j - shift) + kv_head * shape.head_dim; };
    std::int64_t written = sink.accumulate ? end : begin;                  // rows before it hold something
    for (std::size_t c = starts[sequence + 1]; c-- > starts[sequence];) {  // later queries stand first in the list
      const detail::AttentionChunk& chunk = chunks[c];
      if (chunk.kv_head != kv_head) continue;
      const T* const from = parts.data() + chunk.at + (values ? chunk.keys * padded : 0);
      for (std::int64_t j = begin; j < std::min(end, chunk.keys); j++)
        PEFT_DISPATCH(row_scale_add<T>, to(j), T(1), from + j * padded, T(j < written), shape.head_dim);
      written = std::max(written, std::min(end, chunk.keys));
    }
    for (std::int64_t j = written; j < end; j++) std::fill(to(j), to(j) + shape.head_dim, T(0));  // nobody sees them
  };
  parallel_for(std::int64_t(sequences.size()) * shape.kv_heads, [&](std::int64_t number) {
    const auto i = std::size_t(number / shape.kv_heads);
    const std::int64_t kv_head = number % shape.kv_heads, prefix = detail::prefix_rows(sequences[i]), keys = prefix + sequences[i].k.rows;
    add_parts(i, kv_head, prefix, keys, false, grads[i].k, prefix);
    add_parts(i, kv_head, prefix, keys, true, grads[i].v, prefix);
  });
  // Sequences may share a prefix and its gradient: they take turns, in their order.
  parallel_for(shape.kv_heads, [&](std::int64_t kv_head) {
    for (std::size_t i = 0; i < sequences.size(); i++) {
      add_parts(i, kv_head, 0, detail::prefix_rows(sequences[i]), false, grads[i].prefix_k, 0);
      add_parts(i, kv_head, 0, detail::prefix_rows(sequences[i]), true, grads[i].prefix_v, 0);
    }
  });
}

}  // namespace peft::ops
