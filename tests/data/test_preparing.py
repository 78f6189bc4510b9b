"""Preparing a set: every shape, what is in which file, the same bytes again, and what goes wrong."""

import json
import subprocess
import sys

import pytest
from shapes import PAIRS, SHAPES, TOPICS, about, qa, read, sides, write_jsonl

from lbr_st.data import PrepareConfig
from lbr_st.data import prepare as prepare_set
from lbr_st.data.overlap import overlaps
from lbr_st.errors import InputError


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(shape, prepare, tmp_path):
    """All files are there, say what they are, and nothing of test is in training."""
    folder = prepare(**SHAPES[shape](tmp_path))
    sets = {name: read(folder, name) for name in ("learn", "passages", "align", "dev", "test", "corpus")}
    for name, rows in sets.items():
        keys = {"id", "document", "source"} | ({"query"} if name not in ("passages", "corpus") else set())
        assert all(keys <= set(row) <= keys | {"negatives", "relevance"} for row in rows), name
        assert len({row["id"] for row in rows}) == len(rows) > 0
        assert about(folder)["files"][name]["records"] == len(rows)
    fields = about(folder)["isolated"]
    assert fields == (["query"] if shape == "choice" else ["query", "document"])
    trained = [*sets["learn"], *sets["align"]]
    assert not list(overlaps(trained, [*sets["dev"], *sets["test"]], fields))
    assert not list(overlaps(sets["dev"], sets["test"], fields))
    if shape != "choice":
        assert not list(overlaps(sets["passages"], sets["test"], fields))
    searched = {row["document"] for row in sets["corpus"]}
    assert all(row["document"] in searched for name in sets for row in sets[name])
    assert len(searched) == len(sets["corpus"])


def test_pairs_by_hand(prepare, tmp_path):
    folder = prepare(**qa(tmp_path), test=6, dev="5%")
    sets = {name: read(folder, name) for name in ("learn", "align", "dev", "test")}
    assert [len(rows) for rows in sets.values()] == [51, 51, 3, 6]
    by_id = {row["id"]: row for row in PAIRS}
    for rows in sets.values():
        for row in rows:
            original = by_id[row["id"]]
            assert row == {"id": row["id"], "query": original["question"], "document": original["answer"],
                           "source": "qa.jsonl"}  # fmt: skip
    assert sets["learn"] == sets["align"]


def test_a_set_that_is_not_isolated_is_not_kept(prepare, tmp_path, monkeypatch):
    """What was written is compared again, whatever was done about it before."""
    monkeypatch.setattr("lbr_st.data.preparing.isolate", lambda *_: [])
    sides(tmp_path)
    write_jsonl(tmp_path / "sides" / "train.jsonl", PAIRS[:50])
    with pytest.raises(RuntimeError, match="'query': {'exact': 20, .*this is a bug"):
        prepare(tmp_path / "sides")
    assert not (tmp_path / "set").exists()


