"""Rows out of one object of JSON: a table by its columns or its rows, a list under a name, texts by their ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from lbr_st.data import names
from lbr_st.data.templates import MOST_STEPS
from lbr_st.data.texts import is_conversation
from lbr_st.errors import InputError

# What a list is called that is a column.
USUAL = (*names.QUERY, *names.DOCUMENT, *names.TITLE, *names.ROW_ID, *names.DOCUMENT_ID, *names.ABOUT)
# What LlamaIndex and the evaluators of sentence-transformers call texts by id, and which belong together.
OF_JUDGEMENTS = ("queries", "corpus", "relevant_docs")
BY_NAME = (
    "one object of {:,} texts, read as one row; texts by their ids or questions are written as a list of objects, such "
    'as [{{"id": "a1", "text": "..."}}]'
)
KINDS = {str: "texts", dict: "objects", list: "lists", int: "numbers", float: "numbers"}


def is_table_by_columns(found: dict[str, Any]) -> bool:
    """Tell whether an object is a table that is written by its columns, each a list.

    Raises:
        InputError: If another part of it has texts, too.
    """
    return _of_columns(found) is not None


class Rows(NamedTuple):
    """The rows that an object is.

    Attributes:
        rows: The rows.
        said: Which part of it they are, and what else it has, for people; "" where they are all of it.
    """

    rows: list[Any]
    said: str = ""


def rows_of_object(found: dict[str, Any]) -> Rows:
    """Return the rows that an object is: those of a table, of the one list that it has, or itself.

    A list in it stands for all of it only where that is said; lists of one length are columns.

    Raises:
        InputError: If it has several lists of rows, or texts beside them, so that nothing says which part is meant.
    """
    for read in (_of_frame, _of_judgements, _by_id, _by_columns, _of_columns):
        if (rows := read(found)) is not None:
            return rows
    if _is_row(found):
        return Rows([found])
    path, rows_there = _list_in(found)
    if path:
        return Rows(rows_there, f"rows are the list under {_spelled(path)}{_not_used(_beside(found, path))}")
    if sum(isinstance(value, list) and len(value) > 1 for value in found.values()) > 1:
        raise _unclear(found)
    if len(found) > 1 and all(isinstance(value, str) for value in found.values()):
        return Rows([found], BY_NAME.format(len(found)))
    return Rows([found])


def _of_frame(found: dict[str, Any]) -> Rows | None:
    """Return the rows of a table that pandas wrote with the names of its columns beside them.

    Raises:
        InputError: If a row has more cells than there are columns, or fewer.
    """
    columns, rows = found.get("columns"), found.get("data")
    if not (isinstance(columns, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows)):
        return None
    if twice := [str(name) for name, times in Counter(map(str, columns)).items() if times > 1]:
        raise InputError(f"'columns' names several of them {', '.join(twice)}; give each a name of its own")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            raise InputError(f"item {number} of 'data' has {len(row)} cells, for {len(columns)} names in 'columns'")
    said = _not_used({name: value for name, value in found.items() if name not in ("columns", "data")})
    return Rows([dict(zip(map(str, columns), row, strict=True)) for row in rows], said.removeprefix("; "))


def _of_judgements(found: dict[str, Any]) -> Rows | None:
    """Return the pairs of texts by id, as LlamaIndex and sentence-transformers' evaluators have them."""
    queries, corpus, relevant = map(found.get, OF_JUDGEMENTS)
    if not (isinstance(queries, dict) and isinstance(corpus, dict) and isinstance(relevant, dict)):
        return None
    rows = [
        {"query_id": query, "document_id": document, "query": queries.get(query), "document": corpus.get(document)}
        | ({"relevance": documents[document]} if isinstance(documents, dict) else {})
        for query, documents in relevant.items()
        for document in documents or ()
    ]
    said = _not_used({name: value for name, value in found.items() if name not in OF_JUDGEMENTS}).removeprefix("; ")
    alone = len(corpus.keys() - {row["document_id"] for row in rows})
    unasked = f"documents of no query, which are not used: {alone:,}" if alone else ""
    return Rows(rows, "; ".join(filter(None, [unasked, said])))


def _by_id(found: dict[str, Any]) -> Rows | None:
    """Return the rows of an object that has them by id, or by their number."""
    if len(found) < 2 or names.has_texts(found) or not all(isinstance(row, dict) for row in found.values()):
        return None
    are_numbers = all(key.isdecimal() for key in found)
    if are_numbers and sorted(map(int, found)) in (list(range(len(found))), list(range(1, len(found) + 1))):
        return Rows(list(found.values()))  # as pandas counts rows
    first, *others = found.values()
    if are_numbers or (names.has_texts(first) and all(row.keys() == first.keys() for row in others)):
        return Rows([{"id": key, **row} for key, row in found.items()])
    return None


def _by_columns(found: dict[str, Any]) -> Rows | None:
    """Return the rows of a table that is written by its columns, each an object by the ids of the rows."""
    if len(found) < 2:
        return None
    first, *others = found.values()
    if isinstance(first, dict) and first and (names.has_texts(found) or all(key.isdecimal() for key in first)):
        if all(isinstance(other, dict) and other.keys() == first.keys() for other in others):
            return Rows([{name: column[key] for name, column in found.items()} for key in first])
    return None


