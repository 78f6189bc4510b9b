"""Is it worth keeping the loss of stage 1 during stage 2? The paper leaves it open.

    python benchmarks/joint.py --data DIR_WITH_TRAIN_DEV_TEST_JSONL

Protocol, fixed before the test set was touched:

- One model of stage 1: the run `sft` of `predictors.py` (300 steps on all of train.jsonl, 64 tokens, one bottleneck
  token) on the general nano backbone, which never saw medicine.
- Stage 2 as there (the first 5,000 pairs, 100 steps, batch 64, learning rate 3e-4, temperature 0.05, the last
  checkpoint), with the loss of stage 1 on the same pairs beside InfoNCE, by a weight of 0, 0.01, 0.1 and 1. Seeds 0, 1
  and 2. Nothing was tuned.
- Figures, means over the seeds with the smallest and the largest beside them: recall@10 and nDCG@10 of the test
  questions over the test documents, and the loss of stage 1 on the test pairs (nats per target token), beside that
  before stage 2.
- Minutes on one core, estimated before it ran: stage 1 is that of `predictors.py`, stage 2 with its scores 3
  times 1.7 and 9 times 3.7.

Every step resumes; an arm whose result file is there is not run again.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
from pathlib import Path
from typing import Any

import foundation_medical as medical
import predictors
import results

import lbr_st
from lbr_st.alignment import run as grcl
from lbr_st.data.records import read_records
from lbr_st.files import sha256
from lbr_st.learning.masked_model import IBGLModel
from lbr_st.model.bottleneck import bottleneck_module
from lbr_st.training.held_out import NAME, NDCG, RECALL, HeldOutEvaluator
from lbr_st.training.shared import run_command

PROGRAM = "joint"
WEIGHTS, SEEDS = ("0", "0.01", "0.1", "1"), (0, 1, 2)
RUN = "sft"
BEFORE = "before"  # the arm that is not trained


def score(model: Path, data: Path) -> dict[str, float]:
    """Return scores and loss on the test pairs."""
    opened, records = lbr_st.load(str(model)), read_records(data / "test.jsonl")
    evaluator = HeldOutEvaluator(records, batch_size=64)
    evaluator.watch(IBGLModel(bottleneck_module(opened).model), opened, records)
    found = evaluator(opened)
    return {"recall_at_10": found[RECALL], "ndcg_at_10": found[NDCG], "lm_loss": found[f"{NAME}_lm_loss"]}


def run_arm(weight: str, seed: int, data: Path, work: Path, settings: dict[str, Any]) -> None:
    """Train with one weight and seed, score it and write its result file."""
    output = work / f"joint-{weight}-seed{seed}"
    args = ["--model", str(work / RUN), "--data", str(work / "pairs.jsonl"), "--output-dir", str(output), "--resume"]
    common = [*shlex.split(predictors.COMMON), *shlex.split(predictors.STAGE2), "--seed", str(seed)]
    grcl.main([*args, *common, "--lm-weight", weight, *settings["flags"]])
    results.write_arm(PROGRAM, f"weight-{weight}", seed, {"scores": score(output, data), "settings": settings})
    shutil.rmtree(output)


def main(argv: list[str] | None = None) -> None:
    """Run what is missing and write the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl, dev.jsonl and test.jsonl")
    parser.add_argument("--work-dir", type=Path, default=Path("runs") / predictors.PROGRAM, help="models")
    args, flags = parser.parse_known_args(argv)

    results.conditions()
    files = [args.data / f"{name}.jsonl" for name in ("train", "dev", "test")]
    settings = {"flags": flags, "data_sha256": sha256(files)}
    arms = [(f"weight-{weight}", seed) for weight in WEIGHTS for seed in SEEDS]
    missing = [arm for arm in [(BEFORE, 0), *arms] if not results.is_measured(PROGRAM, *arm, settings)]
    if missing:
        medical.prepare(args.data, args.work_dir, flags)
        predictors.stage1(RUN, args.data, args.work_dir, flags)
    for arm, seed in missing:
        if arm == BEFORE:
            scores = score(args.work_dir / RUN, args.data)
            results.write_arm(PROGRAM, BEFORE, 0, {"scores": scores, "settings": settings})
        else:
            run_arm(arm.removeprefix("weight-"), seed, args.data, args.work_dir, settings)
    before = results.read_arm(PROGRAM, BEFORE, 0)
    figures = {f"{name}_{BEFORE}": value for name, value in before["scores"].items()}
    measured = {arm: results.read_arm(PROGRAM, *arm) for arm in arms}
    for weight in WEIGHTS:
        for name in before["scores"]:
            found = [measured[f"weight-{weight}", seed]["scores"][name] for seed in SEEDS]
            key = f"{name}_weight_{weight.replace('.', '_')}"
            figures |= results.spread(key, found)
    figures = {name: round(value, 4) for name, value in figures.items()}
    results.write_summary(PROGRAM, figures, [before, *measured.values()], argv)


if __name__ == "__main__":
    run_command(main)
