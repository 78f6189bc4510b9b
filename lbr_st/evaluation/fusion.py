"""BM25 and an embedding model as one searcher: what each misses, the other often finds.

How, is told by `lbr_st.evaluation.ranking.fuse`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mteb.models.model_meta import ModelMeta
from mteb.models.models_protocols import EncoderProtocol
from mteb.models.search_wrappers import SearchEncoderWrapper

from lbr_st.evaluation.bm25 import BM25OfAnyScript, with_a_word
from lbr_st.evaluation.own_data import BM25, LocalRetrieval, evaluate, open_for_evaluation
from lbr_st.evaluation.ranking import RRF, Weight, best_of, blocks, fuse
from lbr_st.metrics import no_worse

# Share of the embedding model, and of BM25 the rest.
DENSE_WEIGHT = 0.7
WEIGHTS = tuple(tenths / 10 for tenths in range(11))


class AllScores:
    """A searcher that remembers the score of every document for every query, so that it can be fused without a search.

    Args:
        searcher: Model or BM25 as `lbr_st.evaluation.own_data.open_for_evaluation` returns it.
    """

    def __init__(self, searcher: EncoderProtocol | BM25OfAnyScript) -> None:
        self._similarities = _AllSimilarities()
        self.searcher: Any = searcher
        if not isinstance(searcher, BM25OfAnyScript):
            self.searcher = SearchEncoderWrapper(searcher, index_backend=self._similarities)
        self.documents: list[str] = []
        self.queries: list[str] = []
        self.scores = np.empty((0, 0), np.float32)

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What mteb files its results by."""
        return self.searcher.mteb_model_meta

    def index(self, corpus: Any, **kwargs: Any) -> None:
        """Let the searcher take the documents."""
        self.documents = list(corpus["id"])
        self.searcher.index(corpus, **kwargs)

    def search(self, queries: Any, *, top_k: int, **kwargs: Any) -> dict[str, dict[str, float]]:
        """Search all documents, and return the best."""
        self.queries = list(queries["id"])
        if isinstance(self.searcher, BM25OfAnyScript):
            self.scores = np.concatenate([scores for _, scores in self.searcher.scores(list(queries["text"]))])
            return with_a_word(best(self.queries, self.documents, self.scores, top_k))
        self.searcher.search(queries, top_k=1, **kwargs)
        self.scores = self._similarities.scores
        return best(self.queries, self.documents, self.scores, top_k)


class _AllSimilarities:
    """What mteb gives the embeddings to, in the place of an index: it keeps the similarities, four bytes each."""

    def __init__(self) -> None:
        self.scores = np.empty((0, 0), np.float32)
        self._documents: Any = None

    def add_documents(self, embeddings: Any, idxs: list[str]) -> None:
        self._documents = embeddings

    def search(
        self,
        embeddings: Any,
        top_k: int,
        similarity_fn: Callable[[Any, Any], Any],
        top_ranked: Any = None,
        query_idx_to_id: Any = None,
    ) -> tuple[list[list[float]], list[list[int]]]:
        found = (
            torch.as_tensor(similarity_fn(embeddings[start:end], self._documents)).float().cpu().numpy()
            for start, end in blocks(len(embeddings), len(self._documents))
        )
        self.scores = np.concatenate(list(found))
        order = [best_of(of_query, top_k) for of_query in self.scores]
        return [of_query[found].tolist() for of_query, found in zip(self.scores, order, strict=True)], order

    def clear(self) -> None:
        self._documents = None


class Fused:
    """An embedding model and BM25 together, see `fuse`.

    Both have been evaluated on the task before: nothing is searched again.

    Args:
        dense: The embedding model.
        lexical: BM25.
        weight: Share of the embedding model, or `RRF`.
    """

    def __init__(self, dense: AllScores, lexical: AllScores, weight: Weight = DENSE_WEIGHT) -> None:
        self.dense, self.lexical, self.weight = dense, lexical, weight
        meta, how = dense.mteb_model_meta, f"with-bm25-{weight}"
        # Its scores are not those of the model, which are found by the revision.
        about = {"name": f"{meta.name}-{how}", "revision": f"{meta.revision}-{how}"}
        self.mteb_model_meta = meta.model_copy(update=about)

    def index(self, corpus: Any, **kwargs: Any) -> None:
        """Do nothing: both have the documents."""

    def search(self, queries: Any, *, top_k: int, **kwargs: Any) -> dict[str, dict[str, float]]:
        """Return the best documents by the scores of both."""
        dense = self.dense
        found: dict[str, dict[str, float]] = {}
        for start, end in blocks(len(dense.queries), len(dense.documents)):  # as they take several times the memory
            some = dense.queries[start:end]
            fused = fuse(dense.scores[start:end], in_order_of(some, self.lexical), self.weight)
            found |= best(some, dense.documents, fused, top_k)
        return found


class WithBM25(NamedTuple):
    """The scores of a model on a task, alone and together with BM25.

    Attributes:
        alone: Scores of the model, as `lbr_st.evaluate` returns them.
        by_ranks: Scores of both by their reciprocal ranks.
        by_weight: Scores of both by the weighted sum.
        weight: Share of the model in that.
    """

    alone: dict[str, float]
    by_ranks: dict[str, float]
    by_weight: dict[str, float]
    weight: float


