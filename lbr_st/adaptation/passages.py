"""The passages that queries are written for, with the titles and the queries that they have; none that is held out."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lbr_st.data.cleaning import clean, printable
from lbr_st.data.config import HELD_OUT
from lbr_st.data.drops import Drops
from lbr_st.data.ids import UniqueIds
from lbr_st.data.overlap import HeldOutTexts
from lbr_st.data.parts import Reading, parts_of
from lbr_st.data.prepared_set import PreparedSet, file_of
from lbr_st.data.records import read_records
from lbr_st.data.same_text import same_text
from lbr_st.errors import InputError
from lbr_st.records import TEXT, Record

logger = logging.getLogger(__name__)

# Ids of passages of text files, in a prepared set too: file and line, or of HTML file and number.
OF_TEXT = re.compile(r".+(\.\w+)[:#]\d+(?:\+\d+)?(?:#\d+)*")
IS_HELD_OUT = "passage: held out"


@dataclass
class Passage:
    """A text that queries are written for.

    Attributes:
        id: Its id, which no other has.
        document: The text.
        source: Name of where it is from.
        titles: Titles, headings or a docstring that it has.
        given: Queries that the data have for it.
    """

    id: str
    document: str
    source: str
    titles: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)

    @property
    def titled(self) -> str:
        """The text under its title, which says what it is about."""
        title = next((each for each in self.titles if not self.document.startswith(each)), None)
        return self.document if title is None else f"{title}\n{self.document}"


def read_passages_of(sources: Sequence[str], pairs: str | None, reading: Reading, lost: Drops) -> list[Passage]:
    """Read the passages of sources, each text once.

    Of a prepared set, and of a folder with sides, passages that are held out for dev or test are left out, and what is
    nearly one of them: no query of theirs is trained on.

    Args:
        sources: Prepared sets, and what `lbr_st.data.parts.parts_of` reads.
        pairs: File of pairs, or a prepared set: queries that are given, beside those of the sources.
        reading: How they are read.
        lost: Counts what is held out.

    Raises:
        InputError: If a source cannot be read, or no passage is left.
    """
    found: dict[str, Passage] = {}
    unique = UniqueIds()
    negatives = 0
    for source in sources:
        records, held_out = _of_source(source, reading)
        for number, record in enumerate(records, start=1):
            negatives += len(record.get("negatives") or ())
            if held_out.find(record["document"]) is not None:
                lost.add(IS_HELD_OUT, record["id"], record["document"])
            elif record["document"]:
                _join(found, record, unique, record.get("row", number))
    if pairs is not None:
        for number, record in enumerate(
            read_records(file_of(pairs, "align"), min_score=reading.columns.min_score), start=1
        ):
            _join(found, {"source": os.path.basename(pairs), **record}, unique, number)
    if negatives:
        logger.warning(
            "not kept: %s hard negatives, as queries have none; lbr data mine finds some for what is kept",
            f"{negatives:,}",
        )
    if not found:
        left_out = f"; left out were {lost}" if lost.counts else ""
        raise InputError(f"{', '.join(sources)}: no passages to write queries for{left_out}")
    return list(found.values())


def _join(found: dict[str, Passage], record: Record, unique: UniqueIds, number: int) -> None:
    key = same_text(record["document"])
    if key not in found:
        id_ = unique(printable(record.get("document_id") or record["id"]), number)
        found[key] = Passage(id_, record["document"], printable(record["source"]))
    passage = found[key]
    answers = record.get("relevance") != 0
    for found_text, texts in ((record.get("title"), passage.titles), (answers and record.get("query"), passage.given)):
        text = clean(found_text or "", keep_html=True, one_line=True)
        if text and text not in texts:
            texts.append(text)


def _of_source(source: str, reading: Reading) -> tuple[Iterable[Record], HeldOutTexts]:
    """Return the records of a source, of which some may be held out, and what finds those."""
    own = PreparedSet.open(source) if os.path.exists(source) else None
    if own is not None and os.path.isdir(source):
        return _of_set(own, reading.columns.min_score), _held_out(own)
    parts = parts_of(source, reading)
    aside = [part for part in parts if part.side in HELD_OUT]
    others = (_with_title(record) for part in parts if part not in aside for record in part.records())
    if own is not None:
        return others, _held_out(own)
    return others, HeldOutTexts((record["id"], record["document"]) for part in aside for record in part.records())


def _of_set(own: PreparedSet, min_score: float | None) -> Iterator[Record]:
    """Yield all passages of a prepared set, and the pairs that it trains on; those it holds out are among them."""
    named = {"source": own.about["name"]}
    for name, fields in (("corpus", ("document",)), ("align", ("query", "document"))):
        if own.has(name):
            yield from (_with_title(named | each) for each in read_records(own.file(name), fields, min_score))


def _held_out(own: PreparedSet) -> HeldOutTexts:
    texts = (
        (record["id"], record["document"])
        for name in HELD_OUT
        if own.has(name)
        for record in read_records(own.file(name), ("document",))
    )
    return HeldOutTexts(texts, own.about["near_duplicates"], own.same_text)


def _with_title(record: Record) -> Record:
    """Call the query of a text file or of a function what it is: headings, or a docstring."""
    where = OF_TEXT.fullmatch(record["id"])
    if "query" not in record or where is None or where[1].lower() not in TEXT:
        return record
    return {name: value for name, value in record.items() if name != "query"} | {"title": record["query"]}
