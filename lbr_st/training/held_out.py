"""What is measured on held-out pairs while a model trains, by both stages."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import cos_sim
from torch import Tensor
from transformers import TrainerCallback, TrainerState, TrainingArguments

from lbr_st import metrics
from lbr_st.learning.masked_model import IBGLModel
from lbr_st.learning.objectives import build_examples
from lbr_st.model.precision import computing_in
from lbr_st.records import Record

logger = logging.getLogger(__name__)

NAME = "dev"
NDCG, RECALL = f"{NAME}_cosine_ndcg@10", f"{NAME}_cosine_recall@10"

# Of unit vectors: below, they are one vector; above, of two random ones one says little more than the other.
LEAST_VARIANCE, MOST_COSINE = 0.01, 0.9

# Uniformity is about all pairs; of a large corpus this many documents, evenly spaced, say as much.
MOST_FOR_UNIFORMITY = 4096


class HeldOutEvaluator(InformationRetrievalEvaluator):
    """Sentence-transformers' information-retrieval evaluator, and what else the same embeddings say.

    Adds ``dev_separation_ratio``, ``dev_alignment``, ``dev_uniformity``, ``dev_mean_cosine`` and ``dev_variance`` (the
    last three of the documents), see `lbr_st.metrics`; with a language model also ``dev_lm_loss``, the loss of stage 1.

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
        self.language_model: IBGLModel | None = None
        super().__init__(
            queries={str(n): query for n, query in enumerate(self.pairs.queries)},
            corpus={str(n): document for n, document in enumerate(self.pairs.documents)},
            relevant_docs={str(n): set(map(str, each)) for n, each in enumerate(self.pairs.relevant)},
            name=NAME,
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

    @property
    def names(self) -> list[str]:
        """What it gives, of a corpus of several documents."""
        ours = ["alignment", "variance", "separation_ratio", "uniformity", "mean_cosine"]
        ours += ["lm_loss"] if self.language_model is not None else []
        return [NDCG, RECALL, *(f"{NAME}_{name}" for name in ours)]

    def watch(self, language_model: IBGLModel, model: SentenceTransformer, records: Sequence[Record]) -> None:
        """Measure the loss of stage 1 on held-out pairs too (``sft``: X = query, Y = document)."""
        self.language_model = language_model
        self.examples = build_examples(records, model, "sft")

    def embed_inputs(  # type: ignore[override]
        self, model: Any, sentences: Any, encode_fn_name: str | None = None, **kwargs: Any
    ) -> Tensor:
        """Encode, and keep what was encoded."""
        with computing_in(self.dtype, model.device):
            embeddings: Any = super().embed_inputs(model, sentences, encode_fn_name, **kwargs)
        unit = torch.nn.functional.normalize(embeddings.float(), dim=1)
        self._embedded.setdefault(str(encode_fn_name), []).append(unit)
        return embeddings.float()

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:  # type: ignore[override]
        """Return all of it."""
        self._embedded = {}
        found = dict(super().__call__(model, *args, **kwargs))
        queries, documents = (torch.cat(self._embedded.pop(kind)) for kind in ("query", "document"))
        relevant = self.pairs.relevant
        found[f"{NAME}_alignment"] = metrics.alignment(queries, documents, relevant)
        if len(documents) > 1:
            spaced = documents[:: -(-len(documents) // MOST_FOR_UNIFORMITY)]
            found |= {
                f"{NAME}_separation_ratio": metrics.separation_ratio(queries, documents, relevant),
                f"{NAME}_uniformity": metrics.uniformity(spaced),
                f"{NAME}_mean_cosine": metrics.anisotropy(documents),
                f"{NAME}_variance": metrics.variance(documents),
            }
            if self.confidence is not None:
                low, high = metrics.separation_interval(queries, documents, relevant, confidence=self.confidence)
                found |= {f"{NAME}_separation_low": low, f"{NAME}_separation_high": high}
        if self.language_model is not None:
            with computing_in(self.dtype, model.device):
                found[f"{NAME}_lm_loss"] = metrics.held_out_loss(self.language_model, self.examples, self.batch_size)
        return found


class Watch(TrainerCallback):
    """Warns of collapse and of forgetting since before training, with the numbers.

    Args:
        max_forgetting: How much the loss of the language model may rise above that before training, in nats per
            target token.
    """

    def __init__(self, max_forgetting: float) -> None:
        self.max_forgetting = max_forgetting

    @staticmethod
    def _before(state: TrainerState, name: str, default: Any) -> Any:
        key = f"eval_{NAME}_{name}"
        return next((entry[key] for entry in state.log_history if key in entry), default)

    def on_evaluate(  # type: ignore[override]
        self, args: TrainingArguments, state: TrainerState, control: Any, metrics: dict[str, float], **kwargs: Any
    ) -> None:
        """Look at what was measured, beside what it was before the first step."""
        if not state.is_world_process_zero:
            return
        variance, cosine = metrics.get(f"eval_{NAME}_variance", 1.0), metrics.get(f"eval_{NAME}_mean_cosine", 0.0)
        # A model that was never trained has them close together; training it takes them apart.
        if not variance >= min(LEAST_VARIANCE, self._before(state, "variance", 1.0)):  # NaN too
            logger.warning(
                "step %d: the embeddings have collapsed into one: their variance is %.2g (of 1 at the most, a warning "
                "below %.2g). A lower --learning-rate or a higher --temperature may help",
                state.global_step,
                variance,
                LEAST_VARIANCE,
            )
        elif cosine > max(MOST_COSINE, self._before(state, "mean_cosine", 0.0)):
            logger.warning(
                "step %d: the embeddings point the same way: the mean cosine of random documents is %.3f (a warning "
                "above %.2f)",
                state.global_step,
                cosine,
                MOST_COSINE,
            )
        key = f"eval_{NAME}_lm_loss"
        before = self._before(state, "lm_loss", None)
        if before is not None and not metrics[key] <= before + self.max_forgetting:
            logger.warning(
                "step %d: the language model forgets: its loss on --dev-data is %.3f nats per target token, from %.3f "
                "before training (a warning when it rises by more than %.2f). --lm-weight keeps it in training",
                state.global_step,
                metrics[key],
                before,
                self.max_forgetting,
            )
