// SPDX-License-Identifier: Apache-2.0
#include "peft/io/json.hpp"

#include <catch2/catch.hpp>
#include <limits>
#include <string>

#include "support/files.hpp"

using namespace peft;
using namespace peft::testing;

namespace {
Json parse(std::string_view text) { return Json::parse(text, "x.json"); }
FormatError refused(std::string_view text) {
  INFO(text);
  return format_error("x.json", [&] { parse(text); });
}
}  // namespace

TEST_CASE("every kind of value is read as what it is", "[io]") {
  const Json j = parse(R"( {"null":null,"yes":true,"n":-7,"x":2.5e-3,"s":"a\n\u00e9\ud83d\ude00","list":[1,[],{}],"o":{"k":"v"}} )");
  CHECK(j.is_object());
  CHECK(j.size() == 7);
  CHECK(j.at("null").is_null());
  CHECK(j.at("yes").boolean());
  CHECK(j.at("n").integer() == -7);
  CHECK(j.at("n").number() == -7);
  CHECK(j.at("x").number() == 2.5e-3);
  CHECK(j.at("s").string() == "a\né😀");
  CHECK(j.at("list").array().size() == 3);
  CHECK(j.at("o").at("k").string() == "v");
  CHECK(j.object().front().first == "null");
  CHECK(j.get("none") == nullptr);
  CHECK(j.at("list").get("k") == nullptr);  // a list has no members
}

TEST_CASE("integers are exact to 63 bits, beyond they are numbers", "[io]") {
  CHECK(parse("9223372036854775807").integer() == std::numeric_limits<std::int64_t>::max());
  CHECK(parse("-9223372036854775808").integer() == std::numeric_limits<std::int64_t>::min());
  const Json huge = parse("1000000000000000019884624838656");  // model_max_length
  CHECK_FALSE(huge.is_integer());
  CHECK(huge.number() == 1e30);
  CHECK_THROWS_AS(huge.integer(), ConfigError);
  CHECK_THROWS_AS(parse("9223372036854775808").integer(), ConfigError);
  CHECK(parse("3.0").integer() == 3);
  CHECK_THROWS_AS(parse("3.5").integer(), ConfigError);
  CHECK(parse("9007199254740993") == parse("9007199254740993"));
  CHECK_FALSE(parse("9007199254740993") == parse("9007199254740992"));  // one double, two integers
  CHECK(parse("3") == parse("3.0"));
}

TEST_CASE("a wrong kind says what was found and what was wanted", "[io]") {
  const Json j = parse(R"({"r":"eight","target_modules":["q_proj"]})");
  CHECK_THROWS_WITH(j.at("r").integer(), R"([json] found a string ("eight"), wanted an integer)");
  CHECK_THROWS_WITH(j.at("target_modules").string(), R"([json] found a list (["q_proj"]), wanted a string)");
  CHECK_THROWS_WITH(j.at("target_module"), R"([json] the key "target_module" is missing; did you mean "target_modules"? keys here: r, target_modules)");
  CHECK_THROWS_WITH(j.boolean(), Catch::StartsWith("[json] found an object") && Catch::EndsWith("…), wanted true or false"));
  CHECK_THROWS_AS(parse("[1]").at("r"), ConfigError);
  CHECK_THROWS_AS(parse("null").array(), ConfigError);
}

TEST_CASE("what is not JSON is refused at its byte", "[io]") {
  CHECK(refused("").byte() == 0);
  CHECK(refused("   ").byte() == 3);
  CHECK(refused("{\"a\":1}x").byte() == 7);
  CHECK(refused("{\"a\" 1}").byte() == 5);
  CHECK(refused("[1,]").byte() == 3);
  CHECK(refused("\xEF\xBB\xBF{}").reason() == "not JSON: a byte-order mark");
  for (const char* text : {"NaN", "Infinity", "-", "01", "1.", "+1", "'a'", "{a:1}", "{\"a\":1,}", "[1 2]", "// c\n1", "\"\\x\"", "\"\t\"", "tru", "1e999",
                           "{\"a\"}", "]", "\"\\ud800\""})
    CHECK(refused(text).byte() >= 0);
  for (const char* text : {"\"\xff\"", "\"\xc3\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\""}) CHECK(refused(text).byte() >= 1);  // no UTF-8
  CHECK(refused(std::string_view("{}\0 more", 8)).byte() == 2);
}

TEST_CASE("a text that ends early is refused, wherever it ends", "[io]") {
  const std::string whole = R"({"a":[1,2.5,"é\u00e9",true,null],"b":{"c":-1}})";
  CHECK_NOTHROW(parse(whole));
  for (std::size_t n = 0; n < whole.size(); n++) {
    const FormatError error = refused(whole.substr(0, n));
    CHECK(error.byte() >= 0);
    CHECK(error.byte() <= std::int64_t(n));
  }
}

