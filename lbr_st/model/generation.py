"""Answers from the language model: in sight of the text, or through the bottleneck alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lbr_st.errors import InputError

if TYPE_CHECKING:
    from lbr_st.model.bottleneck import BottleneckTransformer

DEFAULT_MAX_NEW_TOKENS = 128


def generate(
    module: BottleneckTransformer, texts: Sequence[str], *, through_bottleneck: bool = False, **kwargs: Any
) -> list[str]:
    """Continue ``[BOS? X Z]`` with an answer Y, as stage 1 trains it (arXiv 2601.11124, section 3.2).

    Open, the answer sees the text: what ``AutoModelForCausalLM.generate`` gives of the saved directory. Through the
    bottleneck, it sees Z, itself and BOS (unless the model hides it): the first token comes from the last bottleneck
    token in both.

    Args:
        module: The language model and its tokenizer.
        texts: Texts X, prompts included; generated from as one batch.
        through_bottleneck: Hide the text from the answer.
        **kwargs: Arguments of ``transformers`` generation: ``max_new_tokens`` (default: 128), ``do_sample``, ...

    Returns:
        The answers, in the order of the texts; ``num_return_sequences`` of each, where that is given.

    Raises:
        InputError: If ``texts`` is one text, or generation through the bottleneck is asked for in a way that leaves
            no place to hide the text: without the default cache, or with an assistant.
    """
    if isinstance(texts, str):
        raise InputError("generate takes a list of texts; put the one text in a list")
    if not texts:
        return []
    tokenizer: Any = module.tokenizer
    model: Any = module.model
    rows = module.tokenize_rows(texts)
    batch = tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt").to(model.device)
    length = batch["input_ids"].shape[1]
    is_bottleneck = torch.isin(batch["input_ids"], torch.tensor(module.bottleneck_token_ids, device=model.device))
    starts = batch["attention_mask"].argmax(dim=1, keepdim=True)
    visible_prefix = 0 if module.hide_bos else module.num_prefix_tokens
    is_prefix = torch.arange(length, device=model.device) < starts + visible_prefix
    defaults = {"max_new_tokens": DEFAULT_MAX_NEW_TOKENS, "pad_token_id": tokenizer.pad_token_id, "use_cache": True}
    kwargs = defaults | kwargs | {"return_dict_in_generate": False}
    with _hiding(model, ~(is_bottleneck | is_prefix)) if through_bottleneck else contextlib.nullcontext():
        output = model.generate(**batch, **kwargs)
    return tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)


@contextlib.contextmanager
def _hiding(model: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Hide columns of the prompt from every token that follows it; the prompt itself is read as ever.

    Positions stay those of the whole sequence: generation has counted them before the mask is changed here.

    Args:
        model: The language model.
        hidden: ``(batch, prompt length)`` booleans.
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
        of_row = hidden.repeat_interleave(len(new) // len(hidden), dim=0)  # beams lie side by side
        mask = mask.clone()
        mask[:, :prompt_length][of_row] = 0
        return args, kwargs | {"attention_mask": mask}

    handle = model.register_forward_pre_hook(hide, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
