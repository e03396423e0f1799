#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Training steps of PyTorch + PEFT on the CPU, timed as train_bench times ours; one line of JSON with the same fields.

    python3 benchmarks/torch_train.py --model HF_DIR --method lora --save-ids ids.npy --save-adapter start/
    build/bin/train_bench             --model HF_DIR --method lora --ids ids.npy --adapter start/

From the same ids and the same fresh adapter the losses of both agree. Needs torch, transformers, peft, numpy (benchmarks/requirements.txt).
"""
import argparse
import json
import resource
import time

ATTENTION = ["q_proj", "v_proj"]


def adapter_config(method, peft):
    if method == "lora":
        return peft.LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=ATTENTION)
    if method == "lora_all":
        return peft.LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
    return None


def fixed_batches(options, torch, vocab_size):
    ids = torch.randint(0, vocab_size, (options.batch, options.seq), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[:, : options.seq - round(options.seq * options.label_fraction)] = -100
    return [(ids, labels, torch.ones_like(ids))] * options.steps


def e2e_batches(options, torch, tokenizer, eos):
    """Lines `attributes||sentence`, in the file's order, each batch padded to its longest row."""
    with open(options.e2e, encoding="utf-8") as file:
        pairs = [line.strip().split("||", 1) for line in file][: options.batch * options.steps]
    batches = []
    for first in range(0, len(pairs), options.batch):
        rows = []
        for attributes, sentence in pairs[first : first + options.batch]:
            prompt, answer = tokenizer(attributes.strip() + "\n").input_ids, tokenizer(sentence.strip()).input_ids + [eos]
            rows.append((prompt + answer, [-100] * len(prompt) + answer))
        width = max(len(ids) for ids, _ in rows)
        pad = lambda values, filler: torch.tensor([v + [filler] * (width - len(v)) for v in values])
        batches.append((pad([i for i, _ in rows], 0), pad([l for _, l in rows], -100), pad([[1] * len(i) for i, _ in rows], 0)))
    return batches


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--method", default="lora", choices=["lora", "lora_all", "full", "forward"])
    for name, value in (("batch", 4), ("seq", 128), ("steps", 6), ("threads", 2)):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--label-fraction", type=float, default=1.0)
    parser.add_argument("--dtype", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--checkpointing", action="store_true")
    for name in ("e2e", "save-ids", "save-adapter"):
        parser.add_argument("--" + name)
    options = parser.parse_args()

    started = time.perf_counter()
    import numpy
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    peak_mib = lambda: round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    imported = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.bfloat16 if options.dtype == "bf16" else torch.float32)
    model.config.use_cache = False
    loaded, loaded_mib = time.perf_counter(), peak_mib()
    config = adapter_config(options.method, peft)
    if config:
        model = peft.get_peft_model(model, config)
    attached = time.perf_counter()
    if options.checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    if options.save_adapter:
        model.save_pretrained(options.save_adapter)
    if options.e2e:
        batches = e2e_batches(options, torch, AutoTokenizer.from_pretrained(options.model), model.config.eos_token_id)
    else:
        batches = fixed_batches(options, torch, model.config.vocab_size)
        if options.save_ids:
            numpy.save(options.save_ids, batches[0][0].numpy())

    trains = options.method != "forward"
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4) if trains else None
    model.train()
    seconds, losses, first_step = [], [], None
    for ids, labels, mask in batches:
        begun = time.perf_counter()
        with torch.set_grad_enabled(trains):
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        if trains:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        seconds.append(time.perf_counter() - begun)
        losses.append(round(loss.item(), 5))
        first_step = first_step or time.perf_counter() - started
    later, tokens = sorted(seconds[1:]), options.batch * options.seq
    if options.e2e:  # batches differ: the rate over all steps but the first, of real tokens
        later, tokens = [sum(seconds[1:])], sum(int(mask.sum()) for _, _, mask in batches[1:])
    best, median = later[0], later[len(later) // 2]
    print(json.dumps({
        "engine": "torch+peft", "dtype": options.dtype, "method": options.method, "batch": options.batch, "seq": options.seq, "threads": options.threads,
        "import_s": round(imported - started, 2), "load_s": round(loaded - imported, 2), "attach_s": round(attached - loaded, 3), "first_step_s": round(first_step, 2),
        "step_best_s": round(best, 3), "step_median_s": round(median, 3), "tok_s_best": round(tokens / best, 1), "tok_s_median": round(tokens / median, 1),
        "rss_load_mib": loaded_mib, "rss_peak_mib": peak_mib(), "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad), "losses": losses}))


if __name__ == "__main__":
    main()
