// SPDX-License-Identifier: Apache-2.0
// Expected texts are those of Hugging Face's tokenizers 0.23.3.
#include "peft/tokenizer/decoder.hpp"

#include <catch2/catch.hpp>

#include "peft/io/json.hpp"

namespace {

std::string decoded(std::string_view json, std::vector<std::string> tokens) {
  peft::tokenizer::make_decoder(peft::Json::parse(json, "test"), "test")->apply(tokens);
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

}  // namespace

TEST_CASE("decoders of words", "[tokenizer]") {
  CHECK(decoded(R"({"type":"WordPiece","prefix":"##","cleanup":true})", {"he", "##llo", ",", "do", "not", "##s", "'", "s", "n't"}) == "hello, do nots ' sn't");
  CHECK(decoded(R"({"type":"WordPiece","cleanup":false})", {"##a", "b", "##c", "."}) == "##a bc .");
  CHECK(decoded(R"({"type":"BPEDecoder"})", {"he", "llo</w>", "a</w>"}) == "hello a");
  CHECK(decoded(R"({"type":"CTC","pad_token":"<pad>","word_delimiter_token":"|","cleanup":true})",
                {"<pad>", "h", "h", "e", "<pad>", "l", "l", "<pad>", "l", "o", "|", "|", "do not", ".", "n", "n't"}) == "hello do not.nn't");
  CHECK(decoded(R"({"type":"CTC","pad_token":"_","word_delimiter_token":"|","cleanup":false})", {"a", "a", "_", "a", "|", "_b"}) == "aa|b");
}
