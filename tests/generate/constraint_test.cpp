// SPDX-License-Identifier: Apache-2.0
#include "peft/generate/constraint.hpp"

#include <catch2/catch.hpp>
#include <limits>
#include <regex>
#include <set>

#include "generate/tiny.hpp"
#include "peft/generate/generate.hpp"
#include "peft/generate/impl/regex.inl"
#include "support/threads.hpp"

namespace {

using Catch::Contains;

/// Every byte, and some longer tokens.
peft::Tokenizer byte_tokenizer() {
  namespace tk = peft::tokenizer;
  std::vector<std::pair<std::string, std::int32_t>> vocabulary = {{"<end>", 0}};
  const auto add = [&](const std::string& bytes) {
    std::string visible;
    for (char c : bytes) visible += peft::unicode::byte_to_visible(static_cast<unsigned char>(c));
    vocabulary.emplace_back(visible, std::int32_t(vocabulary.size()));
  };
  for (int b = 0; b < 256; b++) add(std::string(1, char(b)));
  for (const char* more : {"true", "false", "\": ", "\",", "{\"", "\"}", "name", "12", "123", "null", " \"", "ab", "abc", "é", "日", "[1", "]]"}) add(more);
  for (const char* more : {"\xA9x", "x\xC3", "日本語", "éé", "aé", "bc", "bcbc", "-!", "ab-", "\\u00", "00\""}) add(more);
  for (const int length : {2, 7, 8, 9, 16, 17, 40, 90}) add(std::string(std::size_t(length), 'a'));
  tk::Pipeline p;
  p.added_tokens = {{.id = 0, .content = "<end>", .special = true}};
  p.pre_tokenizer = std::make_unique<tk::ByteLevel>(false);
  p.model = std::make_unique<tk::Bpe>(tk::Vocabulary(vocabulary), std::vector<tk::Merge>{});
  p.decoder = std::make_unique<tk::ByteLevelDecoder>();
  p.eos_id = 0;
  return peft::Tokenizer(std::move(p));
}
const peft::Tokenizer& bytes() {
  static const peft::Tokenizer made = byte_tokenizer();
  return made;
}

/// True if the constraint lets `text` through, byte by byte, and lets it end there.
bool admits(const peft::TokenConstraint& constraint, const std::string& text) {
  auto state = constraint.start();
  for (char c : text) {
    std::vector<float> row(std::size_t(bytes().vocab_size()), 0.0f);
    constraint.mask<float>(row, state, 1000, {});
    const std::int32_t token = 1 + static_cast<unsigned char>(c);
    if (std::isinf(row[std::size_t(token)])) return false;
    state = constraint.next(state, token);
  }
  return constraint.complete(state);
}
/// The automaton as sets of states of the nondeterministic one, without anything kept.
struct SlowAutomaton {
  peft::detail::ByteNfa nfa;
  using States = std::set<std::int32_t>;

  States closure(std::vector<std::int32_t> begin) const {
    States all;
    while (!begin.empty()) {
      const std::int32_t s = begin.back();
      begin.pop_back();
      if (!all.insert(s).second) continue;
      const auto& state = nfa.states[std::size_t(s)];
      if (state.other >= 0) begin.push_back(state.other);
      if (state.reads < 0 && state.out >= 0) begin.push_back(state.out);
    }
    return all;
  }
  States behind(States states, const std::string& text) const {
    for (const char c : text) {
      std::vector<std::int32_t> reached;
      for (const std::int32_t s : states) {
        const auto& state = nfa.states[std::size_t(s)];
        if (state.reads >= 0 && nfa.sets[std::size_t(state.reads)][static_cast<unsigned char>(c)]) reached.push_back(state.out);
      }
      states = closure(std::move(reached));
    }
    return states;
  }
  std::int64_t distance(const States& states) const {
    std::int64_t least = std::numeric_limits<std::int32_t>::max();
    for (const std::int32_t s : states) least = std::min<std::int64_t>(least, nfa.distance[std::size_t(s)]);
    return least;
  }
};

bool matches(const std::string& pattern, const std::string& text) { return admits(*peft::constrain_to_regex(bytes(), pattern), text); }

}  // namespace

