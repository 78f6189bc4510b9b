"""The chunked loss against the plain one, value and gradients."""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import PAIRS, lora_of
from torch import nn

from lbr_st.learning import cross_entropy as loss
from lbr_st.learning.cross_entropy import cross_entropy_sum, token_losses
from lbr_st.training.lora import add_lora

ROWS, HIDDEN, VOCABULARY = 23, 16, 50


class ScaledHead(nn.Module):
    """A head that is no linear map."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(HIDDEN, VOCABULARY)

    def forward(self, hidden):
        return 3 * torch.tanh(self.inner(hidden))


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, HIDDEN, generator=generator)
    return hidden, torch.randint(0, VOCABULARY, (ROWS,), generator=generator)


@pytest.mark.parametrize("logits_at_a_time", [1, 7 * VOCABULARY, 10**9])
@pytest.mark.parametrize(
    "make_head",
    [lambda: nn.Linear(HIDDEN, VOCABULARY), lambda: nn.Linear(HIDDEN, VOCABULARY, bias=False), ScaledHead],
)
def test_chunked_is_plain(rows, monkeypatch, make_head, logits_at_a_time):
    monkeypatch.setattr(loss, "LOGITS_AT_A_TIME", logits_at_a_time)
    torch.manual_seed(0)
    head, (hidden, targets) = make_head(), rows
    plain_head = copy.deepcopy(head)
    hidden.requires_grad_()
    plain_hidden = hidden.detach().clone().requires_grad_()
    plain = F.cross_entropy(plain_head(plain_hidden), targets)
    plain.backward()
    found = cross_entropy_sum(head, hidden, targets) / ROWS
    found.backward()
    assert abs(found - plain) < 1e-6
    assert (hidden.grad - plain_hidden.grad).abs().max() < 1e-6
    for parameter, expected in zip(head.parameters(), plain_head.parameters(), strict=True):
        assert (parameter.grad - expected.grad).abs().max() < 1e-6
    each = F.cross_entropy(plain_head(plain_hidden), targets, reduction="none")
    assert (token_losses(head, hidden, targets) - each).abs().max() < 1e-6


def test_never_more_logits_than_allowed(rows, monkeypatch):
    monkeypatch.setattr(loss, "LOGITS_AT_A_TIME", 5 * VOCABULARY)
    head, (hidden, targets) = nn.Linear(HIDDEN, VOCABULARY), rows
    seen = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda rows, *args: (seen.append(len(rows)), linear(rows, *args))[1])
    cross_entropy_sum(head, hidden.requires_grad_(), targets)
    assert seen == [1, 5, 5, 5, 5, 3]  # the first to see how large the vocabulary is


def test_frozen_head_gets_no_gradient(rows):
    head, (hidden, targets) = nn.Linear(HIDDEN, VOCABULARY).requires_grad_(False), rows
    cross_entropy_sum(head, hidden.requires_grad_(), targets).backward()
    assert hidden.grad.any()
    assert all(parameter.grad is None for parameter in head.parameters())


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_half_precision(rows, monkeypatch, weights):
    """Under autocast, and with weights in bfloat16: as near to float32 as half precision is."""
    monkeypatch.setattr(loss, "LOGITS_AT_A_TIME", 7 * VOCABULARY)
    torch.manual_seed(0)
    head, (hidden, targets) = nn.Linear(HIDDEN, VOCABULARY), rows
    exact = copy.deepcopy(head)
    F.cross_entropy(exact(hidden), targets).backward()
    head = head.to(weights)
    hidden = hidden.to(weights).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=weights == torch.float32):
        (cross_entropy_sum(head, hidden, targets) / ROWS).backward()
    assert head.weight.grad.dtype == weights
    assert (head.weight.grad - exact.weight.grad).abs().max() < 0.02 * exact.weight.grad.abs().max()


def test_rows_that_lora_trains_in_a_tied_head(model):
    """The head shares the embeddings, so the bottleneck rows get a gradient from both ends."""
    add_lora(model[0], lora_of(2))
    head = model[0].model.get_output_embeddings()
    [rows_of_z] = [p for p in head.parameters() if p.requires_grad]
    hidden = torch.randn(len(PAIRS), head.weight.shape[1], generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([3, 7, model[0].bottleneck_token_ids[0]])
    (expected,) = torch.autograd.grad(F.cross_entropy(head(hidden), targets, reduction="sum"), [rows_of_z])
    cross_entropy_sum(head, hidden.requires_grad_(), targets).backward()
    assert expected.abs().max() > 0.1
    assert (rows_of_z.grad - expected).abs().max() < 1e-5
