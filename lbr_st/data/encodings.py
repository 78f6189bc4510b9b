"""Text files in any encoding, compressed or plain, and bytes that are of another one."""

from __future__ import annotations

import codecs
import contextlib
import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from lzma import LZMAError
from pathlib import Path
from typing import IO

import fsspec

from lbr_st.data.cells import Wrong, stop
from lbr_st.data.kinds import encoding_of
from lbr_st.data.sources import check_is_there
from lbr_st.data.templates import EXCERPT
from lbr_st.errors import InputError, RowError, one_line
from lbr_st.records import COMPRESSED

# Other encodings that a file may begin as, by their marks; without a mark the zeros of the first letters tell.
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
         codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
ZEROS = {b"\1\0\1\0": "utf-16-le", b"\0\1\0\1": "utf-16-be"}
READ_AS_UTF8 = "in UTF-8 and read so, not as {}"
LONE = re.compile("[\udc80-\udcff]")
NOT_DECODED = re.compile("[\x80-\x9f\udc80-\udcff]")
LATIN = ("iso8859-1", "iso8859-15")  # which have control characters where `encoding_of` finds what Windows has


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file, also of a compressed one, that are not blank.

    Yields:
        Number of the line, from 1, and the line without the white space at its end.

    Raises:
        InputError: If it is no file, cannot be read to its end, or is no UTF-8.
    """
    check_is_there(path)
    with naming_damage(Path(path)):
        yield from numbered_lines(Path(path), "utf-8", stop)


def beginning(path: str | Path, length: int = 2**14) -> str:
    """Return how a file begins, also a compressed one: a character for each byte.

    Raises:
        InputError: If so much of it cannot be read.
    """
    with naming_damage(Path(path)), open_text(Path(path), "latin-1") as file:
        return file.read(length)


@contextlib.contextmanager
def naming_damage(path: Path) -> Iterator[None]:
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


def numbered_lines(path: Path, encoding: str, wrong: Wrong) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are not blank, each with its number; see `read_rows` for ``wrong``."""
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
