// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "peft/core/config.hpp"

namespace peft {

/// Everything that this library throws. The text reads "[operation] what is wrong, the value, what was allowed, the nearest valid name".
class Error : public std::runtime_error {
 public:
  Error(std::string_view operation, std::string_view text) : std::runtime_error(std::string("[").append(operation).append("] ").append(text)) {}

 protected:
  explicit Error(const std::string& whole) : std::runtime_error(whole) {}
};

/// Tensors whose shapes do not fit together.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A configuration (of a model, an adapter, a run) that says something impossible or unknown.
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// Something that is well formed and valid, and not built here: an architecture, a method, an option. Names it, and what there is.
class NotSupported : public ConfigError {
 public:
  using ConfigError::ConfigError;
};

/// Files that are well formed and do not fit: every missing, unexpected and misshapen name at once.
class CheckpointError : public Error {
 public:
  using Error::Error;
};

/// An adapter that cannot be attached, merged or found.
class AdapterError : public Error {
 public:
  using Error::Error;
};

/// A file that is not what its format demands: its path, the byte where reading stopped (-1: the file as a whole) and the reason.
class FormatError : public Error {
 public:
  FormatError(std::string_view path, std::int64_t byte, std::string_view reason);
  const std::string& path() const { return path_; }
  std::int64_t byte() const { return byte_; }
  const std::string& reason() const { return reason_; }

 private:
  std::string path_, reason_;
  std::int64_t byte_;
};

/// The candidate with the smallest edit distance to `name`, or "" if none is near (more than a third of the letters differ).
std::string nearest_name(std::string_view name, std::span<const std::string> candidates);

/// `; did you mean "k_proj"?` (nothing if no name is near), then ` <what>: a, b, c` with at most `limit` of the candidates.
std::string did_you_mean(std::string_view name, std::span<const std::string> candidates, std::string_view what, std::size_t limit = 16);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/core/impl/error.inl"
#endif
