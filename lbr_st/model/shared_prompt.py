"""A prompt computed once: what a causal model keeps of the tokens that all texts begin with, for all of them.

In a causal model the keys and values of a token depend on nothing that comes after it. Those of a prompt are the same
for every text: they are computed once, in one row, and every text attends to them.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router, Transformer
from torch import Tensor, nn
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from lbr_st.errors import one_line
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.model.quiet import quietly

logger = logging.getLogger(__name__)

SHORTEST = 4  # tokens of a prompt from which on it pays
TRIED = 16  # tokens of the texts that it is tried with
# How far an output with a shared prompt may be from that of the plain pass, over its length: rounding, and no more.
CLOSE = {torch.float32: 1e-4, torch.float64: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
CACHE_NAMES = ("cache", "past_key_values")  # transformers 5.24 renamed the argument


class PromptLayer(DynamicLayer):
    """Keys and values of a prompt in one layer of a model: one row, whatever the number of texts.

    Attention takes the keys of a text in one tensor with those of its prompt. They are joined for the layer that asks,
    and kept by nobody: there is never more than one layer's copy, and the cache stays as it is for the next batch. A
    layer with a sliding window has the whole prompt too, as its mask hides what is out of the window.

    Args:
        keys: ``(1, heads, tokens, width)``.
        values: The same.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return keys and values of prompt and texts."""
        pairs = ((self.keys, key_states), (self.values, value_states))
        keys, values = (torch.cat([own.expand(len(new), -1, -1, -1), new], dim=-2) for own, new in pairs)
        return keys, values


class SharedPrompt:
    """What a model has computed of a prompt; see `share_prompt`.

    Args:
        model: The model.
        ids: Tokens of the prompt.
        cache_name: Argument that gives the model its cache.

    Attributes:
        tokens: Tokens of the prompt, for who compares texts with them.
    """

    def __init__(self, model: SentenceTransformer, ids: Sequence[int], cache_name: str) -> None:
        self.model, self.cache_name = model, cache_name
        self.backbone = _backbone(model)
        self.tokens = np.array(ids)
        self.ids = torch.tensor([list(ids)], device=model.device)
        kept = DynamicCache()  # of a configuration it would keep no more than a sliding window
        self.hidden = self._run(self.ids, torch.ones_like(self.ids), kept)
        layers: list[Any] = kept.layers
        self.cache = Cache(layers=[PromptLayer(layer.keys, layer.values) for layer in layers])

    def __len__(self) -> int:
        return self.ids.shape[1]

    def features(self, features: dict[str, Any]) -> dict[str, Any]:
        """Run the model on texts without their prompt, padded on the right, and return what it makes of them.

        Args:
            features: ``input_ids`` and ``attention_mask`` of the texts' own tokens, and what else the model is given.

        Returns:
            The features of the last module, as if the prompt stood before every text.
        """
        ids, mask = features["input_ids"], features["attention_mask"]
        rows = len(ids)
        whole_mask = torch.cat([mask.new_ones(rows, len(self)), mask], dim=1)
        hidden = self._run(ids, whole_mask, self.cache)
        features = features | {
            "input_ids": torch.cat([self.ids.expand(rows, -1), ids], dim=1),
            "attention_mask": whole_mask,
            "token_embeddings": torch.cat([self.hidden.expand(rows, -1, -1), hidden], dim=1),
        }
        for module in list(self.model.children())[1:]:
            features = module(features)
        return features

    def _run(self, ids: Tensor, mask: Tensor, cache: Cache) -> Tensor:
        arguments = {self.cache_name: cache}
        return self.backbone(input_ids=ids, attention_mask=mask, use_cache=True, **arguments).last_hidden_state


def share_prompt(model: SentenceTransformer, ids: Sequence[int], task: str) -> SharedPrompt | None:
    """Compute the tokens that texts begin with once for all of them, where the model can.

    Whether it can is tried on two rows of tokens: a model whose tokens see what comes after them, or that keeps no keys
    and values, gives something else than its plain pass, or fails.

    Args:
        model: Any sentence-transformers model, in evaluation mode.
        ids: The tokens.
        task: What the plain pass is told, ``query`` or ``document``.

    Returns:
        What was computed; None where the plain pass must do.
    """
    if len(ids) < SHORTEST or (cache_name := _cache_name(model)) is None:
        return None
    try:
        with quietly():
            shared = SharedPrompt(model, ids, cache_name)
            if _is_equal(shared, model, task):
                return shared
        logger.debug("prompts are not shared: the model gives other vectors with a cache")
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError) as error:
        logger.debug("prompts are not shared: %s", one_line(error))
    return None


def _is_equal(shared: SharedPrompt, model: SentenceTransformer, task: str) -> bool:
    """Compare two texts, of which the second is padded: their vectors, and the output of every token."""
    prompts, own = shared.ids.expand(2, -1), shared.ids[:, :TRIED].expand(2, -1)
    mask = torch.ones_like(own)
    mask[1, own.shape[1] // 2 :] = 0
    whole_mask = torch.cat([torch.ones_like(prompts), mask], dim=1)
    plain = model({"input_ids": torch.cat([prompts, own], dim=1), "attention_mask": whole_mask}, task=task)
    ours = shared.features({"input_ids": own, "attention_mask": mask})
    is_token = whole_mask.bool()
    pairs = [(each["token_embeddings"][is_token], each["sentence_embedding"]) for each in (ours, plain)]
    return all(_is_close(one, other) for one, other in zip(*pairs, strict=True))


def _is_close(found: Tensor, expected: Tensor) -> bool:
    close = CLOSE.get(expected.dtype, 0.0)
    distance = (found.float() - expected.float()).norm(dim=-1)
    return bool((distance <= close * expected.float().norm(dim=-1)).all())  # of NaN nothing is close


def _backbone(model: SentenceTransformer) -> nn.Module:
    module: Any = model[0]
    return module.model.base_model if isinstance(module, BottleneckTransformer) else module.model


def _cache_name(model: SentenceTransformer) -> str | None:
    """Return the argument that gives the backbone its cache; None where it has none, or is not run plainly."""
    module: Any = model[0]
    rest = list(model.children())[1:]
    is_told_more = any(isinstance(each, Router) for each in rest) or any((model.module_kwargs or {}).values())
    if is_told_more or model._compiled_call_impl is not None:
        return None
    if isinstance(module, Transformer):
        plain = {"method": "forward", "method_output_name": "last_hidden_state"}
        ways = module.modality_config.values()
        if (
            module.backend != "torch"
            or module.transformer_task != "feature-extraction"
            or module.module_output_name != "token_embeddings"
            or any({name: way.get(name) for name in plain} != plain for way in ways)
            or getattr(module.config, "output_hidden_states", False)
        ):
            return None
    elif not isinstance(module, BottleneckTransformer):
        return None
    taken = inspect.signature(_backbone(model).forward).parameters
    return next((name for name in CACHE_NAMES if name in taken), None)
