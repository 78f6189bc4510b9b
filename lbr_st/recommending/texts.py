"""What a language model reads of a user and of an item: words, and the token of each that has one.

A token is an entry of the vocabulary, ``[user_7]`` or ``[item_12]``, where the number is its row in the recommender and
says nothing of the id. Square brackets, as what cleans texts of markup leaves them alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

TOKEN = re.compile(r"\[(?:user|item)_\d+\]")


def user_token(number: int) -> str:
    """Return the spelling of the token of a user."""
    return f"[user_{number}]"


def item_token(number: int) -> str:
    """Return the spelling of the token of an item."""
    return f"[item_{number}]"


def item_text(text: str, number: int | None = None) -> str:
    """Return the text of an item: ``Item [item_12]: Heat, 1995, Action``.

    Args:
        text: What is told of it.
        number: Number of the item; None for one without a token.
    """
    return f"Item: {text}" if number is None else f"Item {item_token(number)}: {text}"


def user_text(chosen: Sequence[tuple[str, int | None]], about: str = "", number: int | None = None) -> str:
    """Return the text of a user: ``User [user_7], 24, writer. Chose: Heat [item_12]; Toy Story [item_3]``.

    The newest item comes first: where the text is cut, the oldest go.

    Args:
        chosen: Names of the items that the user chose, oldest first, each with its number; None for an item without a
            token.
        about: What is told of the user.
        number: Number of the user; None for one without a token.
    """
    who = ", ".join(filter(None, ["User" if number is None else f"User {user_token(number)}", about]))
    told = (name if item is None else f"{name} {item_token(item)}" for name, item in reversed(chosen))
    return f"{who}. Chose: {'; '.join(told) or 'nothing yet'}"


@dataclass(frozen=True)
class Texts:
    """The texts of the users and items of a recommender.

    Attributes:
        about: What is told of each user; "" for nothing.
        names: What each item is called.
        texts: What is told of each item.
        known: Which items have a token: those that somebody chose in training.
        has_tokens: Whether there are tokens; else there are words alone.
        most: Most items that a user's text tells.
    """

    about: Sequence[str]
    names: Sequence[str]
    texts: Sequence[str]
    known: Sequence[bool]
    has_tokens: bool
    most: int

    def item(self, item: int, plain: bool = False) -> str:
        """Return the text of an item.

        Args:
            item: Number of the item.
            plain: Whether it is told without tokens.
        """
        return item_text(self.texts[item], self._token(item, plain))

    def user(self, user: int | None, chosen: Sequence[int | str], plain: bool = False) -> str:
        """Return the text of a user.

        Args:
            user: Number of the user; None for somebody new.
            chosen: What the user chose, oldest first: numbers of items, or names of others.
            plain: Whether it is told without tokens.
        """
        told = [
            (self.names[item], self._token(item, plain)) if isinstance(item, int) else (item, None)
            for item in chosen[-self.most :]
        ]
        about = "" if user is None else self.about[user]
        return user_text(told, about, user if self.has_tokens and not plain else None)

    def _token(self, item: int, plain: bool) -> int | None:
        return item if self.has_tokens and self.known[item] and not plain else None
