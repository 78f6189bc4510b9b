"""The same row is the same text and the same id in every command."""

import contextlib
import io
import json
import logging
import sys

import pyarrow.parquet as pq
import pytest
from helpers import make_bert
from shapes import about, read, write_jsonl

import lbr_st
from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import read_data as read_for_align
from lbr_st.cli import encode as encode_command
from lbr_st.cli import search as search_command
from lbr_st.cli.main import main
from lbr_st.data.records import iterate_passages, read_passages, read_records, read_tuples
from lbr_st.errors import InputError
from lbr_st.evaluation.own_data import local_task
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.run import read_data as read_for_learn
from lbr_st.use.encode import EncodeConfig, encode_corpus

# A row of a corpus, its id and its text.
ROWS = [
    (
        {"_id": "MED-10", "title": "Statins", "text": "They lower <b>cholesterol</b>\u00a0levels\ud83d."},
        ("MED-10", "Statins They lower cholesterol levels."),
    ),
    ({"docid": 7, "title": None, "text": "No title\x00 here."}, ("7", "No title here.")),
    ({"pid": "p-1", "title": "Gout", "text": "Gout\nIt hurts."}, ("p-1", "Gout\nIt hurts.")),
    ({"id": 18.0, "headline": "H2O", "passage": "H<sub>2</sub>O is wet &amp; cold."}, ("18", "H2O H2O is wet & cold.")),
    ({"passage_id": "a\ud83db", "title": "\ud83d ", "contents_of": 1, "content": "cafe\u0301"}, ("ab", "café")),
    ({"corpus-id": "c9", "title": "Only a title", "text": ""}, ("c9", "Only a title")),
    ({"Title": "Capitals", "TEXT": "Text.", "_ID": "X"}, ("X", "Capitals Text.")),
    ({"title": 1984, "text": "A novel."}, ("8", "1984 A novel.")),  # the eighth row
]
EXPECTED = [expected for _, expected in ROWS]


@pytest.fixture
def corpus(tmp_path):
    return write_jsonl(tmp_path / "corpus.jsonl", [row for row, _ in ROWS])


@pytest.fixture
def pairs(tmp_path):
    """The same rows as answers to a question each."""
    rows = [{"question": f"What of \ud83d number {n}?"} | row for n, (row, _) in enumerate(ROWS)]
    return write_jsonl(tmp_path / "pairs.jsonl", rows)


def named(records, id_="id"):
    return [(record.get(id_, record["id"]), record["document"]) for record in records]


def test_readers(corpus, pairs, tmp_path):
    """`search` reads passages, `encode` one after the other, `learn`, `align`, `evaluate`, `inspect` records."""
    assert named(read_passages(corpus)) == named(iterate_passages(corpus)) == EXPECTED
    assert named(read_records(corpus, ("document",))) == EXPECTED
    for records in (read_records(pairs), read_tuples(pairs)):
        assert named(records, "document_id") == EXPECTED
        assert [record["query"] for record in records] == [f"What of number {n}?" for n in range(len(ROWS))]
    out = str(tmp_path / "out")
    learned = read_for_learn(LearnConfig(model="m", data=[corpus], output_dir=out, objective="reconstruct"))
    assert named(learned.train["reconstruct"]) == EXPECTED
    aligned = read_for_align(AlignConfig(model="m", data=pairs, output_dir=out, dev_data=pairs, corpus_extra=corpus,
                                         allow_overlap=True))  # fmt: skip
    assert named(aligned.train, "document_id") == named(aligned.dev_corpus) == EXPECTED
    task = local_task(pairs, corpus)
    assert [(id_, text) for text, id_ in task.documents.items()] == EXPECTED


def test_data_prepare(corpus, pairs, prepare):
    """And a set reads as it was written."""
    alone = prepare(corpus, folder="alone", dev=0, test=0, near_duplicates=0)
    assert sorted(named(read(alone, "corpus"))) == sorted(EXPECTED)
    of_pairs = prepare(pairs, folder="of-pairs", dev=0, test=0, near_duplicates=0)
    assert sorted(named(read(of_pairs, "corpus"))) == sorted(EXPECTED)
    for folder in (alone, of_pairs):
        assert named(read_passages(folder / "corpus.jsonl")) == named(read(folder, "corpus"))


