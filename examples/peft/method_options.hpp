// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <peft/adapters/registry.hpp>

#include <string>
#include <utility>
#include <vector>

namespace tool {

/// A method's options as text, named as in adapter_config.json.
using Settings = std::vector<std::pair<std::string, std::string>>;

/// "PREFIX_TUNING" as a command line has it: prefix_tuning.
std::string method_name(const std::string& peft_type);
/// The names of all methods.
std::vector<std::string> method_names();
/// "q_proj,v_proj" is a list; "all-linear", and nothing (the architecture's default), are themselves.
peft::TargetModules targets_of(const std::string& text);
/// A method's config with these options set. Throws ConfigError for a method, an option or a value that is not known.
peft::AnyAdapterConfig method_config(const std::string& method, const Settings& settings);

}  // namespace tool
