"""The backbone of a sentence-transformers model run by hand, and whether the model gives the same by it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router, Transformer
from torch import Tensor, nn

from lbr_st.errors import one_line
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.model.positions import depend_on_length
from lbr_st.model.quiet import quietly

logger = logging.getLogger(__name__)

# How far an output may be from that of the plain pass, over its length: rounding, and no more.
CLOSE = {torch.float32: 1e-4, torch.float64: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
# What a model raises that cannot be run in another way than it is.
CANNOT = (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError)

Run = TypeVar("Run")


def plain_backbone(model: SentenceTransformer) -> nn.Module | None:
    """Return what turns tokens of a model into states; None where the model does more than run it plainly."""
    module: Any = model[0]
    is_told_more = any(isinstance(each, Router) for each in _rest(model)) or any((model.module_kwargs or {}).values())
    config = getattr(model.transformers_model, "config", None)
    depends = config is not None and depend_on_length(config)
    if is_told_more or depends or model._compiled_call_impl is not None:
        return None
    if isinstance(module, BottleneckTransformer):
        return module.model.base_model
    if not isinstance(module, Transformer):
        return None
    plain = {"method": "forward", "method_output_name": "last_hidden_state"}
    ways = module.modality_config.values()
    is_plain = (
        module.backend == "torch"
        and module.transformer_task == "feature-extraction"
        and module.module_output_name == "token_embeddings"
        and all({name: way.get(name) for name in plain} == plain for way in ways)
        and not getattr(module.config, "output_hidden_states", False)
    )
    return module.model if is_plain else None


def argument_of(backbone: nn.Module, *names: str) -> str | None:
    """Return the first of some arguments that a backbone takes; None where it takes none of them."""
    taken = inspect.signature(backbone.forward).parameters
    return next((name for name in names if name in taken), None)


def finished(model: SentenceTransformer, features: dict[str, Any]) -> dict[str, Any]:
    """Return what the modules after the first one make of features that have the states of tokens."""
    for module in _rest(model):
        features = module(features)
    return features


def if_equal(
    model: SentenceTransformer, what: str, make: Callable[[], tuple[Run, dict[str, Any], dict[str, Any]]]
) -> Run | None:
    """Return another way to run a model, if it gives what the model gives: the same vectors, and states of all tokens.

    Args:
        model: The model.
        what: What cannot be done if it does not.
        make: Returns the way, the features of a batch that it has run, and the tokens of the batch, padded.
    """
    try:
        with quietly():
            run, ours, tokens = make()
            plain = model(dict(tokens), task="document")
            is_token = tokens["attention_mask"].bool()
            pairs = [(each["token_embeddings"][is_token], each["sentence_embedding"]) for each in (ours, plain)]
            if all(_is_close(one, other) for one, other in zip(*pairs, strict=True)):
                return run
        logger.debug("%s: the model gives other vectors", what)
    except CANNOT as error:
        logger.debug("%s: %s", what, one_line(error))
    return None


def _rest(model: SentenceTransformer) -> list[nn.Module]:
    return list(model.children())[1:]


def _is_close(found: Tensor, expected: Tensor) -> bool:
    close = CLOSE.get(expected.dtype, 0.0)
    distance = (found.float() - expected.float()).norm(dim=-1)
    return bool((distance <= close * expected.float().norm(dim=-1)).all())  # of NaN nothing is close
