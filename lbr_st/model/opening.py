"""Whatever a user names as a model, opened; or one line that says why it cannot be."""

from __future__ import annotations

import contextlib
import logging
import pickle
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.util import is_sentence_transformer_model
from sentence_transformers.util.file_io import load_file_path
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled, is_fsdp_enabled
from transformers.utils.peft_utils import ADAPTER_CONFIG_NAME

from lbr_st.errors import InputError, foreseen, is_of_the_machine, one_line, raised_by_us
from lbr_st.files import read_json
from lbr_st.model.adapters import find_adapter, merge_adapter
from lbr_st.model.backbone import (
    NOT_OF_TEXT_ALONE,
    Kind,
    check_backbone,
    config_of_transformers,
    empty_model,
    is_scorer,
    kind_of,
    of_the_hub,
    read_backbone,
    read_config,
)
from lbr_st.model.bottleneck import (
    BottleneckTransformer,
    bottleneck_module,
    check_nested,
    check_prompt,
    check_room,
)
from lbr_st.model.contract import (
    LBR_CONFIG,
    NATIVE_MODULE,
    READ,
    REFERENCE,
    SavedFiles,
    VerificationError,
    changed_files,
    check_files,
    check_kind_of_json,
)
from lbr_st.model.gguf import gguf_file
from lbr_st.model.layers import check_layers, keep_layers
from lbr_st.model.lengths import PROMPTS as ROLE_PROMPTS
from lbr_st.model.lengths import prompt_of
from lbr_st.model.positions import check_positions, has_end, most_positions
from lbr_st.model.quiet import quietly
from lbr_st.model.recognising import unread_weights, why_no_model
from lbr_st.model.saving import from_backbone, load
from lbr_st.model.tokens import check_vocabulary, lacks_vocabulary
from lbr_st.model.weights import (
    NO_TENSORS,
    check_embedder,
    check_opened,
    check_vectors,
    check_weight_files,
    instead_of_weights,
    recorded,
    say_which_are_read,
)

logger = logging.getLogger(__name__)

# Files of JSON that an embedding model has beside config.json and modules.json.
PROMPTS = "config_sentence_transformers.json"
EMBEDDER = SentenceTransformer.__name__  # what that file says of a model of dense vectors
OF_EMBEDDERS = (PROMPTS, "sentence_bert_config.json", "tokenizer_config.json")

# Longest input of a model that is trained from a backbone, in tokens, unless told otherwise or the backbone reads less.
DEFAULT_MAX_LENGTH = 512

# What is asked of a bottleneck, or is so: the number of its tokens, their ratio, whether it is nested.
Asked = tuple[int | None, float | None, bool]


def check_model_exists(name: str, flag: str = "--model") -> None:
    """Refuse a local path that cannot be a model, before anything slow is tried with it.

    Args:
        name: Directory or Hub id.
        flag: Flag it was given with, for the message.

    Raises:
        InputError: If it is a file that is no GGUF, a directory without ``config.json``, ``modules.json``, one GGUF
            file or an adapter, or does not exist; or its weights are not whole, integers, or in a form that is not
            read. What it is instead is said.
    """
    path = Path(name)
    if not name.strip():
        raise InputError(f"{flag} is empty; name a model")
    if gguf_file(name) is not None:
        return
    if name.startswith(("http://", "https://")):
        raise _not_a_model(name, flag, "it is an address; name a model of the Hub as owner/name")
    if path.is_dir():
        _check_directory(name, flag)
    elif path.is_file():
        raise _not_a_model(name, flag, why_no_model(path))
    elif name.lower() == "bm25":
        raise InputError(
            f"{flag} {name}: BM25 counts words and is no model that can be opened here; lbr evaluate --model and lbr "
            "data filter --model take bm25"
        )
    elif name.count("/") > 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        raise _not_a_model(name, flag, "no such directory")


