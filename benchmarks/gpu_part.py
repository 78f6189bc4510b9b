"""What the parts of ``make gpu`` have in common: a device, a limit of time, and what they say of what they left out.

A part ends with exit code 0 where all of it ran, `LEFT_OUT` where something could not (no time, no package, no
memory) and nothing failed, `FAILED` where something failed. What it is, it says in a line; the rest goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

import torch
from flags import program_parser

from lbr_st.errors import InputError, one_line

FAILED, LEFT_OUT = 1, 3
DEVICES = ("cuda", "cpu")
Result = TypeVar("Result")


class OutOfTime(Exception):
    """The time of a part is over, in the middle of something."""


class Part:
    """A part that is running.

    Args:
        seconds: How long it may take; None is as long as it wants.
    """

    def __init__(self, seconds: float | None) -> None:
        self._end = float("inf") if seconds is None else time.monotonic() + seconds
        self.left_out: list[str] = []
        self.failed: list[str] = []

    @property
    def seconds_left(self) -> float:
        """How long it may go on; infinity where it has no limit."""
        return self._end - time.monotonic()

    def has_time_for(self, what: str, seconds: float = 0.0) -> bool:
        """Tell whether so many seconds are left, and leave something out where they are not."""
        if self.seconds_left > seconds:
            return True
        self.leave_out(what, "no time is left")
        return False

    def go_on(self) -> None:
        """Do nothing while there is time.

        Raises:
            OutOfTime: Where there is none.
        """
        if self.seconds_left <= 0:
            raise OutOfTime("no time is left")

    def leave_out(self, what: str, why: str) -> None:
        """Say what is left out, and why."""
        self.left_out.append(f"{what}: {why}")
        print(f"left out: {self.left_out[-1]}", flush=True)

    def attempt(self, what: str, run: Callable[[], Result]) -> Result | None:
        """Do something and return what comes of it; say so where it cannot be done, and return None."""
        is_full = False
        try:
            return run()
        except OutOfTime as error:
            self.leave_out(what, str(error))
        except torch.OutOfMemoryError as error:
            self.leave_out(what, one_line(error))
            is_full = True
        except Exception as error:  # nobody is there to mend it: what comes after must not be lost
            self.failed.append(f"{what}: {one_line(error)}")
            if not isinstance(error, InputError):
                traceback.print_exc()
            print(f"failed: {self.failed[-1]}", flush=True)
        if is_full:  # not before: the error has what filled it
            torch.cuda.empty_cache()
        return None

    def end(self) -> None:
        """End the program, with the exit code of the part.

        Raises:
            SystemExit: Where something failed or was left out.
        """
        if self.failed or self.left_out:
            sys.exit(FAILED if self.failed else LEFT_OUT)


def part_parser(about: str | None) -> argparse.ArgumentParser:
    """Return a parser of the arguments that all parts have."""
    parser = program_parser(about)
    parser.add_argument(
        "--device", choices=DEVICES, default="cuda", help="cpu runs everything at toy size (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, metavar="N", help="how long it may take (default: no limit)")
    return parser


def require_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        InputError: If torch finds no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(f"torch {torch.__version__} finds no GPU here; --device cpu runs everything at toy size")
