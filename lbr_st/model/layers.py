"""The first layers of a language model, between its own embeddings and its own final norm and head."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from lbr_st.errors import InputError

# Families whose first layers are a model of the same family, and where the tests show it. In others a layer may take
# from one that is far from it, or the configuration name layers by their number.
FAMILIES = {
    "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3",
}  # fmt: skip

# What a configuration says of each layer, one value a layer.
OF_EACH_LAYER = ("layer_types", "no_rope_layers")


def check_layers(number: int, config: PretrainedConfig, name: str, flag: str = "--layers ") -> None:
    """Refuse a number of layers that a language model cannot be cut to.

    Args:
        number: Number of layers to keep.
        config: Configuration of the model.
        name: What the model is called in messages.
        flag: What the number was given with, for the message.

    Raises:
        InputError: If it is not from 1 to below the model's own number, or the family is unknown.
    """
    if config.model_type not in FAMILIES:
        raise InputError(
            f"{flag}{number}: {name} is of model type {config.model_type!r}, of which nobody has looked whether its "
            f"first layers are a model; it is known of {', '.join(sorted(FAMILIES))}"
        )
    has = config.num_hidden_layers
    if not 1 <= number < has:
        raise InputError(f"{flag}{number}: {name} has {has} layers; a number from 1 to {has - 1} leaves some of them")


def keep_layers(model: PreTrainedModel, number: int) -> None:
    """Keep the first layers of a language model, in place; its configuration says how many there are.

    Args:
        model: Language model of one of `FAMILIES`, with its head or without.
        number: Number of layers to keep, see `check_layers`.
    """
    config: Any = model.config
    body: Any = model.base_model
    has = config.num_hidden_layers
    [name] = [name for name, each in body.named_children() if isinstance(each, nn.ModuleList) and len(each) == has]
    setattr(body, name, getattr(body, name)[:number])
    # The list of each layer first: some configurations compare its length with the number whenever that is set.
    shorter = {key: values[:number] for key in OF_EACH_LAYER if (values := getattr(config, key, None)) is not None}
    config.num_hidden_layers = number
    for key, values in shorter.items():
        setattr(config, key, values)
    if getattr(config, "max_window_layers", None) is not None:  # of Qwen: layers with full attention
        config.max_window_layers = min(config.max_window_layers, number)
