"""What does the cached loss of stage 2 save, and what does it cost?

    python benchmarks/stage2_memory.py

Protocol:

- Backbone and words as in `stage1_speed.py`: a Qwen2 of random weights, 4 layers, 256 wide, 8,192 embeddings; texts of
  random words. Every query and every document has 256 tokens. Precision: bf16 autocast on float32 weights, AdamW.
- `cached_1024` trains on 1,024 pairs a step, 32 texts at a time (`mini_batch_size=32`): two steps, as AdamW has its
  state after the first. `plain_64` and `cached_64` train on 64 pairs a step, the former on all at once: three steps, of
  which the first is not timed.
- Every measurement has a process of its own; the arms of 64 pairs are interleaved and repeated five times.
  `peak_memory_gib` is the largest resident size of the whole process. A ratio is cached over plain, taken within each
  repeat: time of a step, and memory less what the process held with everything imported and no model loaded; the
  figure is the median, with the smallest and the largest beside it.

A repeat whose result file is there is not run again. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import tempfile
from pathlib import Path
from typing import Any

import results
import torch
from flags import program_parser
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from stage1_speed import Clock, make_backbone, make_text, resident, run_worker

import lbr_st
from lbr_st.alignment.batches import training_rows
from lbr_st.alignment.losses import info_nce
from lbr_st.alignment.trainer import AlignTrainer
from lbr_st.cli.main import run_command

PROGRAM = "stage2_memory"
TOKENS, MINI_BATCH = 256, 32
# Pairs a step, steps, repeats.
ARMS = {"cached_1024": (1024, 2, 1), "plain_64": (64, 3, 5), "cached_64": (64, 3, 5)}
GIB = 2**30


def measure(arm: str, backbone: Path) -> dict[str, Any]:
    """Measure one arm once, in this process."""
    pairs, steps, _ = ARMS[arm]
    words = json.loads((backbone / "words.json").read_text())
    rng = random.Random(1)
    # A token too many: all are cut to one length.
    texts = [make_text(words, rng, TOKENS) for _ in range(2 * pairs * steps)]
    records = [{"query": q, "document": d, "negatives": []} for q, d in zip(texts[::2], texts[1::2], strict=True)]
    before = resident()
    model = lbr_st.from_backbone(str(backbone), max_seq_length=TOKENS, dtype=torch.float32)
    assert {len(row) for row in model[0].tokenize_rows(texts)} == {TOKENS}  # type: ignore[operator]
    arguments: dict[str, Any] = {
        "output_dir": str(backbone / "out"), "use_cpu": True, "bf16": True, "max_steps": steps, "report_to": "none",
        "per_device_train_batch_size": pairs, "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True,
        "learning_rate": 1e-4,
    }  # fmt: skip
    loss = info_nce(model, 0.05, mini_batch_size=MINI_BATCH if arm.startswith("cached") else None)
    trainer = AlignTrainer(model, SentenceTransformerTrainingArguments(**arguments), training_rows(records), loss=loss)
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    largest = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": statistics.mean(clock.seconds[1:]),
        "seconds_of_steps": clock.seconds,
        "peak_bytes": largest,
        "bytes": largest - before,
    }


def summarize() -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the figures and all that was measured."""
    runs = {arm: [results.read_arm(PROGRAM, arm, n) for n in range(repeats)] for arm, (_, _, repeats) in ARMS.items()}
    [large] = runs["cached_1024"]
    figures = {
        "peak_memory_gib": round(large["peak_bytes"] / GIB, 3),
        "seconds_cached_1024": round(large["seconds"], 1),
    }
    for name, unit in (("memory", "bytes"), ("time", "seconds")):
        ratios = [a[unit] / b[unit] for a, b in zip(runs["cached_64"], runs["plain_64"], strict=True)]
        for end, of in (("", statistics.median), ("_min", min), ("_max", max)):
            figures[f"{name}_ratio_cached_vs_plain_64_pairs{end}"] = round(of(ratios), 3)
    for arm in ("plain_64", "cached_64"):
        figures[f"gib_{arm}"] = round(statistics.median(run["bytes"] for run in runs[arm]) / GIB, 3)
        figures[f"seconds_{arm}"] = round(statistics.median(run["seconds"] for run in runs[arm]), 3)
    return figures, [run for of_arm in runs.values() for run in of_arm]


def main(argv: list[str] | None = None) -> None:
    """Measure what is not measured yet, and write the summary."""
    parser = program_parser(__doc__)
    parser.add_argument("--worker", nargs=2, metavar=("ARM", "BACKBONE"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        print("\n" + json.dumps(measure(args.worker[0], Path(args.worker[1]))))
        return
    results.conditions()
    settings = {"threads": torch.get_num_threads()}
    most = max(repeats for _, _, repeats in ARMS.values())
    runs = [(arm, n) for n in range(most) for arm, (_, _, repeats) in ARMS.items() if n < repeats]
    missing = [run for run in runs if not results.is_measured(PROGRAM, *run, settings)]
    with tempfile.TemporaryDirectory() as folder:
        if missing:
            make_backbone(Path(folder), "8k")
        for arm, repeat in missing:
            found = run_worker(arm, Path(folder), __file__)
            print(repeat, arm, {k: round(v, 3) for k, v in found.items() if isinstance(v, float | int)}, flush=True)
            results.write_arm(PROGRAM, arm, repeat, {**found, "settings": settings})
    figures, arms = summarize()
    results.write_summary(PROGRAM, figures, arms, argv)


if __name__ == "__main__":
    run_command(main)
