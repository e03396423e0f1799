// SPDX-License-Identifier: Apache-2.0
// Templates come with models, from anybody: what they ask for is bounded.
#include <catch2/catch.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/tokenizer/chat_template.hpp"
#include "peft/tokenizer/jinja/template.hpp"
#include "peft/tokenizer/tokenizer.hpp"

namespace {

std::string times(const std::string& text, int n) {
  std::string all;
  for (int i = 0; i < n; i++) all += text;
  return all;
}
std::string ran(const std::string& text) {
  using peft::jinja::Value;
  const Value message = Value::mapping({{"role", Value("user")}, {"content", Value("Hi")}});
  return peft::jinja::Template(text).render(Value::mapping({{"messages", Value(Value::List{message})}}));
}
/// Refused, and in a time that nobody minds (sanitizers take a hundred times as long as they should).
void stops(const std::string& text, const std::string& said) {
  INFO(text.substr(0, 300));
  const auto begin = std::chrono::steady_clock::now();
  CHECK_THROWS_WITH(ran(text), Catch::Contains("[chat_template]") && Catch::Contains(said));
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(60));
}

const std::string works = "it was stopped";

}  // namespace

TEST_CASE("a template's steps are bounded", "[tokenizer]") {
  stops("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", works);
  stops("{% set r = range(50000) %}{% for i in r %}{% for j in r if false %}{% endfor %}{% endfor %}", works);
  stops("{% macro m(n) %}{% if n > 0 %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}", works);
  stops("{% set r = range(100000) | list %}{% for i in r %}{% if -1 in r %}{% endif %}{% endfor %}", works);
  stops("{{ range(100000) | unique | list | length }}", works);
  stops("{{ " + times("0 <= (", 60) + "1" + times(") <= 1", 60) + " }}", works);  // the middle is looked at twice
}

TEST_CASE("a template's texts and lists are bounded", "[tokenizer]") {
  stops("{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}", works);
  stops("{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}", works);
  stops("{{ ('a' * 1000)" + times(" | replace('a', 'aaaaaaaaaa')", 40) + " }}", works);
  stops("{{ ('a' * 1000)" + times(".replace('a', 'aaaaaaaaaa')", 40) + " }}", works);
  stops("{% set ns = namespace(s='a,a') %}{% for i in range(60) %}{% set ns.s = ns.s.split(',') | join(ns.s) %}{% endfor %}", works);
  stops("{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}", works);
  stops("{% set s = 'a' * 16000000 %}{% for i in range(100) %}{{ s }}{% endfor %}", works);
  stops("{{ ('a' * 8000000) in ('a' * 16000000) }}", works);
  stops("{{ ('a' * 500000).strip('b' * 500000 + 'a') }}", works);
  stops("{{ ('x\n' * 1000000) | indent('y' * 1000000) }}", works);
  stops("{{ strftime_now('%c' * 8000000) }}", works);
  stops("{{ 'ab' * 9223372036854775807 }}", "16 MiB");
  stops("{{ 'ab' * 100000000 }}", "16 MiB");
  CHECK(ran("{{ '' * 9223372036854775807 }}|{{ 'ab' * -3 }}|") == "||");
}

TEST_CASE("values that hold themselves many times, or each other deeply", "[tokenizer]") {
  const std::string doubled = "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}";
  stops(doubled + "{{ ns.a }}", works);
  stops(doubled + "{{ ns.a | tojson }}", works);
  stops(doubled + "{{ ns.a | tojson(indent=4) }}", works);
  stops(doubled + "{% set x = ns.a %}{% set ns.a = [1] %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a == x }}", works);
  const auto nested = [](const std::string& value) {
    return "{% set ns = namespace(a=1) %}{% for i in range(90000) %}{% set ns.a = " + value + " %}{% endfor %}";
  };
  stops(nested("[ns.a]"), "100 deep");
  stops(nested("{'a': ns.a}"), "100 deep");
  stops(nested("[ns.a].index"), "100 deep");
  stops(nested("dict(a=ns.a).items"), "100 deep");
  stops(
      "{% set ns = namespace(a=1) %}{% for i in range(90000) %}{% for x in [1, ns.a] %}{% if loop.last %}{% set ns.a = [loop, x] %}{% endif %}{% endfor %}"
      "{% endfor %}",
      "100 deep");
  stops("{% set a = namespace() %}{% set a.b = a %}", "namespace within");
  stops("{% set a = namespace() %}{{ [a] }}", "namespace within");
  // loop.changed remembers, and holds nothing.
  CHECK(ran("{% set ns = namespace(a=1) %}{% for i in range(2000) %}{% for j in [1] %}{% if loop.changed(ns.a) %}{% set ns.a = loop.changed %}{% endif %}"
            "{% endfor %}{% endfor %}{% for x in [1, 1, 2] %}{{ loop.changed(x, 'a') }} {% endfor %}") == "True False True ");
}

