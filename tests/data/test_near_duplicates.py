"""Near-duplicates: shingles counted by hand, and all pairs against a comparison of each with each."""

import pytest
from shapes import variants

from lbr_st.data.near_duplicates import check_threshold, near_pairs, shingles, signatures, similarity
from lbr_st.errors import InputError


def test_shingles_by_hand():
    """a b c d e: abc bcd cde; a b c d f: abc bcd cdf. Two of four are shared."""
    assert similarity(shingles("A b, c d"), shingles("a B , c\nd")) == 1
    assert similarity(shingles("a b c d e"), shingles("a b c d f")) == 0.5
    assert len(shingles("one two")) == len(shingles("x")) == 1
    assert similarity(shingles("C=C"), shingles("C#C")) == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", [0.9, 0.85])
def test_all_pairs_are_found(seed, threshold):
    texts = variants(seed)
    sets = [shingles(text) for text in texts]
    expected = {
        (i, j): similarity(sets[i], sets[j])
        for i in range(len(texts))
        for j in range(i + 1, len(texts))
        if similarity(sets[i], sets[j]) >= threshold
    }
    found = {(i, j): value for i, j, value in near_pairs(signatures(texts), texts, threshold)}
    assert len(expected) > 20
    assert found == expected


def test_many_copies_of_one_text_are_one_group():
    """Too many to compare each with each: all hang together all the same."""
    texts = ["the same few words in every text of these"] * 100 + ["another text of which there is one"]
    pairs = {(i, j) for i, j, _ in near_pairs(signatures(texts), texts)}
    assert {j for i, j in pairs if i == 0} == set(range(1, 100)) and len(pairs) < 300


def test_no_texts():
    assert list(near_pairs(signatures([]), [])) == []


@pytest.mark.parametrize("threshold", [0.5, 1.1, -1, float("nan")])
def test_thresholds_that_the_bands_do_not_serve(threshold):
    with pytest.raises(InputError, match="--near-duplicates must be from 0.8 to 1"):
        check_threshold(threshold)
