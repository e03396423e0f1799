#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/golden: tiny models, adapters, tokenizers and files, with the numbers that the reference libraries compute on them.

    pip install -r tests/data/generator/requirements.txt
    python3 tests/data/generator/make_golden.py [folder]      # the folder is written anew; default: tests/data/golden
    build/bin/parity tests/data/golden

Every random number is drawn from a generator that is seeded with a name, so a part that is added changes no other. The same versions on the
same kind of machine write the same numbers; others differ in the last bits of float32.
"""
import json
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

if os.environ.get("PYTHONHASHSEED") != "0":  # PEFT writes sets in the order of their hashes
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import torch  # noqa: E402  (the libraries read the environment)
from transformers.utils import logging  # noqa: E402

import adapters  # noqa: E402
import decoders  # noqa: E402
import ggufs  # noqa: E402
import malformed  # noqa: E402
import models  # noqa: E402
import generation  # noqa: E402
import text  # noqa: E402


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "golden"
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for part in (text, models, decoders, adapters, generation, ggufs, malformed):  # in this order: later parts read what earlier ones wrote
        part.write(root)
        print(f"{part.__name__:12} done", flush=True)
    used = {name: version(name) for name in ("torch", "transformers", "peft", "tokenizers", "safetensors", "gguf")}
    (root / "versions.json").write_text(json.dumps(used, indent=2) + "\n")
    print(sum(f.stat().st_size for f in root.rglob("*") if f.is_file()) // 1024, "KiB")


if __name__ == "__main__":
    main()