def _check_directory(name: str, flag: str) -> None:
    path = Path(name)
    if not any((path / file).is_file() for file in ("config.json", "modules.json", ADAPTER_CONFIG_NAME)):
        raise _not_a_model(name, flag, why_no_model(path))
    _check_kinds_of_json(name, flag)
    _check_class(name, flag, EMBEDDER, "CrossEncoder")
    if not (path / ADAPTER_CONFIG_NAME).is_file() and (unread := unread_weights(path)) is not None:
        raise InputError(f"{flag} {name} cannot be used: {unread}")
    try:
        for folder in (path, *filter(Path.is_dir, path.glob("*[0-9]_*"))):  # the parts of an embedding model
            check_weight_files(folder)
    except InputError as error:
        raise InputError(f"{flag} {name} cannot be used: {error}") from error
    if (path / REFERENCE).is_file() and not (path / LBR_CONFIG).is_file():
        raise InputError(f"{flag} {name} was saved by lbr-st, and its {LBR_CONFIG} is missing; copy it whole again")


def _check_class(name: str, flag: str, *classes: str) -> None:
    """Refuse a model that says it is of another class of sentence-transformers, which would embed by means alone.

    Raises:
        InputError: With the class.
    """
    try:
        file = load_file_path(name, PROMPTS, local_files_only=True)
        found = read_json(Path(file)).get("model_type", EMBEDDER) if file else EMBEDDER
    except (OSError, ValueError):  # damaged, which its opening says
        return
    if found not in classes:
        raise InputError(
            f"{flag} {name} is a {found} of sentence-transformers, not a {classes[0]}: it does not give a text one "
            "dense vector; take a model that does"
        )


def _check_kinds_of_json(name: str, flag: str) -> None:
    """Refuse a directory with a JSON file of another kind of value; other damage is said by its readers."""
    for file in ("config.json", "modules.json", *OF_EMBEDDERS):
        try:
            check_kind_of_json(file, read_json(Path(name, file)))
        except VerificationError as error:
            raise InputError(f"{flag} {name} cannot be used: {error}") from error
        except (OSError, ValueError):
            continue


def count_parameters(name: str) -> int:
    """Return the number of parameters of a language model, from its configuration: no weights are read.

    Args:
        name: Directory, Hub id, GGUF file, directory that holds one, or an adapter, whose base is counted.

    Raises:
        InputError: If it is no language model, is quantized, or reads more than text.
    """
    check_model_exists(name)
    with _refusing_what_is_no_model(name), quietly():
        return empty_model(name, read_config(name)).num_parameters()


def check_is_found(name: str, flag: str = "--model") -> None:
    """Refuse a model that is neither on this machine nor to be had from the Hub, by its smallest files.

    Args:
        name: Directory, Hub id, GGUF file or adapter.
        flag: Flag it was given with, for the message.

    Raises:
        InputError: If it is no model.
    """
    check_model_exists(name, flag)
    if not Path(name).exists() and not is_sentence_transformer_model(name):
        with _refusing_what_is_no_model(name, flag):
            config_of_transformers(name)


def check_embedder_exists(name: str, flag: str = "--model") -> None:
    """Refuse what is no embedding model, or lacks files of one, before anything slow is done; no weights are read.

    Args:
        name: Directory or Hub id.
        flag: Flag it was given with, for the message.

    Raises:
        InputError: If it is not an embedding model, or is damaged.
    """
    check_is_found(name, flag)
    _check_embedder_files(name, flag)


def _check_embedder_files(name: str, flag: str) -> None:
    """Refuse a directory that `check_embedder_exists` refuses."""
    path = Path(name)
    if gguf_file(name) is not None:
        raise InputError(f"{flag} {name} is a language model, not an embedding model: lbr learn and lbr align make one")
    if not path.is_dir():
        return
    is_ours = (path / LBR_CONFIG).is_file()
    _check_class(name, flag, EMBEDDER)
    if not (path / "modules.json").is_file():
        if is_ours:
            raise InputError(f"{flag} {name} was saved by lbr-st, and its modules.json is missing; copy it whole again")
        raise InputError(f"{flag} {name} is {_what_embeds_nothing(name, flag)}")
    try:
        if is_ours:
            check_files(name)
            _check_tokenizer(path)
    except InputError as error:
        raise InputError(f"{flag} {name} cannot be used: {error}") from error


