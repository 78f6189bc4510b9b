"""What a cell says: titles."""

import pytest

from lbr_st.data.texts import title_of, with_title
from lbr_st.errors import RowError


@pytest.mark.parametrize(
    ("title", "text", "expected"),
    [
        ("Statins", "They lower cholesterol.", "Statins They lower cholesterol."),  # as in mteb
        ("Statins", "Statins are drugs.", "Statins Statins are drugs."),
        ("Statins", "Statins\nThey lower it.", "Statins\nThey lower it."),
        ("Statins ", "\n Statins\n", "\n Statins\n"),
        ("", "text", "text"),
        ("Statins", " ", "Statins"),
    ],
)
def test_a_document_with_its_title(title, text, expected):
    assert with_title(title, text) == expected


@pytest.mark.parametrize(
    ("value", "title"),
    [
        ("Statins", "Statins"),
        (" Statins\n", "Statins"),
        ("\ud83d", ""),
        (1984, "1984"),
        (None, ""),
        (float("nan"), ""),
        (" ", ""),
        ("", ""),
    ],
)
def test_what_a_title_is(value, title):
    assert title_of("f, line 1", "title", value) == title


@pytest.mark.parametrize("value", [["a"], {"en": "a"}, True])
def test_what_is_no_title(value):
    with pytest.raises(RowError, match="f, line 1, column 'title': expected a title, found "):
        title_of("f, line 1", "title", value)
