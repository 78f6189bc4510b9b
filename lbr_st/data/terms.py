"""Terms of a domain: found in what is trained on, by how often they come and into how many pieces a model cuts them."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lbr_st.data import names
from lbr_st.data.encodings import read_lines
from lbr_st.data.prepared_set import PreparedSet
from lbr_st.data.records import read_records
from lbr_st.data.rows import read_rows
from lbr_st.data.sources import check_is_file
from lbr_st.data.words import WORD
from lbr_st.errors import InputError, RowError
from lbr_st.files import write_jsonl
from lbr_st.model.term_matching import check_term, goes_on
from lbr_st.records import FIELDS, Record, file_format, is_text_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

AUTO = "auto"  # in the place of a file of terms: those of the training data

# Which words are terms, unless said otherwise.
LEAST_COUNT, LEAST_PIECES, MOST_TERMS = 10, 3, 1000

# Files of a prepared set that hold what is trained on, and nothing else.
TRAINED_ON = ("learn", "passages", "align")
READ_BY = {"learn": "sft", "passages": "reconstruct"}  # files of a set, and what reads them of its objective

_WORDS = re.compile(WORD)
_RUN = re.compile(r"[^\W\d_]+|\d+")  # where a term may begin

# Columns that terms are in, in the order they are looked for.
NAMES = (
    "term", "terms", "word", "words", "name", "names", "phrase", "keyword", "lemma", "token", "concept", "entity",
    "text",
)  # fmt: skip
HEADED = (".csv", ".tsv")  # whose first line is a header, or is taken for one
_LETTER = re.compile(r"[^\W\d_]")
_SEVERAL = re.compile(r"[\t;|]")
_COUNTED = re.compile(r"\s*\d[\d.,]*\s+\S.*|.*\S[\s,:]\s*\d[\d.,]*")  # a number before a term, or behind it
LEAST_COUNTED = 5  # lines that all have a number: fewer may be interleukin 6 and interleukin 10
ONE_A_LINE = "write a term a line, or a table, such as terms.csv, with a header that names a column term"


@dataclass(frozen=True)
class Term:
    """A term that was found.

    Attributes:
        term: The word, in the letters it comes in.
        count: How often it comes.
        pieces: Number of tokens that the model cuts it into, in the middle of a text.
    """

    term: str
    count: int
    pieces: int

    @property
    def saved(self) -> int:
        """Number of tokens that the texts are shorter by where the term is one."""
        return self.count * (self.pieces - 1)


def find_terms(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    least_count: int = LEAST_COUNT,
    least_pieces: int = LEAST_PIECES,
    most: int = MOST_TERMS,
) -> list[Term]:
    """Find words that begin with a letter and fall into many pieces, of scripts that put spaces between words.

    Args:
        texts: What is trained on.
        tokenizer: The model's.
        least_count: Fewest times a term comes.
        least_pieces: Fewest pieces that it falls into.
        most: Most terms.

    Returns:
        Those that save the most tokens first.
    """
    counts = Counter(word for text in texts for word in _WORDS.findall(text))
    frequent = (word for word, count in counts.items() if count >= least_count)
    words = sorted(word for word in frequent if word[0].isalpha() and _is_term(word))  # no 2h, no 5e
    if not words:
        return []
    alone, *encoded = tokenizer(["a", *(f"a {word}" for word in words)], add_special_tokens=False)["input_ids"]
    pieces = [len(ids) - len(alone) for ids in encoded]
    found = [Term(word, counts[word], n) for word, n in zip(words, pieces, strict=True) if n >= least_pieces]
    return sorted(found, key=lambda term: (-term.saved, term.term))[:most]


def texts_of(records: Iterable[Record]) -> list[str]:
    """Return the different queries and documents of records, in their order."""
    return list(dict.fromkeys(record[name] for record in records for name in FIELDS if record.get(name)))


def training_texts(source: str, on_error: str | None = None) -> list[str]:
    """Read the texts of a source that are trained on.

    Args:
        source: A prepared set, of which it is what its objective reads: the pairs of stage 1, the passages, or both; a
            file, or the id of a Hub dataset.
        on_error: See `lbr_st.data.records.read_records`.

    Raises:
        InputError: If it cannot be read, or is a file of a prepared set that is held out, or searched.
    """
    own = PreparedSet.open(source)
    if own is not None and os.path.isdir(source):
        read = [name for name, objective in READ_BY.items() if objective in own.about["objective"]]
        sources = [own.file(name) for name in read]
    elif own is not None and Path(source).stem in {*own.about["files"]} - {*TRAINED_ON}:
        raise InputError(f"{source}: terms are found in what is trained on; name {own.folder}, or its learn.jsonl")
    else:
        sources = [source]
    records = (
        record
        for each in sources
        for record in read_records(each, ("document",), on_error=on_error, optional=("query",))
    )
    return texts_of(records)


def write_terms(file: str | Path, terms: Sequence[Term]) -> None:
    """Write terms as JSON Lines, to be edited: only ``term`` is read again."""
    write_jsonl(file, map(asdict, terms))


def read_terms(file: str | Path) -> list[str]:
    """Read the terms of a file: text with a term a line, or rows with a field of `NAMES`, or with one text alone.

    Args:
        file: A text file, or one of any format of `lbr_st.data.rows.read_rows`.

    Returns:
        The different terms, in their order.

    Raises:
        InputError: If the file cannot be read or has no terms, or a line has none that can be matched, or several.
    """
    check_is_file(file, "terms", "lbr data terms writes one")
    terms: dict[str, None] = {}
    for where, term in _lines(Path(file)) if is_text_file(Path(file)) else _rows(file):
        try:
            check_term(term)
        except InputError as error:
            raise RowError(where, "no term", str(error)) from error
        terms[term] = None
    if not terms:
        raise InputError(f"{file}: no terms")
    logger.info("%s: %s terms", file, f"{len(terms):,}")
    return list(terms)


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    lines = list(read_lines(file))
    # A name may end with a number, such as interleukin 6; a list in which all do is one of counts.
    are_counted = len(lines) >= LEAST_COUNTED and all(_COUNTED.fullmatch(line) for _, line in lines)
    for number, line in lines:
        where = f"{file}, line {number}"
        if are_counted:
            raise RowError(where, "no term", f"{line.strip()!r} is a term and a number; {ONE_A_LINE}")
        yield where, _one(where, line)


def _rows(file: str | Path) -> Iterator[tuple[str, str]]:
    column = None
    for row in read_rows(file):
        found = names.first(row.values, NAMES) or _only_text(row.values, file_format(file) in HEADED)
        if found is None:
            header = " or has no header" if file_format(file) in HEADED else ""
            raise RowError(
                row.where,
                "no term",
                f"has no column 'term'{header} (found: {', '.join(map(str, row.values))}); {ONE_A_LINE}",
            )
        others = [name for name, value in row.values.items() if name != found and _is_said(value)]
        if names.plain(found) not in NAMES[:2] and others:
            detail = f"{found!r} and {', '.join(map(repr, others))} have texts: call the one of the terms 'term'"
            raise RowError(row.where, "no term", detail)
        if found != column and names.plain(found) != NAMES[0]:
            logger.info("%s: terms are in %s", file, found)
        column, term = found, row.values[found]
        if not isinstance(term, str) or not term.strip():
            raise RowError(f"{row.where}, column {found!r}", "no term", f"a term is needed, found {term!r}")
        yield row.where, " ".join(term.split()) if names.plain(found) in NAMES[:2] else _one(row.where, term)


def _is_said(value: Any) -> bool:
    return isinstance(value, str) and _LETTER.search(value) is not None


def _one(where: str, text: str) -> str:
    """Return a term with single spaces between its words.

    Raises:
        RowError: If there are several, or more is said of one.
    """
    if _SEVERAL.search(text.strip()):
        raise RowError(where, "no term", f"{text.strip()!r} is not one term; {ONE_A_LINE}")
    return " ".join(text.split())


def _only_text(values: Mapping[str, Any], has_header: bool) -> str | None:
    """Return the one column that has a text; None where there are others, or the header may be a term itself."""
    if has_header and (len(values) == 1 or not all(map(_LETTER.search, values))):
        return None
    texts = [name for name, value in values.items() if isinstance(value, str) and _LETTER.search(value)]
    return texts[0] if len(texts) == 1 else None


def terms_in(terms: Iterable[str], texts: Iterable[str]) -> set[str]:
    """Return the terms that come in texts as whole words, in the same capitals, as `lbr_st.model.term_matching` does.

    Args:
        terms: Terms that `lbr_st.model.term_matching.check_term` takes.
        texts: What they are looked for in, until all are found.
    """
    wanted: dict[str, dict[str, str]] = {}  # by the run of characters that a term begins with
    for term in terms:
        spelled = unicodedata.normalize("NFC", term)
        if (first := _RUN.match(spelled)) is not None:
            wanted.setdefault(first[0], {})[spelled] = term
    found = set()
    for text in texts:
        if not wanted:
            break
        text = unicodedata.normalize("NFC", text)
        for run in _RUN.finditer(text):
            start = run.start()
            for spelled in [each for each in wanted.get(run[0], ()) if text.startswith(each, start)]:
                if not goes_on(text, start) and not goes_on(text, start + len(spelled)):
                    found.add(wanted[run[0]].pop(spelled))
            if not wanted.get(run[0], True):
                del wanted[run[0]]
    return found


def _is_term(word: str) -> bool:
    try:
        check_term(word)
    except InputError:
        return False
    return True
