"""A causal language model to start from: a directory, an id of the Hub, or a GGUF file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lbr_st.errors import InputError
from lbr_st.model import gguf


class Backbone(NamedTuple):
    """A language model before its weights are read, so that it can be refused before gigabytes are.

    Attributes:
        tokenizer: Its tokenizer.
        config: Its configuration.
        read_weights: Function that returns the model; it takes arguments of ``AutoModelForCausalLM.from_pretrained``.
    """

    tokenizer: PreTrainedTokenizerBase
    config: PretrainedConfig
    read_weights: Callable[..., PreTrainedModel]


def read_backbone(name: str, **hub: Any) -> Backbone:
    """Read tokenizer and configuration of a language model.

    Args:
        name: Directory, id of the Hub, GGUF file, or directory that holds one.
        **hub: Arguments of the Hub: ``revision``, ``token``, ...

    Raises:
        InputError: If the model reads more than text, or a GGUF file cannot be used.
    """
    config = read_config(name, **hub)
    if (file := gguf.gguf_file(name)) is not None:
        tokenizer, read_weights = gguf.read(file)
        return Backbone(tokenizer, config, read_weights)
    tokenizer = AutoTokenizer.from_pretrained(name, **hub)
    return Backbone(tokenizer, config, partial(AutoModelForCausalLM.from_pretrained, name))


def read_config(name: str, **hub: Any) -> PretrainedConfig:
    """Read the configuration of a language model, see `read_backbone`."""
    file = gguf.gguf_file(name)
    config = AutoConfig.from_pretrained(name, **hub) if file is None else gguf.read_config(file)
    if config.get_text_config() is not config:
        raise InputError(
            f"{name} is of model type {config.model_type!r}, which reads more than text; "
            "start from its language model alone"
        )
    return config
