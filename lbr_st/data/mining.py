"""Hard negatives found by a model, where the data has none: flags and the search, sentence-transformers' own."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

from lbr_st.errors import InputError
from lbr_st.metrics import SIMILARITIES_AT_A_TIME
from lbr_st.model.opening import check_model_exists
from lbr_st.records import Record, same_text

logger = logging.getLogger(__name__)

FILTERS = ("margin", "relative_margin", "max_score")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    group = parser.add_argument_group("hard negatives", "given with the data, or found by a model before training")
    group.add_argument("--mine-negatives", type=int, metavar="N", help="find N for every pair (default: none)")
    group.add_argument(
        "--mining-model",
        metavar="DIR_OR_ID",
        help="any sentence-transformers model to find them with (default: the model that is trained, as it is)",
    )
    group.add_argument(
        "--mining-corpus", metavar="FILE_OR_ID", help="documents to find them in, beside those of --data"
    )
    group.add_argument(
        "--mining-margin",
        type=float,
        metavar="M",
        help="false-negative filter: a negative is at least M less similar to the query than its document is",
    )
    group.add_argument(
        "--mining-relative-margin",
        type=float,
        metavar="M",
        help="the same as a share of the document's similarity; 0.05 is that of NV-Retriever (arXiv 2407.15831)",
    )
    group.add_argument("--mining-max-score", type=float, metavar="S", help="a negative is at most this similar")
    group.add_argument(
        "--mining-skip", type=int, default=0, metavar="N", help="leave out the N most similar ones (default: 0)"
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse flags that mean nothing without another one, or are out of range.

    Raises:
        InputError: Which.
    """
    if args.mine_negatives is None:
        for flag in ("model", "corpus", "margin", "relative_margin", "max_score", "skip"):
            if getattr(args, f"mining_{flag}"):
                raise InputError(f"--mining-{flag.replace('_', '-')} needs --mine-negatives")
        return
    if args.mine_negatives < 1 or args.mining_skip < 0:
        raise InputError("--mine-negatives must be at least 1 and --mining-skip at least 0")
    if args.mining_model is not None:
        check_model_exists(args.mining_model, "--mining-model")


def check_records(args: argparse.Namespace, records: Sequence[Record]) -> None:
    """Refuse to mine for records that have hard negatives.

    Raises:
        InputError: With the first of them.
    """
    given = next((record["id"] for record in records if record["negatives"]), None)
    if args.mine_negatives is not None and given is not None:
        raise InputError(
            f"record {given} of --data has hard negatives already: leave out --mine-negatives, or them from the data"
        )


def mine(
    records: Sequence[Record],
    model: SentenceTransformer,
    args: argparse.Namespace,
    corpus: Sequence[Record],
    batch_size: int,
) -> list[Record]:
    """Return records with the hard negatives that the model finds; no known document of a query is one of them.

    Records for which the filters leave fewer than were asked for are left out, with a count in the log.

    Args:
        records: With ``query`` and ``document``.
        model: What to find them with; its prompts are applied.
        args: What `add_arguments` added.
        corpus: Documents to find them in, beside those of the records.
        batch_size: Texts encoded at a time.

    Raises:
        InputError: If they are found for no record.
    """
    # A document in other capitals would be another one, and the first to be found.
    texts = {same_text(record["document"]): record["document"] for record in [*corpus, *records]}
    try:
        found = mine_hard_negatives(
            Dataset.from_list([{"anchor": r["query"], "positive": r["document"]} for r in records]),
            model,
            corpus=list(texts.values()),
            num_negatives=args.mine_negatives,
            range_min=args.mining_skip,
            absolute_margin=args.mining_margin,
            relative_margin=args.mining_relative_margin,
            max_score=args.mining_max_score,
            output_format="n-tuple",
            batch_size=batch_size,
            # Without FAISS it is the number of queries that are compared with all documents at a time.
            faiss_batch_size=max(1, SIMILARITIES_AT_A_TIME // len(texts)),
            verbose=False,
        )
    except ValueError as error:
        raise InputError(f"no hard negatives could be mined: {' '.join(str(error).split())}") from error
    names = [name for name in found.column_names if name.startswith("negative")]
    of_pair = {(row["anchor"], row["positive"]): [row[name] for name in names] for row in found}
    mined = [
        record | {"negatives": of_pair[pair]}
        for record in records
        if (pair := (record["query"], record["document"])) in of_pair
    ]
    if not mined:
        names = [
            f"--mining-{name.replace('_', '-')}" for name in FILTERS if getattr(args, f"mining_{name}") is not None
        ]
        weaker = f"weaken {' and '.join(names)}, take another --mining-model, or " if names else ""
        raise InputError(
            f"{args.mine_negatives} hard negatives were found for none of {len(records)} pairs; {weaker}ask for fewer"
        )
    logger.info(
        "mined %d hard negatives for %d of %d pairs%s",
        args.mine_negatives,
        len(mined),
        len(records),
        "" if len(mined) == len(records) else "; there are fewer for the others, which are left out",
    )
    return mined
