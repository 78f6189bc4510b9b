"""Work in a fork of this process: what it gives, how it ended, and killing it at a moment.

What takes seconds to import is imported once, before. A process forks safely as long as its torch computes in one
thread: ``OMP_NUM_THREADS=1``, ``TOKENIZERS_PARALLELISM=false``.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from lbr_st.errors import one_line

LONGEST = 120.0  # seconds that a piece of work may take
SET_DEATH_SIGNAL = 1  # of Linux's prctl


class TookTooLong(BaseException):
    """Work that had to be interrupted: no exception that the work itself would catch."""


class End(NamedTuple):
    """How a piece of work ended.

    Attributes:
        value: What it gave, as JSON has it.
        error: Class and message of what it raised; None if it raised nothing.
        signal: Number of the signal that ended its process, or 0.
        seconds: How long it took.
    """

    value: Any
    error: str | None
    signal: int
    seconds: float

    @property
    def was_killed(self) -> bool:
        """Whether its process was killed, by us or by itself."""
        return self.signal == signal.SIGKILL


class Child:
    """A piece of work in a process of its own, forked from this one.

    Args:
        work: What is done; it gives a value that JSON has.
        loud: Whether its output is kept.
    """

    def __init__(self, work: Callable[[], Any], loud: bool = False) -> None:
        self.start = time.perf_counter()
        sys.stdout.flush()
        sys.stderr.flush()
        self._read, write = os.pipe()
        self.process = os.fork()
        if not self.process:
            os.close(self._read)
            _work(work, write, loud)
        os.close(write)

    def kill_after(self, seconds: float) -> End:
        """Kill it when it has run for so long, or wait for its end if that comes first."""
        left = self.start + seconds - time.perf_counter()
        if not select.select([self._read], [], [], max(left, 0.0))[0]:
            os.kill(self.process, signal.SIGKILL)
        return self.wait()

    def wait(self, most: float = LONGEST) -> End:
        """Wait for its end; after ``most`` seconds it is ended.

        Raises:
            TookTooLong: If it had to be.
        """
        pieces: list[bytes] = []
        while True:
            left = self.start + most - time.perf_counter()
            if not select.select([self._read], [], [], max(left, 0.0))[0]:
                os.kill(self.process, signal.SIGKILL)
                os.waitpid(self.process, 0)
                os.close(self._read)
                raise TookTooLong(f"did not end within {most:.0f} seconds")
            piece = os.read(self._read, 65536)
            if not piece:
                break
            pieces.append(piece)
        os.close(self._read)
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        said = json.loads(b"".join(pieces)) if code == 0 else {}
        seconds = time.perf_counter() - self.start
        return End(said.get("value"), said.get("error"), max(-code, 0), seconds)


def die_with_parent() -> None:
    """Have this process killed when the one that started it ends, however that happens."""
    ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, signal.SIGKILL)


def _work(work: Callable[[], Any], write: int, loud: bool) -> NoReturn:
    code = 1
    try:
        die_with_parent()
        if not loud:
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
        said: dict[str, Any] = {}
        try:
            said["value"] = work()
        except BaseException as error:  # an interpreter of another language may raise what is no Exception
            if loud:
                traceback.print_exc()
            said["error"] = f"{type(error).__name__}: {one_line(error)}"
        with open(write, "wb") as pipe:
            pipe.write(json.dumps(said).encode())
        code = 0
    finally:
        os._exit(code)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Interrupt work in this process that takes longer than so many seconds.

    Raises:
        TookTooLong: If it does.
    """

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise TookTooLong(f"did not end within {seconds:.0f} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
