"""``lbr separation``: what the embeddings of a model are worth before any training on pairs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sentence_transformers import SentenceTransformer

from lbr_st import metrics
from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.learning.masked_model import IBGLModel
from lbr_st.learning.objectives import build_examples, check_fits
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.model.saving import open_with_language_model
from lbr_st.records import Record
from lbr_st.training.held_out import NAME, NDCG, RECALL, HeldOutEvaluator

CONFIDENCE = 0.95
MEANINGS = {
    "Separation Ratio": "how far positive pairs lie above negative ones, in units of their spread; 0: not at all",
    "recall@10": "share of queries with their document among the first ten",
    "nDCG@10": "the same, with its rank",
    "alignment": "mean squared distance of a query to its document; 0 is best",
    "uniformity": "how evenly documents fill the sphere; lower is better, 0 where all are equal",
    "anisotropy": "mean cosine of two random documents; 1 where all are equal",
    "variance": "of the documents; 0 where all are equal, at most 1",
    "loss": "of stage 1 on the pairs, nats per target token",
    "nats": "what the bottleneck carries, per target token; 0: it is ignored",
}


def measure(model: SentenceTransformer, records: Sequence[Record], batch_size: int = 32) -> dict[str, float]:
    """Return the numbers of `MEANINGS`, and ``low`` and ``high`` of the ratio's bootstrap interval.

    Args:
        model: Any sentence-transformers model. ``loss`` and ``nats`` are there for those of this package alone.
        records: Held-out pairs, with ``query`` and ``document``.
        batch_size: Texts at a time.

    Raises:
        InputError: If the pairs have fewer than two different documents.
    """
    evaluator = HeldOutEvaluator(records, batch_size=batch_size, confidence=CONFIDENCE)
    found = evaluator(model)
    if f"{NAME}_separation_ratio" not in found:
        raise InputError("at least two different documents are needed, one of them to be a negative")
    numbers = {
        "Separation Ratio": found[f"{NAME}_separation_ratio"],
        "low": found[f"{NAME}_separation_low"],
        "high": found[f"{NAME}_separation_high"],
        "recall@10": found[RECALL],
        "nDCG@10": found[NDCG],
        "alignment": found[f"{NAME}_alignment"],
        "uniformity": found[f"{NAME}_uniformity"],
        "anisotropy": found[f"{NAME}_mean_cosine"],
        "variance": found[f"{NAME}_variance"],
    }
    module = model[0]
    if isinstance(module, BottleneckTransformer):
        check_fits(module)
        language_model, examples = IBGLModel(module.model), build_examples(records, model, "sft")
        numbers["loss"] = metrics.held_out_loss(language_model, examples, batch_size)
        nats = metrics.nats_through_bottleneck(language_model, examples, batch_size)
        numbers |= {} if nats is None else {"nats": nats}
    return numbers


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr separation``.

    Raises:
        InputError: If the model or the data cannot be used.
    """
    parser = argparse.ArgumentParser(prog="lbr separation", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="any sentence-transformers model")
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE_OR_ID",
        help="held-out pairs: set of `lbr data prepare`, of which it is dev, or a file; their documents are the corpus",
    )
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="(default: %(default)s)")
    args = parser.parse_args(argv)
    if args.batch_size < 1:
        raise InputError(f"--batch-size must be at least 1, got {args.batch_size}")
    records = read_records(file_of(args.data, "dev"))
    model = open_with_language_model(args.model)
    numbers = measure(model, records, args.batch_size)
    pairs = metrics.Pairs.of(records)
    lines = [f"{len(pairs.queries)} queries, {len(pairs.documents)} documents"]
    for name, meaning in MEANINGS.items():
        if name in numbers:
            lines.append(f"{name:<17} {numbers[name]:8.4f}   {meaning}")
            if name == "Separation Ratio":
                interval = f"{CONFIDENCE:.0%} of bootstrap samples of the queries"
                lines.append(f"{'':<17} {numbers['low']:8.4f} to {numbers['high']:.4f}   {interval}")
    print("\n".join(lines))  # noqa: T201
