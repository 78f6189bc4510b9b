"""Errors for the person who reads them: one line that says what was wrong, where, and what to do."""

from __future__ import annotations

import importlib
from types import ModuleType

LONGEST_LINE = 300


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


def require(module: str, extra: str, what: str) -> ModuleType:
    """Import a module of an extra of this package.

    Args:
        module: Its dotted name.
        extra: The extra that installs it: ``train``, ``data``, ``eval``, ...
        what: What needs it, for the message: a flag, a command, a kind of file.

    Raises:
        InputError: If it is not installed; with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # it is there, and lacks something itself
        raise InputError(f"{what} needs {error.name}, which is not installed: pip install 'lbr-st[{extra}]'") from error
