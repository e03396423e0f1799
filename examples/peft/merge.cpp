// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <peft/checkpoint/save.hpp>
#include <peft/checkpoint/save_gguf.hpp>
#include <peft/tokenizer/write_gguf.hpp>

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

// What is wrong with the tokenizer of a directory for a GGUF file, whose weights are worth having without it, too; "": nothing.
std::string no_gguf_tokenizer(const std::string& model, std::int64_t vocab_size) {
  if (!fs::is_directory(model)) return "";
  try {
    peft::GgufFileWriter writer;
    peft::write_gguf_tokenizer(writer, model, vocab_size);
  } catch (const peft::Error& error) {
    return error.what();
  }
  return "";
}

void merge_to_gguf(const Options& o, peft::DType type) {
  if (fs::exists(o.out)) throw peft::ConfigError("merge", o.out + " exists already; give --out a new name");
  Opened opened(o.model);
  fmt::print("{}\n", describe(opened));
  const auto merged = opened.tuned.merge_and_unload(true);
  const std::string without_tokenizer = no_gguf_tokenizer(opened.file.path, merged.config.vocab_size);
  const auto chat = without_tokenizer.empty() ? chosen_chat_template(o.model) : std::nullopt;
  peft::save_gguf_model(merged, o.out, type, without_tokenizer.empty() ? opened.file.path : "", chat ? chat->text() : "");
  fmt::print("saved  {} ({}{}): a GGUF file\n", o.out, bytes_text(std::int64_t(fs::file_size(o.out))),
             without_tokenizer.empty() ? ", the tokenizer in it" : "");
  if (!without_tokenizer.empty()) {
    fmt::print(stderr, "peft: no tokenizer was written: {}\n", without_tokenizer);
    return;
  }
  if (opened.file.config.model_type == "bert") return;
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
  const std::string without_tokenizer = save_tokenizer_of(o.model, folder.path());
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
  auto* command = app.add_subcommand("merge", "Write a model with an adapter in its weights, as a Hugging Face directory or a GGUF file, with its tokenizer");
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
