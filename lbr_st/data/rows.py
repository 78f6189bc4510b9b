"""Rows out of files of any usual format, and out of Hub datasets, each with where it stands."""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any, NamedTuple

import fsspec

from lbr_st.data.kinds import check_kind, encoding_of
from lbr_st.data.templates import EXCERPT
from lbr_st.errors import InputError, RowError, one_line, require
from lbr_st.records import COMPRESSED, file_format, is_hub_id

# What pandas calls the column that it writes without a name: the numbers of the rows.
INDEX = "Unnamed: 0"
NUMBER = re.compile(r"[+-]?\d+(\.0+)?")

NO_FILE = "no such file"

LONE = re.compile("[\udc80-\udcff]")
NOT_DECODED = re.compile("[\x80-\x9f\udc80-\udcff]")

LATIN = ("iso8859-1", "iso8859-15")  # which have control characters where `encoding_of` finds what Windows has
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Row(NamedTuple):
    """One row of a source.

    Attributes:
        where: Source and line, for people.
        number: Number of the line, the item or the row, from 1.
        values: Fields of the row.
    """

    where: str
    number: int
    values: dict[str, Any]


Wrong = Callable[[RowError], None]


def stop(error: RowError) -> None:
    """Raise what is wrong with a row: the default of what reads rows."""
    raise error