TEST_CASE("a token's bytes are what it adds to a text", "[generate]") {
  CHECK(peft::token_bytes(bytes(), 0).empty());
  CHECK(peft::token_bytes(bytes(), 1 + 'x') == "x");
  CHECK(peft::token_bytes(bytes(), 1 + 0xC3) == "\xC3");
  CHECK(peft::token_bytes(bytes(), 257) == "true");
  CHECK(peft::token_bytes(bytes(), 9999).empty());
  const peft::Tokenizer tokenizer = tiny::tokenizer();
  CHECK(peft::token_bytes(tokenizer, tiny::id("Ġst")) == " st");
  CHECK(peft::token_bytes(tokenizer, tiny::id("©")) == "\xA9");
  CHECK(peft::token_bytes(tokenizer, tiny::im_end).empty());
}

TEST_CASE("regular expressions match what std::regex matches", "[generate]") {
  const std::vector<std::string> patterns = {"abc",    "a|b|cd",      "a*b+c?",         "(ab|c)*",      "[a-c]{2,3}", "[^a]b",          "a{2}",
                                             "a{2,}b", "(a|b){0,2}c", "\\d+(\\.\\d*)?", "\\w\\W\\s\\S", ".b.",        "(?:a(b(c)?)?)?", "a??b",
                                             "[ab-]+", "[\\d.]+",     "x\\*y\\\\",      "(|a)b",        "^ab$"};
  peft::Random random(11);
  int hits = 0;
  for (const std::string& pattern : patterns) {
    const auto constraint = peft::constrain_to_regex(bytes(), pattern);
    const std::regex reference(pattern, std::regex::ECMAScript);
    for (int i = 0; i < 250; i++) {
      std::string text;
      const std::size_t length = std::size_t(random.below(6));
      for (std::size_t k = 0; k < length; k++) text += "abcd19. *x\\y-_"[random.below(14)];
      CAPTURE(pattern, text);
      const bool wanted = std::regex_match(text, reference);
      REQUIRE(admits(*constraint, text) == wanted);
      hits += wanted;
    }
  }
  CHECK(hits > 100);
}

TEST_CASE("characters are characters, not bytes", "[generate]") {
  CHECK(matches(".", "é"));
  CHECK(matches("[é-ü]+", "éüö"));
  CHECK_FALSE(matches("[é-ü]", "ý"));
  CHECK(matches("[^a]", "日"));
  CHECK(matches("\\u65e5", "日"));
  CHECK_FALSE(matches(".", "\xC3"));
  CHECK_FALSE(matches(".", "\xED\xA0\x80"));  // a surrogate
  CHECK(matches("x.", "x\xF0\x9F\x98\x80"));
}

TEST_CASE("what is no regular expression says where", "[generate]") {
  const auto refused = [](const char* pattern, const char* why) {
    CHECK_THROWS_WITH(peft::constrain_to_regex(bytes(), pattern), Contains("regex") && Contains(why));
  };
  refused("(a", "without its )");
  refused("a)", "without its (");
  refused("[a", "without its ]");
  refused("[z-a]", "backwards");
  refused("a{3,2}", "less than its least");
  refused("a{x}", "no number");
  refused("*a", "repetition of nothing");
  refused("a\\", "backslash at the end");
  refused("(?=a)", "(? of another kind");
  refused("a\\1", "back reference");
  refused("a^b", "anchor");
  CHECK_THROWS_AS(peft::constrain_to_regex(bytes(), "(((a{999}){999}){999})"), peft::NotSupported);
}

