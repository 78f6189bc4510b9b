"""Errors for the person who reads them: one line that says what was wrong, where, and what to do."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType

LONGEST_LINE = 300

# Which extra of this package brings a package. What is not here comes with the base install.
EXTRAS = {
    "accelerate": "train",
    "bitsandbytes": "qlora",
    "bm25s": "eval",
    "bs4": "data",
    "datasets": "data",
    "gguf": "gguf",
    "liger_kernel": "gpu",
    "markdown_it": "data",
    "markdownify": "data",
    "matplotlib": "train",
    "mteb": "eval",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "openvino": "export",
    "peft": "train",
    "pyarrow": "data",
    "ray": "ray",
    "scipy": "data",
    "semantic_text_splitter": "data",
    "Stemmer": "eval",
}


class InputError(ValueError):
    """Input or arguments that cannot be used.

    The message is one line for the person who reads it: what was wrong, where (file, line, column),
    and what to do. The commands print it and exit with code 2, before any long work starts.
    """


class RowError(InputError):
    """A row that cannot be used.

    Args:
        where: Source and line, and the column where it is one.
        reason: What is wrong, in words that are the same for all rows it is wrong with.
        detail: What is wrong with this one; default is the reason.
    """

    def __init__(self, where: str, reason: str, detail: str | None = None) -> None:
        super().__init__(f"{where}: {detail or reason}")
        self.where = where
        self.reason = reason


def one_line(error: BaseException | str) -> str:
    """Return what an error of another library says as one line; the name of its class where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return shortened(text, LONGEST_LINE)


def shortened(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters; a longer one ends with three dots."""
    return text if len(text) <= most else text[: most - 3].rstrip() + "..."


@contextlib.contextmanager
def naming_the_extra(what: str) -> Iterator[None]:
    """Say which extra of this package is absent, where an import fails for one.

    Args:
        what: What needs it, for the message: a command, a flag, a kind of file.

    Raises:
        InputError: If a package of an extra is not installed; with the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise InputError(
            f"{what} needs {package}, which is not installed: pip install 'lbr-st[{EXTRAS[package]}]'"
        ) from error


def require(module: str, what: str) -> ModuleType:
    """Import a module of an extra where it is needed, see `naming_the_extra`."""
    with naming_the_extra(what):
        return importlib.import_module(module)
