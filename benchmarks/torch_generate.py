#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reading prompts and decoding with transformers (and an adapter through PEFT), timed as generate_bench times ours; one line of JSON with the
same fields.

    python3 benchmarks/torch_generate.py --model DIR [--adapter DIR --prompt 64 --new 128 --batch 1 --beams 1 --threads 2 --runs 5]
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
    parser.add_argument("--adapter")
    for name, value in (("prompt", 64), ("new", 128), ("batch", 1), ("beams", 1), ("threads", 2), ("runs", 5)):
        parser.add_argument("--" + name, type=int, default=value)
    o = parser.parse_args()
    import torch
    import transformers

    torch.set_num_threads(o.threads)
    imported = time.perf_counter()
    model = transformers.AutoModelForCausalLM.from_pretrained(o.model, dtype=torch.float32).eval()
    if o.adapter:
        import peft

        model = peft.PeftModel.from_pretrained(model, o.adapter).eval()
    loaded = time.perf_counter()
    draw = random.Random(1)
    vocabulary = model.config.vocab_size
    ids = torch.tensor([[draw.randrange(vocabulary) for _ in range(o.prompt)] for _ in range(o.batch)])
    fixed = {"attention_mask": torch.ones_like(ids), "do_sample": False, "num_beams": o.beams, "pad_token_id": 0, "eos_token_id": None}

    def timed(new):
        begun = time.perf_counter()
        with torch.inference_mode():
            model.generate(input_ids=ids, min_new_tokens=new, max_new_tokens=new, **fixed)
        return time.perf_counter() - begun

    timed(1)
    first_token = time.perf_counter() - started
    prefill = min(timed(1) for _ in range(o.runs))
    decode = min(timed(o.new) for _ in range(o.runs)) - prefill
    print(json.dumps({
        "engine": "transformers", "prompt": o.prompt, "new": o.new, "batch": o.batch, "beams": o.beams, "threads": o.threads, "adapter": bool(o.adapter),
        "import_s": round(imported - started, 2), "load_s": round(loaded - imported, 3), "first_token_s": round(first_token, 3),
        "prefill_tok_s": round(o.prompt * o.batch / prefill, 1), "decode_tok_s": round((o.new - 1) * o.batch / decode, 1),
        "rss_peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}))


if __name__ == "__main__":
    main()
