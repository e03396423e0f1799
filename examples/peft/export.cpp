// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>

#include <filesystem>
#include <memory>

#include "common.hpp"

namespace tool {

namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  std::string out;
};

void export_adapter(const Options& o) {
  if (o.model.adapters.size() != 1)
    throw peft::ConfigError("export", std::to_string(o.model.adapters.size()) + " times --adapter; one adapter is written at a time");
  if (fs::exists(o.out)) throw peft::ConfigError("export", o.out + " exists already; give --out a new name");
  const Opened opened(o.model);
  fmt::print("{}\n", describe(opened));
  const std::string name = opened.tuned.adapter_names().at(0);
  if (fs::path(o.out).extension() == ".gguf") {
    peft::save_gguf_adapter(opened.tuned, name, o.out);
    fmt::print("saved  {} ({}): a GGUF adapter\n", o.out, bytes_text(std::int64_t(fs::file_size(o.out))));
  } else {
    peft::save_adapter(opened.tuned, name, o.out, fs::path(o.model.model).lexically_normal().string());
    fmt::print("saved  {} (adapter_config.json, adapter_model.safetensors {}): a PEFT adapter\n", o.out,
               bytes_text(std::int64_t(fs::file_size(fs::path(o.out) / "adapter_model.safetensors"))));
  }
  fmt::print("next   {} generate {} --adapter {} --prompt \"…\"\n", program(), model_words(o.model), shell_word(o.out));
}

}  // namespace

void add_export(CLI::App& app) {
  auto* command = app.add_subcommand("export", "Write an adapter in another form: GGUF, or PEFT's directory");
  const auto o = std::make_shared<Options>();
  o->model.add_to(*command);
  command->add_option("--out,-o", o->out, "a name that ends in .gguf: a GGUF LoRA, which llama.cpp takes; another: a PEFT directory")->required();
  command->footer("Example:\n  peft export --model SmolLM2.gguf --adapter out/ --out adapter.gguf");
  command->callback([=] { export_adapter(*o); });
}

}  // namespace tool
