#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds everything, runs all tests.
# Usage: scripts/test.sh [--preset release|header-only|debug-asan|tsan|clang-release] [--label LABEL] [--room ROOM]
#   --label   only the tests with this label: unit, slow, parity, examples, python, structure or consumer
#   --room    only the tests of one room (core, ops, …), and only these are built
# JOBS=n in the environment sets how many compilers and tests run at a time.
set -euo pipefail
source "$(dirname "$0")/common.sh"

preset=release label="" room=""
while [ $# -gt 0 ]; do
  case $1 in
    --preset) preset=${2:?--preset wants a name}; shift 2 ;;
    --label) label=${2:?--label wants a label}; shift 2 ;;
    --room) room=${2:?--room wants the name of a folder in tests}; shift 2 ;;
    *) sed -n 's/^# \{0,1\}//; 3,7p' "$0"; exit 2 ;;
  esac
done
case $preset in
  release) folder=build ;;
  debug-asan) folder=build-asan ;;
  clang-release) folder=build-clang ;;
  *) folder=build-$preset ;;
esac

needs=()
[[ $preset != clang-release && $preset != debug-asan ]] || needs=(--clang)
"$root/scripts/setup.sh" "${needs[@]}"

cd "$root"
configure "$preset" "$root/$folder"
targets=()
case $label in
  unit | slow) targets=(--target peft_tests) ;;
  parity) targets=(--target parity) ;;
esac
[ -z "$room" ] || targets=(--target "peft_test_$room")
cmake --build "$folder" -j "$jobs" "${targets[@]}"
exec ctest --test-dir "$folder" -j "$jobs" --output-on-failure --no-tests=error ${label:+-L "^$label\$"} ${room:+-R "^$room([.]|\$)"}
