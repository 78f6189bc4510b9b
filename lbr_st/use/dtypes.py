"""Half precision: refused where the machine is slower in it, chosen where it is faster and gives the same vectors."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from sentence_transformers import SentenceTransformer
from torch.nn import functional

from lbr_st.errors import InputError
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.precision import compute_in
from lbr_st.use.runtimes import AUTO, FLOAT32

logger = logging.getLogger(__name__)

FAST = "bfloat16"

# The matrix product that tells: so many tokens, times a matrix of the model's own shape within these bounds. A smaller
# one is over before a thread has begun, a larger one tells no more.
TOKENS, LEAST_WIDTH, MOST_WIDTH = 256, 512, 4096
TRIES = 6  # of which the first warms up
AS_FAST = 0.8  # of the speed of float32: a machine that is slower emulates the type, or as good as does
COMPARED = 100  # texts
LEAST_COSINE = 0.999


class Rates(NamedTuple):
    """How fast matrices are multiplied, in GFLOP/s.

    Attributes:
        half: In half precision.
        float32: In float32.
    """

    half: float
    float32: float


def measure_rates(model: SentenceTransformer, dtype: str) -> Rates:
    """Measure how fast this machine multiplies matrices of a model's own shape, in some milliseconds.

    Args:
        model: Any sentence-transformers model.
        dtype: The half precision that is compared with float32.
    """
    hidden, wide = _shape_of(model)
    types = (getattr(torch, dtype), torch.float32)
    given = [(torch.ones(TOKENS, hidden), torch.ones(wide, hidden)) for _ in types]
    pairs = [[each.to(model.device, type_) for each in pair] for pair, type_ in zip(given, types, strict=True)]
    least = [math.inf, math.inf]
    with torch.inference_mode():
        for _ in range(TRIES):
            for number, (tokens, weight) in enumerate(pairs):
                start = time.perf_counter()
                functional.linear(tokens, weight)[-1, -1].item()  # a GPU is waited for
                least[number] = min(least[number], time.perf_counter() - start)
    return Rates(*(2e-9 * TOKENS * hidden * wide / seconds for seconds in least))


def _shape_of(model: SentenceTransformer) -> tuple[int, int]:
    """Return the width of a model's states and that of its widest layer, within the bounds of what is tried."""
    config: Any = getattr(model.transformers_model, "config", None)
    hidden = getattr(config, "hidden_size", None) or LEAST_WIDTH
    wide = getattr(config, "intermediate_size", None) or 4 * hidden
    first, second = (min(max(each, LEAST_WIDTH), MOST_WIDTH) for each in (hidden, wide))
    return first, second


def refuse_slow(model: SentenceTransformer, dtype: str | None) -> None:
    """Refuse half precision where this machine is slower in it than in float32, as those are that emulate it.

    Args:
        model: The model, on the device that it is to run on.
        dtype: What ``--dtype`` asks for.

    Raises:
        InputError: With both rates.
    """
    if dtype in (None, FLOAT32, AUTO):
        return
    rates = measure_rates(model, str(dtype))
    if rates.half < AS_FAST * rates.float32:
        raise InputError(
            f"--dtype {dtype} is slower here than {FLOAT32}: this machine multiplies matrices of the model's shape at "
            f"{rates.half:,.0f} GFLOP/s in it, and at {rates.float32:,.0f} in {FLOAT32}; take --dtype {FLOAT32}"
        )


def choose_dtype(model: SentenceTransformer, texts: Sequence[str], role: str = "document") -> str:
    """Choose the type that a model computes in: bfloat16 where it is faster here and its vectors are those of float32.

    Both are said in one line, with the least cosine.

    Args:
        model: A model that computes in float32. Where bfloat16 was tried it computes in that from then on: if float32
            is chosen all the same, open it again.
        texts: Texts that it is tried with.
        role: ``query`` or ``document``.

    Returns:
        ``bfloat16`` or ``float32``.
    """
    rates = measure_rates(model, FAST)
    said = f"{rates.half:,.0f} GFLOP/s in {FAST}, {rates.float32:,.0f} in {FLOAT32}"
    if rates.half <= rates.float32:
        logger.info("--dtype %s: %s, as %s is no faster here (%s)", AUTO, FLOAT32, FAST, said)
        return FLOAT32
    exact = TextEncoder(model).encode(texts, role)
    compute_in(model, getattr(torch, FAST))
    least = functional.cosine_similarity(TextEncoder(model).encode(texts, role), exact).min().item()
    found = FAST if least >= LEAST_COSINE else FLOAT32
    logger.info(
        "--dtype %s: %s (%s; least cosine of both in %d texts %.6f, at least %s is asked for)",
        AUTO, found, said, len(texts), least, LEAST_COSINE,
    )  # fmt: skip
    return found
