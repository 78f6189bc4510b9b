"""A PEFT adapter named as a model: opened on its base and merged, or refused by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel
from transformers.utils.peft_utils import ADAPTER_CONFIG_NAME, find_adapter_config_file

from lbr_st.errors import InputError, one_line, require
from lbr_st.files import read_json
from lbr_st.model.quiet import quietly
from lbr_st.model.weights import check_finite, read_tensors

logger = logging.getLogger(__name__)

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."  # how the names of its tensors begin

# What stands before the input, or beside the layers: no weights that it could be merged into.
NOT_MERGED = {
    "ADAPTION_PROMPT", "CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "POLY", "PREFIX_TUNING", "PROMPT_TUNING",
    "P_TUNING", "XLORA",
}  # fmt: skip


class Adapter(NamedTuple):
    """An adapter before any weights are read.

    Attributes:
        name: Its directory or id of the Hub.
        base: Model that it was trained on: a directory, an id of the Hub, or a GGUF file.
        hub: Arguments of the Hub that it is found with.
    """

    name: str
    base: str
    hub: Mapping[str, Any]


def find_adapter(name: str, **hub: Any) -> Adapter | None:
    """Tell whether a name stands for an adapter, and which model it was trained on.

    Where a directory holds a whole model too, that is its base, as it is for transformers; else the one it names.

    Args:
        name: Directory or id of the Hub.
        **hub: Arguments of the Hub: ``revision``, ``token``, ...

    Returns:
        The adapter; None for any other model.

    Raises:
        InputError: If it cannot be merged into a language model, or its base is not there.
    """
    if Path(name).is_file():
        return None
    file = find_adapter_config_file(name, **hub)
    if file is None:
        return None
    try:
        about = read_json(Path(file))
        kind, task = str(about["peft_type"]), about.get("task_type")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{name} is not an adapter: {ADAPTER_CONFIG_NAME} cannot be read ({one_line(error)})"
        ) from error
    if kind in NOT_MERGED:
        raise InputError(
            f"{name} is an adapter of the kind {kind}, which cannot be merged into the weights of its base; start from "
            "the base, or from an adapter such as LoRA"
        )
    if task not in (None, "CAUSAL_LM"):
        raise InputError(
            f"{name} is an adapter for the task {task}, not of a language model (CAUSAL_LM); start from its base"
        )
    base = name if _has_weights(Path(name)) else about.get("base_model_name_or_path")
    if Path(name).is_dir():
        _check_weights(Path(name))
    where = f"write the name of its base as base_model_name_or_path into {ADAPTER_CONFIG_NAME}"
    if not base or not isinstance(base, str):
        raise InputError(f"{name} is an adapter that does not say what it was trained on; {where}")
    if Path(name).is_dir() and not _has_weights(Path(name)) and _leads_back(name, base):
        raise InputError(f"{name} is an adapter on itself, and the weights of a model are not there; {where}")
    if not Path(base).exists() and (base.count("/") > 1 or base.startswith((".", "/", "~"))):
        raise InputError(f"{name} is an adapter on {base}, which is not there; put it there, or {where}")
    return Adapter(name, base, hub)


def _check_weights(folder: Path) -> None:
    """Refuse an adapter whose own weights are not there, or not whole, before those of its base are read."""
    there = _weights_of(folder)
    if there is None:
        raise InputError(f"{folder} is an adapter without weights: there is no {WEIGHTS[0]}; copy it there")
    try:
        described = read_tensors(there)
    except InputError as error:
        raise InputError(f"{folder} is an adapter that cannot be read: {error}") from error
    strange = next((key for key in described if not key.startswith(PREFIX)), None)
    if strange is not None:
        raise InputError(
            f"{folder} is an adapter that cannot be read: {there.name} has {strange}, and the names of peft begin with "
            f"{PREFIX} ; write that before the names, or save the adapter with peft"
        )


def _weights_of(folder: Path) -> Path | None:
    return next((folder / name for name in WEIGHTS if (folder / name).exists()), None)


def check_adapter(adapter: Adapter, base: PreTrainedModel) -> None:
    """Refuse an adapter on this machine that does not fit its base, by the beginning of its file: no weights are read.

    Args:
        adapter: What `find_adapter` returned.
        base: Its base, on the device ``meta``; it is changed.

    Raises:
        InputError: If tensors of one are not in the other, or have other shapes.
    """
    file = _weights_of(Path(adapter.name))
    if file is None or not (found := read_tensors(file)):
        return
    peft = require("peft", f"{adapter.name}, an adapter,")
    try:
        with quietly():
            adapted: Any = peft.PeftModel(base, peft.PeftConfig.from_pretrained(adapter.name), low_cpu_mem_usage=True)
            expected = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
            own = adapted.state_dict()
    except Exception as error:  # some kinds begin with the weights of their base; whoever merges it says what is wrong
        logger.debug("%s", error)
        return
    strangers = sorted({*expected} - {*found}) or sorted({*found} - {*expected} - {*own})
    if strangers:
        raise _not_fitting(adapter, strangers)
    for key, tensor in expected.items():
        if list(tensor.shape) != found[key].shape:
            raise InputError(
                f"the adapter {adapter.name} does not fit its base {adapter.base}: size mismatch, {key} is of shape "
                f"{found[key].shape}, and {list(tensor.shape)} is needed"
            )


def _not_fitting(adapter: Adapter, strangers: Sequence[str]) -> InputError:
    return InputError(
        f"the adapter {adapter.name} does not fit its base {adapter.base}: {len(strangers)} tensors of one are not in "
        f"the other, {strangers[0]} for one"
    )


def _leads_back(name: str, base: str) -> bool:
    """Tell whether the adapters that one is trained on are in the end that one, or go round without it."""
    seen = {Path(name).resolve()}
    while base and not _has_weights(Path(base)):
        if Path(base).resolve() in seen:
            return True
        seen.add(Path(base).resolve())
        try:
            base = read_json(Path(base, ADAPTER_CONFIG_NAME))["base_model_name_or_path"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
    return False


def _has_weights(folder: Path) -> bool:
    """Tell whether a directory is a whole model, an adapter beside it or not."""
    names = ("model*.safetensors", "pytorch_model*.bin")
    return (folder / "config.json").is_file() and any(file for name in names for file in folder.glob(name))


def merge_adapter(adapter: Adapter, model: PreTrainedModel) -> PreTrainedModel:
    """Merge an adapter into the weights of its base, in place.

    Args:
        adapter: What `find_adapter` returned.
        model: Its base, whose weights keep their precision. transformers may have put the adapter into it already, as
            it does where it opens a directory that holds both.

    Returns:
        The model, ready to be trained.

    Raises:
        InputError: If peft is not installed, or the adapter does not fit its base.
    """
    name, hub = adapter.name, dict(adapter.hub)
    peft = require("peft", f"{name}, an adapter,")
    _take_out(model, peft)
    try:
        with quietly():
            adapted = peft.PeftModel(model, peft.PeftConfig.from_pretrained(name, **hub))
            found = adapted.load_adapter(name, "default", torch_device="cpu", **hub)
            strangers = sorted({*found.unexpected_keys, *found.missing_keys})
            _untie(adapted, peft)
            whole = None if strangers else adapted.merge_and_unload()
    except (MemoryError, torch.OutOfMemoryError, OSError):
        raise  # of the machine, not of the adapter
    except Exception as error:  # peft says what does not fit with errors of many kinds
        raise InputError(f"the adapter {name} does not fit its base {adapter.base}: {one_line(error)}") from error
    if whole is None:
        raise _not_fitting(adapter, strangers)
    whole.requires_grad_(True)
    check_finite(f"{adapter.base} with {name}", whole)
    return whole


def _untie(adapted: Any, peft: Any) -> None:
    """Give the head a weight of its own where one of the two that share it has an update: both would get it."""
    model = adapted.get_base_model()
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not any(isinstance(each, peft.tuners.lora.LoraLayer) for each in (embeddings, head)):
        return
    weights, own = (each.get_base_layer() if hasattr(each, "get_base_layer") else each for each in (embeddings, head))
    if weights.weight is own.weight:
        own.weight = torch.nn.Parameter(own.weight.detach().clone())
        for config in {id(each): each for each in (model.config, model.config.get_text_config())}.values():
            config.tie_word_embeddings = False


def merge_opened(model: PreTrainedModel, name: str) -> None:
    """Merge the adapter that transformers put into a model while it opened it, in place; else do nothing.

    Args:
        model: What was opened.
        name: Directory or id of the Hub that it was opened from.

    Raises:
        InputError: If the adapter cannot be merged.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        merge_adapter(Adapter(name, model.config._name_or_path, {}), model)


def _take_out(model: Any, peft: ModuleType) -> None:
    """Take out of a model what transformers put into it of an adapter; its weights are then those of the base."""
    if not getattr(model, "_hf_peft_config_loaded", False):
        return
    layers = require("peft.tuners.tuners_utils", "an adapter").BaseTunerLayer
    for path, module in list(model.named_modules()):
        if isinstance(module, layers):
            model.set_submodule(path, module.get_base_layer())
        elif isinstance(module, peft.utils.AuxiliaryTrainingWrapper):
            model.set_submodule(path, module.original_module)
    model._hf_peft_config_loaded = False
    del model.peft_config
    vars(model).pop("_weight_conversions", None)  # it would be saved under the names of an adapter
