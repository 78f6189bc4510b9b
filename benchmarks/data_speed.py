"""How fast is a large set prepared, and in how much memory?

    python benchmarks/data_speed.py

Protocol:

- 500,000 question-answer rows, JSON Lines. A question has 8 to 16 words and an answer 20 to 100, drawn from 50,000
  words by Zipf's law, seed 0. Of the rows 2% are copies of an earlier one, and 3% an earlier one with one word of the
  answer and one mark of the question changed, where the answer is long enough that they are near-duplicates.
- `prepare` is `lbr data prepare` with its defaults (near-duplicates at 0.9, isolation by query and document) in two
  processes. `map` is what `datasets` takes to parse the same file: `load_dataset("text")`, then `map(json.loads)` in
  two processes; the time is that of both.
- Each arm runs in a process of its own, three times, interleaved. `peak_memory_gib` is the largest sum of the
  proportional set sizes (memory shared by processes counted once) of the process and its children, sampled ten times a
  second; the largest of the repeats. Rows per second are those of the file over the seconds of a step, median of the
  repeats, with the smallest and the largest of the whole beside it.
- `near_duplicates_found` and `exact_duplicates_found` are what `prepare` left out as such over what was planted. A
  near-duplicate counts as planted where it is one by the definition; which one of two is left out, does not matter.

A repeat whose result file is there is not run again. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import results
from datasets import load_dataset
from flags import program_parser

from lbr_st.cli.main import run_command
from lbr_st.data.config import PrepareConfig
from lbr_st.data.near_duplicates import THRESHOLD, shingles, similarity
from lbr_st.data.preparing import Stopwatch, prepare

PROGRAM = "data_speed"
ROWS, WORDS, PROCESSES, REPEATS = 500_000, 50_000, 2, 3
COPIES, NEAR = 0.02, 0.03
SAMPLE_SECONDS = 0.1
GIB = 2**30


def write_rows(file: Path, rows: int) -> None:
    """Write the synthetic rows; an id says what a row is: ``row``, ``copy`` or ``near``."""
    rng = np.random.default_rng(0)
    shares = np.cumsum(1 / np.arange(1, WORDS + 1))
    draw = lambda count: np.searchsorted(shares, shares[-1] * rng.random(count))  # noqa: E731
    kinds = rng.choice(["row", "copy", "near"], rows, p=[1 - COPIES - NEAR, COPIES, NEAR])
    kinds[: rows // 100] = "row"  # what others are made of
    kept: list[tuple[str, str]] = []
    with open(file, "w", encoding="utf-8") as out:
        for number, kind in enumerate(kinds):
            if kind == "row":
                lengths = rng.integers(8, 17), rng.integers(20, 101)
                question, answer = (" ".join(f"word{n}" for n in draw(length)) for length in lengths)
                question += "?"
            else:
                question, answer = kept[rng.integers(len(kept))]
            if kind == "near":
                question, changed = question.rstrip("?"), answer.split()
                changed[-1] = f"changed{number}"
                kind = "near" if _is_near(answer, " ".join(changed)) else "row"
                answer = " ".join(changed)
            elif kind == "row":
                kept.append((question, answer))
            out.write(json.dumps({"id": f"{kind}-{number}", "question": question, "answer": answer}) + "\n")


def _is_near(a: str, b: str) -> bool:
    return similarity(shingles(a), shingles(b)) >= THRESHOLD


class Peak(threading.Thread):
    """Samples the memory of this process and its children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._done = threading.Event()

    def run(self) -> None:
        """Sample until it is stopped."""
        own = psutil.Process()
        while not self._done.wait(SAMPLE_SECONDS):
            self.bytes = max(self.bytes, sum(map(_memory, [own, *own.children(recursive=True)])))

    def stop(self) -> int:
        """Return the largest sum, in bytes."""
        self._done.set()
        self.join()
        return self.bytes


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.NoSuchProcess:
        return 0