TEST_CASE("a mask allows exactly the tokens that can be gone on from", "[generate]") {
  const auto constraint = peft::constrain_to_regex(bytes(), "(abc|true|12?)+x");
  std::vector<float> row(std::size_t(bytes().vocab_size()) + 3, 1.0f);  // the model has rows without a token
  const std::vector<std::int32_t> eos = {0};
  constraint->mask<float>(row, constraint->start(), 100, eos);
  for (std::int32_t id = 0; id < std::int32_t(row.size()); id++) {
    const std::string text = peft::token_bytes(bytes(), id);
    const bool allowed = !text.empty() && (text == "a" || text == "ab" || text == "abc" || text == "t" || text == "true" || text == "1" || text == "12");
    CHECK(std::isinf(row[std::size_t(id)]) != allowed);
  }
  auto state = constraint->start();
  for (const char c : std::string("12x")) state = constraint->next(state, 1 + c);
  CHECK(constraint->finished(state));
  std::fill(row.begin(), row.end(), 1.0f);
  constraint->mask<float>(row, state, 100, eos);
  CHECK(row[0] == 1);
  CHECK(std::count(row.begin(), row.end(), 1.0f) == 1);
  // With two tokens left, only what is over after two bytes.
  std::fill(row.begin(), row.end(), 1.0f);
  constraint->mask<float>(row, constraint->start(), 2, eos);
  for (std::int32_t id = 0; id < std::int32_t(row.size()); id++) {
    const std::string text = peft::token_bytes(bytes(), id);
    CHECK(std::isinf(row[std::size_t(id)]) != (text == "abc" || text == "true" || text == "1" || text == "12"));
  }
  CHECK_THROWS_AS(constraint->next(constraint->start(), 1 + 'q'), peft::Error);
}

TEST_CASE("masks are what walking each token through the automaton says", "[generate]") {
  const std::string text_of_json = peft::json_schema_regex(peft::Json::parse(R"({"type": "string", "minLength": 3, "maxLength": 60})", "schema"));
  const std::vector<std::string> patterns = {".{1,2000}",          "a{1,30}b",       "(a|bc){3,40}x",       "(ab?){0,200}", "((a|é){2,12}-){1,25}!",
                                             "[^\"]{5,100}",       "(a|aa){1,50}b",  "(日|[é-ü]x?){10,60}", "x{40}|ab{3,}", "(a{3,20}|bc{2})*(12|[1-9]){2,5}",
                                             "(a?b?){2,20}(true)", "(a{2,4}b){3,9}", "(.|\n){120}",         text_of_json};
  const std::vector<std::int32_t> eos = {0};
  peft::Random random(5);
  for (const std::string& pattern : patterns) {
    const auto constraint = peft::constrain_to_regex(bytes(), pattern);
    const SlowAutomaton slow{peft::detail::RegexReader(pattern).read()};
    for (int round = 0; round < 3; round++) {
      auto state = constraint->start();
      auto states = slow.closure({slow.nfa.start});
      for (int step = 0; step < 16 && !constraint->finished(state); step++) {
        CAPTURE(pattern, round, step);
        REQUIRE(constraint->complete(state) == (slow.distance(states) == 0));
        std::vector<std::int64_t> distances;
        for (std::int32_t id = 0; id < bytes().vocab_size(); id++) {
          const std::string text = peft::token_bytes(bytes(), id);
          const auto behind = text.empty() ? SlowAutomaton::States{} : slow.behind(states, text);
          distances.push_back(behind.empty() ? -1 : slow.distance(behind));
        }
        std::int64_t nearest = std::numeric_limits<std::int32_t>::max();  // by one byte: what the distances themselves have to agree with
        for (std::size_t byte = 1; byte <= 256; byte++)
          if (distances[byte] >= 0) nearest = std::min(nearest, distances[byte] + 1);
        if (slow.distance(states) > 0) REQUIRE(slow.distance(states) == nearest);
        for (const std::int64_t left : {1, 2, 5, 12, 45, 130, 5000}) {
          std::vector<std::int32_t> wanted;
          for (const std::int64_t most : {left - 1, std::int64_t(1) << 40}) {
            for (std::int32_t id = 0; id < bytes().vocab_size(); id++)
              if (distances[std::size_t(id)] >= 0 && distances[std::size_t(id)] <= most) wanted.push_back(id);
            if (!wanted.empty() || constraint->complete(state)) break;
          }
          if (constraint->complete(state)) wanted.insert(wanted.begin(), 0);
          std::vector<float> row(std::size_t(bytes().vocab_size()), 1.0f);
          constraint->mask<float>(row, state, left, eos);
          std::vector<std::int32_t> found;
          for (std::int32_t id = 0; id < bytes().vocab_size(); id++)
            if (row[std::size_t(id)] == 1) found.push_back(id);
          CAPTURE(left);
          REQUIRE(found == wanted);
        }
        std::vector<std::int32_t> ways;
        for (std::int32_t id = 0; id < bytes().vocab_size(); id++)
          if (distances[std::size_t(id)] >= 0) ways.push_back(id);
        if (ways.empty()) break;
        const std::int32_t token = ways[std::size_t(random.below(std::uint64_t(ways.size())))];
        state = constraint->next(state, token);
        states = slow.behind(std::move(states), peft::token_bytes(bytes(), token));
      }
    }
  }
}

