"""Any source as parts, each a stream of records: files, folders, BEIR, Hub ids, sets by name, installed packages."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lbr_st.data import installed_packages as installed
from lbr_st.data import names, registry
from lbr_st.data.account import Account
from lbr_st.data.beir import BeirCollection, Rows
from lbr_st.data.cells import Row, Wrong, stop
from lbr_st.data.cleaning import clean, clean_record
from lbr_st.data.column_texts import lifted
from lbr_st.data.columns import Columns
from lbr_st.data.config import ROW_FIELDS
from lbr_st.data.drops import Waiting
from lbr_st.data.folders import holds_no_data, note_files, tables_in
from lbr_st.data.ids import id_text
from lbr_st.data.judgements import JUDGED
from lbr_st.data.labelled_rows import hub_rows
from lbr_st.data.passages import Chunker
from lbr_st.data.records import RecordReader, read_text_records
from lbr_st.data.rows import read_rows
from lbr_st.data.sources import NO_FILE, check_is_there, what_it_is
from lbr_st.data.texts import is_blank, title_of
from lbr_st.errors import InputError, RowError
from lbr_st.records import SET_FILE, Record, is_hub_id, is_of_prepared_set, is_table, is_text_file

logger = logging.getLogger(__name__)

INSTALLED = "installed-packages"
# What files and splits are called that hold one side of a set.
SIDES = {"train": "train", "training": "train", "dev": "dev", "validation": "dev", "valid": "dev", "val": "dev"}
SIDES |= {"test": "test"}
# What is said of documents alone.
CUT = "cut, as they are longer than a passage"
PIECES = "passages of these, with the title before each where there is one"
_WHOLE = re.compile(r"(-?\d+)\.0+")
# How systems name a file that is there already.
_COPY = re.compile(r"(?i: \(\d+\)| - copy|[ _]copy( \d+)?)(?=\.)")


@dataclass(frozen=True)
class Reading:
    """How sources are read.

    Attributes:
        columns: Where things are in a row.
        id: Field of the id; None for the usual names.
        group: Field whose values must not be parted, or None.
        encoding: Encoding of text files.
        chunker: Cuts documents that have no query.
        keep_html: Whether markup stays in texts.
        is_prepared: Whether a source is a file of a prepared set, whose texts stay as they are.
        wrong: Called with a `RowError` for each row that cannot be used; reading goes on if it returns.
        incomplete: The same for rows of public sets that are known to lack texts.
    """

    columns: Columns = field(default_factory=Columns)
    id: str | None = None
    group: str | None = None
    encoding: str = "utf-8"
    chunker: Chunker = field(default_factory=Chunker)
    keep_html: bool = False
    is_prepared: bool = False
    wrong: Wrong = stop
    incomplete: Wrong = stop


class Part(NamedTuple):
    """One part of a source.

    Attributes:
        name: Name of the source, without its folder.
        side: ``train``, ``dev`` or ``test``, where the source says so.
        asks: What may be said of how it is read, by the names of `lbr_st.data.config.ROW_FIELDS`.
        records: Reads it, to clean records with ``id``, ``document``, ``negatives``, ``source`` and, where they have
            them, ``query``, ``title`` (as it came), ``relevance``, ``group``, ``document_id``, ``is_choice``, and
            ``row``, its number.
    """

    name: str
    side: str | None
    asks: Collection[str]
    records: Callable[[], Iterator[Record]]


def parts_of(source: str, reading: Reading, side: str | None = None) -> list[Part]:
    """Return the parts of a source.

    Args:
        source: A file; a folder with files named after the sides, in the form of BEIR, or of text; the id of a Hub
            dataset; the name of a set of the registry; or ``installed-packages``.
        reading: How to read it.
        side: Side that the user says it is, or None.

    Raises:
        InputError: If the source is none of these.
    """
    path = Path(source)
    if path.is_dir():
        return _folder(path, reading, side)
    if is_text_file(path):
        return [Part(path.name, side, (), lambda: _texts(path, path.name, reading))]
    if path.is_file():
        check_is_there(path)
        own = replace(reading, is_prepared=is_of_prepared_set(path))
        return [_rows_part(path.name, side, lambda wrong: read_rows(path, reading.encoding, wrong), own)]
    if source == INSTALLED:
        return [Part(INSTALLED, side, (), lambda: _installed(reading))]
    sets = registry.load()
    if source in sets:
        return _of_registry(sets[source], reading, side)
    if is_hub_id(source):
        return [_rows_part(source, side, lambda wrong: read_rows(source), reading)]
    what = what_it_is(source)
    if what != NO_FILE:
        raise InputError(f"{source}: {what}")
    raise InputError(f"{source}: no such file or folder, no id of a Hub dataset, and none of {', '.join(sets)}")


def _rows_part(name: str, side: str | None, rows: Rows, reading: Reading, asks: Collection[str] = ROW_FIELDS) -> Part:
    return Part(name, side, asks, lambda: records_of(rows, name, reading))


def records_of(rows: Rows, name: str, reading: Reading) -> Iterator[Record]:
    """Yield the records of the rows of one source; see `Part`."""
    read = RecordReader(
        reading.columns,
        ("document",),
        ("query", "negatives"),
        id_column=reading.id,
        keep_html=reading.keep_html,
        is_prepared=reading.is_prepared,
    )
    waiting = Waiting(reading.wrong)
    for row in read.ahead(rows, waiting):
        try:
            found = read(row)
            group = _group_of(row.where, row.values, reading.group)
        except RowError as error:
            waiting(error)
            continue
        waiting.used()
        if reading.group is not None:
            read.account.use([reading.group])
        read.account.note(JUDGED, sum(record.get("relevance") == 0 for record in found))
        for record in found:
            record = {"source": name, **record, "group": group, "row": row.number} | _title_of(row)
            yield from [record] if "query" in record else _chunks(record, row, reading, read.account)
    waiting.end()
    read.say(name)


def _title_of(row: Row) -> Record:
    """Return the title of a row's document, which is a part of the document too; nothing where there is none."""
    title = row.values.get(names.first(row.values, names.TITLE) or "")
    return {"title": title} if isinstance(title, str) and title.strip() else {}


