"""Choices of made-up users who like one colour each: for tests, and for programs at toy size."""

from __future__ import annotations

import random
from pathlib import Path

TASTES = {
    "red": ("apple", "brick", "rose", "wine", "fox", "fire"),
    "blue": ("sky", "sea", "berry", "whale", "jay", "ink"),
}


def write_choices(folder: str | Path, users: int = 16) -> tuple[str, str]:
    """Write who chose what, five of the six items of one colour each, as two tables.

    Args:
        folder: Folder for them.
        users: Number of users.

    Returns:
        The table of the choices and that of the items.
    """
    draw = random.Random(0)
    names = [f"{colour} {thing}" for colour, things in TASTES.items() for thing in things]
    rows = ["user,item,timestamp"]
    for user in range(users):
        own = [6 * (user % 2) + number for number in range(6)]
        rows += [f"u{user},{item},{time}" for time, item in enumerate(draw.sample(own, 5))]
    items = ["item,title,colour", *(f"{number},{name},{name.split()[0]}" for number, name in enumerate(names))]
    choices_file, items_file = Path(folder) / "choices.csv", Path(folder) / "items.csv"
    choices_file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    items_file.write_text("\n".join(items) + "\n", encoding="utf-8")
    return str(choices_file), str(items_file)
