"""Runs that are killed, or whose writes fail, and are started again: do they end with the same bytes?"""

from __future__ import annotations

import errno
import importlib.util
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import children
from cases import Case, Setting
from children import Child, End, TookTooLong, within
from faults import TAKES_ROOM, Fault, full_at, full_disk, read_only, watch
from restarts import OUTPUT, Material, Run, difference, files_of, runs_of

from lbr_st.errors import one_line

HOW_OFTEN = {
    "learn": 14, "learn-best": 10, "learn-lora": 8, "align": 14, "align-best": 10, "align-lora": 8, "prepare": 10,
    "prepare-taught": 6, "encode": 8, "encode-int8": 5, "encode-ray": 1, "save": 2, "save-over": 2, "save-native": 2,
}  # fmt: skip
TRIES = 8  # moments that are drawn until one comes before the end of a run
KILLED_AGAIN = 0.25  # share of the cases in which the run that goes on is killed too


class Straight(NamedTuple):
    """An uninterrupted run.

    Attributes:
        files: What it leaves, see `files_of`.
        moments: Kinds of the moments at which it changes files, in order.
        sizes: Sizes of its files in bytes.
        seconds: How long it takes.
    """

    files: dict[str, str]
    moments: list[str]
    sizes: list[int]
    seconds: float


