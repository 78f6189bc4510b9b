"""Files of every format give the same rows, and say where they are wrong."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import string

import pyarrow.parquet
import pytest
from helpers import as_jsonl, values_in
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lbr_st.data.delimited import ERRORS, NULLS
from lbr_st.data.records import iterate_passages, read_records
from lbr_st.data.rows import read_rows
from lbr_st.data.sources import check_is_there
from lbr_st.errors import InputError
from lbr_st.records import is_hub_id, is_table

ROWS = [
    {"id": "1", "question": "What is it?", "answer": "It, \"so to say\",\nis\tthis."},
    {"id": "2", "question": "Ümlaut und 中文?", "answer": "ja; 'nein'"},
]  # fmt: skip


SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def as_csv(rows, delimiter=","):
    out = io.StringIO()
    table = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    table.writeheader()
    table.writerows(rows)
    return out.getvalue()


def write_all(folder, rows):
    """Write rows in every format; yield the files."""
    texts = {"a.jsonl": as_jsonl(rows), "a.json": json.dumps(rows), "b.json": json.dumps({"version": 1, "data": rows}),
             "c.json": as_jsonl(rows), "a.csv": as_csv(rows), "a.tsv": as_csv(rows, "\t"),
             "a.inter": as_csv(rows, "\t")}  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())
        yield folder / name
    for suffix, compress in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
        for name in ("a.jsonl", "a.csv"):
            (folder / f"{name}.{suffix}").write_bytes(compress(texts[name].encode()))
            yield folder / f"{name}.{suffix}"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "a.parquet")
    yield folder / "a.parquet"


def test_formats(tmp_path):
    for file in write_all(tmp_path, ROWS):
        assert values_in(file) == ROWS, file.name
        assert is_table(file)


def test_zstandard(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(as_jsonl(ROWS).encode()))
    assert values_in(tmp_path / "a.jsonl.zst") == ROWS


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)


ANY_ROWS = st.lists(st.fixed_dictionaries({"id": TEXT, "question": TEXT, "answer": TEXT}), min_size=2, max_size=4)


@SLOW
@given(rows=ANY_ROWS)
def test_any_rows_in_any_format(tmp_path, rows):
    cells = [cell for row in rows for cell in row.values()]
    assume((NULLS | ERRORS).isdisjoint(cells) and all(any(map(str.strip, row.values())) for row in rows))
    for file in write_all(tmp_path, rows):
        assert values_in(file) == rows, file.name


@SLOW
@given(content=st.one_of(st.binary(max_size=60), st.text(string.printable, max_size=60).map(str.encode)))
@pytest.mark.parametrize("name", ["f.jsonl", "f.json", "f.csv", "f.tsv", "f.parquet", "f.jsonl.gz", "f.csv.xz"])
def test_any_bytes_give_rows_or_an_error_that_names_the_file(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    try:
        assert all(isinstance(row, dict) for row in values_in(tmp_path / name))
    except InputError as error:
        assert name in str(error) and "\n" not in str(error)


LINE = '{"question": "q", "answer": "d"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.jsonl", LINE + '{"question": "q" "answer": "d"}\n', r"f\.jsonl, line 2, column 18: not JSON: Expecting ',' "
         r"delimiter, in '\{\"question\": \"q\" \"answer\": \"d\"\}'"),
        ("f.jsonl", LINE + '{"question": "q", "ans', r"line 2, column 19: not JSON: Unterminated string"),
        ("f.jsonl", '[{"question": "q"}]\n', "line 1: expected a JSON object, .* a file that is one JSON list is"),
        ("f.jsonl", '[\n{"question": "q"}\n]\n', "line 1, .*: not JSON: .*; a file that is one JSON list is named"),
        ("f.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("f.jsonl", LINE + '{"question": "caf\xe9"}', r"line 2, column 18: not UTF-8: byte 0xe9 in"),
        ("f.jsonl", LINE + "\x00\x00\x00", "line 2, column 1: not JSON"),
        ("f.jsonl", LINE + '{"question": ' + "1" * 5000 + "}", "line 2: not JSON: a number of thousands of digits"),
        ("f.json", '[{"question": ' + "1" * 5000 + "}]", r"f\.json: not JSON: a number of thousands of digits; put"),
        ("f.json", '[{"question": "q"},\n {"question" "r"}]', r"f\.json, line 2, column 14: not JSON"),
        ("f.json", '[1]', r"f\.json, item 1: expected a JSON object"),
        ("f.json", '"q"', "expected a JSON list of objects"),
        ("f.csv", "question,answer\nq,d\nq\n", r"f\.csv, line 3: 1 field where the header has 2, in 'q'"),
        ("f.csv", "question,answer\nq,d,e\n", "line 2: 3 fields where the header has 2, in 'q,d,e'; a text with ',' in "
         "it stands in quotes"),
        ("f.tsv", "question\tanswer\nq\td\te\n", "line 2: 3 fields where .*; a text with a tab in it stands in quotes"),
        ("f.csv", "# of 2024\nquestion,answer\n", "line 2: names the columns; take away what stands above it"),
        ("f.csv", 'question,answer\n"a \\"b\\" c",d\n', r"line 2: not CSV: .*; its quotes are written .*escapechar="),
        ("f.csv", 'question,answer\n"q"x,d\n', "line 2: not CSV: .* in '\"q\"x,d'; a text with quotes in it stands in"),
        ("f.csv", 'question,answer\n"q,d\nr,e\n', "line 2: not CSV: a quote is opened and never closed"),
        (
            "f.csv",
            "question,question\nq,d\n",
            "line 1: the first line must name each column once, found several times: question; give each a name",
        ),
        ("f.csv", "question,\nq,d\n", "line 2: column 2 has no name in the first line, and holds 'd'; write "
         "'question,column_2' as the first line"),
        ("f.csv", ",answer\nq,d\n", "line 2: column 1 has no name in the first line, and holds 'q'; write 'id,answer'"),
        ("f.csv", "question,answer,\nq\n", "line 2: 1 field where the header has 3, in 'q'"),
        ("f.csv", ",,\nq,d,e\n", "line 1: the first line must name each column, found"),
        ("f.csv", "question,answer\nq,caf\xe9\n", "line 2, column 6: not UTF-8: byte 0xe9"),
        ("f.parquet", "PAR1 no", r"f\.parquet: not a Parquet file"),
        ("f.jsonl.gz", "\x1f\x8b no gzip", r"f\.jsonl\.gz: cannot be read to its end"),
        ("f.jsonl", "\xff\xfeq", "after line 0: not utf-8: .*utf-16.* truncated data"),
    ],
)  # fmt: skip
def test_what_is_wrong_and_where(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message) as error:
        values_in(tmp_path / name)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_reading_goes_on_after_rows_that_are_skipped(tmp_path):
    (tmp_path / "f.jsonl").write_bytes(b'{"a": 1}\nno\n{"a": "\xe9"}\n[]\n{"a": 2}\n')
    errors = []
    assert values_in(tmp_path / "f.jsonl", wrong=errors.append) == [{"a": 1}, {"a": 2}]
    assert [error.reason for error in errors] == ["not JSON", "wrong encoding", "no object"]
    (tmp_path / "f.csv").write_text('a,b\n1,2\n3\n"4"x,5\n6,7\n')
    errors.clear()
    assert values_in(tmp_path / "f.csv", wrong=errors.append) == [{"a": "1", "b": "2"}, {"a": "6", "b": "7"}]
    assert [error.reason for error in errors] == ["not as many fields as the header", "not CSV"]


def test_line_numbers(tmp_path):
    (tmp_path / "f.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}\r\n')
    assert [(row.number, row.values) for row in read_rows(tmp_path / "f.jsonl")] == [(1, {"a": 1}), (3, {"a": 2})]
    (tmp_path / "f.csv").write_bytes(b'\xef\xbb\xbfa,b\r\n"1\r\n1",2\r\n\r\n3,4\r\n')
    rows = list(read_rows(tmp_path / "f.csv"))
    assert [row.number for row in rows] == [2, 5]
    assert rows[0].values == {"a": "1\r\n1", "b": "2"} and rows[0].where.endswith("f.csv, line 2")


def test_nul_and_a_very_long_line(tmp_path):
    long = "x" * 3_000_000
    (tmp_path / "f.jsonl").write_text(f'{{"a": "nul\x00here"}}\n{{"a": "{long}"}}\n{{"a": "{long}\n', encoding="utf-8")
    errors = []
    assert values_in(tmp_path / "f.jsonl", wrong=errors.append) == [{"a": "nul\x00here"}, {"a": long}]
    assert len(str(errors[0])) < 300
    (tmp_path / "f.csv").write_text(f"a,b\n{long},1\n")
    assert values_in(tmp_path / "f.csv") == [{"a": long, "b": "1"}]


def test_a_file_that_ends_too_early(tmp_path):
    whole = gzip.compress(as_jsonl([{"n": n} for n in range(5000)]).encode())
    (tmp_path / "f.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    seen = []
    with pytest.raises(InputError, match="f.jsonl.gz: cannot be read to its end"):
        seen.extend(read_rows(tmp_path / "f.jsonl.gz"))


def test_a_file_that_vanishes(tmp_path):
    (tmp_path / "f.jsonl").write_text('{"a": 1}\n')
    rows = read_rows(tmp_path / "f.jsonl")
    (tmp_path / "f.jsonl").unlink()
    with pytest.raises(InputError, match="f.jsonl: no such file"):
        next(rows)
    with pytest.raises(InputError, match="is a folder"):
        next(read_rows(tmp_path))


def test_what_is_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("")
    assert is_hub_id("owner/name") and is_hub_id("owner/name:split") and is_hub_id("owner/name:config:split")
    assert not is_hub_id("a/b") and not is_hub_id("a/c.jsonl") and not is_hub_id("name") and not is_hub_id("/a/b")
    with pytest.raises(InputError, match="owner/name: no such file, and no dataset of the Hub that can be read"):
        list(read_rows("owner/name"))


def test_text_where_rows_are_needed_is_named_with_what_reads_it(tmp_path, monkeypatch):
    """A file of text, and a folder whose name could be one of the Hub."""
    (tmp_path / "texts" / "guide").mkdir(parents=True)
    (tmp_path / "texts" / "guide" / "a.md").write_text("# A\n\nText.")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="texts/guide/a.md: is text, rows are needed; lbr data prepare texts/guide/a"):
        values_in("texts/guide/a.md")
    with pytest.raises(
        InputError, match="texts/guide: is a folder that the package datasets does not .*; lbr data prepare texts/gui"
    ):
        values_in("texts/guide")


KINDS = [
    ("f.jsonl", gzip.compress(b"{}", mtime=0), "is gzip; name it f.jsonl.gz"),
    ("f.csv", bz2.compress(b"a,b"), "is bzip2; name it f.csv.bz2"),
    ("f.json", lzma.compress(b"[]"), "is xz; name it f.json.xz"),
    ("f.jsonl.gz", b'{"a": 1}', "is no gzip, as its name says; name it f.jsonl"),
    ("f.jsonl.zst", gzip.compress(b"{}", mtime=0), "is no Zstandard, as its name says; name it f.jsonl.gz"),
    ("f.jsonl", b"PAR1....", "is Parquet; name it .parquet"),
    ("f.csv", b"PK\x03\x04 xl/workbook.xml", "is a ZIP file, or one of Excel; unpack it, or save the table as CSV"),
    ("f.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", "is a file of Excel or Word; save it as CSV in UTF-8"),
    ("f.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a pointer of Git LFS, not the file"),
    ("f.jsonl", b"\n<!DOCTYPE html>\n<html>", "is a web page, not the file itself; download it again"),
    ("f.txt", gzip.compress(b"a text", mtime=0), "is gzip; name it f.txt.gz"),
    ("f.txt", b"%PDF-1.7", "is a PDF; take the text out of it first"),
]


@pytest.mark.parametrize(("name", "content", "message"), KINDS, ids=[f"{name} {why[:20]}" for name, _, why in KINDS])
def test_a_file_of_another_kind_than_its_name_says(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path / name))}: {re.escape(message)}"):
        if name.endswith(".txt"):
            list(iterate_passages(tmp_path / name))
        else:
            check_is_there(tmp_path / name)  # before another file is read


def test_a_page_is_a_text(tmp_path):
    (tmp_path / "f.html").write_text("<!DOCTYPE html><html><body><p>words</p></body></html>")
    assert [each["document"] for each in iterate_passages(tmp_path / "f.html")] == ["words"]


def test_no_number_is_no_text(tmp_path):
    (tmp_path / "f.jsonl").write_text('{"question": "q", "answer": NaN}\n')
    with pytest.raises(InputError, match="line 1, column 'answer': expected text, found null"):
        read_records(tmp_path / "f.jsonl")


@pytest.mark.parametrize("name", ["f.txt", "f.parquet", "f.csv", "f.jsonl", "f.json"])
def test_a_pointer_of_lfs_is_named_whatever_is_skipped(name, tmp_path):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 5\n")
    skipped = []
    with pytest.raises(InputError, match=f"{name}: is a pointer of Git LFS, not the file itself; git lfs pull gets it"):
        list(iterate_passages(tmp_path / name, wrong=skipped.append))


def test_a_table_of_anki_is_named(tmp_path):
    (tmp_path / "f.txt").write_text("#separator:tab\n#html:true\nq\ta\n")
    with pytest.raises(InputError, match="f.txt: is a table of Anki: .* name it .tsv"):
        list(iterate_passages(tmp_path / "f.txt"))
