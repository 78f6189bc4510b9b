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


@pytest.mark.parametrize(
    ("suffix", "block", "title"),
    [
        (".txt", "---\ntitle: T\ntags: [a]\n---\n", "T"),
        (".txt", "+++\ntitle = 'T'\n+++\n", "T"),
        (".tex", "---\ntitle: T\n---\n", "T"),
        (".py", "# ---\n# jupyter:\n#   jupytext:\n#     text_representation: {extension: .py}\n# ---\n", ""),
        (".py", "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n# ---\n# title: T\n# ---\n", "T"),
        (".r", "#' ---\n#' title: T\n#' ---\n", "T"),
        (".js", "// ---\n// title: T\n// ---\n", "T"),
        (".sql", "-- ---\n-- title: T\n-- ---\n", "T"),
        (".rst", ":Author: A\n:Date: 2024-01-01\n   and so on\n", ""),
        (".rst", ":orphan:\n", ""),
        (".md", "% T\n% A; B\n% 2024\n", "T"),
        (".md", "Title: T\nAuthor: A\n", "T"),
    ],
)
def test_front_matter_of_other_texts(suffix, block, title):
    """Lines keep their numbers; what stands before a block, as for the shell, stays."""
    found, text, is_broken = split_front_matter(f"{block}\nText.\n", suffix)
    assert (found, is_broken) == (title, False)
    assert text.endswith("\nText.\n") and text.count("\n") == block.count("\n") + 2
    assert "T" not in text.replace("Text.", "") and "Author" not in text and "---" not in text


def test_the_title_of_restructured_text_stays():
    text = "=====\nTitle\n=====\n\n:Author: A\n:Version: 1\n\nText.\n"
    assert split_front_matter(text, ".rst").text == "=====\nTitle\n=====\n\n\n\n\nText.\n"


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".txt", '{"a": 1}\n{"a": 2}\n'),  # lines of JSON
        (".txt", "Title: T\nAuthor: A\n\nText.\n"),
        (".txt", "% T\n\nText.\n"),
        (".py", "# ---\n# a rule\n# ---\nx = 1\n"),
        (".py", "'''---\ntitle: T\n---'''\n"),
        (".js", "---\ntitle: T\n---\n"),
        (".rst", "Title\n=====\n\nText.\n\n:field: later\n\n"),
        (".rst", ":class:`A` begins a text.\n\nMore.\n"),
        (".rst", "Text.\n\n:a: b\n"),
        (".md", "Title: T\n\nText.\n"),
        (".md", "Note: a\nAuthor: b\n\nText.\n"),
        (".md", "%\n\n% T\n"),
    ],
)
def test_what_is_text_in_other_files(suffix, text):
    assert split_front_matter(text, suffix) == ("", text, False)
