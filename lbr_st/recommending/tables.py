"""The tables of a recommender: the usual names of their columns, and what is looked at before any of them is read."""

from __future__ import annotations

import csv
import shlex
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from lzma import LZMAError
from pathlib import Path
from typing import Any

from lbr_st.data import names
from lbr_st.data.delimited import NUMBER, Table
from lbr_st.data.encodings import LONE, open_text
from lbr_st.data.rows import MOST_AHEAD, read_rows
from lbr_st.data.sources import check_is_there
from lbr_st.errors import InputError
from lbr_st.records import ATOMIC, COMPRESSED, file_format, is_hub_id, is_table

# Names of columns, in the order they are looked for.
USER = (
    "user_id", "uid", "customer_id", "reviewer_id", "visitor_id", "member_id", "account_id", "buyer_id", "shopper_id",
    "player_id", "steam_id", "viewer_id", "reader_id", "customer_unique_id",
)  # fmt: skip
ITEM = (
    "item_id", "iid", "movie_id", "product_id", "book_id", "parent_asin", "asin", "stock_code", "article_id",
    "track_id", "song_id", "video_id", "film_id", "anime_id", "game_id", "recipe_id", "news_id", "business_id",
    "course_id", "listing_id", "venue_id", "isbn", "product_code", "item_code",
)  # fmt: skip
TIME = (
    "timestamp", "datetime", "unix_review_time", "created_at", "event_time", "event_timestamp", "order_date",
    "purchase_date", "invoice_date", "transaction_date", "review_date", "t_dat", "date_time", "rated_at", "ordered_at",
    "purchased_at", "watched_at", "played_at", "clicked_at", "date", "ts", "time",
)  # fmt: skip
OWN_ID = ("id",)  # of an item or a user in the table that tells of it
# What may be an id where there is no other, and else is what it is called.
USER_WORDS, ITEM_WORDS = ("user", "customer", "user_name"), ("item", "product", "movie", "book")
# Ids that a table may have of something else, beside its users and items.
LAST_USER = ("client_id", "author_id", "person_id", "session_id")
LAST_ITEM = ("artist_id", "app_id", "content_id", "sku")
# What a table has in the form of MovieLens, which has no names of columns.
OF_CHOICES = ("user_id", "item_id", "rating", "timestamp")
OF_ITEMS = ("item_id", "title", "genres")
OF_USERS = ("user_id", "gender", "age", "occupation")

MOST_NAMED = 12
WIDE = 25  # columns: those of a matrix, with one for each item


@dataclass(frozen=True)
class Tables:
    """Where choices, items and users are told.

    Attributes:
        choices: Table of who chose what.
        items: Table of the items.
        users: Table of the users; None where nothing is told of them.
        user: Names of the column of users in the choices, in the order they are looked for.
        item: The same of items.
        own_user: The same of users in their own table.
        own_item: The same of items.
    """

    choices: Path
    items: Path
    users: Path | None
    user: tuple[str, ...]
    item: tuple[str, ...]
    own_user: tuple[str, ...]
    own_item: tuple[str, ...]


def find_tables(
    data: str | Path, items: str | Path | None = None, users: str | Path | None = None, user_text: str | None = None
) -> Tables:
    """Find the tables, and look at how each begins.

    Args:
        data: Table of choices, or a folder of RecBole's atomic files.
        items: Table of the items; default is the ``.item`` beside the choices.
        users: Table of the users; default is the ``.user`` beside the choices.
        user_text: Template of what is told of a user; None if nothing is.

    Raises:
        InputError: If a table is not there, is in a form that is not read, or has no column of users or items.
    """
    choices = _choices(Path(data))
    _check_form(choices, OF_CHOICES)
    item_file = _table(choices, items, ".item")
    if item_file is None:
        raise InputError(f"--data {data}: nothing tells of its items; give --items, a table with their ids and titles")
    _check_form(item_file, OF_ITEMS)
    user_file = None
    if user_text is not None:
        user_file = _table(choices, users, ".user")
        if user_file is None:
            raise InputError("--user-text: nothing tells of the users; give --users, a table with their ids")
        _check_form(user_file, OF_USERS)
    elif users is not None:
        raise InputError(f"--users {users}: say with --user-text what is told of a user")
    of_choices, of_items = _beginning(choices), _beginning(item_file)
    of_users = {} if user_file is None else _beginning(user_file)
    user, own_user = _names(USER, USER_WORDS, LAST_USER, of_choices, of_users)
    item, own_item = _names(ITEM, ITEM_WORDS, LAST_ITEM, of_choices, of_items)
    for path, columns, kinds in (
        (choices, of_choices, user),
        (choices, of_choices, item),
        (item_file, of_items, own_item),
        (user_file, of_users, own_user),
    ):
        if columns and names.first(columns, kinds) is None:
            raise InputError(f"{path}: {no_column(columns, kinds)}")
    return Tables(choices, item_file, user_file, user, item, own_user, own_item)


