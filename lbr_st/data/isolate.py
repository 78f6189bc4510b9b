"""Isolation: nothing that is tested on is in what is trained on, and the files that were written prove it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbr_st.data.config import HELD_OUT, PrepareConfig
from lbr_st.data.overlap import Overlap, count, overlaps
from lbr_st.data.table import LEFT_OUT, Table
from lbr_st.errors import InputError
from lbr_st.records import FIELDS, Record


def isolated_fields(is_choice: Sequence[bool | None], isolate: str | None) -> Sequence[str]:
    """Return the fields that must not be on two sides.

    Args:
        is_choice: Which records are of multiple choice, whose options come again and again.
        isolate: What the user says, see `PrepareConfig`.

    Raises:
        InputError: If the user says nothing, and records are of both kinds.
    """
    if isolate == "query":
        return ("query",)
    if isolate == "both" or not any(is_choice):
        return FIELDS
    if not all(is_choice):
        raise InputError("multiple choice and others in one set: say what to keep apart, --isolate query or both")
    return ("query",)


def taken_out(side: str) -> tuple[str, str]:
    """Return the reasons for which `isolate` takes records out of a side: an overlap, and a group."""
    return f"{side} overlaps what is held out", f"{side}: its group is held out"


def isolate(table: Table, isolated: Sequence[str], config: PrepareConfig) -> list[Overlap]:
    """Take out of the training side, and of dev, what is held out; return what that was.

    Args:
        table: The records; their sides and hard negatives change.
        isolated: Fields that must not be on two sides.
        config: Least similarity of near-duplicates.
    """
    fields = isolated if table.has_pairs else ("document",)
    found: list[Overlap] = []
    for trained, held_out in (("dev", ("test",)), ("train", HELD_OUT)):
        own, theirs = table.on(trained), table.on(*held_out)
        if len(own) and len(theirs):
            _keep_groups_apart(table, own, theirs, trained)
            found += _take_out(table, own[table.side[own] == trained], theirs, trained, fields, config.near_duplicates)
    return found


def _keep_groups_apart(table: Table, own: NDArray[np.int64], theirs: NDArray[np.int64], trained: str) -> None:
    group = table.dataset.data.column("group")
    held_out = {group[int(index)].as_py() for index in theirs} - {None}
    for index in own.tolist() if held_out else ():
        if group[index].as_py() in held_out:
            table.drop(taken_out(trained)[1], index)
            table.side[index] = LEFT_OUT


def _take_out(
    table: Table,
    own: NDArray[np.int64],
    theirs: NDArray[np.int64],
    trained: str,
    fields: Sequence[str],
    threshold: float,
) -> list[Overlap]:
    found: list[Overlap] = []
    rows = (record | {"id": index} for index, record in zip(own.tolist(), table.records(own), strict=True))
    for overlap in overlaps(rows, list(table.records(theirs)), fields, threshold, table.same):
        index = int(overlap.id)
        like = overlap.held_out_id, overlap.held_out
        found.append(overlap._replace(id=table.text("id", index) or ""))
        if overlap.field == "negative":
            table.drop(f"{trained}: hard negative is held out", index, overlap.text, like)
            table.negatives[index] = [text for text in table.negatives_of(index) if text != overlap.text]
        elif table.side[index] != LEFT_OUT:
            table.drop(taken_out(trained)[0], index, overlap.text, like)
            table.side[index] = LEFT_OUT
    return found


def overlaps_left(folder: Path, about: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Count, in the files of a set as they were written, what is on two sides.

    Args:
        folder: Where the files are.
        about: What ``lbr_set.json`` says, or will say: files, objective, regime, isolation and what is the same text.
    """
    has_pairs = about["objective"] != "reconstruct"

    def rows(*names: str) -> Iterator[Record]:
        for name in names:
            if name in about["files"]:
                yield from rows_of(folder / f"{name}.jsonl")

    fields = about["isolated"] if has_pairs else ("document",)
    compared: list[tuple[Sequence[str], Sequence[str]]] = [(("dev",), ("test",))]
    if has_pairs or about["regime"] == "strict":  # else what is searched is taught, and that is all
        compared.append((("learn", "align") if has_pairs else ("passages",), HELD_OUT))
    return count(
        overlap
        for own, theirs in compared
        for overlap in overlaps(rows(*own), list(rows(*theirs)), fields, about["near_duplicates"], about["same_text"])
    )


def is_isolated(left: Mapping[str, Mapping[str, int]]) -> bool:
    """Tell whether `overlaps_left` found nothing."""
    return not any(number for kinds in left.values() for number in kinds.values())


def rows_of(file: str | Path, text: str = "document") -> Iterator[Record]:
    """Yield the records of a file of a prepared set, as they were written.

    Args:
        file: The file.
        text: What each of its records has, a text.

    Raises:
        InputError: If the file was damaged: with the line.
    """
    with open(file, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                if not isinstance(record[text], str):
                    raise TypeError("no text")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InputError(f"{file}, line {number}: no record of a prepared set; prepare it again") from error
            yield record
