"""How many texts are encoded at once: batches by a budget of tokens, and the budget that a machine is fastest with.

Time and memory of a batch go by its tokens, padding included, and not by its number of texts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import torch

# Tokens that are encoded at once where nothing was measured: more make a GPU faster, and on a processor they leave its
# caches and let the next client of a server wait.
BATCH_TOKENS_OF_GPU, BATCH_TOKENS = 16_384, 1_024

# What is tried: twice as much each time, from the first number on.
FIRST_TRIED_OF_GPU, FIRST_TRIED = 2_048, 256
MOST_TRIED = 2**18
PROBE_SECONDS = 2.0
GOOD_ENOUGH = 0.97  # of the best speed: the smallest budget with it takes less memory
FALLING = 0.9  # of the best speed: what is larger is not tried any more


def default_budget(on_gpu: bool) -> int:
    """Return the number of tokens that are encoded at once where nothing was measured."""
    return BATCH_TOKENS_OF_GPU if on_gpu else BATCH_TOKENS


def batches_of(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Part texts into batches that are encoded one after the other, so that little is padded.

    A batch has at most ``budget`` tokens with its padding, or one text; its shortest is at least half as long as its
    longest.

    Args:
        lengths: Number of tokens of each text.
        budget: Most tokens of a batch.

    Returns:
        Positions of the texts of each batch, longest first.
    """
    found: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        longest = lengths[found[-1][0]] if found else 0
        if found and (len(found[-1]) + 1) * longest <= budget and 2 * lengths[at] >= longest:
            found[-1].append(at)
        else:
            found.append([at])
    return found


def pieces_of(sizes: Sequence[int], budget: int, most: int) -> Iterator[list[int]]:
    """Part texts into pieces, each of about twice as many tokens as the one before it.

    The first is small, so that a model can start while the next one is tokenized; the last ones are large, so that
    their batches are full.

    Args:
        sizes: About how many tokens each text has.
        budget: Tokens of the first piece.
        most: Largest piece, in budgets.

    Yields:
        Positions of the texts of a piece, the largest texts first.
    """
    piece: list[int] = []
    tokens, room = 0, budget
    for at in sorted(range(len(sizes)), key=lambda each: -sizes[each]):
        piece.append(at)
        tokens += sizes[at]
        if tokens >= room:
            yield piece
            piece, tokens, room = [], 0, min(2 * room, most * budget)
    if piece:
        yield piece


def measured_budget(run: Callable[[int], object], on_gpu: bool, seconds: float = PROBE_SECONDS) -> int:
    """Measure how many tokens at once a model encodes fastest, in a few seconds at most.

    Args:
        run: Encodes a batch of about so many tokens, and waits for its vectors.
        on_gpu: Whether it does so on a GPU.
        seconds: What it may take. Nothing is begun that would take longer.

    Returns:
        The smallest budget that is nearly as fast as the best; the default where not even the first could be tried.
    """
    tokens = FIRST_TRIED_OF_GPU if on_gpu else FIRST_TRIED
    end = time.perf_counter() + seconds
    took = _seconds(run, tokens)  # the first is slow
    speeds: dict[int, float] = {}
    while tokens <= MOST_TRIED and time.perf_counter() + took < end:
        try:
            took = min(_seconds(run, tokens) for _ in range(2 if time.perf_counter() + 2 * took < end else 1))
        except torch.OutOfMemoryError:
            break
        speeds[tokens] = tokens / took
        if speeds[tokens] < FALLING * max(speeds.values()):
            break
        tokens, took = 2 * tokens, 2 * took
    if not speeds:
        return default_budget(on_gpu)
    return min(each for each, speed in speeds.items() if speed >= GOOD_ENOUGH * max(speeds.values()))


def _seconds(run: Callable[[int], object], tokens: int) -> float:
    start = time.perf_counter()
    run(tokens)
    return max(time.perf_counter() - start, 1e-9)
