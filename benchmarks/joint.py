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

import shutil
from pathlib import Path

import foundation_medical as medical
import predictors
import results
from foundation_medical import Study

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.measures import LanguageModelEvaluator
from lbr_st.model.bottleneck import bottleneck_module
from lbr_st.training.held_out import NDCG, RECALL, HeldOutEvaluator

PROGRAM = "joint"
WEIGHTS, SEEDS = ("0", "0.01", "0.1", "1"), (0, 1, 2)
RUN = "sft"
BEFORE = "before"  # the arm that is not trained


def score(model: Path, study: Study) -> dict[str, float]:
    """Return scores and loss on the test pairs."""
    opened, records = lbr_st.load(str(model)), read_records(study.data / "test.jsonl")
    found = HeldOutEvaluator(records, batch_size=64)(opened)
    measure_loss = LanguageModelEvaluator(CutOffModel(bottleneck_module(opened).model), opened, records, batch_size=64)
    [loss] = measure_loss(opened).values()
    return {"recall_at_10": found[RECALL], "ndcg_at_10": found[NDCG], "lm_loss": loss}


def run_arm(weight: str, seed: int, study: Study) -> None:
    """Train with one weight and seed, score it and write its result file."""
    output = study.work / f"joint-{weight}-seed{seed}"
    settings = {**predictors.COMMON, **predictors.STAGE2, "seed": seed, "lm_weight": float(weight)}
    study.align(study.work / RUN, output, **settings)
    found = {"scores": score(output, study), "settings": study.settings}
    results.write_arm(PROGRAM, f"weight-{weight}", seed, found)
    shutil.rmtree(output)


def main(argv: list[str] | None = None) -> None:
    """Run what is missing and write the summary."""
    args, flags = medical.study_parser(__doc__, predictors.PROGRAM).parse_known_args(argv)
    study = medical.begin(args.data, args.work_dir, flags)
    arms = [(f"weight-{weight}", seed) for weight in WEIGHTS for seed in SEEDS]
    missing = [arm for arm in [(BEFORE, 0), *arms] if not results.is_measured(PROGRAM, *arm, study.settings)]
    if missing:
        medical.prepare(study)
        predictors.stage1(RUN, study)
    for arm, seed in missing:
        if arm == BEFORE:
            scores = score(study.work / RUN, study)
            results.write_arm(PROGRAM, BEFORE, 0, {"scores": scores, "settings": study.settings})
        else:
            run_arm(arm.removeprefix("weight-"), seed, study)
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
