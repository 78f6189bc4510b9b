"""A teacher's scores beside InfoNCE: the student's ranking of documents is pulled to that of the teacher.

The loss is sentence-transformers' `DistillKLDivLoss`, which compares rankings of a list. Two others were left out.
`MarginMSELoss` asks a difference of two cosines to be as large as one of a reranker's unbounded scores.
`EmbedDistillLoss` needs a projection to the teacher's width, which is trained and then thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    DistillKLDivLoss,
    MultipleNegativesRankingLoss,
)
from torch import Tensor, nn
from torch.nn.functional import normalize

# Positives that a list holds at most, its own among them: the whole of a usual batch, and of a large one enough.
MOST_POSITIVES = 64


@dataclass(frozen=True)
class Teaching:
    """What a loss needs of a teacher.

    Attributes:
        scores: Function that returns the teacher's scores of a batch, ``(rows, documents of a list)`` as `lists_of`
            orders them, by the numbers of its rows.
        in_batch: Whether the positives of other rows are in a list, see `lists_of`.
        weight: Of the divergence, in nats like InfoNCE.
        temperature: What the teacher's scores are divided by.
        noted: Weighted divergences of the step, for the log.
    """

    scores: Callable[[Tensor], Tensor]
    in_batch: bool
    weight: float
    temperature: float
    noted: list[Tensor] = field(default_factory=list)


def lists_of(documents: Sequence[Tensor], rows: Tensor, in_batch: bool) -> list[Tensor]:
    """Return the documents that are ranked for the queries of some rows of a batch, as columns.

    They are the row's positive and hard negatives. Where a teacher knows all scores of a batch, the positives of the
    next rows follow, up to `MOST_POSITIVES` with the row's own.

    Args:
        documents: Embeddings ``(batch, width)`` of the positives, of the first hard negatives, ...
        rows: Positions in the batch.
        in_batch: Whether the positives of other rows follow.
    """
    positives = documents[0]
    others = min(len(positives), MOST_POSITIVES) - 1 if in_batch else 0
    of_others = (positives[(rows + step) % len(positives)] for step in range(1, others + 1))
    return [*(column[rows] for column in documents), *of_others]


class _Taught:
    """What the two taught losses have in common.

    Args:
        model: Model to train.
        teaching: What the teacher says.
        **options: Arguments of sentence-transformers' loss.
    """

    def __init__(self, model: SentenceTransformer, *, teaching: Teaching, **options: Any) -> None:
        super().__init__(model, **options)  # type: ignore[call-arg]
        self.teaching = teaching
        self.student_temperature = 1 / options["scale"]
        temperatures = {"student_temperature": self.student_temperature, "teacher_temperature": teaching.temperature}
        self.distill = DistillKLDivLoss(model, **temperatures)

    def _divergence(self, embeddings: Sequence[Tensor], scores: Tensor, rows: Tensor) -> Tensor:
        """Return the part that some rows have in the weighted mean divergence of a batch."""
        queries, *documents = (normalize(each.float(), dim=-1) for each in embeddings)
        lists = lists_of(documents, rows, self.teaching.in_batch)
        divergence: Tensor = self.distill.compute_loss_from_embeddings([queries[rows], *lists], scores[rows])
        # Sentence-transformers multiplies by the square of the student's temperature, which would hide it from view.
        weight = self.teaching.weight / self.student_temperature**2
        return weight * len(rows) / len(queries) * divergence

    def _scores(self, labels: Tensor | None, device: torch.device) -> Tensor:
        assert labels is not None
        return self.teaching.scores(labels.cpu()).to(device)


class TaughtRankingLoss(_Taught, MultipleNegativesRankingLoss):
    """InfoNCE and the divergence from a teacher, of the same embeddings. Labels are numbers of rows."""

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """Return the sum of both."""
        contrastive: Tensor = super().compute_loss_from_embeddings(embeddings, labels)
        device = embeddings[0].device
        rows = torch.arange(len(embeddings[0]), device=device)
        divergence = self._divergence(embeddings, self._scores(labels, device), rows)
        self.teaching.noted.append(divergence.detach())
        return contrastive + divergence


class CachedTaughtRankingLoss(_Taught, CachedMultipleNegativesRankingLoss):
    """The same with gradient caching: both parts leave their gradients on the embeddings, some rows at a time."""

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """Return the sum of both; with ``with_backward`` their gradients are on the embeddings."""
        loss: Tensor = super().calculate_loss(reps, labels, with_backward=with_backward)
        device = reps[0][0].device
        scores = self._scores(labels, device)
        parts = []
        for rows in torch.arange(len(scores), device=device).split(self.mini_batch_size):
            part = self._divergence([torch.cat(column) for column in reps], scores, rows)
            if with_backward:
                part.backward()
                part = part.detach()
            parts.append(part)
        divergence = torch.stack(parts).sum()
        self.teaching.noted.append(divergence.detach())
        return loss + divergence


class TaughtLoss(nn.Module):
    """Tells the trainer's log the two parts of a taught loss, whose gradients are made together.

    Args:
        model: Model to train.
        loss: `TaughtRankingLoss` or `CachedTaughtRankingLoss`, or sentence-transformers' `MatryoshkaLoss` of one with
            equal weights.
        teaching: That of the loss.
    """

    def __init__(self, model: SentenceTransformer, loss: nn.Module, teaching: Teaching) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.teaching = teaching

    def forward(self, sentence_features: Any, labels: Tensor) -> dict[str, Tensor]:
        """Return InfoNCE, which carries the gradients of both, and the weighted divergence."""
        self.teaching.noted.clear()
        both = self.loss(sentence_features, labels)
        divergence = torch.stack(self.teaching.noted).mean()
        return {"contrastive": both - divergence, "teacher": divergence}
