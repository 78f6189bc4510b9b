"""The hook that hides a text from the answer to it: what stage 1's mask does, within transformers' generation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lbr_st.errors import InputError


@contextlib.contextmanager
def hidden_from_answers(model: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Hide columns of the prompt from every token generated after it; the prompt itself is read without this.

    Positions stay those of the whole sequence: generation has counted them before the mask is changed here.

    Args:
        model: The language model.
        hidden: ``(batch, prompt length)`` booleans, true for columns that are hidden.

    Raises:
        InputError: While it generates, if the model is called without the default cache, or by an assistant.
    """
    prompt_length = hidden.shape[1]

    def hide(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        # Named past_key_values before transformers 5.24.
        cache = kwargs.get("cache", kwargs.get("past_key_values"))
        mask, new = kwargs.get("attention_mask"), kwargs["input_ids"]
        if cache is None or isinstance(mask, dict) or (mask is not None and mask.dim() != 2):
            raise InputError(
                "generation through the bottleneck needs the default cache: leave out use_cache, cache_implementation"
            )
        seen = cache.get_seq_length()
        if seen < prompt_length < seen + new.shape[1]:
            raise InputError(
                "generation through the bottleneck takes no assistant: candidate tokens would see the text"
            )
        if seen < prompt_length:
            return args, kwargs
        if mask is None:  # generation leaves it out where nothing is padded
            mask = torch.ones(new.shape[0], seen + new.shape[1], dtype=torch.long, device=new.device)
        hidden_in_row = hidden.repeat_interleave(len(new) // len(hidden), dim=0)  # beams lie side by side
        mask = mask.clone()
        mask[:, :prompt_length][hidden_in_row] = 0
        return args, kwargs | {"attention_mask": mask}

    handle = model.register_forward_pre_hook(hide, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
