"""A causal language model to start from: a directory, an id of the Hub, a GGUF file, or an adapter on one of these."""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from huggingface_hub import constants
from sentence_transformers.util import is_sentence_transformer_model, load_file_path
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations import is_deepspeed_zero3_enabled

from lbr_st.errors import InputError, one_line
from lbr_st.files import read_json
from lbr_st.model import gguf
from lbr_st.model.adapters import Adapter, check_adapter, find_adapter, merge_adapter
from lbr_st.model.quiet import quietly
from lbr_st.model.tokens import check_pads, check_rows, read_tokenizer
from lbr_st.model.weights import (
    REPORTING,
    check_before_reading,
    check_opened,
    check_tied,
    check_weight_files,
    say_which_are_read,
)

# What keeps a second name and place apart from the first: those of an adapter are not those of its base.
OF_ONE_PLACE = ("revision", "subfolder")

# What models are computed in. A configuration that says another type is of weights that are stored as no such numbers.
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class Kind(enum.Enum):
    """What a configuration of transformers is of."""

    LANGUAGE_MODEL = "a language model"
    ENCODER = "an encoder, which reads a text both ways"
    ENCODER_DECODER = "an encoder-decoder"
    IMAGES_AND_TEXT = "a model of images and text"
    IMAGES = "a model of images"
    SOUND = "a model of sound"
    SCORER = "a classifier or a reranker, whose head gives scores in the place of words"
    OTHER = "a model that generates no text"


