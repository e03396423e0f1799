// SPDX-License-Identifier: Apache-2.0
// parity ROOT [--filter TEXT] [--list]: every check that can be found under a tree of golden numbers, a line each.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>

#include "parity.hpp"

namespace parity {

void Difference::add(double found, double wanted, double abs, double rel) {
  const double off = std::abs(found - wanted);
  const double relative = off / std::max(std::abs(wanted), 1e-12);
  if (std::isnan(found) != std::isnan(wanted)) fail("found " + std::to_string(found) + ", wanted " + std::to_string(wanted));
  if (found == wanted || (std::isnan(found) && std::isnan(wanted))) return;
  max_abs = std::max(max_abs, off), max_rel = std::max(max_rel, relative);
  // An infinite value would allow any difference.
  if (std::isinf(wanted) || !(off <= abs + rel * std::abs(wanted))) fail("found " + std::to_string(found) + ", wanted " + std::to_string(wanted));
}

bool Report::wants(const std::string& prefix) const {
  return filter_.empty() || prefix.find(filter_) != std::string::npos || filter_.find(prefix) != std::string::npos;
}

void Report::line(const char* verdict, const std::string& name, const std::string& rest) const {
  fmt::print("{} {}{}\n", verdict, name, rest.empty() ? "" : " " + rest);
}

void Report::check(const std::string& name, const std::function<Difference()>& run) {
  if (name.find(filter_) == std::string::npos) return;
  if (list_) {
    fmt::print("{}\n", name);
    return;
  }
  Difference found;
  try {
    found = run();
  } catch (const Skip& s) {
    return skip(name, s.why);
  } catch (const peft::NotSupported& error) {
    return skip(name, error.what());
  } catch (const std::exception& error) {
    found.fail(error.what());
  }
  (found.ok ? passed_ : failed_)++;
  std::replace(found.note.begin(), found.note.end(), '\n', ' ');
  line(found.ok ? "PASS" : "FAIL", name,
       fmt::format("max_abs={:.3g} max_rel={:.3g}{}", found.max_abs, found.max_rel, found.note.empty() ? "" : " (" + found.note + ")"));
}

void Report::skip(const std::string& name, const std::string& why) {
  if (name.find(filter_) == std::string::npos) return;
  if (list_) {
    fmt::print("{}\n", name);
    return;
  }
  skipped_++;
  line("SKIP", name, "(not built yet: " + why + ")");
}

int Report::finish() const {
  if (!list_) fmt::print("{} passed, {} failed, {} skipped\n", passed_, failed_, skipped_);
  return failed_ ? 1 : 0;
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> all;
  if (fs::is_directory(folder))
    for (const auto& entry : fs::directory_iterator(folder)) all.push_back(entry.path());
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace parity

int main(int argc, char** argv) {
  CLI::App app{"Checks this library against numbers that the reference libraries computed"};
  std::string root, filter;
  bool list = false;
  app.add_option("root", root, "a tree of golden files")->required()->check(CLI::ExistingDirectory);
  app.add_option("--filter", filter, "only checks whose name contains this");
  app.add_flag("--list", list, "print the names of the checks");
  CLI11_PARSE(app, argc, argv);
  parity::Report report(filter, list);
  parity::check_models(report, root);
  parity::check_adapters(report, root);
  parity::check_eva(report, root);
  parity::check_generation(report, root);
  parity::check_gguf(report, root);
  parity::check_tokenizers(report, root);
  parity::check_chat_templates(report, root);
  parity::check_malformed(report, root);
  return report.finish();
}