def measure(arm: str, file: Path, folder: Path) -> dict[str, Any]:
    """Measure one arm once, in this process."""
    peak = Peak()
    peak.start()
    start = time.perf_counter()
    found: dict[str, Any] = {}
    if arm == "map":
        lines = load_dataset("text", data_files=str(file), split="train", cache_dir=str(folder / "cache"))
        lines.map(lambda row: json.loads(row["text"]), remove_columns=["text"], num_proc=PROCESSES)
    else:
        watch = Stopwatch()
        prepare(PrepareConfig(sources=[file], output_dir=folder / "set", name="synthetic", num_proc=PROCESSES), watch)
        found["steps"] = watch.seconds
    found["seconds"] = time.perf_counter() - start
    found["peak_bytes"] = peak.stop()
    if arm == "prepare":
        found["about"] = json.loads((folder / "set" / "lbr_set.json").read_text(encoding="utf-8"))
    return found


def summarize() -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the figures and all that was measured."""
    prepared, mapped = ([results.read_arm(PROGRAM, arm, n) for n in range(REPEATS)] for arm in ("prepare", "map"))
    speeds = sorted(ROWS / run["seconds"] for run in prepared)
    ratios = sorted(m["seconds"] / p["seconds"] for p, m in zip(prepared, mapped, strict=True))
    figures = {
        "peak_memory_gib": round(max(run["peak_bytes"] for run in prepared) / GIB, 3),
        "peak_memory_gib_map": round(max(run["peak_bytes"] for run in mapped) / GIB, 3),
        "rows_per_second": round(statistics.median(speeds)),
        "rows_per_second_min": round(speeds[0]),
        "rows_per_second_max": round(speeds[-1]),
        "rows_per_second_map": round(statistics.median(ROWS / run["seconds"] for run in mapped)),
        "throughput_ratio_vs_map": round(statistics.median(ratios), 3),
        "throughput_ratio_vs_map_min": round(ratios[0], 3),
        "throughput_ratio_vs_map_max": round(ratios[-1], 3),
    }
    for step in prepared[0]["steps"]:
        seconds = statistics.median(run["steps"][step] for run in prepared)
        figures[f"rows_per_second_{step.replace('-', '_')}"] = round(ROWS / seconds)
    for kind, reason in (("near", "near-duplicate"), ("copy", "exact duplicate")):
        share = prepared[0]["about"]["dropped"].get(reason, 0) / prepared[0]["planted"][kind]
        figures[f"{reason.replace('-', '_').replace(' ', '_')}s_found"] = round(share, 4)
    return figures, [*prepared, *mapped]


def run_worker(arm: str, file: Path) -> dict[str, Any]:
    """Measure an arm in a process of its own."""
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        command = [sys.executable, __file__, "--worker", arm, str(file), folder]
        found = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"TMPDIR": folder}
        )
    return json.loads(found.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> None:
    """Measure what is not measured yet, and write the summary."""
    parser = program_parser(__doc__)
    parser.add_argument("--worker", nargs=3, metavar=("ARM", "FILE", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        arm, file, folder = args.worker
        print("\n" + json.dumps(measure(arm, Path(file), Path(folder))))
        return
    results.conditions()
    settings = {"rows": ROWS, "processes": PROCESSES}
    runs = [(arm, n) for n in range(REPEATS) for arm in ("prepare", "map")]
    missing = [run for run in runs if not results.is_measured(PROGRAM, *run, settings)]
    with tempfile.TemporaryDirectory() as work:
        file = Path(work, "rows.jsonl")
        if missing:
            write_rows(file, ROWS)
            with open(file, encoding="utf-8") as lines:
                kinds = [line[8:12] for line in lines]  # {"id": "copy-...
            planted = {kind: kinds.count(kind) for kind in ("copy", "near")}
        for arm, repeat in missing:
            found = run_worker(arm, file)
            print(repeat, arm, f"{found['seconds']:.0f} s, {found['peak_bytes'] / GIB:.2f} GiB", flush=True)
            results.write_arm(PROGRAM, arm, repeat, {**found, "planted": planted, "settings": settings})
    figures, arms = summarize()
    results.write_summary(PROGRAM, figures, arms, argv)


if __name__ == "__main__":
    run_command(main)
