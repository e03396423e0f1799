# SPDX-License-Identifier: Apache-2.0
# Read by the other scripts: the project's root, and how many compilers run at a time.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# As many as cores, but no more than one for every 1.5 GB of memory.
cores=$(nproc)
memory=$(awk '/^MemAvailable:/ {print int($2 / 1500000)}' /proc/meminfo 2>/dev/null || echo "$cores")
jobs=${JOBS:-$((memory < 1 ? 1 : memory < cores ? memory : cores))}

# Configures a preset. A folder keeps the generator that it has; a new one gets Ninja where that is installed.
configure() {
  local preset=$1 folder=$2
  shift 2
  local generator=()
  if [ ! -f "$folder/CMakeCache.txt" ] && [ -z "${CMAKE_GENERATOR:-}" ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
  (cd "$root" && cmake --preset "$preset" -B "$folder" "${generator[@]}" "$@") >"$folder.log" 2>&1 || { cat "$folder.log"; return 1; }
  rm -f "$folder.log"
}
