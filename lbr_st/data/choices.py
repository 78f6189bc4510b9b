"""Multiple choice: which option is right, and which texts the others are."""

from __future__ import annotations

import contextlib
import shlex
import string
from collections.abc import Mapping, Sequence
from typing import Any

from lbr_st.data import names
from lbr_st.data.ids import id_text
from lbr_st.data.same_text import AUTO, EXACT, LOOSE, same_text
from lbr_st.data.templates import Template, Values, excerpt
from lbr_st.data.texts import text_of
from lbr_st.errors import InputError, RowError

COUNTED = "a number that counts from 1"
FROM_1 = "lbr data prepare --first-option 1 if they count from 1, --first-option 0 if the first option is 0"
# What an answer says of the option that is right; the first that fits counts.
LETTER, TEXT, NUMBER = "the letter", "the text", "the number"
LONGEST_NUMBER = 9  # digits of the number of an option, which Python reads whatever it is


class Numbers:
    """Where the numbers begin that say which option is right: nothing in a row tells 1 of 0, 1, 2 from 1 of 1, 2, 3.

    Args:
        first: The number of the first option that the user says, 0 or 1; None where nobody says it.
    """

    def __init__(self, first: int | None = None) -> None:
        self._first = first
        self._least: tuple[int, str] | None = None  # with its column
        self._ways: set[str] = set()
        self._doubtful: dict[tuple[str, str], str] = {}

    def note(self, where: str, column: str, answer: Any, ways: Mapping[str, int]) -> None:
        """Note in which ways an answer says which option is right, the one that it is read by first.

        Args:
            where: Place of the row.
            column: Column of the answer.
            answer: What is there.
            ways: Index of the option by each way.
        """
        way, *others = ways
        if others := [other for other in others if ways[other] != ways[way]]:
            for other in others:
                said = f"{where}, column {column!r}: {excerpt(answer)} is {way} of one option and {other} of another"
                self._doubtful.setdefault((way, other), said)
        elif len(ways) == 1:
            self._ways.add(way)

    def could_be(self, number: int, options: int) -> int | None:
        """Return the index of an option by a number that may be something else."""
        index = number - (self._first or 0)
        return index if 0 <= index < options else None

    @property
    def are_counted(self) -> bool:
        """Whether the user says that answers are numbers, by saying where these begin."""
        return self._first is not None

    def index(self, where: str, column: str, number: int, options: int) -> int | None:
        """Return the index of an option by its number, or None.

        Raises:
            RowError: If the number is one too high where nobody says where they begin.
        """
        if self._first is None and number == options:
            detail = f"column {column!r}: {number} is none of the {options} options counted from 0; {FROM_1}"
            raise RowError(where, COUNTED, detail)
        index = self.could_be(number, options)
        if index is None:
            return None
        if self._least is None or number < self._least[0]:
            self._least = number, column
        return index

    def check(self, source: object) -> None:
        """Refuse numbers of which none is of the first option, and answers read in a way of no other row, at the end.

        Raises:
            InputError: If they are such, and nobody says where they begin.
        """
        if self._first is None and self._least is not None and self._least[0] > 0:
            least, column = self._least
            raise InputError(
                f"{source}: numbers of options count from 0, and the least in {column!r} is {least}; {FROM_1}"
            )
        for (way, other), said in self._doubtful.items():
            if other in self._ways and way not in self._ways:
                remedy = FROM_1 if other == NUMBER else "write the number of the option there instead, from 0"
                raise InputError(f"{said}, and other rows have {other}; {remedy}")


def _spelled(answer: str, texts: Sequence[str]) -> int | None:
    """Return the index of the option that an answer spells."""
    for level in (EXACT, AUTO, LOOSE):  # of "mM" and "MM" the one that is meant; but "paris" may mean Paris
        these, wanted = [same_text(text, level) for text in texts], same_text(answer, level)
        if wanted in these:
            return these.index(wanted)
    return None


