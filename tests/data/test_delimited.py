"""Tables as programs write them: no row is lost in another, and a cell of nothing is nothing."""

import csv
import io
import logging

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lbr_st.data.delimited import EMPTY_CELLS, ERROR_CELLS, ERRORS, NULLS, OPEN_QUOTES, ROWS_IN_A_TEXT, Table
from lbr_st.data.records import read_tuples
from lbr_st.data.rows import read_rows
from lbr_st.errors import InputError, RowError


def read(path, text, **options):
    path.write_text(text, newline="")
    return [(row.number, list(row.values.values()), row.notes) for row in read_rows(path, **options)]


@pytest.mark.parametrize(
    ("lines", "rows"),
    [
        # the quote of one row is closed in the next, in the last row, in the last but one, never
        (['q1\t"A parasite', 'q2\tof a germ"', "q3\td"], [("q1", '"A parasite'), ("q2", 'of a germ"'), ("q3", "d")]),
        (["q1\td", 'q2\t"A parasite', 'q3\tgerm"'], [("q1", "d"), ("q2", '"A parasite'), ("q3", 'germ"')]),
        (["q1\td", 'q2\t"A parasite'], [("q1", "d"), ("q2", '"A parasite')]),
        (['"q1\td', 'q2\t"e'], [('"q1', "d"), ("q2", '"e')]),
        (['q1\t"Iron" tablets 5" long', "q2\td"], [("q1", '"Iron" tablets 5" long'), ("q2", "d")]),
        (['q1\tinner "quotes" and 3"', "q2\td"], [("q1", 'inner "quotes" and 3"'), ("q2", "d")]),
        # what pandas and Excel write
        (['q1\t"all of ""it"" quoted"', "q2\td"], [("q1", 'all of "it" quoted'), ("q2", "d")]),
        (['"q\t1"\t"a tab\tin it"', "q2\td"], [("q\t1", "a tab\tin it"), ("q2", "d")]),
        (['q1\t"two', 'lines"', "q2\td"], [("q1", "two\nlines"), ("q2", "d")]),
        (['q1\t"def f():', "", '\treturn ""1"""', "q2\td"], [("q1", 'def f():\n\n\treturn "1"'), ("q2", "d")]),
        (['"two', 'lines"\td', "q2\te"], [("two\nlines", "d"), ("q2", "e")]),
    ],
)
def test_quotes_in_a_tsv(tmp_path, lines, rows):
    found = read(tmp_path / "f.tsv", "\n".join(["query\tpositive", *lines, ""]))
    assert [tuple(values) for _, values, _ in found] == rows
    opened = [values for _, values, notes in found if notes == (OPEN_QUOTES,)]
    assert all(any(value.startswith('"') for value in values) for values in opened)
    assert bool(opened) == any(value.startswith('"') and value.count('"') == 1 for row in rows for value in row)
    assert read(tmp_path / "g.tsv", "\r\n".join(["query\tpositive", *lines]))[-1][1] == list(rows[-1])


def test_a_quoted_text_of_two_lines_before_a_blank_end(tmp_path):
    (tmp_path / "a.tsv").write_text('query\tdocument\nwhat is a?\t"one\ntwo"\nwhat is b?\tB is a letter.\n\n')
    assert [row.values for row in read_rows(tmp_path / "a.tsv")] == [
        {"query": "what is a?", "document": "one\ntwo"},
        {"query": "what is b?", "document": "B is a letter."},
    ]


def test_numbers_of_lines_behind_a_quote_that_is_never_closed(tmp_path):
    """Lines that were looked at are read again."""
    text = 'a\tb\nq\t"open\n\nr\tlast\ns\t"two\nlines"\nt\td\n'
    assert [number for number, _, _ in read(tmp_path / "f.tsv", text)] == [2, 4, 5, 7]
    for number, end in enumerate(["", '" b', '"\tg\t"h"'], start=1):  # never closed; or then of other fields
        errors = []
        rows = read(tmp_path / f"{number}.tsv", f'a\tb\nq\t"open\nalone{end}\nr\td\n', wrong=errors.append)
        assert [(row, values) for row, values, _ in rows] == [(2, ["q", '"open']), (4, ["r", "d"])]
        assert [error.reason for error in errors] == ["not as many fields as the header"]
    with pytest.raises(InputError, match="line 3: not CSV: a quote is opened and never closed"):
        read(tmp_path / "g.tsv", 'a\tb\nq\td\n"open\nr\td\n')


