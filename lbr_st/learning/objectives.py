"""What stage 1 reads and predicts: objectives, mixtures of them, and the arms they are compared with."""

from __future__ import annotations

import enum
import math
import os
from collections.abc import Sequence

from lbr_st.data.sources import one_of_several
from lbr_st.errors import InputError

OBJECTIVES = {
    "sft": "X = query, Y = document",
    "doc2query": "X = document, Y = query",
    "reconstruct": "X = Y = document",
    "prefix-suffix": "X = first part of the document, Y = the rest",
}

READ_PAIRS = ("sft", "doc2query")  # the others read documents alone


class Arm(enum.StrEnum):
    """How the target Y is connected with the text X: the method, and the controls it is compared with."""

    CUT_OFF = "cut-off"  # [X; Z; Y], Y cut off from X
    NO_CUT_OFF = "no-cut-off"  # [X; Z; Y], Y in sight of X
    PLAIN = "plain"  # [X; Y], no Z: plain fine-tuning, for reconstruct plain pretraining

    @property
    def has_bottleneck(self) -> bool:
        """Whether there is a Z."""
        return self is not Arm.PLAIN


def parse_objective(text: str) -> dict[str, float]:
    """Read ``sft`` or a weighted mixture, ``sft:0.7,reconstruct:0.3``.

    Returns:
        The share of each objective; they sum to 1.

    Raises:
        InputError: If an objective is unknown or named twice, or a weight is no number above 0.
    """
    weights: dict[str, float] = {}
    parts = text.split(",")
    for part in parts:
        name, separator, weight = (piece.strip() for piece in part.partition(":"))
        if name not in OBJECTIVES:
            raise InputError(f"--objective {text}: {name!r} is none of {', '.join(OBJECTIVES)}")
        if name in weights:
            raise InputError(f"--objective {text}: {name} is there twice")
        if len(parts) > 1 and not separator:
            raise InputError(f"--objective {text}: {name} has no weight; a mixture is written sft:0.7,reconstruct:0.3")
        try:
            weights[name] = float(weight) if separator else 1.0
        except ValueError:
            weights[name] = math.nan
        if not 0 < weights[name] < math.inf:
            raise InputError(f"--objective {text}: the weight of {name} must be a number above 0, not {weight!r}")
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def parse_data(flag: str, sources: Sequence[str], objectives: Sequence[str]) -> dict[str, str]:
    """Say which source each objective reads: one for all, or one for each, written ``sft=FILE reconstruct=FILE``.

    Raises:
        InputError: If an objective has none, or a source has no objective.
    """
    name, _, path = sources[0].partition("=")
    if len(sources) == 1 and name not in OBJECTIVES:
        if os.path.exists(path) and not os.path.exists(sources[0]):
            raise InputError(f"{flag} {sources[0]}: {name!r} is none of {', '.join(OBJECTIVES)}; or write {path} alone")
        return dict.fromkeys(objectives, sources[0])
    found = {}
    for source in sources:
        name, separator, path = source.partition("=")
        if not separator or name not in objectives:
            whole = "" if separator else f"; for all objectives, {one_of_several(sources)}"
            raise InputError(
                f"{flag} {source}: several sources are written one for each objective, "
                + " ".join(f"{objective}=FILE" for objective in objectives)
                + whole
            )
        if name in found:
            raise InputError(f"{flag} {source}: {name} has a source already")
        found[name] = path
    missing = [objective for objective in objectives if objective not in found]
    if missing:
        raise InputError(f"{flag}: nothing to read for {', '.join(missing)}")
    return found


def fields_of(objective: str) -> tuple[str, ...]:
    """Return the fields of a record that an objective reads."""
    return ("query", "document") if objective in READ_PAIRS else ("document",)
