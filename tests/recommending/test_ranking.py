"""Ranks of held-out items, counted by hand."""

import math
import random

import numpy as np
import pytest
import torch

from lbr_st.recommending import ranking
from lbr_st.recommending.interactions import Interactions
from lbr_st.recommending.ranking import Ranks, gains, hits, rank_held_out

# User 0 learns from 0, has 1 for dev and 2 for the test; user 1 from 5; user 2 has nothing held out.
MADE = Interactions(
    ["a", "b", "c"], ["", "", ""], [*"012345"], [*"012345"], [*"012345"], [[0, 1, 2], [5, 3, 4], [0, 1]]
)
SCORES = torch.tensor([[9.0, 8, 3, 3, 1, 5], [6.0, 1, 2, 5, 4, 9], [0.0] * 6])


def score(users):
    return SCORES[list(users)]


def test_an_item_is_ranked_among_those_not_chosen_before():
    """Of the test, what was learned from and dev are left out; one with the same score stands above the held-out."""
    found = rank_held_out(score, MADE)
    assert found.users.tolist() == [0, 1]
    assert found.full.tolist() == [3, 2]  # below 5 and the tie 3; below 0
    assert found.sampled.tolist() == [3, 2]  # all that were never chosen: 3, 4, 5; and 0, 1, 2


def test_dev_does_not_know_the_test_item():
    """It is one of those that the dev item is ranked among."""
    found = rank_held_out(lambda users: torch.tensor([[0.0, 1, 5, 0, 0, 0]]).expand(len(users), -1), MADE, "dev")
    assert found.full.tolist() == [2, 6 - 1]
    assert found.sampled.tolist() == [1, 4]


def test_no_number_is_no_success():
    found = rank_held_out(lambda users: torch.full((len(users), 6), float("nan")), MADE)
    assert found.full.tolist() == [4, 4]


def test_sampled_items_depend_on_the_seed_and_the_user_alone(monkeypatch):
    monkeypatch.setattr(ranking, "SAMPLED", 3)
    many = Interactions(*[["x"] * 40] * 5, [[number, number + 1, number + 2] for number in range(0, 30)])
    scores = torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
    found = rank_held_out(lambda users: scores[list(users)], many)
    alone = rank_held_out(lambda users: scores[list(users)], many, users=[7, 20])
    assert alone.sampled.tolist() == found.sampled[[7, 20]].tolist()
    other = rank_held_out(lambda users: scores[list(users)], many, seed=1)
    assert (other.full == found.full).all() and (other.sampled != found.sampled).any()
    assert found.sampled.max() <= 4


@pytest.mark.parametrize("items", [5, 150, 250, 5000])
def test_sampled_items_are_others_and_each_is_there_once(items):
    chosen = {*range(0, items, 7)}
    found = ranking._sampled(items, chosen, random.Random(3))
    assert len({*found}) == len(found) == min(99, items - len(chosen)) and not chosen & {*found}
    assert all(0 <= item < items for item in found) and found == ranking._sampled(items, chosen, random.Random(3))


def test_figures():
    ranks = np.array([1, 2, 6, 11])
    assert hits(ranks, 1).mean() == 0.25 and hits(ranks, 5).mean() == 0.5
    assert gains(ranks, 5).tolist() == [1, pytest.approx(1 / math.log2(3)), 0, 0]
    figures = Ranks(np.arange(4), ranks, ranks[::-1]).figures()
    assert list(figures) == list(ranking.FIGURES)
    assert figures["full_hr_at_10"] == 0.75
    assert figures["full_ndcg_at_10"] == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(7)) / 4)
