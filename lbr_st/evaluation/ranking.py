"""Rankings of passages: by an embedding model, the ranks of texts in them, and two rankings fused.

BM25 is another ranker, see `lbr_st.evaluation.bm25.BM25Ranker`. Both are fused by their ranks, which needs no choice,
or by the weighted sum of their scores, whose weight is best chosen on dev.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor
from tqdm.auto import tqdm

from lbr_st.errors import InputError, check_installed
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.named import check_embedder_exists

Scores = NDArray[np.float32]
Weight = float | Literal["rrf"]

BM25 = "bm25"  # what it is called where a model can be named
SCORES_AT_A_TIME = 2**24  # 64 MiB in float32
MEMORY_MIB = 256  # for the vectors that are compared at once
COPIES = 2  # of these, as they are read and of unit length, and of their scores, which are kept until the next come
BESIDE = 4  # numbers of each text while the best are found
RRF: Literal["rrf"] = "rrf"
FEW = 32  # texts whose encoding shows no progress
# What is added to each rank, as in the paper.
RRF_K = 60


def check_searchers(names: Sequence[str], check: Callable[[str], None] = check_embedder_exists) -> None:
    """Refuse what searches nothing, before data are read: no weights are read either.

    Args:
        names: Values of ``--model``: ``bm25``, directories, Hub ids.
        check: Refuses what is no embedding model.

    Raises:
        InputError: If one is no embedding model, or BM25 is asked for without its packages.
    """
    for name in names:
        if name == BM25:
            for package in ("bm25s", "Stemmer"):
                check_installed(package, f"--model {BM25}")
            continue
        if not os.path.exists(name) and get_close_matches(name.lower(), [BM25]):
            raise InputError(f"--model {name}: no such directory; is {BM25} meant?")
        check(name)


class Ranker(Protocol):
    """What scores texts for queries.

    Attributes:
        size: Number of the texts.
    """

    size: int

    def scores(self, queries: Sequence[str]) -> Iterator[tuple[int, Scores]]:
        """Yield (first query, scores) for some queries at a time, ``(queries, texts)``."""
        ...


class DenseRanker:
    """An embedding model as a ranker; its prompts are applied.

    Args:
        model: Any sentence-transformers model.
        texts: What is ranked, at least one.
        batch_tokens: Most tokens encoded at once, see `lbr_st.model.encoding.TextEncoder`.
        vectors: Vectors of the texts, where they are there already; ``vectors[start:end]`` are float32.
        memory_mib: Memory for the vectors that are compared at once, in MiB.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        texts: Sequence[str],
        batch_tokens: int | None = None,
        *,
        vectors: Any = None,
        memory_mib: int = MEMORY_MIB,
    ) -> None:
        self.model, self.encoder, self.memory_mib = model, TextEncoder(model, batch_tokens), memory_mib
        self.size = len(texts)
        self._texts = self._encoded(texts, "document") if vectors is None else vectors

    def _encoded(self, texts: Sequence[str], role: str) -> Tensor:
        with tqdm(total=len(texts), desc="Encoding", unit="texts", disable=len(texts) <= FEW) as progress:
            return self.encoder.encode(texts, role, on_texts=progress.update).to(self.model.device)

    def scores(self, queries: Sequence[str]) -> Iterator[tuple[int, Scores]]:
        """Yield (first query, similarities) for some queries at a time, by the model's own similarity."""
        encoded = self._encoded(queries, "query")
        for start, end in blocks(len(queries), self.size):
            yield start, self._similarities(encoded[start:end])

    def _similarities(self, queries: Tensor) -> Scores:
        """Return the similarities with all texts, a part of them at a time: what is compared is copied once more."""
        found = np.empty((len(queries), self.size), np.float32)
        for some, scores in similarities(self.model, queries, self._texts.__getitem__, self.size, self.memory_mib):
            found[:, some] = scores
        return found


