"""Vectors that lie on disk, of which some rows at a time are read as float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

COSINE, DOT = "cosine", "dot"

Floats = NDArray[np.float32]


class Vectors:
    """Vectors that are mapped from disk: memory holds those that are asked for.

    Args:
        array: The numbers as ``lbr encode`` wrote them, mapped: ``(rows, numbers)``.
        dimensions: Number of dimensions of a vector; eight of them are one number in binary.
        ranges: For int8, the least and the largest number of each dimension, ``(2, dimensions)``.
    """

    def __init__(self, array: Any, dimensions: int, ranges: Floats | None = None) -> None:
        self.array, self.dimensions, self.ranges = array, dimensions, ranges

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: slice | Sequence[int]) -> Floats:
        """Return some rows, ``(rows, dimensions)``; a copy."""
        some = self.array[rows]
        if some.dtype.kind == "f":
            return np.array(some, np.float32)
        return from_bits(some, self.dimensions) if self.ranges is None else from_int8(some, self.ranges)


def from_int8(numbers: NDArray[np.int8], ranges: Floats) -> Floats:
    """Return vectors that `sentence_transformers.util.quantize_embeddings` wrote in int8.

    Each number is one of 256 steps between the least and the largest value of its dimension; what comes back is the
    middle of the step.

    Args:
        numbers: ``(rows, dimensions)``.
        ranges: The least and the largest value of each dimension, ``(2, dimensions)``.
    """
    least, largest = ranges
    found = numbers.astype(np.float32)
    found += 128.5
    found *= (largest - least) / 255
    found += least
    return found


def from_bits(numbers: NDArray[np.uint8], dimensions: int) -> Floats:
    """Return the signs of vectors that `sentence_transformers.util.quantize_embeddings` wrote in bits: 1 or -1.

    Args:
        numbers: Eight dimensions in each, ``(rows, numbers)``.
        dimensions: Number of dimensions.
    """
    found = np.unpackbits(numbers, axis=1, count=dimensions).astype(np.float32)
    found *= 2
    found -= 1
    return found


def unit(vectors: Any, model: SentenceTransformer) -> Any:
    """Return vectors of unit length where the similarity of a model is the cosine, so that it is a product."""
    if model.similarity_fn_name != COSINE:
        return vectors
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.finfo(np.float32).tiny)
