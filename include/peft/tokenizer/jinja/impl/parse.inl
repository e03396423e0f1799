// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "peft/tokenizer/jinja/impl/value.inl"
#include "peft/tokenizer/jinja/template.hpp"

namespace peft::jinja {

/// A statement or an expression. What `children`, `names` and `text` are depends on the kind.
struct Node {
  enum class Kind {
    // statements
    block,      // children, one after the other
    text,       // text as it is
    print,      // {{ children[0] }}
    condition,  // children: test, block, test, block, … and perhaps a last block
    loop,       // for names in children[0] if children[1] (may be null): children[2], else children[3] (may be null)
    set,        // names = children[0]; text: "namespace" for names[0].names[1], "block" for a rendered children[0]
    macro,      // text(names…), children[0] the body, then the defaults (may be null)
    filtered,   // {% filter %}: children[0] applied to the rendered children[1]
    leave,      // break, continue (text)
    // expressions
    literal,  // value
    name,     // text
    list,     // children
    mapping,  // children: key, value, …
    member,   // children[0].text
    item,     // children[0][children[1]]
    slice,    // children[0][children[1]:children[2]:children[3]], each of which may be null
    call,     // children[0](children[1…]; the last names.size() of them have these names)
    filter,   // children[0] | text(children[1…])
    test,     // children[0] is text(children[1…])
    unary,    // text children[0]
    binary,   // children[0] text children[1]
    choice    // children[0] if children[1] else children[2] (may be null)
  };
  Kind kind = Kind::block;
  std::string text = {};
  std::vector<std::shared_ptr<Node>> children = {};
  std::vector<std::string> names = {};
  Value value = {};
  std::size_t line = 0;
  std::size_t depth = 0;  // nodes below this one
};

namespace detail {

using NodePtr = std::shared_ptr<Node>;

struct Token {
  enum class Kind { text, begin_print, end_print, begin_block, end_block, name, string, integer, number, symbol, end };
  Kind kind = Kind::end;
  std::string text;
  std::size_t line = 0;
};

/// Cuts a template into tokens and takes away the white space that is not meant.
class Lexer {
 public:
  explicit Lexer(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); i++)  // \r\n and \r are newlines too
      if (text[i] != '\r')
        text_ += text[i];
      else if (i + 1 == text.size() || text[i + 1] != '\n')
        text_ += '\n';
    if (text_.ends_with('\n')) text_.pop_back();
    run();
  }
  std::vector<Token> tokens;

 private:
  ConfigError wrong(const std::string& what) const { return error("line " + std::to_string(line_) + " of the template: " + what); }
  void add(Token::Kind kind, std::string_view text) { tokens.push_back({kind, std::string(text), line_}); }
  void advance(std::size_t to) {
    for (; at_ < to; at_++) line_ += text_[at_] == '\n';
  }

  void run() {
    while (at_ < text_.size()) {
      std::size_t tag = text_.find('{', at_);
      while (tag != text_.npos && !(tag + 1 < text_.size() && (text_[tag + 1] == '{' || text_[tag + 1] == '%' || text_[tag + 1] == '#')))
        tag = text_.find('{', tag + 1);
      if (tag == text_.npos) tag = text_.size();
      std::string_view plain = std::string_view(text_).substr(at_, tag - at_);
      if (tag == text_.size()) {
        if (!plain.empty()) add(Token::Kind::text, plain);
        return;
      }
      const char kind = text_[tag + 1];
      const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
      if (sign == '-') {
        plain = plain.substr(0, plain.find_last_not_of(" \t\n\v\f") + 1);
      } else if (kind != '{' && sign != '+') {  // lstrip_blocks: blanks between the beginning of the line and a block
        const std::size_t start = plain.rfind('\n') + 1;
        if ((start > 0 || line_start_) && plain.find_first_not_of(" \t\v\f", start) == plain.npos) plain = plain.substr(0, start);
      }
      if (!plain.empty()) add(Token::Kind::text, plain);
      advance(tag + 2 + (sign == '-' || sign == '+' ? 1 : 0));
      if (kind == '#') {
        const std::size_t end = text_.find("#}", at_);
        if (end == text_.npos) throw wrong("a comment does not end");
        const char last = end > at_ ? text_[end - 1] : '\0';
        advance(end + 2);
        close(last, true);
      } else {
        inside(kind == '{');
      }
    }
  }

