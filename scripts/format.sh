#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Formats the sources as .clang-format says; with --check only names the files that differ.
set -euo pipefail
source "$(dirname "$0")/common.sh"
command -v clang-format >/dev/null || "$root/scripts/setup.sh" --format

cd "$root"
mode=(-i)
[ "${1:-}" != --check ] || mode=(--dry-run --Werror)
git ls-files -z '*.hpp' '*.inl' '*.cpp' | xargs -0 -r clang-format "${mode[@]}"