@given(st.lists(st.lists(st.text(st.sampled_from("ab\"' ,;"), max_size=6), min_size=3, max_size=3), min_size=1))
def test_a_tsv_that_quotes_nothing_keeps_its_rows(rows):
    """One text a cell and one row a line, whatever quotes are in them; of a text in quotes they go."""
    rows = [["a", *row, "z"] for row in rows]
    table = Table(["".join(["\t".join("vwxyz"), "\n"]), *("\t".join(row) + "\n" for row in rows)], "\t")
    table.header = next(table)
    found = list(table)
    assert len(found) == len(rows) and all(row[0] == "a" and row[-1] == "z" for row in found)


@given(st.lists(st.lists(st.text(st.characters(exclude_characters="\r\0"), max_size=8), min_size=2, max_size=2)))
@example([["", "\n0\t"]])
@example([["\t\n0", ""]])
def test_what_csv_writes_with_all_quoted_comes_back(rows):
    out = io.StringIO()
    csv.writer(out, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["a", "b"], *rows])
    table = Table(io.StringIO(out.getvalue(), newline=""), "\t")
    table.header = next(table)
    assert list(table) == rows


def test_a_csv_with_rows_in_a_text_says_so(tmp_path):
    text = 'id,q,a\n1,"open,d\n2,q,d\n3,x",y\n4,q,d\n'
    assert read(tmp_path / "f.csv", text) == [(2, ["1", "open,d\n2,q,d\n3,x", "y"], (ROWS_IN_A_TEXT,)),
                                             (5, ["4", "q", "d"], ())]  # fmt: skip
    assert read(tmp_path / "g.csv", 'q,a\nq,"three\nlines\nof prose, yes"\n')[0][2] == ()


