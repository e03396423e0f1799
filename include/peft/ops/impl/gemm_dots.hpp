// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "peft/ops/impl/gemm_engine.hpp"

namespace peft::ops::detail {

/// With so few columns of C, dot products along k are faster than panels.
inline constexpr std::int64_t few = 16;

/// All of a factor as (lines, depth) of T.
template <class T>
void widen_factor(const GemmKernels<T>& f, T* to, const Factor& w) {
  const Widen<T> widen = f.widener(w.type);
  if (w.along)
    for (std::int64_t i = 0; i < w.lines; i++) widen(to + i * w.depth, w.data + w.stored(i) * w.stride, 0, w.depth);
  else
    for (std::int64_t k = 0; k < w.depth; k++)
      for (std::int64_t i = 0; i < w.lines; i++) widen(to + i * w.depth + k, w.data + w.stored(k) * w.stride, i, 1);
}

/// The lines of a matrix that is read once, as runs for threads to claim. The first run of each thread is long: what is fetched ahead of it is its
/// own, and memory is read as fast as it goes. Short ones even out the end. Each line is a result of its own, so that the number of threads may
/// decide here.
class Runs {
 public:
  Runs(std::int64_t lines, std::int64_t line_bytes) : lines_(lines), threads_(num_threads()), long_(lines * 7 / 8 / threads_ / 4 * 4) {
    const std::int64_t bytes = std::max<std::int64_t>(1, line_bytes), fair = (lines - threads_ * long_) / (2 * threads_);
    short_ = std::max<std::int64_t>(4, std::clamp(fair, 4096 / bytes, 49152 / bytes) / 4 * 4);
  }
  std::int64_t count() const { return threads_ + (lines_ - threads_ * long_ + short_ - 1) / short_; }
  std::int64_t begin(std::int64_t run) const { return run <= threads_ ? run * long_ : std::min(lines_, threads_ * long_ + (run - threads_) * short_); }
  std::int64_t end(std::int64_t run) const { return begin(run + 1); }

 private:
  std::int64_t lines_, threads_, long_, short_ = 0;
};

/// y (N, out) = alpha · x wᵀ [+ y] [+ bias]. The rows of w are streamed once, in the order in which they lie; with few of them the rows
/// of x are split among threads instead.
template <class T>
void dot_products(const GemmKernels<T>& f, View<T> y, View<const T> x, const Factor& w, T alpha, bool add, const T* bias) {
  if (y.rows == 0 || y.cols == 0) return;
  const std::int64_t K = w.depth, size = sizeof(T);
  Dots<T> all;
  all.depth = K, all.alpha = alpha, all.add = add, all.bias = bias, all.ldx = x.stride, all.ldy = y.stride;
  if (w.lines <= few) {
    const bool dense = w.along && w.rope_head_dim == 0 && w.type == dtype_of<T>;
    std::byte* const widened = dense ? nullptr : scratch(0, w.lines * K * size);
    if (!dense) widen_factor(f, reinterpret_cast<T*>(widened), w);
    std::int32_t out[few];
    for (int i = 0; i < few; i++) out[i] = i;
    all.w = dense ? w.data : widened, all.w_stride = dense ? w.stride : K * size, all.rows = w.lines, all.out = out;
    const std::int64_t grain = std::max<std::int64_t>(4, (std::int64_t(1) << 18) / std::max<std::int64_t>(1, K * w.lines) / 4 * 4);
    return parallel_ranges(x.rows, grain, [&](std::int64_t begin, std::int64_t end) {
      Dots<T> d = all;
      d.x = x.row(begin), d.y = y.row(begin), d.count = end - begin;
      f.dots(d);
    });
  }
  all.x = x.data, all.y = y.data, all.count = x.rows;
  const bool shallow = w.type == dtype_of<T> && K <= 32;  // as of low rank
  void (*const kernel)(const Dots<T>&) = shallow ? f.dots : f.stream(w.type);
  // For many rows of x blocks are widened once, to memory: the same numbers, summed in the same order.
  const bool wide = !kernel || (is_quantized(w.type) && x.rows > f.streamed);
  const Runs runs(w.lines, std::abs(w.stride));
  Slots slots(runs.count(), wide ? 4 * K * size : 0);
  parallel_for(runs.count(), [&](std::int64_t run) {
    constexpr std::int64_t most = 256;
    for (std::int64_t begin = runs.begin(run), end; begin < runs.end(run); begin = end) {
      end = std::min(runs.end(run), begin + most);
      std::int32_t out[most];
      for (std::int64_t i = begin; i < end; i++) {
        std::int64_t r = i;
        if (const std::int64_t d = w.rope_head_dim; d > 0) r = i / d * d + i % 2 * (d / 2) + i % d / 2;
        out[i - begin] = std::int32_t(r);
      }
      Dots<T> d = all;
      if (!wide) {
        d.w = w.data + begin * w.stride, d.w_stride = w.stride, d.rows = end - begin, d.out = out;
        kernel(d);
        continue;
      }
      const Slots::Slot slot(slots);
      const Widen<T> widen = f.widener(w.type);
      d.w = slot.data(), d.w_stride = K * size;
      for (std::int64_t i = begin; i < end; i += 4) {
        d.rows = std::min<std::int64_t>(4, end - i), d.out = out + (i - begin);
        for (std::int64_t r = 0; r < d.rows; r++) widen(reinterpret_cast<T*>(slot.data()) + r * K, w.data + (i + r) * w.stride, 0, K);
        f.dots(d);
      }
    }
  });
}

/// The factor with few lines goes to the left, where a tile is as high as there are lines.
template <class T>
void either_way(const GemmKernels<T>& f, Product<T> p) {
  if (p.b.lines <= f.height && p.a.lines > p.b.lines) std::swap(p.a, p.b), p.flipped = true;
  multiply<T>(f, p);
}

}  // namespace peft::ops::detail
