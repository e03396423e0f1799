#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each method costs in PyTorch + PEFT, measured as method_bench measures ours: a line of JSON a method.

    python3 benchmarks/torch_methods.py --model HF_DIR [--methods lora prefix_tuning:num_virtual_tokens=20 …]
"""
import argparse
import json
import os
import sys
import tempfile
import time


def best_ms(runs, work):
    seconds = []
    for _ in range(runs):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return 1000 * min(seconds)


def value_of(text):
    if "," in text:
        return text.split(",")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--methods", nargs="+", default=["lora"])
    for name, value in (("batch", 2), ("seq", 128), ("runs", 3), ("threads", 2)):
        parser.add_argument("--" + name, type=int, default=value)
    o = parser.parse_args()
    import peft
    import torch
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(o.threads)
    for text in o.methods:
        method, *settings = text.split(":")
        try:
            torch.manual_seed(0)
            base = AutoModelForCausalLM.from_pretrained(o.model, dtype=torch.float32)
            base.config.use_cache = False
            ids = torch.randint(0, base.config.vocab_size, (o.batch, o.seq), generator=torch.Generator().manual_seed(1))
            config = PEFT_TYPE_TO_CONFIG_MAPPING[method.upper()](task_type="CAUSAL_LM", **{key: value_of(value) for key, value in (one.split("=", 1) for one in settings)})
            begun = time.perf_counter()
            model = peft.get_peft_model(base, config, adapter_name="one")
            attached = 1000 * (time.perf_counter() - begun)
            batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
            if method == "multitask_prompt_tuning":
                batch["task_ids"] = torch.zeros(o.batch, dtype=torch.long)
            loss = lambda: model(**batch).loss

            def forward():
                with torch.no_grad():
                    loss().item()

            def step():
                loss().backward()
                model.zero_grad()

            model.eval()
            row = {"engine": "torch+peft", "method": text, "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad), "attach_ms": round(attached, 1)}
            row["forward_ms"] = round(best_ms(o.runs + 1, forward), 1)
            model.train()
            row["step_ms"] = round(best_ms(o.runs + 1, step), 1)
            model.eval()
            row |= {"merge_ms": None, "unmerge_ms": None, "merged_forward_ms": None}
            if hasattr(model.base_model, "merge_adapter"):
                try:
                    row["merge_ms"] = round(best_ms(1, model.merge_adapter), 2)
                    row["merged_forward_ms"] = round(best_ms(o.runs, forward), 1)
                    row["unmerge_ms"] = round(best_ms(1, model.unmerge_adapter), 2)
                except (AttributeError, NotImplementedError, ValueError):
                    pass
            with tempfile.TemporaryDirectory() as folder:
                row["save_ms"] = round(best_ms(o.runs, lambda: model.save_pretrained(folder)), 2)
                place = os.path.join(folder, "one")
                row["bytes"] = os.path.getsize(os.path.join(place, "adapter_model.safetensors"))
                names = iter(range(o.runs))
                row["load_ms"] = round(best_ms(o.runs, lambda: model.load_adapter(place, adapter_name=f"loaded{next(names)}")), 2)

            def switch():
                model.set_adapter("loaded0")
                model.set_adapter("one")

            row["switch_ms"] = round(best_ms(20, switch) / 2, 4)
            print(json.dumps(row), flush=True)
        except Exception as error:  # a peer that cannot do a method says so, and the next one is measured
            print(f"left out: {text}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
