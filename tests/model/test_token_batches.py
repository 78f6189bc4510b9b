"""Batches by a budget of tokens, pieces of a corpus, and the budget that is measured."""

import time

import pytest
import torch

from lbr_st.model.token_batches import batches_of, measured_budget, pieces_of


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [
        ([], 10, []),
        ([3, 5, 4], 15, [[1, 2, 0]]),
        ([3, 5, 4], 14, [[1, 2], [0]]),  # three rows of five are fifteen tokens
        ([5, 2, 2], 100, [[0], [1, 2]]),  # less than half as long
        ([4, 2], 8, [[0, 1]]),
        ([50, 3], 10, [[0], [1]]),  # one alone may be longer
    ],
)
def test_batches_keep_to_the_budget_with_their_padding(lengths, budget, expected):
    assert batches_of(lengths, budget) == expected


def test_pieces_grow_from_a_small_one():
    """The model starts after the first; all texts are in one, the largest first."""
    pieces = list(pieces_of([1] * 40 + [9], 8, 2))
    assert pieces[0] == [40] and [len(piece) for piece in pieces[1:]] == [16, 16, 8]
    assert sorted(at for piece in pieces for at in piece) == list(range(41))
    assert list(pieces_of([], 8, 2)) == []


class Machine:
    """A model that encodes tokens at a speed that depends on their number; time is what it says."""

    def __init__(self, monkeypatch, speed, memory=2**30):
        self.now, self.speed, self.memory, self.tried = 0.0, speed, memory, []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def __call__(self, tokens):
        if tokens > self.memory:
            raise torch.OutOfMemoryError
        self.tried.append(tokens)
        self.now += tokens / self.speed(tokens)


def test_the_smallest_budget_that_is_as_fast(monkeypatch):
    """Of a machine that is faster up to 2,048 tokens, a little up to 4,096, and slow after that."""
    machine = Machine(
        monkeypatch, lambda tokens: {256: 4e4, 512: 6e4, 1024: 8e4, 2048: 1e5, 4096: 1.01e5}.get(tokens, 5e4)
    )
    assert measured_budget(machine, on_gpu=False) == 2048
    assert max(machine.tried) == 8192  # where it fell nothing larger is tried


def test_a_budget_is_found_in_its_time_and_memory(monkeypatch):
    machine = Machine(monkeypatch, lambda tokens: 1000.0 + tokens)
    found = measured_budget(machine, on_gpu=False)
    assert machine.now <= 2 and found == max(machine.tried) == 1024
    assert measured_budget(Machine(monkeypatch, lambda tokens: 50.0), on_gpu=False) == 1024  # nothing was tried
    assert measured_budget(Machine(monkeypatch, lambda tokens: 1e4 + tokens, memory=4096), on_gpu=True) == 4096
