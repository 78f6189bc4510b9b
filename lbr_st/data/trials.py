"""Other columns tried on a row, before they are named as a remedy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lbr_st.data.columns import Columns
from lbr_st.data.judgements import NOTHING
from lbr_st.data.same_text import same_text
from lbr_st.data.templates import Template, Values
from lbr_st.errors import InputError
from lbr_st.records import Record

Read = Callable[[str, Values], list[Record]]


class Trials:
    """Reads a row with other columns than those of its source.

    Args:
        columns: What the user says.
        needed: Sides that a row must have.
        wanted: Sides that are read.
        reader: Makes what reads rows with other columns, of these and the sides that it needs.
    """

    def __init__(
        self,
        columns: Columns,
        needed: Sequence[str],
        wanted: set[str],
        reader: Callable[[Columns, Sequence[str]], Read],
    ) -> None:
        self.columns, self.needed, self.wanted, self._reader = columns, needed, wanted, reader

    def fits(self, where: str, values: Values, **changes: Any) -> bool:
        """Tell whether a row can be read with other columns, and no document is its own query."""
        needed = {*self.needed, *({"query"} & changes.keys())}
        records = self._read(where, values, tuple(needed), judged_by=NOTHING, **changes)
        same = (same_text(record.get("query", "")) == same_text(record["document"]) for record in records or ())
        return records is not None and not any(same)

    def fits_templates(self, where: str, values: Values, **templates: str) -> bool:
        """Tell the same of templates as they are written, by the name of their side."""
        try:
            return self.fits(where, values, **{name: Template(text) for name, text in templates.items()})
        except InputError:  # a name that no template can spell
            return False

    def leaves_an_answer(self, where: str, values: Values, **changes: Any) -> bool:
        """Tell whether a row can be read with other columns, and a document of it answers."""
        records = self._read(where, values, self.needed, **changes)
        return any(record.get("relevance") != 0 for record in records or ())

    def _read(self, where: str, values: Values, needed: Sequence[str], **changes: Any) -> list[Record] | None:
        try:
            return self._reader(replace(self.columns, **changes), needed)(where, values)
        except InputError:
            return None
