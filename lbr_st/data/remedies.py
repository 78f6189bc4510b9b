"""What to type where the columns of a row are not found: only templates that were tried on the row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from lbr_st.data import names
from lbr_st.data.templates import Template, Values
from lbr_st.errors import InputError

MOST_TRIED = 6
_NO_TEXT = re.compile(r"(.*(id|ids|url|uri|date|lang|language)|source|split|type)")


def remedy(missing: Sequence[str], values: Values, makes_a_pair: Callable[[Mapping[str, Template]], bool]) -> str:
    """Say what to do about a row without a column for the query, the document or both.

    Args:
        missing: ``query``, ``document`` or both.
        values: The row.
        makes_a_pair: Tells whether the row can be read with templates for what is missing.
    """
    columns = list(map(str, values))
    if len(columns) == 1 and re.search(r"[;|\t]", columns[0]):
        return "this is one column: separate columns by commas, or by tabs in a .tsv"
    texts = dict(_texts(values))
    judgements = set(names.judgements(columns))
    titles = set(names.every(texts, names.TITLE)) if "query" in missing else set()  # asked for before a text is
    longest = sorted(texts, key=lambda path: (path in judgements, path not in titles, -len(texts[path])))[:MOST_TRIED]
    for chosen in combinations(longest, len(missing)):
        in_order = [path for path in texts if path in chosen]
        try:
            templates = {name: Template(f"{{{path}}}") for name, path in zip(missing, in_order, strict=True)}
        except InputError:  # a name that no template can spell
            continue
        if makes_a_pair(templates):
            said = " ".join(f"--{name} '{template.text}'" for name, template in templates.items())
            return f"lbr data prepare takes templates: {said}"
    return "and no other column has a text that could be it"


def _texts(values: Values) -> Iterator[tuple[str, str]]:
    """Yield the texts of a row that may be a query or a document, each with its path before it."""
    for column, value in values.items():
        is_other = names.negatives([column]) or _NO_TEXT.fullmatch(names.plain(column))
        if not is_other:
            yield from _texts_in(column, value)


def _texts_in(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if re.search(r"[^\W\d]", value):  # a number in a CSV is text too
            yield path, value
    elif isinstance(value, list):
        if value:
            yield from _texts_in(f"{path}[0]", value[0])
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts_in(f"{path}[{key}]", each)
