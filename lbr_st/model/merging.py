"""One model out of several of one architecture: the weighted average of their weights.

What is averaged gives up a part of what training changed, and of what training cost elsewhere (model soups, arXiv
2203.05482; a start and what it became, arXiv 2109.01903).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch import Tensor, nn
from tqdm.auto import tqdm

from lbr_st.errors import InputError, shortened
from lbr_st.files import read_json
from lbr_st.model.adapters import find_adapter
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.model.contract import fingerprint
from lbr_st.model.named import check_embedder_exists, check_is_found, has_bottleneck_tokens, is_other_embedding_model
from lbr_st.model.opening import open_model, open_sentence_transformer
from lbr_st.model.quiet import quietly

logger = logging.getLogger(__name__)

FLAG = "merge:"  # how a message begins that names one of the models
MOST_SHOWN = 80  # characters of a value that differs

# Fields of a configuration that say nothing of what the weights mean; those that only one model has do not either.
# Transformers' trainer writes the special ids of the tokenizer there, which is compared itself.
NOT_ARCHITECTURE = {
    "architectures", "bos_token_id", "dtype", "eos_token_id", "is_causal", "matryoshka_dimensions", "pad_token_id",
    "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip

# Fields of a configuration that say of what size the weights are, all but the vocabulary, which tokens are added to.
SIZES = ("model_type", "hidden_size", "num_hidden_layers", "intermediate_size")


def merge(models: Sequence[str], weights: Sequence[float]) -> SentenceTransformer:
    """Average the weights of models, parameter by parameter, in float32.

    All that is no weight is that of the last model: its tokenizer, its prompts, its longest text. Two models are held
    in memory at a time, whatever their number.

    The start may be a plain language model where the end is a model of this package. The rows of the bottleneck
    tokens are then those of the end, whatever its share: the start has none that were trained. All other rows of the
    vocabulary are averaged, spare ones among them.

    Args:
        models: Directories or ids of the Hub, at least two: of this package, in either layout; other
            sentence-transformers models; or a language model and one model of this package.
        weights: Share of each; they sum to 1.

    Returns:
        The merged model in float32, in evaluation mode. One of this package says in its history what it was merged
        from; `lbr_st.save` writes it.

    Raises:
        InputError: If a model cannot be opened, the shares are none, or the models are not of one kind: with what
            differs.
    """
    check_mergeable(models)
    shares = check_shares(models, weights)
    plain = {name for name in models if is_plain(name)}
    main = max(number for number, name in enumerate(models) if name not in plain)
    history: list[list[dict[str, Any]]] = [[] for _ in models]
    with torch.no_grad(), tqdm(total=len(models), desc="Merging", unit="model") as progress:
        merged = _open(models[main])
        module: Any = merged[0]
        parameters = dict(merged.named_parameters())
        kept = _bottleneck_rows(module) if plain else []
        for parameter in parameters.values():
            parameter.mul_(shares[main])
        progress.update()
        for number, name in enumerate(models):
            if number == main:
                continue
            other = _open(name, like=module if name in plain else None)
            if name in plain:
                other.prompts = merged.prompts  # it has none of its own
            _refuse_unlike(other, merged, name, models[main])
            for key, theirs in other.named_parameters():
                parameters[key].add_(theirs.to(parameters[key].device), alpha=shares[number])
            if name not in plain:
                _keep_common_dimensions(merged, other)
            history[number] = getattr(other[0], "history", [])
            del other, theirs  # before the next one is opened
            progress.update()
        for parameter, rows in kept:
            parameter[module.bottleneck_token_ids] = rows
    if isinstance(module, BottleneckTransformer):
        history[main] = module.history
        steps = [step for of_one in history for step in of_one]
        distinct = [step for n, step in enumerate(steps) if step not in steps[:n]]
        module.history = [*distinct, _step_of_history(models, shares)]
    return merged.eval()


def _keep_common_dimensions(merged: SentenceTransformer, other: SentenceTransformer) -> None:
    """Leave to a merged model those first dimensions that the other one was trained for, too."""
    config: Any = getattr(merged.transformers_model, "config", None)
    others: Any = getattr(other.transformers_model, "config", None)
    if (trained := getattr(config, "matryoshka_dimensions", None)) is None:
        return
    common = [each for each in trained if each in (getattr(others, "matryoshka_dimensions", None) or [])]
    if common == trained:
        return
    logger.warning(
        "of the dimensions %s not all are trained in both; those that are left: %s", trained, common or "none"
    )
    if common:
        config.matryoshka_dimensions = common
    else:
        del config.matryoshka_dimensions


def check_mergeable(models: Sequence[str]) -> None:
    """Refuse models that cannot be merged by what they are, before weights are read.

    Raises:
        InputError: If there are fewer than two, one does not exist, or none has an embedding to merge into.
    """
    if isinstance(models, str) or len(models) < 2:
        raise InputError("merge: two models are needed at least, a start and an end for one")
    for name in models:
        check_is_found(name, FLAG)
        if not is_plain(name) and find_adapter(name) is None:
            check_embedder_exists(name, FLAG)
    plain = [name for name in models if is_plain(name)]
    if len(plain) == len(models):
        raise InputError(f"merge: {plain[0]} and {plain[1]} are language models, and none of them embeds texts")
    if plain and (len(models) > 2 or any(is_other_embedding_model(name, FLAG) for name in models)):
        raise InputError(
            f"merge: {plain[0]} is a language model: it can be merged with one model of lbr-st that was made from it"
        )
    main = next(name for name in reversed(models) if name not in plain)
    for name in models:
        _refuse_unlike_files(name, main)


def check_shares(models: Sequence[str], weights: Sequence[float]) -> list[float]:
    """Return the shares of models.

    Raises:
        InputError: If there is not one for each, from 0 to 1, or they do not sum to 1.
    """
    if len(weights) != len(models):
        raise InputError(f"merge: {len(models)} models need as many weights, got {len(weights)}")
    if not all(0 <= weight <= 1 for weight in weights) or not math.isclose(sum(weights), 1, abs_tol=1e-6):
        shown = ", ".join(f"{weight:g}" for weight in weights)
        raise InputError(f"merge: weights must be from 0 to 1 and sum to 1, got {shown}")
    return [float(weight) for weight in weights]


def is_plain(name: str) -> bool:
    """Tell whether a name stands for a language model that has no embedding."""
    return not is_other_embedding_model(name, FLAG) and not has_bottleneck_tokens(name, FLAG)


def _open(name: str, like: BottleneckTransformer | None = None) -> SentenceTransformer:
    """Open a model in float32; a plain language model with tokens as another one has them."""
    with quietly():
        if is_other_embedding_model(name, FLAG):
            return open_sentence_transformer(name, FLAG, model_kwargs={"dtype": torch.float32}).float()
        if like is None:
            return open_model(name, flag=FLAG)
        return open_model(
            name,
            flag=FLAG,
            num_bottleneck_tokens=like.num_bottleneck_tokens,
            compression_ratio=like.compression_ratio,
            nested=like.nested,
            max_seq_length=like.max_seq_length,
        )


def _bottleneck_rows(module: BottleneckTransformer) -> list[tuple[nn.Parameter, Tensor]]:
    """Return the embeddings and the head, once where they are tied, with a copy of their rows of bottleneck tokens."""
    layers: list[Any] = [module.model.get_input_embeddings(), module.model.get_output_embeddings()]
    weights = {id(layer.weight): layer.weight for layer in layers}
    return [(weight, weight[module.bottleneck_token_ids].clone()) for weight in weights.values()]


def _refuse_unlike(one: SentenceTransformer, other: SentenceTransformer, name: str, other_name: str) -> None:
    """Refuse to merge models whose weights do not mean the same.

    Raises:
        InputError: With the first thing that differs.
    """
    here, there = _described(one), _described(other)
    unlike = f"merge: {name} is not like {other_name} in"
    for what, value in here.items():
        if what in there and value != there[what]:
            raise _unlike(name, other_name, what, value, there[what])
    for kind, ours, theirs in (
        ("weight", dict(one.named_parameters()), dict(other.named_parameters())),
        ("buffer", dict(one.named_buffers()), dict(other.named_buffers())),
    ):
        if lonely := sorted(ours.keys() ^ theirs.keys()):
            raise InputError(f"{unlike} the {kind} {lonely[0]}, which one alone has")
        for key, tensor in ours.items():
            shapes = tuple(tensor.shape), tuple(theirs[key].shape)
            if shapes[0] != shapes[1]:
                raise InputError(f"{unlike} the shape of {key}: {shapes[0]}, not {shapes[1]}")
            if kind == "buffer" and not torch.equal(tensor, theirs[key].to(tensor.device)):
                raise InputError(f"{unlike} the buffer {key}")


def _unlike(name: str, other_name: str, what: str, value: Any, theirs: Any) -> InputError:
    shown = "" if what.startswith("its tokenizer") else f": {_shown(value)}, not {_shown(theirs)}"
    return InputError(f"merge: {name} is not like {other_name} in {what}{shown}")


def _refuse_unlike_files(name: str, other_name: str) -> None:
    """Refuse directories that are unlike by their small files, before gigabytes of weights are read.

    Tokens that only one vocabulary has are no reason: a language model has no bottleneck tokens yet.

    Raises:
        InputError: With the first thing that differs.
    """
    if not all(Path(each).is_dir() and find_adapter(each) is None for each in (name, other_name)):
        return
    configs = [_small_file(each, "config.json") for each in (name, other_name)]
    if all(configs):
        here, there = (read_json(file) for file in configs if file)
        for key in SIZES:
            if key in here and key in there and here[key] != there[key]:
                raise _unlike(name, other_name, f"{key} in config.json", here[key], there[key])
    tokenizers = [_small_file(each, "tokenizer.json") for each in (name, other_name)]
    if all(tokenizers) and not _split_alike(*(Tokenizer.from_file(str(file)) for file in tokenizers)):
        raise _unlike(name, other_name, "its tokenizer (model)", None, None)


def _small_file(name: str, file: str) -> Path | None:
    """Return a file of a model's directory, or of that of its first module."""
    folders = [Path(name), *sorted(Path(name).glob("0_*"))]
    return next((folder / file for folder in folders if (folder / file).is_file()), None)


