"""Rows out of one object of JSON: a table by its columns or its rows, a list under a name, texts by their ids."""

from __future__ import annotations

from typing import Any

from lbr_st.data import names
from lbr_st.errors import InputError


def rows_of_object(found: dict[str, Any]) -> list[Any]:
    """Return the rows that an object is: those of a table, of the one list that it has, or itself.

    Raises:
        InputError: If it has several lists of rows.
    """
    for read in (_of_frame, _of_judgements, _by_id, _of_columns):
        if (rows := read(found)) is not None:
            return rows
    lists = {
        name: value
        for name, value in found.items()
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
    }
    if len(lists) == 1:
        return next(iter(lists.values()))
    if lists and not names.has_texts(found) and names.first(found, names.CONVERSATION) is None:
        raise InputError(f"has several lists of rows ({', '.join(lists)}); write each to a file of its own")
    return [found]


def _of_frame(found: dict[str, Any]) -> list[Any] | None:
    """Return the rows of a table that pandas wrote with the names of its columns beside them."""
    columns, rows = found.get("columns"), found.get("data")
    if isinstance(columns, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows):
        return [dict(zip(map(str, columns), row, strict=False)) for row in rows]
    return None


def _of_judgements(found: dict[str, Any]) -> list[Any] | None:
    """Return the pairs of texts by id, as LlamaIndex and sentence-transformers' evaluators have them."""
    queries, corpus, relevant = (found.get(name) for name in ("queries", "corpus", "relevant_docs"))
    if not (isinstance(queries, dict) and isinstance(corpus, dict) and isinstance(relevant, dict)):
        return None
    return [
        {"query_id": query, "document_id": document, "query": queries.get(query), "document": corpus.get(document)}
        for query, documents in relevant.items()
        for document in documents
    ]


def _by_id(found: dict[str, Any]) -> list[Any] | None:
    """Return the rows of an object that has them by id, or by their number."""
    if len(found) < 2 or names.has_texts(found) or not all(isinstance(row, dict) for row in found.values()):
        return None
    if all(key.isdecimal() for key in found):
        return list(found.values())
    first, *others = found.values()
    if names.has_texts(first) and all(row.keys() == first.keys() for row in others):
        return [{"id": key, **row} for key, row in found.items()]
    return None


def _of_columns(found: dict[str, Any]) -> list[Any] | None:
    """Return the rows of a table that is written by its columns, each a list, or an object by the ids of the rows."""
    if len(found) < 2:
        return None
    first, *others = found.values()
    if isinstance(first, dict) and first and (names.has_texts(found) or all(key.isdecimal() for key in first)):
        if all(isinstance(other, dict) and other.keys() == first.keys() for other in others):
            return [{name: column[key] for name, column in found.items()} for key in first]
    if isinstance(first, list) and len(first) > 1 and all(isinstance(text, str) for text in first):
        if all(isinstance(other, list) and len(other) == len(first) for other in others):
            return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
    return None
