"""Packages and values that training arguments ask for, looked at before any data are read."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_available_reporting_integrations, get_reporting_integration_callbacks
from transformers.utils import is_liger_kernel_available

from lbr_st.errors import InputError, check_installed, one_line

# Trackers that transformers does not list among those that are there: they say so themselves when they are made.
NOT_LISTED = ("azure_ml", "flyte")

WITHOUT_OPTIONS = ("constant", "constant_with_warmup")  # schedules; transformers ignores them
BY_EVALUATION = ("reduce_lr_on_plateau", "greedy")  # schedules that want a score at each step
STEPS_OF_A_TRIAL = 4


def check_packages(arguments: TrainingArguments) -> None:
    """Refuse an optimizer, a tracker or a kernel whose package is not there, or a schedule that cannot be made.

    The trainer would say so much later.

    Raises:
        InputError: With the flag, and what the trainer says of it.
    """
    _check_optimizer(arguments)
    _check_schedule(arguments)
    there = get_available_reporting_integrations()
    for name in arguments.report_to or ():
        try:
            [tracker] = get_reporting_integration_callbacks([name])
            if name in NOT_LISTED:
                tracker()
        except (ImportError, RuntimeError, ValueError) as error:
            raise InputError(f"--report-to {name}: {one_line(error)}") from error
        if name not in there and name not in NOT_LISTED:
            raise InputError(f"--report-to {name} needs {name}, which is not installed: pip install {name}")
    if arguments.use_liger_kernel and not is_liger_kernel_available():
        check_installed("liger_kernel", "--use-liger-kernel")
        raise InputError("--use-liger-kernel: too old a liger-kernel is installed; pip install -U liger-kernel")


def _check_optimizer(arguments: TrainingArguments) -> None:
    """Make the optimizer of one number, if it is one of torch's or transformers'."""
    name, told = getattr(arguments.optim, "value", arguments.optim), arguments.optim_args
    for pair in told.split(",") if told else ():
        key, separator, value = (piece.strip() for piece in pair.partition("="))
        if not (key and separator and value) or "=" in value:
            raise InputError(f"--optim-args {told}: write name=value, several with commas: momentum=0.9,nesterov=true")
    flags = f"--optim {name}" + (f" --optim-args {told}" if told else "")
    try:
        make, settings = Trainer.get_optimizer_cls_and_kwargs(arguments)
        if make.__module__.partition(".")[0] in ("torch", "transformers"):
            make([torch.nn.Parameter(torch.zeros(1))], **settings | {"lr": arguments.learning_rate or 1.0})
    except (ImportError, ValueError, TypeError, AttributeError) as error:
        if "pass a" not in str(error):  # some want to see the model, which is not read yet
            raise InputError(f"{flags}: {one_line(error)}") from error
        return
    for pair in told.split(",") if told else ():
        if not _is_taken(arguments, pair, settings):
            raise InputError(f"{flags}: this optimizer takes no {pair.partition('=')[0].strip()}; leave it out")


def _is_taken(arguments: TrainingArguments, option: str, settings: Mapping[str, Any]) -> bool:
    """Tell whether an option of the optimizer changes what it is made with, or says what it is made with anyway."""
    alone, without = copy.copy(arguments), copy.copy(arguments)
    alone.optim_args, without.optim_args = option, None
    made = [repr(Trainer.get_optimizer_cls_and_kwargs(each)[1]) for each in (alone, without)]
    return made[0] != made[1] or option.partition("=")[0].strip() in settings


def _check_schedule(arguments: TrainingArguments) -> None:
    """Run the schedule of the learning rate for a few steps of an optimizer of one number."""
    name = getattr(arguments.lr_scheduler_type, "value", arguments.lr_scheduler_type)
    told: Any = arguments.lr_scheduler_kwargs
    flags = f"--lr-scheduler-type {name}" + (f" --lr-scheduler-kwargs {told!r}" if told else "")
    if isinstance(told, str):
        raise InputError(f"{flags}: it is no mapping of names to values, such as '{{\"num_cycles\": 2}}'")
    if told and name in WITHOUT_OPTIONS:
        raise InputError(f"{flags}: this schedule takes no options; leave them out")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=arguments.learning_rate or 1.0)
    try:
        schedule = get_scheduler(name, optimizer, 1, STEPS_OF_A_TRIAL, told or {})
        if name not in BY_EVALUATION:
            for _ in range(STEPS_OF_A_TRIAL):
                optimizer.step()
                schedule.step()
    except (TypeError, ValueError) as error:
        raise InputError(f"{flags}: {one_line(error)}") from error
