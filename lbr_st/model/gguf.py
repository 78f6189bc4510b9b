"""A GGUF file of llama.cpp as a backbone: read by transformers, dequantized, checked, an ordinary model afterwards.

A GGUF holds weights, vocabulary and chat template in one file. What transformers makes of it is held against the file
here, as each of these goes wrong in silence: the way a text is split before its tokens are looked up, tensors that are
not in the file, and scaled positions.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from tokenizers import pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lbr_st.errors import InputError, one_line, require
from lbr_st.files import replacing_folder
from lbr_st.model.precision import evaluating
from lbr_st.model.quiet import quietly
from lbr_st.model.weights import REPORTING, check_opened, refuse_pointer

logger = logging.getLogger(__name__)

PART = re.compile(r"-\d{5}-of-\d{5}$")

# `tokenizer.ggml.pre` names how llama.cpp splits a text (llama-vocab.cpp). transformers knows those of Llama 3, Qwen,
# GPT-4o and Mistral; for every other name it splits as GPT-2 does, which is wrong for digits of these:
SINGLE_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
AS_GPT2 = {
    "default", "gpt-2", "phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "gigachat", "roberta-bpe", "mpt",
    "olmo", "jais", "trillion", "granite-docling", "exaone4", "mellum", "a.x-4.0",
}  # fmt: skip

# Of these llama.cpp puts the beginning of the text before it, and looks words up whole before it merges pieces, where
# the file says nothing: those of 2024 do not. transformers does neither.
AS_LLAMA3 = {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"}

# Spelled by every vocabulary: what it says of these must give them back.
PROBES = ("The patient is 42 years old.", "def f(x):\n    return x  # 1,000", "Größe, naïve, 東京, 3.14")

# GPT-2's alphabet, in which each character stands for a byte.
BYTES = {character: byte for byte, character in bytes_to_unicode().items()}

# Plain English of no domain, for the perplexity that is printed: a model that was read wrongly stands out by it.
PARAGRAPH = (
    "The old lighthouse stood at the end of the pier, where the river meets the sea. Every evening, just before dark, "
    "the keeper climbed the narrow stairs to the top and lit the lamp. Ships that came from the south could see its "
    "light from more than twenty miles away. When the weather was bad, he stayed awake all night and listened to the "
    "wind, and in the morning he walked down to the village to buy bread and to hear the news."
)


class Header(NamedTuple):
    """What a GGUF file says of itself.

    Attributes:
        architecture: Its family, by llama.cpp's name.
        name: Name of the model; empty where it has none.
        splits_as: Name of how a text is split before its tokens are looked up; empty for SentencePiece.
        tokens: Spellings of the vocabulary, by id.
        kinds: Kinds of its tensors, as in ``{"Q4_1", "F32"}``.
        begins_texts: Whether it says that texts begin with a token of their own; None where it says nothing.
        scales_positions: Whether its positions are scaled, for texts longer than those of pretraining.
        rotated: Numbers of a query that rotary positions turn; 0 where it does not say.
        has_biases: Whether its layers have biases.
    """

    architecture: str
    name: str
    splits_as: str
    tokens: list[str]
    kinds: set[str]
    begins_texts: bool | None
    scales_positions: bool
    rotated: int
    has_biases: bool


def gguf_file(name: str | Path) -> Path | None:
    """Return the GGUF file that a model's name stands for; None where it stands for another kind of model.

    Args:
        name: A ``.gguf`` file, or a directory that holds one and no ``config.json``; anything else gives None.

    Raises:
        InputError: If there is no such file, or the directory holds several.
    """
    path = Path(name)
    if path.suffix.lower() == ".gguf" and not path.is_dir():
        if not path.is_file():
            raise InputError(f"{name}: no such file")
        return path
    if not path.is_dir() or (path / "config.json").is_file() or (path / "modules.json").is_file():
        return None
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        raise InputError(f"{name} holds {len(files)} GGUF files; name one of them, as in {files[0]}")
    return files[0] if files else None


def read_header(file: Path) -> Header:
    """Read what a GGUF file says of itself, without its weights.

    Raises:
        InputError: If it is a part of a split model, is not whole, or the package ``gguf`` is not installed.
    """
    about = file.stat()
    return _read_header(file, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=1)
def _read_header(file: Path, *version: int) -> Header:
    """Read it once, as it takes seconds, for as long as the file stays as it is."""
    reader_of = require("gguf", f"{file.name}, a GGUF file,").GGUFReader
    if PART.search(file.stem):
        raise InputError(
            f"{file} is one part of a split model; join its parts with llama.cpp's `gguf-split --merge`, and name "
            "the whole file"
        )
    refuse_pointer(file)
    try:
        reader = reader_of(file)
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is no whole GGUF file: {one_line(error)}") from error
    found = {name: field for name, field in reader.fields.items() if not name.startswith("tokenizer.ggml.merges")}

    def value(name: str, otherwise: Any) -> Any:
        return found[name].contents() if name in found else otherwise

    architecture = value("general.architecture", "")
    if value("split.count", 1) > 1:
        raise InputError(f"{file} is one of {value('split.count', 1)} parts; join them with `gguf-split --merge`")
    if "tokenizer.ggml.tokens" not in found:
        raise InputError(f"{file} has no vocabulary: it is not a language model")
    tensors = {tensor.name for tensor in reader.tensors}
    return Header(
        architecture=architecture,
        name=value("general.name", ""),
        splits_as=value("tokenizer.ggml.pre", "default") if value("tokenizer.ggml.model", "") == "gpt2" else "",
        tokens=value("tokenizer.ggml.tokens", []),
        kinds={tensor.tensor_type.name for tensor in reader.tensors},
        begins_texts=value("tokenizer.ggml.add_bos_token", None),
        scales_positions="rope_freqs.weight" in tensors
        or any(name.startswith("rope_factors_") for name in tensors)
        or value(f"{architecture}.rope.scaling.type", "none") != "none"
        or value(f"{architecture}.rope.scaling.attn_factor", 1.0) != 1.0,
        rotated=value(f"{architecture}.rope.dimension_count", 0),
        has_biases=any(name.endswith(".bias") for name in tensors),
    )


def read(file: Path) -> tuple[PreTrainedTokenizerBase, Callable[..., PreTrainedModel]]:
    """Read the tokenizer of a GGUF file, with its chat template.

    Args:
        file: The file.

    Returns:
        The tokenizer, and a function that reads the weights: it takes arguments of
        ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        InputError: If the file cannot be used, see `read_header`, or transformers cannot read its architecture.
    """
    header = read_header(file)
    with _refusing_what_transformers_cannot_read(file, header.architecture):
        begins = {"add_bos_token": True} if header.splits_as in AS_LLAMA3 and header.begins_texts is None else {}
        tokenizer = AutoTokenizer.from_pretrained(**_named(file), **begins)
    split_as_the_file_says(tokenizer, header)
    check_spelling(tokenizer, header, file)
    return tokenizer, partial(_read_weights, file, header, tokenizer)


def read_config(file: Path) -> PretrainedConfig:
    """Read the configuration of a GGUF file.

    Raises:
        InputError: If the file cannot be used, see `read_header`, or transformers cannot read its architecture.
    """
    about = file.stat()
    return copy.deepcopy(_read_config(file, about.st_mtime_ns, about.st_size))


@functools.lru_cache(maxsize=1)
def _read_config(file: Path, *version: int) -> PretrainedConfig:
    """Read it once, as transformers reads the whole vocabulary for it, for as long as the file stays as it is."""
    header = read_header(file)
    with _refusing_what_transformers_cannot_read(file, header.architecture):
        return AutoConfig.from_pretrained(**_named(file))


def _named(file: Path) -> dict[str, str]:
    return {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}


@contextlib.contextmanager
def _refusing_what_transformers_cannot_read(file: Path, architecture: str) -> Iterator[None]:
    try:
        with quietly():
            yield
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise InputError(
            f"{file}: transformers {transformers.__version__} cannot read GGUF files of the architecture "
            f"{architecture!r}: {one_line(error)}"
        ) from error


def split_as_the_file_says(tokenizer: PreTrainedTokenizerBase, header: Header) -> None:
    """Let a tokenizer split texts as llama.cpp does for this file, where transformers does not."""
    if header.splits_as in AS_LLAMA3:
        tokenizer.backend_tokenizer.model.ignore_merges = True
    if header.splits_as in SINGLE_DIGITS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif header.splits_as and header.splits_as not in AS_GPT2 and not _splits_by_regex(tokenizer):
        logger.warning(
            "%s splits texts as %r, which transformers %s does not know: some texts may get other tokens than in "
            "llama.cpp; start from the original model if there is one",
            header.name or "the GGUF file",
            header.splits_as,
            transformers.__version__,
        )


def _splits_by_regex(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether transformers gave a tokenizer the regular expression of its family, and not GPT-2's."""
    return "Split(" in str(tokenizer.backend_tokenizer.pre_tokenizer)


