"""Near-duplicates: shingles counted by hand, and all pairs against a comparison of each with each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import variants

from lbr_st.data.near_duplicates import RarestFirst, as_array, check_threshold, near_pairs, shingles, similarity
from lbr_st.data.same_text import CASE, LOOSE
from lbr_st.data.split import connected
from lbr_st.errors import InputError


def arrays(texts):
    return [as_array(shingles(text)) for text in texts]


def test_shingles_by_hand():
    """a b c d e: abc bcd cde; a b c d f: abc bcd cdf. Two of four are shared."""
    assert similarity(shingles("Alpha beta, gamma of delta"), shingles("alpha Beta , gamma\nof Delta")) == 1
    assert similarity(shingles("a b c d e"), shingles("a b c d f")) == 0.5
    assert len(shingles("one two")) == len(shingles("x")) == 1
    assert similarity(shingles("C=C"), shingles("C#C")) == 0


def test_shingles_of_formulas_and_code():
    """An atom more is another compound, and case is another name; loosely, they are as much alike as their letters."""
    acid, amide = "CC(C)CC1=CC=C(C=C1)C(C)C(=O)O", "CC(C)CC1=CC=C(C=C1)C(C)C(=O)N"
    assert similarity(shingles(acid), shingles(acid + " ")) == 1
    assert similarity(shingles(acid), shingles(amide)) == 0
    assert similarity(shingles(acid, LOOSE), shingles(amide, LOOSE)) > 0.8
    assert similarity(shingles("CO"), shingles("Co")) == similarity(shingles("10²"), shingles("102")) == 0
    code = "def f(x):\n    total = 0\n    for each in x:\n        total += {}\n    return total"
    assert 0 < similarity(shingles(code.format("each")), shingles(code.format("Each"))) < 1
    assert similarity(shingles(code.format("each"), CASE), shingles(code.format("Each"), CASE)) == 1


def test_shingles_without_spaces():
    """Of six characters there are four: a change of the third leaves the last of them."""
    one, other = "水在一百度沸", "水在九百度沸"
    assert len(shingles(one)) == 4 and similarity(shingles(one), shingles(other)) == 1 / 7
    assert similarity(shingles("น้ำเดือด"), shingles("น้ำ เดือด")) == 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", [0.8, 0.85, 0.9, 1.0])
def test_all_pairs_are_found(seed, threshold):
    texts = variants(seed)
    sets = [shingles(text) for text in texts]
    expected = {
        (i, j): similarity(sets[i], sets[j])
        for i in range(len(texts))
        for j in range(i + 1, len(texts))
        if similarity(sets[i], sets[j]) >= threshold
    }
    found = {(i, j): value for i, j, value in near_pairs(arrays(texts), threshold)}
    assert len(expected) > (20 if threshold < 1 else 5)
    assert found == expected


def test_many_texts_of_one_template_are_compared_each_with_each():
    words = [f"w{number}" for number in range(80)]
    texts = [" ".join([*words[:20], f"a{n % 9}", *words[20:50], f"b{n % 13}", *words[50:]]) for n in range(117)]
    sets = arrays(texts)
    pairs = {(i, j) for i, j, _ in near_pairs(sets)}
    own = [set(each.tolist()) for each in sets]
    every = [(i, j) for i in range(len(texts)) for j in range(i + 1, len(texts))]
    assert pairs == {(i, j) for i, j in every if similarity(own[i], own[j]) >= 0.9}
    assert 0 < len(pairs) < len(every)


def test_hundreds_of_texts_of_one_template_hang_together_as_all_pairs_have_them():
    words = [f"w{number}" for number in range(80)]
    slots = [(f"a{n % 2}", f"b{n // 2 % 2}", f"c{n}") for n in range(600)]
    texts = [" ".join([*words[:20], a, *words[20:40], b, *words[40:60], c, *words[60:]]) for a, b, c in slots]
    own = [set(each.tolist()) for each in arrays(texts)]
    every = [(i, j) for i in range(600) for j in range(i + 1, 600) if similarity(own[i], own[j]) >= 0.9]
    pairs = [(i, j) for i, j, _ in near_pairs(arrays(texts))]
    assert set(pairs) <= set(every) and len(pairs) < len(every)
    assert connected([np.arange(600)], pairs).tolist() == connected([np.arange(600)], every).tolist()


def test_thousands_of_copies_of_one_text_hang_together_by_few_pairs():
    pairs = [(i, j) for i, j, _ in near_pairs(arrays(["the same few words in every text of these"] * 2500))]
    assert len(pairs) < 300_000 and len(set(connected([np.arange(2500)], pairs).tolist())) == 1


def test_no_texts():
    assert list(near_pairs([])) == []


@pytest.mark.parametrize("threshold", [0.5, 1.1, -1, float("nan")])
def test_thresholds_out_of_range(threshold):
    with pytest.raises(InputError, match="--near-duplicates must be from 0.8 to 1"):
        check_threshold(threshold)


@given(st.lists(st.sets(st.integers(0, 12), min_size=1), min_size=2, max_size=25), st.sampled_from([0.8, 0.9, 1.0]))
def test_small_sets_that_share_much(sets, threshold):
    """Of few different shingles, so that all are common and prefixes say little."""
    pairs = {(i, j) for i, j, _ in near_pairs([as_array(each) for each in sets], threshold)}
    every = [(i, j) for i in range(len(sets)) for j in range(i + 1, len(sets))]
    assert pairs == {(i, j) for i, j in every if similarity(sets[i], sets[j]) >= threshold}


def test_prefixes_by_hand():
    """The rarest first; of ten shingles a near-duplicate may lack one, so it has one of two."""
    common, rare = set(range(8)), {100, 101}
    order = RarestFirst([as_array(common | rare), *[as_array(common)] * 3])
    assert set(order.prefix(as_array(common | rare), 0.9)) == rare
    assert order.prefix(as_array(common | rare), 0.9, shared_by=2) == []
    assert order.prefix(as_array(common | {7000}), 0.9) == []  # what nobody has finds nobody
    assert len(order.prefix(as_array(common), 0.8)) == 2
    assert order.prefix(np.array([5], np.uint32), 0.9) == [5]
