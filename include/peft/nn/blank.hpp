// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace peft {

/// A blank in a text and the span behind the text that fills it: GLM's autoregressive blank infilling (Du et al. 2021, arXiv:2103.10360). The text, the
/// context, is seen by every row; the span is causal. Each row has two positions:
///
///     context  x₀ x₁ … x_{c−1}    position 0 … c−1       within the blank 0
///     span     <sop> y₁ y₂ …      position of the blank  within the blank 1, 2, 3 …
struct Blank {
  std::int64_t position = 0;     // of the mask that stands for it
  std::int64_t span_begin = -1;  // c; −1: there is no blank
  explicit operator bool() const { return span_begin >= 0; }
  bool operator==(const Blank&) const = default;
};

/// The ids that say so: `start` begins the span, and the blank is the first `gmask` or, where there is none, the first `mask`.
struct BlankTokens {
  std::int32_t start = -1, gmask = -1, mask = -1;
};

/// The blank of a sequence, counted from its first id. `open`: ids without a `start` are a context whose span is to follow. Throws Error for ids
/// without a mask or, unless open, a start.
Blank find_blank(std::span<const std::int32_t> ids, const BlankTokens& tokens, bool open = false);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/nn/impl/blank.inl"
#endif
