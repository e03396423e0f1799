// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <iterator>
#include <optional>

#include "peft/tokenizer/jinja/impl/library.inl"
#include "peft/tokenizer/jinja/impl/parse.inl"
#include "peft/tokenizer/jinja/template.hpp"

namespace peft::jinja {
namespace detail {

/// The names of one scope; what is not in it is looked for in the scope around it.
struct Scope {
  std::shared_ptr<Scope> outer;
  Value::Mapping names;

  const Value* find(const std::string& name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->outer.get()) {
      Budget::charge(1 + scope->names.size());
      for (const auto& [key, value] : scope->names)
        if (key == name) return &value;
    }
    return nullptr;
  }
  void set(const std::string& name, Value value) {
    Budget::charge(names.size());
    for (auto& [key, old] : names)
      if (key == name) {
        old = std::move(value);
        return;
      }
    names.emplace_back(name, std::move(value));
  }
};
using ScopePtr = std::shared_ptr<Scope>;

/// Runs a tree.
class Run {
 public:
  enum class Leave { no, loop, turn };  // break, continue

  Leave execute(const Node& node, const ScopePtr& scope, std::string& out) {
    const Deeper deeper(*this, node);
    switch (node.kind) {
      case Node::Kind::block:
        for (const NodePtr& child : node.children)
          if (const Leave leave = execute(*child, scope, out); leave != Leave::no) return leave;
        return Leave::no;
      case Node::Kind::text:
        Budget::charge(node.text.size());
        out += node.text;
        return Leave::no;
      case Node::Kind::print:
        out += evaluate(*node.children[0], scope).printed();
        return Leave::no;
      case Node::Kind::condition: {
        const std::size_t n = node.children.size();
        for (std::size_t i = 0; i + 1 < n; i += 2)
          if (evaluate(*node.children[i], scope).truth()) return execute(*node.children[i + 1], scope, out);
        return n % 2 == 1 ? execute(*node.children[n - 1], scope, out) : Leave::no;
      }
      case Node::Kind::loop:
        return loop(node, scope, out);
      case Node::Kind::set: {
        if (node.text == "block") {
          std::string text;
          execute(*node.children[0], inner(scope), text);
          scope->set(node.names[0], Value(std::move(text)));
          return Leave::no;
        }
        Value value = evaluate(*node.children[0], scope);
        if (node.text == "namespace") {
          const Value* const space = scope->find(node.names[0]);
          if (space == nullptr || !space->is(Value::Kind::name_space))
            throw wrong(node, "\"" + node.names[0] + "\" is no namespace, whose members alone can be set");
          if (value.is(Value::Kind::name_space)) throw wrong(node, "a namespace within another is not supported");
          auto& members = space->members();
          Budget::charge(members.size());
          std::erase_if(members, [&](const auto& member) { return member.first == node.names[1]; });
          members.emplace_back(node.names[1], std::move(value));
          return Leave::no;
        }
        assign(node, node.names, value, *scope);
        return Leave::no;
      }
      case Node::Kind::macro:
        scope->set(node.text, macro(node, scope));
        return Leave::no;
      case Node::Kind::filtered: {
        std::string text;
        const ScopePtr own = inner(scope);
        execute(*node.children[1], own, text);
        own->set(
            "\x01"
            "body",
            Value(std::move(text)));
        out += evaluate(*node.children[0], own).printed();
        return Leave::no;
      }
      case Node::Kind::leave:
        return node.text == "break" ? Leave::loop : Leave::turn;
      default:
        throw wrong(node, "an expression stands where a statement should");
    }
  }

 private:
  /// A step; those within each other are counted, for the stack's sake.
  struct Deeper {
    Deeper(Run& run, const Node& node) : run_(run) {
      Budget::charge(step_cost);
      if (run_.levels_ >= deepest_run) throw wrong(node, "parts run within each other more than " + std::to_string(deepest_run) + " deep");
      run_.levels_++;
    }
    ~Deeper() { run_.levels_--; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;
    Run& run_;
  };

  static ScopePtr inner(const ScopePtr& outer) { return std::make_shared<Scope>(Scope{outer, {}}); }
  static ConfigError wrong(const Node& node, const std::string& what) { return error("line " + std::to_string(node.line) + " of the template: " + what); }

  void assign(const Node& node, const std::vector<std::string>& names, const Value& value, Scope& scope) {
    if (names.size() == 1) return scope.set(names[0], value);
    const Value::List items = value.iterated();
    if (items.size() != names.size()) throw wrong(node, std::to_string(items.size()) + " values for " + std::to_string(names.size()) + " names");
    for (std::size_t i = 0; i < names.size(); i++) scope.set(names[i], items[i]);
  }

