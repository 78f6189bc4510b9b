"""What the embeddings of a model are like on held-out pairs, before any training on pairs or after it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from sentence_transformers import SentenceTransformer

from lbr_st.errors import InputError
from lbr_st.learning.examples import ExampleMaker, build_examples, check_fits
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.measures import held_out_loss, nats_through_bottleneck
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.model.lengths import warn_of_longer
from lbr_st.records import Record
from lbr_st.training.held_out import DEV, NDCG, RECALL, HeldOutEvaluator

logger = logging.getLogger(__name__)

CONFIDENCE = 0.95
RATIO = "Separation Ratio"
MEANINGS = {
    RATIO: "how far positive pairs lie above negative ones, in units of their spread; 0: not at all",
    "recall@10": "share of the documents of a query that are among the first ten, on average",
    "nDCG@10": "the same, with their ranks; all that answer count alike",
    "alignment": "mean squared distance of a query to its document; 0 is best",
    "uniformity": "how evenly documents fill the sphere; lower is better, 0 where all are equal",
    "anisotropy": "mean cosine of two random documents; 1 where all are equal",
    "variance": "spread of the documents; 0 where all are equal, at most 1",
    "loss": "loss of stage 1 on the pairs, in nats per target token",
    "nats": "what the bottleneck carries, per target token; 0: it is ignored",
}


def inspect(
    model: SentenceTransformer, pairs: Sequence[Record], batch_size: int = 32, more_documents: Sequence[Record] = ()
) -> dict[str, float]:
    """Return the numbers of `MEANINGS`, and ``low`` and ``high`` of the ratio's bootstrap interval.

    How many texts are longer than the model reads is said.

    Args:
        model: Any sentence-transformers model. Only one of this package with its language model has ``loss`` and
            ``nats``.
        pairs: Held-out pairs, with ``query`` and ``document``.
        batch_size: Number of texts encoded at once.
        more_documents: Records whose documents are searched among too.

    Raises:
        InputError: If there are fewer than two different documents, or texts leave no room for the bottleneck.
    """
    documents = (record["document"] for record in [*pairs, *more_documents])
    warn_of_longer(model, (pair["query"] for pair in pairs), documents)
    found = HeldOutEvaluator(pairs, more_documents, batch_size=batch_size, confidence=CONFIDENCE)(model)
    if f"{DEV}_separation_ratio" not in found:
        raise InputError("at least two different documents are needed, one of them to be a negative")
    numbers = {
        RATIO: found[f"{DEV}_separation_ratio"],
        "low": found[f"{DEV}_separation_low"],
        "high": found[f"{DEV}_separation_high"],
        "recall@10": found[RECALL],
        "nDCG@10": found[NDCG],
        "alignment": found[f"{DEV}_alignment"],
        "uniformity": found[f"{DEV}_uniformity"],
        "anisotropy": found[f"{DEV}_mean_cosine"],
        "variance": found[f"{DEV}_variance"],
    }
    module = model[0]
    if isinstance(module, BottleneckTransformer):
        try:
            check_fits(module)
            language_model = CutOffModel(module.model)
        except InputError as error:
            logger.info("the loss of the language model is not measured: %s", error)
            return numbers
        examples = build_examples(pairs, ExampleMaker(model, "sft", draws=False))
        numbers["loss"] = held_out_loss(language_model, examples, batch_size)
        nats = nats_through_bottleneck(language_model, examples, batch_size)
        numbers |= {} if nats is None else {"nats": nats}
    return numbers


def format_numbers(numbers: Mapping[str, float]) -> str:
    """Lay out what `inspect` returned, a line each with its meaning."""
    lines = []
    for name, meaning in MEANINGS.items():
        if name in numbers:
            lines.append(f"{name:<17} {numbers[name]:8.4f}   {meaning}")
        if name == RATIO:
            interval = f"{CONFIDENCE:.0%} of bootstrap samples of the queries"
            lines.append(f"{'':<17} {numbers['low']:8.4f} to {numbers['high']:.4f}   {interval}")
    return "\n".join(lines)
