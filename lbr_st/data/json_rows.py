"""Rows out of JSON Lines and JSON: objects, and lists of texts."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lbr_st.data import names
from lbr_st.data.cells import Row, Wrong, row_of
from lbr_st.data.encodings import check_decoded, numbered_lines, open_text
from lbr_st.data.json_objects import Rows, is_table_by_columns, rows_of_object
from lbr_st.data.templates import EXCERPT
from lbr_st.errors import InputError, RowError
from lbr_st.records import file_format, is_table

logger = logging.getLogger(__name__)

NAME_IT = "; a file is read by what its name says, and one without a suffix as JSON Lines: name text .txt, a table .csv"
# How an object begins whose keys Python wrote, and what makes JSON of such lines.
_PYTHON = re.compile(r"\s*\[?\s*\{\s*u?'[^']*'\s*:")
OF_PYTHON = (
    "; it is in Python's notation: json.dumps(ast.literal_eval(text)), where each line is an object of each line, "
    "writes JSON, and such lines are named .jsonl"
)


class _KeyTwiceError(ValueError):
    """A key that an object of JSON has twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, none of whose keys is lost.

    Raises:
        _KeyTwiceError: If one is there twice, with different values.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if found[key] != value:
                raise _KeyTwiceError(repr(key))
    return found


# Control characters in texts are cleaned away; they are no reason to refuse a line.
_JSON = json.JSONDecoder(strict=False, object_pairs_hook=_once)


def json_lines(path: Path, encoding: str, wrong: Wrong) -> Iterator[Row]:
    """Yield the rows of a file of JSON Lines."""
    columns: list[str] | None = None
    for number, line in numbered_lines(path, encoding, wrong):
        where = f"{path}, line {number}"
        try:
            row = _JSON.decode(line)
        except (ValueError, RecursionError) as error:
            wrong(_not_json(where, line, error).saying(_hint(line, error) or _named(path)))
            continue
        if isinstance(row, list) and columns is None and _names_columns(row):
            columns = row
        elif (values := _object(row, columns)) is not None:
            yield row_of(where, number, values)
        else:
            hint = "; a file that is one JSON list is named .json" if line.startswith("[{") else _named(path)
            wrong(RowError(where, "no object", f"expected a JSON object, found {line.strip()[:EXCERPT]}{hint}"))


def _named(path: Path) -> str:
    """Say how a file is to be named that is no JSON Lines; nothing where its name says that it is."""
    if is_table(path):
        return ""
    suffix = file_format(path)
    return f"; files that end in {suffix} are not read: name text .txt, a table .csv" if suffix else NAME_IT


def _names_columns(row: list[Any]) -> bool:
    """Tell whether a list is of the names of columns, as a first one may be: one of them is that of a text."""
    return all(isinstance(each, str) for each in row) and names.has_texts(row) and len(set(row)) == len(row)


def _object(row: Any, columns: Sequence[str] | None) -> dict[str, Any] | None:
    """Return a row of JSON as an object; None where it is none.

    A text is one alone. A list is an anchor, a positive and negatives, in this order, as sentence-transformers has
    them, unless a list of names came first. A number is a score, and the id where it is the first.
    """
    if isinstance(row, dict):
        return row
    if isinstance(row, str):
        return {"text": row}
    if not isinstance(row, list) or not any(isinstance(each, str) for each in row):
        return None
    if columns is not None:
        return dict(zip(columns, row, strict=True)) if len(columns) == len(row) else None
    if len(row) == 1:
        return {"text": row[0]}
    texts = [each for each in row if not isinstance(each, int | float)]
    usual = ("anchor", "positive", *(f"negative_{number}" for number in range(1, len(texts) - 1)))
    scores = {"score" if at else "id": each for at, each in enumerate(row) if isinstance(each, int | float)}
    return dict(zip(usual, texts, strict=False)) | scores


