// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <optional>
#include <sstream>

#include "generate_options.hpp"

namespace tool {

namespace {

constexpr const char* help =
    "/adapter NAME answers with this adapter (none: with the model alone), /set NAME VALUE changes a setting (/set temperature 0.7),\n"
    "/system TEXT begins anew under another system prompt, /history shows what was said, /reset forgets it, /again answers once more,\n"
    "/quit ends. \"\"\" begins and ends a turn of several lines; so does \\ at a line's end. Ctrl-C stops an answer.";
const std::vector<std::string> commands = {"/adapter", "/set", "/system", "/history", "/reset", "/again", "/help", "/quit"};

class Chat {
 public:
  Chat(Opened& opened, const peft::Tokenizer& tokenizer, const GenerateOptions& options)
      : opened_(opened),
        session_(opened.tuned, tokenizer, generation_config(options, tokenizer)),
        draft_(options.draft),
        interactive_(::isatty(0) && is_terminal()) {
    session_.set_draft(draft_.get());
  }

  void run() {
    if (interactive_) fmt::print("{}\n{}\n", describe(opened_), dim("Ask away. /help lists commands; Ctrl-C stops an answer."));
    for (std::string turn; read_turn(turn);) {
      if (turn.empty()) continue;
      if (turn == "/quit" || turn == "/exit") return;
      const bool command = turn[0] == '/' && turn != "/again";
      try {
        if (command)
          obey(turn);
        else
          answer(turn);
      } catch (const peft::Error& error) {  // a name that there is not, a conversation that outgrew the model: it stands as it was
        if (!interactive_ && !command) throw;
        fmt::print("{}\n", error.what());
      }
    }
    if (interactive_) fmt::print("\n");
  }

 private:
  // On a terminal Ctrl-C throws away what was being written, and no more: it may come a moment after the answer that it was to stop.
  bool read_line(std::string& line, const char* sign) {
    for (;;) {
      if (interactive_) fmt::print("{}", bold(sign)), std::fflush(stdout);
      std::optional<InterruptWatch> watch;
      if (interactive_) watch.emplace(std::initializer_list<int>{SIGINT});
      if (std::getline(std::cin, line)) break;
      if (!interactive_ || !InterruptWatch::interrupted()) return false;
      std::cin.clear(), std::clearerr(stdin);
      fmt::print("\n{}\n", dim("/quit or Ctrl-D ends the chat."));
      sign = "> ";
    }
    line.erase(line.find_last_not_of(" \t\r") + 1);
    return true;
  }
  // A line; more of them while each ends with a backslash, or between """.
  bool read_turn(std::string& turn) {
    if (!read_line(turn, "> ")) return false;
    std::string line;
    if (turn.starts_with("\"\"\"")) {
      turn.erase(0, 3);
      for (bool first = true;; first = false) {
        if (first && turn.empty() && !read_line(turn, ". ")) return false;
        if (turn.ends_with("\"\"\"")) return turn.erase(turn.size() - 3), true;
        if (!read_line(line, ". ")) return true;
        turn += "\n" + line;
      }
    }
    while (turn.ends_with('\\')) {
      turn.back() = '\n';
      if (!read_line(line, ". ")) break;
      turn += line;
    }
    return true;
  }

  void answer(const std::string& turn) {
    const InterruptWatch watch{SIGINT};
    const auto piece = [](std::string_view text) {
      fmt::print("{}", text);
      std::fflush(stdout);
      return !InterruptWatch::interrupted();
    };
    const peft::Generation g = turn == "/again" ? session_.again(piece) : session_.say(turn, piece);
    fmt::print("\n");
    if (is_terminal()) fmt::print("{}\n", dim(speed_text(g)));
    std::fflush(stdout);
    session_.config().seed++;  // drawn again, an answer is another one
  }

  void obey(const std::string& line) {
    std::istringstream words(line);
    std::string command, name, rest;
    words >> command;
    std::getline(words >> std::ws, rest);
    if (command == "/reset") {
      session_.reset();
      note("What was said is forgotten.");
    } else if (command == "/help") {
      fmt::print("{}\n", help);
    } else if (command == "/history") {
      for (const auto& message : session_.history()) fmt::print("{} {}\n", dim(message.role + ":"), message.content);
    } else if (command == "/system") {
      session_.config().system_prompt = rest;
      session_.reset();
    } else if (command == "/adapter") {
      set_adapter(rest);
    } else if (command == "/set") {
      std::istringstream setting(rest);
      std::string value;
      setting >> name;
      std::getline(setting >> std::ws, value);
      if (value.empty()) throw peft::ConfigError("chat", "/set wants a name and a value: /set temperature 0.7");
      session_.config() = with_settings(session_.config(), {{name, value}});
      note(name + " = " + value);
    } else {
      throw peft::ConfigError("chat", command + " is no command" + peft::did_you_mean(command, commands, "commands"));
    }
    std::fflush(stdout);
  }

  // That a command was obeyed, for who looks on.
  void note(const std::string& text) const {
    if (interactive_) fmt::print("{}\n", dim(text));
  }

  void set_adapter(const std::string& wanted) {
    if (wanted.empty() || (wanted != "none" && opened_.tuned.adapter_names().empty())) {
      std::string names;
      const auto active = opened_.tuned.active_adapters();
      for (const std::string& one : opened_.tuned.adapter_names())
        names += (names.empty() ? "" : ", ") + one + (std::find(active.begin(), active.end(), one) != active.end() ? " (active)" : "");
      fmt::print("{}\n", names.empty() ? "no adapter was loaded: --adapter DIR loads one" : names);
    } else if (wanted == "none") {
      opened_.tuned.set_adapter(std::vector<std::string>{});
      note("The model alone answers.");
    } else {
      opened_.tuned.set_adapter(wanted);
      note(wanted + " answers.");
    }
  }

  Opened& opened_;
  peft::ChatSession<peft::PeftModel<peft::Transformer<float>>> session_;
  Draft draft_;
  bool interactive_;
};

}  // namespace

void chat(Opened& opened, const peft::Tokenizer& tokenizer, const GenerateOptions& o) {
  if (o.raw) throw peft::ConfigError("generate", "--raw continues a text: give it with --prompt");
  Chat(opened, tokenizer, o).run();
}

}  // namespace tool
