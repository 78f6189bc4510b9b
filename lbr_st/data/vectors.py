"""Vectors that another model has of words or things, in the text form of word2vec: a name and its numbers a line."""

from __future__ import annotations

import logging
import re
from collections.abc import Container
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lbr_st.data.encodings import beginning, read_lines
from lbr_st.data.sources import check_is_file
from lbr_st.errors import InputError, RowError

logger = logging.getLogger(__name__)

# How the other forms of vectors begin, of which one byte is one character here, and what makes text of them.
_WORD2VEC = re.compile(r"\d+ \d+\r?\n(?=[^\x00-\x08\x0e-\x1f]*[\x00-\x08\x0e-\x1f])")
_FASTTEXT = re.compile(r"\xba\x16\x4f\x2f")
MAKE_TEXT = {
    _WORD2VEC: "is word2vec's binary form, and text is needed: gensim's KeyedVectors.load_word2vec_format(FILE, "
    "binary=True).save_word2vec_format('vectors.txt', binary=False) writes it",
    _FASTTEXT: "is fastText's binary form, and text is needed: the .vec file that comes with it",
}


def read_vectors(file: str | Path, wanted: Container[str]) -> dict[str, NDArray[np.float32]]:
    """Read the vectors of some names.

    Args:
        file: A name, which may have spaces in it, and its numbers a line. A first line may say how many names and
            numbers there are; it must, where names end with a number. Compressed files are read too.
        wanted: Names that are kept.

    Raises:
        InputError: If the file cannot be read, a line has other than the first one's number of numbers, one is no
            finite number, or no name is wanted.
    """
    check_form(file)
    found: dict[str, NDArray[np.float32]] = {}
    numbers, read = 0, 0
    for number, line in read_lines(file):
        cells = line.split()
        if number == 1 and len(cells) == 2 and all(cell.isdigit() for cell in cells):
            numbers = int(cells[1])
            continue
        where = f"{file}, line {number}"
        numbers = numbers or _trailing_numbers(cells)
        read += 1
        name = " ".join(cells[:-numbers]) if numbers else ""
        if not name:
            raise RowError(where, "no vector", f"a name and {numbers or 'its'} numbers are needed")
        if name in wanted and name not in found:
            found[name] = _vector(where, cells[-numbers:])
    if not found:
        raise InputError(f"{file}: none of its {read:,} names is a term, or a word that the model has a token of")
    logger.info("%s: %s vectors of %d numbers, %s of them used", file, f"{read:,}", numbers, f"{len(found):,}")
    return found


def check_form(file: str | Path) -> None:
    """Refuse what is no file of vectors in text, by how it begins.

    Raises:
        InputError: With what makes one of it, where that is known.
    """
    check_is_file(file, "vectors", "it has a name and its numbers a line")
    head = beginning(file)
    for form, what in MAKE_TEXT.items():
        if form.match(head):
            raise InputError(f"{file}: {what}")


def _trailing_numbers(cells: list[str]) -> int:
    """Return how many numbers a line ends with, behind a name of one cell or more."""
    count = 0
    for cell in reversed(cells[1:]):
        try:
            float(cell)
        except ValueError:
            break
        count += 1
    return count


def _vector(where: str, cells: list[str]) -> NDArray[np.float32]:
    try:
        vector = np.array(cells, dtype=np.float32)
    except ValueError as error:
        raise RowError(where, "no vector", f"{len(cells)} numbers are needed: {error}") from error
    if not np.isfinite(vector).all():
        raise RowError(where, "no vector", "a number is not finite")
    return vector
