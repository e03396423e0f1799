#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Text to ids with Hugging Face's tokenizers, timed as tokenizer_bench times ours; one line of JSON with the same fields.

    python3 benchmarks/hf_tokenizers.py --model HF_DIR --data FILE
"""
import argparse
import json
import os
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--runs", type=int, default=3)
    o = parser.parse_args()
    import tokenizers

    begun = time.perf_counter()
    tokenizer = tokenizers.Tokenizer.from_file(os.path.join(o.model, "tokenizer.json"))
    load = time.perf_counter() - begun
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with open(o.data, encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in file if line.rstrip("\n")]
    size, i = sum(len(line.encode()) for line in lines), 0
    while size < 10_000_000:
        lines.append(lines[i])
        size, i = size + len(lines[i].encode()), i + 1

    def timed(work):
        begun = time.perf_counter()
        result = work()
        return time.perf_counter() - begun, result

    one = batch = float("inf")
    for _ in range(o.runs):
        seconds, tokens = timed(lambda: sum(len(tokenizer.encode(line).ids) for line in lines))
        one = min(one, seconds)
        batch = min(batch, timed(lambda: tokenizer.encode_batch_fast(lines))[0])
    print(json.dumps({"engine": "tokenizers " + tokenizers.__version__, "mb": round(size / 1e6, 1), "tokens": tokens, "threads": os.cpu_count(), "load_s": round(load, 3),
                      "one_thread_mb_s": round(size / 1e6 / one, 2), "batch_mb_s": round(size / 1e6 / batch, 2)}))


if __name__ == "__main__":
    main()