def _split_alike(one: Tokenizer, other: Tokenizer) -> bool:
    """Tell whether tokens that two tokenizers have in common have the same ids, and are merged in the same order."""
    ids = other.get_vocab(with_added_tokens=False)
    if any(ids.get(token, number) != number for token, number in one.get_vocab(with_added_tokens=False).items()):
        return False
    merges = [_parts_of_tokenizer(each)["model"].get("merges") for each in (one, other)]
    return merges[0] == merges[1]


def _described(model: SentenceTransformer) -> dict[str, Any]:
    """Return what must be the same in models whose weights are averaged, by the name a message gives it."""
    modules: list[Any] = list(model)
    first = modules[0]
    found: dict[str, Any] = {"its modules": [type(module).__name__ for module in modules]}
    if isinstance(first, BottleneckTransformer):
        found |= {
            "the number of bottleneck tokens": first.num_bottleneck_tokens,
            "the compression ratio": first.compression_ratio,
            "whether its bottleneck is nested": first.nested,
        }
    for module in modules[1:]:
        settings = module.get_config_dict() if hasattr(module, "get_config_dict") else {}
        found |= {f"{key} of {type(module).__name__}": value for key, value in settings.items()}
    found["its prompts"] = {role: prompt for role, prompt in model.prompts.items() if prompt}
    found["its default prompt"] = model.default_prompt_name
    found["its truncate_dim"] = model.truncate_dim
    found["its similarity"] = model.similarity_fn_name
    found |= {f"its tokenizer ({part})": value for part, value in _parts_of_tokenizer(model.tokenizer).items()}
    config = getattr(model.transformers_model, "config", None)
    if config is not None:
        fields = config.to_dict().items()
        found |= {
            f"{key} in config.json": value
            for key, value in fields
            if key not in NOT_ARCHITECTURE and not key.startswith("_")
        }
    if isinstance(first, BottleneckTransformer):
        found["the ids of the bottleneck tokens"] = first.bottleneck_token_ids
    return found


def _parts_of_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """Return what a tokenizer does, by part; how it cut and padded the last texts is no part of it."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if isinstance(backend, Tokenizer):
        parts = json.loads(backend.to_str())
        return {name: part for name, part in parts.items() if name not in ("padding", "truncation", "version")}
    return {"vocabulary": tokenizer.get_vocab()} if hasattr(tokenizer, "get_vocab") else {}


def _shown(value: Any) -> str:
    return shortened(repr(value), MOST_SHOWN)


def _step_of_history(models: Sequence[str], shares: Sequence[float]) -> dict[str, Any]:
    """Return what a merged model says of itself; folders of this machine are not published with it."""
    local = [Path(name).exists() for name in models]
    return {
        "stage": "merge",
        "models": [Path(name).name if here else name for name, here in zip(models, local, strict=True)],
        "weight": list(shares),
        "models_sha256": [fingerprint(name) if here else None for name, here in zip(models, local, strict=True)],
    }
