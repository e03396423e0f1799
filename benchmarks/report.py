# SPDX-License-Identifier: Apache-2.0
"""The work behind report.sh: pairs of commands in turn, the best of each, a table between two marks of docs/performance.md."""
import argparse
import datetime
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "performance.json"
BIN = ROOT / "build" / "bin"


def call(command):
    """The JSON line that a benchmark prints, or None where it cannot run."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        sys.stderr.write(f"left out: {' '.join(map(str, command))}\n{done.stderr[-400:]}\n")
        return None
    return json.loads(lines[-1])


def best(rows, key):
    """The fastest run, with the earliest first step and first token and the fastest reading of prompts of all."""
    rows = [row for row in rows if row]
    if not rows:
        return None
    of_all = {name: choose(row[name] for row in rows if name in row)
              for name, choose in (("first_step_s", min), ("first_token_s", min), ("prefill_tok_s", max)) if any(name in row for row in rows)}
    return max(rows, key=lambda row: row[key]) | of_all


def in_turn(ours, theirs, rounds, key):
    """A, B, A, B, …: a machine whose speed drifts slows both."""
    a, b = [], []
    for _ in range(rounds):
        a.append(call(ours))
        if theirs and (not b or b[-1]):
            b.append(call(theirs))
    return best(a, key), best(b, key)


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def train_row(name, title, ours, theirs, rounds):
    mine, peer = in_turn(ours, theirs, rounds, "tok_s_best")
    if not mine:
        return None
    cells = [title, number(mine["tok_s_best"]), number(peer["tok_s_best"]) if peer else "–",
             f"**{mine['tok_s_best'] / peer['tok_s_best']:.2f} ×**" if peer else "–", f"{mine['rss_peak_mib']:,}", f"{peer['rss_peak_mib']:,}" if peer else "–",
             f"{mine['first_step_s']:.2f}", f"{peer['first_step_s']:.1f}" if peer and "first_step_s" in peer else "–"]
    print(" ".join(cells), file=sys.stderr)
    figure = {"work": title, "tok_s": mine["tok_s_best"], "peak_mib": mine["rss_peak_mib"]}
    return cells, mine, figure | ({"peer_tok_s": peer["tok_s_best"], "peer_peak_mib": peer["rss_peak_mib"]} if peer else {})


def generate_row(title, ours, theirs, rounds):
    mine, peer = in_turn(ours, theirs, rounds, "decode_tok_s")
    if not mine:
        return None
    cells = [title, number(mine["prefill_tok_s"]), number(peer["prefill_tok_s"]) if peer else "–", number(mine["decode_tok_s"]),
             number(peer["decode_tok_s"]) if peer else "–", f"{mine['first_token_s']:.2f}", f"{mine['rss_peak_mib']:,}", f"{peer['rss_peak_mib']:,}" if peer else "–"]
    print(" ".join(cells), file=sys.stderr)
    figure = {"work": title, "prefill_tok_s": mine["prefill_tok_s"], "decode_tok_s": mine["decode_tok_s"]}
    return cells, mine, figure | ({"peer_prefill_tok_s": peer["prefill_tok_s"], "peer_decode_tok_s": peer["decode_tok_s"]} if peer else {})


def make_adapter(model, directory, lora):
    """A LoRA of one step, as PEFT's directory and as GGUF: speed does not ask what it learned."""
    for command in (["train", "--model", model, "--data", "examples/data/quillon/train.jsonl", "--r", "16", "--max-steps", "1", "--out", directory],
                    ["export", "--model", model, "--adapter", directory, "--out", lora]):
        subprocess.run([str(word) for word in [BIN / "peft", *command]], check=True, capture_output=True, cwd=ROOT)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in rows])


def replace(text, name, body):
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    head, rest = text.split(begin, 1)
    return head + begin + "\n" + body + "\n" + end + rest.split(end, 1)[1]


