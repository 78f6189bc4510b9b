"""The information-sharing module (arXiv 2311.03778): what a language model and a recommender know of each thing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lbr_st.errors import InputError


def check_dimensions(dimensions: int, width: int) -> None:
    """Refuse vectors of a recommender that are longer than the rows of a vocabulary.

    Raises:
        InputError: With the most that fits.
    """
    if dimensions > width:
        raise InputError(f"--dimensions {dimensions}: the language model is {width} wide; ask for {width} at most")


class InformationSharing(nn.Module):
    """Brings vectors of a recommender into the space of a vocabulary and back, and keeps what a side shared last.

    The map is fixed, and ours: orthogonal directions drawn at random, moved to the mean of the vocabulary and scaled to
    the spread of its rows. So a new token is as long as an old one, nothing of a vector is lost, and no side can come
    nearer to the other by shrinking the map.

    Args:
        vocabulary: Rows of the language model's embeddings, ``(rows, width)``.
        vectors: Vectors of the recommender, ``(tokens, dimensions)`` with at most ``width`` dimensions: what is shared
            first.
        seed: Of the directions.
    """

    directions: Tensor
    mean: Tensor
    spread: Tensor
    scale: Tensor
    shared: Tensor

    def __init__(self, vocabulary: Tensor, vectors: Tensor, seed: int = 0) -> None:
        super().__init__()
        width, dimensions = vocabulary.shape[1], vectors.shape[1]
        self._generator = torch.Generator().manual_seed(seed)
        drawn = torch.linalg.qr(torch.randn(width, dimensions, generator=self._generator)).Q.T
        mean = vocabulary.float().mean(dim=0)
        self.register_buffer("directions", drawn.to(vocabulary.device))
        self.register_buffer("mean", mean)
        self.register_buffer("spread", (vocabulary.float() - mean).square().sum(dim=1).mean().sqrt())
        self.register_buffer("scale", self.spread / vectors.square().sum(dim=1).mean().sqrt())
        self.register_buffer("shared", vectors.detach().clone())

    def rows(self, vectors: Tensor) -> Tensor:
        """Return vectors of the recommender as rows of the vocabulary: ``(tokens, width)``."""
        return self.mean + self.scale * (vectors @ self.directions)

    def random_rows(self, number: int) -> Tensor:
        """Return rows that nothing is known by, as long as those of the vocabulary: ``(number, width)``."""
        width = len(self.mean)
        drawn = torch.randn(number, width, generator=self._generator).to(self.mean)
        return self.mean + self.spread / width**0.5 * drawn

    def vectors(self, rows: Tensor) -> Tensor:
        """Return rows of the vocabulary as vectors of the recommender; of `rows` it is the inverse."""
        return (rows.float() - self.mean) @ self.directions.T / self.scale

    def share(self, vectors: Tensor) -> None:
        """Keep the vectors of a side for the other one, which is held to them."""
        self.shared = vectors.detach().clone()

    def distance(self, vectors: Tensor) -> Tensor:
        """Return the mean squared distance to what was shared, as a share of the mean squared length of that.

        What was shared is held fixed: it has no gradient.
        """
        return (vectors - self.shared).square().sum() / self.shared.square().sum()