  /// Behind a tag: `sign` stood in front of its closing brackets.
  void close(char sign, bool block) {
    const std::size_t from = at_;
    if (sign == '-')
      advance(std::min(text_.find_first_not_of(" \t\n\v\f", at_), text_.size()));
    else if (block && sign != '+' && at_ < text_.size() && text_[at_] == '\n')  // trim_blocks
      advance(at_ + 1);
    line_start_ = at_ > from && text_[at_ - 1] == '\n';
  }

  void inside(bool print) {
    add(print ? Token::Kind::begin_print : Token::Kind::begin_block, "");
    const std::size_t first = tokens.size();
    std::string brackets;
    while (true) {
      advance(std::min(text_.find_first_not_of(" \t\n\v\f", at_), text_.size()));
      if (at_ >= text_.size()) throw wrong("a tag does not end");
      const std::string_view rest = std::string_view(text_).substr(at_);
      const std::size_t sign = rest[0] == '-' || rest[0] == '+' ? 1 : 0;
      if (brackets.empty() && rest.substr(sign).starts_with(print ? "}}" : "%}")) {
        add(print ? Token::Kind::end_print : Token::Kind::end_block, "");
        advance(at_ + sign + 2);
        const bool raw = !print && tokens.size() == first + 2 && tokens[first].text == "raw";
        close(sign == 1 ? rest[0] : '\0', !print);
        if (raw) verbatim(first - 1);
        return;
      }
      token(rest, brackets);
    }
  }

  /// {% raw %} … {% endraw %} is text.
  void verbatim(std::size_t first_token) {
    tokens.resize(first_token);
    for (std::size_t tag = text_.find("{%", at_); tag != text_.npos; tag = text_.find("{%", tag + 1)) {
      std::size_t name = tag + 2;
      const bool strip = name < text_.size() && text_[name] == '-';
      name = text_.find_first_not_of(" \t\n\v\f-+", name);
      if (name == text_.npos || std::string_view(text_).substr(name, 6) != "endraw") continue;
      const std::size_t end = text_.find("%}", name);
      if (end == text_.npos) break;
      std::string_view plain = std::string_view(text_).substr(at_, tag - at_);
      if (strip) plain = plain.substr(0, plain.find_last_not_of(" \t\n\v\f") + 1);
      if (!plain.empty()) add(Token::Kind::text, plain);
      advance(end + 2);
      return close(text_[end - 1], true);
    }
    throw wrong("{% raw %} has no {% endraw %}");
  }

