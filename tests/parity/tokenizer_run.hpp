// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <peft/io/json.hpp>
#include <peft/tokenizer/tokenizer.hpp>

#include <string>
#include <vector>

#include "parity.hpp"

namespace parity {

std::vector<peft::Json> json_lines(const fs::path& path);
/// A tokenizer against a golden.jsonl: ids with and without special tokens, both ways of decoding; but texts with one of the words `never`.
void check_texts(Report& report, const std::string& name, const peft::Tokenizer& tokenizer, const fs::path& golden, const std::vector<std::string>& never = {});

}  // namespace parity
