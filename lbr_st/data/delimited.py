"""Tables with delimiters, as programs write them: CSV, TSV, Excel's with semicolons, and TSV that quotes nothing."""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from lbr_st.data import names
from lbr_st.data.templates import EXCERPT
from lbr_st.errors import InputError, RowError

DELIMITERS = ("\t", ";", ",", "|")
# What pandas calls the column that it writes without a name: the numbers of the rows.
INDEX = "Unnamed: 0"
NUMBER = re.compile(r"[+-]?\d+(\.0+)?")
# What cells say that hold nothing, to pandas and to databases.
NULLS = frozenset(
    ["#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
     "NaN", "None", "n/a", "nan", "null", "\\N"]
)  # fmt: skip
# What a spreadsheet writes where a formula has no result, or its column is too narrow.
ERRORS = frozenset(
    ["#BLOCKED!", "#BUSY!", "#CALC!", "#CONNECT!", "#DIV/0!", "#ERROR!", "#EXTERNAL!", "#FIELD!", "#GETTING_DATA",
     "#NAME?", "#NULL!", "#NUM!", "#PYTHON!", "#REF!", "#SPILL!", "#TIMEOUT!", "#UNKNOWN!", "#VALUE!", "Err:502",
     "Err:504", "Err:508", "Err:509", "Err:522", *("#" * width for width in range(3, 256))]
)  # fmt: skip
# What is said of rows, after their number.
EMPTY_CELLS = "with cells of NULL, NaN, N/A or None alone, which are empty"
ERROR_CELLS = "with cells of an error of a spreadsheet alone, such as #REF!, which are empty"
OPEN_QUOTES = "with a quote that is never closed, taken as it stands"
ROWS_IN_A_TEXT = "with a text of lines that look like rows: is a quote opened there and never closed?"

LONGEST_NAME = 200
MOST_AHEAD = 20  # lines that say whether all rows have names
MOST_LINES = 10_000  # that a quoted text of a TSV goes on in
_AROUND = " \ufeff"  # a name: spaces, and the mark of byte order of a file that was appended
_DECLARED = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # how Excel says what the delimiter is
_OF_QUALTRICS = re.compile(r'\{"ImportId":.*\}')  # what stands below each question that it exports
_RULE = re.compile(r"[-+:\s]{3,}")  # below the header, as databases print a table
_QUOTED = re.compile(r'"((?:[^"]|"")*)"(?=\t|\Z)')
_OPEN = re.compile(r'"(?:[^"]|"")*\Z')


