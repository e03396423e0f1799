// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "peft/core/config.hpp"
#include "peft/tokenizer/model.hpp"

namespace peft::tokenizer {

/// left + right → merged; of all pairs in a piece the one with the lowest rank is merged first, of equal ranks the leftmost.
struct Merge {
  std::int32_t left, right, merged;
  std::uint32_t rank;
};

struct BpeOptions {
  std::int32_t unk_id = -1;                    // -1: unknown characters are dropped
  bool fuse_unk = false;                       // a run of unknown characters is one unknown token
  bool byte_fallback = false;                  // an unknown character becomes its bytes' tokens "<0xNN>", if the vocabulary has them all
  bool ignore_merges = false;                  // a piece that is a token needs no merging
  std::string continuing_subword_prefix = {};  // in front of every character but the first
  std::string end_of_word_suffix = {};         // behind the last character
};

/// Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) as Hugging Face tokenizers does it.
class Bpe final : public Model {
 public:
  Bpe(Vocabulary vocabulary, const std::vector<Merge>& merges, BpeOptions options = {});
  void tokenize(std::string_view piece, std::vector<std::int32_t>& ids, std::vector<Pieces::Span>* spans = nullptr) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  std::int32_t unk_id() const override { return options_.unk_id; }
  std::string_view word_mark() const override { return word_mark_; }

 private:
  struct Target {
    std::uint32_t rank;
    std::int32_t merged;
  };
  struct Slot {
    std::uint64_t pair;
    Target target;
  };
  static constexpr std::uint64_t free_slot = ~std::uint64_t{0};
  static constexpr std::uint32_t no_rank = ~std::uint32_t{0};

  Target find(std::int32_t left, std::int32_t right) const;
  void characters(std::string_view piece, std::vector<std::int32_t>& symbols, std::vector<std::uint32_t>* lengths) const;
  void merge_short(std::vector<std::int32_t>& symbols, std::vector<std::uint32_t>* lengths) const;
  void merge_long(std::vector<std::int32_t>& symbols, std::vector<std::uint32_t>* lengths) const;

  Vocabulary vocabulary_;
  BpeOptions options_;
  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  std::string_view word_mark_;
  std::vector<std::int32_t> byte_tokens_;  // of "<0x00>" … "<0xFF>", -1 where missing; empty without byte_fallback
};

/// The merges that a vocabulary with scores (sentencepiece's BPE) stands for: every way to cut a token in two tokens; a higher score goes first.
std::vector<Merge> merges_of_scores(const Vocabulary& vocabulary, const std::vector<float>& score_of_id);

}  // namespace peft::tokenizer

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/impl/bpe.inl"
#endif
