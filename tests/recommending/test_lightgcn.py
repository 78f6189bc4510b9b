"""LightGCN against its formula written out, and against what users chose."""

import math

import numpy as np
import pytest
import torch

from lbr_st.recommending.lightgcn import Choices, LightGCN, bpr_loss, train_recommender
from lbr_st.recommending.sharing import InformationSharing

HISTORIES = [[0, 1], [1], [], [1, 3]]
ITEMS = 5


def test_vectors_are_those_of_the_formula():
    """The mean of E(k), with E(k + 1) = D^-1/2 A D^-1/2 E(k) (arXiv 2002.02126, section 3.1); dense, in numpy."""
    graph = LightGCN(HISTORIES, ITEMS, dimensions=3, layers=2, seed=1)
    size = len(HISTORIES) + ITEMS
    edges = np.zeros((size, size))
    for user, history in enumerate(HISTORIES):
        for item in history:
            edges[user, 4 + item] = edges[4 + item, user] = 1
    degrees = edges.sum(axis=0)
    inverse = np.diag([0 if degree == 0 else degree**-0.5 for degree in degrees])
    step = inverse @ edges @ inverse
    first = graph.first.detach().double().numpy()
    expected = (first + step @ first + step @ step @ first) / 3
    expected[degrees == 0] = 0
    users, items = graph()
    np.testing.assert_allclose(torch.cat([users, items]).detach(), expected, atol=1e-6)


def test_who_chose_nothing_and_what_nobody_chose_are_known_by_nothing():
    users, items = LightGCN(HISTORIES, ITEMS)()
    assert (users.norm(dim=1) > 0).tolist() == [True, True, False, True]
    assert (items.norm(dim=1) > 0).tolist() == [True, True, False, True, False]


def test_drawn_negatives_were_not_chosen():
    """And positives were; the same seed draws the same."""
    users, positives, negatives = Choices(HISTORIES, ITEMS, seed=3).draw(500)
    chosen = {(user, item) for user, history in enumerate(HISTORIES) for item in history}
    assert {*zip(users.tolist(), positives.tolist(), strict=True)} == chosen
    assert not {*zip(users.tolist(), negatives.tolist(), strict=True)} & chosen
    again = Choices(HISTORIES, ITEMS, seed=3).draw(500)
    assert all(torch.equal(one, other) for one, other in zip((users, positives, negatives), again, strict=True))


def test_a_user_who_chose_everything_has_negatives_all_the_same():
    assert len(Choices([[0, 1], [0]], 2).draw(8)[2]) == 8


def test_who_chose_what():
    users, items = torch.tensor([[0], [3]]), torch.tensor([0, 1, 3, 4])
    assert Choices(HISTORIES, ITEMS).chosen(users, items).tolist() == [
        [True, True, False, False],
        [False, True, True, False],
    ]


def test_the_loss_of_pairs():
    """-log sigmoid of the difference of scores; log 2 where there is none."""
    user = torch.tensor([[1.0, 2.0]])
    assert bpr_loss(user, torch.ones(1, 2), torch.ones(1, 2)).item() == pytest.approx(math.log(2))
    found = bpr_loss(user, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).item()
    assert found == pytest.approx(math.log(1 + math.exp(1)))


def test_it_learns_whose_taste_is_whose():
    """Two tastes: what a user has not chosen of the own one stands above all of the other."""
    histories = [[6 * (user % 2) + item for item in range(6) if item != user % 6] for user in range(12)]
    graph = LightGCN(histories, 12, dimensions=8)
    before = train_recommender(graph, Choices(histories, 12), 1, batch_size=64)
    after = train_recommender(graph, Choices(histories, 12), 200, batch_size=64)
    assert after < before / 2
    users, items = graph()
    for user, scores in enumerate((users @ items.T).tolist()):
        own = 6 * (user % 2) + user % 6
        others = scores[6:] if user % 2 == 0 else scores[:6]
        assert scores[own] > max(others)


def test_it_can_be_held_to_what_another_side_shared():
    """The loss that is added moves the vectors towards it; what was shared stays where it is."""
    sharing = InformationSharing(torch.randn(20, 8), torch.randn(9, 4))
    shared = sharing.shared.clone()

    def distance_after(weight):
        graph = LightGCN([[0, 1], [1], [2], [1, 3]], ITEMS, dimensions=4)
        optimizer = torch.optim.Adam(graph.parameters(), lr=0.05)

        def more(users, items):
            return weight * sharing.distance(torch.cat([users, items]))

        train_recommender(graph, Choices(HISTORIES, ITEMS), 100, batch_size=16, optimizer=optimizer, more=more)
        return sharing.distance(torch.cat(graph())).item()

    assert distance_after(10.0) < distance_after(0.0) / 2
    assert torch.equal(sharing.shared, shared)
