// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "common.hpp"

namespace tool {

namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  std::string out, rank = "8";
  bool to_lora = false;
};

// "8" is a rank; "0.95", what has a point, a share of the energy.
peft::ops::KeptRank kept_rank(const std::string& text) {
  std::size_t end = 0;
  double value = 0;
  try {
    value = std::stod(text, &end);
  } catch (const std::exception&) {
  }
  const bool share = text.find('.') != text.npos;
  if (end != text.size() || !(value > 0) || (share ? value > 1 : value > 65536 || value != std::floor(value)))
    throw peft::ConfigError("export", "--rank " + text + "; a rank such as 8, or a share of the energy such as 0.95");
  return share ? peft::ops::KeptRank{0, value} : peft::ops::KeptRank{std::int64_t(value), 0};
}

// Adds the LoRA that does what the adapter does, says what it lacks, and returns its name.
std::string as_lora(Opened& opened, const std::string& name, const peft::ops::KeptRank& rank) {
  const std::string converted = name == "lora" ? "lora-converted" : "lora";
  std::vector<peft::ConvertedSite> sites = peft::convert_to_lora(opened.tuned, name, converted, rank);
  double sum = 0;
  std::int64_t least = sites[0].r, most = least;
  for (const peft::ConvertedSite& site : sites) {
    fmt::print("{}  {}  r {}   lost {:.2e}\n", dim("layer"), site.path, site.r, site.lost);
    sum += site.lost, least = std::min(least, site.r), most = std::max(most, site.r);
  }
  const auto worst = std::max_element(sites.begin(), sites.end(), [](const auto& a, const auto& b) { return a.lost < b.lost; });
  const std::string ranks = least == most ? fmt::format("r={}", most) : fmt::format("r={} to {}", least, most);
  fmt::print("LoRA {} at {} modules   lost of the change: {:.2e} on average, {:.2e} at {}\n", ranks, sites.size(), sum / double(sites.size()), worst->lost,
             worst->path);
  return converted;
}

void export_adapter(const Options& o) {
  if (o.model.adapters.size() != 1)
    throw peft::ConfigError("export", std::to_string(o.model.adapters.size()) + " times --adapter; one adapter is written at a time");
  if (fs::exists(o.out)) throw peft::ConfigError("export", o.out + " exists already; give --out a new name");
  const peft::ops::KeptRank rank = kept_rank(o.rank);
  Opened opened(o.model);
  fmt::print("{}\n", describe(opened));
  std::string name = opened.tuned.adapter_names().at(0);
  if (o.to_lora) name = as_lora(opened, name, rank);
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
  auto* to_lora =
      command->add_flag("--to-lora", o->to_lora, "an adapter of another method (LoHa, OFT, VeRA, …) becomes a LoRA, by the singular values of its changes");
  command->add_option("--rank", o->rank, "the LoRA's rank, or a share of the energy such as 0.95, which gives each module a rank of its own")
      ->capture_default_str()
      ->needs(to_lora);
  command->footer(
      "Example:\n  peft export --model SmolLM2.gguf --adapter out/ --out adapter.gguf\n  peft export --model SmolLM2.gguf --adapter loha/ --to-lora --rank "
      "0.95 --out lora/");
  command->callback([=] { export_adapter(*o); });
}

}  // namespace tool
