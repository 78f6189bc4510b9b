"""Vectors of another model, brought into the embeddings of a language model by a linear map: least squares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lbr_st.errors import InputError

Vectors = Mapping[str, NDArray[np.float32]]  # by the name that each has in the other model

# Of the words that both know, one in so many tells how good the map is, and has no part in it.
HELD_OUT = 10


class Known(NamedTuple):
    """A token of the language model that the other model has a vector of.

    Attributes:
        name: Its name there.
        id: Its id here.
        is_spaced: Whether it stands for the word with a space before it.
    """

    name: str
    id: int
    is_spaced: bool


class Map(NamedTuple):
    """A map from the vectors of another model to rows of embeddings.

    Attributes:
        weight: ``(numbers + 2, width)``: of the numbers of a vector, of a constant, and of a space before the word.
        unexplained: Share of the variance of the held-out rows that it leaves: 0 is a perfect map, 1 none.
        fitted: Number of tokens it was fitted on.
        held_out: Number of tokens that told how good it is.
    """

    weight: NDArray[np.float64]
    unexplained: float
    fitted: int
    held_out: int

    def __call__(self, vector: NDArray[np.float32], is_spaced: bool) -> Tensor:
        """Return the row of one vector, ``(width,)`` float32."""
        [row] = _inputs([vector], [is_spaced]) @ self.weight
        return torch.from_numpy(row.astype(np.float32))


def known_tokens(vectors: Vectors, texts: Mapping[int, str]) -> Iterator[Known]:
    """Yield the tokens that both models know, in the order of their ids.

    Args:
        vectors: Vectors of the other model.
        texts: What each token of the language model stands for, by id.
    """
    for id_, text in sorted(texts.items()):
        word = text.removeprefix(" ")
        if word in vectors:
            yield Known(word, id_, is_spaced=word != text)


def fit(vectors: Vectors, known: Sequence[Known], rows: Tensor) -> Map:
    """Fit a map by least squares.

    Args:
        vectors: Vectors of the other model.
        known: Tokens that both know.
        rows: All rows of an embedding matrix, ``(tokens, width)``.

    Raises:
        InputError: If there are too few such tokens for a map.
    """
    # A word may be two tokens, with a space before it and without, that have one vector.
    apart = {*list(dict.fromkeys(each.name for each in known))[::HELD_OUT]}
    held_out = [each for each in known if each.name in apart]
    fitted = [each for each in known if each.name not in apart]
    numbers = len(next(iter(vectors.values())))
    needed = 2 * (numbers + 2)
    if len(fitted) < needed:
        raise InputError(
            f"--domain-vectors: the file and the model know {len(known):,} tokens both, and a map from vectors of "
            f"{numbers} numbers needs {needed + needed // (HELD_OUT - 1) + 1:,}; give the vectors of common words too"
        )

    def of(tokens: Sequence[Known]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        inputs = _inputs([vectors[each.name] for each in tokens], [each.is_spaced for each in tokens])
        return inputs, rows[[each.id for each in tokens]].double().cpu().numpy()

    inputs, targets = of(fitted)
    weight: NDArray[np.float64] = np.linalg.lstsq(inputs, targets, rcond=None)[0].astype(np.float64)
    inputs, held_out_rows = of(held_out)
    left = np.square(inputs @ weight - held_out_rows).sum()
    unexplained = left / np.square(held_out_rows - targets.mean(axis=0)).sum()
    return Map(weight, float(unexplained), len(fitted), len(held_out))


def _inputs(vectors: Sequence[NDArray[np.float32]], are_spaced: Sequence[bool]) -> NDArray[np.float64]:
    ones = np.ones((len(vectors), 1))
    return np.hstack([np.stack(vectors).astype(np.float64), ones, np.array(are_spaced, float)[:, None]])
