"""The console command ``lbr``: its commands, in the order of a first project."""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence

import lbr_st
from lbr_st.errors import InputError, naming_the_extra

# Heading, then command and what it does; the module of a command has its name.
COMMANDS = {
    "try it": {"quickstart": "all of it, on the Python packages installed here"},
    "prepare data": {"data": "prepare, mine, check, list: clean, split and isolated sets of any text"},
    "train": {
        "learn": "stage 1: teach a language model your domain",
        "align": "stage 2: make it an embedding model, with query-document pairs",
    },
    "measure": {
        "evaluate": "score models on your own test pairs, or on public tests of mteb",
        "inspect": "what the embeddings of a model are like on held-out pairs",
    },
    "use": {
        "search": "search documents with a model",
        "encode": "encode a corpus of any size into Parquet files",
        "export": "write a model for ONNX Runtime or OpenVINO",
    },
    "publish": {
        "verify": "check that a saved model keeps its promises",
        "publish": "card, push, submit: the model card, the Hub, mteb's leaderboard",
    },
}
NAMES = [name for group in COMMANDS.values() for name in group]


def help_text() -> str:
    """Return what ``lbr --help`` prints."""
    lines = [
        "usage: lbr COMMAND ...",
        "",
        "Learn Before Represent: teach a language model your domain, then embed with it.",
    ]
    for heading, group in COMMANDS.items():
        lines += ["", f"{heading}:", *(f"  {name:<12}{meaning}" for name, meaning in group.items())]
    return "\n".join([*lines, "", "lbr COMMAND --help has the arguments of a command; lbr --version the version."])


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr COMMAND ...``."""
    argv = list(sys.argv[1:] if argv is None else argv)
    command = argv[0] if argv else "--help"
    if command in ("-h", "--help"):
        print(help_text())  # noqa: T201
    elif command == "--version":
        print(f"lbr-st {lbr_st.__version__}")  # noqa: T201
    else:
        run_command(lambda: _main_of(command)(argv[1:]))


def _main_of(command: str) -> Callable[[list[str]], None]:
    if command not in NAMES:
        raise InputError(f"lbr {command}: no such command; there are {', '.join(NAMES)}")
    with naming_the_extra(f"lbr {command}"):
        return importlib.import_module(f"lbr_st.cli.{command}").main


def run_command(run: Callable[[], None]) -> None:
    """Run a command: a line and exit code 2 for input that cannot be used, a traceback for the rest."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    rank = os.environ.get("RANK", "0")
    is_first_process = rank == "0"
    logging.getLogger("lbr_st").setLevel(logging.INFO if is_first_process else logging.WARNING)
    # mteb 2.26 calls methods that sentence-transformers 6 has renamed.
    warnings.filterwarnings("ignore", category=FutureWarning, module="mteb")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        run()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n" if is_first_process else f"error of process {rank}: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
