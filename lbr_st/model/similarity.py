"""How the vectors of a model are compared: what trains here compares by cosine."""

from __future__ import annotations

import logging
from typing import Any, Final

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize

logger = logging.getLogger(__name__)

COSINE: Final = "cosine"
SAME_ORDER = ("dot", "euclidean")  # of vectors of length 1


def compare_by_cosine(model: SentenceTransformer, what: str) -> None:
    """Let a model be compared by cosine from now on, as it is where it is trained or teaches; say so if it was not.

    Vectors of length 1 have the same order by dot product and Euclidean distance as by cosine, so that a model that
    gives them, and keeps all their numbers, stays as it is.

    Args:
        model: Any sentence-transformers model, which is changed in place.
        what: The model, for the message.
    """
    modules: list[Any] = list(model)
    has_length_1 = isinstance(modules[-1], Normalize) and model.truncate_dim is None
    if model.similarity_fn_name == COSINE or (has_length_1 and model.similarity_fn_name in SAME_ORDER):
        return
    logger.warning(
        "%s compares vectors by %s; here, and in what is saved of it, it is by cosine", what, model.similarity_fn_name
    )
    model.similarity_fn_name = COSINE
