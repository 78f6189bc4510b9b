"""Templates: texts with fields of a row in them."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from lbr_st.errors import InputError, RowError

Values = Mapping[str, Any]

PATH = re.compile(r"(?P<name>[^\[\].]+)(?P<rest>(\[[^\[\]]+\]|\.[^\[\].]+)*)")
STEP = re.compile(r"\[([^\[\]]+)\]|\.([^\[\].]+)")
EXCERPT = 40


def excerpt(value: Any) -> str:
    """Return the beginning of a value, for messages."""
    return json.dumps(value, default=str)[:EXCERPT]


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
