// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "peft/ops/gemm.hpp"
#include "peft/ops/impl/rowwise.hpp"
#include "peft/ops/linear_cross_entropy.hpp"
#include "peft/ops/quantized.hpp"

namespace peft::ops {

namespace detail {

// A tile of logits: 2 MiB of float.
inline constexpr std::int64_t label_rows = 512, label_classes = 1024;

/// Rows begin … end of w, as a weight of their own. Permuted rows are cut between heads.
inline WeightView some_rows(const WeightView& w, std::int64_t begin, std::int64_t end) {
  WeightView part = w;
  part.data = static_cast<const std::byte*>(w.data) + bytes_of(w.dtype, w.transposed ? begin : begin * w.stride);
  part.rows = end - begin;
  return part;
}
/// One row, wherever it is stored.
inline WeightView one_row(const WeightView& w, std::int64_t r) {
  WeightView part = some_rows(w, w.stored_row(r), w.stored_row(r) + 1);
  part.rope_head_dim = 0;
  return part;
}

/// The vocabulary in tiles, each as wide as whole heads where rows are permuted.
struct Vocabulary {
  const WeightView& w;
  std::int64_t width;
  explicit Vocabulary(const WeightView& weight) : w(weight), width(label_classes) {
    if (const std::int64_t d = w.rope_head_dim; d > 0) width = std::max<std::int64_t>(1, width / d) * d;
    width = std::min(width, w.rows);
  }
  std::int64_t end(std::int64_t begin) const { return std::min(begin + width, w.rows); }
};

template <class T>
void check_head(View<const T> x, const WeightView& w, const ClassTargets<T>& targets, double softcap) {
  if (x.cols != w.cols || targets.rows() != x.rows)
    throw ShapeError("linear_cross_entropy", "x " + to_string(Shape{x.rows, x.cols}) + ", a weight " + to_string(Shape{w.rows, w.cols}) + ", " +
                                                 std::to_string(targets.rows()) + (targets.offsets.empty() ? " labels" : " rows of targets"));
  for (const std::int32_t label : targets.classes)
    if (label < 0 || label >= w.rows)
      throw ShapeError("linear_cross_entropy", "label " + std::to_string(label) + "; allowed are 0 … " + std::to_string(w.rows - 1));
  if (!targets.weights.empty() && targets.weights.size() != targets.classes.size())
    throw ShapeError("linear_cross_entropy", std::to_string(targets.weights.size()) + " weights for " + std::to_string(targets.classes.size()) + " classes");
  for (std::int64_t i = 0, last = 0; !targets.offsets.empty() && i <= x.rows; i++) {
    const std::int64_t here = targets.offsets[std::size_t(i)];
    if (here < last || here > std::int64_t(targets.classes.size()))
      throw ShapeError("linear_cross_entropy", "offset " + std::to_string(i) + " is " + std::to_string(here) +
                                                   "; offsets ascend, up to the number of classes, " + std::to_string(targets.classes.size()));
    last = here;
  }
  if (!(softcap >= 0)) throw ConfigError("linear_cross_entropy", "softcap is " + std::to_string(softcap) + "; allowed is softcap ≥ 0, 0 for none");
  if (!(targets.label_smoothing >= 0 && targets.label_smoothing <= 1))
    throw ConfigError("linear_cross_entropy", "label_smoothing is " + std::to_string(targets.label_smoothing) + "; allowed is 0 … 1");
}

}  // namespace detail

template <Scalar T>
void linear_cross_entropy_forward(T* loss, T* lse, View<T> dx, View<const T> x, const WeightView& w, const T* bias, const ClassTargets<T>& targets,
                                  double softcap) {
  detail::check_head<T>(x, w, targets, softcap);
  if (dx) detail::check_same_shape("linear_cross_entropy", dx, x);
  if (x.rows == 0) return;
  const UseKernel tiles(Kernel::panel);
  const detail::Vocabulary classes(w);
  const std::int64_t most_rows = std::min(detail::label_rows, x.rows);
  const bool smooth = targets.label_smoothing > 0, capped = softcap > 0;
  const T sharp = T(1 - targets.label_smoothing), even = T(targets.label_smoothing / double(w.rows));  // (1 − ε), ε / V
  const Tensor<T> memory({most_rows, classes.width}), largest({most_rows}), total({most_rows});
  const Tensor<T> all_classes = smooth && dx && !capped ? Tensor<T>({1, x.cols}) : Tensor<T>();  // Σ_v W_v
  // Behind a cap: the slopes 1 − (l / c)² of a tile and of the targets' logits, and Σ_v slope_v W_v, which each row has for itself.
  const Tensor<T> slopes = capped && dx ? Tensor<T>({most_rows, classes.width}) : Tensor<T>();
  const Tensor<T> target_slopes = slopes ? Tensor<T>({std::int64_t(targets.classes.size())}) : Tensor<T>();
  const Tensor<T> sloped_classes = slopes && smooth ? Tensor<T>({most_rows, x.cols}) : Tensor<T>();
  for (std::int64_t first = 0; first < x.rows; first += detail::label_rows) {
    const std::int64_t n = std::min(detail::label_rows, x.rows - first);
    const View<const T> rows = x.row_range(first, first + n);
    const View<T> sum = dx ? dx.row_range(first, first + n) : View<T>();  // Σ e^(l − largest) W, so far
    for (std::int64_t begin = 0; begin < w.rows; begin += classes.width) {
      const std::int64_t end = classes.end(begin), cols = end - begin;
      const WeightView part = detail::some_rows(w, begin, end);
      const View<T> logits = memory.view().row_range(0, n).columns(0, cols);
      const View<T> slope = slopes ? slopes.view().row_range(0, n).columns(0, cols) : View<T>();
      linear_forward<T>(logits, rows, part, bias ? bias + begin : nullptr);
      // The running maximum grows: what has been summed under the old one shrinks with it. loss gathers Σ q (largest − l), which grows with it.
      detail::each_row(n, cols, [&](std::int64_t i) {
        T* const row = logits.row(i);
        if (capped) PEFT_DISPATCH(row_softcap<T>, row, slope ? slope.row(i) : nullptr, static_cast<const T*>(row), T(softcap), cols);
        const T here = PEFT_DISPATCH(row_max<T>, row, cols), grown = begin == 0 ? here : std::max(largest[i], here);
        T gap = begin == 0 ? T(0) : loss[first + i], seen = 0;
        for (std::int64_t k = targets.begin(first + i); k < targets.end(first + i); k++) {
          const std::int64_t label = targets.classes[std::size_t(k)];
          if (label >= begin && label < end) {
            gap += sharp * targets.weight(k) * (grown - row[label - begin]);
            if (slope) target_slopes[k] = slope(i, label - begin);
          } else if (label < begin) {
            seen += sharp * targets.weight(k);
          }
        }
        if (smooth) {
          const T q = even * targets.mass(first + i);
          for (std::int64_t c = 0; c < cols; c++) gap += q * (grown - row[c]);
          seen += q * T(begin);
        }
        if (begin > 0 && grown != largest[i]) gap += seen * (grown - largest[i]);
        loss[first + i] = gap;
        const T shrink = begin == 0 ? T(0) : std::exp(largest[i] - grown);
        const T more = PEFT_DISPATCH(row_exp<T>, sum ? row : nullptr, static_cast<const T*>(row), grown, T(1), cols);
        if (slope) PEFT_DISPATCH(row_multiply<T>, row, static_cast<const T*>(row), static_cast<const T*>(slope.row(i)), cols);
        total[i] = begin == 0 ? more : total[i] * shrink + more;
        if (sum && begin > 0 && shrink != T(1)) PEFT_DISPATCH(row_scale_add<T>, sum.row(i), shrink, static_cast<const T*>(sum.row(i)), T(0), sum.cols);
        largest[i] = grown;
      });
      if (sum) linear_backward_input<T>({sum, begin > 0}, logits, part);
      if (sloped_classes) linear_backward_input<T>({sloped_classes.view().row_range(0, n), begin > 0}, slope, part);
      if (all_classes && first == 0) {
        const Tensor<T> ones({1, cols}, T(1));
        linear_backward_input<T>({all_classes.view(), begin > 0}, ones.view(), part);
      }
    }
    detail::each_row(n, x.cols, [&](std::int64_t i) {
      const T log_total = std::log(total[i]);
      lse[first + i] = largest[i] + log_total;
      loss[first + i] += targets.mass(first + i) * log_total;
    });
    if (!sum) continue;
    // Q softmax(x Wᵀ) W − Σ q W;  the tile's memory holds the classes' rows, as many at a time as fit.
    detail::each_row(n, x.cols, [&](std::int64_t i) {
      const T q = targets.mass(first + i);
      T* const row = sum.row(i);
      PEFT_DISPATCH(row_scale_add<T>, row, q / total[i], static_cast<const T*>(row), T(0), x.cols);
      const T* const evenly = sloped_classes ? sloped_classes.view().row(i) : all_classes.data();
      if (smooth) PEFT_DISPATCH(row_scale_add<T>, row, -even * q, evenly, T(1), x.cols);
    });
    const std::int64_t at_once = std::max<std::int64_t>(1, n * classes.width / x.cols);
    const Tensor<T> wide = at_once * x.cols > n * classes.width ? Tensor<T>({x.cols}) : Tensor<T>();
    for (std::int64_t begin = 0; begin < n;) {
      // Rows begin … end whose classes fit together, or one row with more of them.
      std::int64_t end = begin + 1;
      while (end < n && targets.end(first + end) - targets.begin(first + begin) <= at_once) end++;
      const bool fit = targets.end(first + end - 1) - targets.begin(first + begin) <= at_once;
      const View<T> held(wide ? wide.data() : memory.data(), wide ? 1 : at_once, x.cols);
      const auto subtract = [&](std::int64_t i, const View<T>& place) {
        for (std::int64_t k = targets.begin(first + i); k < targets.end(first + i); k++) {
          const View<T> class_row = fit ? place.row_range(k - targets.begin(first + begin), k - targets.begin(first + begin) + 1) : place.row_range(0, 1);
          widen<T>(class_row, detail::one_row(w, targets.classes[std::size_t(k)]));
          const T share = -sharp * targets.weight(k) * (target_slopes ? target_slopes[k] : T(1));
          PEFT_DISPATCH(row_scale_add<T>, sum.row(i), share, static_cast<const T*>(class_row.data), T(1), x.cols);
        }
      };
      if (fit)
        detail::each_row(end - begin, x.cols, [&](std::int64_t i) { subtract(begin + i, held); });
      else
        subtract(begin, held);
      begin = end;
    }
  }
}

template <Scalar T>
void linear_cross_entropy_backward_weight(GradSink<T> dw, GradSink<T> db, T factor, View<const T> x, const WeightView& w, const T* bias,
                                          const ClassTargets<T>& targets, const T* lse, double softcap) {
  if (!dw && !db) return;
  detail::check_head<T>(x, w, targets, softcap);
  const UseKernel tiles(Kernel::panel);
  const detail::Vocabulary classes(w);
  const T sharp = T(1 - targets.label_smoothing), even = T(targets.label_smoothing / double(w.rows));
  const Tensor<T> memory({std::min(detail::label_rows, x.rows), classes.width}), slopes = softcap > 0 ? Tensor<T>(memory.shape()) : Tensor<T>();
  for (std::int64_t begin = 0; begin < w.rows; begin += classes.width) {
    const std::int64_t end = classes.end(begin), cols = end - begin;
    const WeightView part = detail::some_rows(w, begin, end);
    std::int64_t first = 0;
    do {  // once at least: sinks that are first are written even if there is no row
      const std::int64_t n = std::min(detail::label_rows, x.rows - first);
      const View<const T> rows = x.row_range(first, first + n);
      const View<T> dlogits = memory.view().row_range(0, n).columns(0, cols);
      linear_forward<T>(dlogits, rows, part, bias ? bias + begin : nullptr);
      detail::each_row(n, cols, [&](std::int64_t i) {  // scale · (Q softmax − q)
        T* const row = dlogits.row(i);
        const T q = targets.mass(first + i);
        T* const slope = slopes ? slopes.view().row(i) : nullptr;
        if (slope) PEFT_DISPATCH(row_softcap<T>, row, slope, static_cast<const T*>(row), T(softcap), cols);
        PEFT_DISPATCH(row_exp<T>, row, static_cast<const T*>(row), lse[first + i], factor * q, cols);
        for (std::int64_t k = targets.begin(first + i); k < targets.end(first + i); k++) {
          const std::int64_t label = targets.classes[std::size_t(k)];
          if (label >= begin && label < end) row[label - begin] -= factor * sharp * targets.weight(k);
        }
        if (even > 0)
          for (std::int64_t c = 0; c < cols; c++) row[c] -= factor * even * q;
        if (slope) PEFT_DISPATCH(row_multiply<T>, row, static_cast<const T*>(row), static_cast<const T*>(slope), cols);
      });
      const bool add = first > 0;
      const GradSink<T> dw_part = dw ? GradSink<T>{dw.view.row_range(begin, end), dw.accumulate || add} : GradSink<T>{};
      const GradSink<T> db_part = db ? GradSink<T>{db.view.columns(begin, end), db.accumulate || add} : GradSink<T>{};
      linear_backward_weight<T>(dw_part, db_part, dlogits, rows);
      first += n;
    } while (first < x.rows);
  }
}

}  // namespace peft::ops
