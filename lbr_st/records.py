"""Reading question-answer files: JSON Lines in, records ``{"id", "query", "document"}`` out."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import load_dataset

from lbr_st.errors import InputError

# The names a field goes by, in the order they are looked for.
COLUMNS = {
    "query": ("query", "question", "anchor"),
    "document": ("document", "answer", "positive", "passage", "text"),
}
TEXT_SUFFIXES = {".txt", ".md", ".rst", ".py"}
PASSAGE_CHARACTERS = 1500
NEGATIVES = re.compile(r"negatives?(_\d+)?", re.IGNORECASE)
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(?<!\.jsonl)(:[\w.]+)?")

Record = dict[str, Any]


def read_records(path: str | Path, fields: Sequence[str] = ("query", "document")) -> list[Record]:
    """Read a JSON Lines file of question-answer pairs, or of documents alone.

    Args:
        path: UTF-8 file with one JSON object a line. A field is found under any of its usual names (`COLUMNS`), in
            capitals or not. A name with one slash that is no file is a Hub dataset, of which the split ``train`` is
            read; ``owner/name:split`` reads another.
        fields: Which of ``query`` and ``document`` every line must have.

    Returns:
        One record a line, with the fields asked for and an ``id``: the line's own, else its number; where an id
        comes again, ``id#line``.

    Raises:
        InputError: If the file cannot be read, or a line does not parse, lacks a field or has an empty text. The
            message names file, line and column.
    """
    return [record for _, _, record in _parse_records(path, fields)]


def _parse_records(path: str | Path, fields: Sequence[str]) -> Iterator[tuple[int, dict[str, Any], Record]]:
    """Yield (line number, what is there, record)."""
    is_on_hub = not os.path.isfile(path) and HUB_ID.fullmatch(str(path))
    rows = list(_hub_rows(str(path)) if is_on_hub else _parse_lines(Path(path)))
    if not rows:
        raise InputError(f"{path}: no records")
    columns = {field: _find_column(path, field, rows[0][1]) for field in fields}
    seen: set[str] = set()
    for number, row in rows:
        id_ = str(row.get("id", number))
        record = {"id": id_ if id_ not in seen else f"{id_}#{number}"}
        seen.add(record["id"])
        for field, column in columns.items():
            if column not in row:
                raise InputError(f"{path}, line {number}: no column {column!r} (found: {', '.join(row)})")
            record[field] = _text_of(path, number, column, row[column])
        yield number, row, record


def _text_of(path: str | Path, number: int, column: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{path}, line {number}, column {column!r}: expected text, found {json.dumps(value)[:40]}")
    if not value.strip():
        raise InputError(f"{path}, line {number}, column {column!r}: the text is empty")
    return value


def read_tuples(path: str | Path) -> list[Record]:
    """Read pairs, triplets or n-tuples: what stage 2 learns from.

    Args:
        path: See `read_records`. Hard negatives are texts under ``negative``, ``negative_1`` ..., or a list of texts
            under ``negatives``; null is none.

    Returns:
        Records with ``id``, ``query``, ``document`` and ``negatives``, a list of texts that may be empty.

    Raises:
        InputError: See `read_records`; and if a negative is no text.
    """
    records = []
    for number, row, record in _parse_records(path, ("query", "document")):
        columns = sorted(filter(NEGATIVES.fullmatch, row), key=lambda name: int((re.findall(r"\d+", name) or [0])[0]))
        negatives: list[str] = []
        for column in columns:
            values = row[column] if isinstance(row[column], list) else [row[column]]
            negatives += (_text_of(path, number, column, value) for value in values if value is not None)
        records.append(record | {"negatives": negatives})
    return records


def _hub_rows(source: str) -> Iterable[tuple[int, dict[str, Any]]]:
    name, _, split = source.partition(":")
    try:
        dataset = load_dataset(name, split=split or "train")
    except Exception as error:  # of many libraries: no network, no such dataset, no such split, a gated one
        raise InputError(f"{source}: no such file, and no dataset of the Hub that can be read: {error}") from error
    return enumerate(dataset, start=1)


def _parse_lines(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder, a file is needed' if path.is_dir() else 'no such file'}")
    number = 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                row = json.loads(line.rstrip())
                if not isinstance(row, dict):
                    raise InputError(f"{path}, line {number}: expected a JSON object, found {line.strip()[:40]}")
                yield number, row
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {number}, column {error.colno}: not JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, after line {number}: not UTF-8: {error.reason}") from error


def _find_column(path: str | Path, field: str, row: dict[str, Any]) -> str:
    columns = {column.lower(): column for column in row}
    for column in COLUMNS[field]:
        if column in columns:
            return columns[column]
    raise InputError(
        f"{path}: no column for the {field}; found: {', '.join(row)}; looked for: {', '.join(COLUMNS[field])}"
    )


def read_texts(paths: Iterable[str | Path]) -> list[str]:
    """Read raw text to train a language model on.

    Args:
        paths: JSON Lines files (the query and document of a line become one text), text files, or folders of both.

    Raises:
        InputError: If a path does not exist, a file cannot be read, or there is no text at all.
    """
    texts: list[str] = []
    for path in map(Path, paths):
        for file in _files(path, {".jsonl", *TEXT_SUFFIXES}):
            if file.suffix != ".jsonl":
                texts.append(_read_text(file))
                continue
            for _, row in _parse_lines(file):
                names = [name for columns in COLUMNS.values() for name in columns if isinstance(row.get(name), str)]
                texts.append("\n".join(row[name] for name in names))
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise InputError(f"no text in {', '.join(map(str, paths))}")
    return texts


def read_passages(path: str | Path) -> list[Record]:
    """Read what is to be searched: a JSON Lines file of documents, or a folder of text files.

    Args:
        path: JSON Lines file, or a folder; its text files are cut at blank lines into passages of about
            ``PASSAGE_CHARACTERS`` characters.

    Returns:
        Records with ``id`` (for a folder: file and line the passage starts at) and ``document``.

    Raises:
        InputError: See `read_records`; and if a folder holds no text.
    """
    path = Path(path)
    if not path.is_dir():
        return read_records(path, fields=("document",))
    passages = []
    for file in _files(path, TEXT_SUFFIXES):
        for line, text in _cut(_read_text(file)):
            passages.append({"id": f"{file.relative_to(path)}:{line}", "document": text})
    if not passages:
        raise InputError(f"{path}: no text in files that end in {', '.join(sorted(TEXT_SUFFIXES))}")
    return passages


def _files(path: Path, suffixes: set[str]) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file() and file.suffix in suffixes)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    return [path]


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8: {error.reason} at byte {error.start}") from error


def _cut(text: str) -> Iterable[tuple[int, str]]:
    """Yield (first line number, passage), cutting at blank lines."""
    start, passage = 1, ""
    line = 1
    for paragraph in text.split("\n\n"):
        if passage.strip() and len(passage) + len(paragraph) > PASSAGE_CHARACTERS:
            yield start, passage.strip("\n")
            start, passage = line, ""
        passage += paragraph + "\n\n"
        line += paragraph.count("\n") + 2
    if passage.strip():
        yield start, passage.strip("\n")
