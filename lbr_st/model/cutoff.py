"""The information cut-off of stage 1 (arXiv 2601.11124, section 3.2).

A training sequence is ``[BOS? X Z Y EOS]``: X the text, Z the bottleneck tokens, Y the target. A target row
sees the bottleneck and the target up to itself, never X, so all that Y needs of X must pass through Z. Every
other row is plain causal. BOS precedes X, carries nothing of it and is the attention sink of many models: it
stays visible, unless the model hides it (``hide_bos``). Drawn for X=3, Z=1, Y=2 (rows attend to columns)::

          x x x z y y
      x   1 . . . . .
      x   1 1 . . . .
      x   1 1 1 . . .
      z   1 1 1 1 . .
      y   . . . 1 1 .
      y   . . . 1 1 1

A layer with a sliding window has the window on top. Whether a model heeds all this is shown on the model itself,
by `check_no_leak`: a mask that leaks does so without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.masking_utils import and_masks, create_masks_for_generate

from lbr_st.errors import InputError
from lbr_st.model.precision import evaluating

# Which part of the sequence a token belongs to.
PREFIX, SOURCE, BOTTLENECK, TARGET = range(4)

# Implementations that transformers composes masks for. The others (flash attention) take no mask of ours.
COMPOSED_ATTENTION = ("eager", "sdpa", "flex_attention")

# Hidden states of X and Z under the mask and without it differ by rounding; a mask misread differs as much as they do.
SAME_HIDDEN_STATE = 1e-3
SAME_HIDDEN_STATE_HALF = 5e-2


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
        sequences: ``(batch, seq)`` integers, which example of its row a token is of.
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
        sequences: Of packed rows, see `same_sequence_rule`.

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
    # The cache by its place: transformers 5.24 gave the argument another name.
    return create_masks_for_generate(config, inputs_embeds, attention_mask, None, and_mask_function=and_masks(*rules))


def check_no_leak(model: PreTrainedModel) -> None:
    """Show on the model itself that the cut-off holds, with one short sequence.

    With the bottleneck cut off from X as well, the gradient of Y with respect to X must be exactly zero, and another X
    must give the same Y: recurrent layers, which know no mask, are found out. With the true mask the gradient must not
    be zero, and X and Z must be read as they are when the model encodes.

    Args:
        model: A causal language model, on any device. It is left as it was.

    Raises:
        InputError: If information leaks, or the model does not heed the mask in another way.
    """
    name = f"model type {model.config.model_type!r} with attn_implementation={model.config._attn_implementation!r}"
    prefix, source, bottleneck, target = 1, 6, 2, 3
    before_target = prefix + source + bottleneck
    parts = [PREFIX] * prefix + [SOURCE] * source + [BOTTLENECK] * bottleneck + [TARGET] * target
    try:
        with evaluating(model), torch.inference_mode(False), torch.enable_grad():
            segments = torch.tensor([parts], device=model.device)
            closed = torch.where(segments == BOTTLENECK, TARGET, segments)  # a target row does not see X
            is_source = (segments == SOURCE)[..., None]
            ids = torch.arange(segments.shape[1], device=model.device)[None] * 7 % model.config.vocab_size
            padding = torch.ones_like(segments)
            embeddings = model.get_input_embeddings()(ids).detach().clone().requires_grad_()
            other = torch.where(is_source, embeddings.roll(1, dims=1), embeddings).detach()

            def hidden_states(inputs: Tensor, mask: Any) -> Tensor:
                output = model.base_model(inputs_embeds=inputs, attention_mask=mask, use_cache=False)
                return output.last_hidden_state

            def gradient_to_source(hidden: Tensor) -> Tensor:
                # Not their sum: after a layer norm that is a constant.
                weights = torch.linspace(-1, 1, hidden.shape[-1], device=hidden.device, dtype=hidden.dtype)
                score = (hidden[:, before_target:] * weights).sum()
                return torch.autograd.grad(score, embeddings)[0][:, prefix : prefix + source]

            open_mask, closed_mask = (cutoff_mask(model.config, embeddings, padding, s) for s in (segments, closed))
            cut, shut = hidden_states(embeddings, open_mask), hidden_states(embeddings, closed_mask)
            shut_other, plain = hidden_states(other, closed_mask), hidden_states(embeddings, padding)
            leak, passed = gradient_to_source(shut), gradient_to_source(cut)
    except InputError:
        raise
    except Exception as error:  # what a family raises that has no place for such a mask is not foreseeable
        raise InputError(f"the information cut-off cannot be used with {name}: {error}") from error
    if not plain.isfinite().all():
        raise InputError(f"{name} gives hidden states that are not finite: are its weights whole?")

    def differ(one: Tensor, another: Tensor, rows: slice) -> bool:
        difference = (one - another)[:, rows].abs().max() / plain.abs().max()
        return not difference <= (SAME_HIDDEN_STATE if plain.dtype == torch.float32 else SAME_HIDDEN_STATE_HALF)

    if leak.any() or differ(shut, shut_other, slice(before_target, None)):
        raise InputError(f"{name} leaks from X to Y around the bottleneck: it has parts that heed no attention mask")
    if not passed.any():
        raise InputError(f"{name} lets nothing of X through the bottleneck; two layers are the fewest that can")
    if differ(cut, plain, slice(0, before_target)):
        raise InputError(f"{name} does not read X under the cut-off as it does without it")
