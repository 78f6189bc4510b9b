"""How the vectors of a model are compared: what trains here compares by cosine."""

from __future__ import annotations

import logging
from typing import Any, Final

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize

logger = logging.getLogger(__name__)

COSINE: Final = "cosine"


def compare_by_cosine(model: SentenceTransformer, what: str) -> None:
    """Let a model be compared by cosine from now on, as it is where it is trained or teaches; say so if it was not.

    Vectors of length 1 have the same order by every similarity, so that a model that ends with them stays as it is.

    Args:
        model: Any sentence-transformers model, which is changed in place.
        what: The model, for the message.
    """
    modules: list[Any] = list(model)
    if model.similarity_fn_name == COSINE or isinstance(modules[-1], Normalize):
        return
    logger.warning(
        "%s compares vectors by %s; here they are trained and scored by cosine, and what is saved compares by cosine",
        what,
        model.similarity_fn_name,
    )
    model.similarity_fn_name = COSINE
