"""Names of columns in templates, whatever marks are in them."""

import pytest

from lbr_st.data.columns import Columns
from lbr_st.data.row_reader import RowReader
from lbr_st.data.templates import Template, column_of
from lbr_st.errors import RowError

ROW = {
    "Input.query": "dot",
    "Your question:": "colon",
    "The answer [en]": "remark",
    "q{en}": "braces",
    "a.b": {"c": ["path"]},
    "Is it so?!": "marks",
    "x:>3": "form",
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{Input.query}", "dot"),
        ("{Your question:}", "colon"),
        ("{The answer [en]}", "remark"),
        ("{q{en}}", "braces"),
        ("{a.b[c][0]} {a.b.c.0}", "path path"),
        ("{Is it so?!}", "marks"),
        ("{{{x:>3}}}", "{form}"),
    ],
)
def test_a_column_is_said_by_its_name_whatever_marks_it_has(template, text):
    assert Template(template).fill("w", ROW) == text
    [column] = {*Template(template).columns_in(ROW)}
    assert column in ROW


def test_columns_of_paths():
    assert [column_of(path, {"a.b", "a"}) for path in ("a.b.c", "a.c", "a[b]", "d[e].f", "d")] == [
        "a.b", "a", "a", "d", "d",
    ]  # fmt: skip


def test_what_no_column_is_called_is_named():
    with pytest.raises(RowError, match=r"no field 'y:>3' \(found: Input.query, "):
        Template("{y:>3}").fill("w", ROW)


def test_a_template_of_negatives_may_name_a_list():
    """So hard negatives within an object can be said; a template with more in it is one text."""
    row = {"query": "q", "positive": "d", "found": {"by": ["one two", None, "three"], "n": "four"}}
    columns = Columns(negatives=(Template("{found[by]}"), Template("{found[n]}!"), Template("{found[by][0]}")))
    [record] = RowReader(columns, ("query", "document"), ("negatives",))("w", row)
    assert record["negatives"] == ["one two", "three", "four!", "one two"]


def test_pieces_and_the_fields_that_they_are_of():
    template = Template(r"{why}\nSo {x} and {x}.{{}}")
    assert template.fields == ("why", "x")
    row = {"why": r"a\nb", "x": 4}
    assert template.pieces("w", row)[:4] == [("why", r"a\nb"), (None, "\nSo "), ("x", "4"), (None, " and ")]
    assert template.fill("w", row) == "a\\nb\nSo 4 and 4.{}"