class Table:
    """Reads the records of a table, each a list of fields.

    The delimiter is the usual one, unless the first line has none of it, and another.

    Args:
        file: Lines, with their ends.
        usual: The delimiter that the name of the file says.

    Attributes:
        delimiter: The delimiter.
        line: Number of lines that were read.
        header: Names of the columns; to be set after the first record, and checked with `header_of`.
        headers: Number of records that said the header once more.
        note: What is to be said of the last record, or None.
    """

    def __init__(self, file: Iterable[str], usual: str) -> None:
        csv.field_size_limit(sys.maxsize)  # 131,072 characters are not a long document
        self._file, self._ahead = iter(file), deque[str]()
        self.line = 0
        self.header: list[str] | None = None
        self.headers = 0
        self.note: str | None = None
        self._has_rows = self._quotes_all = False
        self._last = ""
        first = self._peek() or ""
        if declared := _DECLARED.fullmatch(first.rstrip("\r\n")):
            next(self._lines())
            self.delimiter = declared[1]
        else:
            bare = re.sub(r'"[^"]*"', "", first)
            self.delimiter = next((each for each in (usual, *DELIMITERS) if each in bare), usual)
        self._csv = csv.reader(self._lines(), delimiter=self.delimiter, strict=True)

    def __iter__(self) -> Table:
        return self

    def __next__(self) -> list[str]:
        """Return the next record.

        Raises:
            csv.Error: If it cannot be read; the next one may be.
        """
        self.note, before = None, self.line
        fields = next(self._csv) if self.delimiter != "\t" else self._of_tabs()
        if self.delimiter == "|":  # as databases print a table, its cells filled up
            fields = [field.strip() for field in fields]
        if self.header is not None and self.line > before + 2 and self.delimiter != "\t":
            marks = len(self.header) - 1
            for inner in (field.splitlines()[1:-1] for field in fields if "\n" in field):
                if marks and inner and all(line.count(self.delimiter) == marks for line in inner):
                    self.note = ROWS_IN_A_TEXT
        return fields

    def is_passed_over(self, where: str, fields: list[str]) -> bool:
        """Tell whether a record is no row: it is blank, as spreadsheets end, or says the header, as of files appended.

        Raises:
            InputError: If it says the header in another order, so that what follows is in other columns; or if it is
                the first, and the header, which the first line is not.
        """
        if not any(map(str.strip, fields)) or (not self._has_rows and _RULE.fullmatch("".join(fields))):
            return True
        if not self._has_rows and self.header and not names.has_texts(self.header) and names.has_texts(fields):
            raise InputError(f"{where}: names the columns; take away what stands above it")
        self._has_rows = True
        if all(_OF_QUALTRICS.fullmatch(field) for field in fields):
            raise InputError(
                f"{where}: holds the ids that Qualtrics exports below its questions, which are no rows: take away this "
                "line and the one above it, and let the first line name the columns"
            )
        if self.header is None or _name(fields[0][:LONGEST_NAME]) not in self.header:
            return False
        said = list(map(_name, fields))
        if said != self.header and sorted(said) == sorted(self.header):
            raise InputError(f"{where}: the header comes again in another order; put files together by their columns")
        self.headers += said == self.header
        return said == self.header

    def with_row_names(self, header: list[str]) -> list[str]:
        """Return a header with "" before it, where the first rows of a TSV have a number more, as those of R."""
        while len(self._ahead) < MOST_AHEAD and (line := next(self._file, None)) is not None:
            self._ahead.append(line)
        rows = [line for line in self._ahead if line.strip()]
        is_one_more = all(line.count("\t") == len(header) for line in rows)
        is_one_more &= all(NUMBER.fullmatch(line.partition("\t")[0].strip('"')) is not None for line in rows)
        is_of_r = bool(rows) and self.delimiter == "\t" and is_one_more and "" not in header
        return ["", *header] if is_of_r else header

    @property
    def excerpt(self) -> str:
        """What the last line begins with."""
        return self._last[:EXCERPT].rstrip("\r\n")

    def remedy(self) -> str:
        """Say what to do about the quotes of the last line."""
        line = [self._last.rstrip("\r\n")]
        try:
            escaped = next(csv.reader(line, delimiter=self.delimiter, escapechar="\\", doublequote=False, strict=True))
        except (csv.Error, StopIteration):
            escaped = []
        if self.header is not None and '\\"' in line[0] and len(escaped) == len(self.header):
            return "its quotes are written \\\": pandas.read_csv(FILE, escapechar='\\\\') reads them"
        return "a text with quotes in it stands in quotes, and its own are doubled"

    def _lines(self) -> Iterator[str]:
        while True:
            line = self._ahead.popleft() if self._ahead else next(self._file, None)
            if line is None:
                return
            self.line += 1
            self._last = line
            yield line

    def _peek(self) -> str | None:
        """Return the next line that is not blank, and leave it there."""
        while (following := next((line for line in self._ahead if line.strip()), None)) is None:
            if (line := next(self._file, None)) is None:
                return None
            self._ahead.append(line)
        return following

    def _of_tabs(self) -> list[str]:
        """Return a record of a TSV, in which a quote may mean something, or stand for itself.

        A field is quoted if it is closed before a tab or the end of a line. It goes on in the next lines unless its
        own line is a record without them, and so is the next one; it does always where the header is all quoted.

        Raises:
            csv.Error: If a quote is never closed, and its line alone is no record.
        """
        line = next(self._lines())
        text = line.rstrip("\r\n")
        plain = text.split("\t")
        if '"' not in text:
            return plain
        if self.header is None:
            self._quotes_all = all(len(field) > 1 and field[0] == field[-1] == '"' for field in plain)
        width = None if self.header is None else len(self.header)
        is_record = len(plain) == width and len(plain) > 1
        found = _fields(text)
        if found is None and (self._quotes_all or not (is_record and self._is_record_next(len(plain)))):
            found = self._with_more_lines(line, width if is_record else None)
        if found is None:
            if not is_record:
                raise csv.Error("unexpected end of data")
            self.note = OPEN_QUOTES
            return plain
        return plain if is_record and len(found) != width else found

    def _is_record_next(self, width: int) -> bool:
        following = self._peek()
        return following is None or (following.count("\t") == width - 1 and not following.startswith("\t"))

    def _with_more_lines(self, text: str, width: int | None) -> list[str] | None:
        """Return the fields of a record that goes on in the next lines, which are ``width`` where it is said.

        None where it does not end in these lines, or has other fields; they are read again.
        """
        line, taken = self.line, []
        for more in islice(self._lines(), MOST_LINES):
            taken.append(more)
            if '"' in more and (found := _fields("".join([text, *taken]).rstrip("\r\n"))) is not None:
                if width not in (None, len(found)):
                    break
                return found
        self._ahead.extendleft(reversed(taken))
        self.line = line
        return None


