"""The first dimensions of vectors: where a model was trained for them, vectors of their own (arXiv 2205.13147)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from torch import Tensor, nn

from lbr_st.errors import InputError


class FirstDimensions(nn.Module):
    """Keeps the first dimensions of the vector of a text.

    Args:
        number: Number of dimensions.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cut ``sentence_embedding``."""
        features["sentence_embedding"] = features["sentence_embedding"][..., : self.number]
        return features

    def get_embedding_dimension(self) -> int:
        """Return the number of dimensions, for sentence-transformers."""
        return self.number


def trained_dimensions(model: SentenceTransformer) -> list[int]:
    """Return for how many first dimensions a model was trained; the last number is the width of its vectors."""
    config: Any = getattr(getattr(model, "transformers_model", None), "config", None)
    return dimensions_of(config, model.get_embedding_dimension() or 0)


def dimensions_of(config: Any, width: int) -> list[int]:
    """Return the same of a model by its configuration, and the width of its vectors."""
    trained = getattr(config, "matryoshka_dimensions", None) or []
    return [*sorted({each for each in trained if each < width}), width]


def check_dimensions_kept(number: int, trained: Sequence[int], what: str = "the model") -> None:
    """Refuse first dimensions that a model was not trained for.

    Args:
        number: Number of dimensions.
        trained: For how many it was trained; the last number is the width of its vectors.
        what: Name of the model, for the message.

    Raises:
        InputError: With those that it was trained for.
    """
    *fewer, width = trained
    if number not in trained:
        said = f"for {', '.join(map(str, [*fewer, width]))}" if fewer else f"for its {width} alone"
        raise InputError(f"--dimensions {number}: {what} was trained {said}; lbr align --matryoshka-dims trains more")


def keep_dimensions(model: SentenceTransformer, number: int, what: str = "the model") -> None:
    """Let a model give the first dimensions of its vectors; those of unit length have it again.

    Args:
        model: Any sentence-transformers model.
        number: Number of dimensions.
        what: Name of the model, for the message.

    Raises:
        InputError: If the model was not trained for so many.
    """
    trained = trained_dimensions(model)
    check_dimensions_kept(number, trained, what)
    if number == trained[-1]:
        return
    is_normalized = any(isinstance(module, Normalize) for module in model.modules())
    model.append(FirstDimensions(number))
    if is_normalized:
        model.append(Normalize())
