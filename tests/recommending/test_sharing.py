"""What a language model and a recommender share: brought from one space to the other, and held fixed."""

import pytest
import torch

from lbr_st.errors import InputError
from lbr_st.recommending.sharing import InformationSharing, check_dimensions


@pytest.fixture
def sharing():
    torch.manual_seed(0)
    return InformationSharing(torch.randn(200, 16) * 0.3 + 0.7, torch.randn(9, 4) * 5, seed=2)


def test_rows_are_as_long_as_those_of_the_vocabulary_and_nothing_is_lost(sharing):
    vectors = sharing.shared
    rows = sharing.rows(vectors)
    torch.testing.assert_close(sharing.vectors(rows), vectors)
    spread = (rows - sharing.mean).square().sum(dim=1).mean().sqrt()
    assert spread.item() == pytest.approx(0.3 * 16**0.5, rel=0.05) and sharing.mean.mean().item() == pytest.approx(
        0.7, abs=0.05
    )
    # Angles stay: the directions are orthogonal.
    cosines = [
        torch.nn.functional.cosine_similarity(each[0], each[1], dim=0) for each in (vectors, rows - sharing.mean)
    ]
    torch.testing.assert_close(*cosines)


def test_random_rows_are_as_long_too(sharing):
    rows = sharing.random_rows(500) - sharing.mean
    assert rows.square().sum(dim=1).mean().sqrt().item() == pytest.approx(sharing.spread.item(), rel=0.05)


def test_the_distance_is_a_share_of_what_is_held_fixed(sharing):
    sharing.share(torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 5.0, 0.0]]))
    assert sharing.distance(sharing.shared).item() == 0
    assert sharing.distance(torch.zeros(2, 4)).item() == pytest.approx(1)
    assert sharing.distance(torch.tensor([[3.0, 4, 0, 5], [0, 0, 5, 0]])).item() == pytest.approx(0.5)


def test_what_was_shared_has_no_gradient(sharing):
    """Each side moves towards the other, which stays where it is."""
    one, other = (torch.randn(9, 4, requires_grad=True) for _ in range(2))
    sharing.share(other)
    sharing.distance(one).backward()
    assert other.grad is None
    torch.testing.assert_close(one.grad, 2 * (one - other).detach() / other.detach().square().sum())


def test_vectors_that_are_too_long():
    check_dimensions(16, 16)
    with pytest.raises(InputError, match="--dimensions 17: the language model is 16 wide; ask for 16 at most"):
        check_dimensions(17, 16)