def _check_tokenizer(path: Path) -> None:
    """Refuse a model of this package with another tokenizer than it was saved with: texts would get other tokens."""
    if changed_files(SavedFiles(path), {"tokenizer.json"}):
        raise InputError(
            "tokenizer.json is not the file that was saved with the model, and may give texts other tokens; copy the "
            "model whole again, or after a change that is meant open it with lbr_st.load and save it with lbr_st.save"
        )


def _what_embeds_nothing(name: str, flag: str) -> str:
    """Return what a directory without ``modules.json`` holds, and what makes an embedding model of it."""
    if not Path(name, "config.json").is_file():
        return f"an adapter, not an embedding model; lbr align --model {shlex.quote(name)} makes one of it and its base"
    with _refusing_what_is_no_model(name, flag):
        config = config_of_transformers(name)
        kind = Kind.SCORER if is_scorer(config) else kind_of(config)
    by = f"SentenceTransformer({name!r}).save_pretrained(DIR) makes one of it"
    if kind is Kind.LANGUAGE_MODEL:
        by = "lbr learn and lbr align make one of it"
    elif kind is Kind.SCORER:
        by = "where a command takes one it is its --reranker; to embed, start from the model that it was made from"
    elif kind in NOT_OF_TEXT_ALONE:
        by = "take a model of text"
    return f"{kind.value}, not an embedding model: it has no modules.json; {by}"


def open_tokenizer(name: str, flag: str = "--model") -> PreTrainedTokenizerBase:
    """Open the tokenizer of a language model; no weights are read.

    Args:
        name: Directory, Hub id, GGUF file, directory that holds one, or an adapter.
        flag: Flag it was given with, for the message.

    Raises:
        InputError: If it is no language model.
    """
    check_model_exists(name, flag)
    with _refusing_what_is_no_model(name, flag), quietly():
        return read_backbone(name).tokenizer


def check_can_be_trained(
    name: str,
    max_seq_length: int | None = None,
    texts_in_a_row: int = 1,
    layers: int | None = None,
    num_bottleneck_tokens: int | None = None,
    prompts: Mapping[str, str | None] | None = None,
    compression_ratio: float | None = None,
    nested: bool = False,
    domain_tokens: bool = False,
) -> PretrainedConfig | None:
    """Refuse what no training could start from, before data are read for minutes; no weights are read.

    Only what is on this machine is looked at; a model of the Hub is refused where it is opened.

    Args:
        name: Directory, Hub id, GGUF file, directory that holds one, or an adapter.
        max_seq_length: Longest input that is asked for, in tokens.
        texts_in_a_row: Number of texts of that length that it must read in one row.
        layers: Number of its layers to keep; default is all.
        num_bottleneck_tokens: Number of bottleneck tokens that is asked for.
        prompts: What is to stand before a text, by its role.
        compression_ratio: Number of tokens of text to a bottleneck token that is asked for.
        nested: Whether its bottleneck is to be nested, which a saved one must have been from the start.
        domain_tokens: Whether it is to get domain tokens, which are given once.

    Returns:
        Its configuration; None where it is not on this machine, or has none.

    Raises:
        InputError: If it is no model, is not whole, is quantized, reads shorter texts than those asked for, leaves no
            room for them, or cannot be cut to so many layers; or it has another bottleneck than is asked for, or domain
            tokens.
    """
    check_model_exists(name)
    if not Path(name).exists():
        return None
    tokenizer = None
    with _refusing_what_is_no_model(name), quietly():
        if Path(name, LBR_CONFIG).is_file():
            _check_embedder_files(name, "--model")
        is_language_model = not is_other_embedding_model(name)
        if is_language_model:
            asked = num_bottleneck_tokens, compression_ratio, nested
            _check_what_it_has(name, asked, domain_tokens)
        if is_language_model:
            config, tokenizer = check_backbone(name)
        elif (Path(name) / "config.json").is_file():
            config = config_of_transformers(name)
        elif (Path(name) / ADAPTER_CONFIG_NAME).is_file():
            return None
        else:
            raise InputError(f"--model {name}: a model without config.json, which is no transformer, cannot be trained")
        if layers is not None:
            check_layers(layers, config, name)
    if max_seq_length is not None:
        check_max_length(max_seq_length, config, texts_in_a_row)
        if is_language_model:
            _check_room(name, tokenizer, max_seq_length, num_bottleneck_tokens, prompts or {})
    return config


