"""Short texts side by side in one row of tokens, so that nothing is padded, and a model is run once for many of them.

The positions of each text begin at 0, by which transformers tells the texts of a row apart: a token attends to those of
its own text alone, as Krell et al. do in training (arXiv 2107.02027).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from lbr_st.model.plain_runs import argument_of, finished, if_equal, plain_backbone
from lbr_st.model.token_batches import batches_of
from lbr_st.model.token_rows import Row, padded

WIDTH = 128  # tokens of a row: attention looks at all of it, and hides what is of other texts
A_BATCH = 32  # tokens: a batch takes about as long as these before its first one, to read the weights
LEAST_TRIED = 3  # tokens of the text that it is tried with
WORTH_IT = 0.9  # of the time that batches of like texts take
OF_A_TRIAL = 512  # tokens, whose time it takes to try whether a model can be packed


def packed_rows(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Put texts into as many rows of `WIDTH` tokens as they fill, each into the shortest one, the longest first.

    Args:
        lengths: Number of tokens of each text.
        budget: Most tokens of a row; one text may have more.

    Returns:
        Positions of the texts of each row; the rows are about as long as each other.
    """
    longest = max(lengths)
    for number in range(math.ceil(sum(lengths) / max(min(WIDTH, budget), longest)), len(lengths) + 1):
        rows: list[list[int]] = [[] for _ in range(number)]
        shortest = [(0, row) for row in range(number)]
        for at in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
            length, row = shortest[0]
            rows[row].append(at)
            heapq.heapreplace(shortest, (length + lengths[at], row))
        if max(length for length, _ in shortest) <= max(budget, longest):
            break
    return rows


def packed_batches(lengths: Sequence[int], budget: int) -> list[list[list[int]]]:
    """Part packed rows into batches of at most ``budget`` tokens with their padding, or one row."""
    rows = packed_rows(lengths, budget)
    parts = batches_of([sum(lengths[at] for at in row) for row in rows], budget)
    return [[rows[at] for at in part] for part in parts]


def saved(lengths: Sequence[int], batches: Sequence[Sequence[int]], packed: Sequence[Sequence[Sequence[int]]]) -> int:
    """Return how many tokens' time packed batches save beside plain ones; 0 where that is no clear difference."""
    plainly = sum(A_BATCH + len(batch) * max(lengths[at] for at in batch) for batch in batches)
    widths = [[sum(lengths[at] for at in row) for row in batch] for batch in packed]
    packed_ones = sum(A_BATCH + len(each) * max(each) for each in widths)
    return plainly - packed_ones if packed_ones < WORTH_IT * plainly else 0


class Packing:
    """A model that takes several texts in a row; see `pack`.

    Args:
        model: The model.
        backbone: What turns its tokens into states.
    """

    def __init__(self, model: SentenceTransformer, backbone: nn.Module) -> None:
        self.model, self.backbone = model, backbone

    def arguments(self, rows: Sequence[Sequence[Row]], padding: int) -> dict[str, Tensor]:
        """Return what `features` takes: the tokens in their rows, their positions, and where those of each text are.

        Args:
            rows: The texts of each row.
            padding: Id of the token that pads.
        """
        whole = padded([{"input_ids": np.concatenate([text["input_ids"] for text in row])} for row in rows], padding)
        width = whole["input_ids"].shape[1]
        positions = np.zeros((len(rows), width), np.int64)  # what pads is a text of its own each
        places: list[Row] = []
        for number, row in enumerate(rows):
            start = 0
            for text in row:
                own = np.arange(len(text["input_ids"]))
                positions[number, start : start + len(own)] = own
                places.append({"places": number * width + start + own})
                start += len(own)
        return {"packed_ids": whole["input_ids"], "positions": torch.from_numpy(positions), **padded(places, 0)}

    def features(self, features: dict[str, Any]) -> dict[str, Any]:
        """Run the model, and return what it makes of each text.

        Args:
            features: What `arguments` returns, ``input_ids`` and ``attention_mask`` of the same texts, each in a row
                of its own and padded on the right, and what else the model is given.
        """
        given = dict(features)
        ids, positions, places = (given.pop(name) for name in ("packed_ids", "positions", "places"))
        hidden = self.backbone(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
        return finished(self.model, given | {"token_embeddings": hidden.flatten(0, 1)[places]})


def pack(model: SentenceTransformer, ids: Sequence[int]) -> Packing | None:
    """Return how a model takes several texts in a row, where it can.

    Whether it can is tried on two rows of two texts: a model that tells texts apart by something else than their
    positions gives other vectors than its plain pass, or fails.

    Args:
        model: Any sentence-transformers model, in evaluation mode.
        ids: Tokens of some text, at least `LEAST_TRIED`.
    """
    backbone = plain_backbone(model)
    if backbone is None or argument_of(backbone, "position_ids") is None:
        return None

    def make() -> tuple[Packing, dict[str, Any], dict[str, Any]]:
        packing = Packing(model, backbone)
        texts = [np.array(ids[start:]) for start in (0, 1, 2, 1)]
        rows = [{"input_ids": text, "attention_mask": np.ones_like(text)} for text in texts]
        tokens = {name: value.to(model.device) for name, value in padded(rows, ids[0]).items()}
        packed = packing.arguments([rows[:2], rows[2:]], ids[0])
        return packing, packing.features({n: v.to(model.device) for n, v in packed.items()} | tokens), tokens

    return if_equal(model, "texts are not packed", make)
