"""A long path in steps: each leaves a folder, is done once, and is known again by what it was told and stands on."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lbr_st.errors import InputError
from lbr_st.files import read_json, write_json

logger = logging.getLogger(__name__)

STEP_FILE = "lbr_step.json"


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
    step that would be told something else than before is refused: what stands on it would belong to another path.

    Args:
        folder: Folder of all steps.
        number: Number of steps, for messages.
    """

    def __init__(self, folder: str | Path, number: int) -> None:
        self.folder = Path(folder)
        self.number = number
        self.done: list[Step] = []
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
            InputError: If the folder holds the step with other settings.
        """
        at = len(self.done) + 1
        folder = self.folder / f"{at}-{name}"
        told = json.loads(json.dumps({"settings": settings, "after": self._before}))
        found = self._found(folder)
        if found:
            self._compare(folder, found, told)
        self._before = hashlib.sha256(json.dumps([name, told], sort_keys=True).encode()).hexdigest()
        if found.get("said") is None:
            logger.info("\n[%d/%d] %s", at, self.number, what)
            folder.mkdir(parents=True, exist_ok=True)
            seconds = found.get("seconds", 0.0)
            write_json(folder / STEP_FILE, told | {"seconds": seconds})
            start = time.perf_counter()
            try:
                said = dict(run(folder))
            finally:  # of a run that ends here, too
                found = told | {"seconds": round(seconds + time.perf_counter() - start, 1)}
                write_json(folder / STEP_FILE, found)
            found |= {"said": said}
            write_json(folder / STEP_FILE, found)
        else:
            logger.info("\n[%d/%d] %s: done before, see %s", at, self.number, what, folder)
        self.done.append(Step(name, what, folder, found["said"], found["seconds"]))
        return self.done[-1]

    def _found(self, folder: Path) -> dict[str, Any]:
        file = folder / STEP_FILE
        if not file.is_file():
            if folder.is_dir() and any(folder.iterdir()):
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
        details = "; ".join(f"{name}: was {old.get(name)!r}, now {new.get(name)!r}" for name in changed)
        why = details or "a step before it has other settings"
        raise InputError(
            f"{folder} was made with other settings ({why}); remove it and the steps after it to make them again, or "
            "choose another --output-dir"
        )


def start_over(folder: Path, *names: str) -> None:
    """Remove what a step that cannot go on in the middle left, by name."""
    for name in names:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
