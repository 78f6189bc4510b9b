"""What an adaptation is judged by: queries of passages that no trained query belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from lbr_st.adaptation.kinds import GIVEN
from lbr_st.data.same_text import same_text
from lbr_st.data.table import content_hash
from lbr_st.errors import InputError
from lbr_st.records import Record

SHARE = 0.1  # of the passages with queries, half of it for dev and half for test
MOST_PASSAGES = 500  # of either
FEWEST_PASSAGES = 10  # of either: fewer say nothing
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

    Where enough of the queries of these passages are real ones, only those are asked.

    Args:
        rows: Queries with ``query``, ``document`` and ``kind``.
        seed: Of the draw.

    Raises:
        InputError: If there are too few passages with queries.
    """
    passages = sorted(
        {same_text(row["document"]) for row in rows}, key=lambda text: content_hash(str(seed), "held out", text)
    )
    size = min(MOST_PASSAGES, max(FEWEST_PASSAGES, round(SHARE / 2 * len(passages))))
    if len(passages) < 4 * FEWEST_PASSAGES:
        raise InputError(
            f"{len(passages)} passages have a query, and at least {4 * FEWEST_PASSAGES} are needed to train on some "
            "and be judged by others; give more text, --pairs, or --generator, which writes queries"
        )
    test, dev = {*passages[:size]}, {*passages[size : 2 * size]}
    sides = Sides([], [], [])
    for row in rows:
        text = same_text(row["document"])
        (sides.test if text in test else sides.dev if text in dev else sides.train).append(row)
    return Sides(sides.train, _real_if_enough(sides.dev), _real_if_enough(sides.test))


def _real_if_enough(rows: list[Record]) -> list[Record]:
    real = [row for row in rows if row["kind"] == GIVEN]
    return real if len(real) >= FEWEST_REAL else rows


def kinds_in_words(rows: Sequence[Record]) -> str:
    """Say of which kinds queries are: ``120 titles, 80 written (question)``."""
    counts = Counter(row["kind"] for row in rows)
    names = {GIVEN: "real", "title": "titles"}
    return ", ".join(f"{number:,} {names.get(kind, f'written ({kind})')}" for kind, number in counts.most_common())
