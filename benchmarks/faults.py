"""Faults at chosen moments of a run: what changes the files below a folder is counted, and one such change goes wrong.

A moment is whatever Python says of a file before it is done, and every piece of bytes that leaves it: a file opened to
be written, a write of its buffer, an ``fsync``, a folder made, a file or folder renamed or removed. What libraries of
other languages write (weights, optimizers, Parquet) is one moment each; a kill at any time, and a limit on the size of
files, find them in their middle.

What is installed here stays until the process ends: it is for a fork, see `children`.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet
import safetensors.torch
import torch

# What takes room on a disk, and what does not.
TAKES_ROOM = frozenset({"open", "write", "mkdir", "fsync", "native"})
ALL = TAKES_ROOM | {"rename", "remove"}
# Functions that write a file by themselves, and which of their arguments is its path.
NATIVE: list[tuple[Any, str, int]] = [
    (safetensors.torch, "serialize_file", 1),
    (torch, "save", 1),
    (pyarrow.parquet, "write_table", 1),
]
# Events of Python's audit hooks. What comes with each is a path and, at this place, the open folder that it is in.
EVENTS: dict[str, tuple[str, int]] = {
    "os.mkdir": ("mkdir", 2),
    "os.remove": ("remove", 1),
    "os.rmdir": ("remove", 1),
    "os.rename": ("rename", 2),
}


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and when.

    Attributes:
        moment: Which of the moments of ``kinds`` it is, from 0.
        share: Share of the bytes of a write that get there all the same.
        errno: What the operating system says; None for a SIGKILL.
        kinds: Kinds of moments that it can be.
        lasting: Whether all later moments of ``kinds`` go wrong too.
    """

    moment: int
    share: float = 0.0
    errno: int | None = None
    kinds: frozenset[str] = ALL
    lasting: bool = False

    def strike(self, path: str) -> None:
        """Kill this process, or raise what the operating system says.

        Raises:
            OSError: If it is no kill.
        """
        if self.errno is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            raise OSError(self.errno, os.strerror(self.errno), path)


@dataclass
class Moments:
    """What happens to the files below a folder in this process, from `watch` on.

    Attributes:
        root: The folder.
        fault: What goes wrong; None to count alone.
        seen: Kinds of the moments so far.
        counted: How many of them the fault counts.
        is_inside: Whether what happens now is a part of another moment.
    """

    root: str
    fault: Fault | None = None
    seen: list[str] = field(default_factory=list)
    counted: int = 0
    is_inside: bool = False

    def is_wrong(self, kind: str) -> bool:
        """Count a moment; tell whether it goes wrong."""
        self.seen.append(kind)
        if self.fault is None or kind not in self.fault.kinds:
            return False
        place, self.counted = self.counted, self.counted + 1
        return place == self.fault.moment or (self.fault.lasting and place > self.fault.moment)

    def strike(self, path: str) -> None:
        """Let the fault happen."""
        assert self.fault is not None
        self.fault.strike(path)

    def is_below(self, path: Any, folder: int = -1) -> bool:
        """Tell whether a path, which may be relative to an open folder, is below the root."""
        if isinstance(path, int):
            return False
        name = os.fsdecode(path)
        if not os.path.isabs(name):
            name = os.path.join(os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else os.getcwd(), name)
        return name.startswith(self.root + os.sep)

    def on_event(self, event: str, args: tuple[Any, ...]) -> None:
        """Look at what Python is about to do."""
        if event == "open":
            path, _, flags = args
            kind, is_change = "open", bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) and self.is_below(path)
        elif event in EVENTS:
            kind, place = EVENTS[event]
            path, is_change = args[0], self.is_below(args[0], args[place])
        else:
            return
        if is_change and not self.is_inside and self.is_wrong(kind):
            self.strike(str(path))

    def open(self, file: Any, mode: str = "r", buffering: int = -1, *args: Any, **kwargs: Any) -> Any:
        """Open a file as `io.open` does, of one that is written only so that its writes are seen."""
        if "+" in mode or not set(mode) & set("wax") or buffering == 0 or not self.is_below(file):
            return _open(file, mode, buffering, *args, **kwargs)
        names = ("encoding", "errors", "newline", "closefd", "opener")
        told: dict[str, Any] = {"closefd": True} | dict(zip(names, args, strict=False)) | kwargs
        raw = WatchedFile(file, mode.replace("b", "").replace("t", ""), told["closefd"], told.get("opener"))
        raw.moments = self
        binary = io.BufferedWriter(raw)
        if "b" in mode:
            return binary
        encoding, errors, newline = (told.get(name) for name in names[:3])
        return io.TextIOWrapper(binary, encoding, errors, newline, line_buffering=buffering == 1)

    def native(self, write: Callable[..., Any], place: int) -> Callable[..., Any]:
        """Return a function that writes a file by itself as one moment."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            path = args[place] if len(args) > place else None
            if self.is_inside or not isinstance(path, str | os.PathLike) or not self.is_below(path):
                return write(*args, **kwargs)
            is_wrong = self.is_wrong("native")
            self.is_inside = True
            try:
                found = write(*args, **kwargs)
                if is_wrong:
                    assert self.fault is not None
                    os.truncate(path, int(self.fault.share * os.path.getsize(path)))
            finally:
                self.is_inside = False
            if is_wrong:
                self.strike(str(path))
            return found

        return watched

    def fsync(self, file: Any) -> None:
        """Do what `os.fsync` does, as a moment."""
        if self.is_wrong("fsync"):
            self.strike("")
        _fsync(file)


class WatchedFile(io.FileIO):
    """A file whose writes are moments."""

    moments: Moments

    def write(self, data: Any) -> int:
        """Write, or a part of it and then the fault."""
        if self.moments.is_wrong("write"):
            assert self.moments.fault is not None
            piece = bytes(data)
            super().write(piece[: int(self.moments.fault.share * len(piece))])
            self.moments.strike(str(self.name))
        return super().write(data)


_open, _fsync = io.open, os.fsync


def watch(root: Path, fault: Fault | None = None) -> Moments:
    """Count what changes the files below a folder from now on, for as long as this process lives.

    Temporary files are made below it too.

    Args:
        root: The folder.
        fault: What goes wrong in it.
    """
    moments = Moments(str(root.resolve()), fault)
    (root / "tmp").mkdir(exist_ok=True)
    tempfile.tempdir = str(root.resolve() / "tmp")
    for module, name, place in NATIVE:
        setattr(module, name, moments.native(getattr(module, name), place))
    builtins.open = io.open = moments.open
    os.fsync = moments.fsync  # type: ignore[assignment]
    sys.addaudithook(moments.on_event)
    return moments


def full_at(size: int) -> None:
    """Let no file of this process grow beyond a number of bytes: a write ends in its middle, whoever writes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write says it, and the process lives
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def full_disk(moment: int, share: float, lasting: bool) -> Fault:
    """Return a disk that is full from a moment on, or at that one alone; what is there can be renamed and removed."""
    return Fault(moment, share, errno.ENOSPC, TAKES_ROOM, lasting)


def read_only(moment: int, share: float, number: int) -> Fault:
    """Return a file system that takes nothing any more from a moment on, and says so by an errno."""
    return Fault(moment, share, number, ALL, lasting=True)
