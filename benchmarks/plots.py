#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws docs/performance.json, which report.sh writes, as docs/images/*.svg. Needs matplotlib.

    benchmarks/plots.py
"""
import json
import pathlib

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "peft"  # the same picture from the same figures, byte for byte
matplotlib.rcParams["svg.fonttype"] = "none"
import matplotlib.pyplot as plt

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"
OURS, PEER = "#2b6cb0", "#a0aec0"


def bars(axes, rows, ours, peer, title, peer_name):
    """One pair of bars a row, the first on top."""
    rows = [row for row in rows if row.get(ours)][::-1]
    places = range(len(rows))
    axes.barh([p + 0.2 for p in places], [row[ours] for row in rows], 0.38, color=OURS, label="peft")
    axes.barh([p - 0.2 for p in places], [row.get(peer, 0) for row in rows], 0.38, color=PEER, label=peer_name)
    for place, row in zip(places, rows):
        axes.text(row[ours], place + 0.2, f" {row[ours]:,.0f}", va="center", fontsize=8)
        if row.get(peer):
            axes.text(row[peer], place - 0.2, f" {row[peer]:,.0f}", va="center", fontsize=8)
    axes.set_yticks(list(places), [row["work"] for row in rows], fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, loc="lower right", frameon=False)


def save(figure, name):
    (DOCS / "images").mkdir(exist_ok=True)
    figure.tight_layout()
    figure.savefig(DOCS / "images" / name, metadata={"Date": None})
    plt.close(figure)


def main():
    figures = json.loads((DOCS / "performance.json").read_text(encoding="utf-8"))
    if figures.get("training"):
        figure, (speed, memory) = plt.subplots(2, 1, figsize=(8, 7))
        bars(speed, figures["training"], "tok_s", "peer_tok_s", "training, tokens a second", "PyTorch + PEFT")
        bars(memory, figures["training"], "peak_mib", "peer_peak_mib", "peak memory of the process, MiB", "PyTorch + PEFT")
        save(figure, "training.svg")
    if figures.get("generation"):
        figure, (prefill, decode) = plt.subplots(2, 1, figsize=(8, 5.5))
        bars(prefill, figures["generation"], "prefill_tok_s", "peer_prefill_tok_s", "reading prompts, tokens a second", "llama.cpp")
        bars(decode, figures["generation"], "decode_tok_s", "peer_decode_tok_s", "decoding, tokens a second", "llama.cpp")
        save(figure, "generation.svg")
    if figures.get("scaling"):
        axes_of = {"seq": "tokens in the sequence", "batch": "sequences", "layers": "layers", "rank": "rank", "vocab": "vocabulary"}
        figure, all_axes = plt.subplots(2, len(axes_of), figsize=(11, 4.6), sharex="col")
        for (key, label), (time, memory) in zip(axes_of.items(), all_axes.T):
            rows = [row for row in figures["scaling"] if row["vary"] == key]
            x = [row[key] for row in rows]
            time.plot(x, [row["step_s"] * 1000 for row in rows], "o-", color=OURS)
            memory.plot(x, [row["rss_peak_mib"] for row in rows], "o-", color=OURS)
            memory.set_xlabel(label, fontsize=8)
            for axes in (time, memory):
                axes.set_ylim(bottom=0)
                axes.set_xlim(left=0)
                axes.tick_params(labelsize=7)
                axes.locator_params(axis="x", nbins=4)
                axes.spines[["top", "right"]].set_visible(False)
        all_axes[0][0].set_ylabel("step, ms", fontsize=8)
        all_axes[1][0].set_ylabel("peak, MiB", fontsize=8)
        save(figure, "scaling.svg")


if __name__ == "__main__":
    main()
