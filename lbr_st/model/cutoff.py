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

A layer with a sliding window has the window on top. Whether a model heeds all this is shown on the model itself, in
`lbr_st.model.self_checks`: a mask that leaks raises no error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers import PretrainedConfig
from transformers.masking_utils import and_masks, create_masks_for_generate

from lbr_st.errors import InputError

# Which part of the sequence a token belongs to.
PREFIX, SOURCE, BOTTLENECK, TARGET = range(4)

# Implementations that transformers composes masks for. The others (flash attention) take no mask of ours.
COMPOSED_ATTENTION = ("eager", "sdpa", "flex_attention")


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


def same_sequence_rule(sequences: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return the rule that keeps the examples of a packed row apart.

    Args:
        sequences: ``(batch, seq)`` integers, the number of the example in its row that a token belongs to.
    """

    def may_attend(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return sequences[batch, query] == sequences[batch, key]

    return may_attend


def cutoff_mask(
    config: PretrainedConfig,
    inputs_embeds: Tensor,
    attention_mask: Tensor,
    segments: Tensor,
    sequences: Tensor | None = None,
) -> Any:
    """Build the mask ``causal & window & cut-off & not padding`` in the form the model's attention expects.

    transformers composes it as it does for its own generation, so its form is right for each attention
    implementation (boolean for sdpa, additive float for eager, a block mask for FlexAttention) and each family (one
    mask, or one for each type of layer). A boolean mask under eager would be *added* to the scores and leak.

    Args:
        config: Configuration of the causal language model.
        inputs_embeds: ``(batch, seq, hidden)`` token embeddings; only their shape, dtype and device are read.
        attention_mask: ``(batch, seq)``, 1 for tokens and 0 for padding. Padding goes on the right, so that no
            row is left without a column to attend to.
        segments: ``(batch, seq)`` part of each token, see `cutoff_rule`.
        sequences: Examples of packed rows, see `same_sequence_rule`; default is one example a row.

    Returns:
        What to pass as the model's ``attention_mask``: a ``(batch, 1, seq, seq)`` tensor or block mask, or a
        dictionary of these by type of layer.

    Raises:
        InputError: If the model's attention implementation takes no such mask.
    """
    attention = config._attn_implementation
    if attention not in COMPOSED_ATTENTION:
        raise InputError(
            f"attn_implementation={attention!r} takes no information cut-off; "
            f"load the model with one of: {', '.join(COMPOSED_ATTENTION)}"
        )
    rules = [cutoff_rule(segments)] + ([] if sequences is None else [same_sequence_rule(sequences)])
    # The cache is passed by position: transformers 5.24 gave the argument another name.
    return create_masks_for_generate(config, inputs_embeds, attention_mask, None, and_mask_function=and_masks(*rules))
