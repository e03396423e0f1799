#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains every method on the same rows with the same number of steps through the tool `peft`, and compares what came out: quality, trained
parameters, file size, speed, memory, and what was forgotten. Writes the tables of docs/methods.md, docs/methods.json and the plots.

    benchmarks/method_comparison.py --model SmolLM2.gguf --whole SmolLM2 --e2e DIR [--text FILE] [--encoder MiniLM --glue DIR] [--methods lora,ia3] [--seeds 1,2]

  --whole    the same model in floats, for the methods that train the model itself
  --e2e      a folder with train.txt and test.txt of lines `attributes||sentence` (E2E NLG)
  --text     plain text; its loss before and after training says what a method forgot
  --encoder  a sentence encoder for --glue, a folder with SST-2 and MRPC as GLUE's tab-separated files
  --speed    nothing but tokens a second: some steps of each method that is in docs/methods.json, on a quiet machine
Quality on E2E is the loss a token of the test sentences, BLEU against all of a meaning's sentences (if sacrebleu is installed), and the part of the
asked names, foods and places that the answer says.
"""
import argparse
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOL = ROOT / "build" / "bin" / "peft"
PAGE, FIGURES, IMAGE = ROOT / "docs" / "methods.md", ROOT / "docs" / "methods.json", ROOT / "docs" / "images" / "methods.svg"

# Each method as its paper or PEFT's examples use it: options, and a learning rate of the size that they recommend.
METHODS = {
    "lora": (["--r", 8], 1e-3),
    "lora all-linear": (["--r", 8, "--targets", "all-linear"], 1e-3),
    "rslora": (["--r", 8, "--rslora"], 5e-4),
    "dora": (["--r", 8, "--set", "use_dora=true"], 1e-3),
    "pissa": (["--r", 8, "--set", "init_lora_weights=pissa"], 5e-4),
    "adalora": ([], 2e-3),
    "vera": ([], 1e-2),
    "vblora": (["--set", "vector_length=64"], 5e-3),  # divides 576, which 256 does not
    "loha": ([], 1e-3),
    "lokr": ([], 2e-3),
    "hira": ([], 2e-3),
    "miss": ([], 1e-3),
    "gralora": ([], 1e-3),
    "delora": ([], 2e-3),
    "fourierft": ([], 1e-2),
    "c3a": (["--set", "block_size=64"], 5e-3),  # divides 576
    "shira": ([], 1e-3),
    "oft": ([], 1e-3),
    "boft": ([], 1e-3),
    "hra": ([], 1e-3),
    "road": ([], 5e-3),
    "ia3": ([], 8e-3),
    "ln_tuning": ([], 5e-3),
    "bitfit": ([], 5e-3),
    "prefix_tuning": (["--set", "num_virtual_tokens=10", "--set", "init_weights=zero"], 5e-3),
    "p_tuning": (["--set", "num_virtual_tokens=20"], 1e-3),
    "prompt_tuning": (["--set", "num_virtual_tokens=20", "--set", "prompt_tuning_init=SAMPLE_VOCAB"], 1e-1),
    "multitask_prompt_tuning": (["--set", "num_virtual_tokens=20", "--set", "num_tasks=1"], 1e-1),
    "adaption_prompt": ([], 1e-2),
    "bottleneck": ([], 1e-3),
    "full": (["--no-state"], 5e-5),
    "freeze": (["--train-last", 2, "--no-state"], 2e-4),
}
NAMES = {"lora all-linear": "lora", "rslora": "lora", "dora": "lora", "pissa": "lora", "freeze": "full"}
# Where there is a text to begin as: a prefix drawn at random takes hundreds of steps to do no harm.
ON_TEXT = {"prefix_tuning": (["--set", "num_virtual_tokens=10", "--init-text", "Say in one sentence what is known about the restaurant below."], 5e-3)}
# BERT's norms, which have no default.
ON_ENCODER = {"ln_tuning": (["--targets", "LayerNorm"], 5e-3)}
SLOTS = ("name", "food", "near", "area")


class Failed(Exception):
    """What the tool said when it could not do a run."""


def tool(*words):
    done = subprocess.run([str(word) for word in (TOOL, *words)], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise Failed((done.stderr.strip() or done.stdout.strip()).splitlines()[-1])
    return done.stdout


def number(pattern, text):
    return float(re.search(pattern, text).group(1).replace(",", ""))


def e2e_rows(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        if "||" in line:
            attributes, sentence = line.split("||", 1)
            yield attributes.strip(), sentence.strip()


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


class E2E:
    """Sentences from attributes: the same first rows for every method."""

    def __init__(self, folder, work, rows, questions):
        train = list(e2e_rows(folder / "train.txt"))
        step = max(1, len(train) // rows)  # spread over the file, which is sorted by attributes
        write_rows(work / "train.jsonl", [{"prompt": a, "completion": s} for a, s in train[::step][:rows]])
        meanings = {}
        for attributes, sentence in e2e_rows(folder / "test.txt"):
            meanings.setdefault(attributes, []).append(sentence)
        step = max(1, len(meanings) // questions)
        self.meanings = list(meanings.items())[::step][:questions]
        write_rows(work / "test.jsonl", [{"prompt": a, "completion": s[0]} for a, s in self.meanings])
        write_rows(work / "ask.jsonl", [{"prompt": a} for a, _ in self.meanings])
        self.work = work

    def measure(self, model, adapter):
        common = ["--model", model] + (["--adapter", adapter] if adapter else [])
        row = {"loss": number(r"loss ([\d.,]+)", tool("eval", *common, "--data", self.work / "test.jsonl", "--loss-only"))}
        answers = self.work / "answers.jsonl"
        tool("generate", *common, "--prompts", self.work / "ask.jsonl", "--out", answers, "--max-new-tokens", 64)
        texts = [json.loads(line)["generated"] for line in answers.read_text(encoding="utf-8").splitlines()]
        wanted = said = 0
        for (attributes, _), text in zip(self.meanings, texts):
            for slot, value in re.findall(r"([\w ]+?) : ([^|]+?)(?: \||$)", attributes):
                if slot.strip() in SLOTS:
                    wanted, said = wanted + 1, said + (value.strip().lower() in text.lower())
        row["slots"] = 100 * said / wanted
        try:
            import sacrebleu

            most = max(len(sentences) for _, sentences in self.meanings)
            references = [[s[i] if i < len(s) else None for _, s in self.meanings] for i in range(most)]
            row["bleu"] = sacrebleu.corpus_bleu(texts, references).score
        except ImportError:
            pass
        return row


def places(work, name, model):
    """Where a run writes, and the model and adapter that its result is used with: full training writes a model."""
    full = NAMES.get(name, name) == "full"
    out = work / ("model" if full else "adapter")
    return out, (out, None) if full else (model, out)


def base_of(o, name):
    """What a method is trained on: full training changes the weights, which 4 bits do not allow."""
    return o.whole if NAMES.get(name, name) == "full" and o.whole else o.model


def train_e2e(o, work, name, seed, steps):
    """-> what the tool said, and its log."""
    options, lr = ON_TEXT.get(name, METHODS[name])
    model = base_of(o, name)
    out, _ = places(work, name, model)
    text = tool("train", "--model", model, "--data", work / "train.jsonl", "--method", NAMES.get(name, name), *options, "--lr", lr, "--batch", o.batch, "--max-steps",
                steps, "--seed", seed, "--compute-dtype", o.compute_dtype, "--out", out, "--overwrite")
    return text, [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def run_e2e(o, task, work, name, seed):
    lr = ON_TEXT.get(name, METHODS[name])[1]
    out, tuned = places(work, name, base_of(o, name))
    text, log = train_e2e(o, work, name, seed, o.steps)
    row = {"trainable": number(r"trainable params: ([\d,]+)", text), "bytes": sum(f.stat().st_size for f in out.glob("*.safetensors")), "lr": lr}
    row["peak_mib"] = log[-1]["peak_mib"]
    row |= task.measure(*tuned)
    if o.text:
        row["forgot"] = perplexity(tuned[0], o.text, tuned[1])
    return row


def run_all(task, done, names, seeds, run, figures):
    """Runs what is not in `done` yet: {method: {seed: row}}; what is measured is kept at once, so that a stopped comparison goes on where it stood."""
    for name in names:
        for seed in seeds:
            if str(seed) in done.get(name, {}):
                continue
            try:
                row = run(name, seed)
            except Failed as error:
                print(f"left out: {task}, {name}: {error}", file=sys.stderr)
                break
            done.setdefault(name, {})[str(seed)] = row
            print(task, name, seed, json.dumps(row), file=sys.stderr)
            FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure_speed(o, work, figures, names):
    """Tokens a second of a few steps, each method twice in turn, so that a noisy minute hits one of the two: the better one counts."""
    speed = {}
    for _ in range(2):
        for name in names:
            if name in figures["e2e"]["methods"]:
                log = train_e2e(o, work, name, 1, o.speed_steps)[1]
                speed[name] = max(speed.get(name, 0), log[-1]["tokens_per_second"])
                print("tokens a second", name, round(speed[name]), file=sys.stderr)
    figures["e2e"].setdefault("speed", {}).update(speed)


def perplexity(model, text, adapter=None):
    """Nats a token of plain text."""
    said = tool("perplexity", "--model", model, "--data", text, "--max-length", 512, *(["--adapter", adapter] if adapter else []))
    return number(r"([\d.]+) nats a token", said)


def mean_and_spread(rows, key, digits):
    values = [row[key] for row in rows if key in row and math.isfinite(row[key])]
    if not values:
        return "–"
    text = f"{statistics.mean(values):,.{digits}f}"
    return text + (f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def rows_of(methods):
    return [(name, list(seeds.values())) for name, seeds in methods.items()]


def size(n):
    return f"{n / 1024:,.0f} KiB" if n < 1 << 20 else f"{n / (1 << 20):,.1f} MiB"


def e2e_table(o, figures):
    head = ["method", "learning rate", "trained", "file", "loss", "BLEU", "slots said, %", "plain text, nats", "tokens/s", "peak MiB"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    base = figures["base"]
    lines.append(f"| *untrained* | – | – | – | {base['loss']:.3f} | {mean_and_spread([base], 'bleu', 1)} | {base['slots']:.1f} | {mean_and_spread([base], 'forgot', 3)} | – | – |")
    speed = figures.get("speed", {})
    for name, rows in sorted(rows_of(figures["methods"]), key=lambda pair: statistics.mean(row["loss"] for row in pair[1])):
        first = rows[0]
        lines.append(f"| {name} | {first['lr']:g} | {first['trainable']:,.0f} | {size(first['bytes'])} | {mean_and_spread(rows, 'loss', 3)} | {mean_and_spread(rows, 'bleu', 1)} | "
                     f"{mean_and_spread(rows, 'slots', 1)} | {mean_and_spread(rows, 'forgot', 3)} | {round(speed[name]) if name in speed else '–'} | {max(row['peak_mib'] for row in rows):,.0f} |")
    return "\n".join(lines)


def glue_row(o, work, name, task, seed):
    options, lr = ON_ENCODER.get(name, METHODS[name])
    out, (model, adapter) = places(work, name, o.encoder)
    text = tool("train", "--model", o.encoder, "--task", "seq_cls", "--data", o.glue / task / "train.tsv", "--method", NAMES.get(name, name), *options, "--lr", lr, "--batch",
                o.glue_batch, "--max-steps", o.glue_steps, "--seed", seed, "--compute-dtype", o.compute_dtype, "--out", out, "--overwrite")
    said = tool("eval", "--model", model, *(["--adapter", adapter] if adapter else []), "--data", o.glue / task / "dev.tsv")
    row = {"trainable": number(r"trainable params: ([\d,]+)", text), "accuracy": 100 * number(r"accuracy ([\d.]+)", said)}
    if f1 := re.search(r"F1 ([\d.]+)", said):
        row["f1"] = float(f1.group(1))
    return row


def glue_table(figures):
    tasks = list(figures)
    lines = ["| method | trained | " + " | ".join(f"{task}, accuracy %" for task in tasks) + " |", "|---|" + "---:|" * (len(tasks) + 1)]
    rows_by_task = {task: dict(rows_of(figures[task])) for task in tasks}
    names = sorted({name for task in tasks for name in figures[task]}, key=lambda name: -statistics.mean(row["accuracy"] for row in rows_by_task[tasks[0]].get(name, [{"accuracy": 0}])))
    for name in names:
        rows = [rows_by_task[task].get(name, []) for task in tasks]
        lines.append(f"| {name} | {next(r[0]['trainable'] for r in rows if r):,.0f} | " + " | ".join(mean_and_spread(r, "accuracy", 1) for r in rows) + " |")
    return "\n".join(lines)


def replace(text, name, body):
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    head, rest = text.split(begin, 1)
    return head + begin + "\n" + body + "\n" + end + rest.split(end, 1)[1]


def write_names(axes, points):
    """Each point's name beside it, at the first of some places within the axes where no other name or point is."""
    import matplotlib.transforms

    places = [(4, 3, "left"), (4, -8, "left"), (-4, 3, "right"), (-4, -8, "right"), (0, 7, "center"), (0, -12, "center"), (6, 12, "left"), (6, -18, "left"), (-6, 12, "right")]
    pixels = [axes.transData.transform(point) for _, point in points]
    taken = [matplotlib.transforms.Bbox.from_bounds(x - 3, y - 3, 6, 6) for x, y in pixels]
    for name, point in points:
        for number, (dx, dy, side) in enumerate(places):
            label = axes.annotate(name, point, xytext=(dx, dy), textcoords="offset points", ha=side, fontsize=7)
            box = label.get_window_extent()
            if number == len(places) - 1 or (box.x0 >= axes.bbox.x0 and not any(box.overlaps(other) for other in taken)):
                break
            label.remove()
        taken.append(box)


