"""The weights of a model: are its files whole, is every tensor in them, and is every number one?

A tensor that is missing is drawn at random by transformers, and integers are taken for numbers as they stand: a table
in the log is all that says so. Here such a model is refused.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import batch_to_device
from torch import nn
from transformers import CONFIG_MAPPING, PretrainedConfig, PreTrainedModel

from lbr_st.errors import InputError, one_line
from lbr_st.files import read_json
from lbr_st.model.precision import evaluating
from lbr_st.model.quiet import quietly

logger = logging.getLogger(__name__)

# Files that transformers looks for, in its order: one for all tensors, or an index that names several.
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
LFS_POINTER = b"version https://git-lfs"
MOST_OF_A_POINTER = 1024  # bytes, by the specification of Git LFS
PICKLED_ZIP, PICKLED = b"PK\x03\x04", b"\x80"
OF_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # its magic number, pickled
# What is said of a pickle that is no table of tensors. To open it would run what it names.
NO_TENSORS = "is not a file of tensors, it holds other Python objects: take the version of the model in safetensors"

# Names in safetensors and in torch. In anything else weights are integers or scaled, and the scales stand elsewhere.
FLOATS = {"F64", "F32", "F16", "BF16", "float64", "float32", "float16", "bfloat16"}

# What transformers is asked for wherever a model is opened, so that `check_tensors` can say what is wrong.
REPORTING: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}

OF_DOWNLOADS = (".incomplete", ".part", ".crdownload", ".aria2")  # what a file is called until it is whole

VANISHED = 1e-6  # a vector of such a length has no direction: what is rounded away is as long

_one_at_a_time = threading.RLock()


class Described(NamedTuple):
    """A tensor of a file.

    Attributes:
        dtype: Name of its type, as safetensors or torch has it.
        shape: Its shape.
    """

    dtype: str
    shape: list[int]


def read_tensors(file: Path) -> dict[str, Described]:
    """Read what a file of weights holds, without the numbers.

    Args:
        file: A file of safetensors, or one that torch saved; of one in the form before torch 1.6 nothing is told.

    Raises:
        InputError: If it is not there, is not whole, is a pointer of Git LFS, or holds other things than tensors.
    """
    if not file.is_file():
        raise InputError(f"{file.name}: missing")
    refuse_pointer(file)
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                slices = {key: tensors.get_slice(key) for key in tensors.keys()}
                return {key: Described(each.get_dtype(), each.get_shape()) for key, each in slices.items()}
        with file.open("rb") as opened:
            start = opened.read(len(OF_OLD_TORCH))
        if not start.startswith(PICKLED_ZIP):
            if not start.startswith(PICKLED):
                raise EOFError("torch saved no such file")
            if start != OF_OLD_TORCH:
                raise pickle.UnpicklingError
            return {}
        if not zipfile.is_zipfile(file):  # its list of contents stands at the end
            raise EOFError("its end is missing")
        saved = torch.load(file, map_location="meta", mmap=True, weights_only=True)
        if not isinstance(saved, Mapping):
            raise pickle.UnpicklingError
        return {
            key: Described(str(each.dtype).removeprefix("torch."), list(each.shape))
            for key, each in saved.items()
            if isinstance(each, torch.Tensor)
        }
    except pickle.UnpicklingError as error:
        raise InputError(f"{file.name}: {NO_TENSORS}") from error
    except (SafetensorError, OSError, EOFError, RuntimeError) as error:
        raise InputError(f"{file.name}: not whole: {one_line(error)}; download or copy it again") from error


def refuse_pointer(file: Path) -> None:
    """Refuse a file of which Git LFS has put only a pointer there.

    Raises:
        InputError: With the command that fetches it.
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(len(LFS_POINTER))
    except OSError:  # whoever reads it says so
        return
    if start == LFS_POINTER:
        raise InputError(f"{file.name}: is a Git LFS pointer, the file itself was not fetched: git lfs pull fetches it")


def refuse_pointers(folder: Path) -> None:
    """Refuse a directory in which a file is but a pointer of Git LFS, see `refuse_pointer`."""
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.stat().st_size < MOST_OF_A_POINTER:
            refuse_pointer(file)


def weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers reads the weights of a directory from; none where it has none.

    Raises:
        InputError: If an index of them cannot be read.
    """
    for single, index in WEIGHTS:
        if (folder / single).exists():
            return [folder / single]
        if (folder / index).is_file():
            try:
                names = read_json(folder / index)["weight_map"].values()
                return [folder / name for name in sorted({*names})]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{index}: names no files of weights; download or copy it again") from error
    return []


def check_weight_files(folder: Path) -> dict[str, Described]:
    """Refuse a directory whose weights cannot be read as they are, by what stands at the beginning of each file.

    Args:
        folder: Directory of a model.

    Returns:
        Its tensors; none where it has none, or in a form that does not tell.

    Raises:
        InputError: If a file is not there or not whole, or weights are integers or scaled and ``config.json`` does not
            say how.
    """
    refuse_pointers(folder)
    found = {key: each for file in weight_files(folder) for key, each in read_tensors(file).items()}
    if not _says_how_it_is_quantized(folder):
        strange = {key: each.dtype for key, each in found.items() if _is_quantized(key, each)}
        if strange:
            key, dtype = next(iter(strange.items()))
            raise InputError(
                f"{len(strange)} of its {len(found)} tensors are no floating-point numbers, {key} of type {dtype} for "
                "one: they are quantized, and config.json does not say how; start from the model it was made from"
            )
    return found


def _says_how_it_is_quantized(folder: Path) -> bool:
    """Tell whether integers are in order in a directory: by its configuration, or as it is no model of transformers."""
    try:
        config = read_json(folder / "config.json")
        return config.get("quantization_config") is not None or config.get("model_type") not in CONFIG_MAPPING
    except (OSError, ValueError, AttributeError):
        return True


def _is_quantized(key: str, tensor: Described) -> bool:
    """Tell whether a tensor is a weight in a type that weights are not computed in; masks and counters are none."""
    of_a_layer = key.endswith(".weight") or (len(tensor.shape) > 1 and key.endswith("_proj"))
    return of_a_layer and tensor.dtype not in FLOATS


def say_which_are_read(name: str, folder: Path) -> None:
    """Say which weights are read of a directory that has them in two files, which may differ.

    Args:
        name: What the model is called in messages.
        folder: Directory of the model, or of a part of it.
    """
    found = [each for names in WEIGHTS for each in names if (folder / each).is_file()]
    if len(found) > 1:
        logger.info("%s: its weights are read from %s; not read: %s", name, found[0], ", ".join(found[1:]))


def _instead(folder: Path) -> str:
    """Say what a directory without weights has in their place, and what to do about it; "" where it has nothing."""
    shards = sorted(each.name for each in folder.glob("*-of-*.safetensors"))
    if shards:
        return f"; {shards[0]} is a part of them, and {WEIGHTS[0][1]}, which names the parts, is missing: copy it too"
    if unfinished := [each.name for end in OF_DOWNLOADS for each in folder.glob(f"*{end}")]:
        return f"; {unfinished[0]} was not downloaded to its end: download it again"
    if parts := [each.name for each in folder.glob("pytorch_model_fsdp*")]:
        return f"; FSDP saved them in parts: accelerate merge-weights {folder / parts[0]} {folder}"
    if any(folder.glob("*.distcp")):
        return f"; FSDP saved them in parts: accelerate merge-weights {folder} DIR"
    return ""


def check_before_reading(name: str, folder: Path, model: PreTrainedModel) -> None:
    """Refuse a directory that lacks tensors of a model, by the beginning of its files: no weights are read.

    Args:
        name: What the model is called in messages.
        folder: Directory of the model.
        model: The model, on the device ``meta``.

    Raises:
        InputError: As `check_weight_files` and `check_tensors` do, or if there are no weights.
    """
    if not weight_files(folder):
        raise InputError(f"{name} has no weights: there is no {WEIGHTS[0][0]}{_instead(folder)}")
    described = check_weight_files(folder)
    if not described:
        return
    empty = {key: torch.empty(each.shape, device="meta") for key, each in described.items()}
    nowhere: Any = {"": torch.device("meta")}
    with quietly():
        opened: Any = type(model).from_pretrained(
            None, config=model.config, state_dict=empty, device_map=nowhere, **REPORTING
        )
    check_tensors(name, model, opened[1])
    for one, other in model.all_tied_weights_keys.items():
        if {one, other} <= {*described}:
            first, second = _read(folder, one), _read(folder, other)
            if first is not None and second is not None and not torch.equal(first, second):
                raise _not_tied(name, one, other)


def _read(folder: Path, key: str) -> torch.Tensor | None:
    """Read one tensor of a directory."""
    for file in weight_files(folder):
        if key not in read_tensors(file):
            continue
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                found: torch.Tensor = tensors.get_tensor(key)
                return found
        found = torch.load(file, map_location="cpu", mmap=True, weights_only=True)[key]
        return found
    return None


def check_tied(name: str, model: PreTrainedModel) -> None:
    """Refuse a model whose files hold two tensors where its configuration says that they are one.

    transformers leaves them two, and makes them one where the embeddings grow: one of them would be lost.

    Raises:
        InputError: With their names.
    """
    asked_for: Mapping[str, str] = model.get_expanded_tied_weights_keys(all_submodels=True)
    for one, other in asked_for.items():
        if one not in model.all_tied_weights_keys:
            raise _not_tied(name, one, other)


def _not_tied(name: str, one: str, other: str) -> InputError:
    return InputError(
        f"{name}: its config.json says that {one} and {other} are one (tie_word_embeddings), and its files hold two "
        f"that differ: write false there if {one} is to be used, or take it out of the files"
    )


def check_tensors(name: str, model: nn.Module, loading: Mapping[str, Any], unused: Sequence[str] = ()) -> None:
    """Refuse a model of which transformers drew tensors at random.

    Args:
        name: What it is called in messages.
        model: What was opened.
        loading: What transformers says of it, where it is opened with `REPORTING`.
        unused: Tensors that may be missing.

    Raises:
        InputError: If tensors are missing or have another shape; with the first of them.
    """
    missing = sorted({*loading["missing_keys"]} - {*unused})
    if missing:
        other = _with_a_prefix({*missing}, loading["unexpected_keys"])
        there = f"; {other} is there: take what stands before the name off all names in its files" if other else ""
        if missing == ["lm_head.weight"]:
            there = "; it was saved without what predicts tokens: save it as AutoModelForCausalLM, not as AutoModel"
        raise InputError(
            f"{name} lacks {len(missing)} of the {len(model.state_dict())} tensors of the model, {missing[0]} for "
            f"one{there}"
        )
    wrong = sorted((key, found, expected) for key, found, expected in loading["mismatched_keys"] if key not in unused)
    if wrong:
        key, found, expected = wrong[0]
        if not prod(found):
            raise InputError(
                f"{name} has {key} empty in its files, as DeepSpeed's ZeRO-3 leaves it: the weights are in parts "
                "beside them, which zero_to_fp32.py there puts together"
            )
        raise InputError(
            f"{name} has {key} of shape {_in_words(found)} in its files, and of {_in_words(expected)} by its "
            "config.json: they are not of one model"
        )


def _with_a_prefix(missing: set[str], found: Iterable[str]) -> str | None:
    """Return a tensor that is there under the name of a missing one with something before it, as ``module.``."""
    for key in sorted(found):
        parts = key.split(".")
        if any(".".join(parts[start:]) in missing for start in range(1, len(parts))):
            return key
    return None


def _in_words(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "of one number"


def warn_of_unread(name: str, unexpected: Sequence[str]) -> None:
    """Say which tensors of its files a model has no place for."""
    if unexpected:
        logger.warning(
            "%s: %d of the tensors in its files have no place in the model and are not read, %s for one",
            name,
            len(unexpected),
            sorted(unexpected)[0],
        )


def check_finite(name: str, model: nn.Module) -> None:
    """Refuse a model with weights that are no numbers. A look at each costs no more than reading them does.

    Args:
        name: What it is called in messages.
        model: What was opened.

    Raises:
        InputError: With the first such tensor.
    """
    for key, weight in model.named_parameters():
        if weight.is_meta or not weight.is_floating_point() or weight.element_size() == 1:
            continue
        if not weight.detach().sum(dtype=torch.float32).isfinite() and not weight.isfinite().all():
            raise InputError(f"{name} has numbers that are not finite (NaN or infinite) in {key}: its files are wrong")


def check_vectors(model: SentenceTransformer) -> None:
    """Refuse an embedding model that gives no vector for a word, as one in half precision may.

    Numbers that overflow in a layer are not finite at the end, or zero: a norm divides by them.

    Args:
        model: The model, in the precision that it will compute in. One that encodes no text at all is left to whoever
            encodes texts with it.

    Raises:
        InputError: If a number is not finite, or all are zero and the model is no table of words, which need not know
            the word.
    """
    try:
        vector = torch.as_tensor(model.encode(["word"], show_progress_bar=False))
    except Exception as error:
        if isinstance(error, KeyError) and error.args == ("sentence_embedding",):
            raise InputError(
                "it has a vector for each token and none for a text: its modules.json names no pooling"
            ) from error
        logger.debug("%s", error)
        return
    if not vector.isfinite().all():
        raise InputError(f"its vectors are not finite (NaN or infinite) {why_overflown(model)}")
    if reads_by_layers(model) and vector.float().norm() < VANISHED:
        raise InputError(f"its vectors are zero {why_overflown(model)}")


def reads_by_layers(model: SentenceTransformer) -> bool:
    """Tell whether a model has a transformer: then no word is unknown to it, and none has the vector zero."""
    return model.transformers_model is not None


def why_overflown(model: SentenceTransformer) -> str:
    """Return in what type a model computes whose vectors are no numbers or zero, and what to do about it."""
    said = f"in {str(model.dtype).removeprefix('torch.')}: its files are damaged; lbr verify looks at those of lbr-st"
    if model.dtype == torch.float16:
        said += "; or its numbers need a wider type, such as bfloat16 or float32"
    return said


def check_opened(name: str, opened: tuple[PreTrainedModel, Mapping[str, Any]]) -> PreTrainedModel:
    """Refuse a language model that is not whole, see `check_tensors` and `check_finite`; say what was not read.

    Args:
        name: What it is called in messages.
        opened: What ``from_pretrained`` gives with `REPORTING`.

    Returns:
        The model.
    """
    model, loading = opened
    check_tensors(name, model, loading)
    check_finite(name, model)
    warn_of_unread(name, [*loading["unexpected_keys"]])
    return model


@contextlib.contextmanager
def _replaced(from_pretrained: Callable[..., Any]) -> Iterator[None]:
    """Let any library open its models by a function, which takes transformers' own one first."""
    with _one_at_a_time:
        of_transformers: Any = PreTrainedModel
        original = vars(of_transformers)["from_pretrained"]
        of_transformers.from_pretrained = classmethod(
            lambda cls, *args, **kwargs: from_pretrained(original.__func__, cls, *args, **kwargs)
        )
        try:
            yield
        finally:
            of_transformers.from_pretrained = original