def _check_what_it_has(name: str, asked: Asked, domain_tokens: bool) -> None:
    """Refuse settings of a bottleneck that no model has, or that a saved one does not have; or domain tokens twice."""
    adapter = find_adapter(name)
    saved = Path(name if adapter is None else adapter.base, LBR_CONFIG)
    if not saved.is_file():
        number, ratio, nested = asked
        check_nested(nested, number or 1, ratio)
        return
    files = SavedFiles(saved.parent)
    _check_bottleneck(f"--model {name}", asked, (len(files.ids), files.compression_ratio, files.nested))
    if domain_tokens and (ids := files[LBR_CONFIG].get("domain_token_ids")):
        raise InputError(f"--domain-tokens: --model {name} has {len(ids)} domain tokens already; they are given once")


def _check_bottleneck(what: str, asked: Asked, has: Asked) -> None:
    """Refuse settings of a bottleneck that a saved model does not have."""
    for setting, wanted, own in zip(("--bottleneck-tokens", "--compression-ratio"), asked, has, strict=False):
        if wanted not in (None, own):
            raise InputError(f"{what} has {setting} {own}; it cannot be opened with {setting} {wanted}")
    if asked[-1] and not has[-1]:
        raise InputError(f"{what} was not trained with --nested; start again from its language model")


def _check_room(
    name: str,
    tokenizer: PreTrainedTokenizerBase | None,
    length: int,
    num_bottleneck_tokens: int | None,
    prompts: Mapping[str, str | None],
) -> None:
    """Refuse a length that leaves no room for text beside what the tokenizer adds, bottleneck tokens and prompts."""
    adapter = find_adapter(name)
    saved = Path(name if adapter is None else adapter.base, LBR_CONFIG)
    own = len(read_json(saved)["bottleneck_token_ids"]) if saved.is_file() else 0
    number = own or num_bottleneck_tokens or 1
    prefix = 0 if tokenizer is None else len(tokenizer("")["input_ids"]) - own
    try:
        check_room(length, prefix, number)
    except InputError as error:
        raise InputError(f"--max-length {length}: {error}") from error
    for role, prompt in prompts.items():
        if prompt is not None and tokenizer is not None:
            check_prompt(role, prompt, tokenizer, length, prefix, number)


def embedding_width(name: str, config: PretrainedConfig) -> int | None:
    """Return how many numbers the vectors of a model have before any are left out; None where its files do not say.

    Args:
        name: Directory of the model.
        config: Configuration of its transformer.
    """
    width: int | None = getattr(config.get_text_config(), "hidden_size", None)
    if not is_other_embedding_model(name):
        return width
    try:
        parts = {module["type"].rpartition(".")[2]: module["path"] for module in read_json(Path(name, "modules.json"))}
        pooling = read_json(Path(name, parts.pop("Pooling"), "config.json"))
        modes = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True]
        has_one_mode = len(modes) == 1 or isinstance(pooling.get("pooling_mode"), str)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # of another form, which its opening judges
        return None
    return width if has_one_mode and parts.keys() <= {"Transformer", "Normalize"} else None


def check_max_length(length: int, config: PretrainedConfig, texts_in_a_row: int = 1) -> None:
    """Refuse a ``--max-length`` that is more than a model reads.

    Args:
        length: Longest input in tokens.
        config: Configuration of the model.
        texts_in_a_row: Number of texts of that length that it must read in one row.

    Raises:
        InputError: With the longest that fits.
    """
    try:
        check_positions(length, config)
    except InputError as error:
        raise InputError(f"--max-length {length}: {error}") from error
    most = most_positions(config)
    if texts_in_a_row * length > most:
        raise InputError(
            f"--max-length {length}: stage 1 reads a text and its target in one row, up to {texts_in_a_row} x {length} "
            f"tokens, and this language model reads {int(most)}; ask for a maximum length of "
            f"{int(most // texts_in_a_row)} at most"
        )


