"""Which parts a source has, and what BEIR's files become."""

import json

import pytest
from shapes import PAIRS, beir, read, write_jsonl

from lbr_st.data.drops import Drops, on_wrong_row
from lbr_st.data.parts import Reading, parts_of
from lbr_st.data.passages import Chunker
from lbr_st.errors import InputError


def test_sides_of_a_folder(tmp_path):
    names = {"train.jsonl": "train", "validation.csv.gz": "dev", "test-00000-of-00002.parquet": "test",
             "test-00001-of-00002.parquet": "test", "package.json": None, "README.md": None}  # fmt: skip
    for name in names:
        (tmp_path / name).write_bytes(b"")
    found = {part.name: part.side for part in parts_of(str(tmp_path), Reading())}
    assert found == {name: side for name, side in names.items() if side}
    assert {part.side for part in parts_of(str(tmp_path), Reading(), "test")} == {"test"}


def test_a_file_may_be_named_train_and_be_told_to_be_test(tmp_path):
    path = write_jsonl(tmp_path / "train.jsonl", PAIRS)
    assert [part.side for part in parts_of(path, Reading())] == [None]
    assert [part.side for part in parts_of(path, Reading(), "test")] == ["test"]


def test_judgements_of_trec_are_told_their_first_line(tmp_path):
    [root] = beir(tmp_path)["sources"]
    (tmp_path / "beir" / "qrels" / "train.tsv").write_text("q1\t0\td1\t1\nq2\t0\td2\t1\n")
    with pytest.raises(InputError, match="put it above these, which are TREC's: query-id, iteration, corpus-id, score"):
        list(next(part for part in parts_of(root, Reading()) if part.side == "train").records())


def test_what_is_wrong_with_beir(tmp_path):
    [root] = beir(tmp_path)["sources"]
    qrels = (
        "query-id\tcorpus-id\tscore\nabsent\tgout-caused\t1\nq-gout-caused\tabsent\t1\nq-gout-caused\tgout-caused\tx\n"
    )
    (tmp_path / "beir" / "qrels" / "train.tsv").write_text(qrels)
    write_jsonl(tmp_path / "beir" / "queries.jsonl", [{"_id": "q-gout-caused", "text": "q"}, {"text": "no id"}])
    errors = []
    part = next(part for part in parts_of(root, Reading(wrong=errors.append)) if part.side == "train")
    assert list(part.records()) == []
    assert [error.reason for error in errors] == [
        "missing column", "judges what is not there", "judges what is not there", "no whole number",
    ]  # fmt: skip
    assert "train.tsv, line 2: there is no 'absent' in the queries" in str(errors[1])
    with pytest.raises(InputError, match="queries.jsonl, line 2: expected _id and text"):
        list(next(part for part in parts_of(root, Reading()) if part.side == "train").records())


@pytest.mark.parametrize(
    ("file", "lines", "helps"),
    [
        ("qrels/train.tsv", "q-gout-caused\tabsent\t1\n", True),
        (
            "qrels/train.tsv",
            "query-id\tcorpus-id\tscore\nq-gout-caused\tabsent\t1\nq-gout-caused\tgout-caused\tx\n",
            False,
        ),
        ("corpus.jsonl", '{"_id": "gout-caused", "text": "other"}\n', True),
        ("queries.jsonl", "{\n", True),
    ],
    ids=["a judgement", "all judgements", "a document", "a query"],
)
def test_to_skip_rows_of_beir_is_named_where_it_leaves_some(tmp_path, file, lines, helps):
    """And once: what is wrong with a text is not wrong with the judgement that it is read for."""
    [root] = beir(tmp_path)["sources"]
    path = tmp_path / "beir" / file
    path.write_text((path.read_text() if helps else "") + lines)
    read = lambda on_error: next(  # noqa: E731
        part for part in parts_of(root, Reading(wrong=on_wrong_row(on_error, Drops()))) if part.side == "train"
    ).records()
    with pytest.raises(InputError) as error:
        list(read("stop"))
    assert str(error.value).count("; --on-error skip leaves such rows out") == helps
    assert bool(list(read("skip"))) is helps


