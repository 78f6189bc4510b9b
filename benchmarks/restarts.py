"""Runs that write something and can be started again: what each reads, what it leaves, when that is taken for finished.

All of toy size. What a run leaves is known by the bytes of its files; of its picture and the trainer's log, which say
how fast it was, by their names.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tiny_models import TEXTS, make_backbone

import lbr_st
from lbr_st.data.config import PrepareConfig
from lbr_st.data.prepared_set import SET_FILE
from lbr_st.data.preparing import prepare
from lbr_st.files import UNFINISHED, file_sha256, write_jsonl
from lbr_st.use.encode import EncodeConfig, encode_corpus
from lbr_st.use.shards import MANIFEST

OUTPUT = "out"  # in the folder of a run
SAYS_HOW_FAST = {"training.png", "training_log.json"}
STEPS, LENGTH, PAIRS, DEV_PAIRS, PASSAGES, SHARD_ROWS = 3, 16, 12, 4, 25, 10

TRAINING: dict[str, Any] = {
    "max_length": LENGTH, "max_steps": STEPS, "save_steps": 1, "logging_steps": 1, "learning_rate": 1e-2,
    "per_device_train_batch_size": 4, "use_cpu": True, "disable_tqdm": True, "resume": True,
}  # fmt: skip
SCORED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1}
# What differs between the kinds of a run; `dev` names the held-out pairs.
LEARN: dict[str, dict[str, Any]] = {
    "learn": {"objective": "sft:0.5,reconstruct:0.5"},
    "learn-best": {"select_by": "loss", "dev": True, **SCORED},
    "learn-lora": {"lora_rank": 2, "pack_length": 48},
}
ALIGN: dict[str, dict[str, Any]] = {
    "align": {"mini_batch_size": 2},
    "align-best": {"dev": True, **SCORED},
    "align-lora": {"lora_rank": 2},
}
PREPARE: dict[str, dict[str, Any]] = {
    "prepare": {"test": 6, "dev": 4},
    "prepare-taught": {"test": "20%", "dev": 0, "regime": "corpus-taught"},
}
ENCODE: dict[str, dict[str, Any]] = {
    "encode": {"with_text": True},
    "encode-int8": {"precision": "int8"},
    "encode-ray": {"engine": "ray"},
}
SAVE = ("save", "save-over", "save-native")


class Material:
    """What the runs read, made once in a folder.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pairs, self.dev = folder / "pairs.jsonl", folder / "dev.jsonl"
        self.rows, self.corpus = folder / "rows.jsonl", folder / "corpus.jsonl"
        self.backbone, self.model = folder / "backbone", folder / "model"
        self.native, self.other = folder / "native", folder / "other"
        if not (folder / "whole").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._make()
            (folder / "whole").touch()

    def _make(self) -> None:
        write_jsonl(self.pairs, (_pair("train", n) for n in range(PAIRS)))
        write_jsonl(self.dev, (_pair("dev", n) for n in range(DEV_PAIRS)))
        rng = random.Random(0)
        words = " ".join(TEXTS).split()
        rows = [_pair("set", n, " ".join(rng.choices(words, k=12))) for n in range(50)]
        rows += [rows[3], rows[7] | {"answer": f"<p>{rows[7]['answer']}</p>"}]  # duplicates, as they are and cleaned
        write_jsonl(self.rows, rows)
        write_jsonl(self.corpus, ({"id": f"row {n}", "text": f"passage {n}" + " more" * n} for n in range(PASSAGES)))
        make_backbone(self.backbone)
        for path, tokens, ratio in ((self.model, 2, None), (self.other, 1, None), (self.native, None, 5)):
            model = lbr_st.from_backbone(
                str(self.backbone), num_bottleneck_tokens=tokens, max_seq_length=LENGTH, compression_ratio=ratio
            )
            lbr_st.save(model, path)

    @cached_property
    def to_save(self) -> dict[str, Any]:
        """The models in memory that are saved."""
        models = {"save": self.model, "save-over": self.model, "save-native": self.native}
        return {name: lbr_st.load(str(path), device="cpu") for name, path in models.items()}


def _pair(side: str, number: int, more: str = "") -> dict[str, str]:
    return {
        "id": f"{side}-{number}",
        "question": f"What is {side} {number}? {more}".strip(),
        "answer": f"{more} It is number {number} of {side}.".strip(),
    }


