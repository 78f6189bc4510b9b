"""Front matter: its title is used, the rest is left out, and what is none stays text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_st.data.front_matter import split_front_matter


@pytest.mark.parametrize(
    ("text", "title", "rest"),
    [
        ("---\ntitle: Statins\ntags: [a, b]\n---\nText.\n", "Statins", "\n\n\n\nText.\n"),
        ('---\ntitle: "Statins: a guide"\n---\nText.', "Statins: a guide", "\n\n\nText."),
        ("---\nTITLE: >\n  One\n  two\ndate: 2024-13-45\n---\nText.", "One two", "\n\n\n\n\n\nText."),
        ("---\ntitle: 1984\n...\nText.", "1984", "\n\n\nText."),
        ("---\r\ntitle: Statins\r\ndraft: false\r\n---\r\nText.\r\n", "Statins", "\n\n\n\nText.\r\n"),
        ("\ufeff---\ntitle: Statins\n---\nText.", "Statins", "\n\n\nText."),
        ("--- \ntitle: Statins\n---  \nText.", "Statins", "\n\n\nText."),
        ("---\nlayout: post\n---\nText.", "", "\n\n\nText."),
        ("---\ntitle:\n---\nText.", "", "\n\n\nText."),
        ("---\ntitle: [a, b]\n---\nText.", "", "\n\n\nText."),
        ("---\n---\nText.", "", "\n\nText."),
        ("---\n# nothing yet\n---\nText.", "", "\n\n\nText."),
        ("---\ntitle: Statins\n---", "Statins", "\n\n\n"),
        ("---\ntitle: One\n---\nText.\n\n---\n\nMore.", "One", "\n\n\nText.\n\n---\n\nMore."),
        ('+++\ntitle = "Statins"\ndate = 2024-01-01\n[extra]\na = 1\n+++\nText.', "Statins", "\n" * 6 + "Text."),
        ("+++\r\ntitle = 'Statins'\r\n+++\r\nText.", "Statins", "\n\n\nText."),
        ('{\n  "title": "Statins",\n  "tags": ["a"]\n}\n\nText.', "Statins", "\n\n\n\n\nText."),
    ],
)
def test_front_matter(text, title, rest):
    """In its place are as many lines, so that what stands behind it keeps its numbers."""
    assert split_front_matter(text) == (title, rest, False)


@pytest.mark.parametrize(
    "text",
    [
        "Text.\n---\ntitle: Statins\n---\n",
        "---\n\nA thematic break before some prose.\n\n---\n\nMore.",
        "---\nNote: read this.\n\nThen that.\n---\n",
        "---\n- a list\n- of things\n---\n",
        "---\nonly: one name, never closed\n\nText.",
        "---\nNote: one: line\n---\nText.",
        "---\n{% if a %}title: b{% endif %}\n---\nText.",
        "---\n" + "[" * 3000 + "\n---\nText.",
        "----\ntitle: four dashes\n----\n",
        '{"title": "an object"} and text behind it',
        "{% raw %}\nText.",
        "{broken\n",
        "[1, 2]\n",
        "",
        "---",
        "***\nText.",
    ],
)
def test_what_is_none_is_text(text):
    assert split_front_matter(text) == ("", text, False)


@pytest.mark.parametrize(
    ("text", "title", "rest"),
    [
        ("---\ntitle: Bad: yaml: here\ntags: [a, b\n  foo: - bar\n---\n\nText.", "Bad: yaml: here", "\n" * 6 + "Text."),
        ("---\nauthor: @me\ndate: 2024\n---\nText.", "", "\n\n\n\nText."),
        ("---\n\ttitle: tab\n---\nText.", "tab", "\n\n\nText."),
        ("---\ntitle: [broken\n---\nText.", "", "\n\n\nText."),
        ('---\r\ntitle: "a" b\r\n---\r\nText.', 'a" b', "\n\n\nText."),
        ("---\ntitle: never closed\n\nText.\n\n---\n\nMore.", "never closed", "\n\n\nText.\n\n---\n\nMore."),
        ("+++\ntitle: YAML in TOML\n+++\nText.", "YAML in TOML", "\n\n\nText."),
        ("+++\ntitle = 'twice'\ntitle = 'twice'\n+++\nText.", "twice", "\n\n\n\nText."),
        ('{\n  "title": "A comma too many",\n  "n": 1,\n}\nText.', "A comma too many", "\n\n\n\nText."),
    ],
)
def test_what_does_not_parse_is_left_out_all_the_same(text, title, rest):
    """Where its lines look like front matter, its title is found, and it is said that it cannot be read."""
    assert split_front_matter(text) == (title, rest, True)


@pytest.mark.parametrize("before", ["\n\n", "<!-- of a\ngenerator -->\n", "\ufeff \r\n<!-- a --><!-- b -->\n"])
@pytest.mark.parametrize(
    "block", ["---\ntitle: T\n---", "+++\ntitle = 'T'\n+++", '{"title": "T"}', "---toml\ntitle='T'\n---"]
)
def test_blank_lines_and_comments_before_it(before, block):
    text = f"{before}{block}\nText."
    assert split_front_matter(text) == ("T", "\n" * text.count("\n") + "Text.", False)
    assert split_front_matter(f"{before}Text.\n\n{block}\n").title == ""


@given(
    st.text(st.sampled_from("-+.{}[]:\n\r\t\"' atitle=#&*!|>%@`\ufeff"), max_size=40),
    st.sampled_from(["---", "+++", "{"]),
)
def test_anything_is_read(inside, fence):
    """Nothing raises, and no line that stands behind is lost."""
    text = f"{fence}\n{inside}\n{fence}\nThe text.\nIts end."
    title, rest, _ = split_front_matter(text)
    assert rest.endswith("The text.\nIts end.") and rest.count("\n") == text.count("\n")
    assert "\n" not in title