def check_spelling(tokenizer: PreTrainedTokenizerBase, header: Header, file: Path) -> None:
    """Refuse a tokenizer whose ids do not stand for the texts that the file's own vocabulary gives them.

    Raises:
        InputError: With the text.
    """
    for text in PROBES:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        spelled = spell([header.tokens[id_] for id_ in ids], byte_level=bool(header.splits_as))
        if spelled.strip() != text:
            raise InputError(f"{file}: its tokenizer was read wrongly, the ids of {text!r} spell {spelled!r}")


def spell(tokens: list[str], byte_level: bool) -> str:
    """Return the text that tokens of a GGUF vocabulary spell.

    Args:
        tokens: Spellings, as the file has them.
        byte_level: Whether each character stands for a byte, as in GPT-2; else as in SentencePiece.
    """
    if byte_level:
        return bytes(BYTES.get(character, ord("?")) for character in "".join(tokens)).decode("utf-8", "replace")
    pieces = (
        bytes([int(token[3:5], 16)]) if re.fullmatch(r"<0x[0-9A-F]{2}>", token) else token.replace("▁", " ").encode()
        for token in tokens
    )
    return b"".join(pieces).decode("utf-8", "replace")


def _read_weights(
    file: Path, header: Header, tokenizer: PreTrainedTokenizerBase, **model_kwargs: Any
) -> PreTrainedModel:
    """Read the weights of a GGUF file as dense tensors, and say how well the model reads.

    Raises:
        InputError: If the file lacks tensors, the model computes no numbers, or other quantization is asked for.
    """
    if "quantization_config" in model_kwargs:
        raise InputError(f"{file}: the weights of a GGUF file are dequantized, they cannot be opened in 4 bits")
    if hasattr(transformers, "GgufConfig"):  # unless told, transformers takes it for quantized, and will not save it
        model_kwargs["quantization_config"] = transformers.GgufConfig(dequantize=True)
    require("accelerate", "a GGUF file")
    with quietly():
        opened: Any = AutoModelForCausalLM.from_pretrained(**_named(file), **model_kwargs, **REPORTING)
        model = check_opened(str(file), opened)
    if header.has_biases and not any(name.endswith("bias") for name in model.state_dict()):
        raise InputError(
            f"{file}: its layers have biases, which transformers leaves out of a {header.architecture}: it would be "
            "another model; open the safetensors that the file was made of"
        )
    check_rotated(file, header, model.config)
    if header.scales_positions and (model.config.rope_parameters or {}).get("rope_type", "default") == "default":
        logger.warning(
            "%s scales its positions, which transformers does not read from a GGUF file: the model may read worse "
            "than the original",
            file.name,
        )
    found = perplexity(model, tokenizer)
    if not math.isfinite(found):
        raise InputError(f"{file}: the model computes no finite numbers")
    kinds = ", ".join(sorted(header.kinds - {"F32", "F16", "BF16"})) or "no"
    logger.info(
        "%s: %s, %.1f M parameters, dequantized from %s blocks; perplexity %.1f on a paragraph of plain English%s",
        file.name,
        header.name or header.architecture,
        model.num_parameters() / 1e6,
        kinds,
        found,
        "" if found < 200 else ", which it does not read",
    )
    return model


