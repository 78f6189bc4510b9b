"""A device that is named by a user: there, or refused before anything is done on it."""

from __future__ import annotations

import torch

from lbr_st.errors import InputError


def check_device(name: str | None, flag: str = "--device") -> None:
    """Refuse a device that this machine has not, or that torch knows nothing of, by a number that is put on it.

    Args:
        name: Its name, as torch has it: ``cpu``, ``cuda``, ``cuda:1``, ``mps`` ...; None for whatever there is.
        flag: Flag it was given with, for the message.

    Raises:
        InputError: With the devices that are there.
    """
    if name is None:
        return
    try:
        torch.zeros(1, device=name).tolist()  # "meta" has no numbers
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # each kind of device says in its own way that it is absent
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        if torch.backends.mps.is_available():
            there.append("mps")
        raise InputError(f"{flag} {name}: no such device on this machine, which has {', '.join(there)}") from error
