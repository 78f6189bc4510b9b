"""What commands read that need no prepared set: files and Hub datasets of records, and what is to be searched."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from lbr_st.data import names
from lbr_st.data.account import Account
from lbr_st.data.cells import GONE_CELLS, Row, Wrong, stop
from lbr_st.data.cleaning import clean, clean_record, printable
from lbr_st.data.columns import Columns
from lbr_st.data.data_uris import TAKEN_OUT, without_data_uris
from lbr_st.data.delimited import EMPTY_CELLS, ERROR_CELLS
from lbr_st.data.drops import Drops, Waiting, on_wrong_row
from lbr_st.data.encodings import read_lines
from lbr_st.data.folders import note_files, text_files
from lbr_st.data.ids import TWICE, IdReader, UniqueIds, part_id
from lbr_st.data.judgements import BOTH_WAYS, IN_CORPUS, JUDGED_OUT, NEGATIVES_NOW, NOTHING, join
from lbr_st.data.negatives import TextCheck
from lbr_st.data.passages import Chunker, read_text_files
from lbr_st.data.remedies import texts_of_row
from lbr_st.data.row_reader import RowReader
from lbr_st.data.rows import Ahead, read_rows
from lbr_st.data.same_text import same_text
from lbr_st.data.sources import check_is_there
from lbr_st.data.templates import Template
from lbr_st.errors import InputError, RowError
from lbr_st.records import FIELDS, Record, file_format, is_of_prepared_set, is_text_file

logger = logging.getLogger(__name__)

LOST_FIELDS = "; a prepared set keeps none but these: name the files that it was made of, in which they are"
RENAME = "; but --target needs fields that a set does not keep: call the column otherwise in the file, such as topic"
EMPTY_HINTS = {
    EMPTY_CELLS: ": in a CSV or TSV a cell of NULL, NaN, N/A or None alone is; in JSON it is a text",
    GONE_CELLS: ": a cell of [deleted], [removed] or the like alone is",
    ERROR_CELLS: ": in a CSV or TSV a cell of an error of a spreadsheet is, such as #REF!",
}


class RecordReader:
    """Turns the rows of a source into records, the same in every command: clean, titles joined, ids as text.

    Args:
        columns: Where the user says that things are.
        needed: ``document``, and ``query`` where there must be one.
        optional: ``query`` and ``negatives`` where they are read if they are there.
        id_column: Column that the user says the id is in; default is the usual names.
        keep_html: Whether markup stays in texts.
        is_prepared: Whether the source is a file of a prepared set, whose texts stay as they are.
        target: Template of what stage 1 predicts.
    """

    def __init__(
        self,
        columns: Columns,
        needed: Sequence[str],
        optional: Sequence[str] = (),
        *,
        id_column: str | None = None,
        keep_html: bool = False,
        is_prepared: bool = False,
        target: Template | None = None,
    ) -> None:
        self.keep_html = keep_html or is_prepared
        self._target = target
        self._is_prepared = is_prepared
        self._read = RowReader(columns, needed, optional, is_prepared=is_prepared)
        self._ids = IdReader(id_column)
        self._check = TextCheck(self.account)

    def ahead(self, read: Callable[[Wrong], Iterator[Row]], wrong: Wrong) -> Iterator[Row]:
        """Return rows that are to be read, of which the next are looked at where a column is missing in one."""
        rows = Ahead(read, wrong)
        self._read.ahead = rows.values
        return iter(rows)

    @property
    def account(self) -> Account:
        """What was read, and which columns were used."""
        return self._read.account

    @property
    def wants_negatives(self) -> bool:
        """Whether hard negatives are read."""
        return "negatives" in self._read.wanted

    def __call__(self, row: Row) -> list[Record]:
        """Return the records that a row is: one for each document.

        Returns:
            What `RowReader` finds, of which a text may be "" once it is clean; ``id``, the row's own or its number;
            ``document_id``, ``source`` and ``kind`` where the row has them; ``target`` where one is asked for: pairs of
            a field, None between fields, and a text.

        Raises:
            RowError: If a column is missing, or a value is blank or of another kind.
            InputError: If a column has grades, and nothing says which of them are answers.
        """
        try:
            with self._keeping_fields():
                found = self._read(row.where, row.values)
        except RowError as error:
            hint = next((EMPTY_HINTS[note] for note in row.notes if note in EMPTY_HINTS), None)
            if hint is not None and error.reason == "empty text":
                raise error.saying(hint) from error
            raise
        for note in row.notes:
            self.account.note(note)
        ids = {"id": str(row.number), **self._ids(row.values, is_pair="query" in found[0])}
        values = {name: self._read.value(row.values, name) for name in ("source", "kind")}
        more: Record = {
            name: printable(text) for name, text in values.items() if isinstance(text, str) and text.strip()
        }
        if self._target is not None:
            more["target"] = self._pieces(self._target, row)
        for record in found:
            texts = (record.get("query", ""), record["document"], *record.get("negatives", ()))
            self.account.note(TAKEN_OUT, sum(without_data_uris(text)[1] for text in texts))
        cleaned = [clean_record(record, self.keep_html) for record in found]
        if not self._is_prepared:
            self._check(cleaned, row.values)
        return [
            {name: part_id(id_, part, len(found)) for name, id_ in ids.items()} | record | more
            for part, record in enumerate(cleaned, start=1)
        ]

    def _pieces(self, target: Template, row: Row) -> list[tuple[str | None, str]]:
        self.account.use(target.columns_in(row.values))
        found = []
        try:
            pieces = target.pieces(row.where, row.values)
        except RowError as error:
            raise error.saying(LOST_FIELDS if self._is_prepared and error.reason == "missing field" else "") from error
        for field, text in pieces:
            cleaned = text if field is None else clean(text, self.keep_html)
            if not cleaned:
                raise RowError(f"{row.where}, field {field!r}", "empty text", "--target needs it, and it is blank")
            found.append((field, cleaned))
        return found

    def say(self, source: object) -> None:
        """Say what was made of the source, after its last row.

        Raises:
            InputError: If no row has the column that the user says the id is in.
        """
        if self._ids.column is not None and self._ids.column not in self._ids.used:
            raise InputError(f"{source}: no row has a column {self._ids.column!r}, which --id names")
        self.account.use(self._ids.used)
        self._check.say(source)
        with self._keeping_fields():
            self._read.say(source)

    @contextlib.contextmanager
    def _keeping_fields(self) -> Iterator[None]:
        """Offer no prepared set against judgements where a target needs fields that a set does not keep."""
        try:
            yield
        except InputError as error:
            if self._target is None or "--judged-by" not in str(error):
                raise
            if isinstance(error, RowError):
                raise error.saying(RENAME) from error
            raise InputError(f"{error}{RENAME}") from error


def read_records(
    path: str | Path,
    fields: Sequence[str] = FIELDS,
    min_score: float | None = None,
    on_error: str | None = None,
    target: Template | None = None,
    optional: Sequence[str] = (),
    others: list[Record] | None = None,
) -> list[Record]:
    """Read a file of question-answer pairs, or of documents alone; say which of its columns were used.

    Args:
        path: A file of any format of `lbr_st.data.rows.read_rows`, or the id of a Hub dataset. A field is found
            under any of its usual names (`lbr_st.data.names`); chats and multiple choice are read too.
        fields: Those of ``query`` and ``document`` that every row must have.
        min_score: Least score of a document that answers its query, where a column grades them.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` such rows and say how many they were; None
            stops, too, and names no flag that would skip them.
        target: Template of what stage 1 predicts; its fields are those of the row as it stands in the file.
        optional: ``query``, where rows may have one.
        others: Gets records of pairs of which a ``document`` answers no query by the same file: those that are judged
            so, and hard negatives. They belong to the corpus of a test: without them it would be easier than the file.

    Returns:
        A record for each document of a row, with the fields asked for and an ``id``: the row's own, else its number;
        where an id comes again, ``id#number``; ``relevance``, ``source`` and ``kind`` where a row has them; and
        ``target``, where it is asked for: the texts that it is put together of, each with its field or None. Pairs
        whose document is judged to be no answer are left out.

    Raises:
        InputError: If the file cannot be read, or a row does not parse, lacks a field or has an empty text. The
            message names file, line and column.
    """
    if others is None:
        return _judged(path, min_score, on_error, fields, optional, target)
    found = _judged(path, min_score, on_error, fields, (*optional, "negatives"), target, others)
    others += [{"document": text} for record in found for text in record.pop("negatives")]
    return found


def read_tuples(path: str | Path, min_score: float | None = None, on_error: str | None = None) -> list[Record]:
    """Read pairs, triplets or n-tuples: what stage 2 learns from.

    Args:
        path: See `read_records`. Hard negatives are texts, or lists of texts, under their usual names (``negative``,
            ``negative_1`` ..., ``hard_negatives``, ``neg``, ``rejected`` ...); null and blank are none. Of multiple
            choice they are the wrong options. A document that is judged to be no answer is one of its query.
        min_score: See `read_records`.
        on_error: See `read_records`.

    Returns:
        Records with ``id``, ``query``, ``document`` and ``negatives``, a list of texts that may be empty.

    Raises:
        InputError: If a negative is no text; and see `read_records`.
    """
    return _judged(path, min_score, on_error, FIELDS, ("negatives",))


def read_test(
    path: str | Path, min_score: float | None = None, on_error: str | None = None
) -> tuple[list[Record], list[Record]]:
    """Read pairs that a model is tested on, and what their queries are to be told apart from.

    Args:
        path: See `read_records`.
        min_score: See `read_records`.
        on_error: See `read_records`.

    Returns:
        The pairs; and the ``others`` of `read_records`.

    Raises:
        InputError: See `read_tuples`.
    """
    others: list[Record] = []
    return read_records(path, FIELDS, min_score, on_error, others=others), others


def read_queries(path: str | Path, on_error: str | None = None) -> list[str]:
    """Read queries alone: of pairs, of a file that has nothing else, or of a text file with one a line.

    Args:
        path: See `read_records`. Where no row has a query by name, the one text of a row is one.
        on_error: See `read_records`.

    Returns:
        The different queries, in their order.

    Raises:
        InputError: See `read_records`.
    """
    drops = Drops()
    queries = dict.fromkeys(query["document"] for query in iterate_queries(path, on_wrong_row(on_error, drops)))
    if drops.counts:
        logger.warning("%s: %s", path, drops.describe())
    return list(queries)


def iterate_queries(path: str | Path, wrong: Wrong = stop) -> Iterator[Record]:
    """Yield queries alone, see `read_queries`, each with its ``id`` and, as other texts have it, as ``document``."""
    if file_format(path) == ".txt" and is_text_file(Path(path)):
        name, number = Path(path).name, 0
        for at, line in read_lines(path):
            if query := clean(line, keep_html=True, one_line=True):
                number += 1
                yield {"id": f"{name}:{at}", "document": query}
        if not number:
            raise InputError(f"{path}: no queries; a text file has one a line")
        logger.info("%s: %s queries, one a line", path, f"{number:,}")
        return
    first = next(iter(read_rows(path, wrong=lambda error: None)), None)
    is_prepared = is_of_prepared_set(path)

    def reader(alone: Template | None) -> RecordReader:
        columns = Columns(document=alone, judged_by=NOTHING)
        return RecordReader(columns, ("document",), () if alone else ("query",), is_prepared=is_prepared)

    read = reader(None if first is None else _query_alone(first, reader(None)))
    for record in _records(path, read, wrong):
        text = record["query" if "query" in record else "document"]
        yield {"id": record["id"], "document": clean(text, keep_html=True, one_line=True)}
    counts = read.account.counts
    if number := counts.pop("document", 0):
        counts["query"] = number
    read.say(path)


def _query_alone(row: Row, read: RecordReader) -> Template | None:
    """Return where the query of a row is that has no document; None where a reader of pairs and documents finds it.

    Raises:
        RowError: If nothing says which column it is in.
    """
    columns = row.values
    name = names.first(columns, names.QUERY)
    if name is not None and not names.several(columns, (*names.DOCUMENT, *names.LISTED, *names.LISTED_IN_REPLY)):
        return Template(f"{{{name}}}")
    try:
        read(row)
    except RowError as error:
        if error.reason != "missing column":
            return None  # the reader says so when it comes to that row
        texts = list(texts_of_row(columns, are_sentences=True))
        if len(texts) == 1:
            return Template(f"{{{texts[0]}}}")
        found = ", ".join(map(str, columns))
        raise RowError(
            row.where, error.reason, f"no column for the query (found: {found}); call the one of the queries query"
        ) from error
    return None


def _judged(
    path: str | Path,
    min_score: float | None,
    on_error: str | None,
    needed: Sequence[str],
    optional: Sequence[str] = (),
    target: Template | None = None,
    others: list[Record] | None = None,
) -> list[Record]:
    """Return the records that are answers; the others go to a list, where there is one.

    Without one they become hard negatives of their query, where they are wanted.
    """
    columns, is_prepared = Columns(min_score=min_score), is_of_prepared_set(path)
    read = RecordReader(columns, needed, optional, is_prepared=is_prepared, target=target)
    drops = Drops()
    records = list(_records(path, read, on_wrong_row(on_error, drops)))
    answers = [record.get("relevance") != 0 for record in records]
    if not all(answers):
        queries, documents = (
            [same_text(each[name]) if each.get(name) else None for each in records] for name in FIELDS
        )
        joined = join(queries, documents, answers)
        number = answers.count(False) - len(joined.both_ways)
        if others is not None:
            found = [record for record, is_answer in zip(records, answers, strict=True) if not is_answer]
            others += [
                {name: record[name] for name in ("document", "document_id") if name in record} for record in found
            ]
            read.account.note(IN_CORPUS, number)
        elif read.wants_negatives:
            for index, wrong in joined.negatives.items():
                more = (text for other in wrong for text in (records[other]["document"], *records[other]["negatives"]))
                records[index]["negatives"] = list(dict.fromkeys([*records[index]["negatives"], *more]))
            read.account.note(NEGATIVES_NOW, number - len(joined.left_out))
            read.account.note(JUDGED_OUT, len(joined.left_out))
        else:
            read.account.note(JUDGED_OUT, number)
        read.account.note(BOTH_WAYS, len(joined.both_ways))
    read.say(path)
    if drops.counts:
        logger.warning("%s: %s", path, drops.describe())
    found = [record for record, is_answer in zip(records, answers, strict=True) if is_answer]
    if not found:
        raise InputError(f"{path}: no document answers its query: {len(records)} rows, all judged not to")
    return found


def _rows_of(path: str | Path, wrong: Wrong) -> Iterator[Row]:
    return read_rows(path, wrong=wrong)


def _records(path: str | Path, read: RecordReader, wrong: Wrong) -> Iterator[Record]:
    has_rows, has_records, unique, waiting = False, False, UniqueIds(), Waiting(wrong)
    for row in read.ahead(partial(_rows_of, path), waiting):
        has_rows = True
        try:
            found = read(row)
            _check_texts(row.where, found, read.account)
        except RowError as error:
            waiting(error)
            continue
        has_records = True
        waiting.used()
        for record in found:
            record.pop("is_choice", None)
            id_ = unique(record["id"], row.number)
            read.account.note(TWICE, id_ != record["id"])
            yield record | {"id": id_}
    waiting.end()
    if not has_records:
        raise InputError(f"{path}: no records{' that can be used' if has_rows else ''}")


def _check_texts(where: str, records: Sequence[Record], account: Account) -> None:
    for record in records:
        for name in FIELDS:
            if not record.get(name, "something"):
                answers = sum(each.get("relevance") != 0 for each in records)
                account.count("pair" if "query" in record else "document", -answers)
                raise RowError(where, "empty text", f"nothing is left of the {name} once it is clean")


def read_passages(path: str | Path, make_chunker: Callable[[], Chunker] = Chunker, wrong: Wrong = stop) -> list[Record]:
    """Read what is to be searched: a file of documents, or a folder of text.

    Args:
        path: See `read_records`; or a text, Markdown, HTML or source file, or a folder of them, cut into passages. The
            headings above a passage are before it: they are searched too.
        make_chunker: Makes what cuts them; for passages that a model reads to their end it is
            `lbr_st.use.passages.chunker_of`.
        wrong: Called with a `RowError` for each row or file that cannot be used; reading goes on if it returns.

    Returns:
        Records with ``id`` (of text: file and line the passage starts at) and ``document``.

    Raises:
        InputError: If a folder holds no text, or nothing is left; and see `read_records`.
    """
    return list(iterate_passages(path, make_chunker, wrong))


def iterate_passages(
    path: str | Path, make_chunker: Callable[[], Chunker] = Chunker, wrong: Wrong = stop
) -> Iterator[Record]:
    """Yield what `read_passages` reads, one after the other: of a corpus that memory cannot hold."""
    path = Path(path)
    if path.is_dir() or is_text_file(path):
        unique, records = UniqueIds(), read_text_records(path, make_chunker(), wrong=wrong, with_headings=True)
        for number, record in enumerate(records, start=1):
            yield {"id": unique(record["id"], number), "document": record["document"]}
        return
    read = RecordReader(Columns(), ("document",), is_prepared=is_of_prepared_set(path))
    for record in _records(path, read, wrong):
        yield {"id": record["id"], "document": record["document"]}
    read.say(path)


def read_text_records(
    path: Path, chunker: Chunker, encoding: str = "utf-8", wrong: Wrong = stop, with_headings: bool = False
) -> Iterator[Record]:
    """Yield the passages of a text file or of a folder as records, the same in every command; say what was read.

    They are clean, and markup in them is meant. Passages of which nothing is left are none; see `read_text_files`.

    Raises:
        InputError: If there are none.
    """
    folder, files = (path, text_files(path)) if path.is_dir() else (path.parent, [path])
    account = Account()
    if not path.is_dir():
        check_is_there(path)  # nothing is left where it alone is skipped
    else:
        note_files(account, folder, files)
    for record in read_text_files(files, folder, chunker, encoding, wrong, account, with_headings):
        cleaned = clean_record(record | {name: printable(record[name]) for name in ("id", "file")}, keep_html=True)
        if cleaned["document"]:
            account.count("passage")
            yield cleaned
    if not account.counts:
        raise InputError(f"{path}: no text that can be used")
    account.say(path)
