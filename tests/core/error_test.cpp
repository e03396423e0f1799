// SPDX-License-Identifier: Apache-2.0
#include "peft/core/error.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

using namespace peft;

TEST_CASE("every error is an Error and says which operation failed", "[core]") {
  CHECK(std::string(Error("merge", "no").what()) == "[merge] no");
  CHECK_THROWS_AS(throw ShapeError("add", "(2) and (3)"), Error);
  CHECK_THROWS_AS(throw ConfigError("LoraConfig", "r is 0"), Error);
  CHECK_THROWS_AS(throw NotSupported("load", "t5"), ConfigError);
  CHECK_THROWS_AS(throw CheckpointError("load", "missing"), Error);
  CHECK_THROWS_AS(throw AdapterError("attach", "twice"), Error);
  CHECK_THROWS_AS(throw FormatError("a.gguf", 12, "magic"), std::runtime_error);
}

TEST_CASE("a format error keeps path, byte and reason", "[core]") {
  const FormatError at("models/a.gguf", 12, "the magic is \"GGUX\""), whole("b.json", -1, "empty");
  CHECK(std::string(at.what()) == "[file] models/a.gguf at byte 12: the magic is \"GGUX\"");
  CHECK(at.path() == "models/a.gguf");
  CHECK(at.byte() == 12);
  CHECK(at.reason() == "the magic is \"GGUX\"");
  CHECK(std::string(whole.what()) == "[file] b.json: empty");
}

TEST_CASE("nearest_name finds the name that was meant, or none", "[core]") {
  const std::vector<std::string> names = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  CHECK(nearest_name("k_prj", names) == "k_proj");
  CHECK(nearest_name("kproj", names) == "k_proj");
  CHECK(nearest_name("gate_porj", names) == "gate_proj");
  CHECK(nearest_name("q_proj", names) == "q_proj");
  CHECK(nearest_name("downproj", names) == "down_proj");
  CHECK(nearest_name("attention", names) == "");
  CHECK(nearest_name("", names) == "");
  CHECK(nearest_name("k_proj", std::vector<std::string>()) == "");
}

TEST_CASE("did_you_mean lists what is there, not endlessly", "[core]") {
  const std::vector<std::string> names = {"alpha", "beta", "gamma"};
  CHECK(did_you_mean("bet", names, "Names") == "; did you mean \"beta\"? Names: alpha, beta, gamma");
  CHECK(did_you_mean("omega_point", names, "Names") == "; Names: alpha, beta, gamma");
  CHECK(did_you_mean("bet", names, "Names", 2) == "; did you mean \"beta\"? Names: alpha, beta, … (1 more)");
}
