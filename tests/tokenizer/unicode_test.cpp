// SPDX-License-Identifier: Apache-2.0
#include "peft/tokenizer/unicode.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

namespace u = peft::unicode;

TEST_CASE("UTF-8 reads what append writes, for every character", "[tokenizer]") {
  std::size_t wrong = 0;
  for (char32_t c = 0; c <= 0x10FFFF; c++) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    u::append(text, c);
    const u::Character read = u::decode(text, 0), back = u::decode_before("x" + text, text.size() + 1);
    wrong += !read.valid || read.value != c || read.length != text.size() || back.value != c || back.length != text.size();
  }
  CHECK(wrong == 0);
}

TEST_CASE("broken UTF-8 becomes one U+FFFD for each maximal part", "[tokenizer]") {
  const std::string r = "\xEF\xBF\xBD";
  // Table 3-8 of the Unicode standard, and the cases around it.
  CHECK(u::to_valid("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41") == r + r + r + r + r + r + r + r + "A");
  CHECK(u::to_valid("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41") == r + r + r + r + r + r + r + r + "A");
  CHECK(u::to_valid("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42") == r + r + r + r + r + "A" + r + r + "B");
  CHECK(u::to_valid("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41") == r + r + r + r + "A");
  CHECK(u::to_valid("caf\xC3\xA9") == "caf\xC3\xA9");
  CHECK_FALSE(u::is_valid("a\xC3"));
  CHECK(u::is_valid("a\xC3\xA9\xF0\x9F\x98\x80"));
}

TEST_CASE("classes are those of regular expressions", "[tokenizer]") {
  for (char32_t c = 0; c < 0x80; c++) {
    INFO(static_cast<unsigned>(c));
    CHECK(u::is(c, u::letter) == ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')));
    CHECK(u::is(c, u::decimal) == (c >= '0' && c <= '9'));
    CHECK(u::is(c, u::space) == ((c >= 9 && c <= 13) || c == 32));
    CHECK(u::is(c, u::punctuation) == (std::string_view("!\"#%&'()*,-./:;?@[\\]_{}").find(static_cast<char>(c)) != std::string_view::npos));
  }
  for (char32_t c : {0x85u, 0xA0u, 0x1680u, 0x2003u, 0x2028u, 0x202Fu, 0x3000u}) CHECK(u::is(c, u::space));
  for (char32_t c : {0x200Bu, 0xFEFFu, 0x1Cu}) CHECK_FALSE(u::is(c, u::space));
  CHECK(u::is(0x4E2D, u::letter));
  CHECK(u::is(0xB2, u::number));                   // superscript two is \p{No}:
  CHECK_FALSE(u::is(0xB2, u::decimal | u::word));  // neither \d nor \w
  CHECK(u::is(0x2167, u::word));                   // Roman numeral eight, \p{Nl}
  CHECK(u::is(0xB2, u::regex_word));               // which Oniguruma sees otherwise,
  CHECK_FALSE(u::is(0x2460, u::regex_word));       // though not beyond Latin-1
  CHECK((u::is(0x200D, u::word) && !u::is(0x200D, u::regex_word)));
  CHECK((u::is(0x13460, u::letter) && u::is(0x1CCF9, u::decimal) && u::is(0x2EBF0, u::letter)));  // since Unicode 15.1 and 16
  CHECK(u::classes_of(0x0378) == 0);                                                              // unassigned
  CHECK(u::is(0x301, u::mark));
  CHECK(u::is(0x1D7D8, u::decimal));  // beyond the basic plane
}

TEST_CASE("normal forms and lower case", "[tokenizer]") {
  CHECK(u::normalize("e\xCC\x81", u::Form::nfc) == "\xC3\xA9");
  CHECK(u::normalize("\xC3\xA9", u::Form::nfd) == "e\xCC\x81");
  CHECK(u::normalize("\xEF\xAC\x81", u::Form::nfkc) == "fi");
  CHECK(u::normalize("\xEF\xAC\x81", u::Form::nfc) == "\xEF\xAC\x81");
  CHECK(u::normalize(std::string_view("a\0\xC3\xA9", 4), u::Form::nfd) == std::string("a\0e\xCC\x81", 5));
  CHECK(u::lowercase("\xC3\x80 \xC4\xB0 ABC") == "\xC3\xA0 i\xCC\x87 abc");
}

TEST_CASE("the visible alphabet is a bijection of the bytes", "[tokenizer]") {
  for (int byte = 0; byte < 256; byte++) {
    const std::string_view visible = u::byte_to_visible(static_cast<unsigned char>(byte));
    const u::Character c = u::decode(visible, 0);
    CHECK(c.length == visible.size());
    CHECK(u::visible_to_byte(c.value) == byte);
  }
  CHECK(u::byte_to_visible(' ') == "Ġ");
  CHECK(u::byte_to_visible('\n') == "Ċ");
  CHECK(u::byte_to_visible(0xAD) == "Ń");
  CHECK(u::visible_to_byte(' ') == -1);
  CHECK(u::visible_to_byte(0x4E2D) == -1);
}