TEST_CASE("an expression whose states would fill the memory is refused when they do", "[generate]") {
  const auto constraint = peft::constrain_to_regex(bytes(), ".*a.{4000}");  // each a so far is another place to count from
  auto state = constraint->start();
  const auto write = [&] {
    for (int i = 0; i < 4000; i++) state = constraint->next(state, 1 + 'a');
  };
  CHECK_THROWS_WITH(write(), Contains("regex") && Contains("MiB of memory"));
  CHECK_FALSE(constraint->complete(state));  // what is there stays good
  CHECK(admits(*peft::constrain_to_json_schema(bytes(), peft::Json::parse(R"({"type": "string", "maxLength": 4000})", "schema")),
               "\"" + std::string(300, 'a') + "\""));
}

TEST_CASE("generated text matches its expression, drawn or searched for, to the last token", "[generate]") {
  const auto m = tiny::random_model(bytes().vocab_size() + 2);
  const std::string pattern = "[a-z]{3,8}: (yes|no|[0-9]+\\.[0-9]{2})( !)?";
  const std::regex reference(pattern);
  peft::GenerationConfig c;
  c.constraint = peft::constrain_to_regex(bytes(), pattern), c.prompt_template = "plain", c.eos_token_ids = std::vector<std::int32_t>{0};
  for (const std::int64_t most : {7, 9, 12, 40})
    for (int way = 0; way < 4; way++)
      for (std::uint64_t seed = 0; seed < 8; seed++) {
        c.max_new_tokens = most, c.seed = seed;
        c.num_beams = way == 1 ? 3 : 1, c.temperature = way == 1 ? 0 : 2.0, c.top_k = way == 3 ? 2 : 0;
        c.prompt_lookup_num_tokens = way == 2 ? 3 : 0;
        const auto g = peft::complete(m, bytes(), "name", c);
        CAPTURE(most, way, g.text);
        CHECK(std::regex_match(g.text, reference));
      }
}

TEST_CASE("texts drawn under one constraint are the same on any number of threads and in any batch", "[generate]") {
  const auto m = tiny::random_model(bytes().vocab_size());
  const std::vector<std::string> prompts = {"name", "x", "a b c", "true"};
  const auto texts = [&](std::span<const std::string> of) {
    peft::GenerationConfig c;
    c.constraint = peft::constrain_to_regex(bytes(), "([a-z]{1,200} |[0-9]{3,40}-){2,30}!");  // made anew: its states are found by several at once
    c.prompt_template = "plain", c.temperature = 1.5, c.seed = 3, c.max_new_tokens = 40, c.num_return_sequences = 3;
    std::vector<std::string> all;
    for (const auto& g : peft::complete_all(m, bytes(), std::vector<std::string>(of.begin(), of.end()), c)) all.push_back(g.text);
    return all;
  };
  const auto together = texts(prompts);
  for (const int threads : {1, 7}) {
    const peft::testing::Threads use(threads);
    CHECK(texts(prompts) == together);
  }
  for (std::size_t p = 0; p < prompts.size(); p++)
    CHECK(texts(std::span(prompts).subspan(p, 1)) == std::vector(together.begin() + 3 * std::ptrdiff_t(p), together.begin() + 3 * std::ptrdiff_t(p) + 3));
}