def _heading_of(row: Row, document: str, keep_html: bool, account: Account) -> str:
    """Return the title that a document begins with, of the columns that are used; "" where it begins with none."""
    values = lifted(row.values)
    for column in filter(account.uses, values):
        if names.is_title(column) or names.first([column], names.TITLE_OF_TEXT):
            with contextlib.suppress(RowError):  # an object, of which a template takes a part
                title = clean(title_of(row.where, column, values[column]), keep_html)
                if title and document.startswith(title):
                    return title
    return ""


def _group_of(where: str, values: Mapping[str, Any], name: str | None) -> str | None:
    if name is None:
        return None
    if name in values and is_blank(values[name]):
        detail = f"column {name!r} is blank, and --group-by needs a group in every row: write one there"
        raise RowError(where, "no group", detail)
    if name not in values:
        raise RowError(where, "no group", f"no column {name!r} to group by (found: {', '.join(map(str, values))})")
    text = id_text(values[name]) or str(values[name])
    whole = _WHOLE.fullmatch(text)  # pandas writes 7.0 for 7 in a column with a gap
    return whole[1] if whole else text


def _chunks(record: Record, row: Row, reading: Reading, account: Account) -> Iterator[Record]:
    """Cut a document that has no query; it is clean already, as what is cut within a tag is no tag any more."""
    text = record["document"]
    if reading.chunker.count(text) <= reading.chunker.tokens:
        yield record
        return
    chunks = reading.chunker.cut_titled(text, _heading_of(row, text, reading.keep_html, account))
    if len(chunks) < 2:
        yield record
        return
    account.note(CUT)
    account.note(PIECES, len(chunks))
    for number, chunk in enumerate(chunks, start=1):
        yield record | {"id": f"{record['id']}#{number}", "document": chunk}


def _installed(reading: Reading) -> Iterator[Record]:
    group = reading.group or "package"
    for record in installed.installed_pairs():
        group_of = _group_of(record["id"], record, group)
        cleaned = clean_record(record, keep_html=True)
        yield cleaned | {"source": record["package"], "group": group_of, "negatives": []}


