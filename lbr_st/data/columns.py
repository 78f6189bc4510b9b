"""Where the query, the documents and the hard negatives of a row are: where the user says, or by usual names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from lbr_st.data import names
from lbr_st.data.column_texts import (
    asked_in,
    document_in,
    documents_in,
    filled,
    negatives_in,
    query_in,
    titled_in,
)
from lbr_st.data.templates import Template, Values
from lbr_st.data.texts import is_blank, messages_of
from lbr_st.errors import RowError

# Documents under these names may be several, each of which answers the query.
SEVERAL = ("positive", "pos", "chosen", "answer", "response", "correct_answer")


class Source(NamedTuple):
    """What reads texts of a row.

    Attributes:
        columns: The columns that it reads.
        read: Returns what they hold, for a row and where it stands.
    """

    columns: Sequence[str]
    read: Callable[[str, Values], Any]


@dataclass(frozen=True)
class Columns:
    """Where the user says that things are; what is None is found by usual names.

    Attributes:
        query: Template of the query.
        document: Template of the document.
        negatives: Templates of hard negatives.
        choices: The options of a multiple-choice question: the field that holds them, as a list, a mapping of letters
            or ``{"text": [...], "label": [...]}``; or a template for each.
        answer: The field that says which option is right: its number from 0, its letter or label, its text, or the
            name of its column.
        first_option: The number of the first option, where a number says which is right: 0 or 1; None where nobody
            says it, and a source of which no number is 0 is refused.
        min_score: Least score of a document that answers its query, where a column grades them.
        judged_by: The column that says whether a document answers its query, or a path to it, ``meta[label]``;
            `lbr_st.data.judgements.NOTHING` if none does.
    """

    query: Template | None = None
    document: Template | None = None
    negatives: tuple[Template, ...] = ()
    choices: str | tuple[Template, ...] | None = None
    answer: str | None = None
    first_option: int | None = None
    min_score: float | None = None
    judged_by: str | None = None


class Sides:
    """Finds the query, the documents and the hard negatives of a row.

    Args:
        columns: What the user says.
        wanted: Which of ``query``, ``document`` and ``negatives`` are read.
        text: Returns the text of a cell, of where it stands, its column and its value.
        tries: Tells whether a row can be read with other templates, by the name of a side.
    """

    def __init__(
        self,
        columns: Columns,
        wanted: Collection[str],
        text: Callable[..., str],
        tries: Callable[..., bool],
    ) -> None:
        self._columns, self._wanted, self._text, self._tries = columns, wanted, text, tries

    def query(self, values: Values) -> Source | None:
        """Return what reads the query of rows like one; None where it has none, or none is wanted."""
        if "query" not in self._wanted:
            return None
        if self._columns.query is not None:
            return Source(self._columns.query.columns_in(values), self._columns.query.fill)
        column = asked_in(values) or names.queries(values)
        is_one = column is not None and isinstance(values[column], str) and not is_blank(values[column])
        if column is not None and (column == asked_in(values) or is_one):
            extra = names.first(values, ("input",)) if names.plain(column) == "instruction" else None
            return Source(
                [column, *([] if extra is None else [extra])], partial(query_in, column, extra, text=self._text)
            )
        talks = [*names.several(values, ("input",)), *names.several(values, ("chosen",))]
        talks = [each for each in talks if len(messages_of(values[each], names.is_preference(each))) > 0]
        return Source(talks[:1], partial(query_in, talks[0], None)) if talks else None

    def documents(self, where: str, values: Values) -> Source | None:
        """Return what reads the documents of rows like one; None where it has none.

        Raises:
            RowError: If a title may be the query's or the document's.
        """
        template = self._columns.document
        if template is not None:
            return Source(template.columns_in(values), lambda where, values: [template.fill(where, values)])
        columns = names.several((column for column in values if column != self._columns.judged_by), names.DOCUMENT)
        if not columns:
            listed = names.first(values, names.LISTED)
            is_judged = any(isinstance(values[column], list) for column in names.judgements(values))
            columns = [listed] if listed is not None and is_judged else []
        if not columns:
            return None
        may_be_several = len(columns) > 1 or names.several(columns, SEVERAL) or names.first(columns, names.LISTED)
        read = partial(documents_in, columns) if may_be_several else partial(document_in, columns[0], text=self._text)
        asked = asked_in(values)
        title = names.first(values, names.TITLE_OF_TEXT if asked is None else names.TITLE)
        title = title or names.title_beside(columns[0], values)
        if len(columns) > 1 or title is None or title in self._in_templates(values):
            return Source(columns, read)  # the user says that a title is another thing
        if asked is not None and not is_blank(values[title]) and _is_of_query(values, asked, title, columns[0]):
            ways = [("query", f"{{{title}}} {{{asked}}}"), ("document", f"{{{title}}} {{{columns[0]}}}")]
            flags = [f"--{name} '{way}'" for name, way in ways if self._tries(where, values, **{name: way})]
            alone = f"{{{columns[0]}}}"
            if self._tries(where, values, document=alone):
                flags[-1:] = [f"{''.join(flags[-1:])} or, without it, --document '{alone}'"]
            detail = f"column {title!r} may belong to {asked!r} or to {columns[0]!r}: " + (
                f"lbr data prepare takes templates, {', '.join(flags)}" if flags else "leave one of them out"
            )
            raise RowError(where, "missing column", detail)
        return Source([*columns, title], partial(titled_in, columns[0], title, read))

    def title_column(self, values: Values, documents: Source) -> str:
        """Return the column of the title that is put before documents; "" where there is none."""
        first, last = documents.columns[0], documents.columns[-1]
        is_title = names.first([last], names.TITLE) is not None or last == names.title_beside(first, values)
        return last if self._columns.document is None and last != first and is_title else ""

    def _in_templates(self, values: Values) -> set[str]:
        templates = (self._columns.query, *self._columns.negatives)
        return {column for template in templates if template for column in template.columns_in(values)}

    def negatives(self, values: Values, are_titled: bool = False) -> Source:
        """Return what reads the hard negatives of rows like one, with a title before each where `are_titled`."""
        if templates := self._columns.negatives:
            columns = [column for template in templates for column in template.columns_in(values)]
            source = Source(columns, partial(filled, templates))
        else:
            flags = flags_of(values)
            columns = [column for column in names.negatives(values) if column not in flags]
            columns = [*columns, *(each for each in values if _holds_irrelevant(each, values[each]))]
            titled = (column for column in columns if are_titled and isinstance(values[column], str))
            titles = {column: title for column in titled if (title := names.title_beside(column, values))}
            source = Source([*columns, *titles.values()], partial(negatives_in, columns, titles=titles))
        return source if "negatives" in self._wanted else Source((), lambda where, values: [])


def _is_of_query(values: Values, query: str, title: str, document: str) -> bool:
    """Tell whether a title beside a question and a text may be the question's."""
    if names.plain(title) not in ("title", "headline", "heading", "header"):
        return False
    if names.several([document], names.ANSWER):
        return True
    asked, said = (" ".join(str(values[column]).split()).lower() for column in (query, title))
    return said == asked or (said in asked and len(said.split()) > 3)


def flags_of(values: Values) -> list[str]:
    """Return the columns that have yes or no under a name of hard negatives: whether the document is ``rejected``."""
    return [column for column in names.negatives(values) if isinstance(values[column], bool)]


def _holds_irrelevant(column: str, value: Any) -> bool:
    """Tell whether a column named ``irrelevant`` has texts, and does not judge."""
    texts = value if isinstance(value, list) else [value]
    is_text = all(isinstance(text, str) and len(text.split()) > 2 for text in texts)
    return is_text and bool(texts) and names.only_denies(column)