  void token(std::string_view rest, std::string& brackets) {
    const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80; };
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    std::size_t size = 0;
    if (is_letter(rest[0])) {
      while (size < rest.size() && (is_letter(rest[size]) || is_digit(rest[size]))) size++;
      add(Token::Kind::name, rest.substr(0, size));
    } else if (is_digit(rest[0])) {
      const auto digits = [&] {
        while (size < rest.size() && (is_digit(rest[size]) || rest[size] == '_')) size++;
      };
      digits();
      bool whole = true;
      if (size + 1 < rest.size() && rest[size] == '.' && is_digit(rest[size + 1])) whole = false, size++, digits();
      if (size < rest.size() && (rest[size] == 'e' || rest[size] == 'E')) {
        std::size_t exponent = size + 1;
        if (exponent < rest.size() && (rest[exponent] == '+' || rest[exponent] == '-')) exponent++;
        if (exponent < rest.size() && is_digit(rest[exponent])) whole = false, size = exponent, digits();
      }
      std::string number(rest.substr(0, size));
      std::erase(number, '_');
      add(whole ? Token::Kind::integer : Token::Kind::number, number);
    } else if (rest[0] == '\'' || rest[0] == '"') {
      for (size = 1; size < rest.size() && rest[size] != rest[0]; size++)
        if (rest[size] == '\\') size++;
      if (size >= rest.size()) throw wrong("a string does not end");
      add(Token::Kind::string, unescaped(rest.substr(1, size - 1)));
      size++;
    } else {
      constexpr std::string_view pairs[] = {"==", "!=", "<=", ">=", "//", "**"};
      size = 1;
      for (const std::string_view pair : pairs)
        if (rest.starts_with(pair)) size = 2;
      if (std::string_view("+-*/%~<>=.,:|()[]{}").find(rest[0]) == std::string_view::npos && size == 1)
        throw wrong("\"" + std::string(rest.substr(0, 1)) + "\" is no symbol of the language");
      const std::string_view symbol = rest.substr(0, size);
      if (symbol == "(" || symbol == "[" || symbol == "{") brackets += symbol[0] == '(' ? ')' : symbol[0] == '[' ? ']' : '}';
      if (symbol == ")" || symbol == "]" || symbol == "}") {
        if (brackets.empty() || brackets.back() != symbol[0]) throw wrong("\"" + std::string(symbol) + "\" closes nothing");
        brackets.pop_back();
      }
      add(Token::Kind::symbol, symbol);
    }
    advance(at_ + size);
  }

  /// The escapes of a Python string.
  std::string unescaped(std::string_view text) const {
    std::string result;
    for (std::size_t i = 0; i < text.size(); i++) {
      if (text[i] != '\\' || i + 1 == text.size()) {
        result += text[i];
        continue;
      }
      constexpr std::string_view letters = "ntrabfv\\'\"", meanings = "\n\t\r\a\b\f\v\\'\"";
      const char c = text[++i];
      if (const std::size_t which = letters.find(c); which != letters.npos) {
        result += meanings[which];
      } else if (const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0; digits > 0) {
        const std::string_view hex = text.substr(i + 1, digits);
        std::uint32_t code = 0;
        const auto read = std::from_chars(hex.data(), hex.data() + hex.size(), code, 16);
        if (hex.size() != digits || read.ptr != hex.data() + digits || code > 0x10FFFF) throw wrong("\"\\" + std::string(1, c) + "\" wants hexadecimal digits");
        unicode::append(result, code);
        i += digits;
      } else if (c == '\n') {  // continues on the next line
      } else {
        result += '\\', result += c;
      }
    }
    return result;
  }

  std::string text_;
  std::size_t at_ = 0, line_ = 1;
  bool line_start_ = true;
};

/// Recursive descent over the tokens.
class Parser {
 public:
  explicit Parser(std::string_view text) : tokens_(Lexer(text).tokens) { tokens_.push_back({Token::Kind::end, "", tokens_.empty() ? 1 : tokens_.back().line}); }
  NodePtr whole() { return block({}); }

 private:
  using Kind = Node::Kind;
  struct Deeper {
    explicit Deeper(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > 200) throw parser_.wrong("is nested too deep");
    }
    ~Deeper() { parser_.depth_--; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;
    Parser& parser_;
  };

  const Token& now() const { return tokens_[at_]; }
  ConfigError wrong(const std::string& what) const { return error("line " + std::to_string(now().line) + " of the template: " + what); }
  bool is(Token::Kind kind, std::string_view text) const { return now().kind == kind && now().text == text; }
  bool accept(std::string_view symbol) { return is(Token::Kind::symbol, symbol) ? (at_++, true) : false; }
  bool accept_name(std::string_view name) { return is(Token::Kind::name, name) ? (at_++, true) : false; }
  void expect(std::string_view symbol) {
    if (!accept(symbol)) throw wrong("\"" + std::string(symbol) + "\" is missing before \"" + now().text + "\"");
  }
  void expect(Token::Kind kind, const char* what) {
    if (now().kind != kind) throw wrong(std::string(what) + " is missing before \"" + now().text + "\"");
    at_++;
  }
  std::string name() {
    if (now().kind != Token::Kind::name) throw wrong("a name is missing before \"" + now().text + "\"");
    return tokens_[at_++].text;
  }
  NodePtr node(Kind kind, std::string text = {}, std::vector<NodePtr> children = {}) const {
    const NodePtr made = std::make_shared<Node>(Node{.kind = kind, .text = std::move(text), .line = now().line});
    for (NodePtr& child : children) adopt(*made, std::move(child));
    return made;
  }
  /// Running a tree and taking it apart recurse: a chain of a thousand filters, which reading it does not, would outgrow the stack.
  void adopt(Node& parent, NodePtr child) const {
    if (child) parent.depth = std::max(parent.depth, child->depth + 1);
    if (parent.depth > 500) throw wrong("is nested too deep");
    parent.children.push_back(std::move(child));
  }
  void adopt(Node& parent, NodePtr child, std::size_t place) const {
    adopt(parent, std::move(child));
    parent.children[place] = std::move(parent.children.back());
    parent.children.pop_back();
  }

