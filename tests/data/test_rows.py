"""Files of every format give the same rows, and say where they are wrong."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import string

import pyarrow
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, Features, List
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lbr_st.data.delimited import ERRORS, NULLS
from lbr_st.data.parts import Reading, parts_of
from lbr_st.data.records import iterate_passages, read_records
from lbr_st.data.rows import FORMULAS, check_is_there, hub_rows, read_rows
from lbr_st.errors import InputError
from lbr_st.records import is_hub_id, is_table

ROWS = [
    {"id": "1", "question": "What is it?", "answer": "It, \"so to say\",\nis\tthis."},
    {"id": "2", "question": "Ümlaut und 中文?", "answer": "ja; 'nein'"},
]  # fmt: skip
SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def as_jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_csv(rows, delimiter=","):
    out = io.StringIO()
    table = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    table.writeheader()
    table.writerows(rows)
    return out.getvalue()


def values(path, **kwargs):
    return [row.values for row in read_rows(path, **kwargs)]


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
        assert values(file) == ROWS, file.name
        assert is_table(file)


def test_zstandard(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(as_jsonl(ROWS).encode()))
    assert values(tmp_path / "a.jsonl.zst") == ROWS


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
ANY_ROWS = st.lists(st.fixed_dictionaries({"id": TEXT, "question": TEXT, "answer": TEXT}), min_size=2, max_size=4)


@SLOW
@given(rows=ANY_ROWS)
def test_any_rows_in_any_format(tmp_path, rows):
    cells = [cell for row in rows for cell in row.values()]
    assume((NULLS | ERRORS).isdisjoint(cells) and all(any(map(str.strip, row.values())) for row in rows))
    for file in write_all(tmp_path, rows):
        assert values(file) == rows, file.name


@SLOW
@given(content=st.one_of(st.binary(max_size=60), st.text(string.printable, max_size=60).map(str.encode)))
@pytest.mark.parametrize("name", ["f.jsonl", "f.json", "f.csv", "f.tsv", "f.parquet", "f.jsonl.gz", "f.csv.xz"])
def test_any_bytes_give_rows_or_an_error_that_names_the_file(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    try:
        assert all(isinstance(row, dict) for row in values(tmp_path / name))
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
        values(tmp_path / name)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_reading_goes_on_after_rows_that_are_skipped(tmp_path):
    (tmp_path / "f.jsonl").write_bytes(b'{"a": 1}\nno\n{"a": "\xe9"}\n[]\n{"a": 2}\n')
    errors = []
    assert values(tmp_path / "f.jsonl", wrong=errors.append) == [{"a": 1}, {"a": 2}]
    assert [error.reason for error in errors] == ["not JSON", "wrong encoding", "no object"]
    (tmp_path / "f.csv").write_text('a,b\n1,2\n3\n"4"x,5\n6,7\n')
    errors.clear()
    assert values(tmp_path / "f.csv", wrong=errors.append) == [{"a": "1", "b": "2"}, {"a": "6", "b": "7"}]
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
    assert values(tmp_path / "f.jsonl", wrong=errors.append) == [{"a": "nul\x00here"}, {"a": long}]
    assert len(str(errors[0])) < 300
    (tmp_path / "f.csv").write_text(f"a,b\n{long},1\n")
    assert values(tmp_path / "f.csv") == [{"a": long, "b": "1"}]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "cp1252", "utf-8-sig"])
def test_other_encodings(tmp_path, encoding):
    (tmp_path / "f.jsonl").write_bytes('{"a": "café"}\n'.encode(encoding))
    assert values(tmp_path / "f.jsonl", encoding=encoding) == [{"a": "café"}]


def test_encodings_that_are_wrong(tmp_path):
    (tmp_path / "f.jsonl").write_bytes(b'{"a": "b"}\n\xff')
    with pytest.raises(InputError, match="Python knows no such encoding"):
        values(tmp_path / "f.jsonl", encoding="utf-88")
    for name in ("base64", "utf\x008", ""):
        with pytest.raises(InputError, match="Python knows no such encoding"):
            values(tmp_path / "f.jsonl", encoding=name)
    (tmp_path / "f.json").write_text('[{"a": "b"}]')
    with pytest.raises(InputError, match="f.json: not utf-16"):
        values(tmp_path / "f.json", encoding="utf-16")
    with pytest.raises(InputError, match="f.jsonl, after line 0: not utf-16"):
        values(tmp_path / "f.jsonl", encoding="utf-16")


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


def test_rows_of_a_dataset_repository(tmp_path):
    """A local folder goes the way of a Hub id through `datasets`."""
    Dataset.from_list([{"question": "q", "answer": "d"}]).to_parquet(tmp_path / "validation-00000-of-00001.parquet")
    row = next(hub_rows(str(tmp_path), None, "validation"))
    assert row.values == {"question": "q", "answer": "d"} and row.number == 1
    with pytest.raises(InputError, match="is a folder that the package datasets does not read as rows .*split"):
        next(hub_rows(str(tmp_path), None, "test"))


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
    assert values(tmp_path / "f.csv") == rows
    (tmp_path / "f.tsv").write_text(text.replace(",", "\t"))
    assert values(tmp_path / "f.tsv") == rows


def test_rows_that_hold_what_has_no_name_are_skipped_one_by_one(tmp_path):
    (tmp_path / "f.csv").write_text("a,b,\nx,y,\nx,y,z\nv,w,\n")
    errors = []
    assert values(tmp_path / "f.csv", wrong=errors.append) == [{"a": "x", "b": "y"}, {"a": "v", "b": "w"}]
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


LISTS = [
    (["q", "d"], {"anchor": "q", "positive": "d"}),
    (["q", "d", "n", "m"], {"anchor": "q", "positive": "d", "negative_1": "n", "negative_2": "m"}),
    (["q", ["d", "e"]], {"anchor": "q", "positive": ["d", "e"]}),
    (["q", "d", 0.5], {"anchor": "q", "positive": "d", "score": 0.5}),
    ([7, "q", "d"], {"id": 7, "anchor": "q", "positive": "d"}),
    (["d"], {"text": "d"}),
]


@pytest.mark.parametrize("name", ["f.jsonl", "g.json", "h.json"])
def test_lists_of_texts_are_pairs_and_triplets(tmp_path, name):
    """As sentence-transformers publishes them: a line each, or one list of all, whatever the file is called."""
    lists = [row for row, _ in LISTS]
    text = json.dumps(lists) if name == "h.json" else "".join(json.dumps(row) + "\n" for row in lists)
    (tmp_path / name).write_text(text)
    assert values(tmp_path / name) == [expected for _, expected in LISTS]


@pytest.mark.parametrize("name", ["f.jsonl", "h.json"])
def test_a_first_list_may_name_the_columns(tmp_path, name):
    lists = [["id", "question", "answer"], ["1", "q", "d"], ["2", "r"], ["3", "s", "e"]]
    (tmp_path / name).write_text(json.dumps(lists) if name == "h.json" else "\n".join(map(json.dumps, lists)))
    errors = []
    assert values(tmp_path / name, wrong=errors.append) == [
        {"id": "1", "question": "q", "answer": "d"}, {"id": "3", "question": "s", "answer": "e"},
    ]  # fmt: skip
    assert [error.reason for error in errors] == ["no object"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("name", "text"), [("f.jsonl", as_jsonl(ROWS)), ("f.csv", as_csv(ROWS)), ("f.json", json.dumps(ROWS))]
)
def test_utf_16_is_known_by_its_mark_or_its_zeros(tmp_path, encoding, name, text):
    """What Excel saves as Unicode; the first letters of a table are ASCII."""
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert values(tmp_path / name) == ROWS


def test_what_cannot_be_unpacked(tmp_path):
    """Only a file that needs a package is told to install it."""
    (tmp_path / "f.jsonl.gz").write_bytes(b"\xff\xfeno gzip")
    with pytest.raises(InputError) as error:
        values(tmp_path / "f.jsonl.gz")
    assert "zstandard" not in str(error.value)


def test_a_folder_is_named_with_what_reads_it(tmp_path):
    with pytest.raises(InputError, match=f"is a folder, a file is needed; lbr data prepare {tmp_path} --output-dir"):
        values(tmp_path)


def test_text_where_rows_are_needed_is_named_with_what_reads_it(tmp_path, monkeypatch):
    """A file of text, and a folder whose name could be one of the Hub."""
    (tmp_path / "texts" / "guide").mkdir(parents=True)
    (tmp_path / "texts" / "guide" / "a.md").write_text("# A\n\nText.")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="texts/guide/a.md: is text, rows are needed; lbr data prepare texts/guide/a"):
        values("texts/guide/a.md")
    with pytest.raises(
        InputError, match="texts/guide: is a folder that the package datasets does not .*; lbr data prepare texts/gui"
    ):
        values("texts/guide")


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


ENCODINGS = {
    "Windows": ("a patient\u2019s caf\xe9 \u2013 so", "cp1252", "--encoding cp1252 (or what it is) reads it"),
    "Latin-1": ("a caf\xe9", "latin-1", "--encoding cp1252 (or what it is) reads it"),
    "Cyrillic": ("\u043f\u0440\u0438\u0432\u0435\u0442", "cp1251", "--encoding with its name (cp1251, gb18030, "),
    "Chinese": ("\u963f\u53f8\u5339\u6797\u662f\u836f", "gb18030", "--encoding with its name (cp1251, gb18030, "),
    "Japanese": ("\u85ac\u306e\u52b9\u679c", "shift_jis", "--encoding with its name (cp1251, gb18030, shift_jis"),
}


@pytest.mark.parametrize("row", ENCODINGS.values(), ids=ENCODINGS)
def test_an_encoding_is_proposed_that_reads_the_text(tmp_path, row):
    text, encoding, remedy = row
    (tmp_path / "f.csv").write_bytes(f"question,answer\nq,{text}\n".encode(encoding))
    with pytest.raises(InputError) as error:
        list(read_rows(tmp_path / "f.csv"))
    assert remedy in str(error.value) and "latin-1" not in str(error.value)
    if "cp1252" in remedy.partition("(")[0]:
        assert [each.values["answer"] for each in read_rows(tmp_path / "f.csv", "cp1252")] == [text]


def test_a_character_in_two_halves_is_no_other_encoding(tmp_path):
    """CESU-8, as MySQL and Oracle export it."""
    (tmp_path / "f.csv").write_bytes(b"question,answer\nq,a \xed\xa0\xbd\xed\xb8\x80\n")
    with pytest.raises(InputError, match=r"two halves \(CESU-8, .*: export it as utf8mb4 or AL32UTF8$"):
        list(read_rows(tmp_path / "f.csv"))


@pytest.mark.parametrize("encoding", ["latin-1", "ISO-8859-1", "iso8859-15"])
def test_latin_1_has_no_quotes_of_windows(tmp_path, encoding):
    """They would be control characters, and cleaned away."""
    (tmp_path / "f.jsonl").write_bytes(b'{"question": "a patient\x92s", "answer": "b"}\n')
    with pytest.raises(InputError, match=r"column 24: no letter of .*: byte 0x92 in .* --encoding cp1252"):
        list(read_rows(tmp_path / "f.jsonl", encoding))
    (tmp_path / "f.jsonl").write_bytes(b'{"question": "caf\xe9", "answer": "b"}\n')
    assert next(read_rows(tmp_path / "f.jsonl", encoding)).values["question"] == "caf\xe9"


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ('{\n  "question": "q",\n  "answer": "a"\n}\n', "; an object is to be on one line: jq -c . FILE writes it so"),
        ('{"question": "q",\n "answer": "a"}\n', "; an object is to be on one line: jq -c . FILE writes it so"),
        ('[\n{"question": "q", "answer": "a"}\n]\n', "; a file that is one JSON list is named .json"),
        ('{"question": "q" "answer": "a"}\n', "'"),
    ],
)
def test_objects_over_several_lines(tmp_path, content, hint):
    (tmp_path / "f.jsonl").write_text(content)
    with pytest.raises(InputError, match="line 1, column .*: not JSON") as error:
        list(read_rows(tmp_path / "f.jsonl"))
    assert str(error.value).endswith(hint)


def test_no_number_is_no_text(tmp_path):
    (tmp_path / "f.jsonl").write_text('{"question": "q", "answer": NaN}\n')
    with pytest.raises(InputError, match="line 1, column 'answer': the text is empty"):
        read_records(tmp_path / "f.jsonl")


def test_a_pipe_is_no_file(tmp_path):
    """A source is read more than once."""
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    for source in (tmp_path / "pipe", "-"):
        for read in (lambda it: list(read_rows(it)), check_is_there, lambda it: parts_of(str(it), Reading())):
            with pytest.raises(InputError, match="a pipe or a device is not read.*; write it to a file"):
                read(source)
    with pytest.raises(InputError, match="link: is a link that leads nowhere"):
        check_is_there(tmp_path / "link")


TWICE = [
    '{"query": "q", "positive": "d", "positive": "e"}',
    '{"query": "q", "positive": "d", "query": "r"}',
    '{"query": "q", "positive": {"text": "d", "text": "e"}}',
    '{"query": "q", "pos": ["d"], "neg": [{"text": "m"}, {"text": "n", "text": "o"}]}',
    '{"query": "q", "positive": "d", "label": 1, "label": 0}',
]


@pytest.mark.parametrize("line", TWICE)
@pytest.mark.parametrize("name", ["f.jsonl", "f.json"])
def test_a_key_that_is_twice_in_an_object_is_refused(tmp_path, line, name):
    (tmp_path / name).write_text(line if name == "f.jsonl" else f"[{line}]")
    with pytest.raises(InputError, match=f"{name}.*: the key '(query|positive|text|label)' is there twice"):
        list(read_rows(tmp_path / name))


def test_a_key_that_is_twice_with_the_same_value_loses_nothing(tmp_path):
    (tmp_path / "f.jsonl").write_text('{"query": "q", "positive": "d", "positive": "d"}')
    assert [row.values for row in read_rows(tmp_path / "f.jsonl")] == [{"query": "q", "positive": "d"}]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp1251", "koi8-r", "mac-roman", "gb18030", "shift_jis"])
def test_a_file_in_utf8_is_read_so_in_any_encoding(tmp_path, caplog, encoding):
    (tmp_path / "f.jsonl").write_bytes('{"text": "für – 锌"}\n'.encode())
    assert values(tmp_path / "f.jsonl", encoding=encoding) == [{"text": "für – 锌"}]
    assert f"f.jsonl: in UTF-8 and read so, not as {encoding}" in caplog.text
    (tmp_path / "g.csv").write_bytes("text\nZn\n".encode(encoding))
    assert values(tmp_path / "g.csv", encoding=encoding) == [{"text": "Zn"}]


def test_a_line_in_utf8_among_others_is_refused(tmp_path):
    (tmp_path / "f.jsonl").write_bytes('{"text": "für"}\n'.encode("cp1252") + '{"text": "für"}\n'.encode())
    with pytest.raises(InputError, match=r"f.jsonl, line 2: is UTF-8, not CP1252: '\{\"text\": \"für\"\}'"):
        values(tmp_path / "f.jsonl", encoding="cp1252")


def test_texts_in_parquet_that_are_bytes(tmp_path):
    """Spark and Impala write them so; a picture stays what it is."""
    table = {"text": ["für".encode(), None], "image": [b"\xff\xd8", b"\x89"]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "f.parquet")
    assert values(tmp_path / "f.parquet") == [
        {"text": "für", "image": b"\xff\xd8"},
        {"text": None, "image": b"\x89"},
    ]


def test_commas_after_lines_of_json(tmp_path):
    (tmp_path / "f.jsonl").write_text('{"text": "a"},\n{"text": "b"},\n')
    with pytest.raises(InputError, match="in '.*'; a line of JSON Lines ends without a comma"):
        values(tmp_path / "f.jsonl")


@pytest.mark.parametrize(
    ("meant", "numbers", "read"),
    [
        (["entailment", "not_entailment"], [0, 1, -1], ["entailment", "not_entailment", None]),
        (["neg", "pos"], [1, 0, None], ["pos", "neg", None]),
        (["World", "Sports"], [0, 1, 1], ["World", "Sports", "Sports"]),
        (["a", "b"], [0, 1, 1], [0, 1, 1]),  # options
        (["choice1", "choice2"], [0, 1, 1], [0, 1, 1]),
        (["0", "1"], [0, 1, 1], [0, 1, 1]),
    ],
)
def test_what_numbers_of_classes_mean(tmp_path, meant, numbers, read):
    """To GLUE 0 is entailment: it would be read as no answer."""
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": numbers})
    rows = rows.cast_column("label", ClassLabel(names=meant))
    rows.to_parquet(str(tmp_path / "train.parquet"))
    assert [row["label"] for row in values(tmp_path / "train.parquet")] == read
    assert [row.values["label"] for row in hub_rows(str(tmp_path), None, "train")] == read


def test_what_numbers_of_classes_in_a_list_mean(tmp_path):
    rows = Dataset.from_dict({"labels": [[0, 1], []]}, Features({"labels": List(ClassLabel(names=["good", "bad"]))}))
    rows.to_parquet(str(tmp_path / "train.parquet"))
    assert [row["labels"] for row in values(tmp_path / "train.parquet")] == [["good", "bad"], []]


@pytest.mark.parametrize(
    ("name", "text", "is_python"),
    [
        ("f.jsonl", "{'question': 'q', 'answer': None}\n", True),
        ("f.jsonl", """{"question": "it's", 'answer': 'd'}\n""", True),
        ("f.json", "{'question': 'q', 'answer': 'd'}\n{'question': 'r', 'answer': 'e'}\n", True),
        ("f.json", "[{'question': 'q',\n  'answer': 'd'}]\n", True),
        ("f.json", "[\n  {'question': 'q', 'answer': 'd'}\n]\n", True),
        ("f.jsonl", "{'question': 'q', 'answer': null}\n", False),
        ("f.jsonl", '{"question": "q", "answer": "d"} {"question": "r"}\n', False),
        ("f.jsonl", '{"question": "q"; "answer": "d"}\n', False),
    ],
)
def test_what_python_wrote_is_named(tmp_path, name, text, is_python):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="not JSON") as error:
        values(tmp_path / name)
    assert ("it is in Python's notation: json.dumps(ast.literal_eval(" in str(error.value)) is is_python


def test_a_formula_that_is_a_text_alone_is_that_text(tmp_path):
    (tmp_path / "f.csv").write_text('id,answer\n"=""0012""",x\n="0013","=""a ""b"""\n14,"=""c"" & A1"\n')
    rows = list(read_rows(tmp_path / "f.csv"))
    assert [tuple(row.values.values()) for row in rows] == [("0012", "x"), ("0013", '="a "b"'), ("14", '="c" & A1')]
    assert [row.notes for row in rows] == [(FORMULAS,), (FORMULAS,), ()]


