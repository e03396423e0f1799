// SPDX-License-Identifier: Apache-2.0
#include "own_weights.hpp"

#include <fmt/core.h>
#include <peft/checkpoint/save.hpp>
#include <peft/freeze/freeze.hpp>
#include <peft/tokenizer/save.hpp>

#include <algorithm>
#include <filesystem>
#include <set>

#include "new_folder.hpp"

namespace tool {

void WeightOptions::add_to(CLI::App& command) {
  const char* group = "Without an adapter (--method full)";
  command.add_option("--train-last", train_last, "train the last so many layers, and what --train names")->check(above_zero())->group(group);
  command.add_option("--freeze-layers", freeze_layers, "freeze the embeddings and the first so many layers")->check(above_zero())->group(group);
  command.add_option("--train", train, "train this alone: layers.{24-27}, q_proj, *.bias, or embeddings, norms, biases, head; may be given again")
      ->group(group);
  command.add_option("--freeze", freeze, "do not train this, named likewise")->group(group);
  command.add_option("--dtype", dtype, "how trained weights are written")->capture_default_str()->check(CLI::IsMember({"f32", "f16", "bf16"}))->group(group);
}

namespace {

const std::vector<std::string> parts = {"embeddings", "norms", "biases", "head"};

std::set<std::string> matching(const peft::Transformer<float>& model, const std::string& pattern) {
  if (pattern == "embeddings") return peft::embeddings_of(model).paths;
  if (pattern == "norms") return peft::norms_of(model).paths;
  if (pattern == "head") return peft::head_of(model).paths;
  std::set<std::string> found;
  const std::string name = pattern.ends_with('.') ? pattern.substr(0, pattern.size() - 1) : pattern;  // "layers.27." is what others write
  const peft::Matching whole(name), within(name + ".*");
  peft::for_each_parameter(model, [&](const std::string& path, const peft::Parameter<float>& p) {
    const peft::ParameterInfo info{path, "", p.shape()};
    if (pattern == "biases" ? info.is_bias() : whole(info) || within(info)) found.insert(path);
  });
  return found;
}

// What might have been meant: pieces of paths with as many dots.
[[noreturn]] void refuse(const peft::Transformer<float>& model, const std::string& option, const std::string& pattern) {
  const auto dots = std::count(pattern.begin(), pattern.end(), '.');
  std::vector<std::string> names = parts;
  peft::for_each_parameter(model, [&](const std::string& path, const peft::Parameter<float>&) {
    for (std::size_t begin = 0; begin < path.size();) {
      std::size_t end = begin;
      for (std::ptrdiff_t i = 0; i <= dots && end != path.npos; i++) end = path.find('.', end + (i > 0));
      const std::string piece = path.substr(begin, end == path.npos ? end : end - begin);
      if (std::count(piece.begin(), piece.end(), '.') == dots && piece.find_first_not_of("0123456789.") != piece.npos && !std::ranges::count(names, piece))
        names.push_back(piece);
      const std::size_t dot = path.find('.', begin);
      begin = dot == path.npos ? path.size() : dot + 1;
    }
  });
  throw peft::ConfigError("train", option + " \"" + pattern + "\" matches no parameter of this model" + peft::did_you_mean(pattern, names, "names here"));
}

std::set<std::string> named(const peft::Transformer<float>& model, const char* option, const std::vector<std::string>& patterns) {
  std::set<std::string> all;
  for (const std::string& pattern : patterns) {
    std::set<std::string> found = matching(model, pattern);
    if (found.empty()) refuse(model, option, pattern);
    all.merge(found);
  }
  return all;
}

void check_layers(const Opened& opened, const char* option, std::int64_t layers) {
  if (layers > peft::num_layers(opened.base))
    throw peft::ConfigError("train", fmt::format("{} {}: this model has {} layers", option, layers, peft::num_layers(opened.base)));
}

}  // namespace

peft::ParameterCount choose_weights(Opened& opened, const WeightOptions& options) {
  const auto& model = opened.base;
  check_layers(opened, "--train-last", options.train_last), check_layers(opened, "--freeze-layers", options.freeze_layers);
  std::set<std::string> trained = named(model, "--train", options.train), frozen = named(model, "--freeze", options.freeze);
  const bool everything = options.train.empty() && options.train_last == 0;
  const std::int64_t layers = peft::num_layers(model);
  trained.merge(peft::layers_of(model, layers - options.train_last, layers).paths);
  // A head that was drawn a moment ago is of no use as it is.
  if (!model.config.head.drawn.empty()) trained.merge(peft::head_of(model).paths);
  if (options.freeze_layers > 0) {
    frozen.merge(peft::embeddings_of(model).paths);
    frozen.merge(peft::layers_of(model, 0, options.freeze_layers).paths);
  }
  // A tensor of two names is frozen by either.
  std::set<const void*> fixed;
  peft::for_each_parameter(model, [&](const std::string& path, const peft::Parameter<float>& p) {
    if (frozen.contains(path)) fixed.insert(p.identity());
  });
  peft::Paths chosen;
  peft::for_each_parameter(model, [&](const std::string& path, const peft::Parameter<float>& p) {
    if (fixed.contains(p.identity()) || !(everything || trained.contains(path))) return;
    if (p.is_stored() && peft::is_quantized(p.dtype()))
      throw peft::ConfigError("train",
                              fmt::format("--method full would train {}, which is stored as {}: steps of training are smaller than the distance between "
                                          "two of its values. Take the model in F32, F16 or BF16, without --quantize, train an adapter on this one "
                                          "(--method lora), or name with --train what is not quantised (norms, biases)",
                                          path, peft::name(p.dtype())));
    chosen.paths.insert(path);
  });
  if (chosen.paths.empty()) throw peft::ConfigError("train", "--freeze and --freeze-layers leave nothing to train");
  return peft::freeze(opened.tuned, chosen);
}

std::string title(const Opened& opened, const WeightOptions& options) {
  std::string text;
  const auto add = [&](const std::string& what) { text += (text.empty() ? "" : ", ") + what; };
  if (options.train_last > 0) add(fmt::format("the last {} of {} layers", options.train_last, peft::num_layers(opened.base)));
  for (const std::string& one : options.train) add(one);
  if (text.empty()) text = "all weights";
  if (options.freeze_layers > 0) add(fmt::format("without embeddings and the first {} of {} layers", options.freeze_layers, peft::num_layers(opened.base)));
  for (const std::string& one : options.freeze) add("without " + one);
  return text;
}

std::string save_weights(const Opened& opened, const ModelOptions& model, const std::string& out, const std::string& dtype) {
  namespace fs = std::filesystem;
  NewFolder folder(out + "/.new");
  peft::save_model(opened.base, folder.path(), dtype == "f16" ? peft::DType::f16 : dtype == "bf16" ? peft::DType::bf16 : peft::DType::f32);
  const std::string without_tokenizer = save_tokenizer_of(model, folder.path());
  for (const char* adapter : {"adapter_config.json", "adapter_model.safetensors"}) fs::remove(fs::path(out) / adapter);  // not of this model
  folder.commit_into(out);
  return without_tokenizer;
}

}  // namespace tool
