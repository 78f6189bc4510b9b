"""The last line of a run: its words, its numbers, and when it says what."""

from dataclasses import replace

import numpy as np
import pytest

from lbr_st.errors import InputError
from lbr_st.verdict import Verdict, verdict

LINE = Verdict("WIN", 0.812, 0.071, 0.049, 0.093, queries=500)


def test_the_line():
    assert str(LINE) == "VERDICT WIN: recall@10 0.812, +0.071 (0.049 to 0.093) against the start"
    whole = replace(LINE, bm25=0.79, fused=0.861, outside=(0.71, 0.7))
    assert str(whole) == (
        "VERDICT WIN: recall@10 0.812, +0.071 (0.049 to 0.093) against the start; BM25 0.790; fused 0.861; "
        "outside the domain 0.71 -> 0.70"
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((-0.03, -0.05, -0.01), "-0.030 (-0.050 to -0.010)"),
        ((0.0, 0.0, 0.0), "+0.000 (0.000 to 0.000)"),
        ((-0.0001, -0.01, -0.0004), "+0.000 (-0.010 to 0.000)"),
    ],
)
def test_signs(values, said):
    difference, low, high = values
    assert said in str(replace(LINE, difference=difference, low=low, high=high))


def answered(first, last, queries=400):
    """Return the recall of queries of which those from one number to another were answered."""
    return np.array([float(first <= n < last) for n in range(queries)])


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [((0, 200), (0, 260), "WIN"), ((0, 200), (20, 222), "MARGINAL"), ((0, 260), (0, 200), "REGRESSION")],
)
def test_words(before, after, word):
    """The interval is that of the normal approximation; 22 queries gained and 20 lost may be chance."""
    first, last = answered(*before), answered(*after)
    found = verdict(first, last, seed=3)
    difference = last - first
    half = 1.96 * difference.std() / np.sqrt(400)
    assert (found.word, found.queries) == (word, 400)
    assert found.recall == pytest.approx(last.sum() / 400)
    assert found.difference == pytest.approx(difference.mean())
    assert (found.low, found.high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=half / 10)
    assert verdict(first, last, seed=3) == found


@pytest.mark.parametrize(("queries", "words"), [(1, "MARGINAL"), (5, "MARGINAL"), (6, "WIN")])
def test_a_few_queries_that_agree_are_no_proof(queries, words):
    """Draws of them are all the same, and five tosses of a coin agree once in sixteen times."""
    found = verdict(np.zeros(queries), np.ones(queries))
    assert (found.word, found.low, found.high) == (words, 1, 1)
    # Nor where they are among others for which nothing has changed: these toss no coin.
    among = verdict(np.zeros(40), answered(0, queries, 40))
    assert among.word == words and among.high > 0


def test_queries_count_in_pairs():
    """Where as many others are answered as before, nothing is sure; where the same are, all is."""
    first, last = answered(0, 200), answered(200, 400)
    assert verdict(first, last).high > 0.05
    same = verdict(first, first)
    assert (same.low, same.high, same.word) == (0, 0, "MARGINAL")


@pytest.mark.parametrize(("before", "after"), [([], []), ([1.0], [1.0, 0.0])])
def test_other_queries(before, after):
    message = f"needs the same queries twice, got {len(before)} at the start and {len(after)} after"
    with pytest.raises(InputError, match=message):
        verdict(before, after)
