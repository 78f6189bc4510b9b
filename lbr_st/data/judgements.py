"""Judgements: whether the document of a row answers its query, where a column says so."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from lbr_st.data import names
from lbr_st.data.templates import Values, excerpt
from lbr_st.data.texts import is_blank
from lbr_st.errors import InputError, RowError

MIN_SCORE = (
    "least score of a document that answers its query, for data with graded scores (score, similarity, label, ...); "
    "documents below it are hard negatives of their query"
)
YES = (
    "true", "t", "yes", "y", "relevant", "positive", "entailment", "duplicate", "match", "correct", "exact", "supports",
    "supported",
)  # fmt: skip
NO = (
    "false", "f", "no", "n", "irrelevant", "notrelevant", "nonrelevant", "negative", "contradiction", "notduplicate",
    "nomatch", "mismatch", "incorrect", "refutes", "refuted",
)  # fmt: skip
WORDS = dict.fromkeys(YES, 1.0) | dict.fromkeys(NO, 0.0)
LONGEST_WORD = 20
MOST_SHOWN = 5
# Of the documents that do not answer a query, as many become its hard negatives: a query with hundreds of answers and
# of others would give each answer all of them.
MOST_NEGATIVES = 32
# What is said of the documents that do not answer, after their number.
JUDGED = "judged no answer"
NEGATIVES_NOW = f"{JUDGED}: hard negatives of their query"
JUDGED_OUT = f"{JUDGED} and left out"


class Judge:
    """Says what the columns of judgements of a source say.

    Without a least score they are 1 and 0, 1 and -1, true and false, or yes and no. A column ``relevance`` may have
    grades too, whole numbers, of which those from 1 on are answers.

    Args:
        min_score: Least score of an answer, or None.

    Attributes:
        columns: Columns that have judged a row.
        silent: Number of rows whose judgement is blank.
    """

    def __init__(self, min_score: float | None = None) -> None:
        self.min_score = min_score
        self.columns: set[str] = set()
        self.silent = 0
        self._scores: dict[str, list[float]] = defaultdict(list)
        self._topics: set[str] = set()

    def __call__(self, where: str, columns: Sequence[str], values: Values, count: int) -> list[int] | None:
        """Return the grade of each document of a row, 0 where it is no answer; None where nothing is said.

        Args:
            where: Source and line, for messages.
            columns: Columns that may judge, the likeliest first.
            values: The row.
            count: Number of documents of the row. A list of as many judgements has one for each.

        Raises:
            RowError: If a value cannot be understood.
            InputError: If there are grades, and nothing says which of them are answers.
        """
        said = [column for column in columns if not is_blank(values[column])]
        self.silent += not said
        for column in said:
            value = values[column]
            several = value if isinstance(value, list) else [value] * count
            if len(several) != count:  # of something else
                continue
            grades = [self._grade(where, column, each) for each in several]
            judged = [grade for grade in grades if grade is not None]
            if len(judged) == count:
                self.columns.add(column)
                return judged
        return None

    def _grade(self, where: str, column: str, value: Any) -> int | None:
        word = names.plain(value) if isinstance(value, str) and len(value) <= LONGEST_WORD else ""
        score = WORDS[word] if word in WORDS else _number(value)
        if column in (self._scores if score is None else self._topics):
            raise RowError(
                f"{where}, column {column!r}",
                "no judgement",
                f"{excerpt(value)} beside {self._others(column)}: rows say different things there",
            )
        if score is None:
            self._take_for_topic(where, column, value)
            return None
        scores = self._scores[column]
        if score not in scores and len(scores) < MOST_SHOWN:
            scores.append(score)
        answers = bool(score) if word in WORDS else self._answers(where, column, score)
        if answers == names.denies(column):
            return 0
        return int(score) if score > 1 and names.plain(column) == "relevance" and score.is_integer() else 1

    def _answers(self, where: str, column: str, score: float) -> bool:
        if self.min_score is not None:
            return score >= self.min_score
        scores = self._scores[column]
        if names.plain(column) == "relevance" and score.is_integer():
            return score > 0
        if score not in (-1, 0, 1) or (0 in scores and -1 in scores):
            raise InputError(
                f"{where}: column {column!r} grades the documents ({self._others(column)}): say --min-score S, the "
                "least of one that answers its query; others are hard negatives, and a low S takes all for answers"
            )
        return score == 1

    def _take_for_topic(self, where: str, column: str, value: Any) -> None:
        """Take a column for one that says something else, as a ``label`` does that is a topic."""
        if names.can_only_judge(column):
            raise RowError(
                f"{where}, column {column!r}",
                "no judgement",
                f"expected a number, or yes or no, found {excerpt(value)}; leave the column out if it does not say "
                "whether the document answers the query",
            )
        self._topics.add(column)

    def _others(self, column: str) -> str:
        return ", ".join(f"{score:g}" for score in self._scores[column]) or "other text"


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


class Joined(NamedTuple):
    """What becomes of the rows that are judged to be no answer.

    Attributes:
        negatives: By the index of a row that is an answer, those of its query that are none.
        left_out: Indices of the others: nothing answers their query, their document does by another row, or their
            query has `MOST_NEGATIVES` already.
    """

    negatives: dict[int, list[int]]
    left_out: list[int]


def join(queries: Sequence[Hashable], documents: Sequence[Hashable], answers: Sequence[bool]) -> Joined:
    """Find the answers that each row that is none is a hard negative of: those of the same query.

    Args:
        queries: The query of each row, or what stands for it.
        documents: The document of each row, the same.
        answers: Whether the document of each row answers its query.
    """
    others = [index for index, is_answer in enumerate(answers) if not is_answer]
    asked = {queries[index] for index in others}
    rows: dict[Hashable, list[int]] = {}
    answering: dict[Hashable, set[Hashable]] = {}
    for index, is_answer in enumerate(answers):
        if is_answer and queries[index] in asked:
            rows.setdefault(queries[index], []).append(index)
            answering.setdefault(queries[index], set()).add(documents[index])
    wrong: dict[Hashable, list[int]] = {}
    left_out = []
    for index in others:
        query = queries[index]
        of_query = wrong.setdefault(query, [])
        if query not in rows or documents[index] in answering[query] or len(of_query) == MOST_NEGATIVES:
            left_out.append(index)
        else:
            of_query.append(index)
    return Joined({row: of_query for query, of_query in wrong.items() if of_query for row in rows[query]}, left_out)