def _fields(text: str) -> list[str] | None:
    """Return the fields of a record between tabs, without their quotes; None where a quote is opened and not closed."""
    fields, at = [], 0
    while True:
        if quoted := _QUOTED.match(text, at):
            fields.append(quoted[1].replace('""', '"'))
            end = quoted.end()
        else:
            end = _end(text, at)
            fields.append(text[at:end])
            if _OPEN.match(text, at) or "\n" in fields[-1]:  # what goes on in another line is quoted
                return None
        if end == len(text):
            return fields
        at = end + 1


def _end(text: str, start: int) -> int:
    found = text.find("\t", start)
    return len(text) if found < 0 else found


def _name(field: str) -> str:
    """Return a name of a column, of two lines in one."""
    return " ".join(field.strip(_AROUND).split())


def header_of(where: str, fields: list[str]) -> list[str]:
    """Return the names of the columns, some of which may be "".

    Raises:
        InputError: If one is there twice, or none is there.
    """
    header = list(map(_name, fields))
    named = list(filter(None, header))
    if len(set(named)) < len(named) or not named:
        twice = [name for name, count in Counter(named).items() if count > 1]
        if not twice:
            raise InputError(f"{where}: the first line must name each column, found {', '.join(fields)[:200]}")
        raise InputError(
            f"{where}: the first line must name each column once, found several times: {', '.join(twice)[:200]}; "
            f"give each a name of its own, as {twice[0]}_1 and {twice[0]}_2"
        )
    return header


def values_of(where: str, header: list[str], fields: list[str], delimiter: str) -> dict[str, Any]:
    """Return the fields of a row by name. Those without one must be blank, but for numbers in the first column.

    Raises:
        RowError: If there are too few or too many fields, or one without a name says something.
    """
    if len(fields) != len(header):  # a comma at the end of the header, or of the row, makes one more
        least = max(number for number, name in enumerate(header, start=1) if name)
        if len(fields) < least or any(map(str.strip, fields[len(header) :])):
            line = delimiter.join(fields)[:EXCERPT]
            many = (
                f"{len(fields)} field{'s' if len(fields) > 1 else ''} where the header has {len(header)}, in {line!r}"
            )
            raise RowError(where, "not as many fields as the header", f"{many}{_why(header, fields, delimiter)}")
    values = dict(zip(header, fields, strict=False))
    if "" not in values:
        return values
    for number, (name, field) in enumerate(zip(header, fields, strict=False), start=1):
        if not name and field.strip() and (number > 1 or not NUMBER.fullmatch(field.strip())):
            named = delimiter.join(
                own or ("id" if at == 1 else f"column_{at}") for at, own in enumerate(header, start=1)
            )
            detail = f"column {number} has no name in the first line, and holds {field[:EXCERPT]!r}"
            raise RowError(where, "a column without a name", f"{detail}; write {named!r} as the first line")
    del values[""]
    return values if header[0] else {INDEX: fields[0], **values}


def _why(header: list[str], fields: list[str], delimiter: str) -> str:
    """Return what there is to do about too many fields."""
    if len(header) == 1:
        return f"; the first line must name the columns, found {header[0][:EXCERPT]!r}"
    if len(fields) < len(header):
        is_broken = fields[-1].endswith("\\")
        return (
            "; a line that ends with a backslash goes on in the next: put quotes around its texts" if is_broken else ""
        )
    if len(fields) == len(header) + 1 and NUMBER.fullmatch(fields[0].strip()):
        return (
            "; if its first field is the name of the row, name that column in the first line; a text with "
            + ("a tab" if delimiter == "\t" else repr(delimiter))
            + " in it stands in quotes"
        )
    return (
        "; a text with a tab in it stands in quotes"
        if delimiter == "\t"
        else f"; a text with {delimiter!r} in it stands in quotes"
    )