  /// Up to a tag {% end %} with one of these names, whose name is the next token then.
  NodePtr block(std::initializer_list<std::string_view> ends) {
    const Deeper deeper(*this);
    NodePtr all = node(Kind::block);
    while (true) {
      const Token& token = now();
      if (token.kind == Token::Kind::end) {
        if (ends.size() > 0) throw wrong("{% " + std::string(*ends.begin()) + " %} is missing");
        return all;
      }
      at_++;
      if (token.kind == Token::Kind::text) {
        adopt(*all, node(Kind::text, token.text));
      } else if (token.kind == Token::Kind::begin_print) {
        adopt(*all, node(Kind::print, "", {expression()}));
        expect(Token::Kind::end_print, "\"}}\"");
      } else {
        for (const std::string_view end : ends)
          if (is(Token::Kind::name, end)) return all;
        if (NodePtr made = statement()) adopt(*all, std::move(made));
      }
    }
  }
  NodePtr body(std::string_view end) {
    expect(Token::Kind::end_block, "\"%}\"");
    NodePtr inner = block({end});
    at_++;
    return inner;
  }

  NodePtr statement() {
    const std::string what = name();
    NodePtr made;
    if (what == "if") {
      made = node(Kind::condition);
      adopt(*made, expression());
      while (true) {
        expect(Token::Kind::end_block, "\"%}\"");
        adopt(*made, block({"endif", "elif", "else"}));
        if (accept_name("elif")) {
          adopt(*made, expression());
        } else if (accept_name("else")) {
          adopt(*made, body("endif"));
          break;
        } else {
          at_++;
          break;
        }
      }
    } else if (what == "for") {
      made = node(Kind::loop);
      const bool bracket = accept("(");
      do made->names.push_back(name());
      while (accept(","));
      if (bracket) expect(")");
      if (!accept_name("in")) throw wrong("\"in\" is missing");
      made->children.resize(4);
      adopt(*made, tuple(false), 0);
      if (accept_name("if")) adopt(*made, expression(), 1);
      if (is(Token::Kind::name, "recursive")) throw wrong("recursive loops are not supported");
      expect(Token::Kind::end_block, "\"%}\"");
      adopt(*made, block({"endfor", "else"}), 2);
      if (accept_name("else"))
        adopt(*made, body("endfor"), 3);
      else
        at_++;
    } else if (what == "set") {
      made = node(Kind::set);
      do made->names.push_back(name());
      while (accept(","));
      if (made->names.size() == 1 && accept(".")) made->names.push_back(name()), made->text = "namespace";
      if (accept("=")) {
        adopt(*made, tuple(true));
      } else {
        if (made->names.size() != 1) throw wrong("{% set %} of a block has one name");
        made->text = "block";
        adopt(*made, body("endset"));
      }
    } else if (what == "macro") {
      made = node(Kind::macro, name(), {nullptr});
      expect("(");
      while (!accept(")")) {
        made->names.push_back(name());
        adopt(*made, accept("=") ? expression() : nullptr);
        if (!is(Token::Kind::symbol, ")")) expect(",");
      }
      adopt(*made, body("endmacro"), 0);
    } else if (what == "filter") {
      NodePtr chain = filters(node(Kind::name,
                                   "\x01"
                                   "body"),
                              name());
      made = node(Kind::filtered, "", {chain, nullptr});
      adopt(*made, body("endfilter"), 1);
    } else if (what == "generation") {  // marks the assistant's words for training; prints them
      made = body("endgeneration");
    } else if (what == "break" || what == "continue") {
      made = node(Kind::leave, what);
    } else {
      throw wrong("{% " + what + " %} is not supported");
    }
    expect(Token::Kind::end_block, "\"%}\"");
    return made;
  }