def default_max_length(name: str, texts_in_a_row: int) -> int:
    """Return the longest input of a model that is trained from a backbone, where none is asked for.

    Args:
        name: Name of the backbone.
        texts_in_a_row: Number of texts of that length that the model must read in one row.

    Returns:
        `DEFAULT_MAX_LENGTH`, or less where the backbone reads less: then a warning says so.
    """
    most = most_positions(read_config(name))
    if texts_in_a_row * DEFAULT_MAX_LENGTH <= most:
        return DEFAULT_MAX_LENGTH
    length = int(most // texts_in_a_row)
    logger.warning(
        "%s reads %d tokens in a row: texts are cut to %d tokens%s, where %d are the default",
        name,
        most,
        length,
        ", as a text and its target stand in one row" if texts_in_a_row > 1 else "",
        DEFAULT_MAX_LENGTH,
    )
    return length


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
    with _refusing_what_is_no_model(name, flag):
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
    _check_bottleneck(f"{flag} {name}", asked, (module.num_bottleneck_tokens, module.compression_ratio, module.nested))
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
    _check_embedder_files(name, flag)
    _say_what_was_changed(name, flag)
    _say_which_weights(name, flag)
    modules = Path(name, "modules.json")
    with _refusing_what_is_no_model(name, flag):
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
    _check_class(name, flag, EMBEDDER)  # of the Hub it is known only now
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
    with _refusing_what_is_no_model(name, flag):
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
    with _refusing_what_is_no_model(name, flag), recorded() as opened:
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
    with _refusing_what_is_no_model(name):
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


def has_bottleneck_tokens(name: str, flag: str = "--model") -> bool:
    """Tell whether a directory or Hub id holds a model of this package, or an adapter on one.

    Raises:
        InputError: If a file that says so cannot be read.
    """
    adapter = find_adapter(name)
    base = name if adapter is None else adapter.base
    with _refusing_what_is_no_model(name, flag):
        return gguf_file(base) is None and bool(BottleneckTransformer.load_config(base))


def is_other_embedding_model(name: str, flag: str = "--model") -> bool:
    """Tell whether a directory or Hub id holds a sentence-transformers model that was not saved by this package.

    Raises:
        InputError: If a file that says so cannot be read.
    """
    with _refusing_what_is_no_model(name, flag):
        is_embedder = gguf_file(name) is None and is_sentence_transformer_model(name)
        return is_embedder and not BottleneckTransformer.load_config(name)


def _not_a_model(name: str, flag: str, reason: str) -> InputError:
    return InputError(f"{flag} {name} is not a model: {reason}")


@contextlib.contextmanager
def _refusing_what_is_no_model(name: str, flag: str = "--model") -> Iterator[None]:
    """Refuse a model by name, whatever the libraries that open it say of its files."""
    try:
        yield
    except (InputError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a damaged file is an error of any kind, of Rust too, which is no Exception
        if is_of_the_machine(error):
            raise
        if (refusal := _refusal(name, flag, error)) is None:
            raise
        raise refusal from error


def _refusal(name: str, flag: str, error: BaseException) -> InputError | None:
    """Return what is said of an error at the opening of a model; None of a bug of ours."""
    if isinstance(error, ImportError):  # what reads a vocabulary is missed where there is none, too
        return InputError(
            f"{flag} {name} cannot be opened: {lacks_vocabulary(name) or foreseen(error) or one_line(error)}"
        )
    if isinstance(error, OSError | ValueError | SafetensorError):
        reason = lacks_vocabulary(name)
        if "trust_remote_code" in str(error):
            reason = "its code is not in transformers or sentence-transformers but its own, and lbr runs no such code"
        if reason is not None:
            return InputError(f"{flag} {name} cannot be opened: {reason}")
        said = one_line(error) if Path(name).exists() else f"there is no such directory, and {of_the_hub(error)}"
        return _not_a_model(name, flag, said)
    if isinstance(error, pickle.UnpicklingError):  # of a file of old torch, which is read whole or not at all
        return InputError(f"{flag} {name} cannot be used: a file of its weights {NO_TENSORS}")
    return None if raised_by_us(error) else _not_a_model(name, flag, f"{type(error).__name__}: {one_line(error)}")
