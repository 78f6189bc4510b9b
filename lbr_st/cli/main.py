"""The console command ``lbr``: its commands, in the order of a first project."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

import lbr_st
from lbr_st.errors import InputError, foreseen, naming_the_extra, raised_by_us, where_to_report

# Heading, then command and what it does; the module of a command has its name.
COMMANDS = {
    "all of it": {
        "adapt": "from a corpus and a model to a better retriever, with a verdict",
        "quickstart": "both stages on the Python packages installed here",
    },
    "prepare data": {"data": "prepare, queries, filter, mine, check, list: clean and isolated sets of any text"},
    "train": {
        "learn": "stage 1: teach a language model your domain",
        "align": "stage 2: make it an embedding model, with query-document pairs",
        "merge": "average the weights of a start and its end, or of several runs",
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
    """Run a command, and say in one line why it could not be done.

    Exit code 2 is for input that cannot be used, 1 for what the machine, a package or the network did; both are one
    line. A bug of this package is a traceback and says where to report it, with exit code 1.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    rank = os.environ.get("RANK", "0")
    is_first_process = rank == "0"
    logging.getLogger("lbr_st").setLevel(logging.INFO if is_first_process else logging.WARNING)
    # mteb 2.26 calls methods that sentence-transformers 6 has renamed.
    warnings.filterwarnings("ignore", category=FutureWarning, module="mteb")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a text may have characters that a terminal has not
            stream.reconfigure(errors="backslashreplace")
    try:
        run()
        sys.stdout.flush()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # what a library written in Rust raises is no Exception
        if isinstance(error, BrokenPipeError) and raised_by_us(error):  # as in `lbr data list | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        if (line := foreseen(error)) is None:
            traceback.print_exc()
            line = where_to_report()
        else:
            line = ". ".join([line, *getattr(error, "__notes__", [])])
        sys.stderr.write(f"error: {line}\n" if is_first_process else f"error of process {rank}: {line}\n")
        sys.exit(2 if isinstance(error, InputError) else 1)


if __name__ == "__main__":
    main()
