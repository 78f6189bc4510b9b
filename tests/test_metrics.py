"""Metrics against sums written out, closed forms, and what the trainer of stage 1 says of the same pairs."""

import math

import numpy as np
import pytest
import torch

from lbr_st import metrics
from lbr_st.errors import InputError

RELEVANT = [[0], [1, 4], [2], [3], [0]]


@pytest.fixture
def vectors(monkeypatch):
    monkeypatch.setattr(metrics, "ROWS_AT_A_TIME", 2)  # several chunks, the last one not full
    generator = torch.Generator().manual_seed(1)
    draw = [torch.randn(n, 7, generator=generator) for n in (5, 6)]
    return [torch.nn.functional.normalize(each, dim=1) for each in draw]


def ratio_written_out(queries, documents, relevant):
    positive, negative = [], []
    for query, of_query in zip(queries.double().numpy(), relevant, strict=True):
        for position, document in enumerate(documents.double().numpy()):
            (positive if position in of_query else negative).append(query @ document)
    return (np.mean(positive) - np.mean(negative)) / np.sqrt((np.var(positive) + np.var(negative)) / 2)


def test_separation_ratio(vectors):
    found = metrics.separation_ratio(*vectors, RELEVANT)
    assert found == pytest.approx(ratio_written_out(*vectors, RELEVANT), abs=1e-6)
    basis = torch.eye(4)
    queries = torch.nn.functional.normalize(basis + basis.roll(1, 0) * torch.tensor([[1.0], [2], [3], [4]]), dim=1)
    # Positives 1/sqrt(1+a^2); negatives a/sqrt(1+a^2) once and 0 twice.
    a = np.arange(1, 5)
    positive, negative = 1 / np.sqrt(1 + a**2), np.concatenate([a / np.sqrt(1 + a**2), np.zeros(8)])
    expected = (positive.mean() - negative.mean()) / math.sqrt((positive.var() + negative.var()) / 2)
    assert metrics.separation_ratio(queries, basis, [[n] for n in range(4)]) == pytest.approx(expected, abs=1e-6)


def test_separation_ratio_of_nothing_to_separate(vectors):
    queries, _ = vectors
    same = torch.nn.functional.normalize(torch.full((6, 7), 0.1), dim=1)
    assert metrics.separation_ratio(same[:5], same, RELEVANT) == 0
    with pytest.raises(InputError, match="two different documents"):
        metrics.separation_ratio(queries, same[:1], [[0]] * 5)


def test_separation_interval(vectors):
    """The quantiles of the ratio over the very same draws of queries."""
    queries, documents = vectors
    low, high = metrics.separation_interval(queries, documents, RELEVANT, confidence=0.8, resamples=50, seed=3)
    generator = np.random.default_rng(3)
    ratios = []
    for _ in range(50):
        drawn = generator.integers(5, size=5)
        ratios.append(ratio_written_out(queries[drawn], documents, [RELEVANT[n] for n in drawn]))
    assert (low, high) == pytest.approx(tuple(np.quantile(ratios, [0.1, 0.9])), abs=1e-6)


def test_draws_without_a_negative_pair_have_no_ratio(vectors):
    """Of two queries one has every document: drawn twice, it is told apart from nothing."""
    queries, documents = vectors
    relevant = [list(range(len(documents))), [0]]
    low, high = metrics.separation_interval(queries[:2], documents, relevant, resamples=200)
    ratios = [ratio_written_out(queries[drawn], documents, [relevant[n] for n in drawn]) for drawn in ([0, 1], [1, 1])]
    assert (low, high) == pytest.approx((min(ratios), max(ratios)), abs=1e-6)


def test_alignment_uniformity_anisotropy_variance(vectors):
    queries, documents = vectors
    distances = [(queries[q] - documents[d]).square().sum() for q, of in enumerate(RELEVANT) for d in of]
    assert metrics.alignment(queries, documents, RELEVANT) == pytest.approx(torch.stack(distances).mean().item())
    pairs = [(x, y) for n, x in enumerate(documents) for m, y in enumerate(documents) if n != m]
    kernel = [torch.exp(-2 * (x - y).square().sum()) for x, y in pairs]
    assert metrics.uniformity(documents) == pytest.approx(torch.stack(kernel).mean().log().item(), abs=1e-6)
    assert metrics.anisotropy(documents) == pytest.approx(
        torch.stack([x @ y for x, y in pairs]).mean().item(), abs=1e-6
    )
    assert metrics.variance(documents) == pytest.approx(documents.var(dim=0, correction=0).sum().item(), abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "uniformity", "anisotropy", "variance"),
    [(torch.eye(4)[[0, 0, 0, 0]], 0, 1, 0), (torch.eye(4), -4, 0, 3 / 4)],
)  # fmt: skip
def test_closed_forms(rows, uniformity, anisotropy, variance):
    """Of one direction, and of directions at right angles."""
    assert metrics.uniformity(rows) == pytest.approx(uniformity, abs=1e-6)
    assert metrics.anisotropy(rows) == pytest.approx(anisotropy, abs=1e-6)
    assert metrics.variance(rows) == pytest.approx(variance, abs=1e-6)
    assert metrics.alignment(rows, rows, [[n] for n in range(4)]) == 0


def test_pairs_count_equal_texts_once():
    records = [("q", "d"), ("r", "d"), ("q", "e"), ("q", "d")]
    pairs = metrics.Pairs.of([{"query": q, "document": d} for q, d in records], [{"document": "e"}, {"document": "f"}])
    assert pairs == metrics.Pairs(["q", "r"], ["d", "e", "f"], [[0, 1], [0]])


def test_paired_interval():
    """Against the normal approximation, for one seed."""
    generator = np.random.default_rng(1)
    one, other = generator.integers(2, size=(2, 1, 4000))
    low, high = metrics.paired_interval(one, other)
    difference = (one - other)[0]
    half = 1.96 * difference.std() / np.sqrt(len(difference))
    assert (low, high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=half / 10)
    assert metrics.paired_interval(one, one) == (0, 0)
    assert metrics.paired_interval(one, other, seed=1) != (low, high)


@pytest.mark.parametrize(
    ("one", "best", "is_so"),
    [
        ([0.4], [1.0], True),  # of one query nothing can be told
        ([1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], True),  # and one that differs is chance
        ([0.0, 0.0, 1.0, 1.0, 1.0, 1.0], [1.0] * 6, False),  # 0.333 below, where the standard error is 0.211
        ([0.9, 0.9], [1.0, 1.0], False),  # always the same, and no error
        ([1.0, 0.5], [1.0, 0.5], True),
    ],
)
def test_no_worse_is_within_a_standard_error(one, best, is_so):
    assert metrics.no_worse(one, best) is is_so
