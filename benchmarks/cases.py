"""Cases of a campaign: numbered, each drawn from a seed and its number, and written down as soon as it is done."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from lbr_st.errors import InputError

Case = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Where and how the cases of an arm are run.

    Attributes:
        arm: Name of the arm.
        folder: Folder to work in.
        seed: Seed of all draws.
        share: Share of the whole campaign that is run.
        loud: Whether what the cases print is kept.
    """

    arm: str
    folder: Path
    seed: int = 0
    share: float = 1.0
    loud: bool = False

    def rng(self, number: int) -> random.Random:
        """Return what a case draws from."""
        return random.Random(f"{self.seed} {self.arm} {number}")


class Journal:
    """The cases of an arm that are done, a line of JSON each, below a line with what they were run with.

    Args:
        path: File; made where it is not there.
        settings: What decides the cases.

    Attributes:
        cases: Cases by number.

    Raises:
        InputError: If the file is of other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.cases: dict[int, Case] = {}
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        # A kill of this program may have cut the last line off.
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        if lines and lines[0] != settings:
            raise InputError(f"{path} was begun with {lines[0]}, now it is {settings}; move it away to begin anew")
        self.cases = {line["case"]: line for line in lines[1:]}

    @contextlib.contextmanager
    def writing(self) -> Iterator[TextIO]:
        """Keep other processes away from the file, and what is half a line out of it.

        Raises:
            InputError: If another process writes it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(f"another process works on {self.path}") from error
            file.seek(0)
            text = file.read()
            whole = text[: text.rfind("\n") + 1]
            os.ftruncate(file.fileno(), len(whole.encode()))
            file.seek(0, os.SEEK_END)
            if not whole:
                self._write(file, self.settings)
            yield file

    def add(self, file: TextIO, case: Case) -> None:
        """Write a case down."""
        self.cases[case["case"]] = case
        self._write(file, case)

    def _write(self, file: TextIO, line: dict[str, Any]) -> None:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
        file.flush()
