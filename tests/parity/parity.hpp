// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <peft/core/error.hpp>
#include <peft/core/tensor.hpp>

#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace parity {

namespace fs = std::filesystem;

/// What one check found. Larger than allowed anywhere, or not comparable: failed.
struct Difference {
  double max_abs = 0, max_rel = 0;
  bool ok = true;
  std::string note;

  /// |found − wanted| ≤ abs + rel · |wanted|
  void add(double found, double wanted, double abs, double rel);
  void fail(std::string why) {
    ok = false;
    if (note.empty()) note = std::move(why);
  }
};

/// Why something is passed over: it is not built yet.
struct Skip {
  std::string why;
};

/// Runs checks by name, prints a line for each, and counts. With a filter, only names that contain it; with `list`, names alone.
class Report {
 public:
  Report(std::string filter, bool list) : filter_(std::move(filter)), list_(list) {}
  /// True if any check below this prefix may be wanted: saves loading what nobody asks for.
  bool wants(const std::string& prefix) const;
  void check(const std::string& name, const std::function<Difference()>& run);
  void skip(const std::string& name, const std::string& why);
  int finish() const;

 private:
  void line(const char* verdict, const std::string& name, const std::string& rest) const;
  std::string filter_;
  bool list_;
  int passed_ = 0, failed_ = 0, skipped_ = 0;
};

/// All rows of `found` against `wanted`, element by element.
template <class A, class B>
Difference compare(const peft::Tensor<A>& found, const peft::Tensor<B>& wanted, double abs, double rel) {
  Difference d;
  if (found.size() != wanted.size()) {
    d.fail("shape " + to_string(found.shape()) + ", wanted " + to_string(wanted.shape()));
    return d;
  }
  for (std::int64_t i = 0; i < wanted.rows(); i++)
    for (std::int64_t j = 0; j < wanted.cols(); j++) d.add(double(found(i, j)), double(wanted(i, j)), abs, rel);
  return d;
}

/// Against the largest entry of the tensor: for gradients.
template <class A, class B>
Difference compare_to_largest(const peft::Tensor<A>& found, const peft::Tensor<B>& wanted, double tolerance, double floor = 1e-7) {
  double largest = 0;
  for (B w : wanted.span()) largest = std::max(largest, std::abs(double(w)));
  return compare(found, wanted, tolerance * largest + floor, 0);
}

/// The folders (or files) of a folder, sorted by name; none if it does not exist.
std::vector<fs::path> entries(const fs::path& folder);

void check_models(Report& report, const fs::path& root);
void check_adapters(Report& report, const fs::path& root);
void check_eva(Report& report, const fs::path& root);
void check_generation(Report& report, const fs::path& root);
void check_gguf(Report& report, const fs::path& root);
void check_tokenizers(Report& report, const fs::path& root);
void check_chat_templates(Report& report, const fs::path& root);
void check_malformed(Report& report, const fs::path& root);

}  // namespace parity