def test_a_parquet_file_whose_texts_are_no_utf_8(tmp_path):
    raw = pyarrow.array([b"\xac\xff"], pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 1, raw.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"query": text}), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match="rows.parquet: not a Parquet file that can be read"):
        list(read_rows(tmp_path / "rows.parquet"))


def test_a_file_whose_name_says_nothing_is_told_how_to_be_named(tmp_path):
    (tmp_path / "wiki_00").write_text('<doc id="1">\n')
    with pytest.raises(
        InputError, match=r"in '<doc id=\"1\">'; a file is read by what its name says, .* name text .txt"
    ):
        values(tmp_path / "wiki_00")
    (tmp_path / "f.jsonl").write_text("<doc>\n")
    with pytest.raises(InputError, match="in '<doc>'$"):
        values(tmp_path / "f.jsonl")


@pytest.mark.parametrize("gone", ["[deleted]", "[removed]", " [Removed by Reddit] ", "[ Removed by moderator ]"])
def test_a_text_that_is_gone_is_empty_and_counted(gone, tmp_path):
    (tmp_path / "f.jsonl").write_text(json.dumps({"question": "q", "answer": gone, "negatives": ["a", gone]}))
    [row] = read_rows(tmp_path / "f.jsonl")
    assert row.values == {"question": "q", "answer": "", "negatives": ["a", ""]}
    assert row.notes == ("with cells of [deleted], [removed] or the like alone, which are empty",)
    with pytest.raises(InputError, match=r"the text is empty: a cell of \[deleted\], \[removed\] or the like alone is"):
        read_records(tmp_path / "f.jsonl")
    (tmp_path / "f.jsonl").write_text(json.dumps({"question": "q", "answer": f"They wrote {gone} there."}))
    assert next(read_rows(tmp_path / "f.jsonl")).notes == ()


