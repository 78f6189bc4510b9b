"""Who chose which item, in which order: read from RecBole's atomic files or from tables, and what is held out of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbr_st.data import names
from lbr_st.data.account import Account
from lbr_st.data.cleaning import clean
from lbr_st.data.drops import Drops, Waiting, on_wrong_row
from lbr_st.data.ids import id_text
from lbr_st.data.names import is_title, plain
from lbr_st.data.rows import read_rows
from lbr_st.data.templates import Template, excerpt
from lbr_st.errors import InputError, RowError
from lbr_st.recommending.chosen import Chosen
from lbr_st.recommending.tables import MOST_NAMED, TIME, Tables, find_tables, no_column
from lbr_st.recommending.texts import TOKEN
from lbr_st.recommending.times import seconds, with_clock
from lbr_st.records import ATOMIC, file_format

logger = logging.getLogger(__name__)

TEST, DEV = "test", "dev"
FEWEST = 3  # choices of a user of whom the last two are held out


@dataclass(frozen=True)
class Split:
    """What is learned from, and the two last choices of each user, which are held out.

    Attributes:
        train: Numbers of the items of each user, oldest first; all of them of a user with fewer than `FEWEST`.
        dev: The last item but one of a user, by the user's number: what settings are chosen by.
        test: The last item.
    """

    train: list[list[int]]
    dev: dict[int, int]
    test: dict[int, int]

    def held_out(self, side: str) -> dict[int, int]:
        """Return the items of a side, ``dev`` or ``test``."""
        return self.test if side == TEST else self.dev


@dataclass(frozen=True)
class Interactions:
    """Users, items, and who chose what.

    Attributes:
        users: Ids of the users.
        about: What is told of each user; "" for nothing.
        items: Ids of the items.
        names: What each item is called.
        texts: What is told of each item.
        histories: Numbers of the items that each user chose, oldest first, each once.
    """

    users: list[str]
    about: list[str]
    items: list[str]
    names: list[str]
    texts: list[str]
    histories: list[list[int]]

    @cached_property
    def split(self) -> Split:
        """What is held out: the last item of each user for the test, the one before it for dev."""
        long = {user: history for user, history in enumerate(self.histories) if len(history) >= FEWEST}
        return Split(
            [history[:-2] if user in long else history for user, history in enumerate(self.histories)],
            {user: history[-2] for user, history in long.items()},
            {user: history[-1] for user, history in long.items()},
        )

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How often each item is chosen in what is learned from: its popularity."""
        chosen = [item for history in self.split.train for item in history]
        return np.bincount(np.array(chosen, np.int64), minlength=len(self.items))


def read_interactions(
    data: str | Path,
    items: str | Path | None = None,
    users: str | Path | None = None,
    *,
    item_text: str | None = None,
    user_text: str | None = None,
    min_score: float | None = None,
    judged_by: str | None = None,
    on_error: str = "stop",
) -> Interactions:
    """Read who chose what, and what is told of the items; say which columns were used.

    Args:
        data: Table of choices, a row each, in any format of `lbr_st.data.rows.read_rows`: a user, an item and a time,
            by their usual names (`lbr_st.recommending.tables`). A time is in seconds or a date of ISO's form; without
            one, the order is that of the rows. Or a folder of RecBole's atomic files: ``NAME.inter``, ``NAME.item``
            and ``NAME.user``.
        items: Table of the items: an id, and columns of text; default is the ``.item`` beside the choices.
        users: Table of the users; default is the ``.user`` beside the choices. It is read for ``user_text`` alone.
        item_text: Template of what is told of an item; default is all columns but the id. The first column with text
            is what it is called.
        user_text: Template of what is told of a user; default is nothing.
        min_score: Least score of a choice, where a column rates what users chose; rows below it are left out.
        judged_by: Column that says whether a row is a choice, or ``none`` if every row is one; default is what has a
            usual name.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` such rows and say how many they were.

    Raises:
        InputError: If a table cannot be read, or a row lacks an id, names an item that no row tells of, or spells a
            token; there are ratings, and nothing says which are choices; there are fewer than two users or items, or
            no user has `FEWEST`.
    """
    tables = find_tables(data, items, users, user_text)
    catalogue = _Catalogue(item_text, tables.own_item)
    _read(tables.items, catalogue.take, "item", on_error)
    people = _Histories(catalogue.numbers, tables, Chosen(min_score, judged_by))
    _read(tables.choices, people.take, "interaction", on_error)
    people.chosen.end(tables.choices)
    if not people.has_times:
        logger.info(
            "%s: no times (looked for %s, ...): the order of the rows is taken for the order of the choices",
            tables.choices,
            ", ".join(TIME[:MOST_NAMED]),
        )
    about = dict.fromkeys(people.rows, "")
    if user_text is not None and tables.users is not None:
        told = _People(user_text, tables.own_user)
        _read(tables.users, told.take, "user", on_error)
        about |= {user: told.about[user] for user in people.rows if user in told.about}
        if unknown := [user for user in people.rows if user not in told.about]:
            logger.warning(
                "%s: nothing tells of %d of %d users, such as %s",
                tables.users,
                len(unknown),
                len(people.rows),
                unknown[0],
            )
    if min(len(people.rows), len(catalogue.numbers)) < 2:
        raise InputError(
            f"--data {data}: {len(people.rows)} users and {len(catalogue.numbers)} items; two of each are the fewest"
        )
    histories = people.histories
    if max(map(len, histories)) < FEWEST:
        raise InputError(f"--data {data}: no user has {FEWEST} items, so that the last two could be held out")
    return Interactions(
        list(people.rows), list(about.values()), list(catalogue.numbers), catalogue.names, catalogue.texts, histories
    )


