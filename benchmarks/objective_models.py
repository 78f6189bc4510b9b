"""Stage 1 with other losses than the package's: what `objectives.py` compares.

Each class differs from `CutOffModel`, which it is trained in place of, by one thing. Losses are sums over the targets
of a batch, as there; one that has a value for each example counts it once for each of the example's targets, so that
the weight of the read-out loss means the same in all.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from lbr_st.learning.batches import IGNORE
from lbr_st.learning.cross_entropy import cross_entropy_sum
from lbr_st.learning.masked_model import Batch, CutOffModel, read_outs
from lbr_st.model.cutoff import BOTTLENECK, PREFIX, SOURCE, TARGET

LEAST_SHARE = 0.1  # that is left of a read-out loss which falls, as in arXiv 2401.11248


class SetReadOut(CutOffModel):
    """Asks the embedding for the set of Y's tokens, each once and by its weight (arXiv 2401.11248).

    Args:
        language_model: See `CutOffModel`.
        weights: ``(vocabulary,)`` float32, what each token of the vocabulary weighs.
        **kwargs: See `CutOffModel`.
    """

    weights: Tensor

    def __init__(self, language_model: PreTrainedModel, *, weights: Tensor, **kwargs: Any) -> None:
        super().__init__(language_model, **kwargs)
        self.register_buffer("weights", weights.to(language_model.device), persistent=False)

    def read_out_loss_sum(self, batch: Batch, output: Tensor) -> Tensor:
        """Return the weighted mean over each example's set, once for each of its targets."""
        log_probabilities, example = read_outs(self.head, output, batch)
        wanted = torch.zeros_like(log_probabilities)
        wanted[example, batch.targets] = 1
        wanted = wanted * self.weights
        # No word of an example may have a weight.
        means = -(wanted * log_probabilities).sum(dim=1) / wanted.sum(dim=1).clamp_min(1e-6)
        return means[example].sum()


class FallingReadOut(CutOffModel):
    """Weighs the read-out loss less and less, by a cosine from 1 to `LEAST_SHARE` of its weight.

    Args:
        language_model: See `CutOffModel`.
        batches: Number of batches of the whole training; the model counts them, so a run cannot be resumed.
        **kwargs: See `CutOffModel`.
    """

    def __init__(self, language_model: PreTrainedModel, *, batches: int, **kwargs: Any) -> None:
        super().__init__(language_model, **kwargs)
        self.batches, self._seen = batches, 0

    def read_out_loss_sum(self, batch: Batch, output: Tensor) -> Tensor:
        """Return the loss at what is left of it by now."""
        share = LEAST_SHARE + (1 - LEAST_SHARE) * (1 + math.cos(math.pi * self._seen / self.batches)) / 2
        self._seen += 1
        return share * super().read_out_loss_sum(batch, output)


class SoftTargets(CutOffModel):
    """Predicts what the same model predicts of Y with X in sight, in place of Y's tokens (arXiv 2511.17129).

    The read-out has the mean of these predictions over Y as its target. The second pass is without gradients.
    """

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the cross-entropies with what is predicted in sight of X."""
        head = self.head
        with torch.no_grad():
            in_sight = batch._replace(segments=batch.segments.where(batch.segments != SOURCE, PREFIX))
            expected = head(self._output(in_sight)[:, :-1][batch.has_loss]).float().softmax(dim=-1)
        output = self._output(batch)
        total = F.cross_entropy(head(output[:, :-1][batch.has_loss]).float(), expected, reduction="sum")
        if self.read_out_weight:
            log_probabilities, example = read_outs(head, output, batch)
            wanted = torch.zeros_like(log_probabilities).index_add(0, example, expected)
            total = total - self.read_out_weight * (wanted * log_probabilities).sum()
        return total


class FromState(CutOffModel):
    """Decodes Y from the last state of Z alone, given back as an input, in place of Z's keys and values in all layers.

    The state is scaled to the mean length of the input embeddings, as states are longer than these.
    """

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the loss of two passes: X and Z, then that state and Y."""
        model: Any = self.language_model
        is_target = batch.segments == TARGET
        first = is_target.int().argmax(dim=1)  # each row has a target, after the last Z
        longest = int(first.max())
        # What a shorter row has of Y here is read by nobody.
        read = model.base_model(
            input_ids=batch.input_ids[:, :longest], attention_mask=batch.attention_mask[:, :longest], use_cache=False
        ).last_hidden_state
        states = read[torch.arange(len(first), device=first.device), first - 1]
        embed = model.get_input_embeddings()
        length = embed.weight.detach().norm(dim=1).mean()
        rows = [ids[of_row] for ids, of_row in zip(batch.input_ids, is_target, strict=True)]
        targets = pad_sequence(rows, batch_first=True, padding_value=IGNORE)
        has_loss = targets != IGNORE
        inputs = torch.cat(
            [length * F.normalize(states, dim=-1)[:, None], embed(targets[:, :-1].where(has_loss[:, :-1], 0))], dim=1
        )
        output = model.base_model(
            inputs_embeds=inputs, attention_mask=has_loss.long(), use_cache=False
        ).last_hidden_state
        total = cross_entropy_sum(self.head, output[has_loss], targets[has_loss])
        if self.read_out_weight:
            example = torch.arange(len(rows), device=first.device)[:, None].expand_as(targets)[has_loss]
            losses = -self.head(states).float().log_softmax(dim=-1)[example, targets[has_loss]]
            total = total + self.read_out_weight * losses.sum()
        return total


class ReadOutAtTheEnd(CutOffModel):
    """A control with a read-out: plain fine-tuning or pretraining, whose text ends with Z, which is asked for Y.

    Args:
        language_model: See `CutOffModel`.
        bottleneck_id: Id of Z.
        weight: Weight of the read-out loss.
        **kwargs: See `CutOffModel`.
    """

    def __init__(self, language_model: PreTrainedModel, *, bottleneck_id: int, weight: float, **kwargs: Any) -> None:
        super().__init__(language_model, **kwargs)
        self.bottleneck_id, self.weight = bottleneck_id, weight

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the loss of the plain row, and the read-out's of what follows it."""
        end = batch.attention_mask.sum(dim=1, keepdim=True)
        longer = Batch(
            F.pad(batch.input_ids, (0, 1)).scatter(1, end, self.bottleneck_id),
            F.pad(batch.attention_mask, (0, 1)).scatter(1, end, 1),
            F.pad(batch.segments, (0, 1)).scatter(1, end, BOTTLENECK),
            F.pad(batch.labels, (0, 1), value=IGNORE),
        )
        output = self._output(longer)
        total = cross_entropy_sum(self.head, output[:, :-1][longer.has_loss], longer.targets)
        states = output[longer.segments == BOTTLENECK]
        example = torch.arange(len(states), device=states.device)[:, None].expand_as(longer.has_loss)[longer.has_loss]
        losses = -self.head(states).float().log_softmax(dim=-1)[example, longer.targets]
        return total + self.weight * losses.sum()
