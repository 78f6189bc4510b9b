"""Reading files: what is found, and what is said of files that cannot be used."""

import gzip
import json
import logging
import subprocess
import sys

import pytest

from lbr_st.alignment.batches import DistinctBatchSampler, documents_by_query, training_rows
from lbr_st.data.records import iterate_passages, read_passages, read_queries, read_records, read_tuples
from lbr_st.data.templates import Template
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
        (b'["a", 1]\n', "line 1: no column for the document; found: anchor, score"),
        (b"[1, 2]\n", "line 1: expected a JSON object"),
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
    with pytest.raises(InputError, match="no text in files that end in"):
        read_passages(tmp_path)


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
        (["a", 4], "expected text, found 4"),
        ({"a": 1}, "expected text"),
    ):
        write_jsonl(tmp_path / "bad.jsonl", [rows[0], {**rows[0], "negative": value}])
        with pytest.raises(InputError, match=f"bad.jsonl, line 2, column 'negative': {message}"):
            read_tuples(tmp_path / "bad.jsonl")


@pytest.fixture
def said(caplog):
    """Return the lines that were said, each without the folder of its file."""
    caplog.set_level("INFO", logger="lbr_st")
    return lambda: [message.rpartition("/")[2] for message in caplog.messages]


JUDGED = [
    {"query": "q", "document": "wrong", "label": 0},  # before the answer
    {"query": "q", "document": "right", "label": 1},
    {"query": "q", "document": "also right", "label": 1, "negative": "other"},
    {"query": "r", "document": "nobody's", "label": 0},  # nothing answers it
    {"query": "s", "document": "both", "label": 1},
    {"query": "s", "document": "both", "label": 0},  # judged both ways
    {"query": "t", "document": "fine", "label": 1, "meta": "x"},
]


def test_rows_judged_no_answer_are_hard_negatives(tmp_path, said):
    """Of their query where something answers it; else they are left out. All this is counted."""
    write_jsonl(tmp_path / "f.jsonl", JUDGED)
    found = read_tuples(tmp_path / "f.jsonl")
    assert [(r["id"], r["query"], r["document"], r["negatives"]) for r in found] == [
        ("2", "q", "right", ["wrong"]),
        ("3", "q", "also right", ["other", "wrong"]),
        ("5", "s", "both", []),
        ("7", "t", "fine", []),
    ]
    assert [(r["query"], r["document"]) for r in read_records(tmp_path / "f.jsonl")] == [
        ("q", "right"), ("q", "also right"), ("s", "both"), ("t", "fine"),
    ]  # fmt: skip
    assert all(set(record) <= {"id", "query", "document", "negatives"} for record in found)
    assert said() == [
        "f.jsonl: 4 pairs; columns used: query, document, label, negative; not used: meta; "
        "1 judged no answer: hard negatives of their query; 1 judged no answer and left out; "
        "1 judged no answer by one row and an answer by another, taken for answers",
        "f.jsonl: 4 pairs; columns used: query, document, label; not used: negative, meta; "
        "2 judged no answer and left out; 1 judged no answer by one row and an answer by another, taken for answers",
    ]
    assert [r["document"] for r in read_passages(tmp_path / "f.jsonl")] == [row["document"] for row in JUDGED]


def test_a_judgement_is_of_the_same_texts_in_other_capitals(tmp_path, said):
    """An answer that another row spells otherwise is no hard negative of its query."""
    rows = [
        {"query": "What is aspirin?", "document": "Aspirin is acetylsalicylic acid.", "label": 0},
        {"query": "what is aspirin", "document": "aspirin is acetylsalicylic acid", "label": 1},
        {"query": "What is  aspirin", "document": "Bears live in woods", "label": 0},
    ]
    write_jsonl(tmp_path / "f.jsonl", rows)
    [found] = read_tuples(tmp_path / "f.jsonl")
    assert (found["query"], found["negatives"]) == ("what is aspirin", ["Bears live in woods"])
    assert "1 judged no answer by one row and an answer by another" in said()[0]


def test_rows_without_a_judgement_beside_others_are_counted(tmp_path, said):
    (tmp_path / "f.csv").write_text("query,passage,label\nq,d,1\nr,e,\ns,f,\n")
    assert [r["document"] for r in read_records(tmp_path / "f.csv")] == ["d", "e", "f"]
    assert said() == ["f.csv: 3 pairs; columns used: query, passage, label; 2 not judged and taken for answers"]