class Choice:
    """Reads the options of multiple-choice questions that have the same columns.

    Args:
        numbers: What becomes of numbers; shared by all rows of a source.
        options: The column that holds them, as a list, a mapping of letters or ``{"text": [...], "label": [...]}``; or
            a template for each.
        answer: The column that says which is right: its number from 0, its letter or label, its text, or the name of
            its column.
    """

    def __init__(self, numbers: Numbers, options: str | Sequence[Template], answer: str) -> None:
        self.options, self.answer, self._numbers = options, answer, numbers
        # An answer that is one of the options by its column is no letter, whatever it spells.
        self._by_text = not isinstance(options, str) and any(option.text == f"{{{answer}}}" for option in options)

    def columns_in(self, values: Values) -> list[str]:
        """Return the columns of a row that it reads."""
        if isinstance(self.options, str):
            return [self.options, self.answer]
        return [*(column for option in self.options for column in option.columns_in(values)), self.answer]

    def __call__(self, where: str, values: Values) -> tuple[str, list[str]]:
        """Return the right option and the others.

        Raises:
            RowError: If there are no options, or none is said to be right.
        """
        labels, texts = self._texts(where, values)
        right = texts[self._right(where, values.get(self.answer), [] if self._by_text else labels, texts)]
        others = [text for text in texts if same_text(text) != same_text(right) and text.strip()]
        return text_of(where, self.answer, right), others

    def _right(self, where: str, answer: Any, labels: list[str], texts: list[str]) -> int:
        """Return the index of the right option."""
        number = id_text(answer) or ""
        said = answer.strip() if isinstance(answer, str) else number
        is_number = number.isdecimal() and len(number) <= LONGEST_NUMBER
        ways: dict[str, int] = {}
        if said in labels:
            ways[LETTER] = labels.index(said)
        by_number = self._numbers.could_be(int(number), len(texts)) if is_number and not self._by_text else None
        spelled = _spelled(answer, texts) if isinstance(answer, str) else None
        if spelled is not None and (by_number is None or not self._numbers.are_counted):
            ways[TEXT] = spelled
        if ways and by_number is not None:
            ways[NUMBER] = by_number
        if not ways and isinstance(answer, str) and not isinstance(self.options, str) and said and not is_number:
            columns = [names.plain(option.field or "") for option in self.options]
            if columns.count(names.plain(answer)) == 1:
                return columns.index(names.plain(answer))
        if not ways and is_number:
            index = self._numbers.index(where, self.answer, int(number), len(texts))
            ways |= {} if index is None else {NUMBER: index}
        if ways:
            self._numbers.note(where, self.answer, answer, ways)
            return next(iter(ways.values()))
        detail = f"column {self.answer!r}: {excerpt(answer)} is none of the {len(texts)} options"
        raise RowError(where, "no answer", detail)

    def _texts(self, where: str, values: Values) -> tuple[list[str], list[str]]:
        """Return labels and texts."""
        if not isinstance(self.options, str):
            texts = [template.fill(where, values) for template in self.options]
            return list(string.ascii_uppercase[: len(texts)]), texts
        found = values.get(self.options)
        if isinstance(found, Mapping) and isinstance(found.get("text"), list):
            labels, found = found.get("label") or [], found["text"]
        elif isinstance(found, Mapping):
            labels, found = list(found), list(found.values())
        else:
            labels = list(string.ascii_uppercase)
        if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
            raise RowError(
                where,
                "no options",
                f"column {self.options!r}: expected the options of a question, found {excerpt(found)}",
            )
        return [str(label) for label in labels[: len(found)]], found


def choice_of(
    where: str, values: Values, options: str | Sequence[Template] | None, answer: str | None, numbers: Numbers
) -> Choice | None:
    """Return what reads the options of rows like one; None if it is no multiple choice.

    Args:
        where: Source and line of the row.
        values: The row.
        options: What the user says, or None.
        answer: The same of the column that says which is right.
        numbers: What becomes of numbers there.

    Raises:
        RowError: If it has options, and no column says which is right.
    """
    options = options or names.first(values, names.CHOICES)
    if options is None:
        return None
    answer = answer or names.first(values, names.CHOICE_ANSWERS)
    if answer is None:
        looked_for = ", ".join(names.CHOICE_ANSWERS)
        for other in names.every(values, names.OPTION_ANSWERS):
            with contextlib.suppress(RowError):
                Choice(Numbers(), options, other)(where, values)
                looked_for += f"; lbr data prepare --answer {shlex.quote(other)} reads it there"
                break
        raise RowError(where, "missing column", f"nothing says which option is right; looked for: {looked_for}")
    return Choice(numbers, options, answer)
