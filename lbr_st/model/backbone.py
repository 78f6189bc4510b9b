"""A causal language model to start from: a directory, an id of the Hub, a GGUF file, or an adapter on one of these."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from sentence_transformers.util import load_file_path
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lbr_st.errors import InputError, one_line
from lbr_st.model import gguf
from lbr_st.model.adapters import Adapter, find_adapter, merge_adapter

# What keeps a second name and place apart from the first: those of an adapter are not those of its base.
OF_ONE_PLACE = ("revision", "subfolder")


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
        name: Directory, id of the Hub, GGUF file or directory that holds one, or an adapter on one of these.
        **hub: Arguments of the Hub: ``revision``, ``token``, ...

    Raises:
        InputError: If the model is quantized or reads more than text, or a GGUF file or an adapter cannot be used.
    """
    if (adapter := find_adapter(name, **hub)) is not None and adapter.base != name:
        with _naming_the_base(adapter):
            base = read_backbone(adapter.base, **_of_base(hub))
        return _with_adapter(base, adapter)
    config = _read_own_config(name, **hub)
    if (file := gguf.gguf_file(name)) is not None:
        tokenizer, read_weights = gguf.read(file)
        return Backbone(tokenizer, config, read_weights)
    tokenizer = AutoTokenizer.from_pretrained(name, **hub)
    whole = Backbone(tokenizer, config, partial(AutoModelForCausalLM.from_pretrained, name))
    return whole if adapter is None else _with_adapter(whole, adapter)


def read_config(name: str, **hub: Any) -> PretrainedConfig:
    """Read the configuration of a language model, see `read_backbone`."""
    adapter = find_adapter(name, **hub)
    if adapter is None or adapter.base == name:
        return _read_own_config(name, **hub)
    with _naming_the_base(adapter):
        return read_config(adapter.base, **_of_base(hub))


@contextlib.contextmanager
def _naming_the_base(adapter: Adapter) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{adapter.name} is an adapter on {adapter.base}, which cannot be opened: {one_line(error)}"
        ) from error


def _of_base(hub: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in hub.items() if key not in OF_ONE_PLACE}


def _read_own_config(name: str, **hub: Any) -> PretrainedConfig:
    file = gguf.gguf_file(name)
    config = AutoConfig.from_pretrained(name, **hub) if file is None else gguf.read_config(file)
    if config.get_text_config() is not config:
        raise InputError(
            f"{name} is of model type {config.model_type!r}, which reads more than text; "
            "start from its language model alone"
        )
    if quantized := getattr(config, "quantization_config", None):
        raise InputError(
            f"{name} is quantized by {_method(quantized)}, and such weights cannot be trained whole. Start from the "
            "model that it was made from; to train that in little memory, add --lora-rank 16 --load-in-4bit"
        )
    return config


def _method(quantized: Any) -> str:
    """Return the name of a kind of quantization with its bits, as in ``bitsandbytes (4 bits)``."""
    about = quantized if isinstance(quantized, dict) else quantized.to_dict()
    name = about.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in about else "a method it does not name")
    bits = {"load_in_4bit": 4, "load_in_8bit": 8}
    number = next((number for key, number in bits.items() if about.get(key)), about.get("bits"))
    return f"{getattr(name, 'value', name)} ({number} bits)" if number else f"{getattr(name, 'value', name)}"


def _with_adapter(base: Backbone, adapter: Adapter) -> Backbone:
    """Return a backbone with an adapter on it, whose tokenizer counts where it has one."""
    tokenizer = base.tokenizer
    hub = {"cache_folder" if key == "cache_dir" else key: value for key, value in adapter.hub.items()}
    if load_file_path(adapter.name, "tokenizer_config.json", **hub):
        tokenizer = AutoTokenizer.from_pretrained(adapter.name, **adapter.hub)

    def read_weights(**model_kwargs: Any) -> PreTrainedModel:
        own = {
            key: value for key, value in model_kwargs.items() if adapter.base == adapter.name or key not in OF_ONE_PLACE
        }
        model: Any = base.read_weights(**own)
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:  # tokens that it was trained with
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        return merge_adapter(adapter, model)

    return Backbone(tokenizer, base.config, read_weights)
