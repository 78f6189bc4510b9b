"""The last word of a run: does the model that comes out of it find more than the one that went in?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lbr_st.errors import InputError
from lbr_st.metrics import paired_interval

WIN, MARGINAL, REGRESSION = "WIN", "MARGINAL", "REGRESSION"
FEWEST = 6  # queries that find more or less: were fewer all to agree, a sign test would not be below 5%
THE_START = "the start"


@dataclass(frozen=True)
class Verdict:
    """What a run came to, on queries that it was not trained on. As a string it is the last line of the run.

    Attributes:
        word: ``WIN`` where the whole interval is above 0, ``REGRESSION`` where it is below, else ``MARGINAL``,
            and where fewer than `FEWEST` queries find more or less than before.
        recall: Mean recall@10 of the model at the end.
        difference: How much more that is than at the start.
        low: Lower end of the 95% interval of the difference.
        high: Upper end.
        queries: Number of queries.
        against: What the model is compared with.
        bm25: Recall@10 of BM25 on the same queries.
        fused: Recall@10 of the model and BM25 together.
        outside: Recall@10 outside the domain, of the start and of the end.
    """

    word: str
    recall: float
    difference: float
    low: float
    high: float
    queries: int
    against: str = THE_START
    bm25: float | None = None
    fused: float | None = None
    outside: tuple[float, float] | None = None

    def __str__(self) -> str:
        interval = f"{_rounded(self.low):.3f} to {_rounded(self.high):.3f}"
        said = f"VERDICT {self.word}: recall@10 {self.recall:.3f}, {_rounded(self.difference):+.3f} ({interval})"
        parts = [f"{said} against {self.against}"]
        if self.bm25 is not None:
            parts.append(f"BM25 {self.bm25:.3f}")
        if self.fused is not None:
            parts.append(f"fused {self.fused:.3f}")
        if self.outside is not None:
            before, after = self.outside
            parts.append(f"outside the domain {before:.2f} -> {after:.2f}")
        return "; ".join(parts)


def _rounded(value: float) -> float:
    """Return a number that is never written as minus zero."""
    return round(value, 3) + 0.0


def verdict(
    before: Sequence[float] | np.ndarray,
    after: Sequence[float] | np.ndarray,
    *,
    seed: int = 0,
    against: str = THE_START,
) -> Verdict:
    """Judge a model against the one it was made from, by a paired bootstrap over queries.

    What else there is to say, of BM25 or outside the domain, is put in with `dataclasses.replace`.

    Args:
        before: Recall@10 of each query at the start.
        after: Recall@10 of the same queries at the end.
        seed: Of the draws.
        against: What the model is compared with.

    Raises:
        InputError: If there are no queries, or other ones at the end than at the start.
    """
    first, last = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != last.shape or not first.size:
        raise InputError(f"a verdict needs the same queries twice, got {first.size} at the start and {last.size} after")
    low, high = paired_interval(last[None], first[None], seed=seed)
    changed = np.count_nonzero(last - first)
    word = MARGINAL if changed < FEWEST else WIN if low > 0 else REGRESSION if high < 0 else MARGINAL
    difference = float((last - first).mean())
    return Verdict(word, float(last.mean()), difference, low, high, first.size, against)
