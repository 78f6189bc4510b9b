"""What programs for notes write for themselves is no text."""

import pytest

from lbr_st.data.account import Account
from lbr_st.data.notes import COMMENTS, OTHERS, PROPERTIES, without_notes
from lbr_st.data.passages import Chunker, passages_of

LOGSEQ = "title:: Malaria\ntags:: med, health\nalias::\n\n- D\n\t- id:: 66a1-0\n\t  collapsed:: true\n\t- E\n"
JOPLIN = "Malaria\n\nD\n\nid: 8f0\nparent_id: 77aa\ncreated_time: 2024-01-01T00:00:00.000Z\nauthor:\ntype_: 1"


@pytest.mark.parametrize(
    ("text", "title", "rest"),
    [
        (LOGSEQ, "Malaria", "\n\n\n\n- D\n\n\n\t- E\n"),
        ("tags:: med\n\nD\n", "", "\n\nD\n"),
        ("# Malaria\n\ntags:: med\nrating:: 5\n\nD\n", "", "# Malaria\n\n\n\n\nD\n"),
        (JOPLIN, "Malaria", "\n\nD\n"),
    ],
)
def test_properties_of_notes_are_left_out_but_for_the_title(text, title, rest):
    account = Account()
    assert without_notes(text, account) == (title, rest)
    assert account.notes == f"1 {PROPERTIES}"


def test_properties_elsewhere_are_named_and_stay():
    account, text = Account(), "D\n\n## More\n\nrating:: 5\n\nE\n"
    assert without_notes(text, account) == ("", text)
    assert account.notes == f"1 {OTHERS}"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a %%private%% b", "a  b"),
        ("a\n%%\nprivate\n%%\nb", "a\n\n\n\nb"),
        ("a\n%% private words\nof two lines %%\nb", "a\n\n\nb"),
        ("a\n- %% private\n\nsecond paragraph\n\n%%\nb", "a\n\n\n\n\n\nb"),
        ('a\n%% settings\n```\n{"a": 1}\n```\n%%\nb', "a\n\n\n\n\n\nb"),
        ("a %%begins here\nand ends%%  \nb", "a \n  \nb"),
        ("a\n<!-- private\n-->\nb", "a\n\n\nb"),
    ],
)
def test_comments_in_notes_are_left_out(text, rest):
    account = Account()
    assert without_notes(text, account) == ("", rest)
    assert account.notes == f"1 {COMMENTS}"


@pytest.mark.parametrize(
    "text",
    [
        "```\n%%time\nx = 1\n%%\n```\n",
        "It is `%%a%%` here.\n",
        "From 5%% to 10%% of it.\n",
        "    x <- a %% b\n\nText.\n\n    y <- c %% d\n",
        "%% A comment of LaTeX\nText.\n%% Another\n",
        "Text.\n%% begun and never ended\nText.\n",
        "%% begun before\n```\n%%time\n```\nText.\n",
        "%%%% A line of signs %%%%\nText.\n%%%%\n",
        "Use %%time here,\nor at most 100%%\nof it.\n",
        "Write %% in a format.\nText.\nEnd with %%\n",
        "Use std::vector here.\n\nid: 5\ntype: 1\n",
        "name: value\n\nText.\n",
    ],
)
def test_what_is_text_of_notes_stays(text):
    account = Account()
    assert without_notes(text, account) == ("", text)
    assert account.notes == ""


def test_the_title_of_a_note_is_above_its_passages():
    assert list(passages_of("a.md", JOPLIN, Chunker(99))) == [{"id": "a.md:3", "document": "D", "query": "Malaria"}]


@pytest.mark.parametrize(
    "text",
    [
        "Use a %%cell marker so:\n\n```python\n# %%\nx=1\n```\nend", "%%bash\nls\nkeep me\n\n# %%",
        'printf("x%%y")\nreal\n%%', "so:\n\n    %% Section 1\n    x = 1;\n%%\ny",
    ],
)  # fmt: skip
def test_signs_of_programs_are_no_comment(text):
    assert without_notes(text, Account())[1] == text


def test_a_comment_may_hold_code():
    assert without_notes("text\n\n%% kanban:settings\n```\n{}\n```\n%%\nmore", Account())[1].split() == ["text", "more"]