  /// An expression, or several with commas between them. In a `for`, a following "if" is not part of it.
  NodePtr tuple(bool with_condition) {
    NodePtr first = with_condition ? expression() : disjunction();
    if (!is(Token::Kind::symbol, ",")) return first;
    NodePtr list = node(Kind::list, "", {first});
    while (accept(",") && now().kind != Token::Kind::end_block) adopt(*list, with_condition ? expression() : disjunction());
    return list;
  }

  NodePtr expression() {
    const Deeper deeper(*this);
    NodePtr value = disjunction();
    while (accept_name("if")) {
      NodePtr test = disjunction(), otherwise = accept_name("else") ? expression() : nullptr;
      value = node(Kind::choice, "", {value, test, otherwise});
    }
    return value;
  }
  NodePtr disjunction() {
    NodePtr left = conjunction();
    while (accept_name("or")) left = node(Kind::binary, "or", {left, conjunction()});
    return left;
  }
  NodePtr conjunction() {
    NodePtr left = negation();
    while (accept_name("and")) left = node(Kind::binary, "and", {left, negation()});
    return left;
  }
  NodePtr negation() {
    const Deeper deeper(*this);
    if (accept_name("not")) return node(Kind::unary, "not", {negation()});
    return comparison();
  }
  NodePtr comparison() {  // a < b < c is a < b and b < c
    NodePtr left = sum(), all;
    while (true) {
      std::string symbol;
      for (const std::string_view candidate : {"==", "!=", "<=", ">=", "<", ">"})
        if (accept(candidate)) {
          symbol = candidate;
          break;
        }
      if (symbol.empty() && accept_name("in")) symbol = "in";
      if (symbol.empty() && is(Token::Kind::name, "not") && tokens_[at_ + 1].kind == Token::Kind::name && tokens_[at_ + 1].text == "in")
        symbol = "not in", at_ += 2;
      if (symbol.empty()) return all ? all : left;
      NodePtr right = sum(), one = node(Kind::binary, symbol, {left, right});
      all = all ? node(Kind::binary, "and", {all, one}) : one;
      left = right;
    }
  }
  NodePtr sum() {
    NodePtr left = concatenation();
    while (is(Token::Kind::symbol, "+") || is(Token::Kind::symbol, "-")) {
      const std::string symbol = tokens_[at_++].text;
      left = node(Kind::binary, symbol, {left, concatenation()});
    }
    return left;
  }
  NodePtr concatenation() {
    NodePtr left = product();
    while (accept("~")) left = node(Kind::binary, "~", {left, product()});
    return left;
  }
  NodePtr product() {
    NodePtr left = power();
    while (is(Token::Kind::symbol, "*") || is(Token::Kind::symbol, "/") || is(Token::Kind::symbol, "//") || is(Token::Kind::symbol, "%")) {
      const std::string symbol = tokens_[at_++].text;
      left = node(Kind::binary, symbol, {left, power()});
    }
    return left;
  }
  NodePtr power() {
    NodePtr left = unary(true);
    while (accept("**")) left = node(Kind::binary, "**", {left, unary(true)});
    return left;
  }
  NodePtr unary(bool with_filters) {
    const Deeper deeper(*this);
    NodePtr value;
    if (accept("-"))
      value = node(Kind::unary, "-", {unary(false)});
    else if (accept("+"))
      value = node(Kind::unary, "+", {unary(false)});
    else
      value = postfix(primary());
    return with_filters ? filters_and_tests(value) : value;
  }

