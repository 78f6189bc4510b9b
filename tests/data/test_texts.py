"""What a cell says: titles, and values of Python and JSON that are written out."""

import pytest

from lbr_st.data.texts import cell_text, first_exchange, texts_of, title_of, with_title
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


TITLES = [("Statins", "Statins"), (" Statins\n", "Statins"), ("\ud83d", ""), (1984, "1984")]
TITLES += [(["Statins"], "Statins"), (["a", "", "b"], "a; b"), ([], "")]


@pytest.mark.parametrize(("value", "title"), [*TITLES, (None, ""), (float("nan"), ""), (" ", ""), ("", "")])
def test_what_a_title_is(value, title):
    assert title_of("f, line 1", "title", value) == title


@pytest.mark.parametrize("value", [["a", 1], {"en": "a"}, True])
def test_what_is_no_title(value):
    with pytest.raises(RowError, match="f, line 1, column 'title': expected a title, found "):
        title_of("f, line 1", "title", value)


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ("['X one' 'X two']", ["X one", "X two"]),  # numpy's
        ("['X one'\n \"it's two\"]", ["X one", "it's two"]),
        ("['X one']", ["X one"]),
        ("['X, one', 'X two']", ["X, one", "X two"]),
        ('["X one", "it\\\'s"]', ["X one", "it's"]),
        ('["X one", "X two"]', ["X one", "X two"]),
        (" ['X one', 'X two'] ", ["X one", "X two"]),
        ("[]", []),
        ("[edit] X one", ["[edit] X one"]),
        ("(in mice) X one", ["(in mice) X one"]),
    ],
)
def test_texts_of_lists_that_are_written_out(cell, texts):
    assert texts_of("f, line 1", "negatives", cell) == texts


VALUES = [
    "array(['D', 'X'], dtype=object)", "{'text': ['D'], 'answer_start': [0]}", "{'D', 'X'}", "('D', 'X')",
    "['D', 'Zinc is a met...", "['D', 'Zinc is a met\u2026", "{'text': array(['D'], dtype=object)}", "b'D'",
    '{"text": "D", "title": "T"}', "frozenset({'D'})", "array([], dtype=object)",
]  # fmt: skip


@pytest.mark.parametrize("value", [*VALUES, "['D', 'X' 'Z']", "['D' nan]", "[['D' 'X']\n ['Y' 'Z']]"])
def test_values_that_are_written_out_are_no_texts_of_a_list(value):
    with pytest.raises(RowError, match="f, line 1, column 'negatives': a value of Python or JSON that is written out"):
        texts_of("f, line 1", "negatives", value)


@pytest.mark.parametrize("value", [*VALUES[:-3], *VALUES[-2:], "['D', 'X']", "['D' 'X']", "[{'text': 'D'}]"])
@pytest.mark.parametrize("read", [texts_of, cell_text])
def test_values_that_are_written_out_are_no_text(read, value):
    with pytest.raises(RowError, match="f, line 1, column 'positive': a value of Python or JSON that is written out"):
        read("f, line 1", "positive", value)


def test_sentences_in_a_list_of_json_are_texts():
    """As LMSYS and others write them to CSV: the one of a list is meant, and of several nobody knows which."""
    assert cell_text("f, line 1", "prompt", '["What is X?"]') == "What is X?"
    assert cell_text("f, line 1", "output", '["What is X?"]') == '["What is X?"]'
    with pytest.raises(RowError, match="column 'prompt': a value of Python or JSON that is written out"):
        cell_text("f, line 1", "prompt", '["What is X?", "And what is Y?"]')


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("output", "['apple', 'pear']"),  # of a model that was asked for it
        ("positive", '{"name": "lbr-st", "version": 1}'),
        ("positive", '["D", "X"]'),  # of JSON, and no sentences
        ("positive", "['D'].append(x)"),
        ("positive", "[1] Smith et al."),
        ("positive", '("D" or "X")'),
        ("positive", "b) D..."),
    ],
)
def test_code_and_brackets_are_texts(column, text):
    assert cell_text("f, line 1", column, text) == text


@pytest.mark.parametrize("messages", [float("nan"), True, 5, {"role": "user"}, "[]"])
def test_what_is_no_conversation(messages):
    with pytest.raises(RowError, match="row 3, column 'messages': expected messages, found "):
        first_exchange("row 3", "messages", messages)
