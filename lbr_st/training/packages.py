"""Packages that training arguments ask for, looked for before any data are read."""

from __future__ import annotations

from transformers import Trainer, TrainingArguments
from transformers.integrations import get_available_reporting_integrations, get_reporting_integration_callbacks
from transformers.utils import is_liger_kernel_available

from lbr_st.errors import InputError, check_installed, one_line

# Trackers that transformers does not list among those that are there: they say so themselves when they are made.
NOT_LISTED = ("azure_ml", "flyte")


def check_packages(arguments: TrainingArguments) -> None:
    """Refuse an optimizer, a tracker or a kernel whose package is not there; the trainer would say so much later.

    Raises:
        InputError: With the flag, and what the trainer says of it.
    """
    try:
        Trainer.get_optimizer_cls_and_kwargs(arguments)
    except (ImportError, ValueError) as error:
        if "pass a" not in str(error):  # some want to see the model, which is not read yet
            name = getattr(arguments.optim, "value", arguments.optim)
            raise InputError(f"--optim {name}: {one_line(error)}") from error
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