_first = lru_cache(names.first)  # of the columns that all rows of a table have
Take = Callable[[str, Mapping[str, Any], Account], None]


def _read(path: Path, take: Take, kind: str, on_error: str) -> None:
    """Give each row of a table to a function, and say what was made of it."""
    drops, account = Drops(), Account()
    waiting = Waiting(on_wrong_row(on_error, drops))
    try:
        for row in read_rows(path, wrong=waiting):
            values = row.values
            if file_format(path) in ATOMIC:  # whose columns are named with their type, as item_id:token
                values = {name.rpartition(":")[0] or name: value for name, value in values.items()}
            account.see(values)
            try:
                take(row.where, values, account)
            except RowError as error:
                waiting(error)
                continue
            waiting.used()
            account.count(kind)
    except RowError as error:
        if error.reason != "wrong encoding":
            raise
        written = f"{path.stem}_utf8{path.suffix}"
        raise InputError(
            f"{error.where}: not in UTF-8; iconv -f cp1252 -t utf-8 {path} > {written} writes it so, if its encoding "
            "is cp1252"
        ) from error
    waiting.end()
    if not account.counts:
        raise InputError(f"{path}: no rows{f' that can be used; {drops.describe()}' if drops.counts else ''}")
    account.say(path)
    if drops.counts:
        logger.warning("%s: %s", path, drops.describe())


def _columns(where: str, values: Mapping[str, Any], account: Account, *kinds: tuple[str, ...]) -> list[str]:
    """Return the columns of ids that are needed."""
    found = []
    for each in kinds:
        column = _first(tuple(values), each)
        if column is None:
            raise RowError(where, "missing column", no_column(values, each))
        found.append(column)
    account.use(found)
    return found


def _id(where: str, values: Mapping[str, Any], column: str) -> str:
    """Return the id in a column."""
    found = id_text(values[column])
    if found is None:
        raise RowError(where, "no id", f"column {column}: an id is needed, found nothing")
    return found


def _checked(where: str, text: str) -> str:
    """Return a text on one line; one that would be read as a token of somebody else is refused."""
    text = clean(text, one_line=True)
    if not text:
        raise RowError(where, "empty text", "no text: nothing is told")
    if spelled := TOKEN.search(text):
        raise RowError(where, "spells a token", f"{spelled.group()} is a token of a user or an item, and no text")
    return text


def _cell(value: Any) -> str:
    """Return what is in a cell as text: of a list its entries, "" for nothing."""
    entries = value if isinstance(value, list) else [value]
    return ", ".join(str(each).strip() for each in entries if each is not None)


