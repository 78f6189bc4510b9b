"""Checks of the user's own model: does it heed the cut-off, packed rows, and is its head all that makes its logits?

A mask that leaks raises no error. Families differ in what they do with a mask, and new ones appear every month: so each
check runs the model itself on one short sequence, before any long work starts.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lbr_st.errors import InputError, one_line
from lbr_st.model.cutoff import BOTTLENECK, PREFIX, SOURCE, TARGET, cutoff_mask
from lbr_st.model.precision import evaluating

logger = logging.getLogger(__name__)

# Hidden states that should be the same differ by rounding; under a mask misread they differ as much as any two.
SAME_HIDDEN_STATE = 1e-3
SAME_HIDDEN_STATE_HALF = 5e-2

# What families name what they do to logits after the head. A cap shows in large logits only, so it is looked up too.
AFTER_THE_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling")

# The sequence of `check_no_leak`.
PARTS = [PREFIX] + [SOURCE] * 6 + [BOTTLENECK] * 2 + [TARGET] * 3
X, Y = slice(1, 7), slice(9, None)
BEFORE_Y = slice(0, 9)


@dataclass(frozen=True)
class _Runs:
    """Hidden states ``(1, seq, hidden)`` of one sequence in four runs, and gradients of Y with respect to X.

    Attributes:
        encoding: No cut-off, as when the model encodes.
        cut_off: The cut-off, as in stage 1.
        closed: The bottleneck cut off from X as well, so that nothing of X may reach Y.
        closed_other_text: The same with another X.
        passed: Gradient under the cut-off.
        leaked: Gradient with the bottleneck closed.
    """

    encoding: Tensor
    cut_off: Tensor
    closed: Tensor
    closed_other_text: Tensor
    passed: Tensor
    leaked: Tensor


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
    try:
        with evaluating(model), torch.inference_mode(False), torch.enable_grad():
            runs = _run_four_ways(model)
    except InputError:
        raise
    except Exception as error:  # what a family raises that has no place for such a mask is not foreseeable
        said = one_line(error)
        if not isinstance(error, RuntimeError):  # the words of code that expects a mask of another form help nobody
            logger.debug("%s", said)
            said = "it takes no mask that says what each token sees, as recurrent layers and ALiBi take none"
        raise InputError(f"the information cut-off cannot be used with {name}: {said}") from error
    for what, numbers in (("hidden states", runs.encoding), ("gradients", runs.passed), ("gradients", runs.leaked)):
        if not numbers.isfinite().all():
            raise InputError(f"{name} gives {what} that are not finite: are its weights whole?")
    scale = runs.encoding.abs().max()
    if runs.leaked.any() or not _same(runs.closed[:, Y], runs.closed_other_text[:, Y], scale):
        raise InputError(
            f"{name} leaks from X to Y around the bottleneck: it has parts that heed no attention mask, as recurrent "
            "and state-space layers are"
        )
    if not runs.passed.any():
        raise InputError(f"{name} lets nothing of X through the bottleneck; two layers are the fewest that can")
    if not _same(runs.cut_off[:, BEFORE_Y], runs.encoding[:, BEFORE_Y], scale):
        raise InputError(f"{name} does not read X under the cut-off as it does without it")


def _run_four_ways(model: PreTrainedModel) -> _Runs:
    segments = torch.tensor([PARTS], device=model.device)
    no_padding = torch.ones_like(segments)
    ids = torch.arange(len(PARTS), device=model.device)[None] * 7 % model.config.vocab_size
    embeddings = model.get_input_embeddings()(ids).detach().clone().requires_grad_()
    is_source = (segments == SOURCE)[..., None]
    other_text = torch.where(is_source, embeddings.roll(1, dims=1), embeddings).detach()
    cut_off = cutoff_mask(model.config, embeddings, no_padding, segments)
    # A target row does not see X: as targets, bottleneck rows do not either.
    closed = cutoff_mask(model.config, embeddings, no_padding, torch.where(segments == BOTTLENECK, TARGET, segments))

    def run(inputs: Tensor, mask: Any) -> Tensor:
        return model.base_model(inputs_embeds=inputs, attention_mask=mask, use_cache=False).last_hidden_state

    def gradient_of_target(hidden: Tensor) -> Tensor:
        # Not their sum: after a layer norm that is a constant.
        weights = torch.linspace(-1, 1, hidden.shape[-1], device=hidden.device, dtype=hidden.dtype)
        return torch.autograd.grad((hidden[:, Y] * weights).sum(), embeddings)[0][:, X]

    under_cut_off, under_closed = run(embeddings, cut_off), run(embeddings, closed)
    return _Runs(
        encoding=run(embeddings, no_padding),
        cut_off=under_cut_off,
        closed=under_closed,
        closed_other_text=run(other_text, closed),
        passed=gradient_of_target(under_cut_off),
        leaked=gradient_of_target(under_closed),
    )


def _same(one: Tensor, another: Tensor, scale: Tensor) -> bool:
    """Tell whether hidden states differ by no more than rounding; NaN is not the same as anything."""
    allowed = SAME_HIDDEN_STATE if one.dtype == torch.float32 else SAME_HIDDEN_STATE_HALF
    return bool((one - another).abs().max() <= allowed * scale)


def check_packing(model: PreTrainedModel) -> None:
    """Show on the model itself that examples in a packed row are read as they are alone.

    Args:
        model: A causal language model, on any device. It is left as it was.

    Raises:
        InputError: If they are not, or the model takes no positions that start again.
    """
    name = f"model type {model.config.model_type!r}"
    parts = [PREFIX] + [SOURCE] * 3 + [BOTTLENECK] + [TARGET] * 2
    length = len(parts)
    try:
        with evaluating(model), torch.no_grad():
            first = torch.tensor([[1], [3]], device=model.device)
            alone = (first + 7 * torch.arange(length, device=model.device)) % model.config.vocab_size
            positions = torch.arange(length, device=model.device)
            number = torch.arange(2, device=model.device).repeat_interleave(length)[None]

            def run(ids: Tensor, sequences: Tensor | None, **position_ids: Tensor) -> Tensor:
                segments = torch.tensor(parts, device=model.device).repeat(ids.numel() // length).view_as(ids)
                shape_of_embeddings = torch.empty(*ids.shape, 0, dtype=model.dtype, device=model.device)
                mask: Any = cutoff_mask(model.config, shape_of_embeddings, torch.ones_like(ids), segments, sequences)
                return model.base_model(
                    input_ids=ids, attention_mask=mask, use_cache=False, **position_ids
                ).last_hidden_state

            expected = run(alone, None).flatten(0, 1)
            found = run(alone.view(1, -1), number, position_ids=positions.repeat(2)[None])[0]
    except Exception as error:  # what a family raises that takes no positions is not foreseeable
        raise InputError(f"examples cannot be packed for {name}: {error}") from error
    if not _same(found, expected, expected.abs().max()):
        raise InputError(f"examples cannot be packed for {name}: it does not read them as it does alone")


def head_is_all(model: PreTrainedModel) -> bool:
    """Tell whether the logits of a language model are what its head makes of the last hidden states, and no more."""
    if any(getattr(model.config, name, None) not in (None, 1.0) for name in AFTER_THE_HEAD):
        return False
    ids = torch.arange(4, device=model.device)[None]
    with evaluating(model), torch.no_grad():
        expected = model(input_ids=ids, use_cache=False).logits.float()
        head: Any = model.get_output_embeddings()
        found = head(model.base_model(input_ids=ids, use_cache=False).last_hidden_state).float()
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