def _of_columns(found: dict[str, Any]) -> Rows | None:
    """Return the rows of a table that is written by its columns, each a list, as Chroma and `datasets` write it.

    What Chroma calls ``documents`` is ``document`` in a row.

    Raises:
        InputError: If another part of it has texts, too.
    """
    if any(isinstance(value, str) and names.has_texts([name]) for name, value in found.items()):
        return None  # a row
    sizes = Counter(len(value) for value in found.values() if isinstance(value, list) and len(value) > 1)
    for size, number in sizes.most_common():
        columns = {name: value for name, value in found.items() if isinstance(value, list) and len(value) == size}
        called = {name: _of_one(name, columns) for name in columns}
        if number > 1 and any(_is_of_texts(called[name], column) for name, column in columns.items()):
            beside = {name: value for name, value in found.items() if name not in columns}
            if _are_columns(beside):
                raise _unclear(found)
            rows = [dict(zip(called.values(), row, strict=True)) for row in zip(*columns.values(), strict=True)]
            return Rows(rows, f"columns are its lists of {size:,}: {', '.join(columns)}{_not_used(beside)}")
    return None


def _of_one(name: str, columns: Mapping[str, list[Any]]) -> str:
    """Return what one of a list of things is called, where that is a usual name: ``document`` of ``documents``."""
    if any(isinstance(value, list) for value in columns[name]):
        return name
    one = "document" if names.first([name], names.LISTED) else _singular(name)
    is_usual = names.first([name], USUAL) is not None or names.first([one], USUAL) is None
    return name if is_usual or one in columns else one


def _singular(name: str) -> str:
    return f"{name[:-3]}y" if name.endswith("ies") else name.removesuffix("s")


def _are_columns(beside: Mapping[str, Any], are_named: bool = False) -> bool:
    """Tell whether lists or objects beside the rows may be a part of them: by a usual name, or with texts in them.

    Args:
        beside: What there is.
        are_named: Whether the rows have texts of a usual name, so that other texts are no doubt about them.
    """
    for name, value in beside.items():
        if isinstance(value, list) and value and names.first([name, _singular(name)], USUAL) is not None:
            return True
        if isinstance(value, list | dict) and not are_named and _has_texts(value):
            return True
    return False


def _is_of_texts(name: str, column: list[Any]) -> bool:
    is_text = any(isinstance(value, str) for value in column)
    return is_text and (names.has_texts([name]) or _has_texts(column))


def _is_row(found: dict[str, Any]) -> bool:
    """Tell whether an object is a row itself: it has a text under a usual name, or a conversation."""
    of_texts = (isinstance(value, str) and names.has_texts([name]) for name, value in found.items())
    return any(of_texts) or any(map(is_conversation, found.values()))


def _list_in(found: dict[str, Any]) -> tuple[tuple[str, ...], list[Any]]:
    """Return the path of the one list of objects that is nearest the top of an object, and the list.

    Raises:
        InputError: If there are several, or texts beside one whose own texts have no usual name.
    """
    level: dict[tuple[str, ...], dict[str, Any]] = {(): found}
    for _ in range(MOST_STEPS):
        inside = {(*path, name): value for path, each in level.items() for name, value in each.items()}
        lists = {path: value for path, value in inside.items() if _are_rows(value)}
        if len(lists) > 1:
            several = ", ".join(map(_spelled, lists))
            raise InputError(f"has several lists of rows ({several}); write each to a file of its own")
        for path, rows in lists.items():
            if _are_columns(_beside(found, path), are_named=names.has_texts(rows[0])):
                raise _unclear(found)
            return path, rows
        level = {path: value for path, value in inside.items() if isinstance(value, dict)}
    return (), []


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _beside(found: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return what there is beside a path, and beside each step to it."""
    beside: dict[str, Any] = {}
    for at, step in enumerate(path):
        beside |= {_spelled((*path[:at], name)): value for name, value in found.items() if name != step}
        found = found[step]
    return beside


def _spelled(path: tuple[str, ...]) -> str:
    return path[0] + "".join(f"[{step}]" for step in path[1:])


def _not_used(beside: Mapping[str, Any]) -> str:
    """Name what is beside the rows: what is not used, and what is empty."""
    empty = [name for name, value in beside.items() if value is None or value in ("", [], {})]
    left = [name for name in beside if name not in empty]
    parts = ((said, each) for said, each in (("not used", left), ("empty", empty)) if each)
    return "".join(f"; {said}: {', '.join(each)}" for said, each in parts)


def _has_texts(value: Any, depth: int = 0) -> bool:
    """Tell whether there is a text of several words in a value, or one that writes no spaces."""
    if isinstance(value, str):
        return len(value.split()) > 2 or (len(value) > 8 and not value.isascii())
    inside: Collection[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth <= MOST_STEPS and any(_has_texts(each, depth + 1) for each in inside)


def _unclear(found: dict[str, Any]) -> InputError:
    held = ", ".join(f"{name}: {_what(value)}" for name, value in found.items())
    return InputError(
        f"is one object, and nothing says which part of it is the rows ({held}); write them as a list of objects, one "
        "for each row, or as lists of one length, one for each column"
    )


def _what(value: Any) -> str:
    """Say what a part of an object holds."""
    if value is None or value in ("", [], {}):
        return "nothing"
    if isinstance(value, list):
        kinds = {KINDS.get(type(each), "values") for each in value}
        return f"{len(value):,} {kinds.pop() if len(kinds) == 1 else 'values'}"
    if isinstance(value, dict):
        return f"an object of {len(value):,}"
    return "a text" if isinstance(value, str) else "a value"
