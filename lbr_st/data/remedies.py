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


def remedy(
    sides: Sequence[Sequence[str]], values: Values, makes_a_pair: Callable[[Mapping[str, Template]], bool]
) -> str:
    """Say what to do about a row without a column for the query, the document or both.

    Args:
        sides: What templates may be said for: ``query``, ``document`` or both; the best first.
        values: The row.
        makes_a_pair: Tells whether the row can be read with templates for what is missing.
    """
    columns = list(map(str, values))
    texts = dict(_texts(values))
    judgements = set(names.judgements(columns))
    titles = set(names.every(texts, names.TITLE)) if "query" in sides[0] else set()  # asked for before a text is
    longest = sorted(texts, key=lambda path: (path in judgements, path not in titles, -len(texts[path])))[:MOST_TRIED]
    tries = [(missing, chosen) for missing in sides for chosen in combinations(longest, len(missing))]
    for said, chosen in tries:
        in_order = [path for path in texts if path in chosen]
        try:
            templates = {name: Template(f"{{{path}}}") for name, path in zip(said, in_order, strict=True)}
        except InputError:  # a name that no template can spell
            continue
        if makes_a_pair(templates):
            flags = (f"--{name} '{template.text}'" for name, template in templates.items())
            return f"lbr data prepare takes templates: {' '.join(flags)}"
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