def test_nothing_but_rows_judged_no_answer(tmp_path):
    write_jsonl(tmp_path / "f.jsonl", [row | {"label": 0} for row in JUDGED])
    with pytest.raises(InputError, match="f.jsonl: no document answers its query: 7 rows, all judged not to"):
        read_records(tmp_path / "f.jsonl")


def test_grades_and_the_least_that_is_an_answer(tmp_path, said):
    rows = [{"query": "q", "document": f"d{n}", "score": score} for n, score in enumerate((0.2, 0.9, 0.5))]
    write_jsonl(tmp_path / "f.jsonl", rows)
    with pytest.raises(
        InputError, match=r"f.jsonl, line 1: column 'score' grades the documents \(0.2\): say --min-score"
    ):
        read_tuples(tmp_path / "f.jsonl")
    found = read_tuples(tmp_path / "f.jsonl", 0.5)
    assert [(r["document"], r["negatives"]) for r in found] == [("d1", ["d0"]), ("d2", ["d0"])]
    assert len(read_records(tmp_path / "f.jsonl", min_score=0)) == 3
    read_passages(tmp_path / "f.jsonl")  # nothing is compared with it there
    write_jsonl(tmp_path / "g.jsonl", [{"query": "q", "document": "d", "confidence": 0.2}])
    with pytest.raises(InputError, match=r"g.jsonl: no column has scores that --min-score could be .*: leave it out"):
        read_records(tmp_path / "g.jsonl", min_score=0.5)
    write_jsonl(tmp_path / "g.jsonl", [{"query": "q", "document": "d", "source": "a book", "row_id": 7}])
    assert len(read_records(tmp_path / "g.jsonl", min_score=0.5)) == 1
    unscored = "no column has scores that --min-score could be compared with"
    assert f"g.jsonl: {unscored}: all of its pairs are taken for answers" in said()
    write_jsonl(tmp_path / "h.jsonl", [{"query": "q", "document": f"d{n}", "label": n} for n in ("yes", "no")])
    read_records(tmp_path / "h.jsonl", min_score=0.5)
    assert "h.jsonl: no column has scores that --min-score could be compared with" in said()


def test_several_positives_are_never_negatives_of_each_other(tmp_path):
    """FlagEmbedding's rows: each positive is a pair with an id, and no batch holds two of them."""
    rows = [{"query": f"q{n}", "pos": [f"{n}a", f"{n}b", f"{n}c"], "neg": [f"{n}x"]} for n in range(6)]
    write_jsonl(tmp_path / "f.jsonl", rows)
    records = read_tuples(tmp_path / "f.jsonl")
    assert [(r["id"], r["document"], r["negatives"]) for r in records[:4]] == [
        ("1#1", "0a", ["0x"]), ("1#2", "0b", ["0x"]), ("1#3", "0c", ["0x"]), ("2#1", "1a", ["1x"]),
    ]  # fmt: skip
    dataset = training_rows(records)
    sampler = DistinctBatchSampler(dataset, 6, False, known=documents_by_query(records))
    for epoch in range(5):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert sum(map(len, batches)) == 18
        for batch in batches:
            queries = [dataset[index]["anchor"] for index in batch]
            assert len(set(queries)) == len(queries)


def test_what_a_reader_uses_and_what_it_does_not(tmp_path, said):
    """One line a source, from the same row for every command."""
    row = {"id": "a", "query": "q", "document": "d", "neg": ["n"], "label": "topic", "meta": 1, "source": "book"}
    write_jsonl(tmp_path / "f.jsonl", [row, row | {"id": "b"}])
    read_tuples(tmp_path / "f.jsonl")
    read_records(tmp_path / "f.jsonl")
    read_passages(tmp_path / "f.jsonl")
    list(iterate_passages(tmp_path / "f.jsonl"))
    alone = "f.jsonl: 2 documents; columns used: id, document, source; not used: query, neg, label, meta"
    assert said() == [
        "f.jsonl: 2 pairs; columns used: id, query, document, neg, source; not used: label, meta",
        "f.jsonl: 2 pairs; columns used: id, query, document, source; not used: neg, label, meta",
        alone,
        alone,
    ]


