#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each method's operations cost here and in PyTorch + PEFT, method by method in turn: runs method_bench and torch_methods.py, and writes the
table `costs` of docs/methods.md.

    benchmarks/method_report.py --model SmolLM2-135M-Instruct [--methods lora,oft] [--rounds 2]

The Python of the peer is the one that runs this; what it lacks is left out.
"""
import argparse
import datetime
import json
import pathlib
import sys

from report import BIN, ROOT, call, replace, table

PAGE, FIGURES = ROOT / "docs" / "methods.md", ROOT / "docs" / "method_costs.json"

# Every method with the settings that both sides have; what is not said is the same default on both.
METHODS = {
    "LoRA r=8 on q, v": "lora",
    "LoRA r=8 on all linear maps": "lora:target_modules=all-linear",
    "DoRA r=8 on q, v": "lora:use_dora=true",
    "AdaLoRA": "adalora:total_step=1000",
    "VeRA": "vera",
    "VB-LoRA": "vblora:vector_length=64",
    "LoHa": "loha",
    "LoKr": "lokr",
    "HiRA": "hira",
    "MiSS": "miss",
    "GraLoRA": "gralora",
    "DeLoRA": "delora",
    "FourierFT": "fourierft",
    "C3A": "c3a:block_size=64",
    "SHiRA": "shira",
    "OFT": "oft",
    "BOFT": "boft",
    "HRA": "hra",
    "RoAd": "road",
    "IA3": "ia3",
    "LN tuning": "ln_tuning",
    "prefix tuning, 20 tokens": "prefix_tuning:num_virtual_tokens=20",
    "P-Tuning, 20 tokens": "p_tuning:num_virtual_tokens=20",
    "prompt tuning, 20 tokens": "prompt_tuning:num_virtual_tokens=20",
    "multitask prompt tuning, 20 tokens": "multitask_prompt_tuning:num_virtual_tokens=20:num_tasks=1",
    "LLaMA-Adapter": "adaption_prompt:adapter_len=10:adapter_layers=30",
    "bottleneck (Pfeiffer)": "bottleneck",
}
TIMES = ("attach_ms", "forward_ms", "step_ms", "merge_ms", "save_ms", "load_ms", "switch_ms")


def quickest(rows):
    """The least of each time over some runs."""
    rows = [row for row in rows if row]
    if not rows:
        return None
    return rows[0] | {key: min((row[key] for row in rows if row.get(key) is not None), default=None) for key in TIMES}


def measure(o, method):
    ours, theirs = [], []
    for _ in range(o.rounds):
        ours.append(call([BIN / "method_bench", "--model", o.model, "--methods", method]))
        if not theirs or theirs[-1]:
            theirs.append(call([sys.executable, "benchmarks/torch_methods.py", "--model", o.model, "--methods", method]))
    return quickest(ours), quickest(theirs)


def time(row, key):
    value = row and row.get(key)
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 else f"{value:.4f}"


def costs_table(figures):
    rows = []
    for title, pair in figures.items():
        ours, theirs = pair["ours"], pair["peft"]
        ratio = f"**{theirs['step_ms'] / ours['step_ms']:.2f} ×**" if theirs else "–"
        rows.append([title, f"{ours['trainable']:,}", ratio] + [f"{time(ours, key)} / {time(theirs, key)}" for key in ("step_ms", "forward_ms", "attach_ms", "merge_ms", "save_ms", "load_ms", "switch_ms")])
    return table(["method", "trained", "a step, PEFT / ours", "step", "forward", "attach", "merge", "save", "load", "switch"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--methods", help="names before a colon, as lora,oft; every one where none is given")
    parser.add_argument("--rounds", type=int, default=2)
    o = parser.parse_args()
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    for title, method in METHODS.items():
        if o.methods and method.split(":")[0] not in o.methods.split(","):
            continue
        ours, theirs = measure(o, method)
        if not ours:
            continue
        figures[title] = {"ours": ours, "peft": theirs, "rounds": o.rounds}
        print(title, *(f"{key} {time(ours, key)} / {time(theirs, key)}" for key in TIMES), file=sys.stderr)
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    isa = next(iter(figures.values()))["ours"]["isa"]
    rounds = sorted({pair["rounds"] for pair in figures.values()})
    said = f"{datetime.date.today()}, {cpu}, {isa}, 2 threads, the best of {' or '.join(map(str, rounds))} runs in turn; milliseconds, ours / PEFT's."
    PAGE.write_text(replace(PAGE.read_text(encoding="utf-8"), "costs", said + "\n\n" + costs_table(figures)), encoding="utf-8")


if __name__ == "__main__":
    main()
