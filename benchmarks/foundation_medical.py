"""Does stage 1 help on a domain the backbone never saw? One run with stage 1, one without, on medical pairs.

    python benchmarks/foundation_medical.py --data DIR_WITH_TRAIN_DEV_TEST_JSONL

Protocol, fixed before the test set was touched:

- Backbone: a general nano language model (4 layers, 256 wide, 8k BPE) trained once on 20,000
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
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import results
from flags import program_parser, training_settings
from nano import NanoConfig, train_backbone
from tqdm.auto import tqdm

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.data.installed_packages import installed_files
from lbr_st.files import sha256, write_jsonl, write_text

PROGRAM = "foundation_medical"
ARMS = {"ibgl_cl": "", "cl": "_no_stage1"}  # result file: suffix of its figures in the summary
SEED, STAGE2_PAIRS = 0, 5000
MIN_DOCSTRING_WORDS, DOCSTRINGS = 20, 20_000
# Settings of the backbone, of both stages, and what these have in common.
BACKBONE: dict[str, Any] = {"learning_rate": 1e-3, "num_train_epochs": 1, "per_device_train_batch_size": 16}
COMMON: dict[str, Any] = {"max_length": 128, "bottleneck_tokens": 1}
STAGE1: dict[str, Any] = {
    "objective": "sft",
    "read_out_weight": 0.0,
    "learning_rate": 5e-4,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 32,
    "train_sampling_strategy": "random",
}
STAGE2: dict[str, Any] = {
    "learning_rate": 3e-4,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 64,
    "temperature": 0.05,
    "keep": "last",
}


@dataclass(frozen=True)
class Study:
    """Where a study of medicine is run, and with what.

    Attributes:
        data: Folder with train.jsonl, dev.jsonl and test.jsonl.
        work: Folder of the models and of mteb's files.
        training: What the user says of every training run.
        settings: What the result files carry: that, as it was typed, and the data.
    """

    data: Path
    work: Path
    training: dict[str, Any]
    settings: dict[str, Any]

    @property
    def backbone(self) -> Path:
        """Folder of the backbone, see `prepare`."""
        return self.work / "backbone"

    @property
    def pairs(self) -> Path:
        """Pairs of stage 2, see `prepare`."""
        return self.work / "pairs.jsonl"

    def learn(self, data: Path, output: Path, **settings: Any) -> None:
        """Run stage 1 on the backbone, or go on with it."""
        files: dict[str, Any] = {"model": str(self.backbone), "data": [str(data)], "output_dir": str(output)}
        lbr_st.learn(lbr_st.LearnConfig(**{**files, "resume": True, **settings, **self.training}))

    def align(self, model: Path, output: Path, **settings: Any) -> None:
        """Run stage 2 on `pairs`, or go on with it."""
        files: dict[str, Any] = {"model": str(model), "data": str(self.pairs), "output_dir": str(output)}
        lbr_st.align(lbr_st.AlignConfig(**{**files, "resume": True, **settings, **self.training}))


def study_parser(about: str | None, program: str) -> argparse.ArgumentParser:
    """Return a parser of the arguments that all studies of medicine have."""
    parser = program_parser(about)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl, dev.jsonl and test.jsonl")
    parser.add_argument("--work-dir", type=Path, default=Path("runs") / program, help="models and mteb's files")
    return parser


def begin(data: Path, work: Path, flags: Sequence[str]) -> Study:
    """Return a study.

    Args:
        data: Folder with train.jsonl, dev.jsonl and test.jsonl.
        work: Folder of the models.
        flags: What the user says of every training run.

    Raises:
        InputError: If an argument is unknown.
    """
    training = training_settings(flags)
    results.conditions()
    files = [data / f"{name}.jsonl" for name in ("train", "dev", "test")]
    return Study(data, work, training, {"flags": list(flags), "data_sha256": sha256(files)})


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


def head(source: Path, target: Path, lines: int) -> None:
    """Write the first lines of a file to another."""
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, "\n".join(source.read_text(encoding="utf-8").split("\n")[:lines]) + "\n")


def prepare(study: Study) -> None:
    """Make what all arms share, once: the backbone, and the pairs of stage 2."""
    study.work.mkdir(parents=True, exist_ok=True)
    text = study.work / "docstrings.jsonl"
    if not text.is_file():
        write_general_text(text)
    settings = {**BACKBONE, **study.training}
    train_backbone(NanoConfig(text=[str(text)], output_dir=str(study.backbone), resume=True, **settings))
    head(study.data / "train.jsonl", study.pairs, STAGE2_PAIRS)


def score(model: Path, study: Study) -> dict[str, float]:
    """Return recall@10 and nDCG@10 of the test questions over the test documents, and over these and the train ones."""
    scores: dict[str, float] = {}
    for corpus, extra in (("test", None), ("full", study.data / "train.jsonl")):
        found = lbr_st.evaluate(model, study.data / "test.jsonl", corpus_extra=extra, results_dir=study.work / "mteb")
        scores |= {f"{metric}_{corpus}": found[metric] for metric in ("recall_at_10", "ndcg_at_10")}
    return scores


def run_arm(arm: str, study: Study) -> None:
    """Train one arm, score it over both corpora and write its result file."""
    common = {**COMMON, "seed": SEED, "save_steps": 100}
    model = study.backbone
    if arm == "ibgl_cl":
        model = study.work / f"stage1-seed{SEED}"
        study.learn(study.data / "train.jsonl", model, **STAGE1, **common)
    final = study.work / f"{arm}-seed{SEED}"
    study.align(model, final, dev_data=str(study.data / "dev.jsonl"), allow_overlap=True, **STAGE2, **common)
    results.write_arm(PROGRAM, arm, SEED, {"scores": score(final, study), "settings": study.settings})


def main(argv: list[str] | None = None) -> None:
    """Run both arms and write their summary."""
    args, flags = study_parser(__doc__, PROGRAM).parse_known_args(argv)
    study = begin(args.data, args.work_dir, flags)
    missing = [arm for arm in ARMS if not results.is_measured(PROGRAM, arm, SEED, study.settings)]
    if missing:
        prepare(study)
    for arm in missing:
        run_arm(arm, study)
    arms = [results.read_arm(PROGRAM, arm, SEED) for arm in ARMS]
    figures = {
        name + suffix: round(value, 4)
        for arm, suffix in zip(arms, ARMS.values(), strict=True)
        for name, value in arm["scores"].items()
    }
    results.write_summary(PROGRAM, figures, arms, argv)


if __name__ == "__main__":
    run_command(main)
