"""The loss of the language model, in closed form."""

import math

import pytest
import torch

from lbr_st.recommending.language_model import contrastive_loss

SAME = torch.nn.functional.normalize(torch.ones(4, 8), dim=1)
NOBODY = torch.zeros(4, 4, dtype=torch.bool)
EVEN = torch.zeros(4)


def test_where_nothing_is_told_apart_it_is_the_logarithm_of_the_batch():
    assert contrastive_loss(SAME, SAME, NOBODY, EVEN, 0.05).item() == pytest.approx(math.log(4))


def test_what_a_user_chose_too_counts_for_nothing():
    """And the user's own item always counts, though it is chosen."""
    ignored = torch.eye(4, dtype=torch.bool)
    ignored[:, 3] = True
    found = contrastive_loss(SAME, SAME, ignored, EVEN, 0.05).item()
    assert found == pytest.approx((3 * math.log(3) + math.log(4)) / 4)


def test_what_is_chosen_often_is_no_better_for_that():
    """Scores of log p and shares of p leave nothing to tell apart (Yi et al., RecSys 2019)."""
    shares = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    found = contrastive_loss(SAME, SAME, NOBODY, shares, 0.05).item()
    logits = -shares
    assert found == pytest.approx((logits.logsumexp(0) - logits).mean().item())


def test_the_temperature_divides_cosines():
    users = torch.eye(2)
    found = contrastive_loss(users, users, NOBODY[:2, :2], EVEN[:2], 0.5).item()
    assert found == pytest.approx(math.log(1 + math.exp(-2)))