  Leave loop(const Node& node, const ScopePtr& scope, std::string& out) {
    Value::List items = evaluate(*node.children[0], scope).iterated();
    if (node.children[1])
      std::erase_if(items, [&](const Value& item) {
        const ScopePtr own = inner(scope);
        assign(node, node.names, item, *own);
        return !evaluate(*node.children[1], own).truth();
      });
    if (items.empty()) return node.children[3] ? execute(*node.children[3], inner(scope), out) : Leave::no;
    const auto number = [](std::size_t i) { return Value(static_cast<std::int64_t>(i)); };
    auto last_seen = std::make_shared<std::optional<std::string>>();  // a text, since a value could come to hold this very loop
    for (std::size_t i = 0; i < items.size(); i++) {
      const ScopePtr own = inner(scope);
      Budget::charge(3 * items[i].text_size() + (i > 0 ? items[i - 1].text_size() : 0) + (i + 1 < items.size() ? items[i + 1].text_size() : 0));
      Value::Mapping loop = {{"index", number(i + 1)},
                             {"index0", number(i)},
                             {"revindex", number(items.size() - i)},
                             {"revindex0", number(items.size() - i - 1)},
                             {"first", Value(i == 0)},
                             {"last", Value(i + 1 == items.size())},
                             {"length", number(items.size())},
                             {"depth", Value(std::int64_t{1})},
                             {"depth0", Value(std::int64_t{0})},
                             {"previtem", i > 0 ? items[i - 1] : Value::undefined("previtem")},
                             {"nextitem", i + 1 < items.size() ? items[i + 1] : Value::undefined("nextitem")}};
      loop.emplace_back("cycle", Value::function([i](const Arguments& a) {
                          if (a.positional.empty()) throw error("loop.cycle wants values");
                          return a.positional[i % a.positional.size()];
                        }));
      loop.emplace_back("changed", Value::function([last_seen](const Arguments& a) {
                          std::string now = Value(a.positional).represented();
                          const bool changed = *last_seen != now;
                          *last_seen = std::move(now);
                          return Value(changed);
                        }));
      own->names.emplace_back("loop", Value::mapping(std::move(loop)));
      assign(node, node.names, items[i], *own);
      if (execute(*node.children[2], own, out) == Leave::loop) break;
    }
    return Leave::no;
  }

  Value macro(const Node& node, const ScopePtr& scope) {
    // The scope holds the macro, so the macro must not hold the scope; it does not outlive the run.
    return Value::function([this, &node, weak = std::weak_ptr<Scope>(scope)](const Arguments& a) {
      const ScopePtr own = inner(weak.lock());
      if (a.positional.size() > node.names.size())
        throw wrong(node, "the macro " + node.text + " takes " + std::to_string(node.names.size()) + " arguments, not " + std::to_string(a.positional.size()));
      for (std::size_t i = 0; i < node.names.size(); i++) {
        const Value* const given = a.find(i, node.names[i]);
        own->set(node.names[i], given != nullptr ? *given : node.children[i + 1] ? evaluate(*node.children[i + 1], own) : Value::undefined(node.names[i]));
      }
      std::string text;
      execute(*node.children[0], own, text);
      return Value(std::move(text));
    });
  }

  Arguments arguments(const Node& node, const ScopePtr& scope) {
    Arguments all;
    const std::size_t positional = node.children.size() - node.names.size();
    for (std::size_t i = 1; i < node.children.size(); i++) {
      Value value = evaluate(*node.children[i], scope);
      if (i < positional)
        all.positional.push_back(std::move(value));
      else
        all.named.emplace_back(node.names[i - positional], std::move(value));
    }
    return all;
  }

  static Value missing(const Node& node, const Value& of, const std::string& key) {
    if (of.is(Value::Kind::undefined)) throw wrong(node, of.described() + " has no \"" + key + "\"");
    return Value::undefined(key);
  }

  Value item(const Node& node, const Value& of, const Value& key) {
    if (key.is(Value::Kind::integer) && (of.is(Value::Kind::list) || of.is(Value::Kind::string))) {
      const Value::List items = of.is(Value::Kind::list) ? Value::List{} : of.iterated();
      const Value::List& all = of.is(Value::Kind::list) ? of.list() : items;
      const std::int64_t size = static_cast<std::int64_t>(all.size()), i = key.integer() < 0 ? key.integer() + size : key.integer();
      return i >= 0 && i < size ? all[static_cast<std::size_t>(i)] : Value::undefined("[" + key.printed() + "]");
    }
    const std::string name = key.printed();
    if (const Value* const found = of.member(name)) return *found;
    if (Value found = method(of, name); !found.is(Value::Kind::undefined)) return found;
    return missing(node, of, name);
  }

