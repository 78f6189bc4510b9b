"""Splits: whole groups, the sizes asked for, and nothing but the contents counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import ASPECTS, PAIRS, TOPICS, qa, read, sides, write_jsonl

from lbr_st.data.split import LARGEST_SHARE, connected, cut
from lbr_st.data.table import content_hash
from lbr_st.errors import InputError


def sides_of(groups, counted=None, **sizes):
    """Cut records whose contents are their numbers."""
    groups = np.array(groups, np.int64)
    order = np.array([content_hash(str(n)) for n in range(len(groups))], np.int64)
    return cut(groups, order, np.ones(len(groups), bool) if counted is None else np.array(counted), sizes)


@given(st.lists(st.integers(0, 15), min_size=1, max_size=80), st.integers(0, 20), st.integers(0, 20))
def test_groups_are_whole_and_sets_no_larger_than_asked(groups, test, dev):
    side = sides_of(groups, test=test, dev=dev)
    for group in set(groups):
        assert len({side[n] for n in range(len(groups)) if groups[n] == group}) == 1
    for name, size in (("test", test), ("dev", dev)):
        assert (side == name).sum() <= size
        for group in set(side_group for side_group, s in zip(groups, side, strict=True) if s == name):
            assert groups.count(group) <= max(1, LARGEST_SHARE * size)


@given(st.integers(1, 60), st.integers(0, 30), st.integers(0, 30), st.randoms())
def test_records_alone_fill_the_sizes_and_their_order_does_not_matter(total, test, dev, rng):
    numbers = list(range(total))
    side = dict(zip(numbers, sides_of(numbers, test=test, dev=dev), strict=True))
    assert list(side.values()).count("test") == min(test, total)
    assert list(side.values()).count("dev") == min(dev, max(0, total - test))
    rng.shuffle(numbers)
    order = np.array([content_hash(str(n)) for n in numbers], np.int64)
    again = cut(np.arange(total), order, np.ones(total, bool), {"test": test, "dev": dev})
    assert dict(zip(numbers, again, strict=True)) == side


def test_more_data_move_few_records():
    """Those that were test stay so, but for as many as new ones came before them."""
    before, after = sides_of(range(1000), test=100), sides_of(range(1100), test=100)
    stayed = ((before == "test") & (after[:1000] == "test")).sum()
    assert stayed >= 80


def test_what_does_not_count_goes_along():
    side = sides_of([0, 0, 1, 1, 2], counted=[True, False, True, False, False], test=2)
    assert (side == "test").sum() == 4 and side[4] == "train"


def test_a_large_group_is_training_data():
    assert set(sides_of([0] * 50 + list(range(1, 51)), test=50)[:50]) == {"train"}


def test_connected_by_hand():
    """0-1 share the first key, 1-2 the second, 3-4 are a pair; -1 is shared with nobody."""
    groups = connected([np.array([7, 7, 1, -1, -1, 2]), np.array([0, 5, 5, -1, -1, 3])], [(3, 4)])
    assert groups[0] == groups[1] == groups[2] and groups[3] == groups[4]
    assert len({groups[0], groups[3], groups[5]}) == 3
    assert len(set(connected([np.array([-1, -1, 5])]))) == 3


def test_content_hash():
    assert content_hash("a", "bc") != content_hash("ab", "c") != content_hash(None, "abc")
    assert 0 <= content_hash("x") < 2**63
    assert content_hash("pinned") == 5261438001290922889  # a split must not change with a version


def test_given_sides_stay(prepare, tmp_path):
    folder = prepare(**sides(tmp_path))
    assert {row["id"] for row in read(folder, "test")} == {row["id"] for row in PAIRS[48:]}
    assert {row["id"] for row in read(folder, "dev")} == {row["id"] for row in PAIRS[40:48]}
    again = prepare(**sides(tmp_path), resplit=True, folder="again")
    assert {row["id"] for row in read(again, "test")} != {row["id"] for row in PAIRS[48:]}


def test_groups_stay_together(prepare, tmp_path):
    folder = prepare(**qa(tmp_path), group_by="focus", test=18, dev=18)
    sides = {name: {row["id"].split("-")[0] for row in read(folder, name)} for name in ("align", "dev", "test")}
    assert sum(map(len, sides.values())) == len(TOPICS) == len(set.union(*sides.values()))
    assert all(len(read(folder, name)) == len(ASPECTS) * len(sides[name]) for name in sides)
    assert len(sides["test"]) == len(sides["dev"]) == 3


def test_one_group_cannot_be_split(prepare, tmp_path):
    rows = [row | {"answer": "The same answer."} for row in PAIRS]
    source = write_jsonl(tmp_path / "qa.jsonl", rows)
    with pytest.raises(InputError, match="come in groups of 60 to 60. Ask for more, or .* --isolate query"):
        prepare(source, test=6)
    none = prepare(source, folder="none")  # nobody asked for one
    assert (
        not (none / "test.jsonl").exists()
        and "There is no test: nothing is held out" in (none / "README.md").read_text()
    )
    folder = prepare(tmp_path / "qa.jsonl", isolate="query")
    assert len(read(folder, "test")) == 6


def test_a_test_file_is_not_split_again(prepare, tmp_path):
    """`--resplit` forgets what sources are called, not what the user says."""
    sides(tmp_path)
    test = write_jsonl(
        tmp_path / "held-out.jsonl", [row | {"question": row["question"] + " Tell me."} for row in PAIRS[:9]]
    )
    folder = prepare(tmp_path / "sides", test=test, resplit=True, dev=5)
    assert len(read(folder, "test")) == 9 and all(row["query"].endswith("me.") for row in read(folder, "test"))
    assert len(read(folder, "dev")) == 5 and len(read(folder, "align")) == len(PAIRS) - 9 - 5


def test_a_given_test_asks_with_queries(prepare, tmp_path):
    """What has none there is searched."""
    rows = [({"question": row["question"]} if n % 2 else {}) | {"text": row["answer"]} for n, row in enumerate(PAIRS)]
    write_jsonl(tmp_path / "s" / "train.jsonl", rows[:40])
    write_jsonl(tmp_path / "s" / "test.jsonl", rows[40:])
    folder = prepare(tmp_path / "s", dev=0)
    assert len(read(folder, "test")) == 10 and all("query" in row for row in read(folder, "test"))
    assert len(read(folder, "corpus")) == len(PAIRS)


def test_an_empty_test_is_no_test(prepare, tmp_path):
    sides(tmp_path)
    (tmp_path / "sides" / "test.jsonl").write_text("")
    with pytest.raises(InputError, match="test.jsonl: no records"):
        prepare(tmp_path / "sides")
