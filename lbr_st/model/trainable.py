"""Whether a model can be trained as the settings say, before data are read; no weights are read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from transformers import PretrainedConfig, PreTrainedTokenizerBase
from transformers.utils.peft_utils import ADAPTER_CONFIG_NAME

from lbr_st.errors import InputError
from lbr_st.files import read_json
from lbr_st.model.adapters import find_adapter
from lbr_st.model.backbone import check_backbone, config_of_transformers, read_config
from lbr_st.model.bottleneck import check_nested, check_prompt, check_room
from lbr_st.model.contract import LBR_CONFIG, SavedFiles
from lbr_st.model.layers import check_layers
from lbr_st.model.named import (
    check_embedder_files,
    check_model_exists,
    is_other_embedding_model,
    refusing_what_is_no_model,
)
from lbr_st.model.positions import check_positions, most_positions
from lbr_st.model.quiet import quietly

logger = logging.getLogger(__name__)

# Longest input of a model that is trained from a backbone, in tokens, unless told otherwise or the backbone reads less.
DEFAULT_MAX_LENGTH = 512
# What is asked of a bottleneck, or is so: the number of its tokens, their ratio, whether it is nested.
Asked = tuple[int | None, float | None, bool]


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
    with refusing_what_is_no_model(name), quietly():
        if Path(name, LBR_CONFIG).is_file():
            check_embedder_files(name, "--model")
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
    check_bottleneck(f"--model {name}", asked, (len(files.ids), files.compression_ratio, files.nested))
    if domain_tokens and (ids := files[LBR_CONFIG].get("domain_token_ids")):
        raise InputError(f"--domain-tokens: --model {name} has {len(ids)} domain tokens already; they are given once")


def check_bottleneck(what: str, asked: Asked, has: Asked) -> None:
    """Refuse settings of a bottleneck that a saved model does not have.

    Raises:
        InputError: With the flag, and what the model has.
    """
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
