"""Which signal of stage 1 predicts what stage 2 will make of a checkpoint?

    python benchmarks/predictors.py --data DIR_WITH_TRAIN_DEV_TEST_JSONL

Protocol, fixed before the test set was touched:

- Backbone: the general nano language model of `foundation_medical.py`, which never saw medicine.
- Stage 1: five runs of 300 steps that differ in objective or data (`RUNS`), else equal: batch 32, learning rate 5e-4,
  64 tokens, one bottleneck token, seed 0. `sft-few` reads the first 1,000 pairs of train.jsonl, the others all of
  it. Checkpoints of steps 50, 150 and 300 of each, and the backbone as it is: 16 in all.
- Signals, on the 500 pairs of dev.jsonl, before stage 2: Separation Ratio, loss of stage 1 and nats through the
  bottleneck (both with X = query, Y = document, whatever the objective was), recall@10, and alignment, uniformity and
  anisotropy beside them. More is taken for better, but for the loss, alignment, uniformity and anisotropy.
- Stage 2, the same for all: the first 5,000 pairs of train.jsonl, 100 steps, batch 64, learning rate 3e-4, temperature
  0.05, seeds 0, 1 and 2, the last checkpoint. Nothing was tuned.
- Figures: Spearman's rank correlation of each signal with recall@10 of the test questions over the test documents
  after stage 2 (mean over the seeds), over all checkpoints and over those of stage 1 alone, with 95% bootstrap
  intervals (checkpoints drawn anew, 2,000 times). What is lost by selecting with a signal: recall@10 after stage 2 of
  the best checkpoint less that of the selected one; among all, and the mean over the five runs, each among its own
  three, as `--select-by` does.
- Added when the arms were running, before a result was looked at: the number of steps as a signal (anything that grows
  with training correlates with what does too); intervals that draw whole runs, as checkpoints of one run are not
  independent; what is lost by drawing a checkpoint at random, as the best of several noisy scores is above their mean
  even where all are equal.
- Minutes on one core, estimated before it ran: stage 1 five times 3, signals 16 times 0.4, stage 2 with its
  scores 48 times 1.5.

Every step resumes; an arm whose result file is there is not run again. `--runs` measures the checkpoints of some of the
runs, so that two processes can share the work once the backbone is there; the summary is written when all are there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import foundation_medical as medical
import matplotlib.figure
import numpy as np
import results
import torch
from foundation_medical import Study
from scipy.stats import spearmanr

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records
from lbr_st.evaluation.inspect import inspect
from lbr_st.files import write_json
from lbr_st.training.held_out import NDCG, RECALL, HeldOutEvaluator

PROGRAM = "predictors"
RUNS: dict[str, dict[str, Any]] = {
    "sft": {"objective": "sft"},
    "reconstruct": {"objective": "reconstruct"},
    "prefix-suffix": {"objective": "prefix-suffix", "prefix_share": [0.2, 0.8]},
    "mixture": {"objective": "sft:0.5,reconstruct:0.5"},
    "sft-few": {"objective": "sft"},
}
BACKBONE = "backbone"  # the checkpoint without stage 1
STEPS, SEEDS, FEW = (50, 150, 300), (0, 1, 2), 1000
COMMON: dict[str, Any] = {"max_length": 64, "bottleneck_tokens": 1}
STAGE1: dict[str, Any] = {
    "learning_rate": 5e-4,
    "per_device_train_batch_size": 32,
    "save_steps": 50,
    "save_total_limit": 9,
    "seed": 0,
    "train_sampling_strategy": "random",
    "read_out_weight": 0.0,
}
STAGE2: dict[str, Any] = {
    "learning_rate": 3e-4,
    "max_steps": 100,
    "per_device_train_batch_size": 64,
    "temperature": 0.05,
    "save_strategy": "no",
}
# Whether more of a signal is taken for better.
SIGNALS = {
    "Separation Ratio": True,
    "loss": False,
    "nats": True,
    "recall@10": True,
    "alignment": False,
    "uniformity": False,
    "anisotropy": False,
    "steps": True,
}
RESAMPLES = 2000


def checkpoints(run: str) -> list[str]:
    """Return the names of a run's checkpoints."""
    return [BACKBONE] if run == BACKBONE else [f"{run}-{step}" for step in STEPS]


def stage1(run: str, study: Study) -> None:
    """Train a run of stage 1."""
    if run == BACKBONE:
        torch.manual_seed(0)  # of the rows of the new tokens
        model = lbr_st.from_backbone(str(study.backbone), num_bottleneck_tokens=1, max_seq_length=64)
        lbr_st.save(model, path_of(BACKBONE, study.work))
        return
    train = study.data / "train.jsonl"
    if run == "sft-few":
        train = study.work / "few.jsonl"
        medical.head(study.data / "train.jsonl", train, FEW)
    study.learn(train, study.work / run, **RUNS[run], **COMMON, **STAGE1, max_steps=max(STEPS))


def path_of(checkpoint: str, work: Path) -> Path:
    """Return the directory of a checkpoint."""
    run, _, step = checkpoint.rpartition("-")
    return work / run / "checkpoints" / f"checkpoint-{step}" if run else work / checkpoint / "model"


def signals_of(checkpoint: str, study: Study) -> dict[str, float]:
    """Return the signals of a checkpoint; measured once for all seeds."""
    file = study.work / "signals" / f"{checkpoint}.json"
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        model = lbr_st.load(str(path_of(checkpoint, study.work)))
        write_json(file, inspect(model, read_records(study.data / "dev.jsonl"), batch_size=64))
    return json.loads(file.read_text(encoding="utf-8"))