def gemm_figures(rounds):
    """Products of SmolLM2's layers with 512 rows as parts of the machine's peak: {(what, storage, threads): [part of each shape]}, the best of some
    runs. The head, which is as large as six layers, is a shape like the others."""
    best_of, peaks = {}, {}
    for _ in range(rounds):
        out = subprocess.run([BIN / "gemm_bench", "--only", "gemm"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
        for threads, peak in re.findall(r"peak of (\d+) threads? ([\d.]+)", out):
            peaks[int(threads)] = max(float(peak), peaks.get(int(threads), 0))
        for what, shape, threads, rate in re.findall(r"^ *(.+?) +(M +\d+ N +\d+ K +\d+) +(\d+) threads? .*?([\d.]+) GFLOP/s", out, re.M):
            if "M  512" in shape or what == "dW" and "K   512" in shape:
                key = what, shape, int(threads)
                best_of[key] = max(float(rate), best_of.get(key, 0))
    parts = {}
    for (what, _, threads), rate in best_of.items():
        parts.setdefault((what, threads), []).append(100 * rate / peaks[threads])
    return parts, peaks


def gemm_table(parts, peaks):
    kinds = list(dict.fromkeys(what.split(" ", 1)[1] for what, _ in parts if what.startswith("forward ")))
    others = list(dict.fromkeys(what for what, _ in parts if what.startswith("(")))

    def cell(what, threads):
        values = parts.get((what, threads))
        return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})" if values else "–"

    columns = [("forward ", n) for n in peaks] + [("dX ", n) for n in peaks]
    rows = [[kind] + [cell(product + kind, n) for product, n in columns] for kind in kinds]
    rows.append(["F32, dW"] + [cell("dW", n) for n in peaks] + ["–"] * len(peaks))
    rows += [[what.strip("()")] + [cell(what, n) for n in peaks] + ["–"] * len(peaks) for what in others]
    return table(["stored as"] + [f"{'Y = X Wᵀ' if product[0] == 'f' else 'dX = dY W'}, {n} thread{'s' * (n > 1)}" for product, n in columns], rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hf")
    parser.add_argument("--gguf")
    parser.add_argument("--e2e")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="lora,half,ragged,bf16,full,memory,decode,beams,gemm,scaling,compile")
    o = parser.parse_args()
    only = o.only.split(",")
    gguf = o.gguf or subprocess.run(["scripts/fetch_model.sh"], capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()
    ours, torch = [BIN / "train_bench", "--threads", 2], [sys.executable, "benchmarks/torch_train.py", "--threads", 2]
    text = PAGE.read_text(encoding="utf-8")
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    isa = "?"

    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    rows = []
    if {"lora", "half", "ragged", "bf16", "full", "memory"} & set(only):
        figures["training"] = []
    if o.hf:
        hf = ["--model", o.hf]
        for name, title, more in (
                ("lora", "LoRA r=8 on q, v; 4 × 128 tokens", []),
                ("half", "the same, half of the labels", ["--label-fraction", 0.5]),
                ("ragged", "the same, ragged batches of 8", ["--batch", 8, "--e2e", o.e2e] if o.e2e else None),
                ("all", "LoRA r=16 on all linear maps", ["--method", "lora_all"]),
                ("bf16", "LoRA r=8 on q, v in bfloat16", ["--dtype", "bf16"]),
                ("full", "full fine-tuning; 4 × 128 tokens", ["--method", "full"])):
            if more is not None and (name in only or (name == "all" and "lora" in only)):
                steps = ["--steps", 8 if name == "ragged" else 5]
                whole = ["--tokens-per-forward", 512] if name in ("bf16", "full") else []
                row = train_row(name, title, ours + hf + steps + more + whole, torch + hf + steps + more, o.rounds)
                if row:
                    rows.append(row[0])
                    figures["training"].append(row[2])
                    isa = row[1]["isa"]
    if "memory" in only:
        for title, more in (("LoRA over Q4_1 (92 MiB mapped)", []), ("the same with checkpointing", ["--checkpointing"])):
            row = train_row("memory", title, ours + ["--model", gguf, "--steps", 5] + more, None, o.rounds)
            if row:
                rows.append(row[0])
                figures["training"].append(row[2])
                isa = row[1]["isa"]
    stamp = f"{datetime.date.today()}, {cpu}, {isa}, 2 threads, best of {o.rounds} runs in turn."
    if rows:
        head = ["work", "ours tok/s", "PyTorch tok/s", "ratio", "ours peak MiB", "PyTorch peak MiB", "ours first step s", "PyTorch first step s"]
        text = replace(text, "training", stamp + "\n\n" + table(head, rows))
    if "decode" in only or "beams" in only:
        with tempfile.TemporaryDirectory() as folder:
            adapter, lora = pathlib.Path(folder) / "adapter", pathlib.Path(folder) / "adapter.gguf"
            make_adapter(gguf, adapter, lora)
            for name, title, peer_name, peer, model, rows in (
                    ("generation", "decode", "llama.cpp", "benchmarks/llama_cpp_generate.py", gguf,
                     (("Q4_1, prompt 64, 128 new", [], []), ("the same with a LoRA, r=16 on q, v", ["--adapter", adapter], ["--adapter", lora]),
                      ("Q4_1, prompt 1,024, 32 new", ["--prompt", 1024, "--new", 32], ["--prompt", 1024, "--new", 32]),
                      ("the same, keys and values in F16", ["--prompt", 1024, "--new", 32, "--half-cache"], None),
                      ("prompt 64 in bfloat16", ["--dtype", "bf16"], None),
                      ("prompt 1,024 in bfloat16", ["--prompt", 1024, "--new", 32, "--dtype", "bf16"], None),
                      ("8 prompts of 64 together", ["--batch", 8], None), ("4 beams, prompt 64", ["--beams", 4], None))),
                    ("generation_hf", "beams", "transformers", "benchmarks/torch_generate.py", o.hf,
                     (("float32, prompt 64, 128 new", [], []), ("the same with a LoRA, r=16 on q, v", ["--adapter", adapter], ["--adapter", adapter]),
                      ("8 prompts of 64 together", ["--batch", 8], ["--batch", 8]), ("4 beams, prompt 64", ["--beams", 4], ["--beams", 4])))):
                if title not in only or not model:
                    continue
                common = ["--model", model, "--threads", 2, "--runs", 3]
                lines, figures[name] = [], []
                for work, mine, theirs in rows:
                    row = generate_row(work, [BIN / "generate_bench"] + common + mine, [sys.executable, peer] + common + theirs if theirs is not None else None, o.rounds)
                    if row:
                        lines.append(row[0])
                        figures[name].append(row[2])
                        isa = row[1]["isa"]
                head = ["work", "ours prefill tok/s", peer_name, "ours decode tok/s", peer_name, "ours first token s", "ours peak MiB", peer_name]
                text = replace(text, name, f"{datetime.date.today()}, {cpu}, {isa}, 2 threads, best of {o.rounds} runs in turn.\n\n" + table(head, lines))
    if "gemm" in only:
        parts, peaks = gemm_figures(o.rounds)
        figures["gemm"] = {f"{what}, {threads}": values for (what, threads), values in parts.items()}
        said = " and ".join(f"{peak:.0f} GFLOP/s with {n} thread{'s' * (n > 1)}" for n, peak in peaks.items())
        text = replace(text, "gemm", f"{datetime.date.today()}, {cpu}, best of {o.rounds} runs; the peak is {said}.\n\n" + gemm_table(parts, peaks))
    if "scaling" in only:
        lines = subprocess.run([BIN / "scaling_bench"], capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
        figures["scaling"] = [json.loads(line) for line in lines if line.startswith("{")]
        rows = [[row["vary"], f"{row['seq']:,}", f"{row['batch']}", f"{row['layers']}", f"{row['rank']}", f"{row['vocab']:,}", f"{row['step_s'] * 1000:,.1f}",
                 f"{row['rss_peak_mib']:,}"] for row in figures["scaling"]]
        head = ["varied", "T", "batch", "layers", "rank", "vocabulary", "step ms", "peak MiB"]
        text = replace(text, "scaling", f"{datetime.date.today()}, {cpu}, hidden size 256.\n\n" + table(head, rows))
    if "compile" in only:
        lines = subprocess.run([sys.executable, "benchmarks/compile_bench.py", "--runs", str(min(o.rounds, 2))], capture_output=True, text=True, cwd=ROOT, check=True).stdout
        runs = [json.loads(line) for line in lines.splitlines()]
        figures["compile"] = runs
        titles = {"include": "`#include <peft/lora.hpp>` alone", "train": "the README's program"}
        rows = [[titles[run["program"]], "header-only" if run["form"] == "header-only" else "`peft::compiled`", f"{run['seconds']:.1f}", f"{run['peak_mib']:,}", f"{run['object_kib']:,}"]
                for run in runs]
        text = replace(text, "compile", f"{datetime.date.today()}, {cpu}, {runs[0]['compiler']} {runs[0]['flags']}, one thread.\n\n" +
                       table(["file", "against", "seconds", "peak MiB", "object KiB"], rows))
    PAGE.write_text(text, encoding="utf-8")
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
