"""A row of a source, and what its cells stand for that are no text: deleted posts, escapes of Excel, NaN."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from lbr_st.errors import RowError

# What sites put in the place of a text that is gone, also in JSON.
GONE = frozenset(
    f"[{said}]" for said in ("deleted", "removed", "deleted by user", "deleted by moderator", "removed by reddit",
                             "removed by moderator", " removed by reddit ", " removed by moderator ", "unavailable")
)  # fmt: skip
LONGEST_GONE = 40  # with spaces around it
# What Excel writes for control characters in its own files, which some programs take for text.
_OF_EXCEL = re.compile(r"_x000[dD]_\r?\n?|_x000[aA]_|_x0009_|_x00[01][0-9a-fA-F]_")
# What is said of rows, after their number.
GONE_CELLS = "with cells of [deleted], [removed] or the like alone, which are empty"
NAN_CELLS = "with NaN, which is empty"
EXCEL = "with _x000D_ or the like, as Excel writes a line break, read as what it stands for"


class Row(NamedTuple):
    """One row of a source.

    Attributes:
        where: Source and line, for people.
        number: Number of the line, the item or the row, from 1.
        values: Fields of the row.
        notes: What is to be counted of how it was read.
    """

    where: str
    number: int
    values: dict[str, Any]
    notes: tuple[str, ...] = ()


Wrong = Callable[[RowError], None]


def stop(error: RowError) -> None:
    """Raise what is wrong with a row: the default of what reads rows."""
    raise error


def row_of(where: str, number: int, values: dict[str, Any], notes: tuple[str, ...] = ()) -> Row:
    """Return a row in which what stands for nothing is nothing: NaN, and [deleted] in the place of a text."""
    if any(value != value for value in values.values()):
        values = {name: None if value != value else value for name, value in values.items()}
        notes += (NAN_CELLS,)
    if any(map(_has_gone, values.values())):
        values = {name: _without_gone(value) for name, value in values.items()}
        notes += (GONE_CELLS,)
    if any(map(_has_escapes, values.values())):
        values = {name: _without_escapes(value) for name, value in values.items()}
        notes += (EXCEL,)
    return Row(where, number, values, notes)


def _has_escapes(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_escapes, value))
    return isinstance(value, str) and "_x00" in value and _OF_EXCEL.search(value) is not None


def _without_escapes(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_escapes(each) for each in value]
    return _OF_EXCEL.sub(lambda found: _meant(found[0][:7].lower()), value) if isinstance(value, str) else value


def _meant(escape: str) -> str:
    return {"_x000d_": "\n", "_x000a_": "\n", "_x0009_": "\t"}.get(escape, "")


def _has_gone(value: Any) -> bool:
    return any(map(_has_gone, value)) if isinstance(value, list) else _is_gone(value)


def _is_gone(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_GONE and value.strip().lower() in GONE


def _without_gone(value: Any) -> Any:
    if isinstance(value, list):  # as many as there were: another list may say something of each
        return [_without_gone(each) for each in value]
    return "" if _is_gone(value) else value