def test_dev_is_compared_with_test_too(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr("lbr_st.data.preparing.isolate", lambda *_: [])
    sides(tmp_path)
    write_jsonl(tmp_path / "sides" / "dev.jsonl", PAIRS[40:49])
    with pytest.raises(RuntimeError, match="'query': {'exact': 1, .*this is a bug"):
        prepare(tmp_path / "sides")


def test_a_file_for_test(prepare, tmp_path):
    rows = write_jsonl(tmp_path / "train.csv.jsonl", PAIRS[:51])  # the last is one of the test, and stays there
    test = write_jsonl(tmp_path / "held-out.jsonl", PAIRS[50:])
    folder = prepare(rows, test=test, dev=5)
    assert {row["id"] for row in read(folder, "test")} == {row["id"] for row in PAIRS[50:]}
    assert len(read(folder, "dev")) == 5 and len(read(folder, "align")) == 45
    assert about(folder)["overlaps_taken_out"]["query"]["exact"] == 1  # said as what it is, not as a duplicate


def test_cleaning_and_lengths(prepare, tmp_path):
    extra = [
        {"id": "html", "question": "<b>What</b>\n is &lt;it&gt;?", "answer": "<p>One</p><p>two\x00</p>"},
        {"id": "short", "question": "a", "answer": "An answer of some length."},
        {"id": "long", "question": "What is long?", "answer": "x" * 400},
        {"id": "empty", "question": "What is empty?", "answer": "<br>\x07"},
    ]
    folder = prepare(
        write_jsonl(tmp_path / "qa.jsonl", [*PAIRS, *extra]), query_characters=(2, 100), document_characters=(5, 300)
    )
    said = about(folder)["dropped"]
    assert said == {
        "document empty": 1, "document longer than 300 characters": 1, "query shorter than 2 characters": 1,
    }  # fmt: skip
    row = next(row for side in ("align", "dev", "test") for row in read(folder, side) if row["id"] == "html")
    assert (row["query"], row["document"]) == ("What is <it>?", "One\ntwo")


def test_passages_alone(prepare, tmp_path):
    """Text without queries is for stage 1; what it is not for says so."""
    (tmp_path / "texts").mkdir()
    for topic in TOPICS:
        (tmp_path / "texts" / f"{topic}.txt").write_text(
            "\n\n".join(pair["answer"] for pair in PAIRS if pair["focus"] == topic)
        )
    folder = prepare(tmp_path / "texts", chunk_tokens=20, dev=6)
    assert about(folder)["objective"] == "reconstruct"
    assert set(about(folder)["files"]) == {"passages", "dev", "corpus"}
    assert len(read(folder, "corpus")) == len(PAIRS) and len(read(folder, "dev")) == 6
    assert all("query" not in row for row in read(folder, "dev"))
    card = (folder / "README.md").read_text()
    assert "by document alone" in card and "queries on two sides" not in card


def test_pairs_and_passages(prepare, tmp_path):
    """A passage that is the document of a test pair is searched, and not seen by stage 1."""
    alone = [{"id": f"alone-{row['id']}", "text": row["answer"]} for row in PAIRS[:30]]
    nobody = "A passage that nobody asks for."
    alone += [{"id": "other", "text": nobody}]
    folder = prepare(write_jsonl(tmp_path / "passages.jsonl", alone), **qa(tmp_path))
    assert all("query" in row for name in ("learn", "align", "dev", "test") for row in read(folder, name))
    assert len(read(folder, "corpus")) == len(PAIRS) + 1
    held_out = {row["document"] for name in ("dev", "test") for row in read(folder, name)}
    seen = {row["document"] for row in read(folder, "passages")}
    assert seen.isdisjoint(held_out) and nobody not in seen  # strict: training records only
    assert len(held_out) + len(seen) == len(PAIRS)
    taught = prepare(tmp_path / "passages.jsonl", **qa(tmp_path), regime="corpus-taught", folder="taught")
    assert {row["document"] for row in read(taught, "passages")} == seen | held_out | {nobody}


def test_long_documents_without_queries_are_cut(prepare, tmp_path):
    rows = [{"id": "long", "text": "A sentence of it. " * 30}, {"id": "short", "text": "One."}]
    folder = prepare(write_jsonl(tmp_path / "f.jsonl", rows), chunk_tokens=50, dev=0, near_duplicates=0)
    ids = {row["id"] for row in read(folder, "corpus")}
    assert "short" in ids and "long#1" in ids and "long" not in ids


def test_graded_judgements(prepare, tmp_path):
    folder = prepare(**SHAPES["beir"](tmp_path))
    test = read(folder, "test")
    grades = {row["id"]: row["relevance"] for row in test}
    assert all(grades[f"q-{p['id']}:{p['id']}"] == 2 for p in PAIRS[40:50]) and 1 in grades.values()
    assert "judged no answer" not in about(folder)["dropped"]  # each query has an answer
    by_id = {row["id"]: row for row in test}
    asked = [(p, extra) for n, (p, extra) in enumerate(zip(PAIRS[40:50], PAIRS[50:], strict=True)) if n % 2 == 0]
    assert len(asked) == 5
    for p, extra in asked:
        assert by_id[f"q-{p['id']}:{p['id']}"]["negatives"] == [f"{extra['focus']} {extra['answer']}"]
    assert {row["id"] for row in read(folder, "corpus")} >= {p["id"] for p in PAIRS[40:50]}
    first = next(row for row in read(folder, "corpus") if row["id"] == PAIRS[40]["id"])
    assert first["document"] == f"{PAIRS[40]['focus']} {PAIRS[40]['answer']}"


def test_documents_of_a_collection_that_nobody_asks_for_are_counted(prepare, tmp_path):
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(
        folder / "corpus.jsonl", [{"_id": f"d{n}", "text": f"{topic} is a thing"} for n, topic in enumerate(TOPICS)]
    )
    write_jsonl(
        folder / "queries.jsonl", [{"_id": f"q{n}", "text": f"what is {topic}"} for n, topic in enumerate(TOPICS[:8])]
    )
    judged = "".join(f"q{n}\td{n}\t1\n" for n in range(8))
    (folder / "qrels" / "train.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    made = prepare(folder, test=2, dev=1)
    assert about(made)["searched_only"] == len(TOPICS) - 8
    assert about(made)["files"]["corpus"]["records"] == len(TOPICS)


def test_rows_judged_no_answer(prepare, tmp_path, caplog):
    """Hard negatives of their query on their side, or left out; whichever row comes first."""
    caplog.set_level("INFO", logger="lbr_st")
    train = [{"question": p["question"], "answer": "wrong " + p["answer"], "label": "0"} for p in PAIRS[:10]]
    train += [{"question": p["question"], "answer": p["answer"], "label": "1"} for p in PAIRS[:40]]
    lost = [{"question": PAIRS[50]["question"], "answer": "wrong for no answer on this side", "label": 0}]
    write_jsonl(tmp_path / "data" / "train.jsonl", train + lost)
    write_jsonl(tmp_path / "data" / "test.jsonl", [{**p, "label": 1} for p in PAIRS[48:]])
    folder = prepare(tmp_path / "data", dev=0, near_duplicates=0)
    rows = read(folder, "align")
    expected = {p["question"]: ["wrong " + p["answer"]] for p in PAIRS[:10]}
    assert {row["query"]: row["negatives"] for row in rows if "negatives" in row} == expected
    assert len(rows) == 40 and about(folder)["pairs_with_hard_negatives"] == 10
    assert about(folder)["dropped"] == {"judged no answer": 1}
    assert not any("relevance" in row for row in rows)
    assert "train.jsonl: 40 pairs; columns used: question, answer, label; 11 judged no answer" in caplog.text
    assert "10 judged no answer: hard negatives of their query, 1 judged no answer and left out" in caplog.text


def test_rows_judged_no_answer_to_the_query_in_other_capitals(prepare, tmp_path):
    rows = [{"question": p["question"], "answer": p["answer"], "label": 1} for p in PAIRS]
    rows += [{"question": p["question"].upper(), "answer": f"wrong {n}", "label": 0} for n, p in enumerate(PAIRS[:10])]
    rows += [{"question": p["question"], "answer": p["answer"].upper(), "label": 0} for p in PAIRS[10:20]]
    folder = prepare(write_jsonl(tmp_path / "f.jsonl", rows), test=0, dev=0, near_duplicates=0)
    found = {row["query"]: row["negatives"] for row in read(folder, "align") if "negatives" in row}
    assert found == {p["question"]: [f"wrong {n}"] for n, p in enumerate(PAIRS[:10])}


def test_grades_ask_for_the_least_even_where_rows_are_skipped(prepare, tmp_path):
    source = write_jsonl(tmp_path / "f.jsonl", [p | {"score": n / 60} for n, p in enumerate(PAIRS)])
    with pytest.raises(InputError, match=r"f.jsonl, line 2: column 'score' grades the documents \(0, 0.0166667\)"):
        prepare(source, on_error="skip")
    folder = prepare(source, min_score=0.5, test=0, dev=0)
    assert len(read(folder, "align")) == 30 and about(folder)["dropped"] == {"judged no answer": 30}


def test_of_several_sources_those_without_scores_are_named(prepare, tmp_path, caplog):
    """Unless a column of numbers in them may be one: then nothing says that all of their pairs are answers."""
    caplog.set_level("INFO")
    scored = write_jsonl(tmp_path / "f.jsonl", [p | {"score": n / 40} for n, p in enumerate(PAIRS[:40])])
    others = [{"question": p["question"], "answer": p["answer"]} for p in PAIRS[40:]]
    unscored = write_jsonl(tmp_path / "g.jsonl", others)
    folder = prepare(sources=[unscored, scored], min_score=0.5, test=0, dev=0)
    assert len(read(folder, "align")) == 40 and about(folder)["dropped"] == {"judged no answer": 20}
    assert (
        "g.jsonl: no column has scores that --min-score could be compared with: all of its pairs are taken for answers"
    ) in caplog.messages
    write_jsonl(tmp_path / "g.jsonl", [row | {"pages": n} for n, row in enumerate(others)])
    with pytest.raises(InputError, match="g.jsonl: no column has scores .* unless 'pages' has: leave it out, or name"):
        prepare(sources=[scored, unscored], min_score=0.5, folder="other")


@pytest.mark.whole_run
def test_the_same_bytes_again(prepare, tmp_path, monkeypatch):
    """Whatever the order of the records, the number of processes and the folder they go to."""
    source = qa(tmp_path)
    first = prepare(**source)
    monkeypatch.chdir(tmp_path)
    prepare_set(PrepareConfig(**source, output_dir="again", num_proc=2))
    files = sorted(path.name for path in first.iterdir())
    assert files == sorted(path.name for path in (tmp_path / "again").iterdir())
    assert {"README.md", "lengths.png", "lbr_set.json", "dropped.jsonl"} < set(files)
    for name in files:
        assert (first / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    write_jsonl(tmp_path / "qa.jsonl", PAIRS[::-1])
    turned = prepare(**source, folder="turned")
    for name in ("learn", "passages", "align", "dev", "test", "corpus"):
        assert read(turned, name) == read(first, name)


@pytest.mark.slow
def test_processes_make_no_difference(prepare, tmp_path):
    rows = [{"id": n, "question": f"question number {n}", "answer": f"answer {n % 1000} " + f"w{n % 1000} " * 20}
            for n in range(2000)]  # fmt: skip
    source = write_jsonl(tmp_path / "many.jsonl", rows)
    for processes in (1, 2):
        prepare(source, folder=str(processes), num_proc=processes)
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes(), path.name


@pytest.mark.whole_run
def test_the_card(prepare, tmp_path):
    source = write_jsonl(tmp_path / "qa.jsonl", [*PAIRS, PAIRS[0] | {"id": "copy"}])
    folder = prepare(source, license="CC-BY-4.0", name="ailments", derived_from=["medquad"])
    card = (folder / "README.md").read_text()
    for text in (
        "# ailments", "![lengths](lengths.png)", "License: CC-BY-4.0", "MedicalQARetrieval", "exact duplicate",
        "Regime: **strict**", f"lbr data prepare {source} --name ailments --license CC-BY-4.0", "words and marks",
    ):  # fmt: skip
        assert text in card
    tokens = about(folder)["files"]["test"]["tokens"]
    import re

    words = [len(re.findall(r"\w+|[^\w\s]", r["query"] + " " + r["document"])) for r in read(folder, "test")]
    assert tokens == sum(words)
    assert (folder / "lengths.png").read_bytes().startswith(b"\x89PNG")
    from datasets import load_dataset

    loaded = load_dataset(str(folder), "pairs", split="test", cache_dir=str(tmp_path / "cache"))
    assert loaded["query"][:] == [row["query"] for row in read(folder, "test")]


def test_tokens_of_a_backbone(prepare, tmp_path, backbone):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(backbone)
    folder = prepare(**SHAPES["markdown"](tmp_path), tokenizer=backbone, chunk_tokens=30)
    plain = AutoTokenizer.from_pretrained(backbone)
    count = lambda text: len(plain(text, add_special_tokens=False)["input_ids"])  # noqa: E731
    rows = read(folder, "corpus")
    assert max(count(row["document"]) for row in rows) <= 30
    assert about(folder)["files"]["corpus"]["tokens"] == sum(count(row["document"]) for row in rows)
    # Many are saved with how they were used: cut and filled up to one length.
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=5)
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokenizer.save_pretrained(tmp_path / "cut")
    (tmp_path / "tokenizer.json").replace(tmp_path / "cut" / "tokenizer.json")
    again = prepare(**SHAPES["qa"](tmp_path), tokenizer=tmp_path / "cut", folder="again")
    assert about(again)["files"]["corpus"]["tokens"] == sum(count(row["document"]) for row in read(again, "corpus"))
    with pytest.raises(InputError, match="--tokenizer .*absent"):
        prepare(**qa(tmp_path), tokenizer=tmp_path / "absent", folder="other")


def test_skipped_rows_are_counted(prepare, tmp_path):
    path = tmp_path / "qa.jsonl"
    write_jsonl(path, PAIRS)
    with open(path, "ab") as file:
        file.write(b'no json\n{"question": "q", "answer": 5}\n{"question": "q"}\n{"question": "\xe9"}\n')
        file.write(b'{"question": "q", "answer": null}\n')
    with pytest.raises(InputError, match=r"qa\.jsonl, line 61, column 1: not JSON"):
        prepare(path)
    assert not (tmp_path / "set").exists()
    folder = prepare(path, on_error="skip")
    assert about(folder)["dropped"] == {
        "cannot be read: missing column": 1,
        "cannot be read: not JSON": 1,
        "cannot be read: not text": 2,
        "cannot be read: wrong encoding": 1,
    }
    assert any("line 62, column 'answer': expected text, found 5" in s["text"] for s in read(folder, "dropped"))


def test_ids_that_come_again(prepare, tmp_path):
    """In one file and over two."""
    rows = [row | {"id": "same"} for row in PAIRS]
    one, two = (write_jsonl(tmp_path / f"{n}.jsonl", part) for n, part in enumerate((rows[:30], rows[30:])))
    folder = prepare(one, two)
    assert len({row["id"] for name in ("align", "dev", "test") for row in read(folder, name)}) == len(PAIRS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"document_characters": (1, 3)}, r"no records are left: 60 document longer than 3 characters"),
        ({"test": "0.1%"}, "no test: 60 records are too few for --test 0.1%; give a number of records"),
        ({"group_by": "absent"}, "no column 'absent' to group by"),
        ({"query": "{absent}"}, r"no field 'absent' \(found: id, question, answer, focus\)"),
    ],
)
def test_refusals_leave_nothing(prepare, tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        prepare(**qa(tmp_path), **settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["qa.jsonl"]


def test_a_folder_that_is_not_empty_is_left_alone(prepare, tmp_path):
    source = qa(tmp_path)
    (tmp_path / "set").mkdir()
    prepare(**source)  # an empty one is fine
    before = (tmp_path / "set" / "README.md").read_bytes()
    with pytest.raises(InputError, match="--output-dir .* is not empty; choose another folder"):
        prepare(**source)
    assert (tmp_path / "set" / "README.md").read_bytes() == before


def test_markup_is_cleaned_before_it_is_cut(prepare, tmp_path):
    html = "".join(f'<p>Paragraph <a href="http://x.org/{n}?a=b">number {n}</a> of it.</p>' for n in range(40))
    folder = prepare(write_jsonl(tmp_path / "f.jsonl", [{"text": html}]), chunk_tokens=12, dev=0)
    assert not any("<" in row["document"] or "href" in row["document"] for row in read(folder, "corpus"))


def test_what_cannot_be_printed(prepare, tmp_path):
    rows = [row | {"id": f"\ud800{row['id']}", "source": "a\udfff"} for row in PAIRS]
    rows += [{"id": "x", "question": "", "answer": "\ud800 d", "source": None}]
    path = tmp_path / "qa.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = prepare(path, query="{question}", on_error="skip")
    assert {row["source"] for row in read(folder, "align")} == {"a"}


def test_where_a_set_goes(prepare, tmp_path, monkeypatch):
    """A link to an empty folder, and a user's own folder of a name like ours."""
    (tmp_path / "set.unfinished").mkdir()
    (tmp_path / "set.unfinished" / "mine").write_text("")
    (tmp_path / "real").mkdir()
    (tmp_path / "set").symlink_to(tmp_path / "real")
    prepare(**qa(tmp_path))
    assert (tmp_path / "real" / "README.md").is_file() and (tmp_path / "set.unfinished" / "mine").is_file()
    assert not list(tmp_path.glob(".*"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="--output-dir is where you are"):
        prepare_set(PrepareConfig(sources=[tmp_path / "qa.jsonl"], output_dir="."))
    prepare_set(PrepareConfig(sources=[tmp_path / "qa.jsonl"], output_dir="in", num_proc=1))
    assert "--num-proc" not in (tmp_path / "here" / "in" / "README.md").read_text()


def test_a_prepared_set_and_odd_folders_as_sources(prepare, tmp_path):
    folder = prepare(**qa(tmp_path))
    with pytest.raises(InputError, match="is a prepared set; give its files as sources"):
        prepare(folder, folder="again")
    write_jsonl(tmp_path / "mixed" / "data.jsonl", PAIRS)
    (tmp_path / "mixed" / "README.md").write_text("# A")
    with pytest.raises(
        InputError, match="mixed holds data.jsonl: in a folder, data are files named train, dev or test"
    ):
        prepare(tmp_path / "mixed", folder="mixed-set")
    (tmp_path / "notes.md").write_text("# Notes\n\n" + "\n\n".join(f"## {p['question']}\n{p['answer']}" for p in PAIRS))
    notes = prepare(tmp_path / "notes.md", folder="notes-set")
    assert next(row["id"] for row in read(notes, "corpus")).startswith("notes.md:")


FULL_DISK = """
import resource, sys
from lbr_st.data import PrepareConfig, prepare
from lbr_st.errors import UnfinishedError
for limit in (2000, 14000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        prepare(PrepareConfig(sources=[sys.argv[1]], output_dir=sys.argv[2], num_proc=1))
    except UnfinishedError as error:
        print(error)
"""


def test_a_full_disk(tmp_path):
    """Files cannot grow: while reading, and while writing. Nothing that could be taken for a set is left."""
    command = [sys.executable, "-c", FULL_DISK, *qa(tmp_path)["sources"], str(tmp_path / "set")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (
        run.stdout.splitlines()
        == [f"{tmp_path}/set was not written: File too large; let files be larger, with ulimit -f"] * 2
    ), run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["qa.jsonl"]


def test_a_size_of_what_a_source_has_already(prepare, tmp_path):
    """Refused, unless the sides are forgotten; no size at all is none."""
    source = sides(tmp_path)["sources"][0]
    with pytest.raises(InputError, match="--dev 5: dev.jsonl is dev already; leave the number out, or .*--resplit"):
        prepare(source, dev=5)
    assert about(prepare(source, dev="0%"))["files"]["dev"]["records"] == 8
    assert about(prepare(source, dev=5, test=6, resplit=True, folder="more"))["files"]["dev"]["records"] == 5


@pytest.mark.parametrize(("name", "value"), [("test", 6), ("test", "10%"), ("align", "50%")])
def test_what_needs_queries_where_there_are_none(name, value, prepare, tmp_path):
    source = write_jsonl(tmp_path / "texts.jsonl", [{"text": p["answer"]} for p in PAIRS])
    with pytest.raises(InputError, match=f"--{name} {value}: no record has a query; leave it out, or give pairs"):
        prepare(source, **{name: value})
    assert set(about(prepare(source, **{name: 0}))["files"]) == {"passages", "dev", "corpus"}


def test_a_test_without_queries(prepare, tmp_path, caplog):
    """A file that the user names is refused; one that a source has is said to be of no use."""
    test = write_jsonl(tmp_path / "test.jsonl", [{"text": p["answer"]} for p in PAIRS[50:]])
    with pytest.raises(InputError, match=r"--test .*test.jsonl: no record of test has a query, so that nothing can be"):
        prepare(write_jsonl(tmp_path / "qa.jsonl", PAIRS[:50]), test=test, folder="one")
    with pytest.raises(InputError, match=r"--test .*test.jsonl: no record of test has a query"):
        prepare(write_jsonl(tmp_path / "texts.jsonl", [{"text": p["answer"]} for p in PAIRS[:50]]), test=test)
    source = sides(tmp_path)["sources"][0]
    write_jsonl(tmp_path / "sides" / "test.jsonl", [{"text": p["answer"]} for p in PAIRS[50:]])
    assert "test" not in about(prepare(source, folder="two"))["files"]
    assert "no record of test has a query, so that nothing can be asked" in caplog.text
    # Of documents alone dev says how well they are learnt.
    texts = [{"text": p["answer"]} for p in PAIRS]
    dev = write_jsonl(tmp_path / "dev.jsonl", texts[:9])
    folder = prepare(write_jsonl(tmp_path / "texts.jsonl", texts[9:]), dev=dev, folder="three")
    assert about(folder)["files"]["dev"]["records"] == 9


def judged_rows():
    """Two answers of each of 20 questions, and three documents that answer none of them; two of them two have."""
    rows = []
    for n, p in enumerate(PAIRS[:20]):
        rows += [{"query": p["question"], "text": f"{p['answer']} {k}", "relevance": 1} for k in ("Yes.", "So it is.")]
        rows += [{"query": p["question"], "text": f"Another matter, {n // 2}, {k}.", "relevance": 0} for k in "ab"]
        rows += [{"query": p["question"], "text": f"A third matter, {n}.", "relevance": 0}]
    return rows


def test_the_order_of_judged_rows_is_nothing(prepare, tmp_path):
    """Backwards, every file has the same queries, documents and hard negatives."""
    rows, found = judged_rows(), []
    for name, each in (("forth", rows), ("back", rows[::-1])):
        folder = prepare(write_jsonl(tmp_path / f"{name}.jsonl", each), folder=name, test=6, dev=6, align="50%")
        found.append(
            {
                file: [(row.get("query"), row["document"], row.get("negatives")) for row in read(folder, file)]
                for file in ("learn", "align", "dev", "test", "corpus")
            }
        )
    assert found[0] == found[1]
    assert {len(negatives) for _, _, negatives in found[0]["align"]} == {3}


def test_documents_that_answer_nothing_are_searched(prepare, tmp_path):
    """Each once, and they are in no other file."""
    folder = prepare(write_jsonl(tmp_path / "judged.jsonl", judged_rows()), test=6, dev=6)
    corpus = [row["document"] for row in read(folder, "corpus")]
    assert len(corpus) == len(set(corpus)) == 40 + 20 + 20
    matters = {text for text in corpus if "matter" in text}
    assert len(matters) == 40 == about(folder)["searched_only"]
    others = {row["document"] for name in ("learn", "align", "passages", "dev", "test") for row in read(folder, name)}
    assert not matters & others


def test_a_pair_of_train_is_a_duplicate_of_one_that_may_come_to_it(prepare, tmp_path):
    """What no source says a side of is parted with what is said to be training."""
    sides(tmp_path)
    more = [PAIRS[0], PAIRS[1] | {"question": PAIRS[1]["question"].upper()}]
    folder = prepare(tmp_path / "sides", write_jsonl(tmp_path / "more.jsonl", more))
    assert about(folder)["files"]["learn"]["records"] == 40
    assert about(folder)["dropped"] == {"exact duplicate": 1, "normalised duplicate": 1}
