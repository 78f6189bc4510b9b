"""Whatever a user names as a model, opened; or one line that says why it cannot be."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Router, Transformer
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled, is_fsdp_enabled

from lbr_st.errors import InputError
from lbr_st.files import read_json
from lbr_st.model.adapters import find_adapter, merge_adapter
from lbr_st.model.backbone import read_backbone, read_config
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module
from lbr_st.model.contract import NATIVE_MODULE, READ, REFERENCE, SavedFiles, changed_files
from lbr_st.model.gguf import gguf_file
from lbr_st.model.layers import check_layers, keep_layers
from lbr_st.model.lengths import PROMPTS as ROLE_PROMPTS
from lbr_st.model.lengths import prompt_of
from lbr_st.model.named import (
    EMBEDDER,
    PROMPTS,
    check_class,
    check_embedder_files,
    check_model_exists,
    has_bottleneck_tokens,
    refusing_what_is_no_model,
)
from lbr_st.model.positions import has_end, most_positions
from lbr_st.model.quiet import quietly
from lbr_st.model.saving import from_backbone, load
from lbr_st.model.tokens import check_vocabulary
from lbr_st.model.trainable import check_bottleneck, default_max_length
from lbr_st.model.weights import (
    check_embedder,
    check_opened,
    check_vectors,
    instead_of_weights,
    recorded,
    say_which_are_read,
)

logger = logging.getLogger(__name__)


def open_tokenizer(name: str, flag: str = "--model") -> PreTrainedTokenizerBase:
    """Open the tokenizer of a language model; no weights are read.

    Args:
        name: Directory, Hub id, GGUF file, directory that holds one, or an adapter.
        flag: Flag it was given with, for the message.

    Raises:
        InputError: If it is no language model.
    """
    check_model_exists(name, flag)
    with refusing_what_is_no_model(name, flag), quietly():
        return read_backbone(name).tokenizer


def open_model(
    name: str,
    *,
    num_bottleneck_tokens: int | None = None,
    compression_ratio: float | None = None,
    nested: bool = False,
    max_seq_length: int | None = None,
    texts_in_a_row: int = 1,
    layers: int | None = None,
    flag: str = "--model",
    **model_kwargs: Any,
) -> SentenceTransformer:
    """Open a model to train: one saved by this package with its bottleneck tokens, or a backbone to start from.

    Weights are opened in float32, in which they are trained, unless ``model_kwargs`` say otherwise. An adapter is
    merged into its base, which may be either.

    Args:
        name: Directory, Hub id, GGUF file, directory that holds one, or an adapter.
        num_bottleneck_tokens: Number of bottleneck tokens of a model that starts from a backbone; of a saved one, the
            number it must have.
        compression_ratio: The same for the tokens of text to a bottleneck token.
        nested: Whether its bottleneck is nested; a saved one must have been from the start.
        max_seq_length: Longest input in tokens; default is that of the saved model, or `default_max_length`.
        texts_in_a_row: Number of texts of that length that the model must read in one row.
        layers: Number of its first layers to keep; default is all.
        flag: Flag it was given with, for the message.
        **model_kwargs: Arguments of ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        InputError: If it is no model, is quantized, reads shorter texts than those asked for, its vectors are no
            numbers or zero, it cannot be cut to so many layers, or a saved one has other bottleneck tokens than those
            asked for.
    """
    model_kwargs = {"dtype": torch.float32} | model_kwargs
    check_model_exists(name, flag)
    with refusing_what_is_no_model(name, flag):
        if layers is not None:
            check_layers(layers, read_config(name), name)
        adapter = find_adapter(name)
        if has_bottleneck_tokens(name, flag):
            model = load(name if adapter is None else adapter.base, model_kwargs=model_kwargs)
            _say_what_was_changed(name if adapter is None else adapter.base, flag)
            if adapter is not None:
                merge_adapter(adapter, bottleneck_module(model).model)
        else:
            if max_seq_length is None:
                max_seq_length = default_max_length(name, texts_in_a_row)
            model = from_backbone(
                name,
                num_bottleneck_tokens=num_bottleneck_tokens,
                compression_ratio=compression_ratio,
                nested=nested,
                max_seq_length=max_seq_length,
                **model_kwargs,
            )
        _check_vectors(model, name, flag)
    module = bottleneck_module(model)
    asked = num_bottleneck_tokens, compression_ratio, nested
    check_bottleneck(f"{flag} {name}", asked, (module.num_bottleneck_tokens, module.compression_ratio, module.nested))
    if max_seq_length is not None:
        model.max_seq_length = max_seq_length
    if layers is not None:  # only now: an adapter that was merged has updates of all of them
        logger.info("keeping the first %d of the %d layers of %s", layers, module.model.config.num_hidden_layers, name)
        keep_layers(module.model, layers)
    return model


def open_sentence_transformer(name: str, flag: str = "--model", **kwargs: Any) -> SentenceTransformer:
    """Open any sentence-transformers model as everyone does; one in our native layout with our own loader.

    Args:
        name: Directory or Hub id.
        flag: Flag it was given with, for the message.
        **kwargs: Arguments of ``SentenceTransformer``, for a model that is not in our native layout.

    Raises:
        InputError: If it is not an embedding model, or is damaged.
    """
    check_model_exists(name, flag)
    check_embedder_files(name, flag)
    _say_what_was_changed(name, flag)
    _say_which_weights(name, flag)
    modules = Path(name, "modules.json")
    with refusing_what_is_no_model(name, flag):
        try:
            if modules.is_file() and f'"{NATIVE_MODULE}"' in modules.read_text(encoding="utf-8"):
                model = load(name)
                check_vectors(model)
                return model
            with recorded() as opened:
                model = SentenceTransformer(name, **kwargs)
            check_embedder(name, model, opened)
            check_vectors(model)
            if isinstance(model.tokenizer, PreTrainedTokenizerBase):
                check_vocabulary(model.tokenizer)
        except InputError as error:
            raise InputError(f"{flag} {name} cannot be used: {error}") from error
    check_class(name, flag, EMBEDDER)  # of the Hub it is known only now
    _keep_within_positions(model, f"{flag} {name}")
    _say_which_prompts_are_not_used(model, f"{flag} {name}")
    return model


def open_with_backbone(
    name: str, make: Callable[[PretrainedConfig], nn.Module], flag: str = "--model"
) -> SentenceTransformer:
    """Open a sentence-transformers directory around another module than its weights, which need not be there.

    Args:
        name: Directory.
        make: Makes what turns tokens into states, of the configuration of the model.
        flag: Flag it was given with, for the message.

    Raises:
        InputError: If the directory is damaged, or the vector of a word is no vector.
    """
    with refusing_what_is_no_model(name, flag):
        try:
            with instead_of_weights(make), quietly():
                model = SentenceTransformer(name, device="cpu", local_files_only=True)
            check_vectors(model)
            if isinstance(model.tokenizer, PreTrainedTokenizerBase):
                check_vocabulary(model.tokenizer)
        except InputError as error:
            raise InputError(f"{flag} {name} cannot be used: {error}") from error
    _keep_within_positions(model, f"{flag} {name}")
    return model


def open_cross_encoder(name: str, flag: str = "--reranker") -> CrossEncoder:
    """Open a reranker that gives a pair of texts one score.

    Args:
        name: Directory or Hub id.
        flag: Flag it was given with, for the message.

    Raises:
        InputError: If it is none, gives a pair several scores, or is not whole.
    """
    check_model_exists(name, flag)
    _say_which_weights(name, flag)
    with refusing_what_is_no_model(name, flag), recorded() as opened:
        try:
            model = CrossEncoder(name)
        except ValueError as error:
            if "LogitScore" not in str(error):
                raise
            raise InputError(
                f"{flag} {name} is no reranker: it is a language model whose tokenizer has no yes and no"
            ) from error
    architectures = getattr(model.config, "architectures", None) or [""]
    # Transformers would give any encoder a head of random weights.
    if len(model) == 1 and not architectures[0].endswith("ForSequenceClassification"):
        raise InputError(
            f"{flag} {name} is no reranker: it is a {architectures[0] or 'model'} without a head for scores"
        )
    if model.num_labels != 1:
        raise InputError(f"{flag} {name} gives a pair {model.num_labels} scores; a reranker gives one")
    for part in opened:
        check_opened(f"{flag} {name}", part)
    return model


def _keep_within_positions(model: SentenceTransformer, what: str) -> None:
    """Let a model read no longer texts than it has positions for, and say so: it would fail at the first longer one."""
    parts: list[Any] = [model]
    if isinstance(model[0], Router):  # each route has a limit of its own
        routes: Any = model[0].sub_modules
        inputs = [modules[0] for modules in routes.values()]
        parts = [module for module in inputs if isinstance(module, Transformer)]
    for part in parts:
        config = getattr(model.transformers_model if part is model else part.model, "config", None)
        if config is None or not has_end(config):
            continue
        most, length = int(most_positions(config)), part.max_seq_length
        if length is None or length > most:
            logger.warning("%s reads %d tokens at most, not %s: longer texts are cut to %d", what, most, length, most)
            part.max_seq_length = most


def open_with_language_model(name: str) -> SentenceTransformer:
    """Open a model of this package, of either layout, with its whole language model; any other as everyone does.

    Raises:
        InputError: If it is not an embedding model.
    """
    check_model_exists(name)
    with refusing_what_is_no_model(name):
        if gguf_file(name) is not None or not BottleneckTransformer.load_config(name):
            return open_sentence_transformer(name)
        model = load(name)
        _say_what_was_changed(name, "--model")
        _check_vectors(model, name, "--model")
        return model


def _say_which_weights(name: str, flag: str) -> None:
    """Say which weights are read of a directory in which a part of the model has two files of them."""
    for folder in (Path(name), *sorted(filter(Path.is_dir, Path(name).glob("*[0-9]_*")))):
        say_which_are_read(f"{flag} {folder}", folder)


def _say_what_was_changed(name: str, flag: str) -> None:
    """Say which settings of a model of this package are not those that it was saved with, and which prompts it has."""
    if not Path(name, REFERENCE).is_file():
        return
    if changed := changed_files(SavedFiles(name), {*READ, "modules.json"} - {REFERENCE}):
        now = ""
        if PROMPTS in changed:
            prompts = read_json(Path(name, PROMPTS))["prompts"]
            now = f"; its prompts are {', '.join(f'{role} {prompt!r}' for role, prompt in prompts.items()) or 'none'}"
        logger.warning("%s %s was changed since it was saved: %s%s", flag, name, ", ".join(changed), now)


def _say_which_prompts_are_not_used(model: SentenceTransformer, what: str) -> None:
    """Say which prompts stand before no text, where a role has none.

    An empty prompt named document, which sentence-transformers adds, comes before one named passage.
    """
    if all(prompt_of(model, role) for role in ROLE_PROMPTS):
        return
    used = [next((name for name in names if name in model.prompts), None) for names in ROLE_PROMPTS.values()]
    if unused := [f"{name} {prompt!r}" for name, prompt in model.prompts.items() if prompt and name not in used]:
        logger.warning(
            "%s has prompts that are not used: %s; queries get the one that is named query, documents that named "
            "document: rename it in %s, or train with --query-prompt or --document-prompt",
            what,
            ", ".join(unused),
            PROMPTS,
        )


def _check_vectors(model: SentenceTransformer, name: str, flag: str) -> None:
    """Refuse a model that gives no vector for a word, by its name: training would not mend it."""
    if is_fsdp_enabled() or is_deepspeed_zero3_enabled():  # the weights are not all in this process
        return
    try:
        check_vectors(model)
    except InputError as error:
        raise InputError(f"{flag} {name} cannot be used: {error}") from error
