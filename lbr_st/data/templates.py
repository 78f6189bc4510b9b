"""Templates: texts with fields of a row in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lbr_st.data.cleaning import printable
from lbr_st.errors import InputError, RowError

Values = Mapping[str, Any]

STEP = re.compile(r"\[([^\[\]]+)\]|\.([^\[\].]+)")
_MARK = re.compile(r"[{}]")
EXCERPT = 40
MOST_STEPS = 8  # into a cell that nobody described


def excerpt(value: Any) -> str:
    """Return the beginning of a value, for messages."""
    return printable(json.dumps(value, default=str, ensure_ascii=False))[:EXCERPT]


def column_of(path: str, columns: Iterable[str]) -> str:
    """Return the column of a path: all of it where that is one, as ``a.b`` or ``Answer [en]`` may be, else its head.

    The head is as much of it as is a column, up to a step.
    """
    if path in columns:
        return path
    heads = [path[: step.start()] for step in re.finditer(r"[.\[]", path)]
    return next((head for head in reversed(heads) if head in columns), heads[0] if heads else path)


def _steps(rest: str) -> list[str]:
    return [a or b for a, b in STEP.findall(rest)]


def field_of(values: Values, path: str) -> Any:
    """Return what is in a column, or at a path such as ``annotations[0][label]``; None where nothing is."""
    column = column_of(path, values)
    value = values.get(column)
    for step in _steps(path[len(column) :]):
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
    elif isinstance(value, list | tuple):  # of a map of Parquet pyarrow makes tuples
        yield from leaves(f"{path}[0]", value[0], depth + 1) if value else ()
    else:
        yield path, value


class Template:
    r"""Text with fields of a row in it: ``{iupac}; {formula}``, ``{names[0]}``, ``{answers[text][0]}``.

    A field is the name of a column, whatever marks are in it, or a path into one. Numbers are written as they are;
    ``{{`` and ``}}`` are braces, and ``\n`` between fields is the end of a line, as shells pass it.

    Args:
        text: The template.

    Raises:
        InputError: If braces do not match, a field has no name, or there is no field.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = list(self._parse())  # each a literal, or a field and True
        if not any(is_field for _, is_field in self._parts):
            raise InputError(f"template {text!r} has no field; write a field of the data in braces, {{name}}")

    def _parse(self) -> Iterator[tuple[str, bool]]:
        text, at = self.text, 0
        while mark := _MARK.search(text, at):
            start, brace = mark.start(), mark.group()
            yield text[at:start].replace("\\n", "\n"), False
            if text[start : start + 2] == 2 * brace:
                yield brace, False
                at = start + 2
                continue
            at, depth = start + 1, 1 if brace == "{" else 0
            while depth and (mark := _MARK.search(text, at)):
                depth += 1 if mark.group() == "{" else -1  # a name may have braces
                at = mark.end()
            if depth or brace == "}":
                raise InputError(
                    f"template {text!r}: a brace {brace} has no other; {{{{ and }}}} are braces of the text"
                )
            if not text[start + 1 : at - 1].strip():
                raise InputError(f"template {text!r}: {{}} is no field; write {{name}}, {{name[0]}} or {{a[b]}}")
            yield text[start + 1 : at - 1], True
        yield text[at:].replace("\\n", "\n"), False

    @property
    def field(self) -> str | None:
        """The field that is all of it; None where there is more."""
        [field, *more] = [part for part, is_field in self._parts if part or is_field]
        return None if more else field

    @property
    def fields(self) -> tuple[str, ...]:
        """Its different fields, in their order."""
        return tuple(dict.fromkeys(part for part, is_field in self._parts if is_field))

    def columns_in(self, values: Values) -> list[str]:
        """Return the columns of a row that it reads."""
        return [column_of(part, values) for part, is_field in self._parts if is_field]

    def elements_in(self, values: Values) -> Iterator[tuple[str, int, int]]:
        """Yield the path of each list of a row that it takes an element of, how many there are, and which it takes."""
        for field in (part for part, is_field in self._parts if is_field):
            path = column_of(field, values)
            value = values.get(path)
            for step in _steps(field[len(path) :]):
                if isinstance(value, list) and re.fullmatch(r"-?\d+", step) and -len(value) <= int(step) < len(value):
                    yield path, len(value), int(step) % len(value)
                    value = value[int(step)]
                else:
                    value = value.get(step) if isinstance(value, Mapping) else None
                path += f"[{step}]"

    def fill(self, where: str, values: Values) -> str:
        """Return the text for a row.

        Raises:
            RowError: If a field is not there, is null or is no text or number.
        """
        return "".join(text for _, text in self.pieces(where, values))

    def pieces(self, where: str, values: Values) -> list[tuple[str | None, str]]:
        """Return the texts that it is put together of, each with its field; None for what stands between fields.

        Raises:
            RowError: See `fill`.
        """
        return [
            (part, self._value(where, values, part)) if is_field else (None, part)
            for part, is_field in self._parts
            if part
        ]

    def _value(self, where: str, values: Values, field: str) -> str:
        value: Any = values
        path, column = "", column_of(field, values)
        for step in (column, *_steps(field[len(column) :])):
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
