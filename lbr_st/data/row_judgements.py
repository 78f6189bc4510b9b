"""Finds what rows say of whether their documents answer: in a column, or in the objects that the documents are."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lbr_st.data import names
from lbr_st.data.account import Account
from lbr_st.data.columns import Columns, flags_of
from lbr_st.data.delimited import INDEX
from lbr_st.data.judgements import NOTHING, WRITE, Judge, Watch, score_of
from lbr_st.data.remedies import running, texts_of_row
from lbr_st.data.templates import Values, column_of, excerpt, field_of
from lbr_st.data.texts import TEXT, unfolded
from lbr_st.data.trials import Trials
from lbr_st.errors import InputError, RowError

logger = logging.getLogger(__name__)

_NAMES = re.compile(r"[^\[\].]*[^\[\].\d][^\[\].]*")  # in a path


class RowJudgements:
    """Finds the judgements of the rows of one source.

    Args:
        columns: What the user says.
        account: What is used of the source.
        trials: What remedies are tried with.
        is_trial: Whether a remedy is tried itself, so that none is looked for.
    """

    def __init__(self, columns: Columns, account: Account, trials: Trials, is_trial: bool = False) -> None:
        self._columns, self._account, self._trials, self._is_trial = columns, account, trials, is_trial
        self._are_wanted = columns.judged_by != NOTHING
        self._named = columns.judged_by if self._are_wanted else None
        # What it is called, of a path: the last name in it.
        self._called = (_NAMES.findall(self._named or "") or [self._named])[-1]
        self._judge = Judge(columns.min_score, self._called)
        self._watch = Watch()
        self._documents, self._beside = Watch(), ""  # of documents that may be judgements, and the text beside them

    def columns_in(self, values: Values, used: Sequence[str]) -> list[str]:
        """Return the columns that may judge, the likeliest first, of those that nothing else is made of."""
        found = [*names.judgements(values), *flags_of(values)]
        return [each for each in found if each not in used] if self._are_wanted else []

    def watched_in(self, values: Values, used: Sequence[str]) -> list[str]:
        """Return the columns to watch: they are not used, and have no ids by their names."""
        return [each for each in values if each not in used and not names.is_id(str(each))] if self._are_wanted else []

    def grades(
        self,
        where: str,
        values: Values,
        columns: Sequence[str],
        count: int,
        watched: Sequence[str] = (),
        are_needed: bool = False,
    ) -> list[int] | None:
        """Return the grade of each document of a row with a query, 0 where it is no answer; None where none is said.

        Args:
            where: Source and line, for messages.
            values: The row, or the object that judges.
            columns: Columns that may judge.
            count: Number of documents.
            watched: Columns to watch where nothing is said.
            are_needed: Whether documents are a list in which only judgements tell answers from others.

        Raises:
            RowError: If a judgement cannot be understood, or one is needed and nothing is said.
            InputError: If there are grades, and nothing says which of them are answers.
        """
        found = None
        if self._named is not None and not are_needed:
            said = {str(self._called): field_of(values, self._named)}
            found = self._judge(where, list(said), said, count)
        elif columns:
            found = self._judge(where, columns, values, count)
        if found is None:
            self._watch(watched, values)
        if found is None and are_needed:
            message = f"nothing says which of the {count} documents answer the query"
            raise RowError(where, "no judgements", f"{message}; looked at: {', '.join(columns)}")
        return found

    def of_message(self, message: Values) -> list[str]:
        """Return what may judge a message, of what stands beside its text."""
        return names.judgements(message) if self._columns.judged_by is None else []

    def of_documents(self, where: str, values: Values, columns: Sequence[str], count: int) -> dict[str, list[Any]]:
        """Return what the objects that the documents of a row are, say of them; nothing where they say nothing.

        A score of what is called a positive is one of its search, and no judgement.

        Args:
            where: Source and line, for messages.
            values: The row.
            columns: Columns of its documents.
            count: Number of documents that are read of them.

        Raises:
            RowError: If they say something of other documents than those that are read, as of a list of which a
                template takes one.
        """
        found: dict[str, list[Any]] = {}
        if self._columns.judged_by is not None:
            return found
        for column in columns:
            of_each = unfolded([values[column]] if isinstance(values.get(column), Mapping) else values.get(column))
            judged = names.judgements(of_each)
            if names.several([column], ("positive", "pos", "chosen")):
                self._account.see(f"{column}[{key}]" for key in judged if names.is_score(key))
                judged = [key for key in judged if not names.is_score(key)]
            for key in judged:
                found.setdefault(key, []).extend(of_each[key])
            if not judged and of_each:
                for number, each in enumerate(values[column] if isinstance(values[column], list) else [values[column]]):
                    self.watch_object(f"{column}{'' if each is values[column] else f'[{number}]'}", each)
        for said_of in found.values():
            if len(said_of) != count or (self._columns.document is not None and count == 1):
                raise RowError(
                    f"{where}, column {columns[0]!r}",
                    "no judgement",
                    f"its entries say whether they answer ({', '.join(found)}), and a template takes one whatever it "
                    f"says: {self._instead(where, values, columns[0], list(found))}",
                )
        return found

    def _instead(self, where: str, values: Values, column: str, keys: Sequence[str]) -> str:
        """Say how judged documents are read of which a template takes one: what leaves an answer of the row."""
        if self._leaves_an_answer(where, values, document=None):
            return "leave --document out, so that each is read as judged"
        renamed = {"passages" if name == column else name: value for name, value in values.items()}
        if len(renamed) == len(values) and self._leaves_an_answer(where, renamed, document=None):
            return "leave --document out and rename the column 'passages', so that each is read as judged"
        template = self._columns.document.text if self._columns.document else ""
        entry = re.search(rf"{re.escape(column)}(\[\d+\])?", template)
        paths = [f"{entry[0] if entry else column}[{key}]" for key in keys]
        ways = [path for path in (*paths, NOTHING) if self._leaves_an_answer(where, values, judged_by=path)]
        said = [f"--judged-by '{way}'" if way != NOTHING else f"--judged-by {NOTHING} if they say something else"
                for way in ways]  # fmt: skip
        return f"lbr data prepare {', or '.join(said)}" if said else "write those that answer to a column 'positives'"

    def _leaves_an_answer(self, where: str, values: Values, **changes: Any) -> bool:
        return not self._is_trial and self._trials.leaves_an_answer(where, values, **changes)

    def name_in_objects(self, columns: Sequence[str], values: Values) -> None:
        """Name what looks like judgements in objects of which the text alone is used."""
        for column in columns:
            value = values.get(column)
            first = value[0] if isinstance(value, list) and value else value
            if isinstance(first, Mapping):
                self._account.see(f"{column}[{key}]" for key in names.judgements(first))

    def watch_object(self, path: str, value: Values) -> None:
        """Watch what stands in an object beside its text."""
        if self._are_wanted and not self._is_trial:
            text = names.first(value, TEXT)
            beside = {
                f"{path}[{key}]": each for key, each in value.items() if key != text and not names.is_id(str(key))
            }
            self._watch(list(beside), beside)

    def may_be_documents(self, values: Values, documents: Sequence[str], used: Sequence[str]) -> bool:
        """Tell whether the documents of rows may be judgements of a text beside them, by the first row."""
        if self._columns.document or self._is_trial or len(documents) > 1:
            return False
        beside = [path for path in running(texts_of_row(values), 1) if column_of(path, values) not in used]
        self._beside = self._beside or "".join(beside[:1])
        return bool(beside)

    def watch_documents(self, documents: Sequence[str], values: Values) -> None:
        """Watch documents that may be judgements."""
        self._documents(documents, values)

    def check(self, source: object, pairs: int) -> None:
        """Check what was said after the last row, and note the columns that said it.

        Args:
            source: The source, for messages.
            pairs: Number of pairs that it has.

        Raises:
            InputError: If a column looks like judgements, and nothing says whether it has any; or if none is in the
                one that the user names.
        """
        if self._beside and (only := self._documents.judging()):
            column, values = only
            raise InputError(
                f"{source}: column {column!r} has nothing but judgements ({', '.join(map(excerpt, values))}), and "
                f"{self._beside!r} a text: lbr data prepare --document '{{{self._beside}}}', with --judged-by {column} "
                f"where the rows have a query; or --document '{{{column}}}' if these are the answers"
            )
        judge, named = self._judge, self._named
        if judge.silent and (flag := judge.flag_alone()) is not None:
            raise InputError(
                f"{source}: column {flag!r} is blank in {judge.silent:,} rows and says yes in all others: write 1 and "
                f"0 there, or lbr data prepare --judged-by {NOTHING} if a blank is an answer too"
            )
        if judge.columns:
            self._account.use(judge.columns if named is None else [column_of(named, self._account.columns)])
            self._account.note("not judged and taken for answers", judge.silent)
        elif pairs and named is not None:
            raise InputError(f"{source}: no row has a judgement in {named!r}, which --judged-by names")
        elif pairs and self._are_wanted and (found := self._watch.found()):
            raise InputError(f"{source}: {_what_to_do(*found)}")
        if self._columns.min_score is not None and pairs and not judge.compared:
            self._say_unscored(source)

    def _say_unscored(self, source: object) -> None:
        """Say that a least score was compared with nothing.

        Raises:
            InputError: If a column has numbers that it may be of.
        """
        unscored = f"{source}: no column has scores that --min-score could be compared with"
        if not self._judge.columns and (numbers := [path for path in self._watch.numbers if path != INDEX]):
            raise InputError(
                f"{unscored}, unless {numbers[0]!r} has: leave it out, or name that column by lbr data prepare "
                "--judged-by"
            )
        logger.warning(unscored if self._judge.columns else f"{unscored}: all of its pairs are taken for answers")


def _what_to_do(path: str, values: Sequence[Any]) -> str:
    """Say what is to be done about what looks like judgements, under a name that nothing is known of."""
    if "" in values:
        return (
            f"{path!r} is blank in some rows and says yes ({excerpt(values[0])}) in all others: write 1 and 0 there "
            f"and call it is_relevant, or lbr data prepare --judged-by {NOTHING} if a blank is an answer too"
        )
    looks = f"{path!r} looks like judgements ({', '.join(map(excerpt, values))})"
    if any(score_of(value) is None for value in values):
        return f"{looks}, and nothing says which of them are of answers: {WRITE}"
    return (
        f"{looks}: lbr data prepare --judged-by '{path}' if it says whether the document of a row answers its query"
        f"{_which_counts(path, values)}, else --judged-by {NOTHING}"
    )


def _which_counts(path: str, values: Sequence[Any]) -> str:
    """Say which of two values of judgements is taken for an answer; nothing where they are words of their own."""
    yes = [excerpt(value) for value in values if (score_of(value) or 0) > 0]
    if not yes or len(yes) == len(values):
        return ""
    if names.denies(path):
        return f" ({', '.join(yes)}: it does not)"
    return f" ({', '.join(yes)}: it does; call it is_irrelevant if it is the other way round)"
