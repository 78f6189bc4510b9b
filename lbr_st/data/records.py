"""What commands read that need no prepared set: files and Hub datasets of records, and what is to be searched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from lbr_st.data.cleaning import clean, clean_record, printable
from lbr_st.data.columns import COLUMNS, Columns, RowReader, find_column
from lbr_st.data.front_matter import split_front_matter
from lbr_st.data.naming import TITLES, IdReader, UniqueIds, columns_of
from lbr_st.data.passages import MARKDOWN, TEXT, Chunker, read_text_files, text_files
from lbr_st.data.rows import Row, Wrong, open_text, read_rows, stop
from lbr_st.errors import InputError, RowError
from lbr_st.records import Record, is_of_prepared_set, is_table

TEXT_SUFFIXES = {".txt", ".md", ".rst", ".py"}


class RecordReader:
    """Turns the rows of a source into records, the same in every command: clean, titles joined, ids as text.

    Args:
        needed: Those of ``query`` and ``document`` that every row must have.
        optional: Those of them that are read where they are there.
        columns: Where the user says that things are.
        id_column: Column that the user says the id is in; default is the usual names of `lbr_st.data.naming`.
        keep_html: Whether markup stays in texts.
    """

    def __init__(
        self,
        needed: Sequence[str],
        optional: Sequence[str] = (),
        *,
        columns: Columns | None = None,
        id_column: str | None = None,
        keep_html: bool = False,
    ) -> None:
        self.keep_html = keep_html
        self._read = RowReader(columns or Columns(), needed, optional)
        self._ids = IdReader(id_column)

    def __call__(self, row: Row) -> Record:
        """Return the record that a row is.

        Returns:
            What `RowReader` finds, of which a text may be "" once it is clean; ``id``, the row's own or its number;
            ``document_id`` and ``source`` where the row has them.

        Raises:
            RowError: If a column is missing, or a value is blank or of another kind.
        """
        record = clean_record(self._read(row.where, row.values), self.keep_html)
        source = row.values.get("source")
        if isinstance(source, str) and source.strip():
            record["source"] = printable(source)
        return {"id": str(row.number), **self._ids(row.values, is_pair="query" in record), **record}


def read_records(path: str | Path, fields: Sequence[str] = ("query", "document")) -> list[Record]:
    """Read a file of question-answer pairs, or of documents alone.

    Args:
        path: A file of any format of `lbr_st.data.rows.read_rows`, or the id of a Hub dataset. A field is found
            under any of its usual names (`lbr_st.data.columns.COLUMNS`), in capitals or not; chats and multiple choice
            are read too.
        fields: Those of ``query`` and ``document`` that every row must have.

    Returns:
        One record a row, with the fields asked for and an ``id``: the row's own, else its number; where an id comes
        again, ``id#number``; and ``relevance`` and ``source`` where a row has them.

    Raises:
        InputError: If the file cannot be read, or a row does not parse, lacks a field or has an empty text. The
            message names file, line and column.
    """
    records = _records(path, fields, unique=UniqueIds())
    return [{key: value for key, value in record.items() if key != "negatives"} for record in records]


def read_tuples(path: str | Path) -> list[Record]:
    """Read pairs, triplets or n-tuples: what stage 2 learns from.

    Args:
        path: See `read_records`. Hard negatives are texts under ``negative``, ``negative_1`` ..., or a list of texts
            under ``negatives``; null is none. Of multiple choice they are the wrong options.

    Returns:
        Records with ``id``, ``query``, ``document`` and ``negatives``, a list of texts that may be empty.

    Raises:
        InputError: If a negative is no text; and see `read_records`.
    """
    return list(_records(path, ("query", "document"), unique=UniqueIds()))


def _records(
    path: str | Path, fields: Sequence[str], wrong: Wrong = stop, unique: UniqueIds | None = None
) -> Iterator[Record]:
    read, has_rows, has_records = RecordReader(fields, keep_html=is_of_prepared_set(path)), False, False
    for row in read_rows(path, wrong=wrong):
        has_rows = True
        try:
            record = read(row)
            _check_texts(row.where, record, fields)
        except RowError as error:
            wrong(error)
            continue
        record.pop("is_choice", None)
        if "query" in fields and record.get("relevance", 1) < 1:
            raise InputError(f"{row.where}: relevance {record['relevance']}; lbr data prepare leaves such rows out")
        has_records = True
        yield record | {"id": unique(record["id"], row.number)} if unique else record
    if not has_records:
        raise InputError(f"{path}: no records{' that can be used' if has_rows else ''}")


def _check_texts(where: str, record: Record, fields: Sequence[str]) -> None:
    for name in fields:
        if not record[name]:
            raise RowError(where, "empty text", f"nothing is left of the {name} once it is clean")


def read_texts(paths: Iterable[str | Path]) -> list[str]:
    """Read raw text to train a language model on.

    Args:
        paths: Files of records (the query and document of a row become one text), text files, or folders of both.

    Raises:
        InputError: If a path does not exist, a file cannot be read, or there is no text at all.
    """
    paths = list(paths)
    texts = [text for path in map(Path, paths) for file in _files(path) for text in _texts(file)]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise InputError(f"no text in {', '.join(map(str, paths))}")
    return texts


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = (file for file in path.rglob("*") if is_table(file) or file.suffix in TEXT_SUFFIXES)
        return sorted(file for file in found if file.is_file())
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    return [path]


def _texts(file: Path) -> Iterator[str]:
    if is_table(file):
        for row in read_rows(file):
            names = [find_column(field, row.values) for field in COLUMNS]
            columns = [*columns_of(row.values, TITLES)[:1], *(name for name in names if name is not None)]
            texts = [row.values[name] for name in columns]
            yield "\n".join(clean(text, keep_html=True) for text in texts if isinstance(text, str) and text.strip())
        return
    with open_text(file, newline=None) as opened:
        text = opened.read()
    try:
        text.encode()
    except UnicodeError as error:
        raise InputError(f"{file}: not UTF-8") from error
    title, text = split_front_matter(text) if file.suffix.lower() in MARKDOWN else ("", text)
    yield clean(f"{title}\n{text}", keep_html=True)


def read_passages(path: str | Path, make_chunker: Callable[[], Chunker] = Chunker, wrong: Wrong = stop) -> list[Record]:
    """Read what is to be searched: a file of documents, or a folder of text.

    Args:
        path: See `read_records`; or a text, Markdown, HTML or source file, or a folder of them, cut into passages.
        make_chunker: Makes what cuts them; for passages that a model reads to their end it is
            `lbr_st.use.passages.chunker_of`.
        wrong: Called with a `RowError` for each row or file that cannot be used; reading goes on if it returns.

    Returns:
        Records with ``id`` (of text: file and line the passage starts at) and ``document``.

    Raises:
        InputError: If a folder holds no text, or nothing is left; and see `read_records`.
    """
    return list(_passages(path, make_chunker, wrong, UniqueIds()))


def iterate_passages(
    path: str | Path, make_chunker: Callable[[], Chunker] = Chunker, wrong: Wrong = stop
) -> Iterator[Record]:
    """Yield what `read_passages` reads, one after the other: a corpus that memory cannot hold.

    Ids are the rows' own, or their numbers: whether one comes again is not looked at.
    """
    return _passages(path, make_chunker, wrong, None)


def _passages(
    path: str | Path, make_chunker: Callable[[], Chunker], wrong: Wrong, unique: UniqueIds | None
) -> Iterator[Record]:
    path = Path(path)
    if path.is_dir() or is_text_file(path):
        folder, files = (path, text_files(path)) if path.is_dir() else (path.parent, [path])
        records = read_text_records(files, folder, make_chunker(), wrong=wrong)
    else:
        records = _records(path, ("document",), wrong, unique)
    each = None
    for each in records:
        yield {"id": each["id"], "document": each["document"]}
    if each is None:
        raise InputError(f"{path}: no text that can be used")


def is_text_file(path: Path) -> bool:
    """Tell whether a path is a file of text, which is cut into passages."""
    return path.suffix.lower() in TEXT and path.is_file()


def read_text_records(
    files: Iterable[Path], folder: Path, chunker: Chunker, encoding: str = "utf-8", wrong: Wrong = stop
) -> Iterator[Record]:
    """Yield the passages of text files as records, the same in every command; see `read_text_files`.

    They are clean, and markup in them is meant. Passages of which nothing is left are none.
    """
    for record in read_text_files(files, folder, chunker, encoding, wrong):
        cleaned = clean_record(record | {name: printable(record[name]) for name in ("id", "file")}, keep_html=True)
        if cleaned["document"]:
            yield cleaned
