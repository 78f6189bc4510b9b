"""What the start, the end and BM25 find, query by query, on what an adaptation held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mteb.types import PromptType

from lbr_st.adaptation.report import Example
from lbr_st.evaluation.fusion import AllScores, choose_weight, in_order_of, ndcgs_at_10
from lbr_st.evaluation.own_data import EncoderOfMteb, LocalRetrieval, evaluate
from lbr_st.evaluation.ranking import fuse
from lbr_st.model.opening import open_sentence_transformer

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


class EncodesOnce(EncoderOfMteb):
    """A model that remembers the documents it has encoded: dev and test are searched in the same ones.

    Args:
        name: Directory or Hub id.

    Raises:
        InputError: If it is not an embedding model.
    """

    def __init__(self, name: str) -> None:
        super().__init__(open_sentence_transformer(name))
        self._rows: dict[str, torch.Tensor] = {}

    def encode(self, inputs: Any, *, prompt_type: PromptType | None = None, **kwargs: Any) -> Any:
        """Return embeddings, of documents that were encoded before those of then."""
        if prompt_type != PromptType.document:
            return super().encode(inputs, prompt_type=prompt_type, **kwargs)
        texts = [text for batch in inputs for text in batch["text"]]
        if any(text not in self._rows for text in texts):
            found = torch.as_tensor(super().encode(inputs, prompt_type=prompt_type, **kwargs))
            self._rows |= dict(zip(texts, found, strict=True))
        return torch.stack([self._rows[text] for text in texts])


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

    def scores(self, model: Any) -> AllScores:
        """Return the scores of all documents for all queries, of a model or BM25 that is opened for mteb."""
        searcher = AllScores(model)
        evaluate(searcher, self.task)
        return searcher

    def found(self, queries: Sequence[str], scores: np.ndarray) -> Found:
        """Return what was found with scores; of documents with equal scores all have the last rank.

        The documents of the queries come first among all: else what has no word of a query would find them.

        Args:
            queries: Ids of the queries, in the order of the rows.
            scores: ``(queries, documents)``.
        """
        own = [
            np.array([(~(of_query < of_query[column])).sum() for column in self.relevant[query]])
            for query, of_query in zip(queries, scores, strict=True)
        ]
        return Found(
            np.array([float(np.mean(each <= FIRST)) for each in own]),
            float(ndcgs_at_10(scores, [self._grades(query) for query in queries]).mean()),
            np.array([int(each.min()) for each in own]),
            scores.argmax(axis=1),
        )

    def _grades(self, query: str) -> Mapping[int, int]:
        grades = self.task.judgements[query].values()
        return dict(zip(self.relevant[query], grades, strict=True))

    def weight(self, dense: AllScores, lexical: AllScores) -> float:
        """Return the share of a model beside BM25 that is no worse than any other on these queries."""
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
    return fuse(dense.scores, in_order_of(dense.queries, lexical), weight)
