"""Rows out of files of any usual format, and out of Hub datasets, each with where it stands."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from lbr_st.data.cells import Row, Wrong, stop
from lbr_st.data.encodings import READ_AS_UTF8, is_utf8, naming_damage
from lbr_st.data.json_rows import is_json_lines, is_one_table, json_items, json_lines
from lbr_st.data.labelled_rows import hub_rows, parquet_rows
from lbr_st.data.sources import check_is_there, make_a_set
from lbr_st.data.table_rows import table_rows
from lbr_st.errors import InputError, RowError
from lbr_st.records import ATOMIC, JSON_LINES, file_format, is_hub_id, is_text_file

logger = logging.getLogger(__name__)

MOST_AHEAD = 20  # rows that are looked at before they are read


class Ahead:
    """Rows of which the next can be looked at before they are read: what a row means may be seen by others.

    Args:
        read: Reads the rows, calling what it is given with those that do not parse.
        wrong: Is called with these when it is their turn.
    """

    def __init__(self, read: Callable[[Wrong], Iterator[Row]], wrong: Wrong) -> None:
        self._next = deque[Row | RowError]()
        self._rows, self._wrong, self._is_looking = read(self._take), wrong, False
        self._error: InputError | None = None

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            yield row
            while self._next:
                following = self._next.popleft()
                if isinstance(following, RowError):
                    self._wrong(following)
                else:
                    yield following
        if self._error is not None:
            raise self._error

    def values(self) -> list[dict[str, Any]]:
        """Return the values of some of the next rows, which are read later all the same."""
        self._is_looking = True
        try:
            while len(self._next) < MOST_AHEAD and (row := next(self._rows, None)) is not None:
                self._next.append(row)
        except InputError as error:  # it is raised when it is its turn
            self._error = error
        finally:
            self._is_looking = False
        return [row.values for row in self._next if isinstance(row, Row)]

    def _take(self, error: RowError) -> None:
        self._next.append(error) if self._is_looking else self._wrong(error)


def read_rows(source: str | Path, encoding: str = "utf-8", wrong: Wrong = stop) -> Iterator[Row]:
    """Yield the rows of a file or of a Hub dataset.

    Args:
        source: JSON Lines, JSON (a list of objects), CSV, TSV (with a header; also named ``.inter``, ``.item`` or
            ``.user``) or Parquet, also as ``.gz``, ``.bz2``, ``.xz`` and ``.zst``. A name with one slash that is no
            file is a Hub dataset, ``owner/name``, ``owner/name:split`` or ``owner/name:config:split``, by default the
            split ``train``.
        encoding: Encoding of text; a mark of byte order is left out.
        wrong: Called with a `RowError` for each row that does not parse; reading goes on if it returns.

    Raises:
        InputError: If the source cannot be read, or not to its end, or needs a package that is not installed.
    """
    check_is_there(source)
    if is_hub_id(source):
        yield from _hub_rows(str(source))
        return
    path = Path(source)
    if is_text_file(path):
        raise InputError(f"{path}: is text, rows are needed; {make_a_set(path)}")
    kind = file_format(path)
    with naming_damage(path):
        if kind != ".parquet" and is_utf8(path, encoding):
            logger.warning("%s: %s", path, READ_AS_UTF8.format(encoding))
            encoding = "utf-8"
        if kind == ".parquet":
            yield from parquet_rows(path)
        elif (kind == ".json" and not is_json_lines(path, encoding)) or (
            kind in JSON_LINES and is_one_table(path, encoding)
        ):
            yield from json_items(path, encoding, wrong)
        elif kind in (".csv", ".tsv", *ATOMIC):
            yield from table_rows(path, encoding, "," if kind == ".csv" else "\t", wrong)
        else:
            yield from json_lines(path, encoding, wrong)


def _hub_rows(source: str) -> Iterable[Row]:
    name, *rest = source.split(":")
    config, split = (rest[0], rest[1]) if len(rest) == 2 else (None, rest[0] if rest else "train")
    return hub_rows(name, config, split)
