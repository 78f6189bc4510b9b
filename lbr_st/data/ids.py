"""Ids of rows: under their usual names, as text, and none twice."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from lbr_st.data import names
from lbr_st.data.cleaning import printable
from lbr_st.data.templates import Values
from lbr_st.records import WHITE

TWICE = "with the id of another row above, which are called id#row"
LEAST_SLOTS = 1024  # a power of two, as all numbers of slots are


def id_text(value: Any) -> str | None:
    """Return an id as text on one line that can be written; None for what is none: null, blank, not a number.

    A whole number is written without a point, as spreadsheets and pandas add one. MongoDB's ids are unwrapped, and a
    list of one; several are the ids of other things.
    """
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    if isinstance(value, dict) and list(value) == ["$oid"]:
        value = value["$oid"]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = printable(str(value))
    text = (text if text.isprintable() else WHITE.sub(" ", text)).strip()
    return text or None


class IdReader:
    """Reads the ids of rows: ``id`` where a row has one, and ``document_id`` where its document has one of its own.

    The id of a document is the same whether it is read alone or with a query. A pair that has an id for each of the
    two and none of its own is called by both, ``query:document``, as judgements of BEIR are.

    Args:
        column: Column that the user says the id is in; default is the usual names of `lbr_st.data.names`.

    Attributes:
        used: The columns that ids were found in.
    """

    def __init__(self, column: str | None = None) -> None:
        self.column = column
        self.used: set[str] = set()
        self._columns: dict[tuple[str, ...], list[list[str]]] = {}

    def __call__(self, values: Values, is_pair: bool) -> dict[str, str]:
        """Return the ids of a row.

        Args:
            values: The row.
            is_pair: Whether a query is read of it.
        """
        columns = tuple(values)
        if columns not in self._columns:
            rows, documents, queries = (
                names.every(columns, usual) for usual in (names.ROW_ID, names.DOCUMENT_ID, names.QUERY_ID)
            )
            if not (rows or documents or queries):
                rows = names.own_ids(columns)[:1]
            self._columns[columns] = [rows, documents, queries]
        if self.column is not None:
            own = self._first(values, [self.column])
            return {} if own is None else {"id": own}
        rows, documents, queries = self._columns[columns]
        if (own := self._first(values, rows)) is not None:
            return {"id": own}
        document, query = self._first(values, documents), self._first(values, queries)
        if not is_pair:
            found = document if document is not None else query
            return {} if found is None else {"id": found}
        if document is None:
            return {} if query is None else {"id": query}
        return {"id": document if query is None else f"{query}:{document}", "document_id": document}

    def _first(self, values: Values, columns: Sequence[str]) -> str | None:
        for column in columns:
            if (id_ := id_text(values.get(column))) is not None:
                self.used.add(column)
                return id_
        return None


def part_id(id_: str, part: int, parts: int) -> str:
    """Return the id of a record of a row: that of the row; of several ``id#1``, ``id#2`` and so on."""
    return id_ if parts == 1 else f"{id_}#{part}"


class UniqueIds:
    """Gives each record an id that no other has, in about 20 bytes of memory for each.

    Ids are known by 64 bits of their hash. Of a hundred million, two have the same with a probability of 3 in 10,000;
    the later one then gets its number for nothing.
    """

    def __init__(self) -> None:
        self._hashes = array("Q", bytes(8 * LEAST_SLOTS))  # by hash, at the next slot that is free
        self._count = 0

    def __call__(self, id_: object, number: int | str) -> str:
        """Return an id; the number where there is none, and with the number where it was there before."""
        unique = str(number if id_ is None else id_)
        while not self._add(unique):
            unique = f"{unique}#{number}"
        return unique

    def _add(self, id_: str) -> bool:
        """Take an id in; return False where it was there before."""
        key = int.from_bytes(blake2b(id_.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") or 1
        if not _put(self._hashes, key):
            return False
        self._count += 1
        if 3 * self._count > 2 * len(self._hashes):
            larger = array("Q", bytes(16 * len(self._hashes)))
            for each in self._hashes:
                if each:
                    _put(larger, each)
            self._hashes = larger
        return True


def _put(hashes: array[int], key: int) -> bool:
    last = len(hashes) - 1
    at = key & last
    while found := hashes[at]:
        if found == key:
            return False
        at = (at + 1) & last
    hashes[at] = key
    return True
