// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <peft/checkpoint/save.hpp>
#include <peft/tokenizer/save.hpp>

#include <filesystem>
#include <memory>

#include "common.hpp"

namespace tool {

namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  std::string out, dtype = "f32";
};

void merge(const Options& o) {
  if (o.model.adapters.empty()) throw peft::ConfigError("merge", "no --adapter: there is nothing to merge");
  const std::vector<std::string> types = {"f32", "f16", "bf16"};
  const auto type = std::find(types.begin(), types.end(), o.dtype);
  if (type == types.end()) throw peft::ConfigError("merge", "dtype \"" + o.dtype + "\"" + peft::did_you_mean(o.dtype, types, "allowed are"));
  if (fs::exists(o.out) && fs::exists(fs::path(o.model.model)) && fs::equivalent(o.out, o.model.model)) throw peft::ConfigError("merge", "--out is the model itself; choose another folder");
  Opened opened(o.model);
  fmt::print("{}\n", describe(opened));
  const auto merged = opened.tuned.merge_and_unload(true);
  peft::save_model(merged, o.out, type == types.begin() ? peft::DType::f32 : type == types.begin() + 1 ? peft::DType::f16 : peft::DType::bf16);
  peft::save_tokenizer(o.model.model, o.out);
  fmt::print("saved  {}/ (config.json, model.safetensors {}, the tokenizer): a Hugging Face directory\n", o.out, bytes_text(std::int64_t(fs::file_size(fs::path(o.out) / "model.safetensors"))));
}

}  // namespace

void add_merge(CLI::App& app) {
  auto* command = app.add_subcommand("merge", "Write a model with an adapter in its weights, as a Hugging Face directory");
  const auto o = std::make_shared<Options>();
  o->model.add_to(*command);
  command->add_option("--out,-o", o->out, "where to")->required();
  command->add_option("--dtype", o->dtype, "f32, f16 or bf16")->capture_default_str();
  command->footer("Example:\n  peft merge --model SmolLM2.gguf --adapter out/ --out merged/ --dtype bf16");
  command->callback([=] { merge(*o); });
}

}  // namespace tool
