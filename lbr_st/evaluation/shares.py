"""How much of a training to keep: as much as is no worse on dev than less of it, and keeps what the start knew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from lbr_st.evaluation.general import general_score
from lbr_st.evaluation.tables import markdown_table
from lbr_st.metrics import no_worse
from lbr_st.model.merging import merge
from lbr_st.records import Record
from lbr_st.training.held_out import RECALL, HeldOutEvaluator

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
KEEP_GENERAL = 0.98
NO_WORSE = "the most training that is within a standard error of the best"


class Tried(NamedTuple):
    """A share of the end, and what the merged model finds.

    Attributes:
        share: Share of the end; the start has the rest.
        ndcgs: nDCG@10 of each dev query.
        recall: Recall@10 on dev.
        general: Recall@10 outside the domain.
    """

    share: float
    ndcgs: Sequence[float]
    recall: float
    general: float

    @property
    def ndcg(self) -> float:
        """nDCG@10 on dev."""
        return float(np.mean(self.ndcgs))


@dataclass(frozen=True)
class Choice:
    """Which share of the end was taken.

    Attributes:
        tried: All that were scored, from the start to the end.
        taken: The one that was taken.
        keep_general: Share of the start's recall@10 outside the domain that had to be kept.
    """

    tried: Sequence[Tried]
    taken: Tried
    keep_general: float

    def __str__(self) -> str:
        header = ["share of the end", "dev nDCG@10", "dev recall@10", "recall@10 outside the domain"]
        rows = [
            [f"{each.share:g}", f"{each.ndcg:.3f}", f"{each.recall:.3f}", f"{each.general:.3f}"] for each in self.tried
        ]
        least = self.keep_general * self.tried[0].general
        held = [each for each in self.tried[1:] if each.general >= least]
        if held:
            best = max(each.ndcg for each in self.tried if each.general >= least)
            how = "best nDCG@10 on dev" if self.taken.ndcg == best else f"{NO_WORSE} nDCG@10 on dev, {best:.3f},"
            why = f"{how} of those with {least:.3f} or more outside the domain"
        else:
            why = f"the start itself, as no other keeps {100 * self.keep_general:g}% of its {self.tried[0].general:.3f}"
        return f"{markdown_table(header, rows, numbers=header)}\n\ntaken: share {self.taken.share:g}, {why}"


def choose_share(
    start: str,
    end: str,
    dev: Sequence[Record],
    general: Sequence[Record],
    more_documents: Sequence[Record] = (),
    *,
    keep_general: float = KEEP_GENERAL,
    batch_size: int = 32,
) -> Choice:
    """Score merged models of `SHARES`, and choose one; see `best_share`.

    Args:
        start: Model that training began with; see `lbr_st.merge`.
        end: What it became.
        dev: Pairs of the domain that were not trained on.
        general: Pairs of `lbr_st.evaluation.general.general_pairs`.
        more_documents: Records whose documents join those of dev.
        keep_general: Share of the start's recall@10 outside the domain that must be kept.
        batch_size: Number of texts encoded at once.

    Raises:
        InputError: If the models cannot be merged.
    """
    evaluator = HeldOutEvaluator(dev, more_documents, batch_size=batch_size)
    tried = []
    for share in tqdm(SHARES, desc="Scoring shares", unit="share"):
        model = merge([start, end], [1 - share, share])
        found = evaluator(model)
        tried.append(Tried(share, evaluator.ndcgs, found[RECALL], general_score(model, general, batch_size)))
        del model  # before the next one is merged
    return Choice(tried, best_share(tried, keep_general), keep_general)


def best_share(tried: Sequence[Tried], keep_general: float) -> Tried:
    """Return how much of the training is kept, of what keeps what the start finds outside the domain.

    That is the largest share that is no worse on dev, by nDCG@10, than the best one: of a few dev queries any share may
    be the best by chance, see `lbr_st.metrics.no_worse`.

    Args:
        tried: What was tried; the first is the start, which always keeps it.
        keep_general: Share of its recall@10 that must be kept.

    Returns:
        The share that is taken.
    """
    kept = [each for each in tried if each.general >= keep_general * tried[0].general]
    best = max(kept, key=lambda each: each.ndcg)
    return max((each for each in kept if no_worse(each.ndcgs, best.ndcgs)), key=lambda each: each.share)
