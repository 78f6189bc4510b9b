"""What commands read that need no prepared set: files and Hub datasets of records, and what is to be searched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from lbr_st.data.columns import Columns, RowReader
from lbr_st.data.judgements import JUDGED_OUT, NEGATIVES_NOW, join
from lbr_st.data.passages import Chunker, read_text_files, text_files
from lbr_st.data.rows import open_text, read_rows
from lbr_st.errors import InputError
from lbr_st.records import FIELDS, Record, is_table

TEXT_SUFFIXES = {".txt", ".md", ".rst", ".py"}


def read_records(path: str | Path, fields: Sequence[str] = FIELDS, min_score: float | None = None) -> list[Record]:
    """Read a file of question-answer pairs, or of documents alone; say which of its columns were used.

    Args:
        path: A file of any format of `lbr_st.data.rows.read_rows`, or the id of a Hub dataset. A field is found
            under any of its usual names (`lbr_st.data.names`); chats and multiple choice are read too.
        fields: Those of ``query`` and ``document`` that every row must have.
        min_score: Least score of a document that answers its query, where a column grades them.

    Returns:
        A record for each document of a row, with the fields asked for and an ``id``: the row's own, else its number;
        where an id comes again, ``id#number``; and ``relevance`` and ``source`` where a row has them. Pairs whose
        document is judged to be no answer are left out.

    Raises:
        InputError: If the file cannot be read, or a row does not parse, lacks a field or has an empty text. The
            message names file, line and column.
    """
    return _judged(path, RowReader(Columns(min_score=min_score), fields))


def read_tuples(path: str | Path, min_score: float | None = None) -> list[Record]:
    """Read pairs, triplets or n-tuples: what stage 2 learns from.

    Args:
        path: See `read_records`. Hard negatives are texts, or lists of texts, under their usual names (``negative``,
            ``negative_1`` ..., ``hard_negatives``, ``neg``, ``rejected`` ...); null and blank are none. Of multiple
            choice they are the wrong options. A document that is judged to be no answer is one of its query.
        min_score: See `read_records`.

    Returns:
        Records with ``id``, ``query``, ``document`` and ``negatives``, a list of texts that may be empty.

    Raises:
        InputError: If a negative is no text; and see `read_records`.
    """
    return _judged(path, RowReader(Columns(min_score=min_score), FIELDS, ("negatives",)))


def _judged(path: str | Path, read: RowReader) -> list[Record]:
    """Return the records that are answers, and make the others hard negatives of their query, where they are wanted."""
    records = list(_records(path, read, UniqueIds()))
    answers = [record.get("relevance") != 0 for record in records]
    if not all(answers):
        joined = join([record.get("query") for record in records], [record["document"] for record in records], answers)
        if "negatives" in read.wanted:
            for index, others in joined.negatives.items():
                more = (text for other in others for text in (records[other]["document"], *records[other]["negatives"]))
                records[index]["negatives"] = list(dict.fromkeys([*records[index]["negatives"], *more]))
        number = answers.count(False)
        left_out = len(joined.left_out) if "negatives" in read.wanted else number
        read.account.note(NEGATIVES_NOW, number - left_out)
        read.account.note(JUDGED_OUT, left_out)
    read.say(path)
    found = [record for record, is_answer in zip(records, answers, strict=True) if is_answer]
    if not found:
        raise InputError(f"{path}: no document answers its query: {len(records)} rows, all judged not to")
    return found


def _records(path: str | Path, read: RowReader, id_of: Callable[[object, int], str]) -> Iterator[Record]:
    row = None
    for row in read_rows(path):
        found = read(row.where, row.values)
        id_, source = read.value(row.values, "id"), read.value(row.values, "source")
        for part, record in enumerate(found, start=1):
            record.pop("is_choice", None)
            record = {"id": id_of(part_id(id_, row.number, part, len(found)), row.number), **record}
            yield record if source is None else record | {"source": source}
    if row is None:
        raise InputError(f"{path}: no records")


def part_id(id_: object, number: int, part: int, parts: int) -> str:
    """Return the id of a record of a row: its own or its number; of several ``id#1``, ``id#2`` and so on."""
    whole = str(number if id_ is None else id_)
    return whole if parts == 1 else f"{whole}#{part}"


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
        read = RowReader(Columns(), ("document",), ("query",))
        for row in read_rows(file):
            for record in read(row.where, row.values):
                yield "\n".join(record[name] for name in FIELDS if name in record)
        read.say(file)
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
    read = RowReader(Columns(), ("document",))
    for record in _records(path, read, lambda id_, number: str(id_)):
        yield {"id": record["id"], "document": record["document"]}
    read.say(path)
