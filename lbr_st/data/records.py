"""What commands read that need no prepared set: files and Hub datasets of records, and what is to be searched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from lbr_st.data.columns import COLUMNS, Columns, RowReader, find_column
from lbr_st.data.passages import Chunker, read_text_files, text_files
from lbr_st.data.rows import open_text, read_rows
from lbr_st.errors import InputError
from lbr_st.records import Record, is_table

TEXT_SUFFIXES = {".txt", ".md", ".rst", ".py"}


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
    return [{key: value for key, value in record.items() if key != "negatives"} for record in _records(path, fields)]


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
    return list(_records(path, ("query", "document")))


def _records(
    path: str | Path, fields: Sequence[str], id_of: Callable[[object, int], str] | None = None
) -> Iterator[Record]:
    read, id_of, row = RowReader(Columns(), fields), id_of or UniqueIds(), None
    for row in read_rows(path):
        record = {"id": id_of(row.values.get("id"), row.number), **read(row.where, row.values)}
        record.pop("is_choice", None)
        if record.get("relevance", 1) < 1:
            raise InputError(f"{row.where}: relevance {record['relevance']}; lbr data prepare leaves such rows out")
        source = row.values.get("source")
        yield record if source is None else record | {"source": source}
    if row is None:
        raise InputError(f"{path}: no records")


class UniqueIds:
    """Gives each record an id that no other has."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, id_: object, number: int) -> str:
        """Return an id; the number where there is none, and with the number where it was there before."""
        unique = str(number if id_ is None else id_)
        while unique in self._seen:
            unique = f"{unique}#{number}"
        self._seen.add(unique)
        return unique


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
            texts = [row.values[name] for name in names if name is not None]
            yield "\n".join(text for text in texts if isinstance(text, str))
        return
    try:
        with open_text(file, newline=None) as opened:
            yield opened.read().encode().decode()
    except UnicodeError as error:
        raise InputError(f"{file}: not UTF-8") from error


def read_passages(path: str | Path) -> list[Record]:
    """Read what is to be searched: a file of documents, or a folder of text.

    Args:
        path: See `read_records`; or a folder of text, Markdown, HTML or source files, cut into passages.

    Returns:
        Records with ``id`` (for a folder: file and line the passage starts at) and ``document``.

    Raises:
        InputError: If a folder holds no text; and see `read_records`.
    """
    path = Path(path)
    return list(iterate_passages(path)) if path.is_dir() else read_records(path, fields=("document",))


def iterate_passages(path: str | Path) -> Iterator[Record]:
    """Yield what `read_passages` reads, one after the other: a corpus that memory cannot hold.

    Ids are the rows' own, or their numbers: whether one comes again is not looked at.
    """
    path = Path(path)
    if path.is_dir():
        for each in read_text_files(text_files(path), path, Chunker()):
            yield {"id": each["id"], "document": each["document"]}
        return
    for record in _records(path, ("document",), lambda id_, number: str(number if id_ is None else id_)):
        yield {"id": record["id"], "document": record["document"]}
