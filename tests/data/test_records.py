"""Reading files: what is found, and what is said of files that cannot be used."""

import gzip
import json
import subprocess
import sys

import pytest

from lbr_st.data.records import read_passages, read_records, read_texts, read_tuples
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl


@pytest.mark.parametrize(
    ("query", "document"),
    [("question", "answer"), ("query", "document"), ("anchor", "positive"), ("query", "passage"), ("query", "text")],
)
def test_usual_column_names(tmp_path, query, document):
    write_jsonl(tmp_path / "f.jsonl", [{"id": 7, query: "q", document: "d"}, {query: "r", document: "e"}])
    assert read_records(tmp_path / "f.jsonl") == [
        {"id": "7", "query": "q", "document": "d"},
        {"id": "2", "query": "r", "document": "e"},
    ]


def test_ids_that_come_again_get_their_line(tmp_path):
    write_jsonl(tmp_path / "f.jsonl", [{"id": "a", "text": "1"}, {"id": "a", "text": "2"}])
    assert [r["id"] for r in read_records(tmp_path / "f.jsonl", ["document"])] == ["a", "a#2"]


def test_bom_crlf_and_blank_lines(tmp_path):
    (tmp_path / "f.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n\r\n{"text": "two\xc3\xa9"}\r\n')
    assert [r["document"] for r in read_records(tmp_path / "f.jsonl", ["document"])] == ["one", "twoé"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"question": "a", "answer": "b"}\n{"question": "a" "answer"}\n', r"f\.jsonl, line 2, column 18: not JSON"),
        (b'{"question": "a", "reply": "b"}\n', "no column for the document; found: question, reply; looked for: docu"),
        (
            b'{"question": "a", "answer": "b"}\n{"question": "a"}\n',
            "line 2: no column for the document; found: question; looked for",
        ),
        (b'{"question": "a", "answer": "b"}\n{"question": " ", "answer": "b"}', "line 2, column 'question': the text"),
        (b'{"question": "a", "answer": null}\n', "line 1, column 'answer': expected text, found null"),
        (b'{"question": "a", "answer": 5}\n', "line 1, column 'answer': expected text, found 5"),
        (b'["a", "b"]\n', "line 1: expected a JSON object"),
        (b"", "no records"),
        (b'{"question": "a", "answer": "\xff"}\n', "not UTF-8"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "f.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_records(tmp_path / "f.jsonl")
    assert "\n" not in str(error.value)


def test_paths_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_records(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="is a folder"):
        read_records(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        read_texts([tmp_path / "absent"])
    with pytest.raises(InputError, match="no text in files that end in"):
        read_passages(tmp_path)


def test_texts_of_files_and_folders(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.md").write_text("alpha")
    (folder / "b.bin").write_text("ignored")
    write_jsonl(folder / "c.jsonl", [{"question": "q", "answer": "d", "source": "ignored"}])
    (tmp_path / "d.txt").write_text("delta")
    assert read_texts([folder, tmp_path / "d.txt"]) == ["alpha", "q\nd", "delta"]


def test_passages_of_a_folder_lead_back_to_their_lines(tmp_path):
    paragraphs = [f"paragraph {n}\n" + " ".join(["word"] * 150) for n in range(6)]
    text = "\n\n".join(paragraphs)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.md").write_text(text)
    passages = read_passages(tmp_path)
    assert len(passages) > 1
    lines = text.split("\n")
    for passage in passages:
        file, line = passage["id"].rsplit(":", 1)
        assert file == "sub/a.md"
        first = passage["document"].split("\n")
        assert lines[int(line) - 1 :][: len(first)] == first
    assert "\n\n".join(p["document"].strip("\n") for p in passages) == text


def test_nothing_half_written_is_taken_for_finished(tmp_path):
    def rows():
        yield {"text": "one"}
        raise OSError("disk full")

    write_jsonl(tmp_path / "f.jsonl", [{"text": "old"}])
    with pytest.raises(OSError, match="disk full"):
        write_jsonl(tmp_path / "f.jsonl", rows())
    assert json.loads((tmp_path / "f.jsonl").read_text()) == {"text": "old"}


def test_tuples(tmp_path):
    """Hard negatives under all their names, in the order of their numbers; null is none."""
    rows = [
        {"Query": "q", "positive": "d", "negative_10": "c", "negative_2": "b", "negative": "a", "note": "x"},
        {"Query": "r", "positive": "e", "negatives": ["f", "g"], "negative_2": None},
        {"Query": "s", "positive": "h"},
    ]
    write_jsonl(tmp_path / "tuples.jsonl", rows)
    records = read_tuples(tmp_path / "tuples.jsonl")
    assert [record["negatives"] for record in records] == [["a", "b", "c"], ["f", "g"], []]
    assert records[0] == {"id": "1", "query": "q", "document": "d", "negatives": ["a", "b", "c"]}
    for value, message in (
        (3, "expected text, found 3"),
        (["a", " "], "the text is empty"),
        ({"a": 1}, "expected text"),
    ):
        write_jsonl(tmp_path / "bad.jsonl", [rows[0], {**rows[0], "negative": value}])
        with pytest.raises(InputError, match=f"bad.jsonl, line 2, column 'negative': {message}"):
            read_tuples(tmp_path / "bad.jsonl")


BASE = """
import sys
from lbr_st.errors import EXTRAS, InputError
sys.modules.update(dict.fromkeys(EXTRAS))
from lbr_st.data.prepared_set import PreparedSet, file_of, mteb_tasks_of, refuse_overlaps
from lbr_st.data.records import read_passages, read_records, read_texts, read_tuples
folder = sys.argv[1]
for name in ("f.jsonl", "f.csv", "f.tsv.gz"):
    [record] = read_tuples(f"{folder}/{name}")
    assert read_passages(f"{folder}/{name}") and read_texts([f"{folder}/{name}"]), name
    assert mteb_tasks_of([f"{folder}/{name}"], [record]) == []
refuse_overlaps([(f"{folder}/f.jsonl", [record])], [("other", [{"id": "1", "query": "r", "document": "e"}])], False)
assert PreparedSet.open(folder).file("align") == file_of(folder, "align")
for source in (f"{folder}/f.parquet", "owner/name", f"{folder}/text"):
    try:
        read_passages(source)
    except InputError as error:
        print(error)
"""


def test_the_base_install_reads_plain_files(tmp_path):
    """What a model is used with needs no extra; what does, names the extra."""
    write_jsonl(tmp_path / "f.jsonl", [{"question": "q <b>?</b>", "answer": "d"}])
    (tmp_path / "f.csv").write_text("question,answer\nq,d\n")
    with gzip.open(tmp_path / "f.tsv.gz", "wt") as file:
        file.write("question\tanswer\nq\td\n")
    (tmp_path / "f.parquet").write_bytes(b"")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.md").write_text("# A\n\ntext")
    keys = {"files": {"align": {}}, "objective": "sft", "isolated": [], "mteb": [], "regime": "strict"}
    (tmp_path / "lbr_set.json").write_text(json.dumps(keys | {"same_text": "auto"}))
    run = subprocess.run([sys.executable, "-c", BASE, str(tmp_path)], capture_output=True, text=True)
    assert run.stdout.splitlines() == [
        "Parquet needs pyarrow, which is not installed: pip install 'lbr-st[data]'",
        "a dataset of the Hub needs datasets, which is not installed: pip install 'lbr-st[data]'",
        "cutting text into passages needs semantic_text_splitter, which is not installed: pip install 'lbr-st[data]'",
    ], run.stderr
