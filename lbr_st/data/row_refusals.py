"""What a row lacks, and what to do about it: no side is taken from a column that may be another."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lbr_st.data import names
from lbr_st.data.column_texts import lifted
from lbr_st.data.columns import SEVERAL, Sides, Source
from lbr_st.data.judgements import NOTHING, WRITE, score_of, word_of
from lbr_st.data.remedies import options, remedy, running, some_of, texts_of_row
from lbr_st.data.templates import Template, Values, excerpt
from lbr_st.data.texts import is_blank, messages_of, texts_of
from lbr_st.data.trials import Trials
from lbr_st.errors import RowError

USUAL = {"query": names.QUERY, "document": names.DOCUMENT}


class Refusals:
    """Refuses rows of a source, with what to do.

    Args:
        trials: What remedies are tried with.
        sides: Finds the sides of a row.
        ahead: Returns some of the rows that come next.
        is_trial: Whether a remedy is tried itself, so that none is looked for.
    """

    def __init__(
        self, trials: Trials, sides: Sides, ahead: Callable[[], Sequence[Values]], is_trial: bool = False
    ) -> None:
        self._trials, self._sides, self._ahead, self._is_trial = trials, sides, ahead, is_trial

    def check_answer(self, where: str, values: Values) -> None:
        """Refuse an answer that is none, but says which of the options in other columns is: a letter is no document.

        Raises:
            RowError: If it is one; with what to do.
        """
        said = names.several(values, names.DOCUMENT)
        if not self._is_trial and said and set(said) <= {*names.every(values, names.OPTION_ANSWERS)}:
            if flags := options(values, partial(self._trials.fits, where, values), {}):
                detail = f"{said[0]!r} says which option is right: lbr data prepare takes {flags}"
                raise RowError(where, "missing column", detail)

    def check_no_option(self, where: str, values: Values, documents: Source, used: Sequence[str]) -> None:
        """Refuse one of numbered columns as the document where a number beside them may say which one is right.

        Raises:
            RowError: If it is one; with what to do.
        """
        columns = self._trials.columns
        if self._is_trial or columns.document is None or columns.judged_by not in (None, NOTHING):
            return
        tried = partial(self._trials.fits, where, values, document=None)
        kinds = [kind for kind in names.siblings(values) if {*kind} & {*documents.columns} and not {*kind} <= {*used}]
        for kind in kinds:
            left = {name: value for name, value in values.items() if name in kind or name not in used}
            if flags := options(left, tried, {}):
                judged = shlex.split(flags.partition("--answer ")[2])[0].rstrip(",")
                detail = (
                    f"{judged!r} may say which of {', '.join(kind)} is right: lbr data prepare takes {flags}, without "
                    f"--document; or --judged-by {shlex.quote(judged)} if it is of {documents.columns[0]} alone"
                )
                raise RowError(where, "missing column", detail)

    def check_sides(
        self, where: str, values: Values, query: Source | None, documents: Source | None, negatives: Source
    ) -> None:
        """Refuse a row in which a side is missing that is needed, or that is there under another name.

        Raises:
            RowError: If it is one; with what to do.
        """
        sides = {"query": query, "document": documents}
        if missing := [name for name in self._trials.needed if sides[name] is None]:
            raise self.missing(where, values, missing, documents)
        for name, source in sides.items():
            if source is not None and getattr(self._trials.columns, name) is None:
                self._check_text(where, values, name, source.columns[0])
        if query is None and documents is not None and self._lacks_query(where, values, documents, negatives):
            raise self.missing(where, values, ["query"], documents)

    def _check_text(self, where: str, values: Values, name: str, column: str) -> None:
        """Refuse a column of a usual name that can hold no text, such as an object of another kind.

        Raises:
            RowError: If it is one; with what to do.
        """
        value = values[column]
        if self._is_trial or is_blank(value) or isinstance(value, str | list) or messages_of(value):
            return
        if names.several([column], (*SEVERAL, *names.LISTED)) and texts_of(where, column, value) != [value]:
            return
        if name == "query" and isinstance(value, Mapping) and texts_of(where, column, value) != [value]:
            return
        inside = {column: value} if isinstance(value, Mapping) else {k: v for k, v in values.items() if k != column}
        do = remedy([[name]], inside, partial(self._trials.fits, where, values))
        raise RowError(f"{where}, column {column!r}", "not text", f"expected text, found {excerpt(value)}; {do}")

    def _lacks_query(self, where: str, values: Values, documents: Source, negatives: Source) -> bool:
        """Tell whether a row from which a query may be left away has one under another name."""
        if "query" not in self._trials.wanted or self._trials.columns.document is not None or self._is_trial:
            return False
        if negatives.columns:  # of what?
            return True
        texts = texts_of_row({name: value for name, value in values.items() if name != documents.columns[0]})
        is_answer = bool(names.several(documents.columns[:1], names.ANSWER))
        if is_answer and word_of(values[documents.columns[0]]) and not any(map(names.asks, texts)):
            return False  # the answer may be of whoever judges the text, see `say`
        other = [path for path in texts if names.is_pair(path, documents.columns[0])]
        asking = running(texts) if is_answer or other else [path for path in texts if names.asks(path)]
        return any(self._trials.fits(where, values, query=Template(f"{{{path}}}")) for path in asking)

    def missing(self, where: str, values: Values, missing: Sequence[str], documents: Source | None) -> RowError:
        """Return the error of a row that has no column for one or two sides, with what to do."""
        what = " and ".join(f"no column for the {name}" for name in missing)
        if self._is_trial:
            return RowError(where, "missing column", what)
        usual = " and ".join(", ".join(USUAL[name]) for name in missing)
        sides: list[Sequence[str]] = [missing]
        if "document" in missing and "query" in self._trials.wanted and self._sides.query(values) is None:
            sides = [
                ["query", "document"],
                *([missing] if len(missing) == 1 else []),
            ]  # data prepare reads documents alone, too, but pairs are better
        if len(names.every(values, names.QUERY)) > 1:  # one of them may be what the other asks for, as SQL is
            sides = [["query", "document"], *sides]
        there = [] if documents is None else documents.columns[:1]
        if "query" in missing and there and any(names.is_pair(str(column), there[0]) for column in values):
            sides, there = [["query", "document"]], []  # which is which?
        others = [lifted(row) for row in self._ahead()]
        full = _filled_up(values, others)
        left = {name: value for name, value in full.items() if name not in there}
        do = remedy(sides, left, partial(self._trials.fits, where, full), others)
        if "query" not in self._trials.needed and documents is not None:
            alone = f"{{{documents.columns[0]}}}"
            do += (
                f"; --document '{alone}' is for documents alone"
                if self._trials.fits_templates(where, values, document=alone)
                else ""
            )
        detail = f"{what}; found: {some_of(values)}; looked for: {usual}; {do}"
        return RowError(where, "missing column", detail)


def _filled_up(values: Values, others: Sequence[Values]) -> Values:
    """Return a row in which a cell that is blank has what the next of other rows has: some lack an answer."""
    blank = [name for name, value in values.items() if is_blank(value)]
    found = {name: next((row[name] for row in others if not is_blank(row.get(name))), None) for name in blank}
    return {**values, **{name: value for name, value in found.items() if value is not None}}


def check_no_nli(where: str, used: Sequence[str], column: str, value: Any) -> None:
    """Refuse numbers that say of a premise what follows from it, where 0 is that all does.

    Raises:
        RowError: If it is one.
    """
    if names.first(used, ("premise", "hypothesis")) and word_of(value) is None and score_of(value) is not None:
        detail = f"{excerpt(value)} may be a class of inference, where 0 is entailment; {WRITE}"
        raise RowError(f"{where}, column {column!r}", "no judgement", detail)
