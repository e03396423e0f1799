#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the command-line tool peft, as build/bin/peft, and installs first what that takes.
# Usage: scripts/build.sh [TARGET…]
#   TARGET    something else in place of the tool: train_bench, generate_bench, parity …
set -euo pipefail
source "$(dirname "$0")/common.sh"

case ${1:-} in
  -*) sed -n 's/^# \{0,1\}//; 3,5p' "$0"; exit 2 ;;
esac
"$root/scripts/setup.sh"
cd "$root"
configure release "$root/build"
exec cmake --build build -j "$jobs" --target "${@:-peft}"
