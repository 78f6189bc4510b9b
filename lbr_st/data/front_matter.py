"""Front matter: what a page says of itself before its text, in YAML, TOML or JSON, as Jekyll and Hugo read it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from typing import Any

import yaml

BOM = "\ufeff"
# The line that a block begins with; those that it ends with, and what reads what is between them.
FENCES: dict[str, tuple[tuple[str, ...], Callable[[str], Any]]] = {
    # To this loader all is text: a date that does not exist is none the less for it.
    "---": (("---", "..."), lambda text: yaml.load(text, Loader=yaml.BaseLoader)),  # noqa: S506
    "+++": (("+++",), tomllib.loads),
}


def split_front_matter(text: str) -> tuple[str, str]:
    """Return the title that the front matter of a text says, or "", and the text without it.

    In place of the front matter are as many empty lines: the others keep their numbers. What does not parse, or is no
    mapping of names to values, is text: a line of dashes may be a thematic break.

    Args:
        text: Text of a whole file.
    """
    lines = text.removeprefix(BOM).split("\n")
    fence = lines[0].rstrip()
    if fence in FENCES:
        found = _fenced(lines, *FENCES[fence])
    elif fence.startswith("{"):
        found = _json(text.removeprefix(BOM))
    else:
        return "", text
    if found is None:
        return "", text
    about, end = found
    title = next((value for name, value in about.items() if str(name).lower() == "title"), "")
    has_title = isinstance(title, str | int | float) and not isinstance(title, bool)
    return " ".join(str(title).split()) if has_title else "", "\n" * end + "\n".join(lines[end:])


def _fenced(lines: list[str], ends: tuple[str, ...], parse: Callable[[str], Any]) -> tuple[dict[Any, Any], int] | None:
    """Return what is in the block between two fences, and how many lines it has, with them; None if there is none."""
    end = next((number for number, line in enumerate(lines[1:], start=1) if line.rstrip() in ends), None)
    if end is None:
        return None
    try:
        found = parse("\n".join(line.rstrip("\r") for line in lines[1:end]))
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    found = {} if found is None else found  # Jekyll's pages that say nothing of themselves
    return (found, end + 1) if isinstance(found, dict) else None


def _json(text: str) -> tuple[dict[Any, Any], int] | None:
    """Return the same of an object, which has no fences: behind it its last line is empty."""
    try:
        found, end = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return None
    rest = text[end:].partition("\n")[0]
    return (found, text.count("\n", 0, end) + 1) if isinstance(found, dict) and not rest.strip() else None
