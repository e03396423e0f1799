#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures this library and its peers in turn on this machine, and writes the tables of docs/performance.md.
# Usage: benchmarks/report.sh [--hf DIR] [--gguf FILE] [--e2e FILE] [--rounds N] [--only NAME,…]
#   --hf      SmolLM2-135M-Instruct as a float32 Hugging Face directory (without it: no PyTorch rows)
#   --gguf    SmolLM2-135M-Instruct.Q4_1.gguf (fetched if it is not given)
#   --e2e     lines `attributes||sentence`, for the row of ragged batches
#   --rounds  how often each pair is run; the best of each side counts (3)
#   --only    rows by name: lora, half, ragged, bf16, full, memory, decode, beams (against transformers), gemm, scaling, compile
# The Python side is PEFT_PYTHON, or python3, with benchmarks/requirements.txt; what it lacks is left out.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PEFT_PYTHON:-python3}" benchmarks/report.py "$@"