@pytest.mark.parametrize("name", ["f.csv", "f.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("declares", [False, True])
def test_the_first_line_shows_the_delimiter(tmp_path, caplog, name, delimiter, declares):
    """Excel's semicolons beside texts with commas, tabs in a .csv; what is not as the name says is said."""
    caplog.set_level(logging.INFO, logger="lbr_st")
    usual = {"f.csv": ",", "f.tsv": "\t"}[name]
    texts = [["query", "positive"], ["what, please", "so; or | so"], ["r", "e"]]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(texts)
    found = read(tmp_path / name, (f"sep={delimiter}\r\n" if declares else "") + out.getvalue())
    assert [values for _, values, _ in found] == texts[1:] and found[0][0] == 2 + declares
    assert ("the columns are separated by" in caplog.text) == (delimiter != usual)


def test_one_column_is_one_column(tmp_path):
    assert [values for _, values, _ in read(tmp_path / "f.csv", 'text\na; b\n"c, d"\n')] == [["a; b"], ["c, d"]]


@pytest.mark.parametrize("blank", [",,", " , ,", ',"",', "", ",,,"])
def test_rows_of_nothing_are_none(tmp_path, blank):
    text = "query,positive,negative\nq,d,n\n" + f"{blank}\n" * 2 + "r,e,\n" + blank
    assert [number for number, _, _ in read(tmp_path / "f.csv", text)] == [2, 5]
    assert [n for n, _, _ in read(tmp_path / "f.tsv", text.replace(",", "\t"))] == [2, 5]


@pytest.mark.parametrize("word", sorted(NULLS))
def test_cells_of_null_are_empty(tmp_path, caplog, word):
    """As pandas reads them, and counted; in JSON such a word is a text."""
    caplog.set_level(logging.INFO, logger="lbr_st")
    (tmp_path / "f.csv").write_text(f"query,positive,negative\nq,d,{word}\nr,e,{word} here\n")
    assert [record["negatives"] for record in read_tuples(tmp_path / "f.csv")] == [[], [f"{word} here"]]
    assert f"1 {EMPTY_CELLS}" in caplog.text
    (tmp_path / "g.csv").write_text(f"query,positive\nq,{word}\nr,e\n")
    with pytest.raises(
        InputError, match="g.csv, line 2, column 'positive': the text is empty: in a CSV or TSV a cell of"
    ):
        read_tuples(tmp_path / "g.csv")
    assert len(read_tuples(tmp_path / "g.csv", on_error="skip")) == 1
    (tmp_path / "h.jsonl").write_text('{"query": "q", "positive": "None"}')
    assert read_tuples(tmp_path / "h.jsonl")[0]["document"] == "None"


@pytest.mark.parametrize("word", sorted(ERRORS))
def test_cells_of_an_error_of_a_spreadsheet_are_empty(tmp_path, caplog, word):
    caplog.set_level(logging.INFO, logger="lbr_st")
    (tmp_path / "f.csv").write_text(f"query,positive,negative\nq,d,{word}\nr,e,{word} here\n")
    assert [record["negatives"] for record in read_tuples(tmp_path / "f.csv")] == [[], [f"{word} here"]]
    assert f"1 {ERROR_CELLS}" in caplog.text
    (tmp_path / "g.csv").write_text(f"query,positive\nq,{word}\nr,e\n")
    with pytest.raises(InputError, match="g.csv, line 2, column 'positive': the text is empty: .* such as #REF!"):
        read_tuples(tmp_path / "g.csv")


AGAIN = ["query,positive", " query , positive", "\ufeffquery,positive", '"query","positive"']


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("ending", ["", "r,e\n"])
def test_rows_that_say_the_header_once_more_are_none(tmp_path, caplog, again, ending):
    with caplog.at_level(logging.WARNING):
        rows = read(tmp_path / "f.csv", f"query,positive\nq,d\n{again}\n{again}\nquery,d\nq,positive\n{ending}")
    assert [values for _, values, _ in rows][:3] == [["q", "d"], ["query", "d"], ["q", "positive"]]
    assert "f.csv: rows that say the header once more, left out: 2" in caplog.text


def test_a_header_that_comes_again_in_another_order_is_refused(tmp_path):
    with pytest.raises(InputError, match="f.csv, line 3: the header comes again in another order"):
        read(tmp_path / "f.csv", "query,positive\nq,d\npositive,query\ne,r\n")


@pytest.mark.parametrize("above", ["Export of 2024-01-01,\n", "Report,x\n,\n"])
def test_lines_above_the_header_are_named(tmp_path, above):
    (tmp_path / "f.csv").write_text(f"{above}query,positive\nq,d\n")
    line = above.count("\n") + 1
    with pytest.raises(InputError, match=f"f.csv, line {line}: names the columns; take away what stands above it"):
        list(read_rows(tmp_path / "f.csv"))


def test_a_table_as_a_database_prints_it(tmp_path):
    (tmp_path / "f.csv").write_text(" id |  query  | positive \n----+---------+----------\n  1 | q       | d d      \n")
    assert [row.values for row in read_rows(tmp_path / "f.csv")] == [{"id": "1", "query": "q", "positive": "d d"}]


def test_what_qualtrics_writes_below_its_questions_is_no_row(tmp_path):
    ids = ",".join(f'"{{""ImportId"":""QID{n}""}}"' for n in (1, 2))
    (tmp_path / "f.csv").write_text(f"question,answer\nPlease ask,Please answer\n{ids}\nq,d\n")
    with pytest.raises(InputError, match="f.csv, line 3: holds the ids that Qualtrics exports .* take away"):
        list(read_rows(tmp_path / "f.csv"))


def test_a_line_break_behind_a_backslash_is_named(tmp_path):
    """As MySQL writes it, without quotes around the text."""
    (tmp_path / "f.tsv").write_text("query\tpositive\tid\nq\td\\\ne\t1\n")
    with pytest.raises(RowError, match="a line that ends with a backslash goes on in the next: put quotes"):
        list(read_rows(tmp_path / "f.tsv"))


def test_names_of_two_lines_are_said_in_one(tmp_path):
    (tmp_path / "f.csv").write_text('"Query\n(text)","positive"\nq,d\n"Query\n(text)",positive\n')
    assert [row.values for row in read_rows(tmp_path / "f.csv")] == [{"Query (text)": "q", "positive": "d"}]


@pytest.mark.parametrize(
    ("cells", "is_named"),
    [
        (("two lines.\\nThe second", "x"), True),
        ((r"one\ntwo \alpha", r"\N"), True),  # no database writes the second one
        (("one\\ttwo", "x"), False),
        ((r"the \nabla of \theta", "x"), False),
    ],
)
def test_line_breaks_that_are_written_out_are_named(tmp_path, cells, is_named):
    (tmp_path / "f.tsv").write_text("text\tmore\n" + "\t".join(cells) + "\n")
    [row] = read_rows(tmp_path / "f.tsv")
    assert row.values["text"] == cells[0]
    assert (r"with \n or \t written out in cells, which stay as they are" in row.notes) is is_named
