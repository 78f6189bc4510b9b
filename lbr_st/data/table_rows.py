"""Rows out of tables of text, CSV and TSV, and what databases and Excel write in their cells."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from lbr_st.data.cells import Row, Wrong, row_of
from lbr_st.data.delimited import EMPTY_CELLS, ERROR_CELLS, ERRORS, NULLS, Table, header_of, values_of
from lbr_st.data.encodings import check_decoded, open_text
from lbr_st.errors import InputError, RowError

logger = logging.getLogger(__name__)

# A line break or a tab that is written out, as databases do; what is no beginning of a command of TeX.
_ESCAPE = re.compile(r"[.,;:!?]\\[nrt]|\\[nrt](?=[\sA-Z\d\\-]|$)")
# The same beside a null that is written out, too.
_WRITTEN_OUT, NULL_OF_DATABASES = re.compile(r"\\[nrt]"), r"\N"
ESCAPES = r"with \n or \t written out in cells, which stay as they are"
# What databases write with a backslash; a line that has another one, such as a command of TeX, is of no database.
_OF_DATABASES = {"n": "\n", "r": "\r", "t": "\t", "0": "", "\\": "\\", "'": "'", '"': '"'}
_ESCAPED, _OF_OTHERS = re.compile(r"""\\([nrt0\\'"])"""), re.compile(r"""\\(?![nrt0'"])""")
UNESCAPED = r"with \n, \t or \\ written out in cells, as databases do, read as what they stand for"
# A formula that is a text alone, as which Excel keeps the zeros of 0012.
_FORMULA = re.compile(r'="((?:[^"]|"")*)"')
FORMULAS = 'with cells such as ="0012", as Excel keeps zeros, read as the text in them'
Question = Callable[[Path, str, Table], bool]  # of a table, by its encoding


def table_rows(path: Path, encoding: str, delimiter: str, wrong: Wrong) -> Iterator[Row]:
    """Yield the rows of a table of text whose first line names its columns.

    Raises:
        InputError: If it has no such line, or is not in that encoding.
    """
    with open_text(path, encoding, newline="") as file:
        where = f"{path}, line 1"
        try:
            table = Table(file, delimiter)
            asked = lru_cache(lambda question: question(path, encoding, table))
            if table.delimiter != delimiter:
                logger.info("%s: the columns are separated by %r", path, table.delimiter)
            while True:
                line = table.line + 1  # where the next row begins; it may have several lines
                where = f"{path}, line {line}"
                try:
                    fields = _fields(where, table, encoding)
                except RowError as error:
                    if table.header is None:  # without the names no row can be read
                        raise
                    wrong(error)
                    continue
                if fields is None:
                    break
                if table.header is None:
                    table.header = table.with_row_names(header_of(where, fields))
                elif not table.is_passed_over(where, fields):
                    yield from _table_row(where, line, table, fields, wrong, asked)
            if table.headers:
                logger.warning("%s: rows that say the header once more, left out: %d", path, table.headers)
        except UnicodeError as error:
            raise InputError(f"{where}: not {encoding}: {error}") from error


def _has_nulls(path: Path, encoding: str, table: Table) -> bool:
    """Tell whether a table has a null that is written out, as databases do, which write line breaks out too."""
    with open_text(path, encoding) as file:
        return any(NULL_OF_DATABASES in line.rstrip("\r\n").split(table.delimiter) for line in file)


def _is_of_a_database(path: Path, encoding: str, table: Table) -> bool:
    """Tell whether a table has such a null, and no backslash but those that databases write."""
    has_null = False
    with open_text(path, encoding) as file:
        for field in (each for line in file if "\\" in line for each in line.rstrip("\r\n").split(table.delimiter)):
            if field == NULL_OF_DATABASES:
                has_null = True
            elif _OF_OTHERS.search(field.replace("\\\\", "")):
                return False
    return has_null


def _fields(where: str, table: Table, encoding: str) -> list[str] | None:
    try:
        fields = next(table, None)
    except csv.Error as error:
        if "unexpected end of data" in str(error):  # the rest of the file went into one field
            raise InputError(f"{where}: not CSV: a quote is opened and never closed") from error
        raise RowError(where, "not CSV", f"not CSV: {error}, in {table.excerpt!r}; {table.remedy()}") from error
    if fields is not None:
        check_decoded(where, table.delimiter.join(fields), encoding)
    return fields


def _table_row(
    where: str, line: int, table: Table, fields: list[str], wrong: Wrong, asked: Callable[[Question], bool]
) -> Iterator[Row]:
    assert table.header is not None
    try:
        values = values_of(where, table.header, fields, table.delimiter)
    except RowError as error:
        wrong(error)
        return
    notes: tuple[str, ...] = () if table.note is None else (table.note,)
    if any(field.startswith('="') for field in fields):
        read = {name: _without_formula(value) for name, value in values.items()}
        notes += (FORMULAS,) if read != values else ()
        values, fields = read, list(read.values())
    for empty, said in ((NULLS, EMPTY_CELLS), (ERRORS, ERROR_CELLS)):
        if not empty.isdisjoint(fields):
            values = {name: "" if value in empty else value for name, value in values.items()}
            notes += (said,)
    if any("\\" in field for field in fields):
        if asked(_is_of_a_database):
            read = {name: _ESCAPED.sub(lambda found: _OF_DATABASES[found[1]], value) for name, value in values.items()}
            notes += (UNESCAPED,) if read != values else ()
            values = read
        elif any(map(_WRITTEN_OUT.search, fields)):
            escape = _WRITTEN_OUT if asked(_has_nulls) else _ESCAPE
            notes += (ESCAPES,) if any(map(escape.search, fields)) else ()
    yield row_of(where, line, values, notes)


def _without_formula(value: str) -> str:
    found = _FORMULA.fullmatch(value)
    return value if found is None else found[1].replace('""', '"')