class Interrupted:
    """Runs that are stopped in their middle and started again.

    Args:
        setting: Where and how.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting, self.folder = setting, setting.folder
        self.runs = runs_of(Material(self.folder / "material"))
        self.has_ray = importlib.util.find_spec("ray") is not None
        self._straight: dict[str, Straight] = {}

    def draw(self, rng: random.Random, with_ray: bool = False) -> tuple[Run, Straight, str]:
        """Draw a kind of run; return it, its uninterrupted run, and the name that was drawn."""
        drawn = rng.choices([*HOW_OFTEN], [*HOW_OFTEN.values()])[0]
        has_ray = with_ray and self.has_ray
        run = self.runs["encode" if drawn == "encode-ray" and not has_ray else drawn]
        return run, self.straight(run), drawn

    def straight(self, run: Run) -> Straight:
        """Return the uninterrupted run: made twice, in this process and in one of its own, to the same bytes.

        Raises:
            RuntimeError: If they differ, or it ends with an error.
        """
        if run.name not in self._straight:
            here, there = (self.lay_out(run, self.folder / f"straight-{run.name}-{n}") for n in range(2))
            self.finish(run, here)
            if run.command is None:
                end = Child(lambda: _watched(run, there), self.setting.loud).wait()
            else:
                start = time.perf_counter()
                self.finish(run, there)
                end = End([], None, 0, time.perf_counter() - start)
            if end.error or end.signal:
                raise RuntimeError(f"an uninterrupted {run.name} ended with {end.error or end.signal}")
            files = files_of(here / OUTPUT)
            if wrong := difference(files_of(there / OUTPUT), files):
                raise RuntimeError(f"two uninterrupted runs of {run.name} differ: {wrong}")
            sizes = [file.stat().st_size for file in there.rglob("*") if file.is_file()]
            self._straight[run.name] = Straight(files, end.value, sizes, end.seconds)
            shutil.rmtree(here)
            shutil.rmtree(there)
        return self._straight[run.name]

    def lay_out(self, run: Run, folder: Path) -> Path:
        """Make the folder of a run anew."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if run.before is not None:
            run.before(folder)
        return folder

    def finish(self, run: Run, folder: Path) -> None:
        """Start a run, or go on with it, to its end."""
        if run.command is None:
            with within(children.LONGEST):
                run.start(folder)
            return
        done = subprocess.run(_command(run, folder), capture_output=True, text=True, timeout=2 * children.LONGEST)
        if done.returncode:
            raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")

    def end(self, run: Run, straight: Straight, folder: Path, wrong: str | None) -> Case:
        """Start a run that was stopped once more, and look at what it leaves.

        Args:
            run: The run.
            straight: What it leaves where nothing stops it.
            folder: Its folder.
            wrong: What was wrong before.
        """
        try:
            self.finish(run, folder)
            wrong = wrong or difference(files_of(folder / OUTPUT), straight.files)
        except (Exception, TookTooLong) as error:
            wrong = wrong or f"the next run ended with {type(error).__name__}: {error}"
        if wrong is None:
            shutil.rmtree(folder)
        return {"ok": wrong is None, "why": wrong and one_line(wrong.replace(f"{self.folder}/", ""))}

    def kill(self, number: int) -> Case:
        """Kill a run, most of them once, and start it again to its end."""
        rng = self.setting.rng(number)
        run, straight, drawn = self.draw(rng, with_ray=True)
        folder = self.folder / f"case-{number}"
        for _ in range(TRIES):
            self.lay_out(run, folder)
            end, moment = self._killed(run, straight, folder, rng)
            if end.was_killed:
                break
        wrong = None if end.was_killed else f"it was never killed, and ended with {end.error or end.signal}"
        wrong = wrong or run.half_written(folder, straight.files)
        is_again = rng.random() < KILLED_AGAIN
        if is_again:
            again, _ = self._killed(run, straight, folder, rng)
            is_again = again.was_killed
            wrong = wrong or run.half_written(folder, straight.files)
            if again.error:
                wrong = wrong or f"the run that went on ended with {again.error}"
        said = {"run": run.name, "drawn": drawn, "moment": moment, "kills": 1 + is_again}
        return said | self.end(run, straight, folder, wrong)

    def _killed(self, run: Run, straight: Straight, folder: Path, rng: random.Random) -> tuple[End, str]:
        """Start a run and kill it at a moment: at one of its changes of files, or at any time."""
        if run.command is not None:
            return self._killed_command(run, straight, folder, rng)
        if rng.random() < 0.5:
            place, share = rng.randrange(len(straight.moments)), rng.random()
            moment = f"{straight.moments[place]} {place}"
            return Child(lambda: _watched(run, folder, Fault(place, share)), self.setting.loud).wait(), moment
        seconds = rng.uniform(0, straight.seconds)
        return Child(lambda: run.start(folder), self.setting.loud).kill_after(seconds), f"{seconds:.2f} s"

    def _killed_command(self, run: Run, straight: Straight, folder: Path, rng: random.Random) -> tuple[End, str]:
        """Kill a process that was started as users start it: most of the time goes into starting it."""
        seconds = straight.seconds * rng.uniform(0.3, 1)
        begun = time.perf_counter()
        with subprocess.Popen(_command(run, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        ended = max(-process.returncode, 0)
        return End(None, None, ended, time.perf_counter() - begun), f"{seconds:.2f} s"

    def fail_on_a_full_disk(self, number: int) -> Case:
        """Let a write find no room, or all from one on, or none that makes a file larger than some bytes."""
        rng = self.setting.rng(number)
        run, straight, _ = self.draw(rng)
        places = sum(kind in TAKES_ROOM for kind in straight.moments)

        def draw() -> tuple[Fault | int, str]:
            if rng.random() < 1 / 3:
                size = int(rng.choice(straight.sizes) * rng.random())
                return size, f"at {size} bytes"
            place, is_lasting = rng.randrange(places), rng.random() < 0.5
            return full_disk(place, rng.random(), is_lasting), f"{place}{' and all after' if is_lasting else ''}"

        return self._failing(number, run, straight, draw)

    def fail_where_nothing_is_written(self, number: int) -> Case:
        """Let all fail that changes files, from one moment on."""
        rng = self.setting.rng(number)
        run, straight, _ = self.draw(rng)

        def draw() -> tuple[Fault, str]:
            place, said = rng.randrange(len(straight.moments)), rng.choice([errno.EROFS, errno.EACCES])
            return read_only(place, rng.random(), said), f"{straight.moments[place]} {place} {errno.errorcode[said]}"

        return self._failing(number, run, straight, draw)

    def _failing(self, number: int, run: Run, straight: Straight, draw: Callable[[], tuple[Fault | int, str]]) -> Case:
        folder = self.folder / f"case-{number}"
        for _ in range(TRIES):
            self.lay_out(run, folder)
            fault, moment = draw()
            end = Child(lambda fault=fault: _watched(run, folder, fault), self.setting.loud).wait()  # type: ignore[misc]
            left = difference(files_of(folder / OUTPUT), straight.files)
            if end.error or end.signal or left:
                break  # else nothing failed, or nothing that mattered
        wrong = run.half_written(folder, straight.files)
        ended = f"signal {end.signal}" if end.signal else (end.error or "no error").partition(":")[0]
        if ended == "no error":
            wrong = wrong or f"a write failed, the run ended without an error, and {left or 'all is there'}"
        said = {"run": run.name, "moment": moment, "ended_with": ended, "said": end.error}
        return said | self.end(run, straight, folder, wrong)


def _watched(run: Run, folder: Path, fault: Fault | int | None = None) -> list[str]:
    """Start a run with a fault in it; return the kinds of the moments at which it changed files."""
    if isinstance(fault, int):
        moments = watch(folder)
        full_at(fault)
    else:
        moments = watch(folder, fault)
    run.start(folder)
    return moments.seen


def _command(run: Run, folder: Path) -> list[str]:
    assert run.command is not None
    return [sys.executable, "-m", "lbr_st.cli.main", *run.command(folder)]


def open_kills(setting: Setting) -> Callable[[int], Case]:
    """Return what kills a run and starts it again."""
    return Interrupted(setting).kill


def open_full_disk(setting: Setting) -> Callable[[int], Case]:
    """Return what runs on a full disk, and then again."""
    return Interrupted(setting).fail_on_a_full_disk


def open_read_only(setting: Setting) -> Callable[[int], Case]:
    """Return what runs where nothing can be written, and then again."""
    return Interrupted(setting).fail_where_nothing_is_written


def figures_of_kills(cases: Sequence[Case]) -> dict[str, float]:
    """Return the figures of the kills; a case counts one."""
    by_ray = sum(case["run"] == "encode-ray" for case in cases)
    kinds = Counter(case["run"].partition("-")[0] for case in cases)
    return {
        "kills": len(cases),
        "kills_survived": sum(case["ok"] for case in cases),
        "kills_sent": sum(case["kills"] for case in cases),
        "kills_on_ray": by_ray,
        **{f"kills_of_{kind}": number for kind, number in sorted(kinds.items())},
    }


def figures_of_failing(cases: Sequence[Case], arm: str) -> dict[str, float]:
    """Return the figures of runs in which writes failed."""
    died = sum(case["ended_with"].startswith("signal") for case in cases)
    return {f"{arm}_writes": len(cases), f"{arm}_survived": sum(case["ok"] for case in cases), f"{arm}_died": died}