@dataclass(frozen=True)
class Run:
    """A run that can be started again.

    Attributes:
        name: Its kind.
        start: Starts it, or goes on with it, in a folder.
        is_finished: Tells of its output whether anybody would take it for finished.
        parts: Pattern of files of the output that are taken for finished each by itself.
        before: Lays out what is in the folder before it is started.
        old: What was there before, where that may be found as it was.
        command: Arguments of ``lbr`` that start it; None where `start` does it in this process.
    """

    name: str
    start: Callable[[Path], Any]
    is_finished: Callable[[Path], bool]
    parts: str | None = None
    before: Callable[[Path], Any] | None = None
    old: Path | None = None
    command: Callable[[Path], list[str]] | None = None

    def half_written(self, folder: Path, whole: dict[str, str]) -> str | None:
        """Return what would be taken for finished and is not, or None.

        Args:
            folder: Folder of the run.
            whole: What it leaves at its end, see `files_of`.
        """
        output = folder / OUTPUT
        if not output.is_dir():
            return None
        found = {name: hash_ for name, hash_ in files_of(output).items() if UNFINISHED not in name}
        for file in output.glob(self.parts) if self.parts else ():
            if found[file.name] != whole.get(file.name):
                return f"{file.name} is there and is not whole"
        if not self.is_finished(output):
            return None
        if self.old is not None and found == files_of(self.old):
            return None
        wrong = difference(found, whole)
        return None if wrong is None else f"it is taken for finished, and {wrong}"


def files_of(output: Path) -> dict[str, str]:
    """Return the files of an output by name, each with its hash or, where it says how fast a run was, without."""
    found = {}
    for file in sorted(output.rglob("*")):
        name = file.relative_to(output).as_posix()
        if file.is_file() and not name.startswith("checkpoints/"):
            found[name] = "" if name in SAYS_HOW_FAST else file_sha256(file)
    return found


def difference(found: dict[str, str], whole: dict[str, str]) -> str | None:
    """Return the first difference between two outputs in words, or None."""
    for name in sorted(found.keys() | whole.keys()):
        if name not in found:
            return f"{name} is not there"
        if name not in whole:
            return f"{name} is there, which an uninterrupted run does not leave"
        if found[name] != whole[name]:
            return f"{name} is not that of an uninterrupted run"
    return None


def runs_of(material: Material) -> dict[str, Run]:
    """Return all runs by name."""
    runs = [
        *(_learn(material, name, settings) for name, settings in LEARN.items()),
        *(_align(material, name, settings) for name, settings in ALIGN.items()),
        *(_prepare(material, name, settings) for name, settings in PREPARE.items()),
        *(_encode(material, name, settings) for name, settings in ENCODE.items()),
        *(_save(material, name) for name in SAVE),
    ]
    return {run.name: run for run in runs}


def _has_a_model(output: Path) -> bool:
    return (output / "config.json").is_file()


def _learn(material: Material, name: str, settings: dict[str, Any]) -> Run:
    told = {"data": [str(material.pairs)]} | _with_dev(settings, [str(material.dev)])

    def start(folder: Path) -> None:
        output = str(folder / OUTPUT)
        lbr_st.learn(lbr_st.LearnConfig(model=str(material.backbone), output_dir=output, **TRAINING, **told))

    return Run(name, start, _has_a_model)


def _align(material: Material, name: str, settings: dict[str, Any]) -> Run:
    told = {"data": str(material.pairs)} | _with_dev(settings, str(material.dev))

    def start(folder: Path) -> None:
        output = str(folder / OUTPUT)
        lbr_st.align(lbr_st.AlignConfig(model=str(material.model), output_dir=output, **TRAINING, **told))

    return Run(name, start, _has_a_model)


def _with_dev(settings: dict[str, Any], dev: Any) -> dict[str, Any]:
    told = {key: value for key, value in settings.items() if key != "dev"}
    return told | {"dev_data": dev} if "dev" in settings else told


def _prepare(material: Material, name: str, settings: dict[str, Any]) -> Run:
    def is_finished(output: Path) -> bool:
        return any(output.iterdir())

    def start(folder: Path) -> None:
        output = folder / OUTPUT
        if not (output / SET_FILE).is_file():  # a set that is there is not prepared again
            prepare(PrepareConfig(sources=[material.rows], output_dir=output, num_proc=1, **settings))

    return Run(name, start, is_finished)


def _encode(material: Material, name: str, settings: dict[str, Any]) -> Run:
    told: dict[str, Any] = {
        "model": str(material.model),
        "data": [str(material.corpus)],
        "shard_rows": SHARD_ROWS,
        "batch_tokens": 64,
    }

    def is_finished(output: Path) -> bool:
        manifest = output / MANIFEST
        return manifest.is_file() and json.loads(manifest.read_text(encoding="utf-8"))["finished"]

    def start(folder: Path) -> None:
        encode_corpus(EncodeConfig(output_dir=folder / OUTPUT, **told, **settings))

    def command(folder: Path) -> list[str]:
        flags = {"--model": told["model"], "--data": told["data"][0], "--output-dir": str(folder / OUTPUT)}
        flags |= {"--shard-rows": str(SHARD_ROWS), "--batch-tokens": "64", "--engine": "ray", "--actors": "2"}
        return ["encode", *(each for flag in flags.items() for each in flag)]

    return Run(name, start, is_finished, "part-*.parquet", command=command if name == "encode-ray" else None)


def _save(material: Material, name: str) -> Run:
    def start(folder: Path) -> None:
        lbr_st.save(material.to_save[name], folder / OUTPUT)

    def before(folder: Path) -> None:
        shutil.copytree(material.other, folder / OUTPUT)

    if name == "save-over":
        return Run(name, start, _has_a_model, before=before, old=material.other)
    return Run(name, start, _has_a_model)
