"""What the commands' parsers have in common: errors in one line, and flags with one name and meaning."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from lbr_st.data.cleaning import printable
from lbr_st.data.drops import ON_ERROR, ON_ERROR_HELP
from lbr_st.data.encodings import LONE
from lbr_st.data.judgements import MIN_SCORE
from lbr_st.errors import InputError

MOST = 2**31 - 1  # what counts rows, texts or processes anywhere holds this much


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one: an argument that must be given has none, and a switch is off."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_none = action.default is None or action.default is False
        return action.help if has_none else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line that names the command, and that takes no shortened flags."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, formatter_class=_Formatter)

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{self.prog}: {message} (see {self.prog} --help)")


def finite(text: str) -> float:
    """Read a number that others can be compared with, as the ``type`` of an argument."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"must be a number, got {text}")
    return number


def positive_int(text: str) -> int:
    """Read a whole number of 1 or more that every library takes, as the ``type`` of an argument."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= MOST:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MOST:,}, got {text}")
    return number


def share(text: str) -> float:
    """Read a number from 0 to 1, as the ``type`` of an argument."""
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text}")
    return number


def check_asked(parser: Parser, texts: Sequence[str], what: str) -> None:
    """Refuse a text that is empty, has bytes that are no text, or names a file, as a second --data would.

    Args:
        parser: Parser of the command, which has a flag ``--data``.
        texts: Texts of the command line, of which each is asked.
        what: What one is called: a question.

    Raises:
        InputError: With the text, and how it is asked all the same.
    """
    if not all(printable(text).strip() for text in texts):
        parser.error(f"a {what} is empty")
    for text in texts:
        if LONE.search(text):
            encoding = sys.getfilesystemencoding()
            why = "bytes that are not UTF-8"
            if encoding != "utf-8":
                why = f"characters that this locale, of {encoding}, does not have (export LC_ALL=C.UTF-8)"
            parser.error(f"a {what} has {why}: {printable(text)!r} without them")
        if os.path.exists(text):
            parser.error(
                f"{text} is a file or folder here, and would be asked as a {what}; --data takes one source (the "
                f"{what} is asked as '{text}?')"
            )


def add_fuse(parser: Any) -> None:
    """Add ``--fuse bm25``, which lets BM25 search beside a model."""
    parser.add_argument(
        "--fuse",
        choices=["bm25"],
        help="let BM25 search too, and fuse both: each finds what the other misses",
    )


def add_on_error(parser: Any) -> None:
    """Add ``--on-error``, to a parser or a group of one: what becomes of rows that cannot be used."""
    parser.add_argument("--on-error", choices=ON_ERROR, default="stop", help=ON_ERROR_HELP)


def add_output_dir(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--output-dir``: a new or empty folder for what the command makes."""
    parser.add_argument("--output-dir", required=True, metavar="DIR", help=f"new or empty folder for {what}")


def add_min_score(parser: Any) -> None:
    """Add ``--min-score``, from which on a graded document answers its query."""
    parser.add_argument("--min-score", type=finite, metavar="S", help=MIN_SCORE)


def add_batch_tokens(parser: argparse.ArgumentParser) -> None:
    """Add ``--batch-tokens``, of what is encoded at once."""
    parser.add_argument(
        "--batch-tokens",
        type=positive_int,
        metavar="N",
        help="tokens encoded at once, padding included (default: those that this machine is fastest with)",
    )


def add_memory(parser: argparse.ArgumentParser, default: int) -> None:
    """Add ``--memory-mib``, of the vectors that are compared at once; None where it is not given."""
    parser.add_argument(
        "--memory-mib",
        type=positive_int,
        metavar="N",
        help=f"MiB for the vectors that are compared at once and their scores (default: {default})",
    )


def add_batch_size(parser: argparse.ArgumentParser, default: int) -> None:
    """Add ``--batch-size``, of texts that are encoded at once."""
    parser.add_argument("--batch-size", type=positive_int, default=default, metavar="N", help="texts encoded at once")