  NodePtr literal(Value value) const {
    NodePtr made = node(Kind::literal);
    made->value = std::move(value);
    return made;
  }
  NodePtr primary() {
    const Token token = now();
    at_++;
    switch (token.kind) {
      case Token::Kind::name:
        if (token.text == "true" || token.text == "True") return literal(Value(true));
        if (token.text == "false" || token.text == "False") return literal(Value(false));
        if (token.text == "none" || token.text == "None") return literal(Value::none());
        return node(Kind::name, token.text);
      case Token::Kind::string: {
        std::string text = token.text;
        while (now().kind == Token::Kind::string) text += tokens_[at_++].text;
        return literal(Value(std::move(text)));
      }
      case Token::Kind::integer: {
        std::int64_t value = 0;
        const auto read = std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
        if (read.ec != std::errc()) throw wrong("the integer " + token.text + " is too large");
        return literal(Value(value));
      }
      case Token::Kind::number:
        return literal(Value(std::strtod(token.text.c_str(), nullptr)));
      case Token::Kind::symbol:
        if (token.text == "(") {
          if (accept(")")) return node(Kind::list);
          NodePtr first = expression();
          if (is(Token::Kind::symbol, ",")) {
            first = node(Kind::list, "", {first});
            while (accept(",") && !is(Token::Kind::symbol, ")")) adopt(*first, expression());
          }
          expect(")");
          return first;
        }
        if (token.text == "[") {
          NodePtr list = node(Kind::list);
          while (!accept("]")) {
            adopt(*list, expression());
            if (!is(Token::Kind::symbol, "]")) expect(",");
          }
          return list;
        }
        if (token.text == "{") {
          NodePtr mapping = node(Kind::mapping);
          while (!accept("}")) {
            adopt(*mapping, expression());
            expect(":");
            adopt(*mapping, expression());
            if (!is(Token::Kind::symbol, "}")) expect(",");
          }
          return mapping;
        }
        break;
      default:
        break;
    }
    at_--;
    throw wrong("an expression is missing before \"" + token.text + "\"");
  }

  /// (…), behind what is called: fills the children and names of `called`.
  void arguments(const NodePtr& called) {
    while (!accept(")")) {
      if (now().kind == Token::Kind::name && tokens_[at_ + 1].kind == Token::Kind::symbol && tokens_[at_ + 1].text == "=") {
        called->names.push_back(name());
        at_++;
      } else if (!called->names.empty()) {
        throw wrong("an argument without a name stands behind one with a name");
      }
      adopt(*called, expression());
      if (!is(Token::Kind::symbol, ")")) expect(",");
    }
  }

  NodePtr postfix(NodePtr value) {
    while (true) {
      if (accept(".")) {
        if (now().kind == Token::Kind::integer)
          value = node(Kind::item, "", {value, primary()});
        else
          value = node(Kind::member, name(), {value});
      } else if (accept("[")) {
        NodePtr parts[3];
        std::size_t colons = 0;
        while (!accept("]")) {
          if (accept(":")) {
            if (++colons > 2) throw wrong("a slice has at most two colons");
          } else {
            if (parts[colons]) throw wrong("\"]\" is missing");
            parts[colons] = expression();
          }
        }
        if (colons == 0 && !parts[0]) throw wrong("an index is missing");
        value = colons == 0 ? node(Kind::item, "", {value, parts[0]}) : node(Kind::slice, "", {value, parts[0], parts[1], parts[2]});
      } else if (accept("(")) {
        value = node(Kind::call, "", {value});
        arguments(value);
      } else {
        return value;
      }
    }
  }

  NodePtr filters(NodePtr value, std::string first) {
    for (std::string which = std::move(first);; which = name()) {
      while (accept(".")) which += "." + name();
      value = node(Kind::filter, which, {value});
      if (accept("(")) arguments(value);
      if (!accept("|")) return value;
    }
  }
  NodePtr filters_and_tests(NodePtr value) {
    while (true) {
      if (accept("|")) {
        value = filters(value, name());
      } else if (accept_name("is")) {
        const bool negated = accept_name("not");
        value = node(Kind::test, name(), {value});
        const Token& next = now();
        const bool word = next.kind == Token::Kind::name && next.text != "and" && next.text != "or" && next.text != "else" && next.text != "if" &&
                          next.text != "is" && next.text != "in" && next.text != "not";
        if (accept("("))
          arguments(value);
        else if (word || next.kind == Token::Kind::string || next.kind == Token::Kind::integer || next.kind == Token::Kind::number)
          adopt(*value, postfix(primary()));
        if (negated) value = node(Kind::unary, "not", {value});
      } else if (accept("(")) {
        value = node(Kind::call, "", {value});
        arguments(value);
      } else {
        return value;
      }
    }
  }

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace detail
}  // namespace peft::jinja
