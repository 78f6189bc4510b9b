"""How high the held-out item of a user stands: among all items, and among 99 that the user never chose.

Ranking all items is the honest measure. Against 99 at random most models look good, and may change places
(Krichene and Rendle, KDD 2020); it is there as the method's source reports it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lbr_st.recommending.interactions import TEST, Interactions

SAMPLED = 99  # items beside the held-out one
USERS_AT_ONCE = 256
FIGURES = ("hr_at_1", "hr_at_5", "ndcg_at_5", "full_hr_at_10", "full_ndcg_at_10")

# Scores of all items for some users, by their numbers: (users, items).
Scorer = Callable[[Sequence[int]], Tensor]


@dataclass(frozen=True)
class Ranks:
    """The rank of the held-out item of each user, from 1.

    Attributes:
        users: Numbers of the users.
        sampled: Among `SAMPLED` items that the user never chose, drawn at random.
        full: Among all items but the others that the user chose before.
    """

    users: NDArray[np.int64]
    sampled: NDArray[np.int64]
    full: NDArray[np.int64]

    def figures(self) -> dict[str, float]:
        """Return HR@1, HR@5 and nDCG@5 among the sampled items, and HR@10 and nDCG@10 among all."""
        found = {
            "hr_at_1": hits(self.sampled, 1),
            "hr_at_5": hits(self.sampled, 5),
            "ndcg_at_5": gains(self.sampled, 5),
        }
        found |= {"full_hr_at_10": hits(self.full, 10), "full_ndcg_at_10": gains(self.full, 10)}
        return {name: float(each.mean()) for name, each in found.items()}


def hits(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Return for each rank 1 where it is among the first k, else 0; the mean is HR@k."""
    return (ranks <= k).astype(np.float64)


def gains(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Return for each rank its discounted gain; as each user has one right item, the mean is nDCG@k."""
    return np.where(ranks <= k, 1 / np.log2(ranks + 1), 0.0)


def _sampled(items: int, chosen: set[int], draw: random.Random) -> list[int]:
    """Draw items that a user never chose: of a large catalogue without a list of the others."""
    left = items - len(chosen)
    if left < 2 * SAMPLED:
        return draw.sample(sorted({*range(items)} - chosen), min(SAMPLED, left))
    drawn: dict[int, None] = {}
    while len(drawn) < SAMPLED:
        item = draw.randrange(items)
        if item not in chosen:
            drawn[item] = None
    return list(drawn)


def rank_held_out(
    score: Scorer, interactions: Interactions, side: str = TEST, seed: int = 0, users: Sequence[int] | None = None
) -> Ranks:
    """Rank the held-out item of each user.

    Args:
        score: Gives the scores.
        interactions: Users, items and what is held out.
        side: ``dev`` or ``test``.
        seed: Of the sampled items. Those of a user depend on it and on the user's number alone.
        users: Users that are looked at; default is all of whom something is held out.

    Returns:
        The ranks. An item with the same score as another one stands below it.
    """
    split = interactions.split
    held_out = split.held_out(side)
    asked = [user for user in (held_out if users is None else users) if user in held_out]
    sampled, full = [], []
    for start in range(0, len(asked), USERS_AT_ONCE):
        block = asked[start : start + USERS_AT_ONCE]
        for user, scores in zip(block, score(block).float().cpu(), strict=True):
            item = held_out[user]
            # What a dev item is ranked against does not know the test item.
            before = {*split.train[user]} | ({split.dev[user]} if side == TEST else set())
            drawn = _sampled(len(interactions.items), {*interactions.histories[user]}, random.Random(f"{seed}-{user}"))
            others = torch.ones(len(scores), dtype=torch.bool)
            others[[item, *before]] = False
            at_least = ~(scores < scores[item])  # what is no number counts against it
            sampled.append(1 + int(at_least[drawn].sum()))
            full.append(1 + int((at_least & others).sum()))
    return Ranks(np.array(asked, np.int64), np.array(sampled, np.int64), np.array(full, np.int64))