TEST_CASE("a key that stands twice is refused", "[io]") {
  CHECK(refused(R"({"a":1,"b":2,"a":3})").reason() == R"(the key "a" stands twice in one object)");
  CHECK(refused(R"({"o":{"\u0061":1,"a":3}})").reason() == R"(the key "a" stands twice in one object)");
  CHECK_NOTHROW(parse(R"({"a":{"a":1},"b":{"a":1}})"));
}

TEST_CASE("nesting is bounded, so that no file exhausts the stack", "[io]") {
  const auto nested = [](std::size_t n, const std::string& open, const std::string& close) {
    std::string text;
    for (std::size_t i = 0; i < n; i++) text += open;
    for (std::size_t i = 0; i < n; i++) text += close;
    return text;
  };
  CHECK_NOTHROW(parse(nested(64, "[", "]")));
  CHECK(refused(nested(65, "[", "]")).reason() == "nested deeper than 64");
  CHECK(refused(std::string(1 << 20, '[')).reason() == "nested deeper than 64");
  CHECK(refused(nested(1 << 16, "{\"a\":", "}")).reason() == "nested deeper than 64");
}

TEST_CASE("members of a large object are found, before and after a change", "[io]") {
  std::string text = "{";
  for (int i = 0; i < 1000; i++) text += "\"key" + std::to_string(i) + "\":" + std::to_string(i) + (i < 999 ? "," : "}");
  Json j = parse(text);
  for (int i = 0; i < 1000; i += 37) CHECK(j.at("key" + std::to_string(i)).integer() == i);
  CHECK_FALSE(j.contains("key1000"));
  j.set("key1000", Json(std::int64_t{1})), j.set("key5", Json("five"));
  CHECK(j.at("key1000").integer() == 1);
  CHECK(j.at("key5").string() == "five");
  CHECK(j.size() == 1001);
}

TEST_CASE("text is written as Python's json.dumps writes it", "[io]") {
  const Json j = parse(R"({"b":[1,2.0,[]],"a":{"z":null,"é":"\"\\\u0001\u007f/😀"},"e":{},"t":true})");
  CHECK(j.dump() == R"({"b": [1, 2.0, []], "a": {"z": null, "\u00e9": "\"\\\u0001\u007f/\ud83d\ude00"}, "e": {}, "t": true})");
  CHECK(j.dump(-1, true, false) == "{\"a\": {\"z\": null, \"é\": \"\\\"\\\\\\u0001\x7f/😀\"}, \"b\": [1, 2.0, []], \"e\": {}, \"t\": true}");
  CHECK(parse(R"({"b":[1,{"c":2}],"a":{}})").dump(2, true) == "{\n  \"a\": {},\n  \"b\": [\n    1,\n    {\n      \"c\": 2\n    }\n  ]\n}");
}

TEST_CASE("numbers are written with the fewest digits that read back the same", "[io]") {
  const auto written = [](double value) { return Json(value).dump(); };
  CHECK(written(0.1) == "0.1");
  CHECK(written(1e-05) == "1e-05");
  CHECK(written(0.0001) == "0.0001");
  CHECK(written(1e15) == "1000000000000000.0");
  CHECK(written(1e16) == "1e+16");
  CHECK(written(-0.0) == "-0.0");
  CHECK(written(1.7976931348623157e308) == "1.7976931348623157e+308");
  CHECK(written(5e-324) == "5e-324");
  CHECK(written(std::numeric_limits<double>::quiet_NaN()) == "NaN");
  CHECK(written(-std::numeric_limits<double>::infinity()) == "-Infinity");
  for (const double value : {1.0 / 3, 2e-7, 123456789.125, -9.999999999999999e22, 4.35}) CHECK(parse(written(value)).number() == value);
}

TEST_CASE("values are built, compared and written back", "[io]") {
  Json list;
  list.push_back(Json(std::int64_t{1})), list.push_back(Json("two"));
  Json j = Json::make_object();
  j.set("list", list), j.set("x", Json(0.5)), j.set("x", Json(true));
  CHECK(j.dump() == R"({"list": [1, "two"], "x": true})");
  CHECK(parse(j.dump()) == j);
  CHECK(parse(R"({"x":true,"list":[1,"two"]})") == j);  // members have no order
  CHECK_FALSE(parse(R"({"x":true,"list":["two",1]})") == j);
  CHECK_FALSE(parse(R"({"x":true})") == j);
  CHECK_FALSE(Json(true) == Json(std::int64_t{1}));
}

TEST_CASE("a file is read whole and named in what it throws", "[io]") {
  const Folder folder;
  write_file(folder / "a.json", "{\"a\": 1}\n");
  CHECK(Json::read(folder / "a.json").at("a").integer() == 1);
  write_file(folder / "b.json", "{\"a\": }");
  CHECK(format_error(folder / "b.json", [&] { Json::read(folder / "b.json"); }).byte() == 6);
  CHECK(format_error(folder / "none.json", [&] { Json::read(folder / "none.json"); }).reason() == "cannot be opened: No such file or directory");
}
