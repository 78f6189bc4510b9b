"""A model that a user names: whether it is there, and what it is. No weights are read."""

from __future__ import annotations

import contextlib
import pickle
import shlex
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import is_sentence_transformer_model
from sentence_transformers.util.file_io import load_file_path
from transformers.utils.peft_utils import ADAPTER_CONFIG_NAME

from lbr_st.errors import InputError, foreseen, is_of_the_machine, one_line, raised_by_us
from lbr_st.files import read_json
from lbr_st.model.adapters import find_adapter
from lbr_st.model.backbone import (
    NOT_OF_TEXT_ALONE,
    Kind,
    config_of_transformers,
    empty_model,
    is_scorer,
    kind_of,
    of_the_hub,
    read_config,
)
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.model.contract import (
    LBR_CONFIG,
    REFERENCE,
    SavedFiles,
    VerificationError,
    changed_files,
    check_files,
    check_kind_of_json,
)
from lbr_st.model.gguf import gguf_file
from lbr_st.model.quiet import quietly
from lbr_st.model.recognising import unread_weights, why_no_model
from lbr_st.model.tokens import lacks_vocabulary
from lbr_st.model.weights import NO_TENSORS, check_weight_files

# Files of JSON that an embedding model has beside config.json and modules.json.
PROMPTS = "config_sentence_transformers.json"
EMBEDDER = SentenceTransformer.__name__  # what that file says of a model of dense vectors
OF_EMBEDDERS = (PROMPTS, "sentence_bert_config.json", "tokenizer_config.json")


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
    check_class(name, flag, EMBEDDER, "CrossEncoder")
    if not (path / ADAPTER_CONFIG_NAME).is_file() and (unread := unread_weights(path)) is not None:
        raise InputError(f"{flag} {name} cannot be used: {unread}")
    try:
        for folder in (path, *filter(Path.is_dir, path.glob("*[0-9]_*"))):  # the parts of an embedding model
            check_weight_files(folder)
    except InputError as error:
        raise InputError(f"{flag} {name} cannot be used: {error}") from error
    if (path / REFERENCE).is_file() and not (path / LBR_CONFIG).is_file():
        raise InputError(f"{flag} {name} was saved by lbr-st, and its {LBR_CONFIG} is missing; copy it whole again")


def check_class(name: str, flag: str, *classes: str) -> None:
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
    with refusing_what_is_no_model(name), quietly():
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
        with refusing_what_is_no_model(name, flag):
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
    check_embedder_files(name, flag)


def check_embedder_files(name: str, flag: str) -> None:
    """Refuse a directory that `check_embedder_exists` refuses.

    Raises:
        InputError: If a file is missing, or is of another model.
    """
    path = Path(name)
    if gguf_file(name) is not None:
        raise InputError(f"{flag} {name} is a language model, not an embedding model: lbr learn and lbr align make one")
    if not path.is_dir():
        return
    is_ours = (path / LBR_CONFIG).is_file()
    check_class(name, flag, EMBEDDER)
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
    with refusing_what_is_no_model(name, flag):
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


def has_bottleneck_tokens(name: str, flag: str = "--model") -> bool:
    """Tell whether a directory or Hub id holds a model of this package, or an adapter on one.

    Raises:
        InputError: If a file that says so cannot be read.
    """
    adapter = find_adapter(name)
    base = name if adapter is None else adapter.base
    with refusing_what_is_no_model(name, flag):
        return gguf_file(base) is None and bool(BottleneckTransformer.load_config(base))


def is_other_embedding_model(name: str, flag: str = "--model") -> bool:
    """Tell whether a directory or Hub id holds a sentence-transformers model that was not saved by this package.

    Raises:
        InputError: If a file that says so cannot be read.
    """
    with refusing_what_is_no_model(name, flag):
        is_embedder = gguf_file(name) is None and is_sentence_transformer_model(name)
        return is_embedder and not BottleneckTransformer.load_config(name)


def _not_a_model(name: str, flag: str, reason: str) -> InputError:
    return InputError(f"{flag} {name} is not a model: {reason}")


@contextlib.contextmanager
def refusing_what_is_no_model(name: str, flag: str = "--model") -> Iterator[None]:
    """Refuse a model by name, whatever the libraries that open it say of its files.

    Raises:
        InputError: In the place of what they raise.
    """
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
