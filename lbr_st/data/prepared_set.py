"""A prepared set on disk: which file each stage reads, and whether it is still as it was checked."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lbr_st.data.overlap import refuse_overlap
from lbr_st.data.records import read_records
from lbr_st.data.registry import mteb_tasks
from lbr_st.data.same_text import AUTO
from lbr_st.errors import InputError
from lbr_st.files import file_sha256, read_json
from lbr_st.records import FIELDS, QUERIES_FILE, SET_FILE, Record

logger = logging.getLogger(__name__)

# What each file is for.
FILES = {
    "learn": "stage 1: pairs",
    "passages": "stage 1: passages, for the objectives that read documents alone",
    "align": "stage 2: pairs",
    "dev": "chooses settings and checkpoints",
    "test": "what is reported",
    "corpus": "all passages, to be searched",
}
REGIMES = {
    "strict": "stage 1 sees training records only",
    "corpus-taught": "stage 1 also sees the passages that will be searched, never the questions of dev and test",
}


@dataclass(frozen=True)
class PreparedSet:
    """A folder that ``lbr data prepare`` or ``lbr data mine`` wrote.

    Attributes:
        folder: Path of the folder.
        about: Contents of its ``lbr_set.json``.
    """

    folder: Path
    about: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> PreparedSet | None:
        """Open the set that a folder is, or that a file is part of; None if there is none.

        Raises:
            InputError: If its ``lbr_set.json`` cannot be read.
        """
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        file = folder / SET_FILE
        if not file.is_file():
            return None
        try:
            about = read_json(file)
            _ = [about[key] for key in ("files", "objective", "isolated", "mteb", "regime", "same_text")]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} is not what lbr data prepare wrote: {error!r}") from error
        return cls(folder, about)

    @property
    def same_text(self) -> str:
        """What is the same text in it, one of `lbr_st.data.same_text.LEVELS`."""
        return self.about["same_text"]

    def __str__(self) -> str:
        counts = (f"{of['records']:,} {name}" for name, of in self.about["files"].items())
        return f"{self.folder} ({', '.join(counts)})"

    def has(self, name: str) -> bool:
        """Tell whether the set has a file, by its name in `FILES`."""
        return name in self.about["files"]

    def file(self, name: str) -> str:
        """Return the path of a file.

        Raises:
            InputError: If the set has no such file.
        """
        if not self.has(name):
            why = "; its documents have no queries" if self.about["objective"] == "reconstruct" else ""
            raise InputError(f"{self.folder} has no {name}.jsonl ({FILES[name]}){why}")
        return str(self.folder / f"{name}.jsonl")

    def was_compared(self, train: str, held_out: str) -> bool:
        """Tell whether two files were compared when the set was made, and are as they were then."""
        names = [self._name_of(train, ("learn", "align", "passages")), self._name_of(held_out, ("dev", "test"))]
        return all(name and self.is_as_made(name) for name in names)

    def is_as_made(self, name: str) -> bool:
        """Tell whether a file is as it was written."""
        return file_sha256(self.file(name)) == self.about["files"][name]["sha256"]

    def _name_of(self, file: str, names: Sequence[str]) -> str | None:
        asked = Path(file).resolve()  # however the user spells it
        return next((name for name in names if self.has(name) and Path(self.file(name)).resolve() == asked), None)


def file_of(source: str, name: str) -> str:
    """Return the file that a source means: of a prepared set the one by this name, else the source itself.

    A file of a prepared set that was changed since is named.

    Raises:
        InputError: If it is a prepared set without such a file.
    """
    own = PreparedSet.open(source)
    file = own.file(name) if own and Path(source).is_dir() else source
    stem = Path(file).stem
    is_of_it = own is not None and own.has(stem) and Path(own.file(stem)) == Path(file) and os.path.isfile(file)
    if own and is_of_it and not own.is_as_made(stem):
        logger.warning("%s was changed since its set was made: %s may not hold for it", file, SET_FILE)
    return file


def same_text_of(source: str) -> str:
    """Return what is the same text in a source, one of `lbr_st.data.same_text.LEVELS`: what a prepared set says."""
    own = PreparedSet.open(source)
    return own.same_text if own else AUTO


def describe_set(source: str) -> dict[str, Any] | None:
    """Return what a model's card says of the prepared set that it was trained on; None for other sources."""
    own = PreparedSet.open(source) if os.path.isdir(source) else None
    if own is None:
        return None
    about = own.about
    records = {name: of["records"] for name, of in about["files"].items()}
    return {key: about.get(key) for key in ("name", "regime", "isolated", "license")} | {"records": records}


def mteb_tasks_of(sources: Sequence[str], records: Iterable[Record]) -> list[str]:
    """Return the mteb tasks that test on what a model is trained on, as far as is known.

    Args:
        sources: Prepared sets, queries, files and Hub datasets, also written ``objective=FILE``.
        records: Records that are in them.
    """
    names = [source if os.path.exists(source) else source.rpartition("=")[2] for source in sources]
    prepared = [own for own in map(PreparedSet.open, names) if own]
    others = [name for name in names if not os.path.isfile(name)]
    known = {task for own in prepared for task in own.about["mteb"]} | {t for name in names for t in _of_queries(name)}
    return sorted(known | set(mteb_tasks(others, records)))


def _of_queries(file: str) -> list[str]:
    """Return the mteb tasks that a file of ``lbr data queries`` is known to come from; none of another file."""
    about = Path(file).parent / QUERIES_FILE
    if not (about.is_file() and os.path.isfile(file)):
        return []
    try:
        return list(read_json(about)["mteb"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{about} is not what lbr data queries wrote: {error!r}") from error


def refuse_overlaps(
    train: Sequence[tuple[str, Sequence[Record]]], dev: Sequence[tuple[str, Sequence[Record]]], allowed: bool
) -> None:
    """Refuse to train on what is held out: on the dev data, or on the test of the prepared set that is trained on.

    A prepared set whose files are untouched was checked when it was made.

    Args:
        train: Files that are trained on, with their records.
        dev: Files that are held out, with theirs.
        allowed: Whether the user knows, and trains all the same.

    Raises:
        InputError: If a text is on both sides.
    """
    for source, records in () if allowed else train:
        own = PreparedSet.open(source)
        fields = _isolated(own, Path(source).stem) if own else FIELDS
        for held_out, theirs in _held_out(own, dev):
            if own is None or not own.was_compared(source, held_out):
                held_out_records = read_records(held_out, ("query", "document")) if theirs is None else theirs
                refuse_overlap(records, held_out_records, held_out, fields, own.same_text if own else AUTO)


def _isolated(own: PreparedSet, name: str) -> Sequence[str]:
    may_see_documents = own.about["regime"] == "corpus-taught" and name == "passages"
    return ("query",) if may_see_documents else own.about["isolated"]


def _held_out(
    own: PreparedSet | None, dev: Sequence[tuple[str, Sequence[Record]]]
) -> list[tuple[str, Sequence[Record] | None]]:
    test = [(own.file("test"), None)] if own and own.has("test") else []
    return [*dev, *test]