def blocks(queries: int, texts: int) -> Iterator[tuple[int, int]]:
    """Yield (first query, end) of blocks of queries whose scores memory holds, whatever the number of texts."""
    size = max(1, SCORES_AT_A_TIME // texts)
    for start in range(0, queries, size):
        yield start, min(start + size, queries)


def rows_within(memory_mib: int, dimensions: int, queries: int) -> int:
    """Return how many vectors of texts are compared with queries at once.

    Args:
        memory_mib: Memory for the vectors and their scores, in MiB.
        dimensions: Number of dimensions of a vector.
        queries: Number of queries.
    """
    return max(1, memory_mib * 2**20 // (4 * (COPIES * (dimensions + queries) + BESIDE)))


def similarities(
    model: SentenceTransformer, queries: Tensor, read: Callable[[slice], Any], size: int, memory_mib: int = MEMORY_MIB
) -> Iterator[tuple[slice, Scores]]:
    """Yield slices of texts with their similarities, ``(queries, texts)``, by the model's own function.

    Args:
        model: Any sentence-transformers model.
        queries: Vectors of the queries.
        read: Returns the vectors of a slice of the texts in float32.
        size: Number of texts.
        memory_mib: Memory for the vectors that are compared at once, in MiB.
    """
    queries = queries.to(model.device)
    rows = rows_within(memory_mib, queries.shape[1], len(queries))
    for start in range(0, size, rows):
        some = slice(start, start + rows)
        # Nothing holds on to vectors that were compared when the next ones are read.
        yield some, model.similarity(queries, torch.as_tensor(read(some)).to(model.device)).cpu().numpy()


def nearest(parts: Iterable[tuple[slice, Scores]], k: int) -> list[list[tuple[float, int]]]:
    """Return (score, position) of the best ``k`` texts for each query, best first; of equal ones the first comes first.

    That is the order of all scores sorted at once. `sentence_transformers.util.semantic_search` leaves open which of
    equal texts it returns.

    Args:
        parts: What `similarities` yields.
        k: Most texts of a query.
    """
    best: list[tuple[Scores, NDArray[np.int64]]] = []
    for some, scores in parts:
        best = best or [(np.empty(0, np.float32), np.empty(0, np.int64))] * len(scores)
        best = [_better(*those, of_query, some.start, k) for those, of_query in zip(best, scores, strict=True)]
    return [list(zip(scores.tolist(), positions.tolist(), strict=True)) for scores, positions in best]


def _better(
    scores: Scores, positions: NDArray[np.int64], of_part: Scores, start: int, k: int
) -> tuple[Scores, NDArray[np.int64]]:
    """Return the best of those that were found before and of a part of the texts, which come after them."""
    found = best_of(of_part, k)
    scores, positions = np.append(scores, of_part[found]), np.append(positions, np.add(found, start))
    order = best_of(scores, k)
    return scores[order], positions[order]


def ranks(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the rank of each text for each query, from 1; of equal ones the first has the better rank."""
    found = np.empty(scores.shape, np.int64)
    order = np.argsort(-scores, axis=1, kind="stable")
    np.put_along_axis(found, order, np.arange(1, scores.shape[1] + 1)[None], axis=1)
    return found


def ranks_of(ranker: Ranker, queries: Sequence[str], texts: Sequence[int]) -> NDArray[np.int64]:
    """Return the rank of one text for each query, from 1.

    Of texts with equal scores all have the last rank: what tells no two texts apart has found none of them.

    Args:
        ranker: What scores the texts.
        queries: The queries.
        texts: The position of the text whose rank is asked for, for each query.
    """
    found = np.zeros(len(queries), np.int64)
    with tqdm(total=len(queries), desc="Ranking", unit="queries") as progress:
        for start, scores in ranker.scores(queries):
            own = np.take_along_axis(scores, np.array(texts[start : start + len(scores)])[:, None], axis=1)
            found[start : start + len(scores)] = (~(scores < own)).sum(axis=1)  # of NaN nothing is found
            progress.update(len(scores))
    return found


def first_of(ranker: Ranker, queries: Sequence[str], k: int) -> list[list[int]]:
    """Return the positions of the first ``k`` texts for each query, best first; of equal ones the first comes first."""
    return [best_of(of_query, k) for _, scores in ranker.scores(queries) for of_query in scores]


def best_of(scores: NDArray[np.floating], k: int) -> list[int]:
    """Return the positions of the best ``k`` of some scores, best first; of equal ones the first comes first."""
    if k >= len(scores):
        return np.argsort(-scores, kind="stable").tolist()
    # Of many only those are sorted that may be among them; NaN is the worst score.
    found = np.flatnonzero(~(scores < -np.partition(-scores, k - 1)[k - 1]))
    return found[np.argsort(-scores[found], kind="stable")][:k].tolist()


def fuse(dense: Scores, lexical: Scores, weight: Weight) -> NDArray[np.floating]:
    """Return the scores of an embedding model and BM25 together.

    Args:
        dense: Scores of the model, ``(queries, documents)``.
        lexical: Scores of BM25, of the same; 0 where a document has no word of a query.
        weight: Share of the model in the sum of both, each standardized for each query; or `RRF` for the sum of their
            reciprocal ranks, to which BM25 adds nothing where it finds no word (reciprocal rank fusion: Cormack, Clarke
            and Buettcher, SIGIR 2009).
    """
    if weight == RRF:
        return 1 / (RRF_K + ranks(dense)) + np.where(lexical > 0, 1 / (RRF_K + ranks(lexical)), 0)
    return weight * standardized(dense) + (1 - weight) * standardized(lexical)


def standardized(scores: Scores) -> Scores:
    """Return scores with mean 0 and standard deviation 1 for each query; 0 where all documents score the same.

    Args:
        scores: ``(queries, documents)``.
    """
    centred = scores - scores.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    return centred / np.where(deviation > 0, deviation, 1)
