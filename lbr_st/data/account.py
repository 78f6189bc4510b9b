"""What was made of a source, in one line: how much was read, which columns were used, and which were not."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

logger = logging.getLogger(__name__)

MOST_NAMED = 40
_PLURALS = {"pair": "pairs", "document": "documents", "passage": "passages", "query": "queries",
            "judgement": "judgements", "interaction": "interactions", "item": "items", "user": "users"}  # fmt: skip


class Account:
    """Keeps what was read of a source, and what was left aside.

    Attributes:
        counts: Numbers of what was read: ``pair``, ``document`` (alone), ``passage``, ``query``, ``judgement``,
            ``interaction``, ``item``, ``user``.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()
        self._elements: dict[str, tuple[int, int]] = {}  # used and there, of lists
        self._is_used: dict[str, bool] = {}

    @property
    def columns(self) -> list[str]:
        """The columns that were seen."""
        return list(self._is_used)

    def see(self, columns: Iterable[str]) -> None:
        """Note the columns of a row."""
        for column in columns:
            self._is_used.setdefault(column, False)

    def use(self, columns: Iterable[str]) -> None:
        """Note columns that are used."""
        self._is_used.update(dict.fromkeys(columns, True))

    def uses(self, column: str) -> bool:
        """Tell whether a column is used."""
        return self._is_used.get(column, False)

    def count(self, kind: str, number: int = 1) -> None:
        """Count what was read: pairs, documents alone, queries, judgements."""
        self.counts[kind] += number

    def note(self, what: str, number: int = 1) -> None:
        """Note that a number of things were used in another way, or were left aside."""
        self._notes[what] += number

    def use_elements(self, path: str, used: int, there: int) -> None:
        """Note how many elements of a list are used."""
        before = self._elements.get(path, (0, 0))
        self._elements[path] = before[0] + used, before[1] + there

    def __str__(self) -> str:
        """Return the line: ``16 pairs; columns used: query, document; not used: label, meta``."""
        read = [f"{number:,} {kind if number == 1 else _PLURALS[kind]}" for kind, number in self.counts.items()]
        parts = [", ".join(read) or "no records"]
        for said, is_used in (("columns used", True), ("not used", False)):
            columns = [str(column) for column, used in self._is_used.items() if used is is_used]
            more = [f"{len(columns) - MOST_NAMED:,} more"] if len(columns) > MOST_NAMED else []
            if columns:
                parts.append(f"{said}: {', '.join([*columns[:MOST_NAMED], *more])}")
        return "; ".join([*parts, *filter(None, [self.notes])])

    @property
    def notes(self) -> str:
        """What was noted, alone."""
        counted = [f"{number:,} {what}" for what, number in self._notes.items() if number]
        lists = ((path, *elements) for path, elements in self._elements.items() if elements[0] < elements[1])
        return "; ".join([*counted, *(f"{path}: {used:,} of {there:,} elements used" for path, used, there in lists)])

    def say(self, source: object) -> None:
        """Say it of a source."""
        logger.info("%s: %s", source, self)
