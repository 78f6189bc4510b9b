"""The console command ``lbr``: its commands, in the order of a first project."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lbr_st
from lbr_st.cli.memory import keep_freed_memory
from lbr_st.errors import InputError, foreseen, naming_the_extra, of_memory, raised_by_us, where_to_report

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
        "distill": "a small and fast encoder of queries for a model",
        "recommend": "train, evaluate, suggest: a language model that learns with a recommender",
    },
    "measure": {
        "evaluate": "score models on your own test pairs, or on public tests of mteb",
        "inspect": "what the embeddings of a model are like on held-out pairs",
    },
    "use": {
        "search": "search documents with a model",
        "serve": "an endpoint like OpenAI's, and search over your documents",
        "encode": "encode a corpus of any size into Parquet files",
        "export": "write a model for ONNX Runtime, OpenVINO, llama.cpp or Ollama",
    },
    "publish": {
        "verify": "check that a saved model keeps its promises",
        "publish": "card, push, submit: the model card, the Hub, mteb's leaderboard",
    },
}
NAMES = [name for group in COMMANDS.values() for name in group]

# What ends a command that cleans up behind itself, and how it is called.
ENDED_BY = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
# Exit codes of a command that was ended by a signal, or whose output nobody reads any more, as shells have them.
OF_SIGNALS, BROKEN_PIPE = 128, 141


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

    Exit code 2 is for input that cannot be used, 1 for what the machine, a package or the network did, 130 for Ctrl-C,
    143 for SIGTERM; all are one line. 141, without one, is for output that nobody reads. A bug of this package is a
    traceback and says where to report it, with exit code 1.
    """
    _open_streams()
    keep_freed_memory()
    os.environ["MPLBACKEND"] = "agg"  # pictures go to files; what the environment says may be none that is there
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    rank = os.environ.get("RANK", "0")
    is_first_process = rank == "0"
    logging.getLogger("lbr_st").setLevel(logging.INFO if is_first_process else logging.WARNING)
    # mteb 2.26 calls methods that sentence-transformers 6 has renamed.
    warnings.filterwarnings("ignore", category=FutureWarning, module="mteb")
    with _interruptible() as interrupted:
        try:
            run()
            sys.stdout.flush()
        except SystemExit:
            raise
        except BaseException as error:  # what a library written in Rust raises is no Exception
            if isinstance(error, BrokenPipeError) and (raised_by_us(error) or _is_unread()):  # as by `| head -1`
                _write_no_more()
                sys.exit(BROKEN_PIPE)
            if isinstance(error, KeyboardInterrupt) or interrupted:  # some libraries raise another error of it
                by = interrupted[0] if interrupted else signal.SIGINT
                if is_first_process:
                    said = [f"stopped by {ENDED_BY[by]}", *getattr(error, "__notes__", [])]
                    sys.stderr.write(f"\n{_sentences(said)}\n")
                sys.exit(OF_SIGNALS + by)
            try:
                _close_bars()
                if (line := foreseen(error)) is None:
                    traceback.print_exc()
                    line = where_to_report()
                else:
                    line = _sentences([line, *getattr(error, "__notes__", [])])
                sys.stderr.write(f"error: {line}\n" if is_first_process else f"error of process {rank}: {line}\n")
                sys.stdout.flush()
            except OSError:  # of a disk that is full, or nobody reads it
                _write_no_more()
            sys.exit(2 if isinstance(error, InputError) and of_memory(error) is None else 1)


def _sentences(said: Sequence[str]) -> str:
    """Write an error and its notes one after the other, the last without a full stop."""
    *before, last = said
    return " ".join([*(each if each.endswith((".", "?", "!")) else f"{each}." for each in before), last])


def _open_streams() -> None:
    """Give a process that was started without standard streams some that lead nowhere; a text is written as it can be.

    Else the first file that it opens would be taken for one of them.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            while os.open(os.devnull, os.O_RDWR) < number:
                pass
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a text may have characters that a terminal has not
            stream.reconfigure(errors="backslashreplace")


def _close_bars() -> None:
    """End the line of each bar of progress: what is said next begins its own."""
    if (tqdm := sys.modules.get("tqdm")) is not None:
        for bar in list(getattr(tqdm.tqdm, "_instances", ())):
            bar.close()


def _is_unread() -> bool:
    """Tell whether nobody reads any more what this process prints; libraries print too, as bars of progress."""
    streams = select.poll()
    for number in (1, 2):
        streams.register(number, 0)
    return any(said & (select.POLLERR | select.POLLHUP) for _, said in streams.poll(0))


def _write_no_more() -> None:
    """Let what is still to be printed go nowhere: Python would complain about it when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


@contextlib.contextmanager
def _interruptible() -> Iterator[list[signal.Signals]]:
    """Let Ctrl-C and SIGTERM raise `KeyboardInterrupt`, and once more end the process at once.

    Without it SIGTERM would leave temporary folders behind, with models in them.

    Yields:
        A list that is empty until then, and has the signal from then on.
    """
    interrupted: list[signal.Signals] = []
    own = os.getpid()

    def interrupt(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        if number == signal.SIGTERM and os.getpid() != own:  # a worker, which has the handler of who forked it
            os.kill(os.getpid(), number)
            return
        interrupted.append(signal.Signals(number))
        raise KeyboardInterrupt

    before: dict[signal.Signals, Any] = {}
    with contextlib.suppress(ValueError):  # not the main thread
        for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) is default:  # where it is ignored, as for a job in the background, it stays so
                before[number] = signal.signal(number, interrupt)
    try:
        yield interrupted
    finally:
        if not interrupted:
            for number, handler in before.items():
                signal.signal(number, handler)


if __name__ == "__main__":
    main()