def run_arm(checkpoint: str, seed: int, study: Study) -> None:
    """Take a checkpoint through stage 2 with one seed, score it and write its result file."""
    signals = signals_of(checkpoint, study)
    output = study.work / f"stage2-{checkpoint}-seed{seed}"
    study.align(path_of(checkpoint, study.work), output, **COMMON, **STAGE2, seed=seed)
    found = HeldOutEvaluator(read_records(study.data / "test.jsonl"), batch_size=64)(lbr_st.load(str(output)))
    scores = {"recall_at_10": found[RECALL], "ndcg_at_10": found[NDCG]}
    results.write_arm(PROGRAM, checkpoint, seed, {"signals": signals, "scores": scores, "settings": study.settings})
    shutil.rmtree(output)  # tens of them


def steps_of(checkpoint: str) -> int:
    """Return after how many steps of stage 1 a checkpoint was taken."""
    return 0 if checkpoint == BACKBONE else int(checkpoint.rpartition("-")[2])


def correlation(signal: np.ndarray, after: np.ndarray) -> float:
    """Return Spearman's correlation; 0 where all of one are equal and there are no ranks."""
    return float(spearmanr(signal, after)[0]) if len(set(signal)) > 1 and len(set(after)) > 1 else 0.0


def interval(signal: np.ndarray, after: np.ndarray, groups: Sequence[Sequence[int]]) -> dict[str, float]:
    """Return the bootstrap interval of Spearman's correlation, with groups of checkpoints drawn anew."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        drawn = [row for group in generator.integers(len(groups), size=len(groups)) for row in groups[group]]
        found.append(correlation(signal[drawn], after[drawn]))
    low, high = np.quantile(found, [0.025, 0.975])
    return {"_low": float(low), "_high": float(high)}


def figures_of(signals: dict[str, dict[str, float]], recall: dict[str, float]) -> dict[str, float]:
    """Return the figures of the summary.

    Args:
        signals: By checkpoint.
        recall: Of each checkpoint after stage 2.
    """
    names = list(recall)
    after = np.array([recall[name] for name in names])
    runs = [[names.index(name) for name in checkpoints(run)] for run in RUNS]
    of_stage1 = [row for run in runs for row in run]
    figures: dict[str, float] = {}
    for signal, more_is_better in SIGNALS.items():
        values = np.array([signals[name][signal] for name in names]) * (1 if more_is_better else -1)
        key = signal.lower().replace(" ", "_").replace("@", "_at_")
        for suffix, rows in (("", list(range(len(names)))), ("_stage1_alone", of_stage1)):
            name = f"spearman_{key}{suffix}"
            figures[name] = correlation(values[rows], after[rows])
            found = interval(values, after, [[row] for row in rows])
            figures |= {f"{name}{end}": value for end, value in found.items()}
        found = interval(values, after, runs)
        figures |= {f"spearman_{key}_stage1_alone_by_run{end}": value for end, value in found.items()}
        figures[f"lost_by_{key}"] = float(after.max() - after[values.argmax()])
        lost = [after[rows].max() - after[rows][values[rows].argmax()] for rows in runs]
        figures[f"lost_by_{key}_within_a_run"] = float(np.mean(lost))
    figures["lost_by_chance"] = float(after.max() - after.mean())
    figures["lost_by_chance_within_a_run"] = float(np.mean([after[rows].max() - after[rows].mean() for rows in runs]))
    figures |= {f"recall_at_10_{name.replace('-', '_')}": value for name, value in recall.items()}
    return {name: round(value, 4) for name, value in figures.items()}


def draw(signals: dict[str, dict[str, float]], recall: dict[str, float], path: Path) -> None:
    """Draw recall@10 after stage 2 over each signal before it."""
    figure = matplotlib.figure.Figure(figsize=(11, 6), layout="constrained")
    for axes, signal in zip(figure.subplots(2, 4).flat, SIGNALS, strict=True):
        for run in [*RUNS, BACKBONE]:
            points = [(signals[name][signal], recall[name]) for name in checkpoints(run)]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=run)
        axes.set_xlabel(signal)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("recall@10 after stage 2")
    figure.axes[4].set_ylabel("recall@10 after stage 2")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(RUNS) + 1)
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, and write the summary when all is there."""
    everything = [BACKBONE, *RUNS]
    parser = medical.study_parser(__doc__, PROGRAM)
    parser.add_argument("--runs", nargs="+", choices=everything, default=everything, help="(default: all)")
    args, flags = parser.parse_known_args(argv)
    study = medical.begin(args.data, args.work_dir, flags)

    def missing(runs: Sequence[str]) -> list[tuple[str, int]]:
        arms = [(name, seed) for run in runs for name in checkpoints(run) for seed in SEEDS]
        return [arm for arm in arms if not results.is_measured(PROGRAM, *arm, study.settings)]

    for run in args.runs:
        arms = missing([run])
        if arms:
            medical.prepare(study)
            stage1(run, study)
        for name, seed in arms:
            run_arm(name, seed, study)
    if left := missing(everything):
        print(f"{len(left)} arms are still to be measured, the summary is written after them")
        return
    names = [name for run in everything for name in checkpoints(run)]
    measured = {name: [results.read_arm(PROGRAM, name, seed) for seed in SEEDS] for name in names}
    signals = {name: measured[name][0]["signals"] | {"steps": steps_of(name)} for name in names}
    recall = {name: float(np.mean([arm["scores"]["recall_at_10"] for arm in measured[name]])) for name in names}
    draw(signals, recall, results.RESULTS / PROGRAM / "predictors.png")
    of_all = [arm for of_checkpoint in measured.values() for arm in of_checkpoint]
    results.write_summary(PROGRAM, figures_of(signals, recall), of_all, argv)


if __name__ == "__main__":
    run_command(main)
