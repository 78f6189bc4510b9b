"""Judgements: whether the document of a row answers its query, where a column says so."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from lbr_st.data import names
from lbr_st.data.templates import Values, excerpt, leaves
from lbr_st.data.texts import is_blank
from lbr_st.errors import InputError, RowError

MIN_SCORE = (
    "least score of a document that answers its query, for data with graded scores (score, similarity, label, ...); "
    "documents below it are hard negatives of their query"
)
YES = (
    "true", "t", "yes", "y", "relevant", "positive", "entailment", "duplicate", "match", "correct", "exact", "supports",
    "supported", "good", "accepted", "helpful", "useful", "upvote", "related", "similar", "preferred", "chosen",
    "right", "acceptable", "suitable", "accept", "approve", "approved", "like", "liked", "pos", "hardpositive",
    "thumbsup", "label1", "checked", "equivalent", "paraphrase",
    "up", "pass", "passed", "valid", "ok", "hit", "oui", "vrai", "ja", "si", "sí", "sim", "да", "是", "相关", "はい",
)  # fmt: skip
NO = (
    "false", "f", "no", "n", "irrelevant", "negative", "contradiction", "mismatch", "incorrect", "refutes", "refuted",
    "bad", "rejected", "unhelpful", "useless", "downvote", "unrelated", "dissimilar", "dispreferred", "wrong",
    "unacceptable", "unsuitable", "nomatch", "reject", "disapprove", "disapproved", "dislike", "disliked", "neg",
    "hardneg", "hardnegative", "thumbsdown", "unchecked",
    "down", "fail", "failed", "invalid", "ko", "miss",
    "label0", "non", "faux", "nein", "não", "nao", "нет", "否", "不相关",
    "いいえ",
)  # fmt: skip
WORDS_AND_SIGNS = dict.fromkeys(NO, 0.0) | {f"{no}{yes}": 0.0 for no in ("not", "nota", "non") for yes in YES}
WORDS_AND_SIGNS |= dict.fromkeys(YES, 1.0)
WORDS_AND_SIGNS |= {
    "+": 1.0,
    "-": 0.0,
    "\u2212": 0.0,
    "\u2713": 1.0,
    "\u2717": 0.0,
    "\U0001f44d": 1.0,
    "\U0001f44e": 0.0,
}
# What else is said of documents and questions: nobody's topic.
_SPEAKS_OF_IT = re.compile(r"relevan|entail|contradict")
_NOES = ("not", "no", "non", "un")  # before a word of which the other is the contrary
_NEITHER = ("ignore", "skip", "unsure", "maybe", "unknown")  # beside yes and no
_DECIMAL_COMMA = re.compile(r"\s*-?(0,\d+|\d+,\d{1,2}|\d+,\d{4,})\s*")  # and no thousands
LONGEST_WORD = 20
MOST_SHOWN = 5
NOTHING = "none"  # what --judged-by says where no column judges
# What to do about judgements that are not understood.
WRITE = (
    "write 1 and 0 there, of a document that answers its query and of one that does not; if it says something else, "
    f"lbr data prepare --judged-by {NOTHING}"
)
JUDGED_BY = (
    f"column that says whether the document of a row answers its query, or {NOTHING}; default is what has a usual name"
)
# Of the documents that do not answer a query, as many become its hard negatives: a query with hundreds of answers and
# of others would give each answer all of them.
MOST_NEGATIVES = 32
# What is said of the documents that do not answer, after their number.
JUDGED = "judged no answer"
NEGATIVES_NOW = f"{JUDGED}: hard negatives of their query"
JUDGED_OUT = f"{JUDGED} and left out"
IN_CORPUS = f"{JUDGED}: in the corpus, beside the answers"
BOTH_WAYS = f"{JUDGED} by one row and an answer by another, taken for answers"


class Judge:
    """Says what the columns of judgements of a source say.

    Without a least score they are 1 and 0, 1 and -1, true and false, or yes and no. A column ``relevance`` may have
    grades too, whole numbers, of which those from 1 on are answers.

    Args:
        min_score: Least score of an answer, or None.
        named: Column that the user says it is, so that all of its values must be judgements; or None.

    Attributes:
        columns: Columns that have judged a row.
        compared: Whether a score was compared with the least one.
        silent: Number of rows whose judgement is blank.
    """

    def __init__(self, min_score: float | None = None, named: str | None = None) -> None:
        self.min_score, self.named = min_score, named
        self.columns: set[str] = set()
        self.compared = False
        self.silent = 0
        self._scores: dict[str, list[float]] = defaultdict(list)
        self._said: dict[str, list[str]] = defaultdict(list)  # the same as rows have it
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
            InputError: If there are grades, and nothing says which of them are answers, or which column the least one
                is of.
        """
        said = [column for column in columns if not is_blank(values[column])]
        self.silent += not said
        rivals = [column for column in said if score_of(values[column]) is not None]
        if self.min_score is not None:
            self._check_scores(where, rivals)
        for column in said:
            value = values[column]
            several = value if isinstance(value, list) else [value] * count
            is_doubtful = column == self.named or (names.can_only_judge(column) and not names.is_score(column))
            if len(several) != count and not is_doubtful:  # of something else
                continue
            if len(several) != count:
                detail = f"expected a judgement of each of {count} documents, found {excerpt(value)}; {WRITE}"
                raise RowError(f"{where}, column {column!r}", "no judgement", detail)
            grades = [self._grade(where, column, each, len(rivals) > 1) for each in several]
            judged = [grade for grade in grades if grade is not None]
            if len(judged) == count:
                self.columns.add(column)
                return judged
        return None

    def flag_alone(self) -> str | None:
        """Return the column that says yes wherever it says anything, and by its name says yes or no: ``is_best``."""
        said = ((column, set(scores)) for column, scores in self._scores.items())
        flags = (column for column, scores in said if scores == {1})
        return next((column for column in flags if names.is_flag(column) or column == self.named), None)

    def _check_scores(self, where: str, columns: Sequence[str]) -> None:
        if len(columns) > 1:
            raise InputError(
                f"{where}: --min-score {self.min_score:g} may be of {' or of '.join(map(repr, columns))}: lbr data "
                "prepare --judged-by says which"
            )

    def _grade(self, where: str, column: str, value: Any, has_rivals: bool) -> int | None:
        word = word_of(value)
        score = score_of(value)
        if column in (self._scores if score is None else self._topics):
            raise RowError(
                f"{where}, column {column!r}",
                "no judgement",
                f"{excerpt(value)} beside {self._others(column)}: rows say different things there; {WRITE}",
            )
        if score is None:
            self._take_for_topic(where, column, value)
            return None
        scores = self._scores[column]
        if score not in scores and len(scores) < MOST_SHOWN:
            scores.append(score)
            self._said[column].append(str(value).strip() if word is not None else f"{score:g}")
        answers = bool(score) if word is not None else self._answers(where, column, score, has_rivals)
        if answers == names.denies(column):
            return 0
        return int(score) if score > 1 and names.plain(column) == "relevance" and score.is_integer() else 1

    def _answers(self, where: str, column: str, score: float, has_rivals: bool) -> bool:
        if self.min_score is not None:
            self.compared = True
            return score >= self.min_score
        scores = self._scores[column]
        if names.plain(column) == "relevance" and score.is_integer():
            return score > 0
        if score not in (-1, 0, 1) or (0 in scores and -1 in scores):
            which = "does not answer" if names.denies(column) else "answers"
            raise InputError(
                f"{where}: column {column!r} grades the documents ({self._others(column)}): say --min-score S, here "
                f"or, where there is no such flag, to lbr data prepare: the least of one that {which} its query; "
                f"{f'lbr data prepare --judged-by {column} says that it is of this one; ' * has_rivals}"
                f"others are hard negatives; if it says something else, lbr data prepare --judged-by {NOTHING}"
            )
        return score == 1

    def _take_for_topic(self, where: str, column: str, value: Any) -> None:
        """Take a column for one that says something else, as a ``label`` does that is a topic."""
        if names.can_only_judge(column) or column == self.named:
            raise RowError(
                f"{where}, column {column!r}",
                "no judgement",
                f"expected a number, or yes or no, found {excerpt(value)}; {WRITE}",
            )
        self._topics.add(column)

    def _others(self, column: str) -> str:
        return ", ".join(self._said[column]) or "other text"


