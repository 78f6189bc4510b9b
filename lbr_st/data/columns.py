"""Where the query, the document and the hard negatives of a row are: usual names, templates, chats, multiple choice."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from lbr_st.data.same_text import AUTO, EXACT, LOOSE, same_text
from lbr_st.errors import InputError, RowError
from lbr_st.records import FIELDS, Record

Values = Mapping[str, Any]

# The names a field goes by, in the order they are looked for.
COLUMNS = {
    "query": ("query", "question", "anchor", "instruction"),
    "document": ("document", "answer", "positive", "passage", "output", "response", "text", "content"),
}
NEGATIVES = re.compile(r"(hard_)?negatives?(_\d+)?", re.IGNORECASE)
# A title is asked for where nothing else is.
TITLE = {"query": ("title",), "document": ()}
CHOICES = ("choices", "options")
CHOICE_ANSWERS = ("answer_idx", "answerkey", "answer_index", "correct_idx", "label", "answer")
PATH = re.compile(r"(?P<name>[^\[\].]+)(?P<rest>(\[[^\[\]]+\]|\.[^\[\].]+)*)")
STEP = re.compile(r"\[([^\[\]]+)\]|\.([^\[\].]+)")
EXCERPT = 40


def text_of(where: str, column: str, value: Any) -> str:
    """Return a value that must be text.

    Raises:
        RowError: If it is another thing, or blank.
    """
    where = f"{where}, column {column!r}"
    if not isinstance(value, str):
        raise RowError(where, "not text", f"expected text, found {json.dumps(value, default=str)[:EXCERPT]}")
    if not value.strip():
        raise RowError(where, "empty text", "the text is empty")
    return value


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
            found = json.dumps(value, default=str)[:EXCERPT]
            raise RowError(where, "not text", f"field {path!r}: expected text or a number, found {found}")
        return str(value)


class Source(Protocol):
    """Where a text of a row comes from."""

    def fill(self, where: str, values: Values) -> str:
        """Return the text."""


@dataclass(frozen=True)
class Column:
    """A text under a name of its own; see `Source`.

    Attributes:
        name: Name of the column in the row.
        may_be_blank: Whether blank and null are "", not an error.
    """

    name: str
    may_be_blank: bool = False

    def fill(self, where: str, values: Values) -> str:
        """Return the text.

        Raises:
            RowError: If it is blank or no text.
        """
        value = values[self.name]
        return "" if self.may_be_blank and (value is None or value == "") else text_of(where, self.name, value)


@dataclass(frozen=True)
class Columns:
    """Where the user says that things are; what is None is found by usual names.

    Attributes:
        query: Template of the query.
        document: Template of the document.
        negatives: Templates of hard negatives.
        choices: The options of a multiple-choice question: the field that holds them, as a list, a mapping of letters
            or ``{"text": [...], "label": [...]}``; or a template for each.
        answer: The field that says which option is right: its number from 0, its letter or label, or its text.
    """

    query: Template | None = None
    document: Template | None = None
    negatives: tuple[Template, ...] = ()
    choices: str | tuple[Template, ...] | None = None
    answer: str | None = None


class RowReader:
    """Reads the rows of one source.

    How a row is read, is decided by the columns it has: they need not be the same in all rows.

    Args:
        columns: What the user says.
        needed: Those of ``query`` and ``document`` that there must be.
        optional: Those of them that are read where they are there.
    """

    def __init__(self, columns: Columns, needed: Sequence[str], optional: Sequence[str] = ()) -> None:
        self.columns, self.needed, self.optional = columns, needed, optional
        self._readers: dict[tuple[str, ...], Callable[[str, Values], Record]] = {}

    def __call__(self, where: str, values: Values) -> Record:
        """Return what is in a row.

        Args:
            where: Source and line, for messages.
            values: The row.

        Returns:
            ``query``, ``document`` and ``negatives`` (a list), those of them that there are, ``relevance`` where the
            row has it, and ``is_choice`` for multiple choice.

        Raises:
            RowError: If a column is missing, or a value is blank or of another kind.
        """
        names = tuple(values)
        if names not in self._readers:
            self._readers[names] = self._reader(where, values)
        record = self._readers[names](where, values)
        relevance = _get(values, "relevance")
        return record if relevance is None else record | {"relevance": grade(where, "relevance", relevance)}

    def _reader(self, where: str, values: Values) -> Callable[[str, Values], Record]:
        columns, wants_query = self.columns, "query" in (*self.needed, *self.optional)
        if wants_query and columns.document is None and (columns.choices or _first(values, CHOICES)):
            return _choice_reader(columns, where, values)
        if wants_query and columns.query is columns.document is None and isinstance(_get(values, "messages"), list):
            return _chat
        sources: dict[str, Source] = {}
        for name in FIELDS:
            given = getattr(columns, name)
            if given is not None:
                sources[name] = given
            elif name in self.needed or (name in self.optional and find_column(name, values) is not None):
                sources[name] = _column(where, name, values)
        return partial(_pair, columns, sources)


def _pair(columns: Columns, sources: Mapping[str, Source], where: str, values: Values) -> Record:
    record: Record = {name: source.fill(where, values) for name, source in sources.items()}
    if not record.get("query", "something"):
        del record["query"]
    extra = _get(values, "input") if isinstance(sources.get("query"), Column) else None
    if isinstance(extra, str) and extra.strip() and _get(values, "instruction") is not None:
        record["query"] += f"\n{extra}"
    record["negatives"] = [source.fill(where, values) for source in columns.negatives] or negatives(where, values)
    return record


def grade(where: str, column: str, value: Any) -> int:
    """Return a grade of relevance.

    Raises:
        RowError: If it is no whole number.
    """
    try:
        number = float(value)
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    found = json.dumps(value, default=str)[:EXCERPT]
    raise RowError(where, "no whole number", f"column {column!r}: expected a whole number, found {found}")


def find_column(name: str, values: Values) -> str | None:
    """Return the column of the query or of the document by its usual names, or None."""
    return _first(values, (*COLUMNS[name], *TITLE[name]))


def _column(where: str, name: str, values: Values) -> Column:
    column = find_column(name, values)
    if column is None:
        usual = ", ".join((*COLUMNS[name], *TITLE[name]))
        found = ", ".join(map(str, values))
        raise RowError(
            where,
            "missing column",
            f"no column for the {name}; found: {found}; looked for: {usual}; {_remedy(name, values)}",
        )
    return Column(column, may_be_blank=column.lower() in TITLE[name])


def _remedy(name: str, values: Values) -> str:
    names = list(map(str, values))
    if len(names) == 1 and re.search(r"[;|\t]", names[0]):
        return "this is one column: separate columns by commas, or by tabs in a .tsv"
    return f"lbr data prepare takes a template, --{name} '{{{names[0] if names else 'column'}}}'"


def _get(values: Values, name: str) -> Any:
    column = _first(values, (name,))
    return None if column is None else values[column]


def _first(values: Values, names: Sequence[str]) -> str | None:
    columns = {str(column).lower(): column for column in values}
    return next((columns[name] for name in names if name in columns), None)


def negatives(where: str, values: Values) -> list[str]:
    """Return the hard negatives of a row: texts, or lists of them, in the order of their numbers; null is none.

    Raises:
        RowError: If one is blank or no text.
    """
    columns = [column for column in values if NEGATIVES.fullmatch(str(column))]
    found: list[str] = []
    for column in sorted(columns, key=lambda name: int((re.findall(r"\d+", name) or [0])[0])):
        several = values[column] if isinstance(values[column], list) else [values[column]]
        found += (text_of(where, column, value) for value in several if value is not None)
    return found


def _chat(where: str, values: Values) -> Record:
    """Read the first question of a conversation and its answer."""
    record: Record = {"negatives": []}
    for message in _get(values, "messages") or []:
        if not isinstance(message, Mapping):
            raise RowError(where, "not text", f"column 'messages': expected messages, found {message!r}"[:120])
        role = str(message.get("role", message.get("from", ""))).lower()
        content = message.get("content", message.get("value"))
        if role in ("user", "human") and "query" not in record:
            record["query"] = text_of(where, "messages", content)
        if role in ("assistant", "gpt") and "query" in record:
            return record | {"document": text_of(where, "messages", content)}
    raise RowError(where, "no answer", "column 'messages': no question of a user with an answer of the assistant")


def _choice_reader(columns: Columns, where: str, first: Values) -> Callable[[str, Values], Record]:
    query: Source = columns.query or _column(where, "query", first)
    options = columns.choices or _first(first, CHOICES)
    answer = columns.answer or _first(first, CHOICE_ANSWERS)
    if answer is None:
        looked_for = ", ".join(CHOICE_ANSWERS)
        raise RowError(where, "missing column", f"nothing says which option is right; looked for: {looked_for}")
    # An answer that is one of the options by its column is no letter, whatever it spells.
    by_text = isinstance(options, tuple) and any(option.text == f"{{{answer}}}" for option in options)

    def read(where: str, values: Values) -> Record:
        labels, texts = _options(where, values, options)
        labels = [] if by_text else labels
        right = texts[_right(where, answer, values.get(answer), labels, texts)]
        others = [text for text in texts if same_text(text) != same_text(right) and text.strip()]
        record = {"query": query.fill(where, values), "document": text_of(where, answer, right), "negatives": others}
        return record | {"is_choice": True}

    return read


def _options(where: str, values: Values, options: Any) -> tuple[list[str], list[str]]:
    """Return labels and texts."""
    if not isinstance(options, str):
        texts = [template.fill(where, values) for template in options]
        return list(string.ascii_uppercase[: len(texts)]), texts
    found = values.get(options)
    if isinstance(found, Mapping) and isinstance(found.get("text"), list):
        labels, found = found.get("label") or [], found["text"]
    elif isinstance(found, Mapping):
        labels, found = list(found), list(found.values())
    else:
        labels = list(string.ascii_uppercase)
    if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
        found = json.dumps(found, default=str)[:EXCERPT]
        raise RowError(where, "no options", f"column {options!r}: expected the options of a question, found {found}")
    return [str(label) for label in labels[: len(found)]], found


def _right(where: str, column: str, answer: Any, labels: list[str], texts: list[str]) -> int:
    """Return the index of the right option."""
    if isinstance(answer, str):
        if answer.strip() in labels:
            return labels.index(answer.strip())
        for level in (EXACT, AUTO, LOOSE):  # of "mM" and "MM" the one that is meant; but "paris" may mean Paris
            these, wanted = [same_text(text, level) for text in texts], same_text(answer, level)
            if wanted in these:
                return these.index(wanted)
    number = str(answer).strip()
    if number.isdecimal() and int(number) < len(texts):
        return int(number)
    answer = json.dumps(answer, default=str)[:EXCERPT]
    raise RowError(where, "no answer", f"column {column!r}: {answer} is none of the {len(texts)} options")
