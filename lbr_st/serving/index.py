"""Search over passages: by their vectors, by BM25, and by both fused."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from lbr_st.data.drops import Drops, on_wrong_row
from lbr_st.errors import InputError, naming_the_extra
from lbr_st.evaluation.ranking import RRF, best_of, fuse, ranks
from lbr_st.model.contract import encoders_of_documents
from lbr_st.serving.passages import ROWS_AT_ONCE, Change, Embed, Passages, read_and_embed
from lbr_st.use.passages import is_encoded, open_encoded, require_sources
from lbr_st.use.vectors import COSINE, DOT, unit

logger = logging.getLogger(__name__)

DENSE, BM25, FUSED = "dense", "bm25", "fused"
BY = (DENSE, BM25, FUSED)


class Hit(NamedTuple):
    """A passage that was found.

    Attributes:
        id: Id of the passage; of a text file its name and line.
        score: Similarity, score of BM25, or sum of both reciprocal ranks.
        text: The passage; None where ``lbr encode`` kept no texts.
        ranks: Rank by ``dense`` and by ``bm25``, None where BM25 finds no word in it; of what was fused.
    """

    id: str
    score: float
    text: str | None
    ranks: dict[str, int | None] | None = None


class Index:
    """Passages that can be searched, and read again while they are.

    Args:
        source: A prepared set, a file of documents, a folder of text, or the output of ``lbr encode``.
        name: Directory or Hub id of the model.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` such rows.

    Raises:
        InputError: If there is no such source, or its vectors are of another model.
    """

    def __init__(self, source: str, name: str, on_error: str = "stop") -> None:
        self.source, self.name, self.on_error = source, name, on_error
        self._state: _State | None = None
        self._encoders = encoders_of_documents(name) if is_encoded(source) else None
        if is_encoded(source):
            open_encoded(source, name)
        else:
            require_sources([source], on_wrong_row(on_error, Drops()))

    def __len__(self) -> int:
        return len(self._state.passages.ids) if self._state else 0

    def load(self, model: SentenceTransformer, embed: Embed, cut_for: SentenceTransformer | None = None) -> Change:
        """Read the source, or read it again: what did not change keeps its vector, and searches go on meanwhile.

        Args:
            model: The model.
            embed: Returns the vectors of documents.
            cut_for: Model that passages are cut for; default is the model itself.

        Raises:
            InputError: If the source cannot be read; then all is as it was.
        """
        before = self._state.passages if self._state else None
        if is_encoded(self.source):
            if encoders_of_documents(self.name) != self._encoders:
                raise InputError(f"{self.name} is another model by now than what answers: start the server again")
            encoded = open_encoded(self.source, self.name)
            passages = Passages(*encoded.columns(), encoded.vectors(model))
            change = Change(len(passages.ids), encoded=0, kept=len(passages.ids), removed=0)
        else:
            passages, change, left_out = read_and_embed(
                self.source, model, embed, before, cut_for or model, self.on_error
            )
            if left_out:
                logger.warning("%s", left_out)
        self._state = _State(model, passages)
        return change

    @contextlib.contextmanager
    def as_it_was(self) -> Iterator[None]:
        """After an error, search what was searched before."""
        before = self._state
        try:
            yield
        except BaseException:
            self._state = before
            raise

    def missing(self, by: str) -> str | None:
        """Return why a search cannot be made; None where it can."""
        return self._state.no_words if self._state and by != DENSE else None

    def search(self, question: str, vector: NDArray[np.float32] | None, k: int, by: str) -> list[Hit]:
        """Return the passages that are nearest to a question, best first.

        Args:
            question: The question, for BM25.
            vector: Vector of the question, for the others.
            k: Most passages that are returned.
            by: One of `BY`.

        Raises:
            InputError: If the search cannot be made, see `missing`.
        """
        state = self._state  # another one may come meanwhile
        assert state is not None
        if by != DENSE and state.no_words is not None:
            raise InputError(state.no_words)
        return state.search(question, vector, k, by)


class _State:
    """What is searched at one time."""

    def __init__(self, model: SentenceTransformer, passages: Passages) -> None:
        self.model, self.passages = model, passages
        self.no_words: str | None = None
        try:
            self.words = _words(passages.texts)
        except InputError as error:
            self.no_words = str(error)

    def search(self, question: str, vector: NDArray[np.float32] | None, k: int, by: str) -> list[Hit]:
        if by == BM25:
            scores = self._lexical(question)
            return [self._hit(at, scores[at]) for at in best_of(scores, k) if scores[at] > 0]
        assert vector is not None
        dense = self._similarities(vector)
        if by == DENSE:
            return [self._hit(at, dense[at]) for at in best_of(dense, k)]
        lexical = self._lexical(question)
        by_model, by_words = ranks(dense[None])[0], ranks(lexical[None])[0]
        [fused] = fuse(dense[None], lexical[None], RRF)
        order = np.lexsort((by_model, -fused))[:k]
        return [
            self._hit(at, fused[at], {DENSE: int(by_model[at]), BM25: int(by_words[at]) if lexical[at] > 0 else None})
            for at in order.tolist()
        ]

    def _lexical(self, question: str) -> NDArray[np.float32]:
        with _without_bars():
            [(_, scores)] = self.words.scores([question])
        return scores[0]

    def _similarities(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors, query = self.passages.vectors, unit(vector, self.model)
        whole = vectors if isinstance(vectors, np.ndarray) else vectors.array
        is_product = self.model.similarity_fn_name in (COSINE, DOT)
        if is_product and whole.dtype == np.float32:
            return np.asarray(whole @ query)
        found = []
        for start in range(0, len(vectors), ROWS_AT_ONCE):
            rows = vectors[start : start + ROWS_AT_ONCE]
            if is_product and whole.dtype.kind == "f":  # of unit length are those alone
                found.append(rows @ query)
            else:
                found.append(self.model.similarity(torch.from_numpy(query)[None], torch.from_numpy(rows))[0].numpy())
        return np.concatenate(found)

    def _hit(self, at: int, score: Any, of_both: dict[str, int | None] | None = None) -> Hit:
        texts = self.passages.texts
        return Hit(self.passages.ids[at], float(score), None if texts is None else texts[at], of_both)


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Let bm25s write no bar for each question: mteb, which calls it, has no way to say so."""
    import bm25s

    own = bm25s.tokenize
    bm25s.tokenize = partial(own, show_progress=False)
    try:
        yield
    finally:
        bm25s.tokenize = own


def _words(texts: Sequence[str] | None) -> Any:
    """Return what searches texts by BM25.

    Raises:
        InputError: If there are no texts, they have no words, or its packages are not installed.
    """
    if texts is None:
        raise InputError("BM25 needs the texts: run lbr encode with --with-text")
    with naming_the_extra("BM25"):
        from lbr_st.evaluation.bm25 import BM25Ranker
    return BM25Ranker(list(texts))
