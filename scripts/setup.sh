#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing to build peft (Debian, Ubuntu); does nothing where all is there.
# Usage: scripts/setup.sh [--fetch] [--clang] [--format]
#   --fetch   also what scripts/fetch_model.sh needs (python3, pip)
#   --clang   also clang, with its sanitizers
#   --format  also clang-format
set -euo pipefail

packages=(g++ cmake ninja-build ccache libeigen3-dev libxtensor-dev catch2 libfmt-dev nlohmann-json3-dev libutf8proc-dev libonig-dev libcli11-dev)
for option in "$@"; do
  case $option in
    --fetch) packages+=(python3 python3-pip ca-certificates) ;;
    --clang) packages+=(clang libclang-rt-dev) ;;
    --format) packages+=(clang-format) ;;
    *) sed -n 's/^# \{0,1\}//; 3,7p' "$0"; exit 2 ;;
  esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "setup: this system has no apt; please see to it that these are installed (by their Debian names): ${packages[*]}" >&2
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    printf 'setup: missing %s\nsetup: not root, and there is no sudo. As root:  apt-get install %s\n' "${missing[*]}" "${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "setup: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 </dev/null; }
apt update || { echo "setup: apt-get update failed:" >&2; tail -n 15 "$log" >&2; exit 1; }
apt install -y --no-install-recommends "${missing[@]}" || { echo "setup: apt-get install failed:" >&2; tail -n 15 "$log" >&2; exit 1; }