def plot(figures):
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "peft"
    matplotlib.rcParams["svg.fonttype"] = "none"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    points = [(name, (rows[0]["trainable"], statistics.mean(row["loss"] for row in rows))) for name, rows in rows_of(figures["methods"])]
    axes.plot(*zip(*(point for _, point in points)), "o", color="#2b6cb0", markersize=4)
    axes.set_xscale("log")
    axes.margins(0.1)
    axes.set_xlabel("trained parameters")
    axes.set_ylabel("loss a token on held-out sentences")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.canvas.draw()
    write_names(axes, sorted(points, key=lambda point: point[1]))
    figure.savefig(IMAGE, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--whole")
    parser.add_argument("--e2e", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--encoder", type=pathlib.Path)
    parser.add_argument("--glue", type=pathlib.Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--glue-steps", type=int, default=300)
    parser.add_argument("--glue-batch", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--compute-dtype", default="bf16")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--speed-steps", type=int, default=6)
    o = parser.parse_args()
    names, seeds = o.methods.split(","), [int(seed) for seed in o.seeds.split(",")]
    for name in names:
        if name not in METHODS:
            parser.error(f"no method {name}; there are {', '.join(METHODS)}")
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        if o.model and o.e2e:
            task = E2E(o.e2e, work, o.steps * o.batch, o.questions)
            budget = {"steps": o.steps, "batch": o.batch, "questions": o.questions, "compute_dtype": o.compute_dtype}
            if figures.get("e2e", {}).get("budget") != budget:
                figures["e2e"] = {"budget": budget, "base": task.measure(o.model, None), "methods": {}}
            if o.text and "forgot" not in figures["e2e"]["base"]:
                figures["e2e"]["base"]["forgot"] = perplexity(o.model, o.text)
            if o.speed:
                measure_speed(o, work, figures, names)
            else:
                run_all("E2E", figures["e2e"]["methods"], names, seeds, lambda name, seed: run_e2e(o, task, work, name, seed), figures)
            ran = sorted({int(seed) for rows in figures["e2e"]["methods"].values() for seed in rows})
            text = replace(text, "e2e", f"{o.steps} steps of {o.batch} sentences, {o.questions} questions, seeds {', '.join(map(str, ran))}.\n\n" + e2e_table(o, figures["e2e"]))
            plot(figures["e2e"])
        if o.encoder and o.glue and not o.speed:
            budget = {"steps": o.glue_steps, "batch": o.glue_batch, "compute_dtype": o.compute_dtype}
            if figures.get("glue", {}).get("budget") != budget:
                figures["glue"] = {"budget": budget, "tasks": {}}
            glue = figures["glue"]["tasks"]
            for task in ("SST-2", "MRPC"):
                run_all(task, glue.setdefault(task, {}), names, seeds, lambda name, seed: glue_row(o, work, name, task, seed), figures)
            ran = sorted({int(seed) for task in glue.values() for rows in task.values() for seed in rows})
            text = replace(text, "glue", f"{o.glue_steps} steps of {o.glue_batch} sentences, seed{'s' * (len(ran) > 1)} {', '.join(map(str, ran))}.\n\n" + glue_table(glue))
    PAGE.write_text(text, encoding="utf-8")
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
