"""Tables of text: names of columns, and what databases, pandas, R and Excel write."""

import json

import pytest
from helpers import values_in

from lbr_st.data.rows import read_rows
from lbr_st.data.table_rows import FORMULAS
from lbr_st.errors import InputError


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (",a,b\n0,x,y\n1,v,w\n", [{"Unnamed: 0": "0", "a": "x", "b": "y"}, {"Unnamed: 0": "1", "a": "v", "b": "w"}]),
        (",a\n7,x\n3,y\n,z\n", [{"Unnamed: 0": n, "a": a} for n, a in (("7", "x"), ("3", "y"), ("", "z"))]),
        ("Unnamed: 0,a\n0,x\n", [{"Unnamed: 0": "0", "a": "x"}]),
        ("a,b,\nx,y,\nv,w\n", [{"a": "x", "b": "y"}, {"a": "v", "b": "w"}]),
        ("a,b,,,\nx,y,,,\n", [{"a": "x", "b": "y"}]),
        ("a,,b\nx, ,y\n", [{"a": "x", "b": "y"}]),
        ("a,b\nx,y,\nv,w,, \n", [{"a": "x", "b": "y"}, {"a": "v", "b": "w"}]),
        (",a,b,\n0,x,y,\n", [{"Unnamed: 0": "0", "a": "x", "b": "y"}]),
    ],
)
def test_columns_without_a_name(tmp_path, text, rows):
    """The numbers of rows that pandas writes, named as it names them; commas at the ends of lines; blank columns."""
    (tmp_path / "f.csv").write_text(text)
    assert values_in(tmp_path / "f.csv") == rows
    (tmp_path / "f.tsv").write_text(text.replace(",", "\t"))
    assert values_in(tmp_path / "f.tsv") == rows


def test_rows_that_hold_what_has_no_name_are_skipped_one_by_one(tmp_path):
    (tmp_path / "f.csv").write_text("a,b,\nx,y,\nx,y,z\nv,w,\n")
    errors = []
    assert values_in(tmp_path / "f.csv", wrong=errors.append) == [{"a": "x", "b": "y"}, {"a": "v", "b": "w"}]
    assert [error.reason for error in errors] == ["a column without a name"]


@pytest.mark.parametrize("header", [b"question,\xe9\n", b'question,"a"b\n'])
def test_a_line_of_names_that_cannot_be_read_is_never_skipped(tmp_path, header):
    """The next row would name the columns."""
    (tmp_path / "f.csv").write_bytes(header + b"q,d\nr,e\n")
    with pytest.raises(InputError, match="f.csv, line 1"):
        list(read_rows(tmp_path / "f.csv", wrong=lambda error: None))


def test_tables_that_pandas_wrote(tmp_path):
    """By columns, by rows, as names and rows, and as lists; an object of its own is one row."""
    rows = [{"query": "a", "positive": "b"}, {"query": "c", "positive": "d"}]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for found in (
        rows,
        {name: {str(n): text for n, text in enumerate(texts)} for name, texts in columns.items()},
        {str(n): row for n, row in enumerate(rows)},
        {"columns": list(columns), "index": [0, 1], "data": [list(row.values()) for row in rows]},
        columns,
    ):
        path = tmp_path / "f.json"
        path.write_text(json.dumps(found))
        assert [row.values for row in read_rows(path)] == rows
    for found in (
        {"query": "q", "pos": ["d", "e"]},
        {"pos": ["d"], "neg": ["n"]},
        {"pos": ["d", "e"], "neg": ["n"]},
        {"meta": {"0": "a"}, "text": {"1": "b"}},
        {"a": {"0": "a"}, "text": "b"},
        {"columns": ["a"], "data": "b"},
        {},
    ):
        path.write_text(json.dumps(found))
        assert [row.values for row in read_rows(path)] == [found]


def test_a_formula_that_is_a_text_alone_is_that_text(tmp_path):
    (tmp_path / "f.csv").write_text('id,answer\n"=""0012""",x\n="0013","=""a ""b"""\n14,"=""c"" & A1"\n')
    rows = list(read_rows(tmp_path / "f.csv"))
    assert [tuple(row.values.values()) for row in rows] == [("0012", "x"), ("0013", '="a "b"'), ("14", '="c" & A1')]
    assert [row.notes for row in rows] == [(FORMULAS,), (FORMULAS,), ()]


@pytest.mark.parametrize("delimiter", ["\t", ","])
def test_what_a_database_writes_out_is_read_before_its_first_null_too(tmp_path, delimiter):
    """As COPY of PostgreSQL and MySQL write a line break, a tab and a backslash."""
    file = tmp_path / ("f.tsv" if delimiter == "\t" else "f.csv")
    rows = [("question", "answer"), ("q", r"They\nshow\ta \\nabla"), ("r", r"\N"), ("s", "d")]
    file.write_text("".join(f"{delimiter.join(row)}\n" for row in rows))
    found = list(read_rows(file))
    assert [row.values["answer"] for row in found] == ["They\nshow\ta \\nabla", "", "d"]
    said = r"with \n, \t or \\ written out in cells, as databases do, read as what they stand for"
    assert [said in row.notes for row in found] == [True, False, False]
    assert [len(row.notes) for row in found] == [1, 1, 0]


@pytest.mark.parametrize(("last", "notes"), [(r"\N", 1), ("d", 0)])
def test_what_may_be_a_command_of_tex_stays(tmp_path, last, notes):
    r"""A table with a \N and a backslash that no database writes is counted; one without the first is not."""
    (tmp_path / "f.tsv").write_text(f"question\tanswer\nq\tThe\\nabla of \\alpha\nr\t{last}\n")
    first = next(read_rows(tmp_path / "f.tsv"))
    assert (first.values["answer"], len(first.notes)) == (r"The\nabla of \alpha", notes)


def test_names_of_rows_without_a_name_of_their_own(tmp_path):
    """R writes a field more in every row than the header has."""
    (tmp_path / "f.tsv").write_text('query\tanswer\n"1"\t"a"\t"b"\n"2"\t"c"\t"d"\n')
    assert [row.values for row in read_rows(tmp_path / "f.tsv")] == [
        {"Unnamed: 0": "1", "query": "a", "answer": "b"},
        {"Unnamed: 0": "2", "query": "c", "answer": "d"},
    ]
    (tmp_path / "f.tsv").write_text("query\tanswer\n1\ta\tb\nc\td\n")
    with pytest.raises(InputError, match="if its first field is the name of the row, name that column in the first"):
        list(read_rows(tmp_path / "f.tsv"))
