// SPDX-License-Identifier: Apache-2.0
#include "peft/data/placed_prompt.hpp"

#include <catch2/catch.hpp>

#include "peft/core/error.hpp"
#include "peft/data/labelled.hpp"
#include "support/tiny_bert_files.hpp"
#include "tokenizer/small_tokenizer.hpp"

namespace {

using PlacedIds = std::vector<std::int32_t>;
constexpr std::int32_t first = 1000;  // virtual id
const peft::RowFields city = [](const std::string& name) { return name == "who" ? "hello" : "world"; };

PlacedIds joined(const std::vector<PlacedIds>& parts) {
  PlacedIds all;
  for (const PlacedIds& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}
PlacedIds unlearnt(std::size_t n) { return PlacedIds(n, peft::ignore_index); }

}  // namespace

TEST_CASE("a template places virtual tokens among a row's texts, and labels stand on the answer", "[data]") {
  const peft::Tokenizer t = small::chat();
  const auto ids = [&](const std::string& text) { return t.encode(text, {.add_special_tokens = false}); };
  const peft::PlacedPrompt prompt("{prompt:2} {who} {prompt:1} the {answer:where}{prompt:1}", first);
  CHECK(prompt.fields() == std::vector<std::string>{"who"});
  CHECK(prompt.answer_field() == "where");
  const peft::Example example = prompt.encode(city, t);
  CHECK(example.input_ids == joined({{first, first + 1}, ids(" hello"), {first + 2}, ids(" the"), ids(" world"), {first + 3}}));
  CHECK(example.labels == joined({unlearnt(2 + ids(" hello").size() + 1 + ids(" the").size()), ids(" world"), unlearnt(1)}));
  CHECK(prompt.question(city, t) == joined({{first, first + 1}, ids(" hello"), {first + 2}, ids(" the")}));

  // At the end of the template the answer ends with eos.
  const peft::Example last = peft::PlacedPrompt("{who}[P]{answer:where}", first).encode(city, t);
  CHECK(last.input_ids == joined({ids("hello"), {first}, ids("world"), {*t.eos_id()}}));
  CHECK(last.labels == joined({unlearnt(ids("hello").size() + 1), ids("world"), {*t.eos_id()}}));

  // What is too long loses the ends of its longest text.
  const auto length = std::int64_t(example.input_ids.size());
  const peft::Example cut = prompt.encode(city, t, length - 1);
  CHECK(cut.tokens() == length - 1);
  CHECK(cut.labels.back() == peft::ignore_index);
  CHECK(std::count(cut.labels.begin(), cut.labels.end(), peft::ignore_index) ==
        std::count(example.labels.begin(), example.labels.end(), peft::ignore_index) - 1);
}

TEST_CASE("an encoder reads masks where the answer stands, between what its tokenizer puts around a text", "[data]") {
  const peft::Tokenizer t = peft::Tokenizer(small::from_json(peft::testing::tiny_bert_tokenizer()));
  const peft::RowFields film = [](const std::string& name) { return name == "text" ? "the film was" : "good plots"; };
  const std::int32_t mask = 1, cls = 2, sep = 3, the = 6, film_id = 5, was = 8, good = 9, plot = 7, s = 11;
  const peft::Example inside = peft::PlacedPrompt("{prompt:1}{text}{prompt:1} {answer} .", first).encode(film, t, 512, mask);
  CHECK(inside.input_ids == PlacedIds{cls, first, the, film_id, was, first + 1, mask, mask, mask, 17, sep});
  CHECK(inside.labels == joined({unlearnt(6), {good, plot, s}, unlearnt(2)}));
  // In front alone, they stand where PEFT puts them.
  const peft::Example ahead = peft::PlacedPrompt("{prompt:2} {text}", first).encode(film, t);
  CHECK(ahead.input_ids == PlacedIds{first, first + 1, cls, the, film_id, was, sep});
  CHECK(peft::PlacedPrompt("{prompt:2} {text}", first).question(film, t) == PlacedIds{first, first + 1, cls, the, film_id, was});
  CHECK(peft::encode_sequence("the film", std::string("good"), t, peft::PlacedPrompt("{text}[P]{text_pair}", first)).input_ids ==
        PlacedIds{cls, the, film_id, first, good, sep});
  CHECK_THROWS_WITH(peft::encode_sequence("the film", std::nullopt, t, peft::PlacedPrompt("{text}[P]{text_pair}", first)),
                    Catch::Contains("rows with labels have {text}"));
  CHECK_THROWS_WITH(peft::mask_id(small::chat()), Catch::Contains("neither [MASK] nor <mask>"));
}

TEST_CASE("a template places virtual tokens in the source of a pair", "[data]") {
  const peft::Tokenizer t = small::encoder_decoder();
  const auto ids = [&](const std::string& text) { return t.encode(text, {.add_special_tokens = false}); };
  const std::int32_t end = *t.eos_id();
  const peft::PlacedPrompt prompt("{prompt:2} {who}{prompt:1} the {answer:where}", first);
  const peft::Example pair = prompt.encode_pair(city, t);
  CHECK(pair.source_ids == joined({{first, first + 1}, ids(" hello"), {first + 2}, ids(" the"), {end}}));
  CHECK(pair.input_ids == joined({ids("world"), {end}}));
  CHECK(pair.labels == pair.input_ids);
  CHECK(prompt.source(city, t) == pair.source_ids);
  // Each side is cut: of the source, the longest text.
  const peft::RowFields longer = [](const std::string& name) { return name == "who" ? "xyzxyzxyz" : "zyxzyx"; };
  const peft::Example cut = prompt.encode_pair(longer, t, 5);
  CHECK(cut.source_ids.size() == 5);
  CHECK(std::ranges::count(cut.source_ids, first + 2) == 1);
  CHECK(cut.source_ids.back() == end);
  CHECK(cut.input_ids.size() == 5);
  const small::Folder folder;
  const peft::Dataset data = peft::load_placed(folder.write("rows.jsonl", "{\"who\": \"hello\", \"where\": \"world\"}\n{\"who\": \"a\", \"where\": \"b\"}\n"),
                                               t, prompt, {.max_length = 7, .pairs = true});
  REQUIRE(data.has_sources());
  CHECK(data[0].source_ids == pair.source_ids);
  CHECK(data[1].labels.size() == 2);
  CHECK_THROWS_WITH(peft::PlacedPrompt("{who} {answer:where}[P]", first).encode_pair(city, t), Catch::Contains("something behind {answer}"));
}

TEST_CASE("a file of rows goes through a template, and what a row lacks is said", "[data]") {
  const peft::Tokenizer t = small::chat();
  const small::Folder folder;
  const auto load = [&](const std::string& rows, const std::string& token_template) {
    return peft::load_placed(folder.write("rows.jsonl", rows), t, peft::PlacedPrompt(token_template, first));
  };
  const peft::Dataset data =
      load("{\"who\": \"hello\", \"where\": \"world\", \"n\": 3}\n{\"who\": \"a\", \"where\": \"the\", \"n\": 4}\n", "[P]{who} {n}[P] {answer:where}");
  REQUIRE(data.size() == 2);
  CHECK(data.report().format == "placed");
  CHECK(data[1].input_ids ==
        joined({{first}, t.encode("a 4", {.add_special_tokens = false}), {first + 1}, t.encode(" the", {.add_special_tokens = false}), {*t.eos_id()}}));
  CHECK_THROWS_WITH(load("{\"who\": \"a\", \"were\": \"b\"}", "[P]{who}{answer:where}"),
                    Catch::Contains("line 1") && Catch::Contains("\"where\"") && Catch::Contains("did you mean \"were\"?"));
  CHECK_THROWS_WITH(load("{\"who\": \"a\"}", "[P]{who}"), Catch::Contains("has no {answer}"));
}