def test_a_csv_of_pandas_with_an_empty_negative(tmp_path, said):
    (tmp_path / "f.csv").write_text(",query,answer,negative,\n0,q,d,n,\n1,r,e,,\n")
    assert [(r["id"], r["document"], r["negatives"]) for r in read_tuples(tmp_path / "f.csv")] == [
        ("2", "d", ["n"]), ("3", "e", []),
    ]  # fmt: skip
    assert [r["document"] for r in read_passages(tmp_path / "f.csv")] == ["d", "e"]
    assert said()[0] == "f.csv: 2 pairs; columns used: query, answer, negative; not used: Unnamed: 0"


# Public data in the forms that people have them: what becomes of each, or the column that the refusal names.
PUBLIC = {
    "sentence-transformers triplets": (
        {"anchor": "q", "positive": "d", "negative": "n"}, [("q", "d", ["n"])],
    ),
    "sentence-transformers list-wise": (
        {"query": "q", "docs": ["d", "n"], "labels": [1, 0]}, [("q", "d", ["n"])],
    ),
    "MS MARCO v1.1": (
        {"query": "q", "query_id": 1, "query_type": "x", "answers": ["a"],
         "passages": {"is_selected": [0, 1], "passage_text": ["n", "d"], "url": ["u", "v"]}}, [("q", "d", ["n"])],
    ),
    "Tevatron": (
        {"query_id": "1", "query": "q", "positive_passages": [{"docid": "2", "title": "t", "text": "d"}],
         "negative_passages": [{"docid": "3", "title": "-", "text": "n"}]}, [("q", "t d", ["- n"])],
    ),
    "DPR": (
        {"question": "q", "answers": ["a"], "positive_ctxs": [{"title": "t", "text": "d", "score": 9.5}],
         "negative_ctxs": [], "hard_negative_ctxs": [{"title": "", "text": "n"}]}, [("q", "t d", ["n"])],
    ),
    "FlagEmbedding": (
        {"query": "q", "pos": ["d", "e"], "neg": ["n"], "pos_scores": [0.9, 0.8], "neg_scores": [0.1], "prompt": "p"},
        [("q", "d", ["n"]), ("q", "e", ["n"])],
    ),
    "Cohere": (
        {"query": "q", "relevant_passages": ["d"], "hard_negatives": ["n"]}, [("q", "d", ["n"])],
    ),
    "ms-swift": (
        {"messages": [{"role": "user", "content": "q"}], "positive_messages": [[{"role": "user", "content": "d"}]],
         "negative_messages": [[{"role": "user", "content": "n"}]]}, [("q", "d", ["n"])],
    ),
    "ShareGPT": (
        {"id": "1", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "d"}]},
        [("q", "d", [])],
    ),
    "UltraFeedback": (
        {"prompt": "q", "prompt_id": "1", "score_chosen": 9.0, "score_rejected": 2.5,
         "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "d"}],
         "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "n"}]}, [("q", "d", ["n"])],
    ),
    "Alpaca": ({"instruction": "q", "input": "i", "output": "d"}, [("q i", "d", [])]),
    "NLI": (
        {"sentence1": "one", "sentence2": "two", "label": 2}, "--query '{sentence1}' --document '{sentence2}'",
    ),
    "Quora duplicates": (
        {"question1": "one", "question2": "two", "is_duplicate": 0}, "--query '{question1}' --document '{question2}'",
    ),
    "STS": ({"query": "q", "text": "d", "similarity_score": 3.2}, "column 'similarity_score' grades .* --min-score"),
    "Amazon ESCI": ({"query": "q", "text": "d", "esci_label": "I"}, "column 'esci_label': expected a number, or yes"),
    "qrels alone": ({"query-id": "q1", "corpus-id": "d1", "score": 1}, "found: query-id, corpus-id, score; looked for"),
    "SQuAD": (
        {"id": "1", "question": "q", "context": "d", "answers": {"text": ["a"], "answer_start": [0]}},
        "--document '{context}'|--document '{answers",
    ),
    "TREC": ({"qid": "1", "docid": "2", "query": "q", "passage": "d", "relevance": 0}, "all judged not to"),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_public_data_is_used_or_refused_and_every_column_is_named(name, tmp_path, said):
    row, expected = PUBLIC[name]
    write_jsonl(tmp_path / "f.jsonl", [row])
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            read_tuples(tmp_path / "f.jsonl")
        return
    assert [(r["query"], r["document"], r["negatives"]) for r in read_tuples(tmp_path / "f.jsonl")] == expected
    line = said()[-1].partition(";")[2]
    named = {column for part in line.split("; ") for column in part.partition(": ")[2].split(", ")}
    assert set(row) <= named


BASE = """
import sys
from lbr_st.errors import EXTRAS, InputError
sys.modules.update(dict.fromkeys(EXTRAS))
from lbr_st.data.prepared_set import PreparedSet, file_of, mteb_tasks_of, refuse_overlaps
from lbr_st.data.records import read_passages, read_records, read_tuples
folder = sys.argv[1]
for name in ("f.jsonl", "f.csv", "f.tsv.gz"):
    [record] = read_tuples(f"{folder}/{name}")
    assert read_passages(f"{folder}/{name}"), name
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


def test_a_value_that_is_written_out_stays_a_text_where_the_user_says_that_it_is_one(prepare, tmp_path):
    rows = [{"query": f"which words of {n}", "answer": f"['w{n}', 'v{n}']"} for n in range(6)]
    (tmp_path / "code.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="column 'answer': a value of Python or JSON that is written out"):
        read_tuples(tmp_path / "code.jsonl")
    folder = prepare(tmp_path / "code.jsonl", document="{answer}", dev="0", test="0")
    assert {record["document"] for record in read_tuples(folder / "align.jsonl")} <= {row["answer"] for row in rows}


ITS_OWN = [
    {"query": "q", "pos": ["d"], "neg": ["n", "d"]},
    {"query": "q", "pos": ["d", "e"], "neg": ["n", "d"]},
    {"query": "q", "positive": "d", "negative_1": " d ", "negative_2": "n"},
    {"query": "q", "chosen": "d", "rejected": ["d", "n"]},
    {"query": "q", "positive": {"text": "d"}, "negative_passages": [{"text": "d"}, {"text": "n"}]},
    {"query": "q", "answer": "d&amp;e", "hard_negatives": ["d&e", "n"]},
]


@pytest.mark.parametrize("row", ITS_OWN)
def test_a_positive_is_never_its_own_hard_negative(tmp_path, caplog, row):
    write_jsonl(tmp_path / "f.jsonl", [row])
    with caplog.at_level(logging.INFO):
        found = read_tuples(tmp_path / "f.jsonl")
    assert [record["negatives"] for record in found] == [["n"]] * len(found)
    assert "1 hard negatives left out that are an answer of their own row" in caplog.text


def test_a_positive_is_never_its_own_hard_negative_in_a_set(prepare, tmp_path):
    rows = [
        {"query": f"what is {n}", "pos": [f"the number {n}"], "neg": [f"a {n}", f"the number {n}"]} for n in range(4)
    ]
    write_jsonl(tmp_path / "f.jsonl", rows)
    folder = prepare(tmp_path / "f.jsonl", dev="0", test="0")
    found = read_tuples(folder / "align.jsonl")
    assert found and all(record["document"] not in record["negatives"] != [] for record in found)


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([{"query": "a\n b"}, {"query": "c"}, {"query": "c"}], "3 queries; columns used: query"),
        ([{"question": "a b", "answer": "1"}, {"question": "c", "answer": "2"}], "2 pairs; columns used: question, "),
        ([{"_id": 1, "text": "a b"}, {"_id": 2, "text": "c"}], "2 queries; columns used: _id, text"),
        ([{"query": "a b", "text": "1", "label": 0}, {"query": "c", "text": "2", "label": 1}], "2 pairs; columns used"),
    ],
)
def test_queries_alone_or_of_pairs(tmp_path, caplog, rows, line):
    """Each once, whatever is judged of its document."""
    caplog.set_level(logging.INFO)
    write_jsonl(tmp_path / "f.jsonl", rows)
    assert read_queries(tmp_path / "f.jsonl") == ["a b", "c"]
    assert line in caplog.text


def test_queries_that_cannot_be_read(tmp_path):
    write_jsonl(tmp_path / "f.jsonl", [{"query": "a"}, {"query": " "}, {"query": "b"}])
    with pytest.raises(InputError, match="line 2"):
        read_queries(tmp_path / "f.jsonl")
    assert read_queries(tmp_path / "f.jsonl", "skip") == ["a", "b"]
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match="no records"):
        read_queries(tmp_path / "empty.jsonl")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.csv", "search_term,clicks\niron,3\nwhat is iron,0\n"),
        ("q.jsonl", '{"Suchanfrage": "iron", "n": 1}\n{"Suchanfrage": "what is iron", "n": 2}\n'),
        ("q.txt", "iron\n\n  what  is iron\niron\n"),
    ],
)
def test_queries_under_another_name(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_queries(tmp_path / name) == ["iron", "what is iron"]


def test_which_text_is_the_query_is_not_guessed(tmp_path):
    (tmp_path / "q.csv").write_text("search,place\nwhat is iron,New York\n")
    with pytest.raises(InputError, match=r"line 2: no column for the query \(found: search, place\); call the one of"):
        read_queries(tmp_path / "q.csv")
    (tmp_path / "q.txt").write_text(" \n")
    with pytest.raises(InputError, match="q.txt: no queries; a text file has one a line"):
        read_queries(tmp_path / "q.txt")


def test_no_set_is_offered_where_a_target_needs_fields(tmp_path):
    write_jsonl(tmp_path / "f.jsonl", [{"question": "q", "answer": "a", "why": "w", "label": n} for n in range(4)])
    with pytest.raises(InputError, match="--judged-by none; but --target needs fields .*: call the column otherwise"):
        read_records(tmp_path / "f.jsonl", target=Template("{why}"))
    with pytest.raises(InputError, match="--judged-by none$"):
        read_records(tmp_path / "f.jsonl")


def test_targets_are_texts_of_fields(tmp_path, said):
    """Clean, each with its field, and of the columns of the file, whatever else they are used for."""
    file = tmp_path / "f.jsonl"
    write_jsonl(file, [{"question": "q", "answer": "4", "why": "<p>two and\u200b two</p>", "n": 7}])
    [record] = read_records(file, target=Template(r"{why}\n{answer} of {n}"))
    assert record["target"] == [("why", "two and two"), (None, "\n"), ("answer", "4"), (None, " of "), ("n", "7")]
    assert said() == ["f.jsonl: 1 pair; columns used: question, answer, why, n"]
    rows = [{"question": "q", "answer": "4", "why": " \u200b"}, {"question": "r", "answer": "5", "why": "w"}]
    write_jsonl(file, rows)
    with pytest.raises(InputError, match="line 1, field 'why': --target needs it, and it is blank; --on-error skip"):
        read_records(file, on_error="stop", target=Template("{why}"))
    assert [r["query"] for r in read_records(file, on_error="skip", target=Template("{why}"))] == ["r"]
    with pytest.raises(InputError, match=r"no field 'because' \(found: question, answer, why\)$"):
        read_records(file, target=Template("{because}"))
    (tmp_path / "lbr_set.json").write_text("{}")
    with pytest.raises(InputError, match="no field 'because' .*; a prepared set keeps none but these"):
        read_records(file, target=Template("{because}"))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        # A text that all rows have.
        ([{"store": "Acme of Rome", "summary": f"Zinc box {n}."} for n in range(3)], "--document '{summary}'"),
        ([{"a": {"store": "Acme of Rome"}, "summary": f"Box {n}."} for n in range(3)], "--document '{summary}'"),
        # One row more says nothing of the others.
        ([{"store": "Acme of Rome", "summary": f"Zinc box {n}."} for n in range(2)], "{store}, {summary}"),
        # The first row lacks it.
        ([{"Subject Line": "Zinc", "Resolution": text} for text in ("", "Take it out.", "No.")], "{Resolution}'"),
    ],
)
def test_a_remedy_looks_at_the_rows_that_come_next(tmp_path, rows, said):
    write_jsonl(tmp_path / "f.jsonl", rows)
    with pytest.raises(InputError, match="line 1: no column for the document") as error:
        read_records(tmp_path / "f.jsonl", ("document",))
    assert said in str(error.value)
    write_jsonl(tmp_path / "g.jsonl", [*rows, {"text": "read all the same"}])
    skipped = read_records(tmp_path / "g.jsonl", ("document",), on_error="skip")
    assert [record["document"] for record in skipped] == ["read all the same"]
    with open(tmp_path / "g.jsonl", "a") as file:
        file.write("{\n")
    with pytest.raises(InputError, match="line 1: no column for the document"):
        read_records(tmp_path / "g.jsonl", ("document",))


def test_a_row_that_judges_and_is_skipped_was_no_pair(tmp_path, caplog):
    rows = [{"query": "q", "document": "d", "label": 1}, {"query": "r", "document": "e", "label": 1}]
    write_jsonl(tmp_path / "f.jsonl", [*rows, {"query": "r", "document": "<p></p>", "label": 0}])
    with caplog.at_level("INFO"):
        assert len(read_tuples(tmp_path / "f.jsonl", on_error="skip")) == 2
    assert "f.jsonl: 2 pairs;" in caplog.text
