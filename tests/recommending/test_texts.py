"""What a model reads of users and items, letter for letter."""

import pytest

from lbr_st.data.cleaning import clean
from lbr_st.recommending.texts import TOKEN, Texts, item_text, item_token, user_text, user_token

TEXTS = Texts(
    about=["24, writer", ""],
    names=["Heat", "Jaws", "Ran"],
    texts=["Heat, 1995", "Jaws, 1975", "Ran, 1985"],
    known=[True, True, False],
    has_tokens=True,
    most=2,
)


def test_an_item_is_told_with_its_token_where_it_has_one():
    assert item_text("Heat, 1995", 12) == "Item [item_12]: Heat, 1995"
    assert TEXTS.item(0) == "Item [item_0]: Heat, 1995"
    assert TEXTS.item(2) == "Item: Ran, 1985"
    assert TEXTS.item(0, plain=True) == "Item: Heat, 1995"


def test_a_user_is_told_with_the_newest_choices_first():
    """At most so many; the oldest are left out."""
    assert user_text([("Heat", 12), ("Ran", None)], "24", 7) == "User [user_7], 24. Chose: Ran; Heat [item_12]"
    assert TEXTS.user(0, [2, 0, 1]) == "User [user_0], 24, writer. Chose: Jaws [item_1]; Heat [item_0]"
    assert TEXTS.user(1, []) == "User [user_1]. Chose: nothing yet"


def test_what_has_no_token_is_told_in_words():
    assert TEXTS.user(None, [0, "Alien"]) == "User. Chose: Alien; Heat [item_0]"
    assert TEXTS.user(0, [0], plain=True) == "User, 24, writer. Chose: Heat"


@pytest.mark.parametrize("token", [user_token(0), item_token(1682)])
def test_tokens_survive_the_cleaning_of_markup(token):
    """Texts that are searched and served are cleaned; of one with markup, what looks like an element goes."""
    assert TOKEN.fullmatch(token)
    assert clean(f"<b>Heat</b> {token}") == f"Heat {token}"
