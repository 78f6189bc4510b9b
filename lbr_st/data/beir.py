"""Collections in the form of BEIR (Thakur et al. 2021): a corpus, queries, and graded judgements (qrels)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lbr_st.data.cleaning import clean
from lbr_st.data.columns import grade
from lbr_st.data.naming import TITLES, IdReader, columns_of, id_text, title_text, titled
from lbr_st.data.rows import Row, Wrong
from lbr_st.errors import RowError
from lbr_st.records import Record

Rows = Callable[[], Iterator[Row]]


class BeirCollection:
    """Joins judgements with their texts.

    Args:
        name: Name of the collection.
        corpus: Reads its documents, ``_id``, ``title`` and ``text``.
        queries: Reads its queries, ``_id`` and ``text``.
        wrong: Called with a `RowError` for each row that cannot be used; reading goes on if it returns.
        keep_html: Whether markup stays in texts.
    """

    def __init__(self, name: str, corpus: Rows, queries: Rows, wrong: Wrong, keep_html: bool = False) -> None:
        self.name, self.wrong, self.keep_html = name, wrong, keep_html
        self._read = {"corpus": corpus, "queries": queries}
        self._ids = IdReader()
        self._texts: dict[str, dict[str, str]] = {}

    def texts(self, kind: str) -> dict[str, str]:
        """Return the texts of the ``corpus`` or the ``queries`` by id; title and text are one, as in mteb."""
        if kind not in self._texts:
            found = self._texts[kind] = {}
            for row in self._read[kind]():
                try:
                    id_, text = self._text(kind, row)
                except RowError as error:
                    self.wrong(error)
                    continue
                found[id_] = text
        return self._texts[kind]

    def _text(self, kind: str, row: Row) -> tuple[str, str]:
        id_, text = self._ids(row.values, is_pair=False).get("id"), row.values.get("text")
        if id_ is None or not isinstance(text, str):
            raise RowError(row.where, "missing column", "expected _id and text, as BEIR has them")
        if kind == "queries":
            return id_, clean(text, self.keep_html, one_line=True)
        for column in columns_of(row.values, TITLES)[:1]:
            text = titled(title_text(row.where, column, row.values[column]), text)
        return id_, clean(text, self.keep_html)

    def judged(self, rows: Rows) -> Iterator[Record]:
        """Yield a record for each document that is relevant to a query, with its grade as ``relevance``.

        Args:
            rows: Reads judgements, ``query-id``, ``corpus-id`` and ``score``.
        """
        for row in rows():
            try:
                yield self._judgement(row)
            except RowError as error:
                self.wrong(error)

    def _judgement(self, row: Row) -> Record:
        query, document = _value(row, "query-id", "query_id"), _value(row, "corpus-id", "corpus_id")
        score = grade(row.where, "score", _value(row, "score", "relevance"))
        for kind, id_ in (("queries", query), ("corpus", document)):
            if id_ not in self.texts(kind):
                raise RowError(row.where, "judges what is not there", f"there is no {id_!r} in the {kind}")
        return {
            "id": f"{query}:{document}",
            "query": self.texts("queries")[query],
            "document": self.texts("corpus")[document],
            "document_id": document,
            "negatives": [],
            "relevance": score,
            "source": self.name,
        }

    def documents_alone(self) -> Iterator[Record]:
        """Yield all documents, as records without a query."""
        for id_, text in self.texts("corpus").items():
            yield {"id": id_, "document": text, "negatives": [], "source": self.name}


def _value(row: Row, *names: str) -> str:
    for name in names:
        if (value := id_text(row.values.get(name))) is not None:
            return value
    raise RowError(row.where, "missing column", f"no column {names[0]!r} (found: {', '.join(row.values)})")
