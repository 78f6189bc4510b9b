"""Padding, packing and the order of batches, written out."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_st.errors import InputError
from lbr_st.learning.batches import PackedRows, StratifiedSampler, collate, join, pack

FIRST = {"input_ids": [5, 6, 7], "segments": [1, 2, 3], "labels": [-100, -100, 7]}
SECOND = {"input_ids": [8, 9], "segments": [1, 3], "labels": [-100, 9]}


def test_collate_pads_on_the_right():
    batch = collate([FIRST, {"input_ids": [5], "segments": [1], "labels": [-100]}])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["segments"].tolist() == [[1, 2, 3], [1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, -100, 7], [-100, -100, -100]]
    assert batch.keys() == {"input_ids", "attention_mask", "segments", "labels"}


def test_packed_rows():
    batch = collate(PackedRows([FIRST, SECOND], [[0, 1], [1]], [3, 2]))
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [8, 9, 0, 0, 0]]
    assert batch["sequences"].tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 4]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[-100, -100, 7, -100, 9], [-100, 9, -100, -100, -100]]
    assert join([SECOND, FIRST])["sequences"] == [0, 0, 1, 1, 1]
    assert PackedRows([FIRST, SECOND], [[0, 1], [1]], [3, 2]).lengths == [5, 2]


@given(st.lists(st.integers(1, 10), min_size=1, max_size=60), st.integers(0, 3))
def test_pack(lengths, seed):
    """Every example is in one row, no row is too long, and no two rows would fit into one."""
    rows = pack(lengths, 10, seed)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    sums = sorted(sum(lengths[index] for index in row) for row in rows)
    assert sums[-1] <= 10
    assert len(sums) < 2 or sums[0] + sums[1] > 10
    assert rows == pack(lengths, 10, seed)


def test_pack_refuses_what_is_too_long():
    with pytest.raises(InputError, match="rows of 9 tokens are too short for an example of 10"):
        pack([3, 10], 9, seed=0)


def test_strata_are_batches_of_like_length_in_another_order_every_epoch():
    lengths = [1 + n % 40 for n in range(400)]
    sampler = StratifiedSampler(8, lengths, seed=3)
    epochs = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert all(sorted(order) == list(range(400)) for order in epochs)
    assert epochs[0] != epochs[1]
    batches = [[lengths[i] for i in order[at : at + 8]] for order in epochs for at in range(0, 400, 8)]
    spreads = [max(batch) - min(batch) for batch in batches]
    assert statistics.median(spreads) <= 5  # about 33 in batches drawn at random
    assert all(max(lengths) in map(lengths.__getitem__, order[:8]) for order in epochs)
    again = StratifiedSampler(8, lengths, seed=3)  # as a resumed run makes it
    again.set_epoch(1)
    assert list(again) == epochs[1]


@pytest.mark.parametrize("total", [4000, 4003, 5])
def test_a_part_of_an_epoch_has_examples_of_all_lengths(total):
    """transformers sorts fifty batches at a time by falling length, and the first ten would be long ones alone."""
    lengths = [10 if n % 2 else 90 for n in range(total)]
    read = list(StratifiedSampler(16, lengths, seed=0))
    assert sorted(read) == list(range(total))
    means = [statistics.mean(lengths[index] for index in read[at : at + 400]) for at in range(0, total - 399, 400)]
    assert all(30 < mean < 70 for mean in means)