def read_rows(source: str | Path, encoding: str = "utf-8", wrong: Wrong = stop) -> Iterator[Row]:
    """Yield the rows of a file or of a Hub dataset.

    Args:
        source: JSON Lines, JSON (a list of objects), CSV, TSV (with a header) or Parquet, also as ``.gz``, ``.bz2``,
            ``.xz`` and ``.zst``. A name with one slash that is no file is a Hub dataset, ``owner/name``,
            ``owner/name:split`` or ``owner/name:config:split``, by default the split ``train``.
        encoding: Encoding of text; a mark of byte order is left out.
        wrong: Called with a `RowError` for each row that does not parse; reading goes on if it returns.

    Raises:
        InputError: If the source cannot be read, or not to its end, or needs a package that is not installed.
    """
    if is_hub_id(source):
        yield from _hub_rows(str(source))
        return
    path = Path(source)
    check_is_there(path)
    kind = file_format(path)
    try:
        if kind == ".parquet":
            yield from _parquet_rows(path)
        elif kind == ".json" and not _is_json_lines(path, encoding):
            yield from _json_items(path, encoding, wrong)
        elif kind in (".csv", ".tsv"):
            yield from _table_rows(path, encoding, "\t" if kind == ".tsv" else ",", wrong)
        else:
            yield from _json_lines(path, encoding, wrong)
    except (EOFError, zlib.error, LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename not in (None, str(path)):
            raise  # of another file
        raise InputError(f"{path}: cannot be read to its end: {one_line(error)}") from error


def check_is_there(source: str | Path) -> None:
    """Refuse a source that is no id of a Hub dataset, nor a file of what its name says, before another one is read.

    Raises:
        InputError: With what it is.
    """
    if is_hub_id(source):
        return
    if not os.path.isfile(source):
        raise InputError(f"{source}: {what_it_is(source)}")
    check_kind(Path(source))


def what_it_is(source: str | Path) -> str:
    """Say what a source is that is no file."""
    if os.path.isdir(source):
        return "is a folder, a file is needed"
    if str(source) == "-" or os.path.exists(source):  # /dev/stdin, <(...)
        return "a pipe or a device is not read, as a source is read more than once; write it to a file"
    return "is a link that leads nowhere" if os.path.islink(source) else NO_FILE


def open_text(path: Path, encoding: str = "utf-8", newline: str | None = "\n") -> IO[str]:
    """Open a text file, compressed or plain. Bytes that are no UTF-8 come as lone surrogates, see `check_decoded`.

    Raises:
        InputError: If the encoding is unknown, or the file says that it has another, or a package is missing.
    """
    compression = COMPRESSED.get(path.suffix.lower())
    try:
        codec = codecs.lookup(encoding).name
        "".encode(encoding)  # some turn bytes into bytes
    except LookupError as error:
        raise InputError(f"--encoding {encoding}: Python knows no such encoding") from error
    try:
        if codec == "utf-8":
            with fsspec.open(str(path), "rb", compression=compression).open() as file:
                if file.read(2) in UTF_16:
                    raise InputError(f"{path}: not UTF-8: it begins with the mark of UTF-16; give --encoding utf-16")
            encoding = "utf-8-sig"
        return fsspec.open(
            str(path), "r", compression=compression, encoding=encoding, errors="surrogateescape", newline=newline
        ).open()
    except ValueError as error:
        raise InputError(f"{path}: cannot be unpacked: {error}; for .zst: pip install zstandard") from error


def check_decoded(where: str, text: str, encoding: str = "utf-8") -> None:
    """Refuse text that has bytes of another encoding in it.

    Raises:
        RowError: If there are such bytes; with the column and the text around the first.
    """
    if text.isascii() or (wrong := NOT_DECODED.search(text)) is None:
        return
    why = f"not {encoding.upper()}"
    if wrong.group() < "\xa0":
        if codecs.lookup(encoding).name not in LATIN:
            wrong = LONE.search(text)
        else:  # Windows has quotes and dashes there
            why = f"no letter of {encoding.upper()}"
    if wrong is not None:
        at, byte = wrong.start(), ord(wrong.group()) & 0xFF
        around = LONE.sub("?", text[max(0, at - EXCERPT // 2) : at + EXCERPT // 2]).strip()
        message = f"{why}: byte 0x{byte:02x} in {around!r}; {encoding_of(text)}"
        raise RowError(f"{where}, column {at + 1}", "wrong encoding", message)


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


def _json_lines(path: Path, encoding: str, wrong: Wrong) -> Iterator[Row]:
    for number, line in _lines(path, encoding, wrong):
        where = f"{path}, line {number}"
        try:
            # Control characters in texts are cleaned away; they are no reason to refuse a line.
            row = json.loads(line, strict=False)
        except (ValueError, RecursionError) as error:
            wrong(_not_json(where, line, error, _hint(line, error)))
            continue
        if isinstance(row, dict):
            yield Row(where, number, row)
        else:
            hint = "; a file that is one JSON list is named .json" if line.startswith("[") else ""
            wrong(RowError(where, "no object", f"expected a JSON object, found {line.strip()[:EXCERPT]}{hint}"))


def _hint(line: str, error: ValueError | RecursionError) -> str:
    """Say what to do about a line that is the beginning of an object or a list, which ends on another one."""
    line = line.strip()
    if line.startswith("["):
        return "; a file that is one JSON list is named .json"
    is_beginning = line == "{" or (line.endswith(",") and getattr(error, "pos", 0) >= len(line) - 1)
    return "; an object is to be on one line: jq -c . FILE writes it so" if is_beginning else ""


def _not_json(where: str, text: str, error: ValueError | RecursionError, hint: str = "") -> RowError:
    if isinstance(error, RecursionError):
        return RowError(where, "not JSON", "not JSON: nested too deep")
    if not isinstance(error, json.JSONDecodeError):
        return RowError(where, "not JSON", "not JSON: a number of thousands of digits; put it in quotes")
    around = text[max(0, error.pos - EXCERPT // 2) : error.pos + EXCERPT // 2].strip()
    return RowError(f"{where}, column {error.colno}", "not JSON", f"not JSON: {error.msg}, in {around!r}{hint}")


def _is_json_lines(path: Path, encoding: str) -> bool:
    """Tell whether a file named ``.json`` holds an object a line, as many do."""
    with open_text(path, encoding) as file:
        try:
            first = file.readline()
            return isinstance(json.loads(first.lstrip("\ufeff")), dict) and bool(file.readline().strip())
        except (ValueError, RecursionError):
            return False


def _json_items(path: Path, encoding: str, wrong: Wrong) -> Iterator[Row]:
    with open_text(path, encoding) as file:
        try:
            text = file.read()
        except UnicodeError as error:
            raise InputError(f"{path}: not {encoding}: {error}") from error
    check_decoded(str(path), text, encoding)
    try:
        found = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise _not_json(f"{path}{line}", text, error) from error
    if isinstance(found, dict):  # {"data": [...]}
        lists = [value for value in found.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        found = lists[0] if len(lists) == 1 else [found]
    if not isinstance(found, list):
        raise InputError(f"{path}: expected a JSON list of objects, found {text.strip()[:EXCERPT]}")
    for number, row in enumerate(found, start=1):
        where = f"{path}, item {number}"
        if isinstance(row, dict):
            yield Row(where, number, row)
        else:
            wrong(RowError(where, "no object", f"expected a JSON object, found {json.dumps(row)[:EXCERPT]}"))


def _table_rows(path: Path, encoding: str, delimiter: str, wrong: Wrong) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # 131,072 characters are not a long document
    with open_text(path, encoding, newline="") as file:
        table = csv.reader(file, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            line = table.line_num + 1  # where the next row begins; it may have several lines
            where = f"{path}, line {line}"
            try:
                fields = next(table, None)
                if fields is None:
                    return
                check_decoded(where, delimiter.join(fields), encoding)
            except csv.Error as error:
                if "unexpected end of data" in str(error):  # the rest of the file went into one field
                    raise InputError(f"{where}: not CSV: a quote is opened and never closed") from error
                _wrong_line(RowError(where, "not CSV", f"not CSV: {error}"), header, wrong)
                continue
            except RowError as error:
                _wrong_line(error, header, wrong)
                continue
            except UnicodeError as error:
                raise InputError(f"{where}: not {encoding}: {error}") from error
            if header is None:
                header = _header(where, fields)
            elif fields:
                try:
                    values = _values(where, header, fields, delimiter)
                except RowError as error:
                    wrong(error)
                    continue
                yield Row(where, line, values)


def _wrong_line(error: RowError, header: list[str] | None, wrong: Wrong) -> None:
    """Go on after a line that cannot be read, unless it is that of the names: the next row has none."""
    if header is None:
        raise error
    wrong(error)


def _header(where: str, fields: list[str]) -> list[str]:
    names = [name.strip() for name in fields]
    named = list(filter(None, names))
    if len(set(named)) < len(named) or not named:
        raise InputError(f"{where}: the first line must name each column once, found {', '.join(fields)[:200]}")
    return names


def _values(where: str, header: list[str], fields: list[str], delimiter: str) -> dict[str, Any]:
    """Return the fields of a row by name. Those without one must be blank, but for numbers in the first column.

    Raises:
        RowError: If there are too few or too many fields, or one without a name says something.
    """
    if len(fields) != len(header):  # a comma at the end of the header, or of the row, makes one more
        least = max(number for number, name in enumerate(header, start=1) if name)
        if len(fields) < least or any(map(str.strip, fields[len(header) :])):
            line = delimiter.join(fields)[:EXCERPT]
            detail = f"{len(fields)} fields where the header has {len(header)}, in {line!r}"
            raise RowError(where, "not as many fields as the header", detail)
    values = dict(zip(header, fields, strict=False))
    if "" not in values:
        return values
    for number, (name, field) in enumerate(zip(header, fields, strict=False), start=1):
        if not name and field.strip() and (number > 1 or not NUMBER.fullmatch(field.strip())):
            detail = f"column {number} has no name in the first line, and holds {field[:EXCERPT]!r}"
            raise RowError(where, "a column without a name", detail)
    del values[""]
    return values if header[0] else {INDEX: fields[0], **values}


def _parquet_rows(path: Path) -> Iterator[Row]:
    pyarrow, parquet = require("pyarrow", "Parquet"), require("pyarrow.parquet", "Parquet")
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            for values in batch.to_pylist():
                number += 1
                yield Row(f"{path}, row {number}", number, values)
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: not a Parquet file that can be read: {one_line(error)}") from error


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
        message = f"{name}: no such file, and no dataset of the Hub that can be read: {one_line(error)}"
        raise InputError(message) from error
    for number, values in enumerate(dataset, start=1):
        yield Row(f"{name}, row {number}", number, values)
