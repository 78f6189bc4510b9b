"""Texts out of the columns of a row: a query, documents with their titles, hard negatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lbr_st.data import names
from lbr_st.data.templates import Template, Values, field_of
from lbr_st.data.texts import (
    cell_text,
    is_blank,
    last_question,
    marked_turns,
    messages_of,
    text_of,
    texts_of,
    title_of,
    with_title,
)

ReadText = Callable[[str, str, Any], str]


def asked_in(values: Values) -> str | None:
    """Return the column of the query by its usual name, or that of a question of schema.org, which is its name."""
    kinds = values.get("@type")
    is_question = "Question" in (kinds if isinstance(kinds, list) else [kinds]) and "name" in values
    return names.first(values, names.QUERY) or ("name" if is_question else None)


def query_in(column: str, extra: str | None, where: str, values: Values, text: ReadText = cell_text) -> str:
    """Return the query in a column: a text, with the one in ``input`` beside an instruction; or of a conversation."""
    value = values[column]
    if messages := messages_of(value, names.is_preference(column)) or (
        marked_turns(value) if isinstance(value, str) and text is cell_text else []
    ):
        return last_question(where, column, messages)
    if isinstance(value, Mapping):  # of a paper: its title and its abstract
        [value] = texts_of(where, column, value)
    asked = text(where, column, value)
    more = None if extra is None else values[extra]
    return f"{asked}\n{more}" if isinstance(more, str) and more.strip() else asked


def document_in(column: str, where: str, values: Values, text: ReadText = cell_text) -> list[str]:
    """Return the one document in a column."""
    return [text(where, column, values[column])]


def documents_in(columns: Sequence[str], where: str, values: Values) -> list[str]:
    """Return the documents in columns, each of which may have several.

    Raises:
        RowError: If there is none, or one is blank or no text.
    """
    found = [
        text_of(where, column, text)
        for column in columns
        if not is_blank(values[column])
        for text in texts_of(where, column, values[column])
    ]
    if len(columns) > 1:  # the best answer is one of the correct ones
        found = list(dict.fromkeys(found))
    return found or document_in(columns[0], where, values)


def titled_in(
    column: str, title: str, read: Callable[[str, Values], list[str]], where: str, values: Values
) -> list[str]:
    """Return the documents in a column; of one alone the title is a part, and all of it where there is no text."""
    heading = title_of(where, title, values[title])
    if heading and is_blank(values[column]):
        return [heading]
    found = read(where, values)
    return [with_title(heading, text) for text in found] if len(found) == 1 else found


def filled(templates: Sequence[Template], where: str, values: Values) -> list[str]:
    """Return the hard negatives of templates; none of those whose column is there and blank.

    A template that is one field alone may name a list of them.
    """
    found: list[str] = []
    for template in templates:
        if any(is_blank(values.get(column, column)) for column in template.columns_in(values)):
            continue
        several = field_of(values, template.field) if template.field else None
        if isinstance(several, list):
            found += negatives_in([template.text], where, {template.text: several})
        else:
            found += [template.fill(where, values)]
    return [text for text in found if not is_blank(text)]


def negatives_in(
    columns: Sequence[str], where: str, values: Values, titles: Mapping[str, str] | None = None
) -> list[str]:
    """Return the hard negatives in columns: texts, or lists of them. What is blank is none: CSV knows no null.

    Args:
        columns: The columns.
        where: Source and line, for messages.
        values: The row.
        titles: Columns of the titles of some of them.

    Raises:
        RowError: If one is no text.
    """
    found = []
    for column in columns:
        if is_blank(values[column]):
            continue
        texts = [text for text in texts_of(where, column, values[column]) if not is_blank(text) and text != []]
        texts = [text_of(where, column, text) for text in texts]
        if titles and column in titles:
            texts = [with_title(title_of(where, titles[column], values[titles[column]]), text) for text in texts]
        found += texts
    return found


def lifted(values: Values) -> Values:
    """Return a row with what an object such as ``metadata`` has of hard negatives, judgements and titles, as columns.

    Each kind is lifted where the row has none of it; a title where it asks nothing, too: beside a question it may be of
    anything. A ``label`` there is watched, and not lifted.
    """
    about = [column for column, value in values.items() if type(value) is dict and names.first([column], names.ABOUT)]
    more: dict[str, Any] = {}
    for column in about:
        inside = values[column]
        keys = [] if names.negatives(values) else names.negatives(inside)
        if not names.judgements(values):
            keys += [key for key in names.judgements(inside) if names.can_only_judge(key)]
        if names.first(values, (*names.QUERY, *names.TITLE)) is None:
            keys += names.several(inside, names.TITLE)
        more |= {f"{column}[{key}]": inside[key] for key in keys}
    return {**values, **more} if more else values
