// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <peft/checkpoint/save.hpp>
#include <peft/checkpoint/save_gguf.hpp>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "common.hpp"
#include "new_folder.hpp"

namespace tool {

namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  std::string out, dtype = "f32";
};

// The types that matrices are written as; those behind the third, in GGUF files alone.
peft::DType type_of(const Options& o, bool gguf) {
  std::vector<std::string> names = {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"};
  const std::vector<peft::DType> types = {peft::DType::f32,  peft::DType::f16,  peft::DType::bf16, peft::DType::q8_0,
                                          peft::DType::q4_0, peft::DType::q4_1, peft::DType::q5_0, peft::DType::q5_1};
  if (!gguf) names.resize(3);
  const auto type = std::find(names.begin(), names.end(), o.dtype);
  if (type == names.end()) throw peft::ConfigError("merge", "dtype \"" + o.dtype + "\" is not known" + peft::did_you_mean(o.dtype, names, "allowed are"));
  return types[std::size_t(type - names.begin())];
}

void merge_to_gguf(const Options& o, peft::DType type) {
  if (fs::exists(o.out)) throw peft::ConfigError("merge", o.out + " exists already; give --out a new name");
  Opened opened(o.model);
  fmt::print("{}\n", describe(opened));
  const bool encoder = opened.file.config.model_type == "bert", has_tokenizer = fs::is_regular_file(opened.file.path) || encoder;
  peft::save_gguf_model(opened.tuned.merge_and_unload(true), o.out, type, has_tokenizer ? opened.file.path : "");
  fmt::print("saved  {} ({}{}): a GGUF file\n", o.out, bytes_text(std::int64_t(fs::file_size(o.out))), has_tokenizer ? ", the tokenizer in it" : "");
  if (encoder) return;
  if (!has_tokenizer) {
    fmt::print(stderr, "peft: no tokenizer was written, for the base model's is not in a GGUF file\n");
    return;
  }
  fmt::print("next   {} generate --model {} --prompt \"…\"\n", program(), shell_word(o.out));
}

void merge(const Options& o) {
  if (o.model.adapters.empty()) throw peft::ConfigError("merge", "no --adapter: there is nothing to merge");
  const bool to_gguf = fs::path(o.out).extension() == ".gguf";
  const peft::DType type = type_of(o, to_gguf);
  if (to_gguf) return merge_to_gguf(o, type);
  Opened opened(o.model);
  NewFolder folder(o.out);
  fmt::print("{}\n", describe(opened));
  const auto merged = opened.tuned.merge_and_unload(true);
  peft::save_model(merged, folder.path(), type);
  const std::string without_tokenizer = save_tokenizer_of(o.model.model, folder.path());
  folder.commit();
  std::int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(o.out))
    if (entry.path().extension() == ".safetensors") bytes += std::int64_t(entry.file_size());
  fmt::print("saved  {} (config.json, model.safetensors {}{}): a Hugging Face directory\n", o.out, bytes_text(bytes),
             without_tokenizer.empty() ? ", the tokenizer" : "");
  if (!without_tokenizer.empty()) fmt::print(stderr, "peft: no tokenizer was written, put the base model's there: {}\n", without_tokenizer);
  fmt::print("next   {} generate --model {} --prompt \"…\"\n", program(), shell_word(o.out));
}

}  // namespace

void add_merge(CLI::App& app) {
  auto* command = app.add_subcommand("merge", "Write a model with an adapter in its weights, as a Hugging Face directory or a GGUF file");
  const auto o = std::make_shared<Options>();
  o->model.add_to(*command);
  command->add_option("--out,-o", o->out, "a new folder, or a new file that ends in .gguf")->required();
  command
      ->add_option("--dtype", o->dtype,
                   "f32, f16 or bf16, in a folder weights that are f16 or bf16 and not merged into stay so; in a GGUF file also q8_0, q4_0, q4_1, q5_0, q5_1")
      ->capture_default_str();
  command->footer("Example:\n  peft merge --model SmolLM2.gguf --adapter out/ --out merged/ --dtype bf16");
  command->callback([=] { merge(*o); });
}

}  // namespace tool
