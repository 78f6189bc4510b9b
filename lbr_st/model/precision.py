"""How a model computes: for a while in half precision or in evaluation mode, or in another type from now on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import TrainingArguments  # importing it loads accelerate


def autocast_dtype(training_args: TrainingArguments) -> torch.dtype | None:
    """Return the half precision that a trainer computes in, if it does."""
    return torch.bfloat16 if training_args.bf16 else torch.float16 if training_args.fp16 else None


def computing_in(dtype: torch.dtype | None, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Compute in half precision for a while (autocast); where ``dtype`` is None, in that of the weights.

    The trainer's own autocast is part of its model's forward: what is called beside that is without it.
    """
    return torch.autocast(device.type, dtype) if dtype is not None else contextlib.nullcontext()


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode for a while; then every part is again in the mode it was in."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, was_training in before.items():
            module.training = was_training


def compute_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Let a model compute in another type, as if its files had been opened in it.

    What is in no file stays as it is: positions are turned by frequencies in float32, which half precision would move.
    """
    for tensor in model.state_dict(keep_vars=True).values():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
