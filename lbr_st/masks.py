"""The information cut-off of stage 1 (arXiv 2601.11124, section 3.2).

A training sequence is ``[BOS? X Z Y EOS]``: X the text, Z the bottleneck tokens, Y the target. A target row
sees the bottleneck and the target up to itself, never X, so all that Y needs of X must pass through Z. Every
other row is plain causal. BOS precedes X, carries nothing of it and is the attention sink of many models: it
stays visible. Drawn for X=3, Z=1, Y=2 (rows attend to columns)::

          x x x z y y
      x   1 . . . . .
      x   1 1 . . . .
      x   1 1 1 . . .
      z   1 1 1 1 . .
      y   . . . 1 1 .
      y   . . . 1 1 1
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from transformers import PretrainedConfig
from transformers.masking_utils import create_causal_mask

from lbr_st.errors import InputError

# Which part of the sequence a token belongs to.
PREFIX, SOURCE, BOTTLENECK, TARGET = range(4)

# The leak test (tests/test_masks.py) runs every pair of these; nothing else is let through.
LEAK_TESTED_FAMILIES = ("llama", "qwen2", "qwen3")
LEAK_TESTED_ATTENTION = ("eager", "sdpa")


def cutoff_rule(segments: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return the rule that hides X from Y, in the form transformers composes masks of.

    Args:
        segments: ``(batch, seq)`` integers, each ``PREFIX``, ``SOURCE``, ``BOTTLENECK`` or ``TARGET``.

    Returns:
        A function of ``(batch, head, query, key)`` indices that is true where attention is allowed.
    """

    def may_attend(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        is_target_row = segments[batch, query] == TARGET
        is_source_column = segments[batch, key] == SOURCE
        return ~(is_target_row & is_source_column)

    return may_attend


def cutoff_mask(config: PretrainedConfig, inputs_embeds: Tensor, attention_mask: Tensor, segments: Tensor) -> Tensor:
    """Build the mask ``causal & cut-off & not padding`` in the form the model's attention expects.

    transformers composes it (``create_causal_mask``), so its dtype is right for each attention
    implementation: boolean for sdpa, additive float for eager. A boolean mask under eager would be *added* to
    the scores and leak without a word.

    Args:
        config: Configuration of the causal language model.
        inputs_embeds: ``(batch, seq, hidden)`` token embeddings; only their shape, dtype and device are read.
        attention_mask: ``(batch, seq)``, 1 for tokens and 0 for padding. Padding goes on the right, so that no
            row is left without a column to attend to.
        segments: ``(batch, seq)`` part of each token, see `cutoff_rule`.

    Returns:
        ``(batch, 1, seq, seq)`` mask to pass as the model's ``attention_mask``.

    Raises:
        InputError: If the model family or its attention implementation is not covered by the leak test.
    """
    check_supported(config)
    mask = create_causal_mask(
        config=config,
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        past_key_values=None,
        and_mask_function=cutoff_rule(segments),
    )
    assert isinstance(mask, Tensor)  # None and block masks belong to implementations that were refused above
    return mask


def check_supported(config: PretrainedConfig) -> None:
    """Refuse a backbone for which it was not shown that nothing leaks from X to Y.

    Raises:
        InputError: If the family, its attention implementation or a sliding-window layer is not leak-tested.
    """
    if config.model_type not in LEAK_TESTED_FAMILIES:
        raise InputError(
            f"the information cut-off is not tested for model type {config.model_type!r}; "
            f"tested: {', '.join(LEAK_TESTED_FAMILIES)}"
        )
    attention = config._attn_implementation
    if attention not in LEAK_TESTED_ATTENTION:
        raise InputError(
            f"the information cut-off is not tested with attn_implementation={attention!r}; "
            f"load the model with one of: {', '.join(LEAK_TESTED_ATTENTION)}"
        )
    sliding = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if sliding:
        raise InputError(f"the information cut-off is not tested with layers of type {', '.join(sorted(sliding))}")