@pytest.mark.parametrize("kind", ["queries", "corpus"])
def test_an_id_that_two_texts_have(tmp_path, kind):
    """Which of them is judged nobody knows; the same row twice is one."""
    [root] = beir(tmp_path)["sources"]
    file = tmp_path / "beir" / f"{kind}.jsonl"
    first = json.loads(file.read_text().splitlines()[0])
    file.write_text(f"{file.read_text()}{json.dumps(first)}\n{json.dumps(first | {'text': 'other'})}\n")
    number = len(file.read_text().splitlines())
    train = next(part for part in parts_of(root, Reading()) if part.side == "train")
    with pytest.raises(InputError, match=f"{kind}.jsonl, line {number}: .*{first['_id']}.* is the _id of another text"):
        list(train.records())
    errors = []
    skipping = next(part for part in parts_of(root, Reading(wrong=errors.append)) if part.side == "train")
    assert "other" not in {record["query" if kind == "queries" else "document"] for record in skipping.records()}
    assert [error.reason for error in errors] == ["an id twice"]


def test_a_text_file_without_a_group(tmp_path):
    """It is left out where such are, as a row of a table is."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.md").write_text("Iron is a metal.")
    errors = []
    [part] = parts_of(str(tmp_path / "texts"), Reading(group="chapter", wrong=errors.append))
    assert list(part.records()) == []
    assert [error.reason for error in errors] == ["no group"]


def test_a_number_of_a_group_is_one_however_it_is_written(tmp_path):
    """pandas writes 7.0 for 7 in a column with a gap: the rows of a patient stay on one side."""
    rows = [{"question": f"q{n}", "answer": "d", "patient": group} for n, group in enumerate([7, 7.0, "7", "7.0", 7.5])]
    [part] = parts_of(write_jsonl(tmp_path / "f.jsonl", rows), Reading(group="patient"))
    assert [record["group"] for record in part.records()] == ["7", "7", "7", "7", "7.5"]


def test_a_row_that_is_broken_is_wrong_when_it_is_its_turn(tmp_path):
    """The rows before it have no columns that are used: that is said, and not that the file is broken further on."""
    lines = [json.dumps({"foo": f"some words {n} here", "bar": f"others {n} there", "baz": "more"}) for n in range(30)]
    lines[4] = '{"foo": '
    (tmp_path / "f.jsonl").write_text("\n".join(lines))
    [part] = parts_of(str(tmp_path / "f.jsonl"), Reading(wrong=on_wrong_row("stop", Drops())))
    with pytest.raises(InputError, match="f.jsonl, line 1: no column for the document"):
        list(part.records())


def test_source_and_group(tmp_path):
    rows = [{"question": "q", "answer": "d", "source": "book"}, {"question": "r", "answer": "e", "source": None}]
    path = write_jsonl(tmp_path / "f.jsonl", rows)
    [part] = parts_of(path, Reading(group="question"))
    assert [(r["source"], r["group"], r["id"]) for r in part.records()] == [("book", "q", "1"), ("f.jsonl", "r", "2")]
    rows[1]["source"] = " "  # as NULL of a CSV is
    blank = write_jsonl(tmp_path / "blank.jsonl", rows)
    with pytest.raises(InputError, match="line 2: column 'source' is blank"):
        list(parts_of(blank, Reading(group="source"))[0].records())
    with pytest.raises(InputError, match="line 2: column 'source' is blank, and --group-by needs a group"):
        list(parts_of(path, Reading(group="source"))[0].records())


def test_what_macos_writes_beside_a_file_is_no_data_and_a_copy_is_named(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{"query": "q", "document": "d"}])
    (tmp_path / "._train.jsonl").write_bytes(b"\0\5\x16\7")
    assert [part.name for part in parts_of(str(tmp_path), Reading())] == ["train.jsonl"]
    write_jsonl(tmp_path / "train (1).jsonl", [{"query": "q", "document": "d"}])
    with pytest.raises(
        InputError, match=r"holds train \(1\).jsonl \(train \(1\).jsonl looks like a copy: move it away\)"
    ):
        parts_of(str(tmp_path), Reading())


def test_judgements_beside_the_corpus_are_those_of_a_collection(tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", [{"_id": "d", "text": "iron helps"}])
    write_jsonl(tmp_path / "queries.jsonl", [{"_id": "q", "text": "what helps"}])
    (tmp_path / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    records = [record for part in parts_of(str(tmp_path), Reading()) for record in part.records()]
    assert ("what helps", "iron helps") in [(record.get("query"), record["document"]) for record in records]
    (tmp_path / "train.tsv").write_text("q\td\t1\nq\td\t0\n")
    with pytest.raises(InputError, match="the first line of judgements names the columns: query-id, corpus-id, score"):
        [record for part in parts_of(str(tmp_path), Reading()) for record in part.records()]


@pytest.mark.parametrize(
    ("row", "heading"),
    [
        ({"_id": "d", "title": "Zinc &amp; iron", "text": "{text}"}, "Zinc & iron "),
        ({"id": "d", "title": ["Zinc", "iron"], "text": "{text}"}, "Zinc; iron "),
        ({"id": "d", "name": "Zinc", "text": "{text}"}, "Zinc "),
        ({"id": "d", "metadata": {"title": "Zinc"}, "text": "{text}"}, "Zinc "),
        ({"id": "d", "title": "Zinc", "text": "Zinc\n\n{text}"}, "Zinc\n\n"),
        ({"id": "d", "title": "Zinc is a metal that all of us need every day", "text": "{text}"}, None),  # too long
        ({"id": "d", "text": "{text}"}, ""),
    ],
)
def test_the_title_is_before_each_passage_of_a_row_that_is_cut(tmp_path, caplog, row, heading):
    """It takes its room in each, and nothing of the text is lost or there twice."""
    caplog.set_level("INFO", logger="lbr_st")
    text = " ".join(f"It has {n} of them." for n in range(30))
    path = write_jsonl(tmp_path / "f.jsonl", [row | {"text": row["text"].format(text=text)}, {"id": "e", "text": "x"}])
    chunker = Chunker(20)
    *passages, short = parts_of(path, Reading(chunker=chunker))[0].records()
    assert [record["id"] for record in passages] == [f"d#{n}" for n in range(1, len(passages) + 1)]
    assert short["document"] == "x" and all(chunker.count(record["document"]) <= 20 for record in passages)
    documents = [record["document"] for record in passages]
    if heading is None:
        assert [each.startswith(row["title"]) for each in documents] == [True] + [False] * (len(documents) - 1)
    else:
        assert all(each.startswith(heading) for each in documents)
        assert " ".join(each.removeprefix(heading).strip() for each in documents) == text
    assert f"1 cut, as they are longer than a passage; {len(passages)} passages of these" in caplog.text


def test_the_least_grade_of_an_answer(prepare, tmp_path):
    """Grades of BEIR are 2, and 0 or 1 for others: of 2 on, those of 1 are none, and hard negatives."""
    folder = prepare(**beir(tmp_path), min_score=2)
    answers = {p["question"]: p["answer"] for p in PAIRS}
    rows = [row for name in ("dev", "test") for row in read(folder, name)]
    assert len(rows) == 20 == sum("negatives" in row for row in rows)
    assert all(row["relevance"] == 2 and row["document"].endswith(answers[row["query"]]) for row in rows)
    more = prepare(tmp_path / "beir", folder="more")
    assert [row["relevance"] for row in read(more, "test")].count(1) == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [("query", "{a}"), ("document", "{a}"), ("negative", ["{a}"]), ("choices", ["a"]), ("answer", "a"),
     ("first_option", 1), ("judged_by", "none"), ("id", "a"), ("min_score", 2)],
)  # fmt: skip
def test_what_is_said_of_rows_that_nobody_has(name, value, prepare, tmp_path):
    """Folders of text and BEIR are read in one way; beside a file of rows it is that of the rows."""
    root = tmp_path / "notes"
    root.mkdir()
    (root / "a.md").write_text("Gout is caused by urate.")
    flag = "--" + name.replace("_", "-")
    with pytest.raises(InputError, match=f"{flag} is of no use: .*notes has no rows that it could be said of"):
        prepare(root, **{name: value})
    source = beir(tmp_path)["sources"][0]
    if name != "min_score":
        with pytest.raises(InputError, match=f"{flag} is of no use: .*beir has no rows"):
            prepare(source, **{name: value})
    assert not (tmp_path / "set").exists()


def test_an_id_of_rows_beside_text(prepare, tmp_path):
    """One source that has what is said of is enough."""
    (tmp_path / "a.txt").write_text("Gout is caused by urate.")
    rows = [{"key": f"k{n}", "question": p["question"], "answer": p["answer"]} for n, p in enumerate(PAIRS)]
    folder = prepare(tmp_path / "a.txt", write_jsonl(tmp_path / "rows.jsonl", rows), id="key", test=6, dev=4)
    assert {row["id"][0] for row in read(folder, "test")} == {"k"}
