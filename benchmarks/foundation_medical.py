"""Does stage 1 help on a domain the backbone never saw? One run with stage 1, one without, on medical pairs.

    python benchmarks/foundation_medical.py --data DIR_WITH_TRAIN_DEV_TEST_JSONL

Protocol, fixed before the test set was touched:

- Backbone: a general nano language model (`lbr nano`, 4 layers, 256 wide, 8k BPE) trained once on 20,000
  docstrings of the installed packages. It never saw the domain.
- Strict regime: stage 1 sees training pairs only. Stage 1 on all of train.jsonl, SFT-style (X = question,
  Y = answer), one epoch. Stage 2 on the first 5,000 pairs of train.jsonl, three epochs. Texts cut at 128 tokens, k = 1.
- Both arms share the backbone, every line of stage 2 and its settings. Nothing was tuned: the settings are those of
  an earlier trial on another split (lr 5e-4 and batch 32; lr 3e-4, batch 64, temperature 0.05). One seed.
- Scores: mteb, recall@10 and nDCG@10 of test questions over two corpora: the test documents, and the test and train
  documents. The dev set is only watched while stage 2 trains.

Every step resumes; an arm whose result file is there is not run again.
"""

from __future__ import annotations

import argparse
import ast
import random
import shlex
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import results
from tqdm.auto import tqdm

from lbr_st.alignment import run as grcl
from lbr_st.data.installed_packages import installed_files
from lbr_st.evaluation.own_data import evaluate
from lbr_st.files import sha256, write_jsonl, write_text
from lbr_st.learning import run as ibgl
from lbr_st.quickstart import nano
from lbr_st.cli.main import run_command

PROGRAM = "foundation_medical"
ARMS = {"ibgl_cl": "", "cl": "_no_stage1"}  # result file: suffix of its figures in the summary
SEED, STAGE2_PAIRS = 0, 5000
MIN_DOCSTRING_WORDS, DOCSTRINGS = 20, 20_000
BACKBONE = "--learning-rate 1e-3 --num-train-epochs 1 --per-device-train-batch-size 16"
STAGE1 = (
    "--objective sft --read-out-weight 0 --learning-rate 5e-4 --num-train-epochs 1 --per-device-train-batch-size 32 "
    "--train-sampling-strategy random"
)
STAGE2 = "--learning-rate 3e-4 --num-train-epochs 3 --per-device-train-batch-size 64 --temperature 0.05 --keep last"
COMMON = "--max-length 128 --bottleneck-tokens 1"


def docstrings_of_file(path: Path) -> list[str]:
    """Return the docstrings of a Python file that have at least `MIN_DOCSTRING_WORDS` words."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return []
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    texts = (ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented))
    return [text for text in texts if len(text.split()) >= MIN_DOCSTRING_WORDS]


def write_general_text(path: Path) -> None:
    """Write `DOCSTRINGS` different docstrings of the installed packages, drawn at random with a fixed seed."""
    files = [file for _, _, file in installed_files()]
    with ProcessPoolExecutor() as pool:
        found = pool.map(docstrings_of_file, files, chunksize=64)
        texts = list(dict.fromkeys(text for of_file in tqdm(found, "Docstrings", len(files)) for text in of_file))
    random.Random(0).shuffle(texts)
    write_jsonl(path, ({"text": text} for text in texts[:DOCSTRINGS]))


def score(model: Path, data: Path, work: Path) -> dict[str, float]:
    """Return recall@10 and nDCG@10 of the test questions over the test documents, and over these and the train ones."""
    scores: dict[str, float] = {}
    for corpus, extra in (("test", None), ("full", data / "train.jsonl")):
        found = evaluate(model, data / "test.jsonl", corpus_extra=extra, results_dir=work / "mteb")
        scores |= {f"{metric}_{corpus}": found[metric] for metric in ("recall_at_10", "ndcg_at_10")}
    return scores


def run_arm(arm: str, data: Path, work: Path, settings: dict[str, Any]) -> None:
    """Train one arm, score it over both corpora and write its result file."""
    model = work / "backbone"
    common = [*shlex.split(COMMON), "--seed", str(SEED), "--save-steps", "100", "--resume", *settings["flags"]]
    if arm == "ibgl_cl":
        backbone, model = model, work / f"stage1-seed{SEED}"
        args = ["--model", str(backbone), "--data", str(data / "train.jsonl"), "--output-dir", str(model)]
        ibgl.main([*args, *shlex.split(STAGE1), *common])
    final = work / f"{arm}-seed{SEED}"
    args = [
        "--model",
        str(model),
        "--data",
        str(work / "pairs.jsonl"),
        "--dev-data",
        str(data / "dev.jsonl"),
        "--allow-overlap",
    ]
    grcl.main([*args, "--output-dir", str(final), *shlex.split(STAGE2), *common])
    results.write_arm(PROGRAM, arm, SEED, {"scores": score(final, data, work), "settings": settings})


def prepare(data: Path, work: Path, flags: list[str]) -> None:
    """Make what all arms share: ``backbone`` and ``pairs.jsonl``, the pairs of stage 2, in the folder ``work``."""
    work.mkdir(parents=True, exist_ok=True)
    text = work / "docstrings.jsonl"
    if not text.is_file():
        write_general_text(text)
    args = ["--text", str(text), "--output-dir", str(work / "backbone"), "--resume"]
    nano.main([*args, *shlex.split(BACKBONE), *flags])
    lines = (data / "train.jsonl").read_text(encoding="utf-8").split("\n")
    write_text(work / "pairs.jsonl", "\n".join(lines[:STAGE2_PAIRS]) + "\n")


def main(argv: list[str] | None = None) -> None:
    """Run both arms and write their summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl, dev.jsonl and test.jsonl")
    parser.add_argument("--work-dir", type=Path, default=Path("runs") / PROGRAM, help="models and mteb's files")
    args, flags = parser.parse_known_args(argv)

    results.conditions()
    files = [args.data / f"{name}.jsonl" for name in ("train", "dev", "test")]
    settings = {"flags": flags, "data_sha256": sha256(files)}
    missing = [arm for arm in ARMS if not results.is_measured(PROGRAM, arm, SEED, settings)]
    if missing:
        prepare(args.data, args.work_dir, flags)
    for arm in missing:
        run_arm(arm, args.data, args.work_dir, settings)
    arms = [results.read_arm(PROGRAM, arm, SEED) for arm in ARMS]
    figures = {
        name + suffix: round(value, 4)
        for arm, suffix in zip(arms, ARMS.values(), strict=True)
        for name, value in arm["scores"].items()
    }
    results.write_summary(PROGRAM, figures, arms, argv)


if __name__ == "__main__":
    run_command(main)
