"""What the documents of all pairs of a source are together: letters of options alone, or few different ones."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lbr_st.data.account import Account
from lbr_st.errors import InputError
from lbr_st.records import Record

MOST_FEW, LEAST_PAIRS = 1000, 8  # documents that are few, and pairs of which it is said
MOST_SHOWN = 5
LONGEST = 30  # of what is a letter with words around it
# One letter of an option or several, and two options in a query: A. ... B. ..., (1) ... (2) ...
_LETTERS = re.compile(
    r"(?i)\W*(the )?((correct|right|best) )?((option|choice|answer)( is)?)?\W*([A-J]|\d)"
    r"(\s*(,|;|&|\band\b)\s*[A-J])*\W*"
)
_MARK = r"[.):\]\u3001\uff0e\uff1a](?!\d)"
_OPTIONS = re.compile(
    rf"(?<!\w)(A{_MARK}.*(?<!\w)B{_MARK}|a{_MARK}.*(?<!\w)b{_MARK}|[01]{_MARK}.*(?<!\w)[12]{_MARK})",
    re.DOTALL | re.ASCII,
)


class Answers:
    """Watches the documents of the pairs of a source.

    Args:
        may_be_letters: Whether letters are documents: the user says that they are.
    """

    def __init__(self, may_be_letters: bool = False) -> None:
        self._different: set[str] | None = set()  # None where there are many
        self._are_letters = not may_be_letters

    def __call__(self, records: Iterable[Record]) -> None:
        """Look at the pairs of a row; none is looked at where there are many different documents."""
        if self._different is None:
            return
        for record in records:
            document = record["document"]
            self._different.add(document)
            if self._are_letters:
                is_one = len(document) <= LONGEST and _LETTERS.fullmatch(document) is not None
                self._are_letters = is_one and _OPTIONS.search(record["query"]) is not None
        if len(self._different) > MOST_FEW:
            self._different = None

    def check(self, source: object, pairs: int, account: Account) -> None:
        """Refuse a source all of whose documents are letters, and say where many pairs have few; after the last row.

        Raises:
            InputError: If they are, and the options stand in the queries.
        """
        if not self._different:
            return
        if self._are_letters and (pairs >= LEAST_PAIRS or not any(any(map(str.isdigit, d)) for d in self._different)):
            raise InputError(
                f"{source}: all documents are letters of options ({', '.join(sorted(self._different)[:MOST_SHOWN])}), "
                "and the options stand in the queries: write the text of the right option as 'answer', and the others "
                "as a list 'negatives'; or, if the letters are meant, name their column with lbr data prepare "
                "--document"
            )
        if pairs >= LEAST_PAIRS and 2 * len(self._different) <= pairs:
            account.note(f"different documents for {pairs:,} pairs", len(self._different))