class Watch:
    """Watches the columns that nothing is made of, for what looks like judgements: two values, one yes and one no.

    Attributes:
        numbers: Paths where a number was seen, which may be a score.
    """

    def __init__(self) -> None:
        self.numbers: list[str] = []
        self._seen: dict[str, dict[Any, int]] = {}
        self._blank: set[str] = set()  # paths where some rows say nothing
        self._closed: set[str] = set()  # columns with other things in them, and paths in columns

    def __call__(self, columns: Sequence[str], values: Values) -> None:
        """Look at columns of a row. One that is seen to hold something else is looked at no more."""
        for column in columns:
            if column not in self._closed:
                open_ = [self._look(path, value) for path, value in leaves(column, values[column])]
                if open_ and not any(open_):
                    self._closed.add(column)

    def _look(self, path: str, value: Any) -> bool:
        if is_blank(value):
            self._blank.add(path)
            return True
        if path in self._closed:
            return False
        if path not in self.numbers and not isinstance(value, bool) and _number(value) is not None:
            self.numbers.append(path)
        seen = self._seen.setdefault(path, {})
        said = value.strip().lower() if isinstance(value, str) else value
        key = (said, isinstance(said, bool))  # True is 1 for Python
        seen[key] = seen.get(key, 0) + 1
        if len(seen) > MOST_SHOWN or (isinstance(said, str) and len(said) > 2 * LONGEST_WORD):
            self._closed.add(path)
            del self._seen[path]
            return False
        return True

    def judging(self) -> tuple[str, list[Any]] | None:
        """Return a path with nothing but words that judge, and its values; None where there is none."""
        for path, seen in self._seen.items():
            said = [value for value, _ in seen]
            words = [value for value in said if isinstance(value, str) and (word_of(value) or value in _NEITHER)]
            if said and len(words) == len(said):
                return path, said
        return None

    def found(self) -> tuple[str, list[Any]] | None:
        """Return the path of the first that looks like judgements, and its values; None where none does.

        A box that is ticked or not is a word that says yes, and "".
        """
        for path, seen in self._seen.items():
            said = [value for value, _ in seen]
            words = {WORDS_AND_SIGNS[word] for value in said if (word := word_of(value)) is not None}
            numbers = {_number(value) for value in said}
            is_said = {0.0, 1.0} <= words
            is_said |= len(said) > 1 and any(_SPEAKS_OF_IT.search(value) for value in said if isinstance(value, str))
            is_said |= len(said) == 2 and _is_no_other(*map(names.plain, map(str, said)))
            # Two numbers that do not come again may be those of the rows.
            is_said |= len(said) == 2 and numbers in ({0, 1}, {-1, 1}) and sum(seen.values()) > 2
            if is_said:
                return path, said
            if words == {1.0} == {score_of(value) for value in said} and path in self._blank and sum(seen.values()) > 1:
                return path, [*said, ""]
        return None


