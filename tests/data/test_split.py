"""Splits: whole groups, the sizes asked for, and nothing but the contents counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_st.data.split import LARGEST_SHARE, connected, content_hash, cut, size_of
from lbr_st.errors import InputError


def sides(groups, counted=None, **sizes):
    """Cut records whose contents are their numbers."""
    groups = np.array(groups, np.int64)
    order = np.array([content_hash(str(n)) for n in range(len(groups))], np.int64)
    return cut(groups, order, np.ones(len(groups), bool) if counted is None else np.array(counted), sizes)


@given(st.lists(st.integers(0, 15), min_size=1, max_size=80), st.integers(0, 20), st.integers(0, 20))
def test_groups_are_whole_and_sets_no_larger_than_asked(groups, test, dev):
    side = sides(groups, test=test, dev=dev)
    for group in set(groups):
        assert len({side[n] for n in range(len(groups)) if groups[n] == group}) == 1
    for name, size in (("test", test), ("dev", dev)):
        assert (side == name).sum() <= size
        for group in set(side_group for side_group, s in zip(groups, side, strict=True) if s == name):
            assert groups.count(group) <= max(1, LARGEST_SHARE * size)


@given(st.integers(1, 60), st.integers(0, 30), st.integers(0, 30), st.randoms())
def test_records_alone_fill_the_sizes_and_their_order_does_not_matter(total, test, dev, rng):
    numbers = list(range(total))
    side = dict(zip(numbers, sides(numbers, test=test, dev=dev), strict=True))
    assert list(side.values()).count("test") == min(test, total)
    assert list(side.values()).count("dev") == min(dev, max(0, total - test))
    rng.shuffle(numbers)
    order = np.array([content_hash(str(n)) for n in numbers], np.int64)
    again = cut(np.arange(total), order, np.ones(total, bool), {"test": test, "dev": dev})
    assert dict(zip(numbers, again, strict=True)) == side


def test_more_data_move_few_records():
    """Those that were test stay so, but for as many as new ones came before them."""
    before, after = sides(range(1000), test=100), sides(range(1100), test=100)
    stayed = ((before == "test") & (after[:1000] == "test")).sum()
    assert stayed >= 80


def test_what_does_not_count_goes_along():
    side = sides([0, 0, 1, 1, 2], counted=[True, False, True, False, False], test=2)
    assert (side == "test").sum() == 4 and side[4] == "train"


def test_a_large_group_is_training_data():
    assert set(sides([0] * 50 + list(range(1, 51)), test=50)[:50]) == {"train"}


def test_connected_by_hand():
    """0-1 share the first key, 1-2 the second, 3-4 are a pair; -1 is shared with nobody."""
    groups = connected([np.array([7, 7, 1, -1, -1, 2]), np.array([0, 5, 5, -1, -1, 3])], [(3, 4)])
    assert groups[0] == groups[1] == groups[2] and groups[3] == groups[4]
    assert len({groups[0], groups[3], groups[5]}) == 3


def test_content_hash():
    assert content_hash("a", "bc") != content_hash("ab", "c") != content_hash(None, "abc")
    assert 0 <= content_hash("x") < 2**63
    assert content_hash("pinned") == 5261438001290922889  # a split must not change with a version


@pytest.mark.parametrize(
    ("size", "expected"), [("0.1", 10), ("1.0", 100), ("1", 1), ("0", 0), ("250", 250), (0.25, 25), (7, 7), ("0.0", 0)]
)
def test_sizes(size, expected):
    assert size_of(size, 100, "--test") == expected


@pytest.mark.parametrize("size", ["-1", "1.5", "ten", "nan", "-0.5", "inf"])
def test_sizes_that_are_none(size):
    with pytest.raises(InputError, match="--test must be a number of records or a share from 0.0 to 1.0, got"):
        size_of(size, 100, "--test")