def test_a_list_of_texts(tmp_path):
    (tmp_path / "f.json").write_text('["one text", "another"]')
    assert values(tmp_path / "f.json") == [{"text": "one text"}, {"text": "another"}]


def test_what_excel_writes_for_line_breaks_is_read_as_such(tmp_path):
    (tmp_path / "f.csv").write_text('q,a\nx,"one_x000D_\ntwo_x000a__x0009_three_x0007_"\nvar_x00,snake_x000d\n')
    rows = list(read_rows(tmp_path / "f.csv"))
    assert [row.values["a"] for row in rows] == ["one\ntwo\n\tthree", "snake_x000d"]
    assert [row.notes for row in rows] == [
        ("with _x000D_ or the like, as Excel writes a line break, read as what it stands for",), ()
    ]  # fmt: skip


def test_nan_in_json_is_counted(tmp_path):
    (tmp_path / "f.jsonl").write_text(
        '{"query": "q", "positive": "d", "negative": NaN}\n{"query": "r", "positive": "e"}'
    )
    assert [row.notes for row in read_rows(tmp_path / "f.jsonl")] == [("with NaN, which is empty",), ()]


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


def test_a_suffix_that_is_not_read_is_named(tmp_path):
    (tmp_path / "f.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nA parasite.\n")
    with pytest.raises(InputError, match="f.srt, line 1: .*; files that end in .srt are not read: name text .txt"):
        list(read_rows(tmp_path / "f.srt"))


