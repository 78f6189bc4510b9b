"""The whole path on what every machine has: the Python packages installed on it. No download, CPU is enough.

Each step leaves its result in the work folder and is skipped or resumed when the command is started again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from lbr_st.alignment import run as grcl
from lbr_st.cli import data as command
from lbr_st.data.parts import INSTALLED
from lbr_st.data.prepared_set import SET_FILE
from lbr_st.data.records import read_passages
from lbr_st.evaluation.own_data import evaluate, local_task, open_for_evaluation
from lbr_st.evaluation.tables import score_table
from lbr_st.files import write_json
from lbr_st.learning import run as ibgl
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.quickstart import nano
from lbr_st.use.search import format_hits, search

# Sized for some 20 minutes on one core, all steps together. Many small steps: a model of this size learns from the
# number of its updates.
TEST_PAIRS, DEV_PAIRS = "1000", "500"
MAX_LENGTH, BLOCK_LENGTH = 64, 128
NANO_STEPS, STAGE1_STEPS, STAGE2_STEPS = 900, 600, 600
NANO_BATCH, STAGE1_BATCH, STAGE2_BATCH = 8, 16, 32
# A backbone trained for minutes takes larger steps than one trained for months.
NANO_RATE = "2e-3"
STAGE_RATES = {"nano": ("1e-3", "3e-4"), "real": ("2e-5", "2e-5")}
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


def precision_flags(work_dir: Path) -> list[str]:
    """Choose the precision of all trainings once: runs that are resumed must go on in the one they began in."""
    path = work_dir / "precision.json"
    if not path.is_file():
        work_dir.mkdir(parents=True, exist_ok=True)
        write_json(path, {"bf16": torch.cuda.is_available() or bf16_is_faster()})
    return ["--bf16"] if json.loads(path.read_text(encoding="utf-8"))["bf16"] else []


def training_flags(steps: int, batch_size: int, learning_rate: str) -> list[str]:
    """Return the flags that all trainings of the quickstart share."""
    return [
        "--max-steps", str(steps), "--per-device-train-batch-size", str(batch_size), "--learning-rate", learning_rate,
        "--adam-beta2", "0.98", "--save-steps", "200", "--logging-steps", "50", "--resume",
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr quickstart``.

    Raises:
        InputError: If the installed packages give too little text, or the backbone cannot be used.
    """
    parser = argparse.ArgumentParser(prog="lbr quickstart", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", metavar="ID", help="a real language model instead, such as Qwen/Qwen2.5-0.5B")
    parser.add_argument("--baseline", action="store_true", help="train the arm without stage 1 too, and add its row")
    parser.add_argument("--output-dir", metavar="DIR", help="the model (default: lbr-model, with a backbone's name)")
    parser.add_argument("--work-dir", type=Path, default=Path("quickstart"), metavar="DIR", help="everything else")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    suffix = f"-{Path(args.backbone).name}" if args.backbone else ""
    output_dir = args.output_dir or f"lbr-model{suffix}"
    work: Path = args.work_dir
    domain, stage1 = work / "domain", work / f"stage1{suffix}"
    bm25 = open_for_evaluation("bm25")  # says now, not after the training, if its extra is missing
    precision = precision_flags(work)
    stage1_rate, stage2_rate = STAGE_RATES["real" if args.backbone else "nano"]

    step(1, "the domain: functions of the installed packages and their docstrings")
    if not (domain / SET_FILE).is_file():
        command.main(["prepare", INSTALLED, "--test", TEST_PAIRS, "--dev", DEV_PAIRS, "--output-dir", str(domain)])
    pairs = ["--data", str(domain), "--max-length", str(MAX_LENGTH)]

    backbone = args.backbone or str(work / "backbone")
    if not args.backbone:
        step(2, "a nano backbone, trained from scratch on the text of the training packages")
        text = ["--text", str(domain / "gl.jsonl"), "--block-length", str(BLOCK_LENGTH), "--output-dir", backbone]
        nano.main([*text, *training_flags(NANO_STEPS, NANO_BATCH, NANO_RATE), *precision])

    step(3, "stage 1, IB-GL: the model learns the domain through a bottleneck token")
    flags = [*training_flags(STAGE1_STEPS, STAGE1_BATCH, stage1_rate), *precision]
    ibgl.main(["--model", backbone, *pairs, "--output-dir", str(stage1), *flags])

    step(4, "stage 2, GR-CL: the model is aligned with pairs")
    flags = [*training_flags(STAGE2_STEPS, STAGE2_BATCH, stage2_rate), *precision]
    grcl.main(["--model", str(stage1), *pairs, "--output-dir", output_dir, *flags])
    arms = [("BM25", bm25), ("stage 1 + stage 2", open_for_evaluation(output_dir))]
    if args.baseline:
        step(4, "the baseline: stage 2 alone, on the same backbone")
        without = f"{output_dir}-no-stage1"
        grcl.main(["--model", backbone, *pairs, "--output-dir", without, *flags])
        arms.insert(1, ("stage 2 alone", open_for_evaluation(without)))

    step(5, "scores on packages it never saw, by mteb")
    task = local_task(domain / "test.jsonl")
    scores = {name: evaluate(model, task, results_dir=work / "results") for name, model in arms}
    print(f"\n{len(task.records)} docstrings as queries, {len(task.documents)} functions\n{score_table(scores)}")  # noqa: T201

    step(6, "a search over your own installed code")
    dtype = torch.bfloat16 if precision else torch.float32
    model = open_sentence_transformer(output_dir, model_kwargs={"dtype": dtype})
    found = search(model, read_passages(domain / "corpus.jsonl"), QUESTIONS)
    for question, hits in zip(QUESTIONS, found, strict=True):
        print(format_hits(question, hits))  # noqa: T201
    print(  # noqa: T201
        f"\nDone in {(time.perf_counter() - start) / 60:.1f} minutes. Your model:\n\n"
        "    from sentence_transformers import SentenceTransformer\n"
        f'    SentenceTransformer("{output_dir}").encode(["..."])\n\n'
        f'    lbr search --model {output_dir} --data {domain} "your question"'
    )


def step(number: int, what: str) -> None:
    """Announce a step."""
    print(f"\n[{number}/6] {what}", flush=True)  # noqa: T201
