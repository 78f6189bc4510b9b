"""The language model as stage 1 trains it: under the information cut-off, with its loss as output."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lbr_st.learning.batches import IGNORE
from lbr_st.learning.cross_entropy import cross_entropy_sum, token_losses
from lbr_st.model.cutoff import BOTTLENECK, TARGET, cutoff_mask
from lbr_st.model.self_checks import check_no_leak, head_is_all

# What the read-out loss of stage 1 weighs unless told otherwise: docs/studies/read_out_loss.md has what was compared.
READ_OUT_WEIGHT = 1.0


class Batch(NamedTuple):
    """What stage 1 reads at once; the fields are the arguments of `CutOffModel.forward`."""

    input_ids: Tensor
    attention_mask: Tensor
    segments: Tensor
    labels: Tensor
    sequences: Tensor | None = None
    position_ids: Tensor | None = None
    parts: Tensor | None = None

    @property
    def has_loss(self) -> Tensor:
        """Which positions predict a target, ``(batch, seq - 1)`` bool."""
        return self.labels[:, 1:] != IGNORE

    @property
    def targets(self) -> Tensor:
        """Ids of the targets, ``(targets,)`` int64."""
        return self.labels[:, 1:][self.has_loss]


def read_outs(head: nn.Module, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return what the head makes of the last Z of each example, and which of them each target belongs to.

    Args:
        head: See `CutOffModel.head`.
        output: What it makes logits of, ``(batch, seq, hidden)``.
        batch: What was read.

    Returns:
        Log-probabilities, ``(examples, vocabulary)`` float32, of all examples of a batch at once: one row of each,
        however long its target. And the number of its example for each of `Batch.targets`, ``(targets,)`` int64.
    """
    is_read_out = (batch.segments[:, :-1] == BOTTLENECK) & (batch.segments[:, 1:] == TARGET)
    log_probabilities = head(output[:, :-1][is_read_out]).float().log_softmax(dim=-1)
    return log_probabilities, is_read_out.flatten().cumsum(0).view_as(is_read_out)[batch.has_loss] - 1


def read_out_losses(head: nn.Module, output: Tensor, batch: Batch) -> Tensor:
    """Return the cross-entropy of each target under the read-out of its example, ``(targets,)`` float32 in nats.

    See `read_outs`.
    """
    log_probabilities, example = read_outs(head, output, batch)
    return -log_probabilities[example, batch.targets]


