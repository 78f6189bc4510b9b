"""What an adaptation is judged by: queries of passages that no trained query belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lbr_st.adaptation.kinds import GIVEN
from lbr_st.data.same_text import same_text
from lbr_st.data.split import LARGEST_SHARE, connected
from lbr_st.data.table import content_hash
from lbr_st.errors import InputError
from lbr_st.records import FIELDS, Record

SHARE = 0.1  # of the passages with queries, half of it for dev and half for test
MOST_PASSAGES = 500  # of either
FEWEST_PASSAGES = 10  # of either: fewer say nothing
FEWEST_IN_ALL = 4 * FEWEST_PASSAGES  # with queries, as some are trained on
FEWEST_REAL = 30  # real queries of either, from which on only these are asked


class Sides(NamedTuple):
    """Queries by what they are for.

    Attributes:
        train: Queries that are trained on.
        dev: Queries that settings and checkpoints are chosen by.
        test: Queries that the verdict is about.
    """

    train: list[Record]
    dev: list[Record]
    test: list[Record]


def hold_out(rows: Sequence[Record], seed: int) -> Sides:
    """Hold a tenth of the passages out, half for dev and half for test, drawn by their text.

    Passages that share a query stay together. Very many that do are trained on, as they would be most of a side. Where
    enough of the queries of these passages are real ones, only those are asked.

    Args:
        rows: Queries with ``query``, ``document`` and ``kind``.
        seed: Of the draw.

    Raises:
        InputError: If there are too few passages with queries, or they cannot be parted.
    """
    number = len({same_text(row["document"]) for row in rows})
    if number < FEWEST_IN_ALL:
        raise InputError(
            f"{number} passages have a query, and at least {FEWEST_IN_ALL} are needed to train on some "
            "and be judged by others; give more text, --pairs, or --generator, which writes queries"
        )
    size = min(MOST_PASSAGES, max(FEWEST_PASSAGES, round(SHARE / 2 * number)))
    largest = max(1, int(LARGEST_SHARE * size))
    sides: dict[str, str] = {}
    room = {"test": size, "dev": size}
    for group in _groups(rows, seed):
        side = next((name for name, left in room.items() if len(group) <= min(left, largest)), None)
        if side is not None:
            sides |= dict.fromkeys(group, side)
            room[side] -= len(group)
    if size in room.values():
        raise InputError(
            f"no passages can be held out: more than {largest} of them hang together by the same queries; give more "
            "text, --pairs, or --generator, which writes queries"
        )
    found = Sides([], [], [])
    for row in rows:
        getattr(found, sides.get(same_text(row["document"]), "train")).append(row)
    return Sides(found.train, _real_if_enough(found.dev), _real_if_enough(found.test))


def _groups(rows: Sequence[Record], seed: int) -> list[list[str]]:
    """Return the passages that hang together by queries, as those under one heading do, in an order drawn by the text.

    Such a query would be on two sides, and would be taken out of training for all of its passages.
    """
    keys = [np.array([content_hash(same_text(row[field])) for row in rows], np.int64) for field in FIELDS]
    groups: dict[int, set[str]] = {}
    for row, group in zip(rows, connected(keys), strict=True):
        groups.setdefault(int(group), set()).add(same_text(row["document"]))
    return sorted(map(sorted, groups.values()), key=lambda texts: content_hash(str(seed), "held out", texts[0]))


def _real_if_enough(rows: list[Record]) -> list[Record]:
    real = [row for row in rows if row["kind"] == GIVEN]
    return real if len(real) >= FEWEST_REAL else rows


def kinds_in_words(rows: Sequence[Record]) -> str:
    """Say of which kinds queries are: ``120 titles, 80 written (question)``."""
    counts = Counter(row["kind"] for row in rows)
    names = {GIVEN: "real", "title": "titles"}
    return ", ".join(f"{number:,} {names.get(kind, f'written ({kind})')}" for kind, number in counts.most_common())