def test_a_collection_of_beir(prepare, tmp_path):
    for name, rows in (("corpus", [row for row, _ in ROWS[:3]]), ("queries", [{"_id": 1, "text": "a\nb\ud83d"}])):
        write_jsonl(tmp_path / "beir" / f"{name}.jsonl", rows)
    (tmp_path / "beir" / "qrels").mkdir()
    (tmp_path / "beir" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\t7\t1\n")
    folder = prepare(tmp_path / "beir", near_duplicates=0)
    assert sorted(named(read(folder, "corpus"))) == sorted(EXPECTED[:3])
    assert read(folder, "test") == [{"id": "1:7", "query": "a b", "document": "No title here.", "relevance": 1,
                                    "source": "beir"}]  # fmt: skip


def test_encode_and_search(corpus, model, tmp_path, capsys):
    lbr_st.save(model, tmp_path / "model")
    argv = ["--model", str(tmp_path / "model"), "--data", corpus]
    encode_command.main([*argv, "--output-dir", str(tmp_path / "vectors"), "--with-text"])
    table = pq.read_table(tmp_path / "vectors")
    assert list(zip(table["id"].to_pylist(), table["document"].to_pylist(), strict=True)) == EXPECTED
    search_command.main([*argv, "--top-k", str(len(ROWS)), "why\ud83d?"])
    printed = capsys.readouterr().out
    assert "\n> why?\n" in printed
    for id_, text in EXPECTED:
        assert f"  {id_}\n    {text.splitlines()[0]}\n" in printed


@pytest.mark.parametrize("command", ["search", "encode"])
def test_rows_that_cannot_be_used_stop_or_are_counted(command, model, tmp_path, caplog):
    """The default is to stop, as in `data prepare`; what is skipped is said in one line."""
    lbr_st.save(model, tmp_path / "model")
    lines = [json.dumps({"_id": "a", "text": "One."}), '{"_id": "b", "text": " "}', "{", '{"_id": "c", "text": "<br>"}']
    (tmp_path / "corpus.jsonl").write_text("\n".join([*lines, json.dumps({"_id": "d", "text": "Two."})]))
    more = {"search": ["why?"], "encode": ["--output-dir", str(tmp_path / "vectors")]}[command]
    argv = [command, "--model", str(tmp_path / "model"), "--data", str(tmp_path / "corpus.jsonl")]
    with pytest.raises(SystemExit) as stopped:
        main([*argv, *more])
    assert stopped.value.code == 2 and not (tmp_path / "vectors").exists()
    main([*argv, "--on-error", "skip", *more])
    [said] = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert said.startswith("rows left out: 3 (2 cannot be read: empty text, 1 cannot be read: not JSON), such as ")
    assert "corpus.jsonl, line 2, column 'text': the text is empty" in said and "line 3" in said
    if command == "encode":
        assert pq.read_table(tmp_path / "vectors")["id"].to_pylist() == ["a", "d"]


HALF = "a \ud83d b"


def test_half_a_surrogate_pair_anywhere(prepare, tmp_path):
    """What cannot be written is gone from queries, documents, negatives, ids, sources and names of files."""
    row = {"id": HALF, "query": HALF, "document": f"d {HALF}", "negatives": [f"n {HALF}", "\ud83d"], "source": HALF}
    path = write_jsonl(tmp_path / "pairs.jsonl", [row, {"id": "2", "query": "q", "document": "e", "negatives": ["f"]}])
    clean = {"id": "a  b", "query": "a b", "document": "d a  b", "negatives": ["n a  b"], "source": "a  b"}
    assert read_tuples(path)[0] == clean
    folder = prepare(path, dev=0, test=0, near_duplicates=0)
    assert clean in read(folder, "align")
    rows = [{"question": HALF, "choices": [HALF, "other \ud83d"], "answer": 0}]
    assert read_tuples(write_jsonl(tmp_path / "choice.jsonl", rows)) == [
        {"id": "1", "query": "a b", "document": "a  b", "negatives": ["other"]}
    ]
    messages = [{"role": "user", "content": HALF}, {"role": "assistant", "content": HALF}]
    [record] = read_tuples(write_jsonl(tmp_path / "chat.jsonl", [{"messages": messages}]))
    assert (record["query"], record["document"]) == ("a b", "a  b")


def test_an_id_that_comes_again_is_the_same_everywhere(prepare, tmp_path):
    """With the line of a CSV, whatever was left out before it."""
    (tmp_path / "pairs.csv").write_text("id,question,answer\na,q1,d1\na,q1,d1\nb,q2,d2\na,q3,d3\n")
    folder = prepare(tmp_path / "pairs.csv", dev=0, test=0)
    assert {row["id"]: row["document"] for row in read(folder, "align")} == {"a": "d1", "b": "d2", "a#5": "d3"}
    expected = ["a", "a#3", "b", "a#5"]
    assert [row["id"] for row in read_records(tmp_path / "pairs.csv")] == expected
    assert [row["id"] for row in read_passages(tmp_path / "pairs.csv")] == expected
    assert [row["id"] for row in iterate_passages(tmp_path / "pairs.csv")] == expected


def test_an_id_that_comes_again_is_another_in_encode(model, tmp_path):
    """In a run that is interrupted too, and in files of one name."""
    lbr_st.save(model, tmp_path / "model")
    rows = [{"_id": f"d{n % 2}", "text": f"Text {n}."} for n in range(4)]
    sources = [write_jsonl(tmp_path / name / "corpus.jsonl", rows) for name in ("a", "b")]
    settings = {"model": str(tmp_path / "model"), "data": sources, "shard_rows": 3, "batch_tokens": 48}
    whole, part = (EncodeConfig(output_dir=tmp_path / name, **settings) for name in ("whole", "part"))
    encode_corpus(whole)
    ids = ["d0", "d1", "d0#3", "d1#4"]
    assert pq.read_table(tmp_path / "whole")["id"].to_pylist() == [
        *(f"corpus.jsonl:{id_}" for id_ in ids), *(f"corpus.jsonl#2:{id_}" for id_ in ids),
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lbr_st.use.encode._here", lambda encoder, shards, on_rows: iter(interrupted(encoder, shards)))
        with pytest.raises(KeyboardInterrupt):
            encode_corpus(part)
    encode_corpus(part)
    for file in (tmp_path / "whole").glob("*.parquet"):
        assert file.read_bytes() == (tmp_path / "part" / file.name).read_bytes()


def interrupted(encoder, shards):
    encoder.encode(shards[0])
    yield shards[0]
    raise KeyboardInterrupt


def test_every_command_that_reads_rows_says_how_to_go_on_and_does(tmp_path, caplog):
    """A blank row of the data, or of the documents beside them."""
    good = [{"query": f"q{n}", "document": f"d{n}"} for n in range(3)]
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [good[0], {"query": " ", "document": "d"}, *good[1:]])
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [{"text": "e"}, {"text": ""}])
    common = {"model": "m", "output_dir": str(tmp_path / "out"), "allow_overlap": True}
    align = {"data": pairs, "dev_data": pairs, "corpus_extra": corpus, **common}
    reads = {
        "align": lambda on_error: read_for_align(AlignConfig(on_error=on_error, **align)),
        "learn": lambda on_error: read_for_learn(LearnConfig(on_error=on_error, data=[pairs], **common)),
        "evaluate": lambda on_error: local_task(pairs, corpus, on_error=on_error),
    }
    hint = r"line 2, column '(query|text)': the text is empty; --on-error skip leaves such rows out$"
    for read_data in reads.values():
        with pytest.raises(InputError, match=hint):
            read_data("stop")
    assert [len(part) for part in (reads["align"]("skip").train, reads["align"]("skip").dev_corpus)] == [3, 1]
    assert len(reads["learn"]("skip").train["sft"]) == 3 and len(reads["evaluate"]("skip").documents) == 4
    assert f"{corpus}: rows left out: 1 (1 cannot be read: empty text), such as {corpus}, line 2" in caplog.text
    model = make_bert(tmp_path / "bert")
    commands = (
        ["data", "check", pairs, pairs],
        ["inspect", "--model", model, "--data", pairs],
        ["data", "mine", pairs, "--model", model, "--output-dir", str(tmp_path / "mined")],
    )
    for argv in commands:
        caplog.clear()
        with contextlib.suppress(SystemExit):  # what it says of so few pairs is not the subject
            main([*argv, "--on-error", "skip"])
        assert f"{pairs}: rows left out: 1 " in caplog.text