TEST_CASE("JSON of a schema: what is admitted is what the schema says", "[generate]") {
  const auto constraint = [](const char* schema) { return peft::constrain_to_json_schema(bytes(), peft::Json::parse(schema, "schema")); };
  const auto person = constraint(R"({"type": "object", "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 5}, "age": {"type": "integer"},
      "tags": {"type": "array", "items": {"enum": ["a", "b\"c", 3, null]}, "minItems": 1, "maxItems": 2}}, "required": ["name", "age"]})");
  CHECK(admits(*person, R"({"name": "Zoë", "age": -3})"));
  CHECK(admits(*person, R"({"name":"Zoë","age":0,"tags":["b\"c", 3]})"));
  CHECK_FALSE(admits(*person, R"({"age": 3})"));
  CHECK_FALSE(admits(*person, R"({"name": "", "age": 3})"));
  CHECK_FALSE(admits(*person, R"({"name": "abcdef", "age": 3})"));
  CHECK_FALSE(admits(*person, R"({"name": "a", "age": 03})"));
  CHECK_FALSE(admits(*person, R"({"name": "a", "age": 1.5})"));
  CHECK_FALSE(admits(*person, R"({"name": "a", "age": 3, "tags": []})"));
  CHECK_FALSE(admits(*person, R"({"name": "a", "age": 3, "tags": ["a", "a", "a"]})"));
  const auto optional = constraint(R"({"properties": {"a": {"type": "null"}, "b": {"type": "boolean"}, "c": {"type": "number"}}})");
  for (const char* text : {"{}", R"({"a": null})", R"({"b": true})", R"({"a": null, "c": -1.5e+3})", R"({"b": false, "c": 0})"}) CHECK(admits(*optional, text));
  for (const char* text : {"{,}", R"({"a": null,})", R"({"c": 1, "a": null})", R"({"a": true})", R"({"c": .5})"}) CHECK_FALSE(admits(*optional, text));
  const auto others = constraint(
      R"({"anyOf": [{"$ref": "#/$defs/day"}, {"type": ["string", "null"], "pattern": "^x+$"}], "$defs": {"day": {"type": "string", "format": "date"}}})");
  CHECK(admits(*others, "\"2024-02-29\""));
  CHECK(admits(*others, "\"xx\""));
  CHECK(admits(*others, "null"));
  CHECK_FALSE(admits(*others, "\"2024-13-01\""));
  const auto any = constraint("{}");
  for (const char* text : {"1", "\"a\\n\"", "[]", R"([1, {"a": [true]}])", R"({"x": {"y": null}})"}) CHECK(admits(*any, text));
  for (const char* text : {"", "[1,]", "{\"x\"}", "\"a", "tru"}) CHECK_FALSE(admits(*any, text));
}

TEST_CASE("a schema that cannot be kept is refused where it says so", "[generate]") {
  const auto refused = [](const char* schema, const char* why) {
    CHECK_THROWS_WITH(peft::json_schema_regex(peft::Json::parse(schema, "schema")), Contains("json_schema") && Contains(why));
  };
  refused(R"({"type": "integer", "minimum": 3})", "\"minimum\" is not built");
  refused(R"({"type": "text"})", "type = \"text\"");
  refused(R"({"type": "object", "properties": {"a": {"type": "string", "multipleOf": 2}}})", "the schema.a");
  refused(R"({"type": "object", "properties": {"name": {}}, "required": ["nam"]})", "did you mean \"name\"");
  refused(R"({"$ref": "#/$defs/x"})", "leads nowhere");
  refused(R"({"$defs": {"x": {"type": "array", "items": {"$ref": "#/$defs/x"}}}, "$ref": "#/$defs/x"})", "refers to itself");
  refused(R"({"type": "array", "minItems": 3, "maxItems": 2})", "maxItems = 2");
  refused(R"({"enum": []})", "enum");
  refused(R"("string")", "a schema is an object");
}

TEST_CASE("a random model writes valid JSON, in as many tokens as it has", "[generate]") {
  const auto m = tiny::random_model(bytes().vocab_size());
  const auto schema = peft::Json::parse(R"({"type": "object", "properties": {"name": {"type": "string"}, "ok": {"type": "boolean"},
      "values": {"type": "array", "items": {"type": "number"}}}, "required": ["name", "ok"]})",
                                        "schema");
  peft::GenerationConfig c;
  c.constraint = peft::constrain_to_json_schema(bytes(), schema), c.prompt_template = "plain", c.temperature = 1.5;
  for (const std::int64_t most : {24, 40, 90})
    for (std::uint64_t seed = 0; seed < 12; seed++) {
      c.max_new_tokens = most, c.seed = seed;
      const auto g = peft::complete(m, bytes(), "x", c);
      CAPTURE(g.text, most);
      const peft::Json value = peft::Json::parse(g.text, "generated");
      CHECK(value.at("name").is_string());
      CHECK(value.at("ok").is_boolean());
    }
}
