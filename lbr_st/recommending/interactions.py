"""Who chose which item, in which order: read from RecBole's atomic files or from tables, and what is held out of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbr_st.data import names
from lbr_st.data.account import Account
from lbr_st.data.cleaning import clean
from lbr_st.data.drops import Drops, Waiting, on_wrong_row
from lbr_st.data.ids import id_text
from lbr_st.data.rows import read_rows
from lbr_st.data.templates import Template
from lbr_st.errors import InputError, RowError
from lbr_st.recommending.texts import TOKEN
from lbr_st.records import ATOMIC, file_format

logger = logging.getLogger(__name__)

# Names of columns, in the order they are looked for.
USER = ("user_id", "user", "uid", "customer_id", "reviewer_id")
ITEM = ("item_id", "item", "iid", "movie_id", "product_id", "book_id", "parent_asin", "asin")
TIME = ("timestamp", "time", "unix_review_time")
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
    on_error: str = "stop",
) -> Interactions:
    """Read who chose what, and what is told of the items; say which columns were used.

    Args:
        data: Table of choices, a row each, in any format of `lbr_st.data.rows.read_rows`: a user, an item and a time in
            seconds, by their usual names. Without a time, the order is that of the rows. Or a folder of RecBole's
            atomic files: ``NAME.inter``, ``NAME.item`` and ``NAME.user``.
        items: Table of the items: an id, and columns of text; default is the ``.item`` beside the choices.
        users: Table of the users; default is the ``.user`` beside the choices. It is read for ``user_text`` alone.
        item_text: Template of what is told of an item; default is all columns but the id. The first column with text
            is what it is called.
        user_text: Template of what is told of a user; default is nothing.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` such rows and say how many they were.

    Raises:
        InputError: If a table cannot be read, or a row lacks an id, names an item that no row tells of, or spells a
            token; there are fewer than two users or items, or no user has `FEWEST`.
    """
    choices = _choices(Path(data))
    item_file = _table(choices, items, ".item")
    if item_file is None:
        raise InputError(f"--data {data}: nothing tells of its items; give --items, a table with their ids and titles")
    catalogue = _Catalogue(item_text)
    _read(item_file, catalogue.take, "item", on_error)
    people = _Histories(catalogue.numbers, item_file)
    _read(choices, people.take, "interaction", on_error)
    about = dict.fromkeys(people.rows, "")
    if user_text is not None:
        user_file = _table(choices, users, ".user")
        if user_file is None:
            raise InputError("--user-text: nothing tells of the users; give --users, a table with their ids")
        told = _People(user_text)
        _read(user_file, told.take, "user", on_error)
        about |= {user: told.about[user] for user in people.rows if user in told.about}
    elif users is not None:
        raise InputError(f"--users {users}: say with --user-text what is told of a user")
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


def _choices(path: Path) -> Path:
    """Return the table of choices: the file itself, or that of a folder of atomic files."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.inter"))
    if len(found) != 1:
        raise InputError(f"--data {path}: {len(found)} files in it end in .inter; name the file of the choices itself")
    return found[0]


def _table(choices: Path, given: str | Path | None, suffix: str) -> Path | None:
    """Return the table that is given, or the atomic file beside the choices; None where there is none."""
    beside = choices.with_suffix(suffix)
    if given is not None:
        return Path(given)
    return beside if choices.suffix == ".inter" and beside.is_file() else None


Take = Callable[[str, Mapping[str, Any], Account], None]


def _read(path: Path, take: Take, kind: str, on_error: str) -> None:
    """Give each row of a table to a function, and say what was made of it."""
    drops, account = Drops(), Account()
    waiting = Waiting(on_wrong_row(on_error, drops))
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
    waiting.end()
    if not account.counts:
        raise InputError(f"{path}: no rows{' that can be used' if drops.counts else ''}")
    account.say(path)
    if drops.counts:
        logger.warning("%s: %s", path, drops.describe())


def _id(where: str, values: Mapping[str, Any], kinds: Sequence[str], account: Account) -> tuple[str, str]:
    """Return the column of an id, and the id."""
    column = names.first(values, kinds)
    if column is None:
        raise RowError(where, "missing column", f"no column {kinds[0]} (found: {', '.join(values)[:200]})")
    account.use([column])
    found = id_text(values[column])
    if found is None:
        raise RowError(where, "no id", f"column {column}: an id is needed, found nothing")
    return column, found


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

    def __init__(self, template: str | None) -> None:
        self.template = None if template is None else Template(template)
        self.numbers: dict[str, int] = {}
        self.names: list[str] = []
        self.texts: list[str] = []

    def take(self, where: str, values: Mapping[str, Any], account: Account) -> None:
        """Take a row."""
        own, id_ = _id(where, values, (*ITEM, "id"), account)
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
        name = _checked(where, next(iter(told.values()), text))
        if id_ in self.numbers:
            raise RowError(where, "an item twice", f"item {id_!r} is told of twice")
        self.numbers[id_] = len(self.numbers)
        self.names.append(name)
        self.texts.append(text)


class _Histories:
    """Who chose what, by the ids of users."""

    def __init__(self, items: Mapping[str, int], item_file: Path) -> None:
        self.items, self.item_file = items, item_file
        self.rows: dict[str, dict[int, float]] = {}  # of each user the time of the first choice of each item

    def take(self, where: str, values: Mapping[str, Any], account: Account) -> None:
        """Take a row."""
        (_, user), (_, item) = (_id(where, values, kinds, account) for kinds in (USER, ITEM))
        if item not in self.items:
            raise RowError(where, "an unknown item", f"item {item!r} is not in {self.item_file}")
        time = self._time(where, values, account)
        chosen = self.rows.setdefault(user, {})
        account.note("again, of the same user and item, of which the first counts", self.items[item] in chosen)
        chosen[self.items[item]] = min(time, chosen.get(self.items[item], time))

    @staticmethod
    def _time(where: str, values: Mapping[str, Any], account: Account) -> float:
        column = names.first(values, TIME)
        if column is None:
            return 0.0
        account.use([column])
        try:
            time = float(values[column])
        except (TypeError, ValueError):
            time = float("nan")
        if not np.isfinite(time):
            raise RowError(
                where, "no time", f"column {column}: a number of seconds is needed, found {values[column]!r}"
            )
        return time

    @property
    def histories(self) -> list[list[int]]:
        """The items of each user, oldest first; of one time in the order of the rows."""
        return [sorted(chosen, key=chosen.__getitem__) for chosen in self.rows.values()]


class _People:
    """What is told of users, by their ids."""

    def __init__(self, template: str) -> None:
        self.template = Template(template)
        self.about: dict[str, str] = {}

    def take(self, where: str, values: Mapping[str, Any], account: Account) -> None:
        """Take a row."""
        _, id_ = _id(where, values, (*USER, "id"), account)
        if id_ in self.about:
            raise RowError(where, "a user twice", f"user {id_!r} is told of twice")
        account.use(self.template.columns_in(values))
        self.about[id_] = _checked(where, self.template.fill(where, values))
