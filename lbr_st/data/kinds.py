"""What a file is by its first bytes, where that is not what its name says; and what encoding its bytes may be in."""

from __future__ import annotations

import re
from pathlib import Path

from lbr_st.errors import RowError
from lbr_st.records import COMPRESSED, is_table

# How compressed files begin, by their suffix, and what they are called.
BEGINNINGS = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\0", ".zst": b"\x28\xb5\x2f\xfd"}
CALLED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "Zstandard"}
# How others begin that hold no lines of text: what they are, and what to do.
OTHERS = {
    b"PAR1": "is Parquet; name it .parquet",
    b"ARROW1": "is an Arrow file; write it as Parquet",
    b"\xff\xff\xff\xff": "is an Arrow file; write it as Parquet",
    b"PK\x03\x04": "is a ZIP file, or one of Excel; unpack it, or save the table as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "is a file of Excel or Word; save it as CSV in UTF-8, or as text",
    b"%PDF": "is a PDF; take the text out of it first",
    b"SQLite format 3": "is a database of SQLite; export the table as CSV",
    b"GGUF": "is a model (GGUF), no data",
    b"#separator:": "is a table of Anki: take the lines that begin with # away, put one above that names the columns, "
    "and name it .tsv",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself; git lfs pull gets it",
}
SAFETENSORS = re.compile(rb'.{5}\0\0\0\{"', re.DOTALL)  # the length of a header of JSON comes first
PAGE = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)

# One character as two halves, three bytes each: what CESU-8 has instead of four bytes. As lone surrogates, see `wrong`.
HALVES = re.compile("\udced[\udca0-\udcaf][\udc80-\udcbf]\udced[\udcb0-\udcbf]")


def check_kind(path: Path) -> None:
    """Refuse a file that is of another kind than its name says: its bytes would be taken for text.

    Raises:
        RowError: With what it is, and what to do.
    """
    with open(path, "rb") as file:
        start = file.read(64)
    suffix = path.suffix.lower()
    packed = next((each for each, beginning in BEGINNINGS.items() if start.startswith(beginning)), None)
    why = None
    if suffix in COMPRESSED:
        if start and packed != suffix:
            right = path.name[: -len(suffix)] + (packed or "")
            why = f"is no {CALLED[suffix]}, as its name says; name it {right}"
    elif packed is not None:
        why = f"is {CALLED[packed]}; name it {path.name}{packed}"
    else:
        others = (said for beginning, said in OTHERS.items() if start.startswith(beginning))
        why = next(others, None) if suffix != ".parquet" or not start.startswith(b"PAR1") else None
        if why is None and SAFETENSORS.match(start):
            why = "is weights of a model (safetensors), no data"
        if why is None and is_table(path) and PAGE.match(start):
            why = "is a web page, not the file itself; download it again"
    if why is not None:
        raise RowError(str(path), "another kind of file", why)


def encoding_of(text: str) -> str:
    """Say what to do about a text with bytes that are no UTF-8.

    Args:
        text: A line or a text; such bytes are lone surrogates in it, as Python's ``surrogateescape`` has them, or
            control characters, as Latin-1 has some of them.
    """
    if HALVES.search(text):
        return (
            "a character is there in two halves (CESU-8, as MySQL's utf8 and Oracle's UTF8 write it): export it as "
            "utf8mb4 or AL32UTF8"
        )
    wrong = bytes(ord(each) & 0xFF for each in re.findall("[\x80-\x9f\udc80-\udcff]", text))
    western = len(wrong) <= len(re.findall("[A-Za-z]", text))  # most letters of such a text are in ASCII
    try:
        wrong.decode("cp1252")  # latin-1, and what Windows has beside it
    except UnicodeDecodeError:
        western = False
    if western:
        return "lbr data prepare --encoding cp1252 (or what it is) reads it"
    return "lbr data prepare --encoding with its name (cp1251, gb18030, shift_jis, mac-roman ...) reads it"
