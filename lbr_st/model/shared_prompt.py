"""A prompt computed once: what a causal model keeps of the tokens that all texts begin with, for all of them.

In a causal model the keys and values of a token depend on nothing that comes after it. Those of a prompt are the same
for every text: they are computed once, in one row, and every text attends to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from lbr_st.model.plain_runs import argument_of, finished, if_equal, plain_backbone

SHORTEST = 4  # tokens of a prompt from which on it pays
TRIED = 16  # tokens of the texts that it is tried with
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
        backbone: What turns its tokens into states.
        ids: Tokens of the prompt.
        cache_name: Argument that gives the backbone its cache.

    Attributes:
        tokens: Tokens of the prompt, for who compares texts with them.
    """

    def __init__(self, model: SentenceTransformer, backbone: nn.Module, ids: Sequence[int], cache_name: str) -> None:
        self.model, self.backbone, self.cache_name = model, backbone, cache_name
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
        whole = {
            "input_ids": torch.cat([self.ids.expand(rows, -1), ids], dim=1),
            "attention_mask": whole_mask,
            "token_embeddings": torch.cat([self.hidden.expand(rows, -1, -1), hidden], dim=1),
        }
        return finished(self.model, features | whole)

    def _run(self, ids: Tensor, mask: Tensor, cache: Cache) -> Tensor:
        arguments = {self.cache_name: cache}
        return self.backbone(input_ids=ids, attention_mask=mask, use_cache=True, **arguments).last_hidden_state


def share_prompt(model: SentenceTransformer, ids: Sequence[int]) -> SharedPrompt | None:
    """Compute the tokens that texts begin with once for all of them, where the model can.

    Whether it can is tried on two rows of tokens, of which the second is padded: a model whose tokens see what comes
    after them, or that keeps no keys and values, gives something else than its plain pass, or fails.

    Args:
        model: Any sentence-transformers model, in evaluation mode.
        ids: The tokens.

    Returns:
        What was computed; None where the plain pass must do.
    """
    backbone = plain_backbone(model)
    cache_name = None if backbone is None else argument_of(backbone, *CACHE_NAMES)
    if len(ids) < SHORTEST or backbone is None or cache_name is None:
        return None

    def make() -> tuple[SharedPrompt, dict[str, Any], dict[str, Any]]:
        shared = SharedPrompt(model, backbone, ids, cache_name)
        prompts, own = shared.ids.expand(2, -1), shared.ids[:, :TRIED].expand(2, -1)
        mask = torch.ones_like(own)
        mask[1, own.shape[1] // 2 :] = 0
        whole_mask = torch.cat([torch.ones_like(prompts), mask], dim=1)
        tokens = {"input_ids": torch.cat([prompts, own], dim=1), "attention_mask": whole_mask}
        return shared, shared.features({"input_ids": own, "attention_mask": mask}), tokens

    return if_equal(model, "prompts are not shared", make)