def _is_python(text: str, error: ValueError | RecursionError) -> bool:
    """Tell whether the first line of a text that is no JSON is, or begins, an object or a list as Python writes it."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    line = text.lstrip().partition("\n")[0].rstrip()
    if not line.endswith(("}", "]")):
        return _PYTHON.match(text) is not None
    try:
        return line.startswith(("{", "[")) and isinstance(ast.literal_eval(line), dict | list)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return False


def _hint(line: str, error: ValueError | RecursionError) -> str:
    """Say what to do about a line that is Python's, or the beginning of an object or list that ends on another one."""
    if _is_python(line, error):
        return OF_PYTHON
    line = line.strip()
    if line.startswith("["):
        return "; a file that is one JSON list is named .json"
    if line.endswith("},") and getattr(error, "pos", 0) == len(line) - 1:
        return "; a line of JSON Lines ends without a comma"
    is_beginning = line == "{" or (line.endswith(",") and getattr(error, "pos", 0) >= len(line) - 1)
    return "; an object is to be on one line: jq -c . FILE writes it so" if is_beginning else ""


def _not_json(where: str, text: str, error: ValueError | RecursionError) -> RowError:
    if isinstance(error, RecursionError):
        return RowError(where, "not JSON", "not JSON: nested too deep")
    if isinstance(error, _KeyTwiceError):
        return RowError(where, "a key twice", f"the key {error} is there twice in one object, with different values")
    if not isinstance(error, json.JSONDecodeError):
        return RowError(where, "not JSON", "not JSON: a number of thousands of digits; put it in quotes")
    around = text[max(0, error.pos - EXCERPT // 2) : error.pos + EXCERPT // 2].strip()
    return RowError(f"{where}, column {error.colno}", "not JSON", f"not JSON: {error.msg}, in {around!r}")


def is_json_lines(path: Path, encoding: str) -> bool:
    """Tell whether a file named ``.json`` holds an object a line, as many do."""
    with open_text(path, encoding) as file:
        try:
            first = file.readline()
            return isinstance(json.loads(first.lstrip("\ufeff")), dict | list) and bool(file.readline().strip())
        except (ValueError, RecursionError):
            return False


def is_one_table(path: Path, encoding: str) -> bool:
    """Tell whether the one line of a file of JSON Lines is a table, written by its columns."""
    with open_text(path, encoding) as file:
        try:
            found = json.loads(file.readline().lstrip("\ufeff"))
            return isinstance(found, dict) and is_table_by_columns(found) and not file.read().strip()
        except (ValueError, RecursionError, InputError):
            return False


def json_items(path: Path, encoding: str, wrong: Wrong) -> Iterator[Row]:
    """Yield the rows of a file that is one JSON value: a list of rows, or an object that holds one.

    Raises:
        InputError: If it is no JSON, or holds no rows.
    """
    with open_text(path, encoding) as file:
        try:
            text = file.read()
        except UnicodeError as error:
            raise InputError(f"{path}: not {encoding}: {error}") from error
    check_decoded(str(path), text, encoding)
    try:
        found = _JSON.decode(text)
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise _not_json(f"{path}{line}", text, error).saying(OF_PYTHON if _is_python(text, error) else "") from error
    try:
        found, said = rows_of_object(found) if isinstance(found, dict) else Rows(found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if said:
        logger.info("%s: %s", path, said)
    if not isinstance(found, list):
        raise InputError(f"{path}: expected a JSON list of objects, found {text.strip()[:EXCERPT]}")
    columns = found[0] if found and isinstance(found[0], list) and _names_columns(found[0]) else None
    for number, row in enumerate(found, start=1):
        where = f"{path}, item {number}"
        if columns is not None and row is columns:
            continue
        if (values := _object(row, columns)) is not None:
            yield row_of(where, number, values)
        else:
            wrong(RowError(where, "no object", f"expected a JSON object, found {json.dumps(row)[:EXCERPT]}"))
