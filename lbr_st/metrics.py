"""What embeddings are worth, in numbers that are read off held-out pairs.

All of them take rows of length 1 (float32) and sum in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lbr_st.errors import InputError
from lbr_st.records import Record

ROWS_AT_A_TIME = 1024
SIMILARITIES_AT_A_TIME = 2**27  # half a GiB in float32; for libraries that hold a matrix of them

# Similarities of float32 vectors differ by rounding alone; a spread below this is none.
NO_SPREAD = 1e-6


@dataclass(frozen=True)
class Pairs:
    """Queries, documents, and which belong together. Texts that are equal count once.

    Attributes:
        queries: Texts.
        documents: Texts.
        relevant: For each query the positions of its documents, at least one.
    """

    queries: list[str]
    documents: list[str]
    relevant: list[list[int]]

    @classmethod
    def of(cls, records: Sequence[Record], more_documents: Sequence[Record] = ()) -> Pairs:
        """Make them of records with ``query`` and ``document``, and of documents that answer none of the queries."""
        texts = dict.fromkeys(record["document"] for record in [*records, *more_documents])
        position = {text: number for number, text in enumerate(texts)}
        relevant: dict[str, dict[int, None]] = {}
        for record in records:
            relevant.setdefault(record["query"], {})[position[record["document"]]] = None
        return cls(list(relevant), list(texts), [list(each) for each in relevant.values()])


def _similarities(left: Tensor, right: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield (first row, cosines) for a few rows at a time."""
    for start in range(0, len(left), ROWS_AT_A_TIME):
        yield start, (left[start : start + ROWS_AT_A_TIME].float() @ right.float().T).double()


def _moments(queries: Tensor, documents: Tensor, relevant: Sequence[Sequence[int]]) -> np.ndarray:
    """Return for each query: number, sum and sum of squares of its positive similarities, then of its negative ones."""
    rows = []
    for start, found in _similarities(queries, documents):
        for similarity, positions in zip(found, relevant[start : start + len(found)], strict=True):
            positive = similarity[torch.tensor(positions, device=similarity.device)]
            negative = similarity.clone()
            negative[positions] = 0
            sums = [positive.sum(), positive.square().sum(), negative.sum(), negative.square().sum()]
            p, pp, n, nn = torch.stack(sums).tolist()
            rows.append([len(positions), p, pp, len(similarity) - len(positions), n, nn])
    moments = np.array(rows)
    if not moments[:, 3].sum():
        raise InputError("the Separation Ratio needs at least two different documents, one of them to be a negative")
    return moments


def _ratio(moments: np.ndarray) -> float:
    """Return the Separation Ratio of moments that were summed over queries."""
    count_p, sum_p, squares_p, count_n, sum_n, squares_n = moments
    mean_p, mean_n = sum_p / count_p, sum_n / count_n
    variance = max(squares_p / count_p - mean_p**2, 0) + max(squares_n / count_n - mean_n**2, 0)
    spread = (variance / 2) ** 0.5
    return float((mean_p - mean_n) / spread) if spread > NO_SPREAD else 0.0


def separation_ratio(queries: Tensor, documents: Tensor, relevant: Sequence[Sequence[int]]) -> float:
    """Return how far apart the similarities of positive and of negative pairs lie, in units of their spread.

    ``(mean s(q, p+) - mean s(q, p-)) / sqrt((var s(q, p+) + var s(q, p-)) / 2)`` with the cosine s, over all pairs of
    a query and one of its documents, and all pairs of a query and any other document. arXiv 2601.11124 names a
    Separation Ratio (section 3) and does not define it; this definition is ours.

    Args:
        queries: ``(queries, width)``, rows of length 1.
        documents: ``(documents, width)``, rows of length 1.
        relevant: For each query the positions of its documents.

    Returns:
        The ratio; 0 where all similarities are equal.

    Raises:
        InputError: If there are no negative pairs.
    """
    return _ratio(_moments(queries, documents, relevant).sum(axis=0))


