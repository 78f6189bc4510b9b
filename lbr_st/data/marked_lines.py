"""Text files whose lines begin with marks of a format: records of references are read, other formats are named."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from lbr_st.data import names
from lbr_st.data.account import Account
from lbr_st.data.elements import MOST_SHOWN, Element
from lbr_st.data.texts import with_title

IN_RECORDS = "documents, each a record of {}"
UNUSED = "with other fields, which were not used: {}"
STAY = "with marks of a format at the beginnings of lines ({}, as {}), which stay in the text"
COLUMNS = "with columns between tabs or commas, which stay in the text: a table is named .tsv or .csv"
MOST_FIELDS = 8


class _References(NamedTuple):
    """A format of references.

    Attributes:
        name: What it is called.
        line: Begins a field: its tag and what it says.
        begin: Tag that a record begins with.
        end: Tag that it ends with, or "".
        id, title, text: Tags of these, the best first.
    """

    name: str
    line: re.Pattern[str]
    begin: str
    end: str
    id: tuple[str, ...]
    title: tuple[str, ...]
    text: tuple[str, ...]


_REFERENCES = (
    _References(
        "PubMed", re.compile(r"(?=.{4}-)([A-Z]{2,4}) {0,2}- ?(.*)"), "PMID", "", ("PMID",), ("TI", "BTI"), ("AB",)
    ),
    _References(
        "RIS", re.compile(r"([A-Z][A-Z0-9])  - ?(.*)"), "TY", "ER", ("ID", "AN", "DO"), ("TI", "T1", "CT"), ("AB", "N2")
    ),
    _References("EndNote", re.compile(r"(%[0-9A-Z@!^+])[ \t]+(.*)"), "%0", "", ("%M", "%F", "%R"), ("%T",), ("%X",)),
    _References(
        "Web of Science", re.compile(r"([A-Z][A-Z0-9])(?: (.*)|$)"), "PT", "ER", ("UT", "DI"), ("TI",), ("AB",)
    ),
)
# How most lines of other formats begin, what shows of it, and whose it is.
_FORMATS = (
    (re.compile(r"(__label__\S+)\s"), "those of fastText do"),
    (re.compile(r"((?:BEGIN|END):\w+|[A-Z][A-Z-]+(?:;[^:]*)?:)"), "those of vCard and iCalendar do"),
    (re.compile(r"(@\w+\s*[{(])|[ \t]*\w+\s*=\s*[{\"]|[})],?$"), "those of BibTeX do"),
    (re.compile(r"(\{\s*\")"), "those of JSON Lines do; a file of them is named .jsonl"),
    (re.compile(r"(#\w+:)"), "directives do"),
    (re.compile(r"([A-Z][\w-]*[ \t]*[:=-](?=\s|$))"), "fields do"),
    (re.compile(r"(\[?\d{1,4}[-./])\d\d?[-./]\d{1,4}[, T]+\d\d?:\d\d"), "those of a log or a chat do"),
    (re.compile(r"(%[0-9A-Z] |:[\w-]+:|\S+::\s)"), "fields do"),
)
# One line is enough of these: it begins the file, or is of nothing else.
_SINGLE = (
    (re.compile(r"\A\s*(From )\S+@?.*\d{4}\s*\n[\w-]+: "), "mail in an mbox does"),
    (re.compile(r"\A\s*((?:Return-Path|Received|Delivered-To|Message-ID|MIME-Version): )"), "the head of mail does"),
    (re.compile(r"^(?:\d\d:)+\d\d[,.]\d+\s+(-->)", re.MULTILINE), "times of subtitles do"),
    (re.compile(r"^[ \t]*(\\documentclass|\\begin\{document\})", re.MULTILINE), "commands of LaTeX do"),
    (re.compile(r"^(#\+(?:title|begin_\w+|author|options)\b|:PROPERTIES:)", re.MULTILINE | re.I), "those of Org do"),
)
_LEAST_LINES = 4  # that show how lines begin
_TIMES = 2  # that a mark comes, else it may be a word


def references_of(text: str, account: Account) -> list[Element]:
    """Return the documents of a file of references: title and abstract of each; none where it is no such file.

    PubMed's, RIS, EndNote's and the Web of Science's are read.

    Args:
        text: Text of a whole file.
        account: Takes note of the fields that were not used.
    """
    lines = text.lstrip("\ufeff").split("\n")
    for kind in _REFERENCES:
        tagged = [(number, kind.line.match(line.rstrip())) for number, line in enumerate(lines)]
        tags = [(number, match) for number, match in tagged if match]
        first = next((number for number, match in tags if match[1] == kind.begin), None)
        there = {match[1] for _, match in tags} | {""}
        if first is None or kind.end not in there or there.isdisjoint((*kind.title, *kind.text)):
            continue
        if sum(bool(line.strip()) for line in lines[:first]) <= MOST_SHOWN:  # a head of the file
            return _records(kind, lines[first:], first, account)
    return []


def _records(kind: _References, lines: list[str], before: int, account: Account) -> list[Element]:
    found: list[tuple[int, dict[str, list[str]]]] = []
    for number, line in enumerate(lines, start=before + 1):
        if match := kind.line.match(line.rstrip()):
            if match[1] == kind.begin:
                found.append((number, {}))
            field = found[-1][1].setdefault(match[1], [])
            field.append((match[2] or "").strip())
        elif line.strip():  # goes on
            field[-1] = f"{field[-1]} {line.strip()}"
    others: Counter[str] = Counter()
    elements = []
    for number, fields in found:
        said = {tag: "\n".join(parts).strip() for tag, parts in fields.items()}
        id_, title, body = (next((said[tag] for tag in tags if said.get(tag)), "") for tags in kind[4:])
        others.update(tag for tag in said if said[tag] and tag not in (*kind.id, *kind.title, *kind.text, kind.begin))
        title = " ".join(title.split())
        elements.append(Element(id_.partition("\n")[0], with_title(title, body), number, title))
    account.note(IN_RECORDS.format(kind.name), len(elements))
    named = ", ".join(tag for tag, _ in others.most_common(MOST_FIELDS))
    more = f" and {len(others) - MOST_FIELDS} more" if len(others) > MOST_FIELDS else ""
    account.note(UNUSED.format(named + more), len(elements) if others else 0)
    return elements


def note_marks(text: str, account: Account) -> None:
    """Note the format that a text looks like by the beginnings of its lines, which stay in it: nothing reads them.

    Args:
        text: Text of a whole file.
        account: Takes the note.
    """
    for single, whose in _SINGLE:
        if match := single.search(text):
            account.note(STAY.format(match[1].strip(), whose))
            return
    lines = [line.rstrip() for line in text.lstrip("\ufeff").split("\n") if line.strip()]
    if len(lines) < _LEAST_LINES:
        return
    if lines[0].startswith("BEGIN:"):
        account.note(STAY.format(lines[0], _FORMATS[1][1]))
        return
    for begins, whose in _FORMATS:
        marks = Counter(match[1] for line in lines if (match := begins.match(line)))
        shown = [mark.strip() for mark, _ in marks.most_common() if mark][:MOST_SHOWN]
        if marks.total() > len(lines) / 2 and max(marks.values()) >= _TIMES and shown:
            account.note(STAY.format(", ".join(shown), whose))
            return
    tabs = Counter(line.count("\t") for line in lines if "\t" in line.strip())
    is_table = bool(tabs) and tabs.most_common(1)[0][1] > len(lines) / 2
    if is_table or (len(names.every(lines[0].split(","), (*names.QUERY, *names.DOCUMENT))) > 1):
        account.note(COLUMNS)
