"""Whether a row of a table of choices is one: what ratings, likes, quantities and events in it say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from lbr_st.data import names
from lbr_st.data.account import Account
from lbr_st.data.judgements import MOST_SHOWN, NOTHING, Watch, score_of, word_of
from lbr_st.data.templates import column_of, excerpt, field_of
from lbr_st.data.texts import is_blank
from lbr_st.errors import InputError, RowError

MIN_SCORE = "least score of a choice, for data with ratings (rating, stars, score, ...); rows below it are left out"
JUDGED_BY = (
    f"column that says whether a row is a choice, or {NOTHING} if every row is one; default is what has a usual name"
)
# Names of columns that judge, before those of `lbr_st.data.names.judgements`; the likeliest first.
JUDGING = (
    "rating", "ratings", "overall", "stars", "star_rating", "book_rating", "movie_rating", "review_rating",
    "review_score", "review_overall", "liked", "like", "is_liked", "is_like", "favorite", "is_favorite", "favourite",
    "clicked", "click", "is_click", "purchased", "is_purchased", "bought", "watched", "converted",
)  # fmt: skip
QUANTITY = ("quantity", "qty")  # of 0 or less where something was sent back
# Columns of what users did, of which some is no choice, and what they are called there.
EVENT = (
    "event", "event_type", "event_name", "action", "action_type", "behavior", "behavior_type", "behaviour",
    "behaviour_type", "interaction", "interaction_type", "activity", "activity_type",
)  # fmt: skip
DID = (
    "view", "views", "viewed", "pageview", "detail", "impression", "show", "pv", "click", "clicked", "cart",
    "addtocart", "removefromcart", "wishlist", "addtowishlist", "fav", "favorite", "order", "ordered", "checkout",
    "purchase", "purchased", "buy", "bought", "transaction", "completed", "cancelled", "canceled", "return", "returned",
    "refund", "like", "liked", "dislike", "share", "follow", "rate", "rated", "play", "played", "watch", "watched",
    "skip", "skipped",
)  # fmt: skip
EVERY_ROW = f"--judged-by {NOTHING} if every row is a choice"


class Chosen:
    """Tells which rows are choices.

    Args:
        min_score: Least score of a choice; None where none is needed.
        judged_by: Column that says so, or `lbr_st.data.judgements.NOTHING`; None for the usual names.
    """

    def __init__(self, min_score: float | None = None, judged_by: str | None = None) -> None:
        self.min_score, self.judged_by = min_score, judged_by
        self._scores: dict[str, list[float]] = defaultdict(list)
        self._topics: set[str] = set()
        self._watch = Watch()
        self._did: dict[str, set[str]] = defaultdict(set)
        self._no_events: set[str] = set()

    def __call__(self, where: str, values: Mapping[str, Any], account: Account) -> bool:
        """Tell whether a row is a choice, and count it if it is none.

        Raises:
            RowError: If a value of a column that judges is not understood.
            InputError: If there are ratings, and nothing says from which on they are choices, or events.
        """
        if self.judged_by == NOTHING:
            return True
        is_chosen = self._says(where, values, account)
        account.note("judged to be no choice, and left out", not is_chosen)
        if not is_chosen or (column := names.first(values, QUANTITY)) is None or self.judged_by is not None:
            return is_chosen
        account.use([column])
        is_sent_back = (number := score_of(values[column])) is not None and number <= 0
        account.note("with a quantity of 0 or less, as what was sent back, and left out", is_sent_back)
        return not is_sent_back

    def _says(self, where: str, values: Mapping[str, Any], account: Account) -> bool:
        columns = list(_judging(tuple(values)))
        if self.judged_by is not None:
            columns = [self.judged_by]
            if column_of(self.judged_by, values) not in values:
                found = ", ".join(values)[:200]
                detail = f"no column {self.judged_by}, which --judged-by names (found: {found})"
                raise RowError(where, "missing column", detail)
        else:
            self._look(where, values, columns)
        for column in columns:
            value = field_of(values, column)
            if column in self._topics or is_blank(value):
                continue
            if (score := score_of(value)) is None:
                self._take_for_topic(where, column, value)
                continue
            account.use([column_of(column, values)])
            is_yes = bool(score) if word_of(value) is not None else self._is_enough(where, column, score)
            self._note_score(column, score)
            return is_yes != names.denies(column)
        account.note("not judged, and taken for choices", any(column not in self._topics for column in columns))
        return True

    def _note_score(self, column: str, score: float) -> None:
        scores = self._scores[column]
        if score not in scores and len(scores) < MOST_SHOWN:
            scores.append(score)

    def _is_enough(self, where: str, column: str, score: float) -> bool:
        if self.min_score is not None:
            return score >= self.min_score
        scores = {*self._scores[column], score}
        if not scores <= {-1, 0, 1} or scores >= {0, -1}:
            said = ", ".join(f"{each:g}" for each in sorted(scores))
            raise InputError(
                f"{where}: column {column!r} rates what users chose ({said}): say --min-score S, the least of a "
                f"choice; others are left out; or {EVERY_ROW}"
            )
        return score == 1

    def _take_for_topic(self, where: str, column: str, value: Any) -> None:
        """Take a column for one that says something else, as a ``label`` does that is a topic."""
        if column == self.judged_by or column in self._scores or names.can_only_judge(column):
            raise RowError(
                f"{where}, column {column!r}",
                "no judgement",
                f"expected a number, or yes or no, found {excerpt(value)}; write 1 and 0 there, or --judged-by says "
                f"which column judges, {NOTHING} if every row is a choice",
            )
        self._topics.add(column)

    def _look(self, where: str, values: Mapping[str, Any], judging: list[str]) -> None:
        """Look at columns that nothing is made of, for judgements and events."""
        others = [column for column in values if column not in judging]
        self._watch(others, values)
        for column in others:
            value = values[column]
            if is_blank(value) or column in self._no_events:
                continue
            is_event = names.first([column], EVENT) is not None
            if not is_event and (not isinstance(value, str) or names.plain(value) not in DID):
                self._no_events.add(column)
                self._did.pop(column, None)
                continue
            self._did[column].add(excerpt(value))
            if is_event and len(self._did[column]) > 1 and not judging and self._are_events(column):
                raise InputError(self._of_events(where, column))

    def _are_events(self, column: str) -> bool:
        """Tell whether a column has words or codes of events, and is no text."""
        return any(plain in DID or plain.isdecimal() for plain in map(names.plain, self._did[column]))

    def _of_events(self, where: str, column: str) -> str:
        did = ", ".join(sorted(self._did[column])[:MOST_SHOWN])
        return (
            f"{where}: column {column!r} says what users did ({did}), and nothing says what of it is a choice: keep "
            f"the rows that are one, such as purchases, and say --judged-by {NOTHING}"
        )

    def end(self, source: Path) -> None:
        """Check all that was seen.

        Raises:
            InputError: If a column looks like judgements or events and has no usual name, or no score was compared
                with the least one.
        """
        if self.judged_by is None and not self._scores and (found := self._watch.found()):
            path, values = found
            raise InputError(
                f"{source}: {path!r} looks like judgements ({', '.join(map(excerpt, values))}): say --judged-by "
                f"'{path}' if it says whether a row is a choice, or {EVERY_ROW}"
            )
        column = next((each for each, did in self._did.items() if len(did) > 1 and self._are_events(each)), None)
        if self.judged_by is None and not self._scores and column is not None:
            raise InputError(self._of_events(str(source), column))
        if self.min_score is not None and not self._scores:
            raise InputError(
                f"{source}: --min-score {self.min_score:g}: no column has scores by its name; --judged-by says which"
            )


@lru_cache
def _judging(columns: tuple[str, ...]) -> list[str]:
    """Return the columns that by their names say whether a row is a choice; the likeliest first."""
    return list(dict.fromkeys([*names.every(columns, JUDGING), *names.judgements(columns)]))
