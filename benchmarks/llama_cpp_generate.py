#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reading a prompt and greedy decoding with llama.cpp, timed as generate_bench times ours; one line of JSON with the same fields.

    python3 benchmarks/llama_cpp_generate.py --model MODEL.gguf [--adapter LORA.gguf --prompt 64 --new 128 --threads 2 --runs 5]

Needs llama-cpp-python (built from source where it is installed, so with the instructions that this machine has).
"""
import argparse
import json
import random
import resource
import time


def main():
    started = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter", help="a GGUF LoRA")
    for name, value in (("prompt", 64), ("new", 128), ("threads", 2), ("runs", 5)):
        parser.add_argument("--" + name, type=int, default=value)
    options = parser.parse_args()
    import llama_cpp

    imported = time.perf_counter()
    model = llama_cpp.Llama(options.model, n_ctx=options.prompt + options.new + 8, n_batch=512, n_threads=options.threads, n_threads_batch=options.threads,
                            logits_all=False, verbose=False, lora_path=options.adapter)
    loaded = time.perf_counter()
    draw = random.Random(1)
    ids = [draw.randrange(model.n_vocab()) for _ in range(options.prompt)]
    prefill = decode = float("inf")
    first_token = None
    for _ in range(options.runs):
        model.reset()
        begun = time.perf_counter()
        model.eval(ids)
        token = model.sample(temp=0.0)
        read = time.perf_counter()
        first_token = first_token or read - started
        for _ in range(options.new - 1):
            model.eval([token])
            token = model.sample(temp=0.0)
        prefill, decode = min(prefill, read - begun), min(decode, time.perf_counter() - read)
    print(json.dumps({
        "engine": "llama.cpp", "prompt": options.prompt, "new": options.new, "batch": 1, "beams": 1, "threads": options.threads, "adapter": bool(options.adapter),
        "import_s": round(imported - started, 2), "load_s": round(loaded - imported, 3), "first_token_s": round(first_token, 3),
        "prefill_tok_s": round(options.prompt / prefill, 1), "decode_tok_s": round((options.new - 1) / decode, 1),
        "rss_peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}))


if __name__ == "__main__":
    main()