def separation_interval(
    queries: Tensor,
    documents: Tensor,
    relevant: Sequence[Sequence[int]],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the bootstrap interval (percentiles) of the Separation Ratio: queries are drawn anew, documents stay.

    Args:
        queries: See `separation_ratio`.
        documents: See `separation_ratio`.
        relevant: See `separation_ratio`.
        confidence: Share of resamples within the interval.
        resamples: How often the queries are drawn, with replacement.
        seed: Of the draws. One without a negative pair has no ratio and does not count.
    """
    moments = _moments(queries, documents, relevant)
    generator = np.random.default_rng(seed)
    n = len(moments)
    draws = (np.bincount(generator.integers(n, size=n), minlength=n) @ moments for _ in range(resamples))
    ratios = [_ratio(drawn) for drawn in draws if drawn[3] > 0]
    low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def paired_interval(one: np.ndarray, other: np.ndarray, *, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the 95% interval of how much more one model finds than another, by a paired bootstrap (percentiles).

    Seeds and queries are drawn anew, the same for both.

    Args:
        one: What each query found, ``(seeds, queries)``; of one run ``(1, queries)``.
        other: The same of the other model.
        resamples: How often they are drawn, with replacement.
        seed: Of the draws.
    """
    generator = np.random.default_rng(seed)
    difference = one - other
    seeds, queries = difference.shape
    drawn = [
        difference[generator.integers(seeds, size=seeds)][:, generator.integers(queries, size=queries)].mean()
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def no_worse(one: ArrayLike, best: ArrayLike) -> bool:
    """Tell whether one of several systems finds no less than the best of them, as far as these queries can tell.

    The mean difference is within its standard error, query by query, as in the rule of Breiman et al. (Classification
    and Regression Trees, 1984). A difference that rests on one query alone is.

    Args:
        one: Figure of each query, ``(queries,)``.
        best: The same of the best.
    """
    differences = np.subtract(best, one)
    if len(differences) < 2:
        return True
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return bool(differences.mean() <= error * (1 + 1e-9))  # of one query both are the same, but for rounding


def alignment(queries: Tensor, documents: Tensor, relevant: Sequence[Sequence[int]]) -> float:
    """Return the mean squared distance of a query to its documents (arXiv 2005.10242, section 4.1, alpha = 2).

    0 is best; 2 is that of unrelated directions.
    """
    rows = torch.tensor([n for n, positions in enumerate(relevant) for _ in positions], device=queries.device)
    columns = torch.tensor([position for positions in relevant for position in positions], device=documents.device)
    parts = zip(rows.split(ROWS_AT_A_TIME), columns.split(ROWS_AT_A_TIME), strict=True)
    total = sum((queries[r].double() - documents[c].double()).square().sum().item() for r, c in parts)
    return total / len(rows)


def uniformity(embeddings: Tensor) -> float:
    """Return how evenly embeddings fill the sphere (arXiv 2005.10242, section 4.1, t = 2).

    ``log mean exp(-2 |x - y|^2)`` over all pairs of different rows: 0 where all are equal, about -4 at the best.
    """
    n = len(embeddings)
    total = sum(torch.exp(4 * found - 4).sum().item() for _, found in _similarities(embeddings, embeddings))
    of_themselves = torch.exp(4 * embeddings.double().square().sum(dim=1) - 4).sum().item()
    return float(np.log((total - of_themselves) / (n * (n - 1))))


def anisotropy(embeddings: Tensor) -> float:
    """Return the mean cosine of all pairs of different rows (arXiv 1909.00512): 1 where all are equal."""
    n = len(embeddings)
    squared_sum, squares = _sums(embeddings)
    return (squared_sum - squares) / (n * (n - 1))


def variance(embeddings: Tensor) -> float:
    """Return the mean squared distance of rows to their mean: from 0, where all are equal, to 1.

    Of n rows it is ``(1 - anisotropy) (n - 1) / n``.
    """
    n = len(embeddings)
    squared_sum, squares = _sums(embeddings)
    return squares / n - squared_sum / n**2


def _sums(rows: Tensor) -> tuple[float, float]:
    """Return the squared length of the sum of rows, and the sum of their squared lengths."""
    parts = rows.split(ROWS_AT_A_TIME)
    total = torch.stack([part.double().sum(dim=0) for part in parts]).sum(dim=0)
    return total.square().sum().item(), sum(part.double().square().sum().item() for part in parts)