@contextlib.contextmanager
def recorded() -> Iterator[list[tuple[PreTrainedModel, Mapping[str, Any]]]]:
    """Keep what transformers says of each model that any library opens meanwhile, as `check_opened` takes it."""
    opened: list[tuple[PreTrainedModel, Mapping[str, Any]]] = []

    def from_pretrained(original: Any, cls: Any, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        both = original(cls, *args, **{**kwargs, **REPORTING})
        opened.append(both)
        return both if output_loading_info else both[0]

    with _replaced(from_pretrained), quietly(progress=True):
        yield opened


@contextlib.contextmanager
def instead_of_weights(make: Callable[[PretrainedConfig], nn.Module]) -> Iterator[None]:
    """Let any library open another module wherever transformers would read the weights of a model.

    Args:
        make: Makes the module of the configuration of the model.
    """

    def from_pretrained(original: Any, cls: Any, *args: Any, config: PretrainedConfig, **kwargs: Any) -> nn.Module:
        return make(config)

    with _replaced(from_pretrained):
        yield


def check_embedder(
    name: str, model: SentenceTransformer, opened: Sequence[tuple[PreTrainedModel, Mapping[str, Any]]]
) -> None:
    """Refuse an embedding model whose vectors would be drawn at random or no numbers.

    A tensor that no vector depends on may be missing, as the pooler of BERT mostly is; and heads may be left over.

    Args:
        name: Its name, for a line about what was not read.
        model: The embedding model.
        opened: What `recorded` kept of its parts.

    Raises:
        InputError: With the first tensor that is missing, has another shape, or is not finite.
    """
    for part, loading in opened:
        drawn = {*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])}
        check_tensors("it", part, loading, _without_effect(model, part, drawn) if drawn else ())
        prefix, children = f"{part.base_model_prefix}.", {child for child, _ in part.named_children()}
        unread = [key for key in loading["unexpected_keys"] if key.removeprefix(prefix).partition(".")[0] in children]
        warn_of_unread(name, unread)
    check_finite("it", model)


def _without_effect(model: SentenceTransformer, part: PreTrainedModel, keys: set[str]) -> list[str]:
    """Return which tensors of a part have no effect on the vector of a word, as its gradient shows."""
    parameters = {key: each for key, each in part.named_parameters() if key in keys and each.requires_grad}
    if not parameters:
        return []
    try:
        with evaluating(model), torch.enable_grad():
            features: Any = batch_to_device(model.preprocess(["word"]), model.device)
            total = model(features)["sentence_embedding"].float().sum()
            gradients = torch.autograd.grad(total, [*parameters.values()], allow_unused=True)
    except Exception as error:  # a model that encodes no word is refused for what is missing
        logger.debug("%s", error)
        return []
    return [key for key, gradient in zip(parameters, gradients, strict=True) if gradient is None]