def _names(
    ids: Sequence[str], words: Sequence[str], last: Sequence[str], of_choices: Iterable[str], of_own: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of a column in the choices, and in the table of its own; first what both have."""

    def sorted_(kinds: Sequence[str]) -> list[str]:
        return sorted(kinds, key=lambda each: not (names.first(of_choices, [each]) and names.first(of_own, [each])))

    in_choices, in_own = ([*sorted_(ids), *more, *sorted_(words), *sorted_(last)] for more in ((), OWN_ID))
    return tuple(in_choices), tuple(in_own)


def no_column(values: Mapping[str, Any], kinds: Sequence[str]) -> str:
    """Say that a table has none of some columns, and what to do.

    Args:
        values: A row of it.
        kinds: The names that were looked for.
    """
    found = ", ".join(values)[:200]
    said = (
        f"no column {kinds[0]} (found: {found}), nor another usual name of it ({', '.join(kinds[1:MOST_NAMED])}, ...)"
    )
    several = next((column for column, value in values.items() if isinstance(value, list)), None)
    if several is not None:
        return f"{said}; if {several} has them, write a row for each entry, as pandas' explode does, and rename it"
    if len(values) >= WIDE:
        return (
            f"{said}; a table with a column for each item is to have a row for each choice: pandas' melt writes it so"
        )
    return f"{said}; rename the column that has it to {kinds[0]}"


def _choices(path: Path) -> Path:
    """Return the table of choices: the file itself, or that of a folder of atomic files."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.inter"))
    if len(found) != 1:
        there = ", ".join(sorted(each.name for each in path.iterdir())[:MOST_NAMED]) or "nothing"
        raise InputError(
            f"--data {path}: {len(found)} files in it end in .inter; name the file of the choices itself, and that of "
            f"the items with --items (found: {there})"
        )
    return found[0]


def _table(choices: Path, given: str | Path | None, suffix: str) -> Path | None:
    """Return the table that is given, or the atomic file beside the choices; None where there is none."""
    beside = choices.with_suffix(suffix)
    if given is not None:
        return Path(given)
    return beside if choices.suffix == ".inter" and beside.is_file() else None


def _check_form(path: Path, usual: Sequence[str]) -> None:
    """Refuse a table in the form of MovieLens: with ``::`` between columns, without their names, or called ``.dat``.

    Args:
        path: The table.
        usual: Names of its columns, where it has none.

    Raises:
        InputError: With a command that writes it as it is read.
    """
    check_is_there(path)
    found = _first_line(path)
    if found is None:
        return
    cells, delimiter = found
    is_of_dat = "::" in (line := delimiter.join(cells))
    cells = line.split("::") if is_of_dat else cells
    is_named = any(
        names.first([cell], (*USER, *ITEM, *TIME, *OWN_ID, *USER_WORDS, *ITEM_WORDS)) for cell in _untyped(path, cells)
    )
    has_names = is_named or not any(NUMBER.fullmatch(cell.strip()) for cell in cells)
    said = [] if is_table(path) else ["its name does not say that it is a table"]
    said += ["its columns are separated by ::"] if is_of_dat else []
    said += [] if has_names else [f"its first line names no columns ({line[:60].strip()})"]
    if not said or (len(cells) == 1 and not is_table(path)):
        return
    delimiter = "::" if is_of_dat else delimiter
    header = [] if has_names else [*usual, *(f"column_{at + 1}" for at in range(len(usual), len(cells)))][: len(cells)]
    which = "" if has_names else ", if these are its columns"
    raise InputError(
        f"{path}: {'; '.join(said)}. What is read{which}, this writes: {_command(path, delimiter, header)}"
    )


def _command(path: Path, delimiter: str, header: Sequence[str]) -> str:
    """Return what a shell writes a table with that is read: in UTF-8, with one character between named columns."""
    kind = ".csv" if delimiter in (",", ";") else ".tsv"
    packed = COMPRESSED.get(path.suffix.lower())
    name = Path(path.stem if packed else path.name)
    to = name.with_suffix(kind).name if packed or name.suffix != kind else f"{name.stem}_named{kind}"
    unpacks = "cat" if packed is None else f"{'bzip2' if packed == 'bz2' else packed} -dc"
    pipe = [f"{unpacks} {shlex.quote(str(path))}"]
    if kind == ".tsv" and delimiter != "\t":
        pipe.append(f"sed $'s/{delimiter}/\\t/g'")
    if not _is_utf8(path):
        pipe.append("iconv -f latin1 -t utf-8")
    shell = " | ".join(pipe)
    if header:
        mark = r"\t" if kind == ".tsv" else delimiter
        shell = f"(printf '{mark.join(header)}\\n'; {shell})"
    return f"{shell} > {shlex.quote(to)}"


def _is_utf8(path: Path) -> bool:
    with open_text(path) as file:
        return not any(map(LONE.search, file))


def _first_line(path: Path) -> tuple[list[str], str] | None:
    """Return the first line of a text table in its columns, and what separates them; None of what is no such table.

    What else is wrong with a file is said by what reads it.
    """
    kind = file_format(path)
    if is_hub_id(path) or (is_table(path) and kind not in (".csv", ".tsv", *ATOMIC)):
        return None
    try:
        with open_text(path, newline="") as file:
            table = Table(file, "," if kind == ".csv" else "\t")
            fields = next(table, [])
    except (csv.Error, ValueError, OSError, EOFError, zlib.error, LZMAError):
        return None
    return None if not fields or fields[0].lstrip().startswith(("{", "[")) else (fields, table.delimiter)


def _beginning(path: Path) -> dict[str, Any]:
    """Return the columns of a table, as it begins: those of the first rows with what is in them, or of the header."""
    if (found := _first_line(path)) is not None:
        return dict.fromkeys(_untyped(path, (cell.strip() for cell in found[0])))
    columns: dict[str, Any] = {}
    try:
        for row in islice(read_rows(path, wrong=lambda error: None), MOST_AHEAD):
            columns = row.values | columns
    except InputError:  # which what reads it says
        return {}
    return columns


def _untyped(path: Path, columns: Iterable[str]) -> list[str]:
    """Return the names of columns, of which those of RecBole say their type too: ``item_id:token``."""
    is_typed = file_format(path) in ATOMIC
    return [column.rpartition(":")[0] or column if is_typed else column for column in columns]