class _Catalogue:
    """The items, by their ids."""

    def __init__(self, template: str | None, own_id: tuple[str, ...]) -> None:
        self.template = None if template is None else Template(template)
        self.own_id = own_id
        self.called = ""  # column of what an item is called
        self.numbers: dict[str, int] = {}
        self.names: list[str] = []
        self.texts: list[str] = []

    def take(self, where: str, values: Mapping[str, Any], account: Account) -> None:
        """Take a row."""
        [own] = _columns(where, values, account, self.own_id)
        id_ = _id(where, values, own)
        columns = [column for column in values if column != own]
        cells = {column: _cell(values[column]) for column in columns}
        told = {column: text for column, text in cells.items() if text}
        if self.template is None:
            account.use(columns)
            text = ", ".join(told.values())
        else:
            account.use(self.template.columns_in(values))
            text = self.template.fill(where, values)
        text = _checked(where, text)
        if not self.called:
            self.called = self._naming([*told])
            logger.info("users are told of items by %s", self.called or "their ids")
        account.use([self.called] if self.called in told else [])
        name = _checked(where, told.get(self.called) or next(iter(told.values()), text))
        if id_ in self.numbers:
            raise RowError(where, "an item twice", f"item {id_!r} is told of twice")
        self.numbers[id_] = len(self.numbers)
        self.names.append(name)
        self.texts.append(text)

    def _naming(self, columns: Sequence[str]) -> str:
        """Return the column that items are called by where users are told of them: the one that is a title, by name.

        Without one it is the first of ``--item-text``, or else the first.
        """
        of_template = [] if self.template is None else [each for each in self.template.fields if each in columns]
        titles = [each for each in columns if is_title(each) or plain(each).endswith("name")]
        return next(iter([*titles, *of_template, *columns]), "")


class _Histories:
    """Who chose what, by the ids of users."""

    def __init__(self, items: Mapping[str, int], tables: Tables, chosen: Chosen) -> None:
        self.items, self.tables, self.chosen = items, tables, chosen
        self.rows: dict[str, dict[int, float]] = {}  # of each user the time of the first choice of each item
        self.has_times: bool | None = None

    def take(self, where: str, values: Mapping[str, Any], account: Account) -> None:
        """Take a row."""
        columns = _columns(where, values, account, self.tables.user, self.tables.item)
        column = _first(tuple(values), TIME)
        time = self._time(where, column, values, account)
        user, item = (_id(where, values, each) for each in columns)
        others = {name: value for name, value in values.items() if name not in (*columns, column)}
        if not self.chosen(where, others, account):
            return
        if item not in self.items:
            raise RowError(where, "an unknown item", f"item {item!r} is not in {self.tables.items}{self._nearly(item)}")
        chosen = self.rows.setdefault(user, {})
        account.note("again, of the same user and item, of which the first counts", self.items[item] in chosen)
        chosen[self.items[item]] = min(time, chosen.get(self.items[item], time))

    def _nearly(self, item: str) -> str:
        """Say which item may be meant, where a program took the ids for numbers."""
        other = next((each for each in (item.removesuffix(".0"), item.lstrip("0")) if each in self.items), None)
        return "" if other is None else f", but {other!r} is: write the ids of both as text, in one form"

    def _time(self, where: str, column: str | None, values: Mapping[str, Any], account: Account) -> float:
        if self.has_times is None:
            self.has_times = column is not None
        if self.has_times != (column is not None):
            raise RowError(where, "no time", "some rows have a time and others have none")
        if column is None:
            return 0.0
        clock = next((each for each in values if each != column and "time" in plain(each)), None)
        joined = None if clock is None else with_clock(values[column], values[clock])
        account.use([column] if joined is None else [column, str(clock)])
        if (time := seconds(joined or values[column])) is None:
            raise RowError(
                where,
                "no time",
                f"column {column}: seconds, or a date as 2024-01-31 or 2024-01-31T10:00:00Z, are needed, found "
                f"{excerpt(values[column])}; pandas.to_datetime writes it so, or take the column away",
            )
        return time

    @property
    def histories(self) -> list[list[int]]:
        """The items of each user, oldest first; of one time in the order of the rows."""
        return [sorted(chosen, key=chosen.__getitem__) for chosen in self.rows.values()]


class _People:
    """What is told of users, by their ids."""

    def __init__(self, template: str, own_id: tuple[str, ...]) -> None:
        self.template, self.own_id = Template(template), own_id
        self.about: dict[str, str] = {}

    def take(self, where: str, values: Mapping[str, Any], account: Account) -> None:
        """Take a row."""
        id_ = _id(where, values, *_columns(where, values, account, self.own_id))
        if id_ in self.about:
            raise RowError(where, "a user twice", f"user {id_!r} is told of twice")
        account.use(self.template.columns_in(values))
        self.about[id_] = _checked(where, self.template.fill(where, values))
