"""Silence for a while: other libraries report what is no news to whoever called this package."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from transformers.utils import logging as transformers_logging


@contextlib.contextmanager
def quietly(progress: bool = False) -> Iterator[None]:
    """Load without transformers' reports: an encoder without its head is what is wanted here.

    Args:
        progress: Leave the progress bars, where gigabytes are read.
    """
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    if not progress:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def silently() -> Iterator[None]:
    """Keep every library's log records back, errors included, where a failure raises anyway; see also `quietly`."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with quietly():
            yield
    finally:
        logging.disable(before)
