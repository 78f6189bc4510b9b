"""Ways to start a run that would not run as asked: refused, with the way that does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from accelerate.utils import DynamoBackend, PrecisionType, str_to_bool
from transformers import TrainingArguments

from lbr_st.errors import NO_NETWORK, InputError, foreseen, one_line

# What a trainer raises of arguments that contradict each other, want a package that is not there, or a network.
CANNOT_START = (ValueError, RuntimeError, ImportError, OSError)

# What a launcher says to a process in its environment: how many there are, which one it is, and where the first one is.
OF_LAUNCHERS = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT")


@contextlib.contextmanager
def making_a_trainer() -> Iterator[None]:
    """Turn what a trainer raises where it cannot be made into one line, but for what is of the network.

    Raises:
        InputError: If it cannot be made.
    """
    try:
        yield
    except InputError:
        raise
    except CANNOT_START as error:
        if isinstance(error, OSError) and NO_NETWORK in (foreseen(error) or ""):
            raise
        raise InputError(one_line(error)) from error


def check_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse an environment that says what accelerate does not understand, or one launcher's half.

    Args:
        environment: Variables by name.

    Raises:
        InputError: With the variable, and what to do.
    """
    known = {"ACCELERATE_MIXED_PRECISION": PrecisionType.list(), "ACCELERATE_DYNAMO_BACKEND": DynamoBackend.list()}
    for name, values in known.items():
        value = environment.get(name)
        if value is not None and value.lower() not in map(str.lower, values):
            raise InputError(f"{name}={value} in the environment: unset it, or choose from {', '.join(values)}")
    for name, value in environment.items():
        if name.startswith("ACCELERATE_USE_"):
            try:
                str_to_bool(value)
            except ValueError as error:
                raise InputError(f"{name}={value} in the environment: unset it, or say true or false") from error
    there = {name: environment[name] for name in OF_LAUNCHERS if environment.get(name)}
    remedy = f"unset {' '.join(there)} to train in one process, or start several with torchrun --nproc-per-node N"
    for name, value in there.items():
        if not value.lstrip("-").isdecimal():
            raise InputError(f"{name}={value} in the environment is no number: {remedy}")
    several = int(there.get("WORLD_SIZE", 1)) > 1
    if (several or int(there.get("LOCAL_RANK", -1)) >= 0) and not environment.get("MASTER_ADDR"):
        said = " ".join(f"{name}={value}" for name, value in there.items())
        raise InputError(f"the environment says {said}, as of one of several processes, but no MASTER_ADDR: {remedy}")


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
