"""Next-token cross-entropy without the logits of a whole batch.

With a vocabulary of 152k the logits are by far the largest tensor in training. Here they are made for a few rows at a
time, and where there is a loss only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from peft.utils.other import TrainableTokensWrapper
from torch import Tensor, nn
from transformers.utils import is_liger_kernel_available

# Logits that are there at a time; 128 MiB of them in float32.
LOGITS_AT_A_TIME = 2**25


def cross_entropy_sum(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of targets, summed, in nats: a float32 scalar that gradients flow from.

    Gradients are made together with the loss, chunk by chunk, while the logits are at hand: activation checkpointing
    would make the logits once more in the backward pass. On a GPU with liger-kernel installed, and float32 weights,
    its fused kernel does the same.

    Args:
        head: Maps hidden states ``(n, hidden)`` to logits ``(n, vocabulary)``.
        hidden: ``(rows, hidden)``, of the rows that predict a target.
        targets: ``(rows,)`` int64.
    """
    weight = _weight(head)
    if weight is None:
        parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
        return _CrossEntropySum.apply(head, hidden, targets, *parameters)
    bias = getattr(head, "bias", None)
    if hidden.is_cuda and weight.dtype == torch.float32 and is_liger_kernel_available():
        return fused_cross_entropy_sum(weight, bias, hidden, targets)
    tensors = [tensor for tensor in (weight, bias) if tensor is not None and tensor.requires_grad]
    return _CrossEntropySum.apply(lambda rows: F.linear(rows, weight, bias), hidden, targets, *tensors)


def fused_cross_entropy_sum(weight: Tensor, bias: Tensor | None, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return the same by the kernel of liger-kernel."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    return LigerFusedLinearCrossEntropyLoss(reduction="sum")(weight, hidden, targets, bias)


def token_losses(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each target, ``(rows,)`` float32 in nats, without gradients; see above."""
    with torch.no_grad():
        losses = [_losses(head, rows, labels) for rows, labels in _chunks(head, hidden, targets)]
    return torch.cat(losses) if losses else hidden.new_zeros(0, dtype=torch.float32)


def _weight(head: nn.Module) -> Tensor | None:
    """Return the matrix of a linear head, with the rows that LoRA trains in it; None for another kind of head."""
    if type(head) is nn.Linear:
        return head.weight
    if isinstance(head, TrainableTokensWrapper):
        # Put together once; the wrapper itself would copy the whole matrix for every chunk.
        return head.token_adapter.get_merged_weights(head.token_adapter.active_adapters)
    return None


def _losses(head: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(head(hidden).float(), targets, reduction="none")


def _chunks(head: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    with torch.no_grad():
        vocabulary = head(hidden[:1]).shape[-1]
    size = max(1, LOGITS_AT_A_TIME // vocabulary)
    return zip(hidden.split(size), targets.split(size), strict=True)


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, head: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor, *parameters: Tensor
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        of_hidden = torch.empty_like(hidden)
        # In float32 whatever the weights are: the sum of many chunks would lose the small ones in half precision.
        of_parameters = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
        start = 0
        for rows, labels in _chunks(head, hidden.detach(), targets):
            rows.requires_grad_()
            with torch.enable_grad():
                loss = _losses(head, rows, labels).sum()
            of_rows, *found = torch.autograd.grad(loss, [rows, *parameters])
            total += loss.detach()
            of_hidden[start : start + len(rows)] = of_rows
            start += len(rows)
            for gradient, of_chunk in zip(of_parameters, found, strict=True):
                gradient += of_chunk
            del loss, found  # the largest tensors; not to be kept beside those of the next chunk
        dtypes = zip(of_parameters, parameters, strict=True)
        ctx.save_for_backward(of_hidden, *(gradient.to(parameter.dtype) for gradient, parameter in dtypes))
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, *of_parameters = ctx.saved_tensors
        scale = gradients[0]
        return None, of_hidden * scale, None, *(gradient * scale for gradient in of_parameters)
