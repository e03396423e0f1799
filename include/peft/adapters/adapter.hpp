// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <any>
#include <map>
#include <string>
#include <string_view>

#include "peft/core/random.hpp"
#include "peft/freeze/policy.hpp"
#include "peft/nn/adapter_slot.hpp"

namespace peft {

/// What a method's `attach_adapter(config, site, context)` is told. It puts its adapter into the site's slot under `id` and says whether the
/// site was one of its targets. Overloads for the kinds of site that the method knows are all that it writes; others are passed over.
struct AttachContext {
  int id = 0;
  std::string path;      // the site's Hugging Face path
  bool is_head = false;  // the output head
  Random random{0};      // fork it by path, so that a site's numbers do not depend on the others
};

/// FNV-1a: a number for a name, the same on every machine.
inline std::uint64_t name_hash(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

/// A method, as add_adapter takes it: its config has a name in PEFT's files, and `resolved(config, model_type)` checks and completes it.
template <class C>
concept AdapterMethod = requires(const C& config) {
  { C::peft_type } -> std::convertible_to<std::string_view>;
  { resolved(config, std::string_view()) } -> std::same_as<C>;
};

}  // namespace peft