  Value slice(const Node& node, const ScopePtr& scope) {
    const Value of = evaluate(*node.children[0], scope);
    if (!of.is(Value::Kind::list) && !of.is(Value::Kind::string)) throw wrong(node, of.described() + " cannot be sliced");
    const auto bound = [&](std::size_t i) -> std::optional<std::int64_t> {
      if (!node.children[i]) return std::nullopt;
      const Value value = evaluate(*node.children[i], scope);
      return value.is(Value::Kind::none) ? std::nullopt : std::optional(value.integer());
    };
    const Value::List items = of.iterated();
    const auto size = static_cast<std::int64_t>(items.size());
    const std::int64_t step = bound(3).value_or(1);
    if (step == 0) throw wrong(node, "the step of a slice is 0");
    const std::int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
    const auto clamped = [&](std::optional<std::int64_t> i, std::int64_t otherwise) { return i ? std::clamp(*i < 0 ? *i + size : *i, low, high) : otherwise; };
    const std::int64_t begin = clamped(bound(1), step > 0 ? low : high), end = clamped(bound(2), step > 0 ? high : low);
    Value::List kept;
    for (std::int64_t i = begin; step > 0 ? i < end : i > end;)
      if (kept.push_back(items[static_cast<std::size_t>(i)]); __builtin_add_overflow(i, step, &i)) break;
    if (of.is(Value::Kind::list)) return Value(std::move(kept));
    std::string text;
    for (const Value& character : kept) text += character.string();
    return Value(std::move(text));
  }

  static std::size_t size_of(const Value& value) { return value.is(Value::Kind::list) ? item_cost * value.list().size() : value.text_size(); }

  Value binary(const Node& node, const ScopePtr& scope) {
    const std::string& symbol = node.text;
    Value left = evaluate(*node.children[0], scope);
    if (symbol == "and") return left.truth() ? evaluate(*node.children[1], scope) : left;
    if (symbol == "or") return left.truth() ? left : evaluate(*node.children[1], scope);
    const Value right = evaluate(*node.children[1], scope);
    if (symbol == "==") return Value(left == right);
    if (symbol == "!=") return Value(!(left == right));
    if (symbol == "~") return Value(left.printed() + right.printed());
    if (symbol == "in" || symbol == "not in") return Value(contains(right, left) == (symbol == "in"));
    if (symbol == "<") return Value(left < right);
    if (symbol == ">") return Value(right < left);
    if (symbol == "<=") return Value(!(right < left));
    if (symbol == ">=") return Value(!(left < right));
    Budget::charge(size_of(left) + size_of(right));
    if (symbol == "+") {
      if (left.is(Value::Kind::string) && right.is(Value::Kind::string)) return Value(left.string() + right.string());
      if (left.is(Value::Kind::list) && right.is(Value::Kind::list)) {
        Value::List all = left.iterated(), more = right.iterated();
        all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
        return Value(std::move(all));
      }
    }
    if (symbol == "*" && left.is(Value::Kind::string) && right.is(Value::Kind::integer)) {
      const std::int64_t size = static_cast<std::int64_t>(left.string().size()), times = size > 0 ? std::max<std::int64_t>(right.integer(), 0) : 0;
      if (times > 0 && times > (std::int64_t{1} << 24) / size) throw wrong(node, "a repeated text is longer than 16 MiB");
      std::string text;
      Budget::charge(static_cast<std::size_t>(times * size));
      for (std::int64_t i = 0; i < times; i++) text += left.string();
      return Value(std::move(text));
    }
    if (!left.is_numeric() || !right.is_numeric()) throw wrong(node, left.described() + " " + symbol + " " + right.described() + " has no meaning");
    return arithmetic(node, symbol, left, right);
  }

  static Value arithmetic(const Node& node, const std::string& symbol, const Value& left, const Value& right) {
    const bool whole = !left.is(Value::Kind::number) && !right.is(Value::Kind::number);
    const bool divides = symbol == "/" || symbol == "//" || symbol == "%";
    if (divides && right.number() == 0) throw wrong(node, "division by zero");
    if (symbol == "/") return Value(left.number() / right.number());
    if (whole && (symbol != "**" || right.integer() >= 0)) {
      const std::int64_t a = left.integer(), b = right.integer();
      std::int64_t result = 0;
      bool overflow = false;
      if (symbol == "+") {
        overflow = __builtin_add_overflow(a, b, &result);
      } else if (symbol == "-") {
        overflow = __builtin_sub_overflow(a, b, &result);
      } else if (symbol == "*") {
        overflow = __builtin_mul_overflow(a, b, &result);
      } else if (symbol == "**") {
        result = 1;
        for (std::int64_t i = 0; i < b && !overflow; i++) overflow = __builtin_mul_overflow(result, a, &result) || i > 64;
      } else {  // Python rounds down
        const bool down = b == -1 ? false : a % b != 0 && (a < 0) != (b < 0);
        std::int64_t quotient = 0;
        if (b != -1)
          quotient = a / b - (down ? 1 : 0);
        else if (symbol == "//")
          overflow = __builtin_sub_overflow(std::int64_t{0}, a, &quotient);
        result = symbol == "//" ? quotient : b == -1 ? 0 : a % b + (down ? b : 0);
      }
      if (overflow) throw wrong(node, "a result is beyond 64 bits");
      return Value(result);
    }
    const double a = left.number(), b = right.number();
    if (symbol == "+") return Value(a + b);
    if (symbol == "-") return Value(a - b);
    if (symbol == "*") return Value(a * b);
    if (symbol == "**") return Value(std::pow(a, b));
    const double quotient = std::floor(a / b);
    return Value(symbol == "//" ? quotient : a - quotient * b);
  }

