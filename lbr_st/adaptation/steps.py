"""A long path in steps: each leaves a folder, is done once, and is known again by what it was told and stands on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lbr_st.errors import InputError
from lbr_st.files import UNFINISHED, read_json, remove_unfinished, write_json

logger = logging.getLogger(__name__)

STEP_FILE = "lbr_step.json"
# Flags that decide a setting which nobody need have given.
DECIDED_BY = {"objective": "--learn or --skip, --queries, --generator, and whether --model chats"}


class Step(NamedTuple):
    """A step that is done.

    Attributes:
        name: Its name.
        what: What it does, for people.
        folder: What it left.
        said: What came of it, as plain JSON.
        seconds: Time it took, in all the runs that worked on it.
    """

    name: str
    what: str
    folder: Path
    said: dict[str, Any]
    seconds: float


class Steps:
    """The steps of one path, in the order they are asked for.

    Started again, those that are done are not done again, and the one that was cut off goes on in its own folder. A
    step that would be told something else than before is refused: what stands on it would belong to another path. So is
    one that is done and has lost files since.

    Args:
        folder: Folder of all steps.
        number: Number of steps, for messages.
    """

    def __init__(self, folder: str | Path, number: int) -> None:
        self.folder = Path(folder)
        self.number = number
        self.done: list[Step] = []
        self._at = 0
        self._before = ""

    def __call__(
        self, name: str, what: str, settings: Mapping[str, Any], run: Callable[[Path], Mapping[str, Any]]
    ) -> Step:
        """Do a step, unless it is done.

        Args:
            name: Name of the step, and of its folder.
            what: What it does, for people.
            settings: Everything that decides what it leaves, beside the steps before it, as plain JSON.
            run: Fills the folder that it is given, and goes on with what a run that was cut off left there; returns
                what came of it, as plain JSON.

        Returns:
            The step, done now or before.

        Raises:
            InputError: If the folder holds the step with other settings, or not all of it.
        """
        folder, told, found = self._next(name, settings)
        if found.get("said") is None:
            logger.info("\n[%d/%d] %s", self._at, self.number, what)
            with self.saying_how_to_go_on(f"step {self._at} of {self.number}, {name}"):
                found = self._run(folder, told, found.get("seconds", 0.0), run)
        else:
            logger.info("\n[%d/%d] %s: done before, see %s", self._at, self.number, what, folder)
        self.done.append(Step(name, what, folder, found["said"], found["seconds"]))
        return self.done[-1]

    def look(self, name: str, settings: Mapping[str, Any]) -> bool:
        """Tell whether a step is done, in the place of doing it.

        Args:
            name: Name of the step, and of its folder.
            settings: See `__call__`.

        Raises:
            InputError: If the folder holds the step with other settings, or not all of it.
        """
        return self._next(name, settings)[2].get("said") is not None

    @contextlib.contextmanager
    def saying_how_to_go_on(self, what: str) -> Iterator[None]:
        """Let an error say that what is done is kept, unless it says itself how to go on.

        Args:
            what: What is being done, for the message.
        """
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:
            # The stages speak of a flag that this path does without.
            notes = [note.replace(" with --resume", "") for note in getattr(error, "__notes__", [])]
            if isinstance(error, InputError):
                last = f"It was {what}; what was done before it is kept in {self.folder}"
            else:
                last = f"It was {what}; the same command goes on there"
            error.__notes__ = notes if any("the same command" in note for note in notes) else [*notes, last]
            raise

    def _next(self, name: str, settings: Mapping[str, Any]) -> tuple[Path, dict[str, Any], dict[str, Any]]:
        """Return the folder of the next step, what it is told, and what is there of it."""
        self._at += 1
        folder = self.folder / f"{self._at}-{name}"
        told = json.loads(json.dumps({"settings": settings, "after": self._before}))
        found = self._found(folder)
        if found:
            self._compare(folder, found, told)
            self._check_files(folder, found)
        self._before = hashlib.sha256(json.dumps([name, told], sort_keys=True).encode()).hexdigest()
        return folder, told, found

    def _run(
        self, folder: Path, told: dict[str, Any], seconds: float, run: Callable[[Path], Mapping[str, Any]]
    ) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
        write_json(folder / STEP_FILE, told | {"seconds": seconds})
        start = time.perf_counter()
        try:
            said = dict(run(folder))
        finally:  # of a run that ends here, too
            found = told | {"seconds": round(seconds + time.perf_counter() - start, 1)}
            with contextlib.suppress(OSError):  # the disk may be full: what stopped the run says so
                write_json(folder / STEP_FILE, found)
        found |= {"said": said, "files": _sizes(folder)}
        write_json(folder / STEP_FILE, found)
        return found

    def _found(self, folder: Path) -> dict[str, Any]:
        file = folder / STEP_FILE
        if not file.is_file():
            if folder.is_dir() and any(each.suffix != UNFINISHED for each in folder.iterdir()):
                raise InputError(f"{folder} is not empty and holds no step to go on with (no {STEP_FILE}); remove it")
            return {}
        try:
            found = read_json(file)
            is_whole = (
                isinstance(found["settings"], dict)
                and isinstance(found["after"], str)
                and isinstance(found.get("said", {}), dict)
                and isinstance(found["seconds"], int | float)
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            is_whole = False
        if not is_whole:
            raise InputError(f"{file} is damaged; remove {folder}, and the step is done again")
        is_begun = "said" in found or len(list(folder.iterdir())) > 1
        return found if is_begun else {}  # a step that left nothing may be told something else

    def _compare(self, folder: Path, found: Mapping[str, Any], told: Mapping[str, Any]) -> None:
        if found["settings"] == told["settings"] and found["after"] == told["after"]:
            return
        old, new = found["settings"], told["settings"]
        changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        details = "; ".join(_change(name, old.get(name), new.get(name)) for name in changed)
        why = details or "a step before it has other settings"
        raise InputError(
            f"{folder} was made with other settings ({why}); remove it and the steps after it to make them again, or "
            "choose another --output-dir"
        )

    def _check_files(self, folder: Path, found: Mapping[str, Any]) -> None:
        sizes = _sizes(folder) if "said" in found else {}
        for name, size in found.get("files", {}).items():
            if sizes.get(name) != size:
                why = f"has {sizes[name]:,} bytes, where it had {size:,}" if name in sizes else "is gone"
                raise InputError(
                    f"{folder} is damaged: {name} {why}; remove the folder and the steps after it, and they are done "
                    "again"
                )


def _change(name: str, old: Any, new: Any) -> str:
    """Say that a setting has changed, without the hashes of contents, which tell a reader nothing."""
    if all(re.search(r"\b[0-9a-f]{64}\b", str(value)) for value in (old, new)):
        return f"{name}: other contents than it had"
    by = f", by {DECIDED_BY[name]}" if name in DECIDED_BY else ""
    return f"{name}: was {old!r}, now {new!r}{by}"


def is_done(folder: Path) -> bool:
    """Tell whether a folder holds a step that is done, whatever it was told."""
    try:
        return "said" in read_json(folder / STEP_FILE)
    except (OSError, ValueError, TypeError):
        return False


def _sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of the files that a step left, by their paths below its folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / STEP_FILE)
    return {str(file.relative_to(folder)): file.stat().st_size for file in files}


def start_over(folder: Path, *names: str) -> None:
    """Remove what a step that cannot go on in the middle left, by name."""
    for name in names:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
