"""A model that answers questions: the thread that runs it, and what it searches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from lbr_st.model.lengths import describe_longer
from lbr_st.serving.batching import TEXTS_AT_ONCE, Batcher, Vectors
from lbr_st.serving.embeddings import needs_tokens
from lbr_st.serving.index import Index
from lbr_st.serving.passages import Change
from lbr_st.serving.replies import ApiError

logger = logging.getLogger(__name__)


class Side:
    """A model, and what it searches.

    Args:
        name: What it is called.
        model: The model.
        batcher: Runs it.
        index: What it searches, if anything.
        cut_for: Model that passages are cut for; default is the model itself.
    """

    def __init__(
        self,
        name: str,
        model: SentenceTransformer,
        batcher: Batcher,
        index: Index | None,
        cut_for: SentenceTransformer | None = None,
    ) -> None:
        self.name, self.model, self.batcher, self.index = name, model, batcher, index
        self.needs_tokens = needs_tokens(model, batcher.lengths)
        self.cut_for = cut_for or model
        self.is_stopping = False

    def load(self, on_texts: Callable[[int, int], Any] = lambda done, of: None) -> Change:
        """Read what is searched, for the first time or again.

        Args:
            on_texts: Called with the numbers of texts that were encoded, and of all that are to be, again and again.

        Raises:
            InputError: If it cannot be read.
            ApiError: If the server stops meanwhile.
        """
        assert self.index is not None
        return self.index.load(self.model, lambda texts: self.embed(texts, on_texts), self.cut_for)

    def embed(self, texts: Sequence[str], on_texts: Callable[[int, int], Any] = lambda done, of: None) -> Vectors:
        """Return the vectors of documents, some at a time: those of clients go in between.

        Args:
            texts: At least one text.
            on_texts: See `load`.

        Raises:
            ApiError: If the server stops meanwhile.
        """
        found: Any = None
        longer, most = 0, self.batcher.limits["document"].most
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))  # neighbours are as long
        for start in range(0, len(order), TEXTS_AT_ONCE):
            if self.is_stopping:
                raise ApiError(503, "the server is stopping", code="stopping")
            these = order[start : start + TEXTS_AT_ONCE]
            some = [texts[at] for at in these]
            lengths = self.batcher.lengths(some, "document")
            longer += sum(length > most for length in lengths)
            vectors = self.batcher.submit(some, "document", lengths).result()
            if found is None:
                found = np.empty((len(texts), vectors.shape[1]), np.float32)
            found[these] = vectors
            on_texts(start + len(these), len(texts))
        if longer:
            logger.warning("%s", describe_longer(longer, len(texts), most))
        return found
