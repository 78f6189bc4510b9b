"""What a language model has answered so far, on disk: a run that was killed goes on with it, and no other run does."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from lbr_st.adaptation.query_text import Answer
from lbr_st.errors import InputError, one_line
from lbr_st.files import parents_that_go, read_json, write_json

MANIFEST, ANSWERS = "_manifest.json", "answers.jsonl"

Key = tuple[str, str, int]  # id of the passage, kind, number of the query of this kind

# What is said of settings that are no flags.
CHANGED = {
    "model_sha256": "with another model by that name",
    "prompts_sha256": "by a version of lbr-st that asks in other words",
    "passages_sha256": "with data that have changed since",
}


class Answers:
    """The answers of one run, in a folder of their own: a file that only grows, and what the run was told.

    Args:
        folder: Folder of the answers, which need not be there.
        settings: All that decides the answers, as plain JSON.

    Raises:
        InputError: If the folder holds answers of a run that was told something else, or is another's.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, json.loads(json.dumps(settings))
        self._file: IO[bytes] | None = None
        self._found, self._whole = _read(folder / ANSWERS)
        self._refused: dict[Key, Answer] = {}
        self._check()

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, key: Key) -> bool:
        return key in self._found or key in self._refused

    def __getitem__(self, key: Key) -> Answer:
        return self._found[key] if key in self._found else self._refused[key]

    def _check(self) -> None:
        file = self.folder / MANIFEST
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file, and answers are kept in a folder by that name; move it")
        if not file.is_file():
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise InputError(f"{self.folder} holds other files, and answers are kept in a folder by that name")
            return
        try:
            before = read_json(file)
            changed = [name for name in self.settings if before.get(name) != self.settings[name]]
        except (ValueError, AttributeError) as error:
            raise InputError(f"{file} is not what lbr data queries wrote: {one_line(error)}; delete it") from error
        if changed and self._found:
            name = changed[0]
            flag = name.replace("_", "-")
            how = CHANGED.get(name, f"with --{flag} {_said(before.get(name))}, now it is {_said(self.settings[name])}")
            raise InputError(
                f"{self.folder} holds {len(self)} answers of a run that was begun {how}; go on with what it was, "
                "delete that folder, or choose another --output-dir"
            )

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Keep what is added from now on; a last line that a kill tore goes, and a folder without an answer too."""
        with parents_that_go(self.folder.parent):
            self.folder.mkdir(exist_ok=True)
            try:
                write_json(self.folder / MANIFEST, self.settings)
                with open(self.folder / ANSWERS, "ab") as self._file:
                    self._file.truncate(self._whole)
                    yield
            finally:
                if not self._found:
                    self.remove()

    def add(self, key: Key, answer: Answer) -> None:
        """Keep an answer: it is on its way to the disk when this returns. What was refused is asked again next time."""
        assert self._file is not None, "answers are added within open()"
        if answer.refused:
            self._refused[key] = answer
            return
        id_, kind, number = key
        row = {"id": id_, "kind": kind, "number": number, "text": answer.text, "ended": answer.ended}
        self._file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        self._file.flush()
        self._found[key] = answer

    def remove(self) -> None:
        """Remove the folder: what was asked for is made of the answers."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _said(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _read(file: Path) -> tuple[dict[Key, Answer], int]:
    """Return the answers of a file, and how many bytes of it are whole lines.

    Raises:
        InputError: If a line before the last one is damaged.
    """
    found: dict[Key, Answer] = {}
    whole = 0
    if not file.is_file():
        return found, whole
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                found[row["id"], row["kind"], row["number"]] = Answer(row["text"], row["ended"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{file}, line {number}: no answer ({one_line(error)}); delete the line") from error
            whole += len(line)
    return found, whole
