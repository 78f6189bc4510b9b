"""What is searched: passages of text with their vectors, which are kept when the text is read again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sentence_transformers import SentenceTransformer

from lbr_st.data.drops import Drops, on_wrong_row
from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import read_passages
from lbr_st.serving.batching import Vectors
from lbr_st.use.passages import chunker_of
from lbr_st.use.vectors import unit

ROWS_AT_ONCE = 2**16

Embed = Callable[[Sequence[str]], Vectors]


class Change(NamedTuple):
    """What became of the passages when they were read again.

    Attributes:
        passages: Number of passages.
        encoded: Number of texts that were encoded for them.
        kept: Number of passages whose vector was there before.
        removed: Number of passages of before whose text is not there any more.
    """

    passages: int
    encoded: int
    kept: int
    removed: int


class Passages:
    """Passages of text, and their vectors.

    Args:
        ids: Id of each.
        texts: Text of each; None where nobody kept them.
        vectors: Vector of each, ``(passages, dimensions)``: an array, or `lbr_st.use.vectors.Vectors`; of unit length
            where the similarity is the cosine and they are floating-point numbers.
        keys: What tells a text from others, for each; where vectors may be kept for it.
    """

    def __init__(
        self, ids: Sequence[str], texts: Sequence[str] | None, vectors: Any, keys: Sequence[bytes] = ()
    ) -> None:
        self.ids, self.texts, self.vectors, self.keys = ids, texts, vectors, keys


def read_and_embed(
    source: str,
    model: SentenceTransformer,
    embed: Embed,
    before: Passages | None,
    cut_for: SentenceTransformer,
    on_error: str,
) -> tuple[Passages, Change, str]:
    """Read passages, and embed those whose text was not there before.

    Args:
        source: A prepared set, a file of documents or a folder of text.
        model: The model.
        embed: Returns the vectors of texts.
        before: Passages that were read before, whose vectors are kept.
        cut_for: Model that they are cut for.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` such rows.

    Returns:
        The passages, what changed, and what of the source was left out, in one line or "".

    Raises:
        InputError: If the source cannot be read.
    """
    drops = Drops()
    wrong = on_wrong_row(on_error, drops)
    records = read_passages(file_of(source, "corpus"), partial(chunker_of, cut_for), wrong)
    ids, texts = [record["id"] for record in records], [record["document"] for record in records]
    keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
    known = {key: row for row, key in enumerate(before.keys)} if before else {}
    new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    of_new = unit(embed(list(new.values())), model) if new else np.empty((0, 0), np.float32)
    rows = {key: row for row, key in enumerate(new)}
    kept = before.vectors if before and len(new) < len(set(keys)) else of_new
    vectors = np.empty((len(keys), (of_new if new else kept).shape[1]), np.float32)
    for at, key in enumerate(keys):
        vectors[at] = of_new[rows[key]] if key in rows else kept[known[key]]
    left = set(keys)
    change = Change(
        len(keys),
        encoded=len(new),
        kept=sum(key in known for key in keys),
        removed=sum(key not in left for key in before.keys) if before else 0,
    )
    return Passages(ids, texts, vectors, keys), change, drops.describe() if drops.counts else ""
