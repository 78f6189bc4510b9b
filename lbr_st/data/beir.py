"""Collections in the form of BEIR (Thakur et al. 2021): a corpus, queries, and graded judgements (qrels)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lbr_st.data import names
from lbr_st.data.account import Account
from lbr_st.data.cells import Row, Wrong
from lbr_st.data.cleaning import clean
from lbr_st.data.data_uris import TAKEN_OUT, without_data_uris
from lbr_st.data.drops import Waiting
from lbr_st.data.ids import IdReader, id_text
from lbr_st.data.templates import excerpt
from lbr_st.data.texts import title_of, with_title
from lbr_st.errors import RowError
from lbr_st.records import Record

FIRST_LINE = "the first line of judgements names the columns: query-id, corpus-id, score"
FIRST_LINE_OF_TREC = (
    "the first line of judgements names the columns; put it above these, which are TREC's: query-id, iteration, "
    "corpus-id, score, with tabs between them"
)
COLUMNS_OF_TREC = 4
JUDGEMENT = (("query-id", "query_id"), ("corpus-id", "corpus_id"), ("score", "relevance"))

Rows = Callable[[Wrong], Iterator[Row]]


class BeirCollection:
    """Joins judgements with their texts.

    Args:
        name: Name of the collection.
        corpus: Reads its documents, ``_id``, ``title`` and ``text``.
        queries: Reads its queries, ``_id`` and ``text``.
        wrong: Called with a `RowError` for each row that cannot be used; reading goes on if it returns.
        keep_html: Whether markup stays in texts.
        min_score: Least grade of a document that answers its query; default is 1.
    """

    def __init__(
        self,
        name: str,
        corpus: Rows,
        queries: Rows,
        wrong: Wrong,
        keep_html: bool = False,
        min_score: float | None = None,
    ) -> None:
        self.name, self._wrong, self.keep_html = name, wrong, keep_html
        self._least = 1 if min_score is None else min_score
        self._read = {"corpus": corpus, "queries": queries}
        self._texts: dict[str, dict[str, str]] = {}
        self._titles: dict[str, str] = {}

    def texts(self, kind: str) -> dict[str, str]:
        """Return the texts of the ``corpus`` or the ``queries`` by id; title and text are one, as in mteb."""
        if kind not in self._texts:
            found: dict[str, str] = {}
            account, ids, waiting = Account(), IdReader(), Waiting(self._wrong)
            for row in self._read[kind](waiting):
                account.see(row.values)
                for note in row.notes:
                    account.note(note)
                id_, text = ids(row.values, is_pair=False).get("id"), row.values.get("text")
                if id_ is None or not isinstance(text, str):
                    waiting(RowError(row.where, "missing column", "expected _id and text, as BEIR has them"))
                    continue
                title = names.first(row.values, names.TITLE) if kind == "corpus" else None
                if title is not None:
                    try:
                        heading = title_of(row.where, title, row.values[title])
                    except RowError as error:
                        waiting(error)
                        continue
                    text = with_title(heading, text)
                    if heading:
                        self._titles[id_] = heading
                account.note(TAKEN_OUT, without_data_uris(text)[1])
                text = clean(text, self.keep_html, one_line=kind == "queries")
                if found.setdefault(id_, text) != text:
                    waiting(RowError(row.where, "an id twice", f"{id_!r} is the _id of another text above"))
                    continue
                waiting.used()
                account.use(["text", *ids.used, *([] if title is None else [title])])
                account.count("document" if kind == "corpus" else "query")
            waiting.end()
            account.say(f"{self.name}, {kind}")
            self._texts[kind] = found
        return self._texts[kind]

    def judged(self, rows: Rows) -> Iterator[Record]:
        """Yield a record for each document that is judged for a query, with its grade as ``relevance``, 0 for none.

        Args:
            rows: Reads judgements, ``query-id``, ``corpus-id`` and ``score``; takes what is called with rows that do
                not parse.
        """
        account, waiting = Account(), Waiting(self._wrong)
        for row in rows(waiting):
            account.see(row.values)
            for note in row.notes:
                account.note(note)
            for kind in ("queries", "corpus"):
                self.texts(kind)  # what is wrong with them is not wrong with this row
            try:
                record = self._judgement(row)
            except RowError as error:
                waiting(error)
                continue
            waiting.used()
            account.use(name for names in JUDGEMENT for name in names if row.values.get(name) is not None)
            account.count("judgement")
            yield record
        waiting.end()
        account.say(f"{self.name}, judgements")

    def _judgement(self, row: Row) -> Record:
        query, document, score = (_value(row, *names) for names in JUDGEMENT)
        grade = _grade(row.where, score)
        grade = grade if grade >= self._least else 0
        for kind, id_ in (("queries", query), ("corpus", document)):
            if id_ not in self.texts(kind):
                raise RowError(row.where, "judges what is not there", f"there is no {id_!r} in the {kind}")
        return {
            "id": f"{query}:{document}",
            "query": self.texts("queries")[query],
            "document": self.texts("corpus")[document],
            "document_id": document,
            "negatives": [],
            "relevance": grade,
            "source": self.name,
        }

    def documents_alone(self) -> Iterator[Record]:
        """Yield all documents, as records without a query."""
        for id_, text in self.texts("corpus").items():
            title = {"title": self._titles[id_]} if id_ in self._titles else {}
            yield {"id": id_, "document": text, "negatives": [], "source": self.name} | title


def _grade(where: str, value: str) -> int:
    """Return a grade of relevance; 0 is no answer, and so is what is below."""
    try:
        number = float(value)
        if number == int(number):
            return max(0, int(number))
    except (ValueError, OverflowError):
        pass
    raise RowError(where, "no whole number", f"column 'score': expected a whole number, found {excerpt(value)}")


def _value(row: Row, *names: str) -> str:
    for name in names:
        if (value := id_text(row.values.get(name))) is not None:
            return value
    first_line = FIRST_LINE_OF_TREC if len(row.values) == COLUMNS_OF_TREC else FIRST_LINE
    raise RowError(
        row.where, "missing column", f"no column {names[0]!r} (found: {', '.join(row.values)}); {first_line}"
    )