NOT_OF_TEXT_ALONE = (Kind.IMAGES_AND_TEXT, Kind.IMAGES, Kind.SOUND)
# What is said of parts of a configuration, and of the first input of a model, of such kinds.
PARTS = {"vision": Kind.IMAGES_AND_TEXT, "audio": Kind.SOUND, "acoustics": Kind.SOUND, "code2wav": Kind.SOUND}
INPUTS = {"pixel": Kind.IMAGES, "input_values": Kind.SOUND, "input_features": Kind.SOUND}
# How the names of architectures end that have another head than that of a language model.
HEADS_OF_SCORES = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")


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
        InputError: If the model is quantized or reads more than text, its tokenizer is that of another, or a GGUF file
            or an adapter cannot be used.
    """
    if (adapter := find_adapter(name, **hub)) is not None and adapter.base != name:
        with _naming_the_base(adapter):
            base = read_backbone(adapter.base, **_of_base(hub))
        return _with_adapter(base, adapter)
    config = _read_own_config(name, **hub)
    if (file := gguf.gguf_file(name)) is not None:
        tokenizer, read_weights = gguf.read(file)
        return Backbone(tokenizer, config, read_weights)
    tokenizer = read_tokenizer(name, **hub)
    try:
        check_rows(tokenizer, getattr(config, "vocab_size", None))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    whole = Backbone(tokenizer, config, partial(read_language_model, name))
    return whole if adapter is None else _with_adapter(whole, adapter)


def read_language_model(name: str, **model_kwargs: Any) -> PreTrainedModel:
    """Read a language model that is whole.

    Args:
        name: Directory or id of the Hub.
        **model_kwargs: Arguments of ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        InputError: If tensors are missing, have another shape than the configuration says, are no numbers, or are two
            where the configuration says that they are one.
    """
    is_here = Path(name).is_dir()
    if is_here:
        _check_files(name, Path(name))
    with quietly(progress=True):
        opened: Any = AutoModelForCausalLM.from_pretrained(name, **model_kwargs, **REPORTING)
    model = check_opened(name, opened)
    check_tied(name, model)
    if is_here and getattr(model, "_hf_peft_config_loaded", False):  # then that was the report of an adapter
        check_before_reading(name, Path(name), empty_model(name, model.config))
    if not is_here:
        place = {key: model_kwargs[key] for key in ("revision", "token", "local_files_only") if key in model_kwargs}
        cache, subfolder = model_kwargs.get("cache_dir"), model_kwargs.get("subfolder") or ""
        file = load_file_path(name, "config.json", subfolder=subfolder, cache_folder=cache, **place)
        _check_files(name, Path(file).parent if file else Path(name))
    return model


def _check_files(name: str, folder: Path) -> None:
    try:
        check_weight_files(folder)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    say_which_are_read(name, folder)


def empty_model(name: str, config: PretrainedConfig) -> PreTrainedModel:
    """Return a language model without its weights, on the device ``meta``.

    Raises:
        InputError: If transformers makes none of the configuration.
    """
    try:
        with quietly(), torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except Exception as error:  # what a family makes of fields that contradict each other is not foreseeable
        said = f"{type(error).__name__}: {one_line(error)}"
        if isinstance(error, KeyError) and error.args and (field := _field_of(config.to_dict(), error.args[0])):
            said = f"it knows no {field} {error.args[0]!r}"
        raise InputError(f"{name}: transformers makes no model of its config.json ({said})") from error


def _field_of(values: Mapping[str, Any], value: Any) -> str | None:
    """Return the field of a configuration that has a value, or None."""
    for field, each in values.items():
        if each == value:
            return field
        if isinstance(each, Mapping) and (within := _field_of(each, value)):
            return within
    return None


def check_backbone(name: str) -> tuple[PretrainedConfig, PreTrainedTokenizerBase | None]:
    """Refuse a language model on this machine that could not be read, without reading its weights.

    Args:
        name: Directory, GGUF file, directory that holds one, or an adapter on one of these.

    Returns:
        Its configuration and its tokenizer, which is None of a GGUF file: to read that takes as long as its weights.

    Raises:
        InputError: As `read_backbone` and `read_language_model` do.
    """
    if gguf.gguf_file(name) is not None:
        return read_config(name), None
    tokenizer, config, _ = read_backbone(name)
    check_pads(tokenizer)
    adapter = find_adapter(name)
    base = name if adapter is None else adapter.base
    _check_generation(base)
    of_files = Path(base, "config.json").is_file() and gguf.gguf_file(base) is None
    if of_files and not is_deepspeed_zero3_enabled():  # under which there is no model without its weights
        empty = empty_model(name, config)
        check_before_reading(base, Path(base), empty)
        if adapter is not None:
            _grow(empty, tokenizer)
            check_adapter(adapter, empty)
    return config, tokenizer


def _check_generation(name: str) -> None:
    """Refuse settings of generation that no text could be generated by: after training, the model would not be saved.

    Raises:
        InputError: If the file is damaged, or says that a token is something else than a number.
    """
    file = Path(name, "generation_config.json")
    if not file.is_file():
        return
    remedy = "correct it, or take the file away"
    try:
        about = read_json(file)
        GenerationConfig.from_dict(about).validate()
    except Exception as error:  # what a value of another kind than meant does there is not foreseeable
        raise InputError(f"{name}: its {file.name} cannot be used: {one_line(error)}; {remedy}") from error
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = about.get(key)
        if not all(isinstance(each, int) for each in (value if isinstance(value, list) else [value or 0])):
            raise InputError(f"{name}: its {file.name} cannot be used: {key} is {value!r}, no number; {remedy}")


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
        said = one_line(error) if Path(adapter.base).exists() else of_the_hub(error)
        raise InputError(f"{adapter.name} is an adapter on {adapter.base}, which cannot be opened: {said}") from error


def of_the_hub(error: Exception) -> str:
    """Return what an error of transformers says of the Hub, in words for the command line."""
    if constants.is_offline_mode():
        return "the Hub is not asked for it, as HF_HUB_OFFLINE is set"
    said = one_line(error)
    if "couldn't connect" in said.lower():
        return "the Hub does not answer: is there a network?"
    return f"the Hub says: {said}"


def _of_base(hub: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in hub.items() if key not in OF_ONE_PLACE}


def _read_own_config(name: str, **hub: Any) -> PretrainedConfig:
    file = gguf.gguf_file(name)
    config = config_of_transformers(name, **hub) if file is None else gguf.read_config(file)
    _refuse_what_reads_both_ways(name, config)
    if config.get_text_config() is not config:
        raise InputError(
            f"{name} is of model type {config.model_type!r}, which reads more than text; "
            "start from its language model alone"
        )
    if (quantized := getattr(config, "quantization_config", None)) is not None:
        raise InputError(
            f"{name} is quantized by {_method(quantized)}, and such weights cannot be trained whole. Start from the "
            "model that it was made from; lbr learn or lbr align --lora-rank 16 --load-in-4bit trains that in little "
            "memory"
        )
    if config.dtype is not None and config.dtype not in DTYPES:
        raise InputError(
            f"{name}: its config.json says dtype {str(config.dtype).removeprefix('torch.')}, in which nothing is "
            "trained or computed here; start from the model in bfloat16 that it was made from"
        )
    return config


def config_of_transformers(name: str, **hub: Any) -> PretrainedConfig:
    """Read the configuration of any model of transformers.

    Raises:
        InputError: If it has a value that transformers does not take.
    """
    try:
        return AutoConfig.from_pretrained(name, **hub)
    except (OSError, ImportError):  # whoever asked says that it is not there
        raise
    except Exception as error:  # what a family makes of a field that it does not take is not foreseeable
        if unknown := re.search("has model type `(.*?)` but Transformers", str(error)):
            said = f"transformers {transformers.__version__} knows no model type {unknown[1]!r}; does a newer one?"
            raise InputError(f"{name}: {said}") from error
        if "trust_remote_code" in str(error) or "model_type" in str(error):
            raise
        said = one_line(str(error.args[0]) if isinstance(error, KeyError) and error.args else error)
        said = re.sub(r"^Class validation error for validator '\w+': (\w+: )?", "", said)
        raise InputError(f"{name}: its config.json cannot be used: {said}") from error


def is_scorer(config: PretrainedConfig) -> bool:
    """Tell whether a configuration is of a classifier or a reranker, of whatever family."""
    heads = getattr(config, "architectures", None) or [""]
    return str(heads[0]).endswith(HEADS_OF_SCORES)


def kind_of(config: PretrainedConfig) -> Kind:
    """Return what a configuration is of, by its family."""
    for part in getattr(config, "sub_configs", {}):
        if (kind := next((kind for word, kind in PARTS.items() if word in part), None)) is not None:
            return kind
    generates = getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    is_encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not generates and not config.is_encoder_decoder
    if is_encoder:
        return Kind.ENCODER
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not config.is_encoder_decoder:
        return Kind.SCORER if is_scorer(config) else Kind.LANGUAGE_MODEL
    return _kind_by_input(config) or (Kind.ENCODER_DECODER if config.is_encoder_decoder else Kind.OTHER)


def _kind_by_input(config: PretrainedConfig) -> Kind | None:
    """Return the kind of a model that reads no text, by the first input of its class; None for any other."""
    try:
        of_family: Any = MODEL_MAPPING[type(config)]
    except (KeyError, ImportError):  # some need a package to be looked at
        return None
    first = of_family[0] if isinstance(of_family, list | tuple) else of_family
    return next((kind for word, kind in INPUTS.items() if first.main_input_name.startswith(word)), None)


def _refuse_what_reads_both_ways(name: str, config: PretrainedConfig) -> None:
    """Refuse a model that is no causal language model, by its family, with what can be done with it."""
    if (kind := kind_of(config)) is Kind.LANGUAGE_MODEL:
        return
    remedy = f"SentenceTransformer({name!r}).save_pretrained(DIR) makes an embedding model of it for lbr align"
    if kind is Kind.ENCODER and is_sentence_transformer_model(name):
        remedy = f"lbr align --model {name} trains it as it is, an embedding model"
    elif kind is Kind.IMAGES_AND_TEXT:
        remedy = "start from the language model in it alone, the one that it was made from"
    elif kind is Kind.SCORER:
        remedy = "start from the language model that it was made from"
    elif kind in (Kind.ENCODER_DECODER, *NOT_OF_TEXT_ALONE):
        remedy = "take one of Qwen, Llama or Gemma for one"
    elif kind is Kind.OTHER:
        remedy = f"if it is an encoder of text, {remedy}"
    raise InputError(
        f"{name} is of model type {config.model_type!r}, {kind.value}: a causal language model is needed; {remedy}"
    )


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
        tokenizer = read_tokenizer(adapter.name, **adapter.hub)

    def read_weights(**model_kwargs: Any) -> PreTrainedModel:
        own = {
            key: value for key, value in model_kwargs.items() if adapter.base == adapter.name or key not in OF_ONE_PLACE
        }
        model: Any = base.read_weights(**own)
        _grow(model, tokenizer)
        return merge_adapter(adapter, model)

    return Backbone(tokenizer, base.config, read_weights)


def _grow(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a model rows for the tokens that its adapter was trained with."""
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
