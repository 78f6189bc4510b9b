"""Batches of stage 1: examples padded to one length, and short ones packed into rows."""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers.trainer_pt_utils import LengthGroupedSampler

from lbr_st.errors import InputError
from lbr_st.model.cutoff import PREFIX

IGNORE = -100  # label of positions without loss, as everywhere in transformers


class Example(TypedDict, total=False):
    """A row of training, each field a list of ``seq`` integers."""

    input_ids: list[int]
    segments: list[int]  # see lbr_st.model.cutoff
    labels: list[int]  # the token itself where it is a target, else IGNORE; never a target in the first place
    sequences: list[int]  # of packed rows: which example a token is of, counted from 0
    parts: list[list[int]]  # held out, of a Y of several fields: for each token a 1 in the place of its field


def collate(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Pad examples on the right into ``(batch, seq)`` int64 tensors, with their ``attention_mask``.

    Packed rows get ``position_ids`` that start again with each of their examples, and ``sequences``. ``parts`` are
    ``(batch, seq, fields)``.
    """

    def pad(rows: list[Any], value: int) -> Tensor:
        return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)

    batch = {
        "input_ids": pad([e["input_ids"] for e in examples], 0),
        "attention_mask": pad([[1] * len(e["input_ids"]) for e in examples], 0),
        "segments": pad([e["segments"] for e in examples], PREFIX),
        "labels": pad([e["labels"] for e in examples], IGNORE),
    }
    if "parts" in examples[0]:
        batch["parts"] = pad([e["parts"] for e in examples], 0)
    if "sequences" in examples[0]:
        longest = batch["input_ids"].shape[1]
        # Padding counts to the last example: a row that may attend to nothing would be NaN.
        rows = [e["sequences"] + e["sequences"][-1:] * (longest - len(e["sequences"])) for e in examples]
        batch["sequences"] = sequences = torch.tensor(rows)
        starts = torch.ones_like(sequences, dtype=torch.bool)
        starts[:, 1:] = sequences[:, 1:] != sequences[:, :-1]
        columns = torch.arange(longest).expand_as(sequences)
        batch["position_ids"] = columns - torch.where(starts, columns, 0).cummax(dim=1).values
    return batch


def pack(lengths: Sequence[int], row_length: int, seed: int) -> list[list[int]]:
    """Put examples together into rows: the longest first, each into the fullest row that has room (best fit).

    Args:
        lengths: Of the examples, in tokens.
        row_length: Most tokens in a row.
        seed: Examples of one length come in an order drawn with it.

    Returns:
        The indices of the examples of each row. Every example is in exactly one.

    Raises:
        InputError: If an example is longer than a row.
    """
    if max(lengths) > row_length:
        raise InputError(f"rows of {row_length} tokens are too short for an example of {max(lengths)}")
    order = list(range(len(lengths)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda index: -lengths[index])
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # what is left in a row and which row it is, in ascending order
    for index in order:
        place = bisect.bisect_left(room, (lengths[index], -1))
        left, row = room.pop(place) if place < len(room) else (row_length, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
        bisect.insort(room, (left - lengths[index], row))
    return rows


def join(examples: Sequence[Example]) -> Example:
    """Join examples into one packed row."""
    return {
        "input_ids": [id_ for e in examples for id_ in e["input_ids"]],
        "segments": [segment for e in examples for segment in e["segments"]],
        "labels": [label for e in examples for label in e["labels"]],
        "sequences": [number for number, e in enumerate(examples) for _ in e["input_ids"]],
    }


class StratifiedSampler(LengthGroupedSampler):
    """Batches of examples of like length, in an order drawn anew every epoch, which a resumed run finds again.

    transformers' own draws from the state that random numbers happen to be in, and of every fifty batches the longest
    come first: a run of fewer steps would read long examples alone, of a mixture those of one objective. Here only the
    first batch is the longest, so that memory runs out at once where it does.

    Args:
        batch_size: Examples of one step of the optimizer, over all processes.
        lengths: Of the examples, in tokens.
        seed: Of the order.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, as a run that is resumed within one must."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = list(super().__iter__())
        whole = len(order) // self.batch_size * self.batch_size
        longest, *others = [order[at : at + self.batch_size] for at in range(0, whole, self.batch_size)] or [[]]
        drawn = torch.randperm(len(others), generator=self.generator).tolist()
        return itertools.chain(longest, *(others[index] for index in drawn), order[whole:])


class PackedRows(Dataset[Example]):
    """A view on examples in which each item is a row of several.

    Args:
        examples: What rows are made of.
        rows: The indices of each row, see `pack`.
        lengths: Of the examples, in tokens.
    """

    def __init__(self, examples: Sequence[Example], rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> None:
        self.examples = examples
        self.rows = rows
        self.lengths = [sum(lengths[index] for index in row) for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        return join([self.examples[each] for each in self.rows[index]])
