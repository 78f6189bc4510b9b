"""Cleaning: what it takes out, what it leaves, and that once is enough."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_st.data.cleaning import clean, clean_record

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x00b\x07c\x7f", "abc"),
        ("cafe\u0301", "café"),
        ("x² ½ ﬁ", "x² ½ ﬁ"),  # compatibility forms mean something
        ("soft\u00adhyphen zero\u200bwidth \ufeffmark \ud83d", "softhyphen zerowidth mark"),
        ("نمی\u200cخواهم", "نمی\u200cخواهم"),  # a joiner that Persian is written with
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\u00a0b\u3000c", "a b c"),
        ("page one\x0cpage two\x85three\x1ffour", "page one\npage two\nthree four"),
        ("if a<b and c>d: stop", "if a<b and c>d: stop"),
        ("WHERE a <b AND c> d", "WHERE a <b AND c> d"),
        ("call f<b>(x)", "call f<b>(x)"),
        ("    x = List<int>()", "    x = List<int>()"),
        ("CO<sub>2</sub> and m<sup>2</sup>", "CO2 and m²"),
        ('see <a href="http://x.org" target=_blank>this</a>', "see this"),
        ("a   \n\n\n\n  b\t\n", "a\n\n  b"),
        ("    if a:\n        return", "    if a:\n        return"),
        ("if a < b and c > d: x<y>z", "if a < b and c > d: x<y>z"),
        ("List<String> x", "List<String> x"),
        ("H<sub>2</sub>O &amp; salt", "H2O & salt"),
        ("<p>One</p><p>Two<br>three</p><script>x()</script>", "One\nTwo\nthree"),
        ("<table><tr><td>10</td><td>20</td></tr></table>", "10 20"),
        ("<dl><dt>a</dt><dd>b</dd></dl><p>c", "a\nb\nc"),
        ("5 &lt; 6 &#39;q&#39; &unknown;", "5 < 6 'q' &unknown;"),
        ("<ul><li>a</li><li>b</li></ul>", "a\nb"),
        ("a </script><b>b</b> <!-- c --><style>d</style> e", "a b e"),
        ("<p>a < b &amp;&amp; c &unknown; d", "a < b && c &unknown; d"),
    ],
)
def test_clean(text, expected):
    assert clean(text) == expected


LINK = "def link(url):\n    if url:\n        return f'<a href=\"{url}\">here</a>'\n    return None"
PAGE = "def page(x):\n    y = x < 3\n    return '<br>'.join(y)\n\n\ndef other():\n    return 1"
MAP = "#include <map>\nstd::map<int, b> m;\nif (a <b> c) {\n    run();\n}"


@pytest.mark.parametrize("text", [LINK, PAGE, MAP])
def test_code_is_left_alone(text):
    """A tag in a string of it, or what looks like one, makes no page of it; nor does one beside what is fenced."""
    assert clean(text) == text.replace("\n\n\n", "\n\n")
    fenced = f"Take <b>this</b>:\n\n```\n{text}\n```\n\nand `List<b>` &amp; <i>that</i>."
    plain = fenced.replace("<b>this</b>", "this").replace("<i>that</i>", "that").replace("&amp;", "&")
    assert clean(fenced) == plain.replace("\n\n\n", "\n\n")


@pytest.mark.parametrize("tick", ["", "`", "``` <b>x</b>"])
def test_a_page_is_no_code(tick):
    """Nor is running text with a tag, whatever else it has; a fence that does not end is none."""
    assert clean(f"<p>if (a);</p>\n<p>for (b);</p>{tick and chr(10) + tick}") == "if (a);\nfor (b);" + (
        f"\n{tick}".replace("<b>x</b>", "x") if tick else ""
    )
    assert clean("Iron is <b>red</b>.\nSo is rust;\nand blood, too.") == "Iron is red.\nSo is rust;\nand blood, too."


def test_what_is_kept_on_request():
    assert clean("<b>a</b> &amp; b", keep_html=True) == "<b>a</b> &amp; b"
    assert clean(" a\n\tb  c ", one_line=True) == "a b c"


def test_a_record():
    """A query is one line; of hard negatives, those of which nothing is left go."""
    record = {
        "id": "1",
        "query": "What\n is <b>it</b>\ud83d?",
        "document": "a\x00\n\n\n\nb",
        "negatives": ["\ud83d", "<i>c</i>"],
    }
    cleaned = {"id": "1", "query": "What is it?", "document": "a\n\nb", "negatives": ["c"]}
    assert clean_record(dict(record)) == cleaned
    assert clean_record(dict(cleaned), keep_html=True) == cleaned
    assert clean_record({"document": "<b>a</b> &amp;"}, keep_html=True) == {"document": "<b>a</b> &amp;"}


@given(ANY_TEXT)
def test_clean_text_is_what_it_promises(text):
    cleaned = clean(text, keep_html=True)
    assert clean(cleaned, keep_html=True) == cleaned
    cleaned.encode()  # no half of a surrogate pair
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not any(unicodedata.category(c) == "Cc" for c in cleaned.replace("\n", "").replace("\t", ""))
    assert "\n\n\n" not in cleaned and not cleaned.endswith((" ", "\n"))
    line = clean(text, keep_html=True, one_line=True)
    assert line == " ".join(line.split())


@given(ANY_TEXT)
def test_any_text_is_cleaned(text):
    clean(text).encode()


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("if x <y and then <p>more</p> of it", "if x <y and then\nmore\nof it"),
        ("<p>a <b and c> d</p>", "a <b and c> d"),
        ("<p>p <0.05</p>", "p <0.05"),
        ("<p>mail <a@b.c></p>", "mail <a@b.c>"),
        ("<p>a <input disabled> b<video controls>c</video></p>", "a bc"),
        ('<p>a <a href="x" download>b</a> <a name=z>c</a></p>', "a b c"),
        ('<img alt="a>b" src="x"><p>c</p>', "c"),
        ("<!-- c --><o:p>a</o:p><p>b</p>", "a\nb"),
        ("a <script>var x; <p>text</p> more", "a var x;\ntext\nmore"),
        ("<STYLE>p {}</STYLE><p>b</p><style>never <p>c</p>", "b\nnever\nc"),
    ],
)
def test_what_is_no_tag_hides_nothing(text, seen):
    assert clean(text) == seen
