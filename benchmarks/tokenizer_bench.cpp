// SPDX-License-Identifier: Apache-2.0
// Text to ids, timed: one line of JSON with the fields of benchmarks/hf_tokenizers.py. The file is repeated until it is 10 MB; each line of it is a text.
#include <fmt/core.h>
#include <peft/core/error.hpp>
#include <peft/core/parallel.hpp>
#include <peft/tokenizer/tokenizer.hpp>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>
#include <vector>

namespace {

double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void run(const std::string& model, const std::string& path, int runs) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  std::size_t bytes = 0;
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) bytes += line.size(), lines.push_back(line);
  if (lines.empty()) throw peft::FormatError(path, -1, "there is no text in it");
  for (std::size_t i = 0; bytes < 10'000'000; i++) lines.push_back(lines[i]), bytes += lines.back().size();

  peft::Tokenizer tokenizer = peft::load_tokenizer(model);
  const double load = seconds_of([&] { tokenizer = peft::load_tokenizer(model); });
  double one = 1e30, batch = 1e30;
  std::size_t tokens = 0;
  for (int run = 0; run < runs; run++) {
    one = std::min(one, seconds_of([&] {
                     tokens = 0;
                     for (const std::string& line : lines) tokens += tokenizer.encode(line).size();
                   }));
    batch = std::min(batch, seconds_of([&] { (void)tokenizer.encode_batch(lines); }));
  }
  fmt::print(R"({{"engine": "peft-cpp", "mb": {:.1f}, "tokens": {}, "threads": {}, "load_s": {:.3f}, "one_thread_mb_s": {:.2f}, "batch_mb_s": {:.2f}}})"
             "\n",
             double(bytes) / 1e6, tokens, peft::num_threads(), load, double(bytes) / 1e6 / one, double(bytes) / 1e6 / batch);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times a tokenizer and prints one line of JSON"};
  std::string model, data;
  int runs = 3;
  app.add_option("--model", model, "a Hugging Face directory or a GGUF file")->required();
  app.add_option("--data", data, "a file of text")->required()->check(CLI::ExistingFile);
  app.add_option("--runs", runs, "the best of them counts")->capture_default_str()->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  try {
    run(model, data, runs);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "tokenizer_bench: {}\n", error.what());
    return 1;
  }
}
