"""Settings that are flags: fields of dataclasses, with the help that the command line shows."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def told(help_: str, metavar: str | None = None, default: Any = None) -> Any:
    """Make a field of a configuration, with its help text.

    Args:
        help_: What it means, as the command line shows it.
        metavar: What stands for its value there.
        default: Its value where nothing is said.
    """
    return field(default=default, metadata=_shown(help_, metavar))


def required(help_: str, metavar: str) -> Any:
    """Make a field of a configuration that must be given."""
    return field(metadata=_shown(help_, metavar))


def _shown(help_: str, metavar: str | None) -> dict[str, str]:
    return {"help": help_.replace("%", "%%")} | ({} if metavar is None else {"metavar": metavar})


def flag(name: str) -> str:
    """Return how a setting is written on the command line."""
    return f"--{name.replace('_', '-')}"
