"""The flags of the commands that run an embedding model: what runs it, in which type, how many dimensions it keeps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lbr_st.cli.arguments import Parser, positive_int
from lbr_st.use.runtimes import AUTO, DTYPES, RUNTIMES


def flags_of(args: argparse.Namespace) -> list[str]:
    """Return these flags as they were given, for a command that goes on; ``auto`` is left out, as not all take it."""
    values = {name: getattr(args, name) for name in ("runtime", "dtype", "dimensions")}
    return [part for name, value in values.items() if value not in (None, AUTO) for part in (f"--{name}", str(value))]


def add_computing(parser: Parser, dtypes: Sequence[str] = DTYPES, dtype: str | None = None) -> None:
    """Add ``--runtime``, ``--dtype`` and ``--dimensions``.

    Args:
        parser: Parser of the command.
        dtypes: Choices of ``--dtype``.
        dtype: Default of it.
    """
    group = parser.add_argument_group("how the model is run")
    group.add_argument(
        "--runtime",
        choices=RUNTIMES,
        help="what runs the model; any but torch wants the extra export, and an export of the model, which is made "
        "once and kept (default: that of an export, else torch)",
    )
    default = "" if dtype else " (default: that of its files)"
    group.add_argument("--dtype", choices=dtypes, default=dtype, help=f"numbers that the model computes in{default}")
    group.add_argument(
        "--dimensions",
        type=positive_int,
        metavar="N",
        help="first dimensions to keep of each vector; one of those that the model was trained for (default: all)",
    )