@pytest.mark.parametrize("name", ["f.json", "f.jsonl", "f.ndjson"])
def test_a_table_by_its_columns_on_one_line(name, tmp_path):
    table = {"question": ["what is a", "what is b"], "answer": ["a is one", "b is two"]}
    (tmp_path / name).write_text(json.dumps(table) + "\n")
    assert [row.values for row in read_rows(tmp_path / name)] == [
        {"question": "what is a", "answer": "a is one"},
        {"question": "what is b", "answer": "b is two"},
    ]


def test_a_folder_that_is_no_dataset_is_said_to_be_one(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("A text.")
    with pytest.raises(
        InputError, match="notes: is a folder that the package datasets does not read as rows; lbr data p"
    ):
        next(hub_rows(str(tmp_path / "notes"), None, "train"))


def test_several_files_in_one_name(tmp_path, monkeypatch):
    """Joined by a comma, or as a pattern that no shell has seen."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text("{}")
    for source in ("a.jsonl,b.jsonl", "*.jsonl", "[ab].jsonl"):
        with pytest.raises(InputError) as error:
            check_is_there(source)
        assert str(error.value) == (
            f"{source}: names several files, and one is read; lbr data prepare a.jsonl b.jsonl --output-dir SET makes "
            "one set of them, which is one source"
        )
    for source in ("a.jsonl,c.jsonl", "*.csv"):
        with pytest.raises(InputError, match="no such file$"):
            check_is_there(source)