class CutOffModel(nn.Module):
    """The language model under the information cut-off, with its loss as output.

    Args:
        language_model: A causal language model that heeds attention masks.
        bottleneck: False for the control arms, plain fine-tuning and pretraining: nothing is cut off.
        read_out_weight: Of the read-out loss, see `forward`; 0 is the paper's loss.

    Raises:
        InputError: If information leaks through it from X to Y, see `lbr_st.model.self_checks.check_no_leak`.
    """

    # Tells the trainer to pass num_items_in_batch, so that accumulated gradients are those of the large batch.
    accepts_loss_kwargs = True

    def __init__(
        self, language_model: PreTrainedModel, *, bottleneck: bool = True, read_out_weight: float = 0.0
    ) -> None:
        super().__init__()
        if bottleneck:
            check_no_leak(language_model)
        self.bottleneck = bottleneck
        self.read_out_weight = read_out_weight
        self.language_model: PreTrainedModel = language_model
        self.head_is_all = head_is_all(language_model)
        self._no_split_modules = language_model._no_split_modules  # what FSDP shards by

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        segments: Tensor,
        labels: Tensor,
        sequences: Tensor | None = None,
        position_ids: Tensor | None = None,
        parts: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss: next-token cross-entropy on Y and its EOS (arXiv 2601.11124, eq. 2), in nats.

        The mean is per target token over the whole batch, not per sample: every token weighs the same however
        long its sequence, and with gradient accumulation the trainer's ``num_items_in_batch`` counts the targets of
        all micro-batches. The head runs on the rows that predict a target only: with a vocabulary of 151k, logits of
        all rows are the largest tensor in training. Families that do more with logits than their head (Gemma 2 caps
        them, Granite and Cohere scale them) are run as a whole.

        Y reads the keys and values of Z in every layer, and the last hidden state of Z, which is the embedding,
        predicts its first token alone. The read-out loss, ours and not the paper's, asks that state for all of Y: the
        mean cross-entropy of the tokens of Y in any order, the bag-of-words objective of arXiv 2401.11248. It is added
        to the training loss ``read_out_weight`` times.

        Args:
            input_ids: ``(batch, seq)`` int64.
            attention_mask: ``(batch, seq)``, 1 for tokens, 0 for padding on the right.
            segments: ``(batch, seq)``, see `lbr_st.model.cutoff`.
            labels: ``(batch, seq)``, the token itself on Y, `IGNORE` elsewhere.
            sequences: ``(batch, seq)``, of packed rows; see `lbr_st.learning.batches`.
            position_ids: ``(batch, seq)``, of packed rows.
            parts: ``(batch, seq, fields)``, 1 where a token is of a field of Y.
            num_items_in_batch: Number of targets to divide by; default is those of this batch.

        Returns:
            ``{"loss"}``, a scalar. In evaluation mode ``loss_sums`` and ``targets`` too, both ``(batch,)``: the loss
            summed over each row, and the number of its targets; and ``read_out_loss_sums`` where there is a bottleneck.
            There ``loss`` is without the read-out loss. With ``parts`` the same of each field, ``(batch, fields)``,
            under names that begin with ``part_``.
        """
        batch = Batch(input_ids, attention_mask, segments, labels, sequences, position_ids, parts)
        counts = batch.has_loss.sum(dim=1)
        if self.training:
            return {"loss": self.loss_sum(batch) / (counts.sum() if num_items_in_batch is None else num_items_in_batch)}

        head, output = self.head, self._output(batch)
        of_targets = {"loss_sums": token_losses(head, output[:, :-1][batch.has_loss], batch.targets)}
        if self.bottleneck:
            of_targets["read_out_loss_sums"] = read_out_losses(head, output, batch)
        zeros = torch.zeros(batch.has_loss.shape, device=output.device)
        of_tokens = {name: zeros.masked_scatter(batch.has_loss, losses) for name, losses in of_targets.items()}
        found = {name: losses.sum(dim=1) for name, losses in of_tokens.items()} | {"targets": counts}
        if parts is not None:
            of_fields = (parts[:, 1:] * batch.has_loss[..., None]).float()
            found |= {f"part_{name}": torch.einsum("bs,bsf->bf", each, of_fields) for name, each in of_tokens.items()}
            found["part_targets"] = of_fields.sum(dim=1)
        return {"loss": found["loss_sums"].sum() / counts.sum(), **found}

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return what training minimizes, summed over the targets: a scalar that gradients flow from."""
        output = self._output(batch)
        total = cross_entropy_sum(self.head, output[:, :-1][batch.has_loss], batch.targets)
        if self.read_out_weight:
            total = total + self.read_out_weight * self.read_out_loss_sum(batch, output)
        return total

    def read_out_loss_sum(self, batch: Batch, output: Tensor) -> Tensor:
        """Return the read-out loss, summed over the targets, of what `head` makes logits of."""
        return read_out_losses(self.head, output, batch).sum()

    @property
    def head(self) -> nn.Module:
        """What makes logits of `target_rows`."""
        head: Any = self.language_model.get_output_embeddings() if self.head_is_all else nn.Identity()
        return head

    def target_rows(self, **batch: Tensor) -> Tensor:
        """Return what predicts the targets, ``(targets, hidden)``, in the order of `Batch.targets`.

        Last hidden states; of families that do more with logits than their head, the logits. The arguments are the
        fields of `Batch`.
        """
        read = Batch(**batch)
        return self._output(read)[:, :-1][read.has_loss]

    def _output(self, batch: Batch) -> Tensor:
        model, ids = self.language_model, batch.input_ids
        mask: Any = batch.attention_mask
        if self.bottleneck or batch.sequences is not None:
            shape_of_embeddings = torch.empty(*ids.shape, 0, dtype=model.dtype, device=ids.device)
            mask = cutoff_mask(model.config, shape_of_embeddings, mask, batch.segments, batch.sequences)
        inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        if batch.position_ids is not None:  # some families count their positions themselves and take none
            inputs["position_ids"] = batch.position_ids
        return model.base_model(**inputs).last_hidden_state if self.head_is_all else model(**inputs).logits

    def activation_checkpointing_enable(self, **kwargs: Any) -> None:
        """Recompute activations in the backward pass (the trainer's ``--activation-checkpointing``)."""
        self.language_model.activation_checkpointing_enable(**kwargs)

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        """The same, as older versions of transformers call it."""
        self.language_model.gradient_checkpointing_enable(**kwargs)
