"""Does stage 1 help a language model that can read? SmolLM2-135M on medical pairs, with stage 1 and without.

    python benchmarks/foundation_smollm2.py --data DIR_WITH_TRAIN_DEV_TEST_JSONL

Protocol, fixed before the test set was touched: that of `foundation_medical.py`, cut to what two cores can do.

- Backbone: SmolLM2-135M-Instruct, dequantized from Q4_1. Texts cut at 64 tokens, one bottleneck token, seed 0.
- Strict regime: stage 1 sees training pairs only, half of its examples SFT-style (question, answer), half
  reconstruction of answers, with the package's read-out loss; 64 steps of 32 examples, some 200,000 tokens.
- Stage 2 on the first 1,000 pairs of train.jsonl, two epochs of batches of 32, temperature 0.02, the last step.
- The learning rates are those of the first trial on this model, 2e-4 and 1e-4, tuned for no arm. Both arms share the
  backbone and every line of stage 2.
- Scores: mteb, recall@10 and nDCG@10 of the 1,500 test questions over the test documents. Beside both arms: the
  backbone as it is (mean of the last hidden states), BM25, and each dense system fused with BM25, 0.7 of its
  standardized scores and 0.3 of BM25's.
- Labels: stage 1 reads the questions of all training records with their answers (those that its steps reach), so that
  1,000 pairs are not all its labels.
- Minutes on one core, estimated before it ran: stage 1 24, stage 2 13 for each arm, scores 3 for each of 3 models: 60.

Every step resumes; an arm whose result file is there is not run again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import results
from flags import program_parser, training_settings
from foundation_medical import Study, head
from systems import assemble

from lbr_st.cli.main import run_command
from lbr_st.evaluation.fusion import AllScores, Fused
from lbr_st.evaluation.own_data import BM25, evaluate, local_task, open_for_evaluation
from lbr_st.files import sha256
from lbr_st.model.gguf import gguf_file, write_directory
from lbr_st.quickstart.run import smollm2

PROGRAM = "foundation_smollm2"
# Arm: end of the names of its figures.
ARMS = {"ibgl_cl": "", "cl": "_no_stage1", "backbone": "_backbone"}
SEED, STAGE2_PAIRS = 0, 1000
COMMON: dict[str, Any] = {
    "max_length": 64,
    "bottleneck_tokens": 1,
    "attention": "eager",
    "logging_steps": 8,
    "save_steps": 16,
    "save_total_limit": 1,
    "seed": SEED,
}
# A step of 32 examples, eight at a time: in the memory of eight.
STAGE1: dict[str, Any] = {
    "objective": "sft:0.5,reconstruct:0.5",
    "learning_rate": 2e-4,
    "max_steps": 64,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 4,
}
STAGE2: dict[str, Any] = {
    "learning_rate": 1e-4,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 32,
    "temperature": 0.02,
}


def open_arm(arm: str, study: Study) -> Any:
    """Train an arm, or go on with it, and open it for mteb."""
    if arm == "backbone":
        folder = study.work / "backbone-mean"
        mean_pooled = assemble(study.backbone, study.backbone, COMMON["max_length"], "mean")
        mean_pooled.save_pretrained(str(folder), create_model_card=False)
        return open_for_evaluation(folder)
    model = study.backbone
    if arm == "ibgl_cl":
        model = study.work / "stage1"
        study.learn(study.data / "train.jsonl", model, **STAGE1, **COMMON)
    study.align(model, study.work / arm, **STAGE2, **COMMON)
    return open_for_evaluation(study.work / arm)


def run_arm(arm: str, study: Study, lexical: AllScores) -> dict[str, Any]:
    """Score an arm alone and with BM25."""
    task = local_task(study.data / "test.jsonl")
    dense = AllScores(open_arm(arm, study))
    scores: dict[str, float] = {}
    for end, model in (("", dense), ("_fused", Fused(dense, lexical))):
        found = evaluate(model, task)
        scores |= {f"{metric}_test{end}": found[metric] for metric in ("recall_at_10", "ndcg_at_10")}
    return {"scores": scores}


def main(argv: list[str] | None = None) -> None:
    """Run all arms and write their summary."""
    parser = program_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl, dev.jsonl and test.jsonl")
    parser.add_argument("--backbone", type=Path, help="another GGUF file (default: SmolLM2 out of its package)")
    parser.add_argument("--work-dir", type=Path, default=Path("runs") / PROGRAM, help="models")
    args, flags = parser.parse_known_args(argv)
    results.conditions()
    settings = {"flags": flags, "data_sha256": sha256([args.data / f"{name}.jsonl" for name in ("train", "test")])}
    study = Study(args.data, args.work_dir, training_settings(flags), settings)
    if not all(results.is_measured(PROGRAM, arm, SEED, settings) for arm in (*ARMS, BM25)):
        study.work.mkdir(parents=True, exist_ok=True)
        file = gguf_file(args.backbone or smollm2())
        if file is not None and not study.backbone.is_dir():
            write_directory(file, study.backbone)
        head(study.data / "train.jsonl", study.pairs, STAGE2_PAIRS)
        lexical = AllScores(open_for_evaluation(BM25))
        found = evaluate(lexical, local_task(study.data / "test.jsonl"))
        scores = {f"{metric}_test": found[metric] for metric in ("recall_at_10", "ndcg_at_10")}
        results.write_arm(PROGRAM, BM25, SEED, {"scores": scores, "settings": settings})
        for arm in ARMS:
            if not results.is_measured(PROGRAM, arm, SEED, settings):
                results.write_arm(PROGRAM, arm, SEED, {**run_arm(arm, study, lexical), "settings": settings})
    ends = {**ARMS, BM25: "_bm25"}
    arms = [results.read_arm(PROGRAM, arm, SEED) for arm in ends]
    figures = {}
    for measured, end in zip(arms, ends.values(), strict=True):
        for name, value in measured["scores"].items():
            metric, fused, _ = name.partition("_fused")
            figures[f"{metric}{end}{fused}"] = round(value, 4)
    results.write_summary(PROGRAM, figures, arms, argv)


if __name__ == "__main__":
    run_command(main)
