// SPDX-License-Identifier: Apache-2.0
// peft: fine-tunes, evaluates and runs transformers on a CPU, from the command line.
#include <fmt/core.h>
#include <peft/version.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "common.hpp"

namespace {

// What is wrong with a call, where a word of it is no command or no option; else "".
std::string misspelling(CLI::App& app, int argc, char** argv) {
  if (argc < 2) return "";
  std::vector<std::string> commands, options;
  for (const CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) commands.push_back(command->get_name());
  const auto known = [](const std::vector<std::string>& names, const std::string& name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  const std::string first = argv[1];
  if (!known(commands, first)) return "\"" + first + "\" is no command" + peft::did_you_mean(first, commands, "commands");
  for (const CLI::Option* option : app.get_subcommand(first)->get_options())
    for (const std::string& name : option->get_lnames()) options.push_back("--" + name);
  for (int i = 2; i < argc; i++) {
    const std::string word = argv[i], name = word.substr(0, word.find('='));
    if (!name.starts_with("--") || known(options, name)) continue;
    const std::string nearest = peft::nearest_name(name, options);
    return name + " is no option of " + first + (nearest.empty() ? "" : "; did you mean " + nearest + "?");
  }
  return "";
}

int fail(int code, std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  std::fflush(stdout);
  fmt::print(stderr, "peft: {}\n", text);
  return code;
}

}  // namespace

// 0: done; 1: it did not work; 2: the call is wrong; 130: ended early on request.
int main(int argc, char** argv) {
  tool::remember_command_line(argc, argv);
  CLI::App app{"Parameter-efficient fine-tuning of transformers on a CPU", "peft"};
  app.set_version_flag("--version", "peft " PEFT_VERSION);
  app.require_subcommand(1);
  app.footer(
      "'peft COMMAND --help' shows a command's options and examples. To begin with:\n"
      "  peft info --model $(peft fetch)");
  tool::add_fetch(app);
  tool::add_info(app);
  tool::add_train(app);
  tool::add_eval(app);
  tool::add_generate(app);
  tool::add_classify(app);
  tool::add_answer(app);
  tool::add_embed(app);
  tool::add_score(app);
  tool::add_perplexity(app);
  tool::add_merge(app);
  tool::add_export(app);
  try {
    app.parse(argc, argv);
    if (std::fflush(stdout) != 0) return fail(1, std::string("standard output cannot be written: ") + std::strerror(errno));
    return 0;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    const std::string wrong = misspelling(app, argc, argv);
    return fail(2, (wrong.empty() ? error.what() : wrong) + "; 'peft --help', 'peft COMMAND --help' list what there is");
  } catch (const tool::Interrupted&) {
    return 130;
  } catch (const std::bad_alloc&) {
    return fail(1, "there is not enough memory; a smaller --batch or --max-length takes less, and so does --checkpointing");
  } catch (const std::exception& error) {
    return fail(1, error.what());
  }
}
