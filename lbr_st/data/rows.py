"""Rows out of files of any usual format, and out of Hub datasets, each with where it stands."""

from __future__ import annotations

import ast
import codecs
import contextlib
import csv
import glob
import json
import logging
import os
import re
import shlex
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any, NamedTuple

import fsspec

from lbr_st.data import names
from lbr_st.data.delimited import (
    EMPTY_CELLS,
    ERROR_CELLS,
    ERRORS,
    GONE,
    GONE_CELLS,
    LONGEST_GONE,
    NAN_CELLS,
    NULLS,
    Table,
    header_of,
    values_of,
)
from lbr_st.data.folders import holds_no_data
from lbr_st.data.json_objects import Rows, is_table_by_columns, rows_of_object
from lbr_st.data.judgements import word_of
from lbr_st.data.kinds import check_kind, encoding_of
from lbr_st.data.templates import EXCERPT
from lbr_st.errors import InputError, RowError, one_line, require
from lbr_st.records import ATOMIC, COMPRESSED, JSON_LINES, file_format, is_hub_id, is_table, is_text_file

logger = logging.getLogger(__name__)

# Other encodings that a file may begin as, by their marks; without a mark the zeros of the first letters tell.
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
         codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
ZEROS = {b"\1\0\1\0": "utf-16-le", b"\0\1\0\1": "utf-16-be"}

MOST_AHEAD = 20  # rows that are looked at before they are read
NO_FILE = "no such file"
MOST_SOURCES = 5  # that a message names
NAME_IT = "; a file is read by what its name says, and one without a suffix as JSON Lines: name text .txt, a table .csv"
READ_AS_UTF8 = "in UTF-8 and read so, not as {}"

# A line break or a tab that is written out, as databases do; what is no beginning of a command of TeX.
_ESCAPE = re.compile(r"[.,;:!?]\\[nrt]|\\[nrt](?=[\sA-Z\d\\-]|$)")
# The same beside a null that is written out, too.
_WRITTEN_OUT, NULL_OF_DATABASES = re.compile(r"\\[nrt]"), r"\N"
ESCAPES = r"with \n or \t written out in cells, which stay as they are"
# What databases write with a backslash; a line that has another one, such as a command of TeX, is of no database.
_OF_DATABASES = {"n": "\n", "r": "\r", "t": "\t", "0": "", "\\": "\\", "'": "'", '"': '"'}
_ESCAPED, _OF_OTHERS = re.compile(r"""\\([nrt0\\'"])"""), re.compile(r"""\\(?![nrt0'"])""")
UNESCAPED = r"with \n, \t or \\ written out in cells, as databases do, read as what they stand for"

# What Excel writes for control characters in its own files, which some programs take for text.
_OF_EXCEL = re.compile(r"_x000[dD]_\r?\n?|_x000[aA]_|_x0009_|_x00[01][0-9a-fA-F]_")
EXCEL = "with _x000D_ or the like, as Excel writes a line break, read as what it stands for"

LABELS = ("label", "labels", "class")
_OF_OPTIONS = re.compile(
    r"[A-Za-z]|(choice|option|ending|answer|solution|hypothesis)?[\s_-]?\d+"
)  # classes of no topic

# A formula that is a text alone, as which Excel keeps the zeros of 0012.
_FORMULA = re.compile(r'="((?:[^"]|"")*)"')
FORMULAS = 'with cells such as ="0012", as Excel keeps zeros, read as the text in them'

# How an object begins whose keys Python wrote, and what makes JSON of such lines.
_PYTHON = re.compile(r"\s*\[?\s*\{\s*u?'[^']*'\s*:")
OF_PYTHON = (
    "; it is in Python's notation: json.dumps(ast.literal_eval(text)), where each line is an object of each line, "
    "writes JSON, and such lines are named .jsonl"
)

LONE = re.compile("[\udc80-\udcff]")
NOT_DECODED = re.compile("[\x80-\x9f\udc80-\udcff]")

LATIN = ("iso8859-1", "iso8859-15")  # which have control characters where `encoding_of` finds what Windows has


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
Question = Callable[[Path, str, Table], bool]  # of a table, by its encoding


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


def _row(where: str, number: int, values: dict[str, Any], notes: tuple[str, ...] = ()) -> Row:
    """Return a row in which what stands for nothing is nothing: NaN, and [deleted] in the place of a text."""
    if any(value != value for value in values.values()):
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