def _is_no_other(one: str, other: str) -> bool:
    """Tell whether one of two words is the other with a no before it: ``not_grounded`` and ``grounded``."""
    pairs = ((one, other), (other, one))  # but for unit and it, noon and on
    return any(long in (f"{no}{short}" for no in _NOES) for long, short in pairs if len(short) > 3)


def word_of(value: Any) -> str | None:
    """Return a word or a sign that judges, as `WORDS_AND_SIGNS` has it; None of what is none."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str) or len(value) > LONGEST_WORD:
        return None
    word = names.plain(value) or value.strip()
    return word if word in WORDS_AND_SIGNS else None


def score_of(value: Any) -> float | None:
    """Return what a word, a sign or a number says, of a list its first; None of what says nothing."""
    if isinstance(value, list):
        return score_of(value[0]) if value else None
    word = word_of(value)
    return _number(value) if word is None else WORDS_AND_SIGNS[word]


def _number(value: Any) -> float | None:
    if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value):
        value = value.replace(",", ".")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


class Joined(NamedTuple):
    """What becomes of the rows that are judged to be no answer.

    Attributes:
        negatives: By the index of a row that is an answer, those of its query that are none.
        left_out: Indices of those that are left out: nothing answers their query, or it has `MOST_NEGATIVES` already.
        both_ways: Indices of those whose document answers their query by another row.
    """

    negatives: dict[int, list[int]]
    left_out: list[int]
    both_ways: list[int]


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
    left_out, both_ways = [], []
    for index in others:
        query = queries[index]
        of_query = wrong.setdefault(query, [])
        if documents[index] in answering.get(query, ()):
            both_ways.append(index)
        elif query not in rows or len(of_query) == MOST_NEGATIVES:
            left_out.append(index)
        else:
            of_query.append(index)
    negatives = {row: of_query for query, of_query in wrong.items() if of_query for row in rows[query]}
    return Joined(negatives, left_out, both_ways)
