"""Templates: texts with fields of a row in them."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lbr_st.errors import InputError, RowError

Values = Mapping[str, Any]

PATH = re.compile(r"(?P<name>[^\[\].]+)(?P<rest>(\[[^\[\]]+\]|\.[^\[\].]+)*)")
STEP = re.compile(r"\[([^\[\]]+)\]|\.([^\[\].]+)")
EXCERPT = 40
MOST_STEPS = 8  # into a cell that nobody described


def excerpt(value: Any) -> str:
    """Return the beginning of a value, for messages."""
    return json.dumps(value, default=str)[:EXCERPT]


def column_of(path: str, columns: Iterable[str]) -> str:
    """Return the column of a path: all of it where that is one, as ``a.b`` may be, else what comes before a step."""
    return next((each for each in (path, path.partition("[")[0]) if each in columns), re.split(r"[.\[]", path)[0])


def field_of(values: Values, path: str) -> Any:
    """Return what is in a column, or at a path such as ``annotations[0][label]``; None where nothing is."""
    column = column_of(path, values)
    value = values.get(column)
    for step in (a or b for a, b in STEP.findall(path[len(column) :])):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def leaves(path: str, value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield what is in a cell that is no list and no object, each with its path; of a list what its first entry has."""
    if depth > MOST_STEPS:
        return
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from leaves(f"{path}[{key}]", each, depth + 1)
    elif isinstance(value, list):
        yield from leaves(f"{path}[0]", value[0], depth + 1) if value else ()
    else:
        yield path, value


class Template:
    """Text with fields of a row in it: ``{iupac}; {formula}``, ``{names[0]}``, ``{answers[text][0]}``.

    Numbers are written as they are; ``{{`` and ``}}`` are braces.

    Args:
        text: The template.

    Raises:
        InputError: If braces do not match, a field has no name, or there is no field.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts: list[tuple[str, list[str] | None]] = []
        try:
            pieces = list(string.Formatter().parse(text))
        except ValueError as error:
            raise InputError(f"template {text!r}: {error}") from error
        for literal, name, form, conversion in pieces:
            match = PATH.fullmatch(name or "")
            if name is not None and (not match or form or conversion):
                raise InputError(f"template {text!r}: {{{name}}} is no field; write {{name}}, {{name[0]}} or {{a[b]}}")
            steps = [match["name"], *(a or b for a, b in STEP.findall(match["rest"]))] if match else None
            self._parts.append((literal, steps))
        if not any(steps for _, steps in self._parts):
            raise InputError(f"template {text!r} has no field; write a field of the data in braces, {{name}}")

    @property
    def columns(self) -> list[str]:
        """The columns that it reads."""
        return [steps[0] for _, steps in self._parts if steps]

    def fill(self, where: str, values: Values) -> str:
        """Return the text for a row.

        Raises:
            RowError: If a field is not there, is null or is no text or number.
        """
        return "".join(literal + (self._value(where, values, steps) if steps else "") for literal, steps in self._parts)

    def _value(self, where: str, values: Any, steps: list[str]) -> str:
        value, path = values, ""
        for step in steps:
            path += f"[{step}]" if path else step
            if isinstance(value, Mapping) and step in value:
                value = value[step]
            elif isinstance(value, Sequence) and not isinstance(value, str) and re.fullmatch(r"-?\d+", step):
                if not -len(value) <= int(step) < len(value):
                    raise RowError(where, "too short a list", f"no {path}: there are {len(value)} entries")
                value = value[int(step)]
            else:
                found = f" (found: {', '.join(map(str, value))[:200]})" if isinstance(value, Mapping) else ""
                raise RowError(where, "missing field", f"no field {path!r}{found}")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise RowError(where, "not text", f"field {path!r}: expected text or a number, found {excerpt(value)}")
        return str(value)