def stop(error: RowError) -> None:
    """Raise what is wrong with a row: the default of what reads rows."""
    raise error


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
    with _naming_damage(path):
        if kind != ".parquet" and is_utf8(path, encoding):
            logger.warning("%s: %s", path, READ_AS_UTF8.format(encoding))
            encoding = "utf-8"
        if kind == ".parquet":
            yield from _parquet_rows(path)
        elif (kind == ".json" and not _is_json_lines(path, encoding)) or (
            kind in JSON_LINES and _is_one_table(path, encoding)
        ):
            yield from _json_items(path, encoding, wrong)
        elif kind in (".csv", ".tsv", *ATOMIC):
            yield from _table_rows(path, encoding, "," if kind == ".csv" else "\t", wrong)
        else:
            yield from _json_lines(path, encoding, wrong)


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file, also of a compressed one, that are not blank.

    Yields:
        Number of the line, from 1, and the line without the white space at its end.

    Raises:
        InputError: If it is no file, cannot be read to its end, or is no UTF-8.
    """
    check_is_there(path)
    with _naming_damage(Path(path)):
        yield from _lines(Path(path), "utf-8", stop)


def beginning(path: str | Path, length: int = 2**14) -> str:
    """Return how a file begins, also a compressed one: a character for each byte.

    Raises:
        InputError: If so much of it cannot be read.
    """
    with _naming_damage(Path(path)), open_text(Path(path), "latin-1") as file:
        return file.read(length)


@contextlib.contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """Turn what readers of a damaged file raise into one line.

    Raises:
        InputError: If the file cannot be read to its end.
    """
    try:
        yield
    except (EOFError, zlib.error, LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename not in (None, str(path)):
            raise  # of another file
        raise InputError(f"{path}: cannot be read to its end: {one_line(error)}") from error


def make_a_set(path: str | Path) -> str:
    """Say what reads a folder, or text, where rows are needed."""
    return f"lbr data prepare {path} --output-dir SET makes a set of it"


def one_of_several(sources: Sequence[str | Path]) -> str:
    """Say what makes one source of several."""
    named = shlex.join(map(str, sources[:MOST_SOURCES])) + (" ..." if len(sources) > MOST_SOURCES else "")
    return f"lbr data prepare {named} --output-dir SET makes one set of them, which is one source"


def check_is_there(source: str | Path) -> None:
    """Refuse a source that is no id of a Hub dataset, nor a file of what its name says, before another one is read.

    Raises:
        InputError: With what it is.
    """
    if os.path.isdir(source) and (why := holds_no_data(Path(source))):  # with one slash it could be an id of the Hub
        raise InputError(f"{source}: {why}")
    if is_hub_id(source):
        return
    if not os.path.isfile(source):
        raise InputError(f"{source}: {what_it_is(source)}")
    check_kind(Path(source))


def check_is_file(path: str | Path, of: str, else_: str) -> None:
    """Refuse what is no file, of what is neither rows to train on nor text.

    Args:
        path: Path that a user gave.
        of: What the file is of, for people.
        else_: What to do where it is a folder.

    Raises:
        InputError: With what it is.
    """
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder, a file of {of} is needed; {else_}")
    if not os.path.isfile(path):
        raise InputError(f"{path}: {what_it_is(path)}")


def what_it_is(source: str | Path) -> str:
    """Say what a source is that is no file."""
    if os.path.isdir(source):
        return f"is a folder, a file is needed; {make_a_set(source)}"
    if str(source) == "-" or os.path.exists(source):  # /dev/stdin, <(...)
        return "a pipe or a device is not read, as a source is read more than once; write it to a file"
    several = str(source).split(",") if "," in str(source) else sorted(glob.glob(str(source)))
    if several and all(map(os.path.exists, several)):
        return f"names several files, and one is read; {one_of_several(several)}"
    return "is a link that leads nowhere" if os.path.islink(source) else NO_FILE


def open_text(path: Path, encoding: str = "utf-8", newline: str | None = "\n") -> IO[str]:
    """Open a text file, compressed or plain. Bytes that are no UTF-8 come as lone surrogates, see `check_decoded`.

    A file that begins as UTF-16 or UTF-32 is read so, where UTF-8 is asked for.

    Raises:
        InputError: If the encoding is unknown, or the file cannot be unpacked.
    """
    compression = COMPRESSED.get(path.suffix.lower())
    codec = codecs_name(encoding)
    try:
        if codec == "utf-8":
            with fsspec.open(str(path), "rb", compression=compression).open() as file:
                encoding = _encoding_of(file.read(4))
        return fsspec.open(
            str(path), "r", compression=compression, encoding=encoding, errors="surrogateescape", newline=newline
        ).open()
    except ValueError as error:
        more = "; pip install zstandard" if compression == "zstd" else ""
        raise InputError(f"{path}: cannot be unpacked: {error}{more}") from error


def _encoding_of(first: bytes) -> str:
    """Return the encoding of a file that may be UTF-8, by its first four bytes."""
    marked = next((encoding for mark, encoding in MARKS.items() if first.startswith(mark)), None)
    return marked or ZEROS.get(bytes(map(bool, first)), "utf-8-sig")


def is_utf8(path: Path, encoding: str) -> bool:
    """Tell whether a file that is to be read in another encoding is UTF-8 all the same: its bytes say so by themselves.

    One in ASCII alone is the same in both.
    """
    if codecs_name(encoding).startswith("utf"):
        return False
    decoder, is_ascii = codecs.getincrementaldecoder("utf-8")(), True
    try:
        with fsspec.open(str(path), "rb", compression=COMPRESSED.get(path.suffix.lower())).open() as file:
            while block := file.read(2**20):
                is_ascii = decoder.decode(block).isascii() and is_ascii
        decoder.decode(b"", final=True)
    except ValueError:  # what cannot be unpacked is none either
        return False
    return not is_ascii


@lru_cache
def codecs_name(encoding: str) -> str:
    """Return the name that Python has for an encoding.

    Raises:
        InputError: If there is no such encoding of text.
    """
    try:
        "".encode(encoding)  # some turn bytes into bytes
        return codecs.lookup(encoding).name
    except (LookupError, ValueError) as error:  # a name with NUL in it is no value
        raise InputError(f"--encoding {encoding}: Python knows no such encoding") from error


@lru_cache
def _has_one_byte(encoding: str) -> bool:
    """Tell whether each character of an encoding is one byte, so that it reads whatever there is."""
    every = bytes(range(256)).decode(encoding, "replace")
    return len(every) == 256 and not codecs_name(encoding).startswith("utf")


def check_decoded(where: str, text: str, encoding: str = "utf-8") -> None:
    """Refuse text that has bytes of another encoding in it.

    Raises:
        RowError: If there are such bytes; with the column and the text around the first.
    """
    if text.isascii():
        return
    if encoding != "utf-8" and _has_one_byte(encoding):
        _check_no_utf8(where, text, encoding)
    if (wrong := NOT_DECODED.search(text)) is None:
        return
    why = f"not {encoding.upper()}"
    if wrong.group() < "\xa0":
        if codecs_name(encoding) not in LATIN:
            wrong = LONE.search(text)
        else:  # Windows has quotes and dashes there
            why = f"no letter of {encoding.upper()}"
    if wrong is not None:
        at, byte = wrong.start(), ord(wrong.group()) & 0xFF
        around = LONE.sub("?", text[max(0, at - EXCERPT // 2) : at + EXCERPT // 2]).strip()
        message = f"{why}: byte 0x{byte:02x} in {around!r}; {encoding_of(text)}"
        raise RowError(f"{where}, column {at + 1}", "wrong encoding", message)


def _check_no_utf8(where: str, text: str, encoding: str) -> None:
    """Refuse a text of UTF-8 that was read in an encoding of one byte, of which it makes two letters or three.

    Raises:
        RowError: If it is one.
    """
    try:
        right = text.encode(encoding, "surrogateescape").decode()
    except UnicodeError:
        return
    raise RowError(where, "wrong encoding", f"is UTF-8, not {encoding.upper()}: {right.strip()[:EXCERPT]!r}")


def _lines(path: Path, encoding: str, wrong: Wrong) -> Iterator[tuple[int, str]]:
    with open_text(path, encoding) as file:
        number = 0
        try:
            for number, line in enumerate(file, start=1):
                try:
                    check_decoded(f"{path}, line {number}", line, encoding)
                except RowError as error:
                    wrong(error)
                    continue
                if line.strip():
                    yield number, line.rstrip()
        except UnicodeError as error:  # of encodings that have no lone bytes, such as UTF-16
            raise InputError(f"{path}, after line {number}: not {encoding}: {error}") from error


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


def _json_lines(path: Path, encoding: str, wrong: Wrong) -> Iterator[Row]:
    columns: list[str] | None = None
    for number, line in _lines(path, encoding, wrong):
        where = f"{path}, line {number}"
        try:
            row = _JSON.decode(line)
        except (ValueError, RecursionError) as error:
            wrong(_not_json(where, line, error).saying(_hint(line, error) or _named(path)))
            continue
        if isinstance(row, list) and columns is None and _names_columns(row):
            columns = row
        elif (values := _object(row, columns)) is not None:
            yield _row(where, number, values)
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


def _is_json_lines(path: Path, encoding: str) -> bool:
    """Tell whether a file named ``.json`` holds an object a line, as many do."""
    with open_text(path, encoding) as file:
        try:
            first = file.readline()
            return isinstance(json.loads(first.lstrip("\ufeff")), dict | list) and bool(file.readline().strip())
        except (ValueError, RecursionError):
            return False


def _is_one_table(path: Path, encoding: str) -> bool:
    """Tell whether the one line of a file of JSON Lines is a table, written by its columns."""
    with open_text(path, encoding) as file:
        try:
            found = json.loads(file.readline().lstrip("\ufeff"))
            return isinstance(found, dict) and is_table_by_columns(found) and not file.read().strip()
        except (ValueError, RecursionError, InputError):
            return False


def _json_items(path: Path, encoding: str, wrong: Wrong) -> Iterator[Row]:
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
            yield _row(where, number, values)
        else:
            wrong(RowError(where, "no object", f"expected a JSON object, found {json.dumps(row)[:EXCERPT]}"))


def _table_rows(path: Path, encoding: str, delimiter: str, wrong: Wrong) -> Iterator[Row]:
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
    yield _row(where, line, values, notes)


def _without_formula(value: str) -> str:
    found = _FORMULA.fullmatch(value)
    return value if found is None else found[1].replace('""', '"')


def _parquet_rows(path: Path) -> Iterator[Row]:
    pyarrow, parquet = require("pyarrow", "Parquet"), require("pyarrow.parquet", "Parquet")
    number = 0
    try:
        file = parquet.ParquetFile(path)
        about = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
        labels = _labels(about.get("info", {}).get("features", {}))
        for batch in file.iter_batches():
            for values in _texts_of_bytes(pyarrow, batch).to_pylist():
                number += 1
                yield _row(f"{path}, row {number}", number, _labelled(values, labels))
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a Parquet file that can be read: {one_line(error)}") from error


def _texts_of_bytes(pyarrow: Any, batch: Any) -> Any:
    """Return rows whose columns of bytes are texts, where they are UTF-8: Spark and Impala write texts so."""
    for number, field in enumerate(batch.schema):
        if pyarrow.types.is_binary(field.type) or pyarrow.types.is_large_binary(field.type):
            try:
                batch = batch.set_column(number, field.name, batch.column(number).cast(pyarrow.large_string()))
            except pyarrow.ArrowInvalid:  # pictures
                continue
    return batch


def _labels(features: dict[str, Any]) -> dict[str, list[str]]:
    """Return what the numbers of a column mean: to some, 0 is entailment, to others a topic.

    Names that are those of options, letters or numbered, mean no more than their numbers; nor do those of a column that
    grades, or says which option is right, where none of them judges.

    Args:
        features: Features of `datasets`, as they are written.
    """
    named = {column: _names_in(feature) for column, feature in features.items()}
    return {
        column: meant
        for column, meant in named.items()
        if any(map(word_of, meant)) or not (all(map(_OF_OPTIONS.fullmatch, meant)) or _is_of_numbers(column, meant))
    }


def _is_of_numbers(column: str, meant: Sequence[str]) -> bool:
    """Tell whether the number of a class says what its name does: of 5 stars, of grades, of options."""
    if names.first([column], LABELS) is not None:  # of topics, as a rule
        return any(any(map(str.isdigit, name)) for name in meant)
    return bool(names.judgements([column])) or names.first([column], names.CHOICE_ANSWERS) is not None


def _names_in(feature: Any) -> list[str]:
    """Return the names of the classes of a column, or of a list of them; none where it has no classes."""
    while isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
        feature = feature["feature"]
    return [str(name) for name in (feature.get("names") if isinstance(feature, dict) else None) or ()]


def _labelled(values: dict[str, Any], labels: dict[str, list[str]]) -> dict[str, Any]:
    """Return a row with words for the numbers of its labels; one below 0 is none."""
    said = {column: values[column] for column in labels if isinstance(values.get(column), int | list)}
    return values | {column: _label(value, labels[column]) for column, value in said.items()}


def _label(value: Any, meant: list[str]) -> Any:
    if isinstance(value, list):
        return [_label(each, meant) for each in value]
    if not isinstance(value, int):
        return value
    return meant[value] if 0 <= value < len(meant) else None


def _hub_rows(source: str) -> Iterable[Row]:
    name, *rest = source.split(":")
    config, split = (rest[0], rest[1]) if len(rest) == 2 else (None, rest[0] if rest else "train")
    return hub_rows(name, config, split)


def hub_rows(name: str, config: str | None, split: str) -> Iterator[Row]:
    """Yield the rows of a split of a Hub dataset, or of a local folder that `datasets.load_dataset` reads.

    Raises:
        InputError: If there is no such dataset or split, or it cannot be read.
    """
    datasets = require("datasets", "a dataset of the Hub")
    try:
        dataset = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # of many libraries: no network, no such dataset, no such split, a gated one
        if Path(name).is_dir():
            why = f" ({one_line(error)})" if "split" in str(error) else ""
            message = f"{name}: is a folder that the package datasets does not read as rows{why}; {make_a_set(name)}"
        else:
            message = f"{name}: no such file, and no dataset of the Hub that can be read: {one_line(error)}"
        raise InputError(message) from error
    labels = _labels(dataset.features.to_dict())
    for number, values in enumerate(dataset, start=1):
        yield _row(f"{name}, row {number}", number, _labelled(values, labels))
