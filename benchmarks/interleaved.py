"""Seconds of several runs that are repeated in turn, so that what else a machine does is shared by all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def interleaved(runs: Mapping[str, Callable[[int], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each run, by name, in every repeat; each repeat begins with the next one.

    Args:
        runs: What is timed, by name; it is given the number of the repeat.
        repeats: How often.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    names = [*runs]
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            runs[name](repeat)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(name: str, one: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """Return as a figure how many times more one run has than another: the median of repeats, and both ends."""
    ratios = [a / b for a, b in zip(one, other, strict=True)]
    return {name: statistics.median(ratios), f"{name}_min": min(ratios), f"{name}_max": max(ratios)}
