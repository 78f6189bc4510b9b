"""The whole path on what every machine has: the Python packages installed on it. No download, CPU is enough.

Each step leaves its result in the work folder and is skipped or resumed when the command is started again.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from lbr_st import code_domain, grcl, ibgl, nano
from lbr_st.evaluation import evaluate, local_task, open_for_evaluation, open_sentence_transformer, table
from lbr_st.records import read_passages
from lbr_st.search import format_hits, search

logger = logging.getLogger(__name__)

# Sized for at most 15 minutes on two cores, all steps together.
NANO_STEPS, NANO_LR = 200, 2e-3
STAGE1_STEPS, STAGE2_STEPS = 300, 160
MAX_LENGTH = 128
# A backbone trained for minutes takes larger steps than one trained for months.
LEARNING_RATES = {"nano": ("1e-3", "5e-4"), "real": ("2e-5", "2e-5")}
QUESTIONS = [
    "split a string into shell-like tokens",
    "compute the shortest path between two nodes of a graph",
    "parse a date written in ISO 8601 format",
]


def bf16_is_faster() -> bool:
    """Time a matrix product in bfloat16 against float32: with AVX512-BF16 or AMX it is several times faster."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(1024, 1024, dtype=dtype)
        a @ a
        start = time.perf_counter()
        for _ in range(3):
            a @ a
        seconds[dtype] = time.perf_counter() - start
    return seconds[torch.bfloat16] < seconds[torch.float32]


def training_flags(steps: int, batch_size: int, learning_rate: str) -> list[str]:
    """Return the flags that all trainings of the quickstart share."""
    precision = ["--bf16"] if torch.cuda.is_available() or bf16_is_faster() else []
    return [
        "--max-steps", str(steps), "--per-device-train-batch-size", str(batch_size), "--learning-rate", learning_rate,
        "--save-steps", "50", "--logging-steps", "20", "--resume", *precision,
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr quickstart``.

    Raises:
        InputError: If the installed packages give too little text, or the backbone cannot be used.
    """
    parser = argparse.ArgumentParser(prog="lbr quickstart", description=__doc__.splitlines()[0])
    parser.add_argument("--output-dir", default="lbr-model", metavar="DIR", help="the model (default: %(default)s)")
    parser.add_argument("--work-dir", type=Path, default=Path("quickstart"), metavar="DIR", help="everything else")
    parser.add_argument("--backbone", metavar="ID", help="a real language model, such as Qwen/Qwen2.5-0.5B")
    parser.add_argument("--baseline", action="store_true", help="train the arm without stage 1 too, and add its row")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    domain, stage1 = args.work_dir / "domain", args.work_dir / "stage1"
    stage1_lr, stage2_lr = LEARNING_RATES["real" if args.backbone else "nano"]

    step(1, "the domain: functions of the installed packages and their docstrings")
    if not (domain / "corpus.jsonl").is_file():
        code_domain.write_code_domain(domain)

    backbone = args.backbone
    if not backbone:
        step(2, "a nano backbone, trained from scratch on the text of the training packages")
        backbone = str(args.work_dir / "backbone")
        text = ["--text", str(domain / "train.jsonl"), "--output-dir", backbone]
        nano.main([*text, *training_flags(NANO_STEPS, 16, str(NANO_LR))])

    data = ["--data", str(domain / "train.jsonl"), "--max-length", str(MAX_LENGTH)]
    step(3, "stage 1, IB-GL: the model learns the domain through a bottleneck token")
    flags = training_flags(STAGE1_STEPS, 32, stage1_lr)
    ibgl.main(["--model", backbone, *data, "--output-dir", str(stage1), *flags])

    step(4, "stage 2, GR-CL: the model is aligned with pairs")
    data += ["--dev-data", str(domain / "dev.jsonl")]
    flags = training_flags(STAGE2_STEPS, 64, stage2_lr)
    grcl.main(["--model", str(stage1), *data, "--output-dir", args.output_dir, *flags])
    arms = [("bm25", "bm25"), ("lbr: stage 1 + stage 2", args.output_dir)]
    if args.baseline:
        step(4, "the baseline: stage 2 alone, on the same backbone")
        without = f"{args.output_dir}-no-stage1"
        grcl.main(["--model", backbone, *data, "--output-dir", without, *flags])
        arms.insert(1, ("stage 2 alone", without))

    step(5, "scores on packages it never saw, by mteb")
    rows = []
    for name, model in arms:
        task = local_task(domain / "test.jsonl")
        rows.append((name, evaluate(open_for_evaluation(model), task, args.work_dir / "results")))
    print(f"\n{len(task.records)} docstrings as queries, {len(task.documents)} functions\n{table(rows)}")  # noqa: T201

    step(6, "a search over your own installed code")
    found = search(open_sentence_transformer(args.output_dir), read_passages(domain / "corpus.jsonl"), QUESTIONS)
    for question, hits in zip(QUESTIONS, found, strict=True):
        print(format_hits(question, hits))  # noqa: T201
    print(  # noqa: T201
        f"\nDone in {(time.perf_counter() - start) / 60:.1f} minutes. Your model:\n\n"
        "    from sentence_transformers import SentenceTransformer\n"
        f'    SentenceTransformer("{args.output_dir}").encode(["..."])\n\n'
        f'    lbr search --model {args.output_dir} --data {domain / "corpus.jsonl"} "your question"'
    )


def step(number: int, what: str) -> None:
    """Announce a step."""
    print(f"\n[{number}/6] {what}", flush=True)  # noqa: T201
