"""Which learning rates suit a language model of 135 M parameters? Both stages on medical pairs, judged on dev.

    python benchmarks/learning_rates.py --data DIR_WITH_TRAIN_AND_DEV_JSONL

Protocol, fixed before it ran: the test set is not touched; strict, seed 0, texts of 64 tokens, one bottleneck token.

- Stage 1: half SFT-style, half reconstruction, of all training records, with the read-out loss; 24 steps of 32
  examples, at each of three rates. Judged by nDCG@10 on dev, as it is.
- Stage 2: the first 500 pairs, two epochs of batches of 32, temperature 0.02, the last step; at each of three rates
  from the stage 1 of the middle rate, and from the backbone at the middle one. Judged by nDCG@10 on dev. (Cut before
  they ran: the other two rates from the backbone.)
- The norm of the gradient before clipping, its median over the logged steps, stands beside each.
- Minutes on one core, estimated before it ran: stage 1 10 each, stage 2 8 each: 62.

An arm whose result file is there is not run again; ``--arms`` runs some of them, so that two processes share the work.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import results
from flags import program_parser, training_settings

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.files import sha256, write_text
from lbr_st.quickstart.run import smollm2

PROGRAM = "learning_rates"
SEED, PAIRS = 0, 500
STAGE1_RATES, STAGE2_RATES = (1e-4, 2e-4, 4e-4), (5e-5, 1e-4, 2e-4)
MIDDLE = STAGE1_RATES[1]
COMMON: dict[str, Any] = {
    "max_length": 64,
    "bottleneck_tokens": 1,
    "attention": "eager",
    "per_device_train_batch_size": 32,
    "logging_steps": 4,
    "seed": SEED,
    "resume": True,
}
STAGE1: dict[str, Any] = {"objective": "sft:0.5,reconstruct:0.5", "max_steps": 24, "save_steps": 12}
STAGE2: dict[str, Any] = {"temperature": 0.02, "num_train_epochs": 2, "save_steps": 16}
STAGE1_ARMS = {f"stage1-{rate:g}": rate for rate in STAGE1_RATES}
# Arm: model that it starts from, rate.
STAGE2_ARMS = {f"stage2-{rate:g}-from-stage1": ("stage1", rate) for rate in STAGE2_RATES}
STAGE2_ARMS[f"stage2-{STAGE2_RATES[1]:g}-from-backbone"] = ("backbone", STAGE2_RATES[1])


def gradient_norm(model: Path) -> float:
    """Return the median norm of the gradient before clipping, of the logged steps of a training."""
    log = json.loads((model / "training_log.json").read_text(encoding="utf-8"))
    return statistics.median(entry["grad_norm"] for entry in log if "grad_norm" in entry)


def run_arm(arm: str, backbone: str, data: Path, work: Path, training: dict[str, Any]) -> dict[str, Any]:
    """Train one arm and score it on dev."""
    common = {**COMMON, "output_dir": str(work / arm), **training}
    if arm in STAGE1_ARMS:
        train = str(data / "train.jsonl")
        settings = {**STAGE1, **common, "model": backbone, "data": [train], "learning_rate": STAGE1_ARMS[arm]}
        lbr_st.learn(lbr_st.LearnConfig(**settings))
    else:
        start, rate = STAGE2_ARMS[arm]
        model = backbone if start == "backbone" else str(work / f"stage1-{MIDDLE:g}")
        pairs = work / "pairs.jsonl"
        settings = {**STAGE2, **common, "model": model, "data": str(pairs), "learning_rate": rate}
        lbr_st.align(lbr_st.AlignConfig(**settings))
    found = lbr_st.evaluate(work / arm, data / "dev.jsonl", results_dir=work / "mteb")
    scores = {f"dev_{metric}": found[metric] for metric in ("recall_at_10", "ndcg_at_10")}
    return {"scores": {**scores, "gradient_norm": gradient_norm(work / arm)}}


def main(argv: list[str] | None = None) -> None:
    """Run the arms that were asked for, and write a summary of all that are there."""
    arms = [*STAGE1_ARMS, *STAGE2_ARMS]
    parser = program_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--backbone", help="language model to start from (default: SmolLM2 out of its package)")
    parser.add_argument("--work-dir", type=Path, default=Path("runs") / PROGRAM, help="models and mteb's files")
    parser.add_argument("--arms", nargs="+", choices=arms, default=arms, metavar="ARM", help=", ".join(arms))
    args, flags = parser.parse_known_args(argv)
    training = training_settings(flags)
    results.conditions()
    files = [args.data / f"{name}.jsonl" for name in ("train", "dev")]
    settings = {"flags": flags, "data_sha256": sha256(files)}
    args.work_dir.mkdir(parents=True, exist_ok=True)
    lines = (args.data / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    if not (args.work_dir / "pairs.jsonl").is_file():
        write_text(args.work_dir / "pairs.jsonl", "".join(lines[:PAIRS]))
    for arm in args.arms:
        if not results.is_measured(PROGRAM, arm, SEED, settings):
            found = run_arm(arm, args.backbone or str(smollm2()), args.data, args.work_dir, training)
            results.write_arm(PROGRAM, arm, SEED, {**found, "settings": settings})
    there = [arm for arm in arms if results.is_measured(PROGRAM, arm, SEED, settings)]
    measured = [results.read_arm(PROGRAM, arm, SEED) for arm in there]
    figures = {
        f"{name}_{arm.replace('-', '_')}": round(value, 4)
        for arm, of_arm in zip(there, measured, strict=True)
        for name, value in of_arm["scores"].items()
    }
    results.write_summary(PROGRAM, figures, measured, argv)


if __name__ == "__main__":
    run_command(main)
