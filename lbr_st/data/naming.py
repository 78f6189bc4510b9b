"""What a row is called: its id and its title, under any of their usual names."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lbr_st.data.cleaning import printable
from lbr_st.errors import RowError, shortened

# Names in small letters, in the order they are looked for. What BEIR judges by comes before what else a row has.
ROW_IDS = ("_id", "id")
DOCUMENT_IDS = (
    "docid", "doc_id", "docno", "pid", "passage_id", "document_id", "corpus-id", "corpus_id", "uid", "uuid",
)  # fmt: skip
QUERY_IDS = ("qid", "query_id", "query-id", "question_id")
TITLES = ("title", "doc_title", "document_title", "passage_title", "article_title", "page_title", "headline")


def columns_of(values: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return the columns of a row that have one of these names, in capitals or not, in the order of the names."""
    columns = {str(column).lower(): column for column in values}
    return [columns[name] for name in names if name in columns]


def id_text(value: Any) -> str | None:
    """Return an id as text that can be written; None for what is none: null, blank, not a number.

    A whole number is written without a point, as spreadsheets and pandas add one. MongoDB's ids are unwrapped.
    """
    if isinstance(value, Mapping) and list(value) == ["$oid"]:
        value = value["$oid"]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = printable(str(value))
    return text if text.strip() else None


class IdReader:
    """Reads the ids of rows: ``id`` where a row has one, and ``document_id`` where its document has one of its own.

    The id of a document is the same whether it is read alone or with a query. A pair that has an id for each of the
    two and none of its own is called by both, ``query:document``, as judgements of BEIR are.

    Args:
        column: Column that the user says the id is in; default is the usual names.
    """

    def __init__(self, column: str | None = None) -> None:
        self.column = column
        self._columns: dict[tuple[str, ...], list[list[str]]] = {}

    def __call__(self, values: Mapping[str, Any], is_pair: bool) -> dict[str, str]:
        """Return the ids of a row.

        Args:
            values: The row.
            is_pair: Whether a query is read of it.
        """
        if self.column is not None:
            own = id_text(values.get(self.column))
            return {} if own is None else {"id": own}
        names = tuple(values)
        if names not in self._columns:
            self._columns[names] = [columns_of(values, usual) for usual in (ROW_IDS, DOCUMENT_IDS, QUERY_IDS)]
        own, document, query = (_first_id(values, columns) for columns in self._columns[names])
        if own is not None:
            return {"id": own}
        if not is_pair:
            found = document if document is not None else query
            return {} if found is None else {"id": found}
        if document is None:
            return {} if query is None else {"id": query}
        return {"id": document if query is None else f"{query}:{document}", "document_id": document}


def _first_id(values: Mapping[str, Any], columns: Sequence[str]) -> str | None:
    ids = (id_text(values[column]) for column in columns)
    return next((id_ for id_ in ids if id_ is not None), None)


def title_text(where: str, column: str, value: Any) -> str:
    """Return a title; "" for null, blank and what is not a number.

    Raises:
        RowError: If it is neither text nor a number.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        found = shortened(json.dumps(value, default=str), 40)
        raise RowError(f"{where}, column {column!r}", "not text", f"expected a title, found {found}")
    return str(value) if str(value).strip() else ""


def titled(title: str, text: str) -> str:
    """Return a document with its title before it, as in mteb; one whose first line is its title stays as it is."""
    if not title:
        return text
    if not text.strip():
        return title
    return text if text.lstrip().partition("\n")[0].strip() == title.strip() else f"{title} {text}"


class UniqueIds:
    """Gives each record an id that no other has."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, id_: object, number: int | str) -> str:
        """Return an id; the number where there is none, and with the number where it was there before."""
        unique = str(number if id_ is None else id_)
        while unique in self._seen:
            unique = f"{unique}#{number}"
        self._seen.add(unique)
        return unique
