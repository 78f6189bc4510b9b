"""Tokens of texts as rows without padding, from what any tokenizer makes, and batches of rows that are padded anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Row = dict[str, NDArray[np.int64]]  # what a tokenizer says of a text: its ids, and numbers beside them

OF_TOKENS = {"input_ids", "attention_mask", "token_type_ids"}  # what rows can be made of


def rows_of(features: Mapping[str, Any]) -> list[Row] | None:
    """Return the tokens of each text without padding; None where features are something else than rows of tokens.

    Args:
        features: What the ``preprocess`` of a sentence-transformers model returns.
    """
    tensors = {name: value for name, value in features.items() if isinstance(value, Tensor)}
    if not {"input_ids", "attention_mask"} <= set(tensors) <= OF_TOKENS:
        return None
    if any(each.dim() != 2 or each.shape != tensors["input_ids"].shape for each in tensors.values()):
        return None
    if not all(isinstance(value, str | int | None) for value in rest_of(features).values()):
        return None
    mask = tensors["attention_mask"]
    lengths, starts = mask.sum(dim=1).tolist(), mask.argmax(dim=1).tolist()
    columns = {name: value.numpy() for name, value in tensors.items()}
    return [
        {name: column[at, start : start + length] for name, column in columns.items()}
        for at, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]


def rest_of(features: Mapping[str, Any]) -> dict[str, Any]:
    """Return what features say of all texts, such as the number of tokens of a prompt."""
    return {name: value for name, value in features.items() if not isinstance(value, Tensor)}


def padded(rows: Sequence[Row], padding: int, start: int = 0) -> dict[str, Tensor]:
    """Return rows in tensors, padded on the right to the longest of them.

    Args:
        rows: At least one row.
        padding: Id of the token that pads.
        start: First token that is taken of each row.
    """
    longest = max(1, *(len(next(iter(row.values()))) - start for row in rows))
    features = {}
    for name in rows[0]:
        lines = np.full((len(rows), longest), padding if name == "input_ids" else 0, np.int64)
        for line, row in zip(lines, rows, strict=True):
            own = row[name][start:]
            line[: len(own)] = own
        features[name] = torch.from_numpy(lines)
    return features
