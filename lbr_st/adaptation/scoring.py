"""What the start, the end and BM25 find, query by query, on what an adaptation held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lbr_st.adaptation.report import Example
from lbr_st.evaluation.fusion import AllScores, choose_weight, in_order_of, ndcg_at_10
from lbr_st.evaluation.own_data import LocalRetrieval, evaluate, open_for_evaluation
from lbr_st.evaluation.ranking import fuse

FIRST = 10


class Found(NamedTuple):
    """What a system finds for some queries.

    Attributes:
        recall: Recall@10 of each query.
        ndcg: Mean nDCG@10.
        ranks: Rank of the first document of each query that answers it, from 1.
        first: Position of the document that is found first for each query.
    """

    recall: np.ndarray
    ndcg: float
    ranks: np.ndarray
    first: np.ndarray


class Judge:
    """Scores systems on the same queries and documents.

    Args:
        task: Queries, documents and which answer which.
    """

    def __init__(self, task: LocalRetrieval) -> None:
        self.task = task
        self.documents = list(task.documents)
        column = {id_: number for number, id_ in enumerate(task.documents.values())}
        self.relevant = {query: [column[id_] for id_ in found] for query, found in task.judgements.items()}

    def scores(self, model: str | Path) -> AllScores:
        """Return the scores of all documents for all queries, of ``bm25`` or a model by its name."""
        searcher = AllScores(open_for_evaluation(model))
        evaluate(searcher, self.task)
        return searcher

    def found(self, queries: Sequence[str], scores: np.ndarray) -> Found:
        """Return what was found with scores.

        Args:
            queries: Ids of the queries, in the order of the rows.
            scores: ``(queries, documents)``.
        """
        order = np.argsort(-scores, axis=1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(1, order.shape[1] + 1)[None, :], axis=1)
        relevant = [self.relevant[query] for query in queries]
        ranks = [rank[row, columns] for row, columns in enumerate(relevant)]
        return Found(
            np.array([float(np.mean(each <= FIRST)) for each in ranks]),
            ndcg_at_10(scores, [self._grades(query) for query in queries]),
            np.array([int(each.min()) for each in ranks]),
            order[:, 0],
        )

    def _grades(self, query: str) -> Mapping[int, int]:
        grades = self.task.judgements[query].values()
        return dict(zip(self.relevant[query], grades, strict=True))

    def weight(self, dense: AllScores, lexical: AllScores) -> float:
        """Return the share of a model beside BM25 that is best on these queries."""
        return choose_weight(dense, lexical, self.task.judgements)

    def examples(self, queries: Sequence[str], before: Found, after: Found) -> list[Example]:
        """Return what was found for each query before and after, for people."""
        texts = {id_: text for text, id_ in self.task.queries.items()}
        return [
            Example(
                texts[query],
                self.documents[self.relevant[query][0]],
                int(before.ranks[row]),
                int(after.ranks[row]),
                self.documents[before.first[row]],
                self.documents[after.first[row]],
            )
            for row, query in enumerate(queries)
        ]


def fused(dense: AllScores, lexical: AllScores, weight: float) -> np.ndarray:
    """Return the scores of a model and BM25 together, ``(queries, documents)``, in the order of the model's queries."""
    return fuse(dense.scores, in_order_of(dense, lexical), weight)