def test_what_is_wrong_with_all_rows_names_no_way_to_skip_them(tmp_path):
    rows = write_jsonl(tmp_path / "pairs.jsonl", [{"query": "q", "reply": "d"}])
    with pytest.raises(InputError) as error:
        read_records(rows)
    assert "--on-error" not in str(error.value)


def test_an_id_column_that_is_not_there_is_refused(prepare, tmp_path):
    rows = write_jsonl(tmp_path / "pairs.jsonl", [{"key": "a", "question": "q", "answer": "d"}])
    with pytest.raises(InputError, match="pairs.jsonl: no row has a column 'kye', which --id names"):
        prepare(rows, id="kye", dev=0, test=0)


def test_names_of_files_that_are_no_text(prepare, tmp_path, caplog, monkeypatch):
    """Linux has names of any bytes; an id is written and printed."""
    caplog.set_level(logging.CRITICAL, logger="lbr_st")  # what pytest keeps of these, xdist cannot send
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "caf\udce9.md").write_text("# \x00Title\n\nOne \x00line.")
    [passage] = read_passages(tmp_path / "texts")
    assert passage == {"id": "caf.md:3", "document": "\ufffdTitle\nOne line."}
    rows = [{"question": f"{n}?", "answer": f"{n}."} for n in range(3)]
    folder = prepare(write_jsonl(tmp_path / "caf\udce9.jsonl", rows), dev=0, test=0)
    assert {row["source"] for row in read(folder, "align")} == {"caf.jsonl"}
    assert about(folder)["name"] == "caf\udce9" and "caf\\udce9.jsonl" in (folder / "README.md").read_text()


def test_markup_of_a_prepared_set_is_meant(prepare, tmp_path):
    """Code that was prepared with its markup is not cleaned again when it is read."""
    rows = [{"question": f"How is {n} bold?", "answer": f"<b>{n}</b> &amp; more"} for n in range(4)]
    folder = prepare(write_jsonl(tmp_path / "code.jsonl", rows), keep_html=True, dev=0, test=0, near_duplicates=0)
    assert {r["document"] for r in read_records(folder / "align.jsonl")} == {row["answer"] for row in rows}
    again = prepare(folder / "align.jsonl", folder="again", dev=0, test=0, near_duplicates=0)
    assert {r["document"] for r in read(again, "align")} == {row["answer"] for row in rows}
    assert {r["document"] for r in read_records(tmp_path / "code.jsonl")} == {f"{n} & more" for n in range(4)}