def check_rotated(file: Path, header: Header, config: PretrainedConfig) -> None:
    """Refuse a model whose rotary positions turn more of a query than the file says, as of Phi-4-mini.

    Raises:
        InputError: With both.
    """
    settings = getattr(config, "rope_parameters", None) or {}
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    turned = int(width * settings.get("partial_rotary_factor", 1.0))
    if "rope_type" in settings and 0 < header.rotated < turned:  # those of several kinds of layers have other widths
        raise InputError(
            f"{file}: its positions turn {header.rotated} of {width} numbers of a query, and transformers' "
            f"{header.architecture} {turned}: it would be another model; open the safetensors that the file was made of"
        )


@torch.inference_mode()
def perplexity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> float:
    """Return the perplexity of `PARAGRAPH`, per token; the first one has nothing before it and is not counted."""
    ids = tokenizer(PARAGRAPH, return_tensors="pt")["input_ids"].to(model.device)
    with evaluating(model):
        return math.exp(min(float(model(input_ids=ids, labels=ids).loss), 700.0))


def write_directory(file: Path, folder: Path) -> None:
    """Write a GGUF file as an ordinary model directory, in float32.

    Args:
        file: The file.
        folder: Directory to write; it is there whole, or not at all.

    Raises:
        InputError: If the file cannot be used.
    """
    tokenizer, read_weights = read(file)
    model = read_weights(dtype=torch.float32)
    with replacing_folder(folder) as unfinished, quietly():
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