  Value evaluate(const Node& node, const ScopePtr& scope) {
    const Deeper deeper(*this, node);
    Value value = evaluated(node, scope);
    Budget::charge(value.text_size());
    return value;
  }

  Value evaluated(const Node& node, const ScopePtr& scope) {
    switch (node.kind) {
      case Node::Kind::literal:
        return node.value;
      case Node::Kind::name: {
        const Value* const found = scope->find(node.text);
        return found != nullptr ? *found : Value::undefined(node.text);
      }
      case Node::Kind::list: {
        Value::List items;
        for (const NodePtr& child : node.children) items.push_back(evaluate(*child, scope));
        return Value(std::move(items));
      }
      case Node::Kind::mapping: {
        Value::Mapping members;
        for (std::size_t i = 0; i < node.children.size(); i += 2) {
          const std::string key = evaluate(*node.children[i], scope).string();
          Budget::charge(members.size());
          std::erase_if(members, [&](const auto& member) { return member.first == key; });
          members.emplace_back(key, evaluate(*node.children[i + 1], scope));
        }
        return Value::mapping(std::move(members));
      }
      case Node::Kind::member: {  // a.b: a method goes before a key
        const Value of = evaluate(*node.children[0], scope);
        if (Value found = method(of, node.text); !found.is(Value::Kind::undefined)) return found;
        const Value* const found = of.member(node.text);
        return found != nullptr ? *found : missing(node, of, node.text);
      }
      case Node::Kind::item:
        return item(node, evaluate(*node.children[0], scope), evaluate(*node.children[1], scope));
      case Node::Kind::slice:
        return slice(node, scope);
      case Node::Kind::call: {
        const Value called = evaluate(*node.children[0], scope);
        if (!called.is(Value::Kind::function)) throw wrong(node, called.described() + " cannot be called");
        if (depth_ >= 100) throw wrong(node, "more than 100 calls within each other");
        depth_++;
        Value result = called.callable()(arguments(node, scope));
        depth_--;
        return result;
      }
      case Node::Kind::filter:
        return filter(evaluate(*node.children[0], scope), node.text, arguments(node, scope));
      case Node::Kind::test:
        return Value(test(evaluate(*node.children[0], scope), node.text, arguments(node, scope)));
      case Node::Kind::unary: {
        const Value value = evaluate(*node.children[0], scope);
        if (node.text == "not") return Value(!value.truth());
        if (!value.is_numeric()) throw wrong(node, value.described() + " has no sign");
        if (node.text == "+") return value;
        return value.is(Value::Kind::number) ? Value(-value.number()) : arithmetic(node, "-", Value(std::int64_t{0}), value);
      }
      case Node::Kind::binary:
        return binary(node, scope);
      case Node::Kind::choice:
        if (evaluate(*node.children[1], scope).truth()) return evaluate(*node.children[0], scope);
        return node.children[2] ? evaluate(*node.children[2], scope) : Value::undefined("");
      default:
        throw wrong(node, "a statement stands where an expression should");
    }
  }

  int depth_ = 0, levels_ = 0;
};

/// Bytes of the texts that a template is given.
inline std::size_t text_bytes(const Value& value) {
  std::size_t bytes = value.text_size();
  if (value.is(Value::Kind::list))
    for (const Value& item : value.list()) bytes += text_bytes(item);
  if (value.is(Value::Kind::mapping))
    for (const auto& [name, member] : value.members()) bytes += text_bytes(member);
  return bytes;
}

}  // namespace detail

PEFT_INLINE Template::Template(std::string_view text) : root_(detail::Parser(text).whole()) {}

PEFT_INLINE std::string Template::render(const Value& variables) const {
  // A long conversation may cost more: every filter goes through the text anew.
  const detail::Budget budget((std::size_t{1} << 26) + 1024 * detail::text_bytes(variables));
  const auto globals = std::make_shared<detail::Scope>(detail::Scope{nullptr, detail::functions()});
  const auto scope = std::make_shared<detail::Scope>(detail::Scope{globals, variables.members()});
  std::string out;
  detail::Run().execute(*root_, scope, out);
  return out;
}

}  // namespace peft::jinja
