"""What is measured of the embeddings of held-out pairs while a model trains, by both stages."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import cos_sim
from torch import Tensor

from lbr_st import metrics
from lbr_st.model.precision import computing_in
from lbr_st.records import Record

logger = logging.getLogger(__name__)

DEV = "dev"
NDCG, RECALL = f"{DEV}_cosine_ndcg@10", f"{DEV}_cosine_recall@10"

# Uniformity is about all pairs; of a large corpus this many documents, evenly spaced, say as much.
MOST_FOR_UNIFORMITY = 4096


class HeldOutEvaluator(InformationRetrievalEvaluator):
    """Sentence-transformers' information-retrieval evaluator, and what else the same embeddings say.

    ``recalls`` and ``ndcgs`` have the recall@10 and the nDCG@10 of each query, as they were measured last; it returns
    their means.
    Adds ``dev_separation_ratio``, ``dev_alignment``, ``dev_uniformity``, ``dev_mean_cosine`` and ``dev_variance`` (the
    last three of the documents), see `lbr_st.metrics`.

    Args:
        records: With ``query`` and ``document``: each query is asked of all documents.
        more_documents: Records whose documents join the corpus.
        batch_size: Texts encoded at a time.
        dtype: Compute in it (autocast); default is the dtype of the model.
        confidence: Add the bootstrap interval of the Separation Ratio, ``dev_separation_low`` and ``_high``.
    """

    def __init__(
        self,
        records: Sequence[Record],
        more_documents: Sequence[Record] = (),
        *,
        batch_size: int = 32,
        dtype: torch.dtype | None = None,
        confidence: float | None = None,
    ) -> None:
        self.confidence = confidence
        self.pairs = metrics.Pairs.of(records, more_documents)
        self.dtype = dtype
        super().__init__(
            queries={str(n): query for n, query in enumerate(self.pairs.queries)},
            corpus={str(n): document for n, document in enumerate(self.pairs.documents)},
            relevant_docs={str(n): set(map(str, each)) for n, each in enumerate(self.pairs.relevant)},
            name=DEV,
            batch_size=batch_size,
            score_functions={"cosine": cos_sim},
            main_score_function="cosine",
            accuracy_at_k=[1],
            precision_recall_at_k=[10],
            mrr_at_k=[10],
            ndcg_at_k=[10],
            map_at_k=[10],
            write_csv=False,
            corpus_chunk_size=max(1, min(50_000, metrics.SIMILARITIES_AT_A_TIME // len(self.pairs.queries))),
        )
        self._embedded: dict[str, list[Tensor]] = {}
        self.recalls: list[float] = []
        self.ndcgs: list[float] = []

    @property
    def names(self) -> list[str]:
        """What it gives: of one document there is no spacing, and where all of them answer every query no ratio."""
        ours = ["alignment", *(["variance", "uniformity", "mean_cosine"] if len(self.corpus) > 1 else [])]
        if any(len(each) < len(self.corpus) for each in self.pairs.relevant):
            ours.append("separation_ratio")
        return [NDCG, RECALL, *(f"{DEV}_{name}" for name in ours)]

    def embed_inputs(  # type: ignore[override]
        self, model: Any, sentences: Any, encode_fn_name: str | None = None, **kwargs: Any
    ) -> Tensor:
        """Encode, and keep what was encoded."""
        with computing_in(self.dtype, model.device):
            embeddings: Any = super().embed_inputs(model, sentences, encode_fn_name, **kwargs)
        unit = torch.nn.functional.normalize(embeddings.float(), dim=1)
        self._embedded.setdefault(str(encode_fn_name), []).append(unit)
        return embeddings.float()

    def compute_metrics(self, queries_result_list: list[Any]) -> dict[str, Any]:
        """Compute them, and keep the recall and the nDCG of each query."""
        self.recalls, self.ndcgs = [], []
        for hits, answers in zip(queries_result_list, self.relevant_docs.values(), strict=True):
            best = sorted(hits, key=lambda hit: (-hit["score"], hit["corpus_id"]))[:10]
            is_answer = [hit["corpus_id"] in answers for hit in best]
            self.recalls.append(sum(is_answer) / len(answers))
            ideal = self.compute_dcg_at_k([1] * len(answers), 10)
            self.ndcgs.append(float(self.compute_dcg_at_k(is_answer, 10) / ideal))
        return super().compute_metrics(queries_result_list)

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:  # type: ignore[override]
        """Return all of it."""
        self._embedded = {}
        similarity: Any = model.similarity  # that of the model: the cosine, or what orders as it does
        self.score_functions = {"cosine": similarity}
        found = dict(super().__call__(model, *args, **kwargs))
        queries, documents = (torch.cat(self._embedded.pop(kind)) for kind in ("query", "document"))
        relevant = self.pairs.relevant
        found[f"{DEV}_alignment"] = metrics.alignment(queries, documents, relevant)
        if len(documents) > 1:
            spaced = documents[:: -(-len(documents) // MOST_FOR_UNIFORMITY)]
            found |= {
                f"{DEV}_uniformity": metrics.uniformity(spaced),
                f"{DEV}_mean_cosine": metrics.anisotropy(documents),
                f"{DEV}_variance": metrics.variance(documents),
            }
        if f"{DEV}_separation_ratio" in self.names:
            found[f"{DEV}_separation_ratio"] = metrics.separation_ratio(queries, documents, relevant)
            if self.confidence is not None:
                low, high = metrics.separation_interval(queries, documents, relevant, confidence=self.confidence)
                found |= {f"{DEV}_separation_low": low, f"{DEV}_separation_high": high}
        return found
