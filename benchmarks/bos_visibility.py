"""BOS precedes X and carries nothing of it. What changes when stage 1 hides it from the target too?

    python benchmarks/bos_visibility.py --data DIR_WITH_TRAIN_DEV_TEST_JSONL

Protocol, fixed before the test set was touched:

- Backbone: the general nano language model of `foundation_medical.py`, trained with a BOS token before every text.
- Two arms, equal but for `--hide-bos`: stage 1 on all of train.jsonl (SFT-style, one epoch), stage 2 on the first
  5,000 pairs (three epochs), with the settings of `foundation_medical.py`. Seeds 0, 1 and 2.
- Figures, means over the seeds with the smallest and the largest beside them: the loss of stage 1 on dev.jsonl at its
  end (nats per target token, each arm under its own mask), and recall@10 and nDCG@10 of test questions after stage 2,
  through mteb, over the test documents and over test and train documents.

Every step resumes; an arm whose result file is there is not run again. `--seeds` runs some of the seeds.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

import foundation_medical as medical
import results

from lbr_st.alignment import run as grcl
from lbr_st.files import sha256
from lbr_st.learning import run as ibgl
from lbr_st.training.shared import run_command

PROGRAM = "bos_visibility"
ARMS = {"visible": [], "hidden": ["--hide-bos"]}
SEEDS = (0, 1, 2)


def run_arm(arm: str, seed: int, data: Path, work: Path, settings: dict[str, Any]) -> None:
    """Train one arm with one seed, score it and write its result file."""
    common = [*shlex.split(medical.COMMON), "--seed", str(seed), "--save-steps", "100", "--resume", *settings["flags"]]
    dev = ["--dev-data", str(data / "dev.jsonl"), "--allow-overlap"]
    stage1, final = work / f"stage1-{arm}-seed{seed}", work / f"{arm}-seed{seed}"
    args = ["--model", str(work / "backbone"), "--data", str(data / "train.jsonl"), "--output-dir", str(stage1), *dev]
    ibgl.main([*args, *shlex.split(medical.STAGE1), *ARMS[arm], *common])
    args = ["--model", str(stage1), "--data", str(work / "pairs.jsonl"), "--output-dir", str(final), *dev]
    grcl.main([*args, *shlex.split(medical.STAGE2), *common])
    log = json.loads((stage1 / "training_log.json").read_text(encoding="utf-8"))
    dev_loss = [entry["eval_loss"] for entry in log if "eval_loss" in entry][-1]
    scores = {"stage1_dev_loss": dev_loss, **medical.score(final, data, work)}
    results.write_arm(PROGRAM, arm, seed, {"scores": scores, "settings": settings})


def main(argv: list[str] | None = None) -> None:
    """Run all arms and seeds and write their summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl, dev.jsonl and test.jsonl")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--work-dir", type=Path, default=Path("runs") / PROGRAM, help="models and mteb's files")
    args, flags = parser.parse_known_args(argv)

    results.conditions()
    files = [args.data / f"{name}.jsonl" for name in ("train", "dev", "test")]
    settings = {"flags": flags, "data_sha256": sha256(files)}
    runs = [(arm, seed) for seed in args.seeds for arm in ARMS]
    missing = [run for run in runs if not results.is_measured(PROGRAM, *run, settings)]
    if missing:
        medical.prepare(args.data, args.work_dir, [*flags, "--bos"])
    for arm, seed in missing:
        run_arm(arm, seed, args.data, args.work_dir, settings)
    measured = {arm: [results.read_arm(PROGRAM, arm, seed) for seed in args.seeds] for arm in ARMS}
    figures = {}
    for arm, of_arm in measured.items():
        for name in of_arm[0]["scores"]:
            found = [result["scores"][name] for result in of_arm]
            figures[f"{name}_{arm}"] = round(sum(found) / len(found), 4)
            figures |= {f"{name}_{arm}_min": round(min(found), 4), f"{name}_{arm}_max": round(max(found), 4)}
    arms = [result for of_arm in measured.values() for result in of_arm]
    results.write_summary(PROGRAM, figures, arms, argv)


if __name__ == "__main__":
    run_command(main)