TEST_CASE("a template's nesting is bounded, in reading and in running", "[tokenizer]") {
  const int many = 100000;
  stops("{{ 'a'" + times(" | trim", many) + " }}", "too deep");
  stops("{{ 1" + times(" + 1", many) + " }}", "too deep");
  stops("{{ 1" + times(" ~ 1", many) + " }}", "too deep");
  stops("{{ 1" + times(" or 1", many) + " }}", "too deep");
  stops("{{ 1" + times(" < 1", many) + " }}", "too deep");
  stops("{{ 1" + times(" is odd", many) + " }}", "too deep");
  stops("{{ a" + times(".a", many) + " }}", "too deep");
  stops("{{ a" + times("[0]", many) + " }}", "too deep");
  stops("{{ a" + times("()", many) + " }}", "too deep");
  stops("{{ " + times("f(", many) + "1" + times(")", many) + " }}", "too deep");
  stops("{{ " + times("[", many) + times("]", many) + " }}", "too deep");
  stops("{{ " + times("{1:", many) + "1" + times("}", many) + " }}", "too deep");
  stops("{{ " + times("-", many) + "1 }}", "too deep");
  stops("{{ " + times("not ", many) + "1 }}", "too deep");
  stops("{{ " + times("1 if 1 else ", many) + "1 }}", "too deep");
  stops(times("{% if 1 %}", many), "too deep");
  stops(times("{% for i in [1] %}", many), "too deep");
  stops(times("{% filter upper %}", many), "too deep");
  // Each part is allowed; run within each other they would outgrow the stack.
  const std::string chain = times(" | trim", 300);
  stops("{% macro m(n) %}{{ m(n)" + chain + " }}{% endmacro %}{{ m(1) }}", "deep");
  stops("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "100 calls");
  stops("{% macro m() %}{% set f = m %}{{ f(f()) }}{% endmacro %}{{ m() }}", "100 calls");
  CHECK(ran("{{ ' a '" + chain + " }}{{ 0" + times(" + 1", 300) + " }}") == "a300");
}

TEST_CASE("numbers at the edge of 64 bits", "[tokenizer]") {
  const std::string least = "{% set m = -9223372036854775807 - 1 %}";
  CHECK(ran(least + "{{ m is divisibleby(-1) }} {{ m % -1 }} {{ m // 2 }} {{ [1, 2, 3][::9223372036854775807] }} {{ [1, 2, 3][m:][::m] }}") ==
        "True 0 -4611686018427387904 [1] [3]");
  CHECK(ran("{{ range(1, 9223372036854775807, 9223372036854775806) | list }}") == "[1]");
  for (const char* expression : {"m // -1", "-m", "m | abs", "1e300 | int", "'1e300' | int", "[9223372036854775807, 9223372036854775807] | sum", "m - 1"})
    stops(least + "{{ " + expression + " }}", "64 bits");
}

TEST_CASE("a long conversation is none of this", "[tokenizer]") {
  std::vector<peft::ChatMessage> talk;
  const std::string paragraph = times("A sentence of some length, as people write them. ", 400);
  for (int i = 0; i < 400; i++) talk.push_back({i % 2 ? "assistant" : "user", paragraph});
  for (const char* name : {"alpaca", "chatglm2", "chatml", "llama2", "llama3", "qwen", "zephyr"})
    CHECK(peft::load_chat_template(name).render(talk, true, "<s>", "</s>").size() > 400 * (paragraph.size() - 1));
}
