"""What a model finds outside its domain: training on one domain must not cost what it knew of others."""

from __future__ import annotations

import random
from collections.abc import Sequence

from sentence_transformers import SentenceTransformer

from lbr_st.data.installed_packages import sampled_pairs
from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.records import Record
from lbr_st.training.held_out import RECALL, HeldOutEvaluator

MOST_PAIRS = 500


def general_pairs(source: str | None = None, *, seed: int = 0, most: int = MOST_PAIRS) -> list[Record]:
    """Return pairs from outside the domain.

    Args:
        source: File of pairs, or a prepared set, of which they are ``test``. Default is none: functions of the packages
            installed here, which their docstrings ask for.
        seed: Of the draw, where there are more.
        most: Number of pairs at most.

    Raises:
        InputError: If the file cannot be read, or nothing with docstrings is installed.
    """
    if source is None:
        pairs = sampled_pairs(most, seed)
        if not pairs:
            raise InputError("no function with a docstring is installed here: give pairs of another domain, --general")
        return pairs
    pairs = read_records(file_of(source, "test"))
    return pairs if len(pairs) <= most else random.Random(seed).sample(pairs, most)


def general_score(model: SentenceTransformer, pairs: Sequence[Record], batch_size: int = 32) -> float:
    """Return the recall@10 of a model on pairs of `general_pairs`, each query asked of all their documents."""
    return HeldOutEvaluator(pairs, batch_size=batch_size)(model)[RECALL]
