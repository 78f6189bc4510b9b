"""Hard negatives that are no texts: marks that stand for nothing, ids and numbers, and several in one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lbr_st.data import names
from lbr_st.data.account import Account
from lbr_st.data.templates import Values, excerpt
from lbr_st.errors import InputError
from lbr_st.records import FIELDS, Record

# What people write into a cell that holds nothing.
MARK = re.compile(r"[-\u2010-\u2015_?.*/#\u2026\s]{1,4}")
# The same in words, in a column of negatives.
_NOTHING = re.compile(r"\W{0,2}(n\.?a\.?|n/a|none|nil|null|tb[ad]|blank|empty)\W{0,2}", re.IGNORECASE)
# What stands for a text: an id, a number, a yes or no.
_REFERENCE = re.compile(r"[A-Za-z]{0,12}[-_:/#]?\d+([-_:./#]\w+)*|true|false", re.IGNORECASE)
_SEVERAL = re.compile(r"\S\s*([|\n])\s*\S")
_ID = re.compile(r"[A-Za-z]{1,12}[-_:/#]?\d+([-_:./#]\w+)*")
_LIST = re.compile(r"""\[(['"]).*\1\]\Z""", re.DOTALL)
_IS_ASKED = 3  # words from which on a query is one of people, who ask for no id
# What people join texts with, and no text has in it.
_JOINED = re.compile(r"\S\s*(\|\|\||\[SEP\]|</?s>|<sep>)\s*\S", re.IGNORECASE)
MOST_SHOWN = 3

OWN_ANSWER = "hard negatives left out that are an answer of their own row"
MARKS = "hard negatives left out that say nothing, such as - or TBD"
REFERENCES = "hard negatives that look like an id or a number, taken as texts"
SEVERAL = "hard negatives of several lines or with | in them, each taken as one text"
SEVERAL_DOCUMENTS = "documents of several lines or with | in them, each taken as one text"
IDS = "documents that look like an id, taken as texts"
NUMBERS = "documents that are a number alone"
WRITTEN_OUT = "with a list that is written out, taken as a text as it stands"
ITS_OWN = "with a query that is its own document"


class TextCheck:
    """Looks at the texts of the records of a source, once they are clean, for what is no text by itself.

    Args:
        account: Takes note of them.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._count = 0
        self._references: list[str] = []
        self._number = 0
        self._pairs, self._ids = 0, 0

    def __call__(self, records: Sequence[Record], values: Values) -> None:
        """Look at the records of a row: what is a mark alone is nothing, and no negative answers its own row."""
        cells = [column for column, value in values.items() if self._account.uses(column) and _are_one(column, value)]
        are_one = bool(names.negatives(cells))
        is_one = len(cells) > len(names.negatives(cells))
        for record in records:
            self._account.note(SEVERAL_DOCUMENTS, is_one or bool(_JOINED.search(record["document"])))
            for name in FIELDS:
                if (text := record.get(name)) and len(text) <= 4 and MARK.fullmatch(text):
                    record[name] = ""
            self._look_at_document(record)
            self._account.note(WRITTEN_OUT, any(_LIST.match(record.get(name) or "") for name in FIELDS))
            self._account.note(ITS_OWN, record.get("query") == record["document"] != "")
        if any(record.get("negatives") for record in records):
            self._without_answers(records)
            for record in records:
                record["negatives"] = self._texts(record, are_one)

    def _look_at_document(self, record: Record) -> None:
        if len((record.get("query") or "").split()) < _IS_ASKED or record.get("is_choice"):
            return
        self._pairs += 1
        document = record["document"]
        self._account.note(NUMBERS, document.isdecimal())
        if _ID.fullmatch(document):
            self._ids += 1
            if len(self._references) < MOST_SHOWN and document not in self._references:
                self._references.append(document)

    def _without_answers(self, records: Sequence[Record]) -> None:
        answers = {record["document"].strip() for record in records if record.get("relevance") != 0}
        wrong = {text for record in records for text in record["negatives"] if text.strip() in answers}
        for record in records if wrong else ():
            record["negatives"] = [text for text in record["negatives"] if text not in wrong]
        self._account.note(OWN_ANSWER, len(wrong))

    def _texts(self, record: Record, are_one: bool) -> list[str]:
        is_option = record.get("is_choice")
        texts = [
            text
            for text in record["negatives"]
            if not ((len(text) <= 4 and MARK.fullmatch(text)) or (not is_option and _NOTHING.fullmatch(text)))
        ]
        self._account.note(MARKS, len(record["negatives"]) - len(texts))
        self._count += len(texts)
        document = record["document"]
        if " " in document and not is_option:  # else an answer may be a number, as other options are
            for text in texts:
                if _REFERENCE.fullmatch(text):
                    self._number += 1
                    if len(self._references) < MOST_SHOWN and text not in self._references:
                        self._references.append(text)
                elif _JOINED.search(text) or ((mark := _SEVERAL.search(text)) and (are_one or mark[1] not in document)):
                    self._account.note(SEVERAL)
        return texts

    def say(self, source: object) -> None:
        """Say what was found, after the last row.

        Raises:
            InputError: If no hard negative is a text, or no document.
        """
        if self._ids and self._ids == self._pairs:
            examples = ", ".join(map(excerpt, self._references))
            raise InputError(
                f"{source}: the documents are no texts ({examples}): put the texts there that they stand for"
            )
        self._account.note(IDS, self._ids)
        if self._number and self._number == self._count:
            examples = ", ".join(map(excerpt, self._references))
            raise InputError(
                f"{source}: the hard negatives are no texts ({examples}): put the texts there that they stand for, or "
                "take the column away"
            )
        self._account.note(REFERENCES, self._number)


def _are_one(column: str, value: object) -> bool:
    """Tell whether a cell of a column that by its name has several texts, is one text of several lines or parts."""
    is_of_several = names.is_list(column) and (names.negatives([column]) or names.is_family(column))
    return bool(
        is_of_several and isinstance(value, str) and not value.lstrip().startswith("[") and _SEVERAL.search(value)
    )