def _folder(folder: Path, reading: Reading, side: str | None) -> list[Part]:
    if why := holds_no_data(folder):
        raise InputError(f"{folder}: {why}")
    corpus = _one_of(folder, "corpus")
    queries = _one_of(folder, "queries")
    qrels = sorted(folder.joinpath("qrels").glob("*.tsv"))
    if not qrels and corpus and queries:  # beside them, as Vertex AI has them
        qrels = [file for file in tables_in(folder) if file.suffix == ".tsv" and SIDES.get(file.stem.lower())]
    if (folder / SET_FILE).is_file():
        raise InputError(f"{folder} is a prepared set; give its files as sources to make another of them")
    if corpus and queries and qrels:
        if reading.group is not None:
            raise InputError(f"--group-by {reading.group}: {folder} is a collection of BEIR, whose rows have no groups")
        rows = lambda path: partial(read_rows, path, reading.encoding)  # noqa: E731
        collection = _beir(folder.resolve().name, rows(corpus), rows(queries), reading)
        judged = [(side or SIDES.get(file.stem.lower()), file.name, rows(file)) for file in qrels]
        _say_files(folder, [corpus, queries, *qrels])
        return _beir_parts(collection, judged)
    tables = tables_in(folder)
    sides = {file: SIDES.get(re.split(r"-\d+-of-\d+$", file.name.partition(".")[0].lower())[0]) for file in tables}
    # Repositories have JSON files that are no data.
    others = [file.name for file in tables if not sides[file] and not file.name.lower().endswith(".json")]
    if others:
        copies = [name for name in others if _COPY.search(name)]
        more = f" ({', '.join(copies[:5])} looks like a copy: move it away)" if copies else ""
        raise InputError(
            f"{folder} holds {', '.join(others[:5])}{more}: in a folder, data are files named train, dev or test; give "
            "other files themselves as sources"
        )
    parts = [
        part._replace(side=side or of_file)
        for file, of_file in sides.items()
        if of_file
        for part in parts_of(str(file), reading)
    ]
    if parts:
        _say_files(folder, [file for file, of_file in sides.items() if of_file])
        return parts
    name = folder.resolve().name
    return [Part(name, side, (), lambda: _texts(folder, name, reading))]


def _say_files(folder: Path, read: Sequence[Path]) -> None:
    account = Account()
    note_files(account, folder, read)
    logger.info("%s: %s", folder, account.notes)


def _one_of(folder: Path, stem: str) -> Path | None:
    return next((file for file in sorted(folder.glob(f"{stem}.*")) if is_table(file)), None)


def _texts(path: Path, name: str, reading: Reading) -> Iterator[Record]:
    for record in read_text_records(path, reading.chunker, reading.encoding, reading.wrong):
        try:
            group = _group_of(record["id"], record, reading.group)
        except RowError as error:
            reading.wrong(error)
            continue
        yield record | {"source": name, "group": group, "negatives": []}


def _beir(name: str, corpus: Rows, queries: Rows, reading: Reading) -> BeirCollection:
    return BeirCollection(name, corpus, queries, reading.wrong, reading.keep_html, reading.columns.min_score)


def _beir_parts(collection: BeirCollection, judged: Sequence[tuple[str | None, str, Rows]]) -> list[Part]:
    """Return a part for each file of judgements, and one of all documents."""
    parts = [
        Part(f"{collection.name}/{name}", side, ("min_score",), partial(collection.judged, rows))
        for side, name, rows in judged
    ]
    return [*parts, Part(f"{collection.name}/corpus", None, (), collection.documents_alone)]


def _of_registry(entry: registry.Entry, reading: Reading, side: str | None) -> list[Part]:
    rows = lambda part, split: lambda wrong: hub_rows(part["hub"], part.get("config"), split)  # noqa: E731
    if entry.qrels:
        corpus, queries = (rows(part, part["split"]) for part in (entry.corpus, entry.queries))
        own = replace(reading, keep_html=reading.keep_html or entry.keep_html)
        collection = _beir(entry.name, corpus, queries, own)
        judged = [(side or ours, theirs, rows(entry.qrels, theirs)) for ours, theirs in entry.splits.items()]
        return _beir_parts(collection, judged)
    wrong = partial(_lacks_text, reading) if entry.incomplete else reading.wrong
    own = replace(reading, columns=entry.columns, keep_html=reading.keep_html or entry.keep_html, wrong=wrong)
    of_split = lambda split: lambda wrong: hub_rows(entry.hub, entry.config, split)  # noqa: E731
    # A set that comes as one split says nothing about sides.
    sides = [(None if len(entry.splits) == 1 else ours, theirs) for ours, theirs in entry.splits.items()]
    return [
        _rows_part(f"{entry.name}/{theirs}", side or ours, of_split(theirs), own, ("id",)) for ours, theirs in sides
    ]


def _lacks_text(reading: Reading, error: RowError) -> None:
    """Count a row of a set that is known to have such; another mistake is one, as in every set."""
    lacks = error.reason in ("not text", "empty text", "too short a list", "no options", "no answer")
    (reading.incomplete if lacks else reading.wrong)(error)