def evaluate_with_bm25(
    models: Mapping[str, EncoderProtocol],
    task: LocalRetrieval,
    dev: LocalRetrieval | None = None,
    weight: float | None = None,
    *,
    results_dir: str | Path | None = None,
) -> tuple[dict[str, float], dict[str, WithBM25]]:
    """Score BM25, and models alone and together with it.

    Args:
        models: Models as `lbr_st.evaluation.own_data.open_for_evaluation` returns them, by name.
        task: What they are scored on.
        dev: What the weight of each is chosen on, see `choose_weight`.
        weight: Share of a model in the weighted sum where there is no dev; default is `DENSE_WEIGHT`.
        results_dir: Folder for mteb's result files; default is none.

    Returns:
        The scores of BM25, and of each model by name.

    Raises:
        InputError: If a package that BM25 needs is not installed.
    """

    def scored(model: AllScores | Fused) -> dict[str, float]:
        return evaluate(model, task, results_dir=results_dir)

    bm25 = open_for_evaluation(BM25)
    of_dev = AllScores(bm25)
    if dev is not None:
        evaluate(of_dev, dev)
    lexical = AllScores(bm25)
    of_bm25, found = scored(lexical), {}
    for name, model in models.items():
        dense, share = AllScores(model), DENSE_WEIGHT if weight is None else weight
        if dev is not None:
            evaluate(dense, dev)
            share = choose_weight(dense, of_dev, dev.judgements)
        # The first leaves the scores that the others are made of.
        alone = scored(dense)
        by_ranks, by_weight = scored(Fused(dense, lexical, RRF)), scored(Fused(dense, lexical, share))
        found[name] = WithBM25(alone, by_ranks, by_weight, share)
    return of_bm25, found


def choose_weight(dense: AllScores, lexical: AllScores, judgements: Mapping[str, Mapping[str, int]]) -> float:
    """Return the share of the model in the sum with which both together are no worse, by nDCG@10, than with any other.

    Of those it is the nearest to `DENSE_WEIGHT`: with a few queries any share may be the best by chance.

    Args:
        dense: The embedding model, evaluated on dev.
        lexical: BM25, evaluated on the same.
        judgements: Grades of the documents that answer a query, by their ids, as
            `lbr_st.evaluation.own_data.LocalRetrieval` has them.
    """
    column = {document: number for number, document in enumerate(dense.documents)}
    relevant = [{column[name]: grade for name, grade in judgements[query].items()} for query in dense.queries]
    parts: dict[float, list[np.ndarray]] = {weight: [] for weight in WEIGHTS}
    for start, end in blocks(len(dense.queries), len(dense.documents)):  # the sum takes several times the memory
        of_dense, of_bm25 = dense.scores[start:end], in_order_of(dense.queries[start:end], lexical)
        for weight in WEIGHTS:
            parts[weight].append(ndcgs_at_10(fuse(of_dense, of_bm25, weight), relevant[start:end]))
    reached = {weight: np.concatenate(of_weight) for weight, of_weight in parts.items()}
    best_one = max(reached.values(), key=np.mean)
    good = [weight for weight in WEIGHTS if no_worse(reached[weight], best_one)]
    return min(good, key=lambda weight: abs(weight - DENSE_WEIGHT))


def ndcgs_at_10(scores: np.ndarray, relevant: Sequence[Mapping[int, int]]) -> np.ndarray:
    """Return the nDCG@10 of each query, with gains and discounts as trec_eval has them.

    Of documents with equal scores those that answer come last, as in `lbr_st.evaluation.ranking.ranks_of`.

    Args:
        scores: ``(queries, documents)``.
        relevant: For each query the grades of documents by their position, one above 0 at least.
    """
    discounts = 1 / np.log2(np.arange(2, 12))
    values = []
    for of_query, grades in zip(scores, relevant, strict=True):
        tenth = -np.partition(-of_query, 9)[9] if len(of_query) > 10 else -np.inf
        first = np.flatnonzero(~(of_query < tenth))
        of_each = np.array([grades.get(int(number), 0) for number in first])
        gains = of_each[np.lexsort((of_each, -of_query[first]))][:10]
        ideal = sorted(grades.values(), reverse=True)[:10]
        values.append(np.dot(gains, discounts[: len(gains)]) / np.dot(ideal, discounts[: len(ideal)]))
    return np.array(values)


def in_order_of(queries: Sequence[str], other: AllScores) -> np.ndarray:
    """Return the scores of a searcher for some of its queries, in their order, ``(queries, documents)``."""
    row = {query: number for number, query in enumerate(other.queries)}
    return other.scores[[row[query] for query in queries]]


def best(queries: list[str], documents: list[str], scores: np.ndarray, top_k: int) -> dict[str, dict[str, float]]:
    """Return the scores of the best documents by query, as mteb wants them."""
    return {
        query: {documents[n]: float(of_query[n]) for n in best_of(of_query, top_k)}
        for query, of_query in zip(queries, scores, strict=True)
    }
