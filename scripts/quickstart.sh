#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a clone to a fine-tuned language model: fetches a small model, asks it about a machine that it cannot know, trains an adapter on
# the machine's service notes, and asks again. Builds the tool first where that was not done.
# Usage: scripts/quickstart.sh [--model PATH] [--out DIR]
#   --model   a GGUF file or a Hugging Face directory (without it: SmolLM2-135M-Instruct, 94 MB, fetched once)
#   --out     where the adapter goes (out/service-desk)
set -euo pipefail
source "$(dirname "$0")/common.sh"

model="" out=out/service-desk
while [ $# -gt 0 ]; do
  case $1 in
    --model) model=$(realpath -e -- "${2:?--model wants a path}"); shift 2 ;;
    --out) out=${2:?--out wants a folder}; shift 2 ;;
    *) sed -n 's/^# \{0,1\}//; 3,7p' "$0"; exit 2 ;;
  esac
done
cd "$root"

dim="" bold="" plain=""
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then dim=$'\e[2m' bold=$'\e[1m' plain=$'\e[0m'; fi
say() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
# Shows the call, so that it can be made again by hand, and makes it.
run() {
  printf '%s$ %s%s\n' "$dim" "$*" "$plain"
  "$@"
}

say "The tool"
scripts/build.sh
[ -n "$model" ] || model=$(scripts/fetch_model.sh)
data=examples/data/quillon

say "Before: what the model says about a machine that it has never heard of"
run build/bin/peft eval --model "$model" --data $data/test.jsonl --show 4 --max-new-tokens 24

say "Training an adapter on the machine's service notes"
run build/bin/peft train --model "$model" --data $data/train.jsonl --targets all-linear --r 32 --rslora --alpha 32 --lr 7e-4 --batch 4 --epochs 3 --compute-dtype bf16 --out "$out" --overwrite

say "After: the same questions, worded as none was in training"
run build/bin/peft eval --model "$model" --adapter "$out" --data $data/test.jsonl --show 4 --max-new-tokens 24

say "What next"
cat <<TEXT
  ask it yourself        build/bin/peft generate --model $model --adapter $out --prompt "QUESTION"
  your own questions     JSON lines {"question": …, "answer": …}, then the same call of peft train with --data
  all tests              scripts/test.sh
TEXT
