// SPDX-License-Identifier: Apache-2.0
// peft: fine-tunes, evaluates and runs transformers on a CPU, from the command line.
#include <fmt/core.h>
#include <peft/version.hpp>

#include <algorithm>
#include <cstdio>

#include "common.hpp"

int main(int argc, char** argv) {
  CLI::App app{"Parameter-efficient fine-tuning of transformers on a CPU", "peft"};
  app.set_version_flag("--version", "peft " PEFT_VERSION);
  app.require_subcommand(1);
  app.footer("'peft COMMAND --help' shows a command's options and examples.");
  tool::add_fetch(app);
  tool::add_info(app);
  tool::add_train(app);
  tool::add_eval(app);
  tool::add_generate(app);
  tool::add_merge(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    fmt::print(stderr, "peft: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::string text = error.what();
    std::replace(text.begin(), text.end(), '\n', ' ');
    fmt::print(stderr, "peft: {}\n", text);
    return 1;
  }
}
