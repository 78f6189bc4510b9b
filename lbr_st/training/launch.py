"""Ways to start a run that would not run as asked: refused, with the way that does."""

from __future__ import annotations

import os
from typing import Any

from transformers import TrainingArguments

from lbr_st.errors import InputError

# What a trainer raises of arguments that contradict each other, want a package that is not there, or a network.
CANNOT_START = (ValueError, RuntimeError, ImportError, OSError)


def check_launch(arguments: TrainingArguments, several: bool = True) -> None:
    """Refuse a launch that would silently run as one process, or not as asked.

    Args:
        arguments: The trainer's arguments.
        several: Whether the program runs in several processes.

    Raises:
        InputError: If one process sees several GPUs, FSDP or DeepSpeed is asked for where it does nothing, or a
            launcher asks for what the arguments do not: with what to start instead.
    """
    torchrun = "start it with torchrun --nproc-per-node N" if several else "start it with python, in one process"
    is_cpu = arguments.device.type == "cpu"
    if arguments.n_gpu > 1:
        raise InputError(
            f"this one process sees {arguments.n_gpu} GPUs: set CUDA_VISIBLE_DEVICES to one of them"
            + (f", or {torchrun} for N of them" if several else "")
        )
    if is_cpu and (arguments.fsdp or arguments.deepspeed):
        raise InputError("FSDP and DeepSpeed need GPUs: on a CPU the trainer leaves them out")
    if is_cpu and "ACCELERATE_USE_CPU" in os.environ and arguments.world_size == 1:
        raise InputError(f"accelerate launch runs one process on a CPU, whatever --num_processes says; {torchrun}")
    for variable, name in (("ACCELERATE_USE_FSDP", "fsdp"), ("ACCELERATE_USE_DEEPSPEED", "deepspeed")):
        if os.environ.get(variable, "false").lower() == "true" and not getattr(arguments, name):
            raise InputError(f"a configuration of accelerate asks for {name}: {torchrun} and give --{name} instead")
    if arguments.fsdp:
        _check_fsdp(arguments)
    plugin = getattr(arguments, "hf_deepspeed_config", None)
    if plugin is not None and plugin.is_zero3():
        raise InputError("ZeRO stage 3 has no whole head to make the loss with; take stage 2, or FSDP")


def _check_fsdp(arguments: TrainingArguments) -> None:
    config: dict[str, Any] = dict(arguments.fsdp_config or {})  # type: ignore[arg-type]
    if arguments.world_size == 1:
        raise InputError("--fsdp shards over several processes: start it with torchrun --nproc-per-node N")
    if config.get("state_dict_type", "FULL_STATE_DICT") != "FULL_STATE_DICT":
        raise InputError("--fsdp-config: checkpoints are whole models, so state_dict_type must be FULL_STATE_DICT")
    if str(config.get("cpu_ram_efficient_loading", False)).lower() == "true":
        raise InputError("--fsdp-config: cpu_ram_efficient_loading would untie the head from the embeddings")
    ours = getattr(arguments, "activation_checkpointing", False) or arguments.gradient_checkpointing
    if config.get("activation_checkpointing") and ours:
        raise InputError("activation checkpointing is on twice, in --fsdp-config and beside it")
