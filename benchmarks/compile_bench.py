#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What it costs to compile a user's file: seconds and memory of one compiler run, header-only and against peft::compiled.

Usage: benchmarks/compile_bench.py [--compiler g++] [--flags "-O2"] [--runs 3]
One line of JSON for each program and form. The best run counts.
"""
import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent

# An empty unit with the header, and a program that trains: what the README begins with.
PROGRAMS = {
    "include": "#include <peft/lora.hpp>\nint main() {}\n",
    "train": (ROOT / "examples" / "tune_model.cpp").read_text(encoding="utf-8"),
}


def once(command):
    start = time.perf_counter()
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)}: exit code {os.waitstatus_to_exitcode(status)}")
    return seconds, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--flags", default="-O2")
    parser.add_argument("--runs", type=int, default=3)
    o = parser.parse_args()
    version = subprocess.run([o.compiler, "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        for name, text in PROGRAMS.items():
            source = pathlib.Path(folder) / f"{name}.cpp"
            source.write_text(text, encoding="utf-8")
            for form, define in (("header-only", []), ("compiled", ["-DPEFT_COMPILED"])):
                command = [o.compiler, "-std=c++20", *o.flags.split(), "-DFMT_HEADER_ONLY" if form == "header-only" else "-DFMT_SHARED", *define,
                           f"-I{ROOT / 'include'}", "-isystem", "/usr/include/eigen3", "-c", str(source), "-o", str(source.with_suffix(".o"))]
                runs = [once(command) for _ in range(o.runs)]
                print(json.dumps({"program": name, "form": form, "compiler": f"{o.compiler} {version}", "flags": o.flags,
                                  "seconds": round(min(r[0] for r in runs), 2), "peak_mib": round(min(r[1] for r in runs)),
                                  "object_kib": source.with_suffix(".o").stat().st_size // 1024}), flush=True)


if __name__ == "__main__":
    main()
