"""BM25 and an embedding model as one searcher: what each misses, the other often finds."""

from __future__ import annotations

from typing import Any

import numpy as np
from mteb.models.model_meta import ModelMeta
from mteb.models.models_protocols import EncoderProtocol
from mteb.models.search_wrappers import SearchEncoderWrapper

# Share of the embedding model, and of BM25 the rest.
DENSE_WEIGHT = 0.7


class AllScores:
    """A searcher that remembers the score of every document for every query, so that it can be fused without a search.

    Args:
        searcher: Model as `lbr_st.evaluation.own_data.open_for_evaluation` returns it.
    """

    def __init__(self, searcher: Any) -> None:
        self.searcher = SearchEncoderWrapper(searcher) if isinstance(searcher, EncoderProtocol) else searcher
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
        found = self.searcher.search(queries, top_k=len(self.documents), **kwargs)
        self.queries = list(found)
        self.scores = np.array(
            [[of_query.get(document, 0.0) for document in self.documents] for of_query in found.values()], np.float32
        )
        return best(self.queries, self.documents, self.scores, top_k)


class Fused:
    """An embedding model and BM25, by the weighted sum of their scores, each standardized for each query.

    Both have been evaluated on the task before: nothing is searched again.

    Args:
        dense: The embedding model.
        lexical: BM25.
    """

    def __init__(self, dense: AllScores, lexical: AllScores) -> None:
        self.dense, self.lexical = dense, lexical
        name = f"{dense.mteb_model_meta.name}-with-bm25"
        self.mteb_model_meta = dense.mteb_model_meta.model_copy(update={"name": name})

    def index(self, corpus: Any, **kwargs: Any) -> None:
        """Do nothing: both have the documents."""

    def search(self, queries: Any, *, top_k: int, **kwargs: Any) -> dict[str, dict[str, float]]:
        """Return the best documents by the scores of both."""
        dense, lexical = standardized(self.dense.scores), standardized(self.lexical.scores)
        order = [self.lexical.queries.index(query) for query in self.dense.queries]
        fused = DENSE_WEIGHT * dense + (1 - DENSE_WEIGHT) * lexical[order]
        return best(self.dense.queries, self.dense.documents, fused, top_k)


def standardized(scores: np.ndarray) -> np.ndarray:
    """Return scores with mean 0 and standard deviation 1 for each query; 0 where all documents score the same.

    Args:
        scores: ``(queries, documents)``.
    """
    centred = scores - scores.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    return centred / np.where(deviation > 0, deviation, 1)


def best(queries: list[str], documents: list[str], scores: np.ndarray, top_k: int) -> dict[str, dict[str, float]]:
    """Return the scores of the best documents by query, as mteb wants them."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    return {query: {documents[n]: float(scores[row, n]) for n in order[row]} for row, query in enumerate(queries)}
