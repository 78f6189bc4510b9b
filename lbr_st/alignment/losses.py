"""The loss of stage 2: InfoNCE (arXiv 2601.11124, eq. 3), and beside it stage 1's loss and that of a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lbr_st.alignment.distillation import CachedTaughtRankingLoss, TaughtLoss, TaughtRankingLoss, Teaching
from lbr_st.learning.batches import IGNORE, Example, collate
from lbr_st.learning.cross_entropy import cross_entropy_sum
from lbr_st.learning.examples import ExampleMaker
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.model.precision import computing_in

LM = "lm"  # the column of stage 1's examples in a batch


def info_nce(
    model: SentenceTransformer,
    temperature: float,
    *,
    symmetric: bool = False,
    mini_batch_size: int | None = None,
    matryoshka_dims: Sequence[int] | None = None,
    teaching: Teaching | None = None,
) -> nn.Module:
    """Return InfoNCE with in-batch negatives (arXiv 2601.11124, eq. 3), by sentence-transformers.

    In several processes the negatives of all of them are gathered: the loss is that of the large batch. With a teacher
    the result is a `TaughtLoss`, in one process.

    Args:
        model: The model to train.
        temperature: tau of eq. 3.
        symmetric: Ask for the query of each document too; the mean of both directions.
        mini_batch_size: Texts encoded at a time, by gradient caching (arXiv 2101.06983): the same loss and gradients
            in the memory of so many texts, for one more forward pass. Default: the whole batch.
        matryoshka_dims: Train the first dimensions of the embeddings as embeddings of their own (arXiv 2205.13147),
            the mean over these and the whole.
        teaching: What a teacher says of the rows; each part of the embeddings is taught.
    """
    options: dict[str, Any] = {
        "scale": 1 / temperature,
        "gather_across_devices": dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1,
    }
    if symmetric:
        options |= {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    loss: nn.Module
    classes: tuple[Any, Any] = (MultipleNegativesRankingLoss, CachedMultipleNegativesRankingLoss)
    if teaching is not None:
        classes = TaughtRankingLoss, CachedTaughtRankingLoss
        options["teaching"] = teaching
    plain, cached = classes
    if mini_batch_size is None:
        loss = plain(model, **options)
    else:
        loss = cached(model, mini_batch_size=mini_batch_size, **options)
    if matryoshka_dims is not None:
        weights = [1 / len(matryoshka_dims)] * len(matryoshka_dims)
        loss = MatryoshkaLoss(model, loss, list(matryoshka_dims), weights)
    return loss if teaching is None else TaughtLoss(model, loss, teaching)


class JointLoss(nn.Module):
    """InfoNCE plus a weight times the loss of stage 1 on the same pairs (X = query, Y = document).

    arXiv 2601.11124 trains stage 2 on InfoNCE alone; the joint objective is ours to try.

    Args:
        model: The model to train.
        contrastive: What `info_nce` returns.
        language_model: Its language model under the information cut-off.
        weight: Of stage 1's loss, in nats per target token.
        mini_batch_size: Examples at a time; their activations are made once more in the backward pass. Default: all.
        dtype: Compute stage 1's loss in it (autocast); default is the dtype of the model.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        contrastive: nn.Module,
        language_model: CutOffModel,
        weight: float,
        mini_batch_size: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype
        self.contrastive = contrastive
        self.weight = weight
        self.mini_batch_size = mini_batch_size
        # Not a module of the loss: its weights are the model's, which the optimizer has already.
        self._language_model = (language_model,)

    def forward(self, sentence_features: Any, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return all parts; the trainer adds them up and logs each.

        Args:
            sentence_features: Those of InfoNCE, then stage 1's batch (see `JointCollator`).
            labels: Those of InfoNCE: numbers of rows where there is a teacher, else None.
        """
        *features, examples = sentence_features
        found = self.contrastive(features, labels)
        parts = found if isinstance(found, dict) else {"contrastive": found}
        return {**parts, "lm": self.weight * self.lm_loss(examples)}

    def lm_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of stage 1, the mean per target token over all processes' batches."""
        [language_model] = self._language_model
        is_target = batch["labels"][:, 1:] != IGNORE
        count = is_target.sum().float()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(count)
            count /= dist.get_world_size()  # gradients are averaged over the processes

        names = list(batch)

        def rows_of(*tensors: Tensor) -> Tensor:
            longest = int(tensors[names.index("attention_mask")].sum(dim=1).max())
            return language_model.target_rows(**{n: each[:, :longest] for n, each in zip(names, tensors, strict=True)})

        with computing_in(self.dtype, count.device):
            if self.mini_batch_size is None:
                rows = rows_of(*batch.values())
            else:
                parts = zip(*(tensor.split(self.mini_batch_size) for tensor in batch.values()), strict=True)
                # The head is not in it: it makes its gradients in the forward pass.
                rows = torch.cat([checkpoint(rows_of, *part, use_reentrant=False) for part in parts])
            return cross_entropy_sum(language_model.head, rows, batch["labels"][:, 1:][is_target]) / count


@dataclass
class JointCollator(SentenceTransformerDataCollator):
    """Sentence-transformers' collator, with stage 1's examples of the same rows as one more column.

    Args:
        make_examples: What makes them.
    """

    make_examples: ExampleMaker = field(kw_only=True)

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate rows of anchor, positive and negatives."""
        batch = super().__call__(features)
        columns = self.make_examples(
            {"query": [row["anchor"] for row in features], "document": [row["positive"] for row in features]}
        )
        rows = zip(columns["input_ids"], columns["segments"], columns["labels"], strict=True)
        examples: list[Example] = [{"input_ids": i, "segments": s, "labels": y} for i, s, y in rows]
        return batch | {f"{LM}_{name}": tensor for name, tensor in collate(examples).items()}
