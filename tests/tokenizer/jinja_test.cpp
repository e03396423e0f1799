// SPDX-License-Identifier: Apache-2.0
// Expected texts are those of Jinja 3.1.6 with the environment of transformers 5.23.
#include "peft/tokenizer/jinja/template.hpp"

#include <catch2/catch.hpp>

#include "peft/core/error.hpp"
#include "peft/io/json.hpp"

namespace {

std::string rendered(std::string_view text) {
  static const peft::jinja::Value variables = peft::jinja::Value::of(peft::Json::parse(
      R"({"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":" Hi\n"}],"tools":null,"x":[3,1,2],"d":{"b":1,"a":[true,null]},"s":"aXbXc"})",
      "test"));
  return peft::jinja::Template(text).render(variables);
}

}  // namespace

TEST_CASE("white space around tags", "[tokenizer]") {
  CHECK(rendered("{% if true %}\n  a\n{% endif %}\n  {%- if true -%}\n  b\n{% endif +%}\nc") == "  a\nb\n\nc");
  CHECK(rendered("  {# c #}  x\n  {{ 1 }}\n{% raw %}{{ x }}{% endraw %}!\n") == "  x\n  1\n{{ x }}!");
  CHECK(rendered("{{- 'a' -}}   b   {{- 'c' }}") == "abc");
  CHECK(rendered("{%- for m in messages %}\n    {%- if loop.first and m.role == 'system' %}\n        {{- m.content }}\n    {%- else %}\n"
                 "        {{- '<' + m.role + '>' + m.content | trim }}\n    {%- endif %}\n{%- endfor %}") == "Be brief.<user>Hi");
}

TEST_CASE("numbers and texts", "[tokenizer]") {
  CHECK(rendered("{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ 1 + 2 * 3 - 4 }} {{ 1e3 }} {{ 0.1 }} {{ 'ab' * 2 }}") ==
        "3 -4 2 3.5 8 3 1000.0 0.1 abab");
  CHECK(rendered(R"({{ x }} {{ d }} {{ none }} {{ [1, 'a"b', "c'd", 2.0] }} {{ true and 'y' }} {{ '' or 'z' }} {{ not x }} {{ nothing }})") ==
        R"([3, 1, 2] {'b': 1, 'a': [True, None]} None [1, 'a"b', "c'd", 2.0] y z False )");
  CHECK(
      rendered(
          R"({{ 'é\u00e9\x41\'\\' }} {{ "a" "b" }} {{ (1, 2) | length }} {{ {'k': 1}.k }} {{ d.get('q', 'no') }} {{ d.keys() | list }} {{ 'a' if false }}|)") ==
      R"(ééA'\ ab 2 1 no ['b', 'a'] |)");
}

TEST_CASE("items, slices and methods", "[tokenizer]") {
  CHECK(rendered("{{ x[0] }}{{ x[-1] }}{{ x[1:] }}{{ x[::-1] }} {{ s[1:3] }} {{ s[::-1] }} {{ x[9] is defined }} {{ d.b }} {{ d['a'] }}") ==
        "32[1, 2][2, 1, 3] Xb cXbXa False 1 [True, None]");
  CHECK(rendered("{{ s.split('X') }} {{ s.replace('X', '-') }} {{ s.upper() }} {{ ' a '.strip() }}| {{ s.startswith('a') }} {{ 'a b  c'.split() }} "
                 "{{ 'x'.join(['1', '2']) }} {{ 'hello world'.title() }} {{ 'abc'.find('c') }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }}") ==
        "['a', 'b', 'c'] a-b-c AXBXC a| True ['a', 'b', 'c'] 1x2 Hello World 2 ['a', 'b,c'] ['a,b', 'c']");
}

