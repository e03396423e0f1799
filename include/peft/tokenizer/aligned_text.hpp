// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace peft::tokenizer {

/// Bytes [begin, end) of the text that the user gave.
struct Origin {
  std::size_t begin = 0, end = 0;
};

/// A text on its way to the model and, where somebody wants offsets, the origin of each of its bytes: of the whole character that the byte
/// belongs to or was made from. The steps on the way write it anew through a Rewriter, or cut it.
struct AlignedText {
  std::string text;
  std::vector<Origin> origins;  // as many as bytes if `aligned`, none otherwise
  bool aligned = false;

  std::string spare;  // buffers that a Rewriter swaps with the above, so that a long run allocates nothing
  std::vector<Origin> spare_origins;

  AlignedText() = default;
  explicit AlignedText(std::string_view plain) : text(plain) {}

  /// Where text[begin, end) comes from; of nothing, {0, 0}.
  Origin origin(std::size_t begin, std::size_t end) const { return begin < end ? Origin{origins[begin].begin, origins[end - 1].end} : Origin{}; }
  void assign(std::string_view part, const Origin* part_origins) {
    text.assign(part);
    aligned = part_origins != nullptr;
    origins.clear();
    if (aligned) origins.assign(part_origins, part_origins + part.size());
  }
};

/// Writes a text anew, from front to back: old bytes that stay, and new ones with the origin of an old one.
class Rewriter {
 public:
  explicit Rewriter(AlignedText& text) : text_(text) { text_.spare.clear(), text_.spare_origins.clear(); }
  std::string_view old() const { return text_.text; }
  std::size_t size() const { return text_.spare.size(); }

  void keep(std::size_t begin, std::size_t end) {
    text_.spare.append(text_.text, begin, end - begin);
    if (text_.aligned)
      text_.spare_origins.insert(text_.spare_origins.end(), text_.origins.begin() + std::ptrdiff_t(begin), text_.origins.begin() + std::ptrdiff_t(end));
  }
  /// `added` comes from the character of the old byte `from`.
  void put(std::string_view added, std::size_t from) {
    text_.spare.append(added);
    if (text_.aligned) text_.spare_origins.insert(text_.spare_origins.end(), added.size(), from < text_.origins.size() ? text_.origins[from] : Origin{});
  }
  /// Takes the last bytes away again.
  void shrink(std::size_t size) {
    text_.spare.resize(size);
    if (text_.aligned) text_.spare_origins.resize(size);
  }
  std::string_view written() const { return text_.spare; }
  /// The new text takes the place of the old one.
  void finish() { text_.text.swap(text_.spare), text_.origins.swap(text_.spare_origins); }

 private:
  AlignedText& text_;
};

}  // namespace peft::tokenizer
