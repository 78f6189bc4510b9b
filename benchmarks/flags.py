"""The command lines of the programs: what they have in common, and what a user says of every training run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from transformers import HfArgumentParser

from lbr_st.errors import InputError
from lbr_st.training.config import RunConfig


def program_parser(about: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is the docstring of a program, laid out as it is written."""
    return argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


class TrainingParser(HfArgumentParser):
    """A parser of the arguments that every training run has; those that are not given are left out."""

    def __init__(self) -> None:
        dataclass: Any = RunConfig
        super().__init__(dataclass, allow_abbrev=False, add_help=False)
        for action in self._actions:
            action.default, action.required = argparse.SUPPRESS, False

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong: the usage would be a hundred lines.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{message}: not an argument of this program, nor one of every training run")


def training_settings(flags: Sequence[str]) -> dict[str, Any]:
    """Read what a user says of every training run: ``--bf16 --weight-decay 0.1`` is ``{"bf16": True, ...}``.

    Raises:
        InputError: If it is not said by a field of `RunConfig`.
    """
    return vars(TrainingParser().parse_args(list(flags)))
