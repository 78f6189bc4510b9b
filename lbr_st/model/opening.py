"""Whatever a user names as a model, opened; or one line that says why it cannot be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import is_sentence_transformer_model
from transformers import AutoModelForCausalLM

from lbr_st.errors import InputError, one_line
from lbr_st.model.backbone import read_config
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module
from lbr_st.model.contract import NATIVE_MODULE
from lbr_st.model.gguf import gguf_file
from lbr_st.model.quiet import quietly
from lbr_st.model.saving import from_backbone, load

# Longest input of a model that is trained from a backbone, in tokens, unless told otherwise.
DEFAULT_MAX_LENGTH = 512


def check_model_exists(name: str, flag: str = "--model") -> None:
    """Refuse a local path that cannot be a model, before anything slow is tried with it.

    Args:
        name: Directory or Hub id.
        flag: Flag it was given with, for the message.

    Raises:
        InputError: If it is a file that is no GGUF, a directory without ``config.json``, ``modules.json`` or one GGUF
            file, or does not exist.
    """
    path = Path(name)
    if gguf_file(name) is not None:
        return
    if path.is_dir():
        if not (path / "config.json").is_file() and not (path / "modules.json").is_file():
            raise _not_a_model(name, flag, "the directory has no config.json")
    elif path.is_file() or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise _not_a_model(name, flag, "no such directory")


def count_parameters(name: str) -> int:
    """Return the number of parameters of a language model, from its configuration: no weights are read.

    Args:
        name: Directory, Hub id, GGUF file, or directory that holds one.

    Raises:
        InputError: If it is no language model, or reads more than text.
    """
    check_model_exists(name)
    with _refusing_what_is_no_model(name), quietly(), torch.device("meta"):
        return AutoModelForCausalLM.from_config(read_config(name)).num_parameters()


def open_model(
    name: str,
    *,
    num_bottleneck_tokens: int | None = None,
    compression_ratio: float | None = None,
    max_seq_length: int | None = None,
    **model_kwargs: Any,
) -> SentenceTransformer:
    """Open a model to train: one saved by this package with its bottleneck tokens, or a backbone to start from.

    Weights are opened in float32, in which they are trained, unless ``model_kwargs`` say otherwise.

    Args:
        name: Directory, Hub id, GGUF file, or directory that holds one.
        num_bottleneck_tokens: Number of bottleneck tokens of a model that starts from a backbone; of a saved one, the
            number it must have.
        compression_ratio: The same for the tokens of text to a bottleneck token.
        max_seq_length: Longest input in tokens; default is that of the saved model, or `DEFAULT_MAX_LENGTH`.
        **model_kwargs: Arguments of ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        InputError: If it is no model, or a saved one has other bottleneck tokens than those asked for.
    """
    model_kwargs = {"dtype": torch.float32} | model_kwargs
    check_model_exists(name)
    with _refusing_what_is_no_model(name):
        if gguf_file(name) is not None or not BottleneckTransformer.load_config(name):
            return from_backbone(
                name,
                num_bottleneck_tokens=num_bottleneck_tokens,
                compression_ratio=compression_ratio,
                max_seq_length=DEFAULT_MAX_LENGTH if max_seq_length is None else max_seq_length,
                **model_kwargs,
            )
        model = load(name, model_kwargs=model_kwargs)
    module = bottleneck_module(model)
    for flag, asked_for, has in (
        ("--bottleneck-tokens", num_bottleneck_tokens, module.num_bottleneck_tokens),
        ("--compression-ratio", compression_ratio, module.compression_ratio),
    ):
        if asked_for not in (None, has):
            raise InputError(f"--model {name} has {flag} {has}; it cannot be opened with {flag} {asked_for}")
    if max_seq_length is not None:
        model.max_seq_length = max_seq_length
    return model


def open_sentence_transformer(name: str, flag: str = "--model", **kwargs: Any) -> SentenceTransformer:
    """Open any sentence-transformers model as everyone does; one in our native layout with our own loader.

    Args:
        name: Directory or Hub id.
        flag: Flag it was given with, for the message.
        **kwargs: Arguments of ``SentenceTransformer``, for a model that is not in our native layout.

    Raises:
        InputError: If it is not an embedding model.
    """
    check_model_exists(name, flag)
    if gguf_file(name) is not None:
        raise InputError(f"{flag} {name} is a language model, not an embedding model: lbr learn and lbr align make one")
    modules = Path(name, "modules.json")
    if Path(name).is_dir() and not modules.is_file():
        raise InputError(f"{flag} {name} is a language model, not an embedding model: it has no modules.json")
    with _refusing_what_is_no_model(name, flag):
        if modules.is_file() and f'"{NATIVE_MODULE}"' in modules.read_text(encoding="utf-8"):
            return load(name)
        return SentenceTransformer(name, **kwargs)


def open_with_language_model(name: str) -> SentenceTransformer:
    """Open a model of this package, of either layout, with its whole language model; any other as everyone does.

    Raises:
        InputError: If it is not an embedding model.
    """
    check_model_exists(name)
    with _refusing_what_is_no_model(name):
        is_ours = gguf_file(name) is None and BottleneckTransformer.load_config(name)
        return load(name) if is_ours else open_sentence_transformer(name)


def is_other_embedding_model(name: str) -> bool:
    """Tell whether a directory or Hub id holds a sentence-transformers model that was not saved by this package."""
    return (
        gguf_file(name) is None and is_sentence_transformer_model(name) and not BottleneckTransformer.load_config(name)
    )


def _not_a_model(name: str, flag: str, reason: str) -> InputError:
    return InputError(f"{flag} {name} is not a model: {reason}")


@contextlib.contextmanager
def _refusing_what_is_no_model(name: str, flag: str = "--model") -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_a_model(name, flag, one_line(error)) from error