TEST_CASE("filters and tests", "[tokenizer]") {
  CHECK(
      rendered(
          R"({{ x | sort | join('-') }} {{ x | sort(reverse=true) | first }} {{ x | length }} {{ x | sum }} {{ x | max }} {{ d | tojson }} {{ 'é"<' | tojson }} {{ d | tojson(indent=2) }})") ==
      "1-2-3 3 3 6 3 {\"b\": 1, \"a\": [true, null]} \"é\\\"<\" {\n  \"b\": 1,\n  \"a\": [\n    true,\n    null\n  ]\n}");
  CHECK(rendered("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list }} {{ messages | rejectattr('role', 'in', ['user']) | "
                 "map(attribute='role') | join }} {{ x | map('string') | join('+') }} {{ x | select('odd') | list }}") == "[' Hi\\n'] system 3+1+2 [3, 1]");
  CHECK(rendered("{{ nope | default('d') }} {{ '' | default('e', true) }} {{ '5' | int + 1 }} {{ 'a\\nb' | indent(2) }} {{ 2.5 | round }} {{ -3 | abs }} "
                 "{{ 'abc' | capitalize }} {{ [1, 1, 2] | unique | list }} {{ 'abc' | reverse }}") == "d e 6 a\n  b 2.0 3 Abc [1, 2] cba");
  CHECK(rendered("{{ 3 is odd }} {{ x is iterable }} {{ d is mapping }} {{ s is string }} {{ tools is none }} {{ tools is not none }} {{ nope is defined }} "
                 "{{ 4 is divisibleby 2 }} {{ 1 in x }} {{ 5 not in x }} {{ 'X' in s }} {{ 1 < 2 < 3 }}") ==
        "True True True True True False False True True True True True");
}

TEST_CASE("loops, scopes and macros", "[tokenizer]") {
  CHECK(rendered("{% for k, v in d.items() %}{{ loop.index }}{{ k }}={{ v }}{{ ', ' if not loop.last }}{% endfor %}") == "1b=1, 2a=[True, None]");
  CHECK(rendered("{% for i in x if i > 1 %}{{ i }}/{{ loop.length }} {% else %}none{% endfor %}{% for i in [] %}{% else %}empty{% endfor %}") ==
        "3/2 2/2 empty");
  CHECK(
      rendered("{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{{ loop.previtem }}{{ loop.nextitem "
               "}};{% endfor %}") == "01;213;");
  CHECK(rendered(
            "{% set y = 1 %}{% for i in x %}{% set y = i %}{% endfor %}{{ y }}{% set ns = namespace(v=0) %}{% for i in x %}{% set ns.v = ns.v + i %}{% endfor "
            "%}{{ ns.v }}") == "16");
  CHECK(rendered("{% macro m(a, b='B') %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}{{ m(b=2, a=3) }}{{ m(1, 2) }}{{ m() }}") == "[1B][32][12][B]");
  CHECK(rendered("{% set z %}a{{ 1 }}b{% endset %}{{ z | upper }}{% filter upper %}q{{ z }}{% endfilter %}") == "A1BQA1B");
}

TEST_CASE("what a template does wrong is said", "[tokenizer]") {
  CHECK_THROWS_WITH(rendered("{{ raise_exception('no ' + 'way') }}"), Catch::Contains("no way"));
  CHECK_THROWS_WITH(rendered("a\n{{ nope.attr }}"), Catch::Contains("line 2") && Catch::Contains("\"nope\"") && Catch::Contains("attr"));
  CHECK_THROWS_WITH(rendered("{{ 1 + 'a' }}"), Catch::Contains("an integer + a string"));
  CHECK_THROWS_WITH(rendered("{{ x | sortt }}"), Catch::Contains("did you mean \"sort\""));
  CHECK_THROWS_WITH(rendered("{{ x.append(1) }}"), Catch::Contains("append"));
  CHECK_THROWS_WITH(rendered("{% if x %}"), Catch::Contains("endif"));
  CHECK_THROWS_WITH(rendered("{% include 'a' %}"), Catch::Contains("include"));
  CHECK_THROWS_WITH(rendered("{{ 'abc }}"), Catch::Contains("string"));
  CHECK_THROWS_WITH(rendered("{{ (1 }}"), Catch::Contains("closes nothing"));
  CHECK_THROWS_WITH(rendered("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), Catch::Contains("100 calls"));
  CHECK_THROWS_WITH(rendered("{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}"), Catch::Contains("too deep"));
  CHECK_THROWS_WITH(rendered("{{ range(1000000) }}"), Catch::Contains("100000"));
  CHECK_THROWS_WITH(rendered("{{ 9223372036854775807 + 1 }}"), Catch::Contains("64 bits"));
  CHECK_THROWS_WITH(rendered("{{ 1 // 0 }}"), Catch::Contains("zero"));
}
