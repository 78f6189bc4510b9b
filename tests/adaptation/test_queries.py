"""A folder of queries: what is in it, that it is the same after a kill, and what is said when there is none."""

import errno
import json
import multiprocessing
import re
import shlex
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from shapes import markdown, write_jsonl

import lbr_st
from lbr_st.adaptation import queries_card
from lbr_st.adaptation.answers import Answers
from lbr_st.adaptation.kinds import WRITTEN
from lbr_st.adaptation.passages import Passage
from lbr_st.adaptation.queries import QueriesConfig, QuerySet, batches_of, plan, write_queries
from lbr_st.adaptation.writers import Request
from lbr_st.data.drops import Drops
from lbr_st.data.prepared_set import mteb_tasks_of
from lbr_st.data.records import read_records, read_tuples
from lbr_st.errors import InputError, UnfinishedError, foreseen

PAGE = """# Lists

## Sort

A `List<T>` is put in order by sort(), which changes it and returns <b>None</b>.

## Copy

A copy of a list is made by its method copy(), or by a slice of all of it.

## See also

Tuples.
"""


def scripted(content):
    """Answers by kind: a question and keywords that name the passage, one claim for all."""
    subject = "sorting" if "sort()" in content else "copying"
    if "question" in content:
        return f'Question: "What is {subject} for?"'
    return f"1. {subject}\n2. list" if "keywords" in content else "It is about lists."


@pytest.fixture
def docs(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "lists.md").write_text(PAGE)
    return str(tmp_path / "docs")


@pytest.fixture
def of_server(server, docs, tmp_path):
    """Settings of queries by the server."""
    server.answer = scripted
    return {"sources": [docs], "output_dir": tmp_path / "out", "generator": server.url, "generator_model": "tiny"}


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}


def said(error):
    return ". ".join([foreseen(error), *getattr(error, "__notes__", [])])


SORT = "A `List<T>` is put in order by sort(), which changes it and returns <b>None</b>."
COPY = "A copy of a list is made by its method copy(), or by a slice of all of it."


def test_queries_of_every_kind(of_server, tmp_path):
    """Each passage with its headings, its given query and what was written; documents as they are searched."""
    pairs = write_jsonl(tmp_path / "few.jsonl", [{"query": "How do I copy?", "document": COPY}])
    made = write_queries(QueriesConfig(**of_server, pairs=pairs))
    assert [(row["id"], row["kind"], row["query"], row["document"]) for row in made.rows()] == [
        ("lists.md:5#title", "title", "Lists > Sort", SORT),
        ("lists.md:5#question", "question", "What is sorting for?", SORT),
        ("lists.md:5#keywords", "keywords", "sorting list", SORT),
        ("lists.md:9#given", "given", "How do I copy?", COPY),
        ("lists.md:9#title", "title", "Lists > Copy", COPY),
        ("lists.md:9#question", "question", "What is copying for?", COPY),
        ("lists.md:9#keywords", "keywords", "copying list", COPY),
    ]
    assert next(made.rows()) == {
        "id": "lists.md:5#title", "query": "Lists > Sort", "document": SORT, "kind": "title",
        "document_id": "lists.md:5", "source": "docs",
    }  # fmt: skip
    about = QuerySet.open(made.folder).about
    assert about["kinds"] == {"given": 1, "title": 2, "question": 2, "keywords": 2}
    assert about["lost"] == {
        "claim: written for several passages": 2,
        "passage: fewer than 8 words and marks to write about": 1,
        "title: longer than the passage": 1,
    }
    assert about["passages"] == {"read": 3, "written_about": 2, "with_queries": 2}
    assert about["written_by"]["generator_model"] == "tiny" and about["settings"]["seed"] == 0
    assert sorted(contents(made.folder)) == ["README.md", "dropped.jsonl", "lbr_queries.json", "queries.jsonl"]
    assert not (tmp_path / "out.work").exists()


def test_every_command_reads_them(of_server):
    """As they were written: what looks like markup is meant."""
    made = write_queries(QueriesConfig(**of_server))
    wanted = [(row["id"], row["query"], row["document"]) for row in made.rows()]
    for records in (read_records(made.file), read_tuples(made.file)):
        assert [(record["id"], record["query"], record["document"]) for record in records] == wanted
    assert any("<b>" in document for *_, document in wanted)


def test_public_tests_on_the_same_source_are_named(tmp_path, prepare):
    """From a prepared set to whatever is trained on its queries."""
    folder = prepare(**markdown(tmp_path), test=0, dev=0)
    about = json.loads((folder / "lbr_set.json").read_text())
    (folder / "lbr_set.json").write_text(json.dumps(about | {"mteb": ["NFCorpus"]}))
    made = write_queries(QueriesConfig(sources=folder, output_dir=tmp_path / "out"))
    assert made.about["mteb"] == mteb_tasks_of([made.file], []) == ["NFCorpus"]
    assert (
        mteb_tasks_of([f"doc2query={made.file}"], []) == ["NFCorpus"]
        and mteb_tasks_of([str(tmp_path / "no")], []) == []
    )


def test_the_card(of_server):
    made = write_queries(QueriesConfig(**of_server))
    card = (made.folder / "README.md").read_text()
    assert re.search(r"\| title +\| titles, headings and docstrings +\| 2 +\| 33% +\|", card)
    assert re.search(r"\| claim: written for several passages +\| 2 +\|", card)
    assert (
        f"- question: **What is copying for?** `{COPY}`" in card and card.partition("## Examples")[2].count("\n- ") == 6
    )
    assert "--generator-model tiny --output-dir DIR" in card
    assert "## Examples" not in queries_card.summary(made.folder)


def test_twenty_examples_of_all_kinds():
    kinds = ["given", "title", "question"]
    rows = [
        {"id": f"{kind}{n}", "query": "q", "kind": kind} for kind in kinds for n in range(2 if kind == "given" else 40)
    ]
    drawn = queries_card.examples(rows, seed=0)
    assert Counter(row["kind"] for row in drawn) == {"given": 2, "title": 9, "question": 9}
    assert len({row["id"] for row in drawn}) == 20
    assert drawn == queries_card.examples(rows[::-1], seed=0) != queries_card.examples(rows, seed=1)


def test_without_a_language_model_there_are_titles(docs, tmp_path):
    made = write_queries(QueriesConfig(sources=docs, output_dir=tmp_path / "out"))
    assert [row["query"] for row in made.rows()] == ["Lists > Sort", "Lists > Copy"]
    assert "No query was written by a language model." in (made.folder / "README.md").read_text()


# ---- what is written for which passage


PASSAGES = [Passage(f"p{n}", f"This is passage number {n} of one hundred and twenty.", "s") for n in range(120)]


def planned(*kinds, **settings):
    config = QueriesConfig(sources=["none"], output_dir="none", model="none", **settings)
    return plan(PASSAGES, kinds or WRITTEN, config, Drops())


def test_one_of_each_kind_unless_said():
    assert [(r.passage.id, r.number) for r in planned()] == [(p.id, 1) for p in PASSAGES for _ in WRITTEN]
    assert Counter(request.kind for request in planned()) == dict.fromkeys(WRITTEN, 120)


def test_kinds_share_the_passages():
    """Fewer than there are kinds: each has its share, drawn by the seed. More: they come again, with a number."""
    counts = Counter(request.kind for request in planned(per_passage=1))
    assert counts.total() == 120 and min(counts.values()) > 25
    assert [r.kind for r in planned(per_passage=1)] != [r.kind for r in planned(per_passage=1, seed=1)]
    several = planned("question", "claim", per_passage=5, temperature=1.0)
    assert Counter(Counter(r.kind for r in several if r.passage.id == "p0").values()) == {3: 1, 2: 1}
    assert sorted({r.number for r in several}) == [1, 2, 3]


def test_most_passages_are_drawn_by_the_seed():
    drawn = [[r.passage.id for r in planned("question", most=30, seed=seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 30
    assert drawn[0] == [p.id for p in PASSAGES if p.id in drawn[0]]
    assert not set(drawn[0]) <= {p.id for p in PASSAGES[:60]}


def test_batches_are_of_like_lengths_and_know_nothing_of_what_is_there():
    passages = [Passage(str(n), "x" * n, "s") for n in (3, 9, 5)]
    requests = [Request(passage, kind, 1) for passage in passages for kind in WRITTEN]
    sizes = [[(r.passage.id, r.kind) for r in batch] for batch in batches_of(requests, 4)]
    assert sizes == [
        [("9", "question"), ("9", "keywords"), ("9", "claim"), ("5", "question")],
        [("5", "keywords"), ("5", "claim"), ("3", "question"), ("3", "keywords")],
        [("3", "claim")],
    ]


# ---- killed, and gone on with


@pytest.fixture
def local(chat_backbone, tmp_path, monkeypatch):
    """Settings of queries by a tiny language model, which draws."""
    monkeypatch.setattr("lbr_st.adaptation.writers.MOST_NEW_TOKENS", 16)
    return markdown(tmp_path) | {"model": chat_backbone, "temperature": 1.0, "most": 5, "batch_size": 3, "seed": 3}


def stand_still(config):
    """Run until the seventh answer, which is in the middle of a batch, and wait there to be killed."""
    add = Answers.add

    def add_and_stand_still(self, key, answer):
        add(self, key, answer)
        if len(self) == 7:
            time.sleep(600)

    Answers.add = add_and_stand_still
    write_queries(config)


def test_a_run_that_is_killed_ends_with_the_same_bytes(local, tmp_path):
    """Killed in the middle of a batch, its last line torn."""
    whole = write_queries(QueriesConfig(**local, output_dir=tmp_path / "whole"))
    config = QueriesConfig(**local, output_dir=tmp_path / "out")
    process = multiprocessing.get_context("fork").Process(target=stand_still, args=[config])  # a new one takes seconds
    process.start()
    deadline, file = time.monotonic() + 120, tmp_path / "out.work" / "answers.jsonl"
    while process.is_alive() and time.monotonic() < deadline:
        if file.is_file() and file.read_bytes().count(b"\n") == 7:
            break
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "the run ended before it was killed"
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 7 and not (tmp_path / "out").exists()
    file.write_bytes(b"".join(lines[:-1]) + lines[-1][:-5])
    made = write_queries(config)
    assert contents(made.folder) == contents(whole.folder) and not file.parent.exists()
    assert sum(made.about["kinds"].get(kind, 0) for kind in WRITTEN) > 0


def test_what_is_written_does_not_depend_on_the_batches(local, tmp_path, monkeypatch):
    monkeypatch.setattr(Answers, "remove", lambda self: None)
    for size in (1, 4):
        write_queries(QueriesConfig(**local | {"batch_size": size, "most": 3}, output_dir=tmp_path / f"out{size}"))
    one, four = (sorted((tmp_path / f"out{size}.work" / "answers.jsonl").read_text().splitlines()) for size in (1, 4))
    assert one == four and len(one) == 9
    assert contents(tmp_path / "out1") == contents(tmp_path / "out4")


def test_an_endpoint_that_goes_down_costs_no_answer(of_server, server, tmp_path):
    """The line says what is kept; the same command ends as if nothing had been."""
    whole = contents(write_queries(QueriesConfig(**of_server | {"output_dir": tmp_path / "whole"})).folder)
    server.asked.clear()
    server.answer = lambda content: scripted(content) if len(server.asked) <= 4 else (503, "", {})
    config = QueriesConfig(**of_server, batch_size=1)
    with pytest.raises(UnfinishedError) as down:
        write_queries(config)
    assert re.search(
        r"does not answer: HTTP 503: .*; is it running, and is the address right\?\. 4 answers are kept in "
        r".*out\.work, and the same command goes on with them$",
        said(down.value),
    )
    assert not (tmp_path / "out").exists()
    server.asked.clear()
    server.answer = scripted
    assert contents(write_queries(config).folder) == whole and len(server.asked) == 2


def test_another_run_in_the_same_folder_is_refused_by_name(of_server, server, docs):
    server.answer = lambda content: scripted(content) if len(server.asked) <= 2 else (503, "", {})
    with pytest.raises(UnfinishedError):
        write_queries(QueriesConfig(**of_server, batch_size=1))
    with pytest.raises(
        InputError, match="out.work holds 2 answers of a run that was begun with --seed 0, now it is 1;"
    ):
        write_queries(QueriesConfig(**of_server, seed=1))
    with pytest.raises(InputError, match="with --generator-model tiny, now it is large"):
        write_queries(QueriesConfig(**of_server | {"generator_model": "large"}))
    Path(docs, "lists.md").write_text(PAGE.replace("A copy", "One copy"))
    with pytest.raises(InputError, match="begun with data that have changed since"):
        write_queries(QueriesConfig(**of_server))


def test_a_full_disk_is_one_line(of_server, monkeypatch, tmp_path):
    add = Answers.add

    def full(self, key, answer):
        if len(self) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, key, answer)

    monkeypatch.setattr(Answers, "add", full)
    with pytest.raises(UnfinishedError) as refused:
        write_queries(QueriesConfig(**of_server))
    assert said(refused.value).startswith(
        f"--output-dir {tmp_path / 'out'} was not written: No space left on device; make room on the disk. 3 an"
    )
    assert not (tmp_path / "out").exists() and len(Answers(tmp_path / "out.work", {})) == 3


def test_a_disk_that_is_full_at_the_end_costs_no_answer(of_server, server, monkeypatch, tmp_path):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lbr_st.adaptation.queries.write_text", full)
        with pytest.raises(UnfinishedError, match="was not written: No space left on device") as refused:
            write_queries(QueriesConfig(**of_server))
    assert "6 answers are kept in" in said(refused.value) and not (tmp_path / "out").exists()
    server.asked.clear()
    assert write_queries(QueriesConfig(**of_server)).about["kinds"]["question"] == 2 and not server.asked


# ---- what is refused


@pytest.mark.parametrize("status", [400, 413, 422])
def test_an_endpoint_that_refuses_all_is_an_error_as_often_as_it_is_asked(of_server, server, tmp_path, status):
    """Its errors are no answers: nothing is kept of them, and the same command asks again."""
    answers = server.answer
    server.answer = lambda content: (status, '{"error": {"message": "max_tokens is not known"}}', {})
    for _ in range(2):  # of fewer passages than are refused at once
        with pytest.raises(InputError, match=f"refuses what it is asked: HTTP {status}: max_tokens is not known"):
            write_queries(QueriesConfig(**of_server, kinds=["title", "question"]))
        assert not (tmp_path / "out").exists() and not (tmp_path / "out.work").exists()
    server.answer = answers
    assert write_queries(QueriesConfig(**of_server)).about["kinds"]["question"] == 2


def test_a_request_that_was_refused_is_asked_again(of_server, server, monkeypatch):
    """By a run that goes on: a passage may be too long for a server, and not for the next one."""

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    answer = server.answer
    server.answer = lambda content: (400, "too long", {}) if "copy()" in content else answer(content)
    with monkeypatch.context() as patch:
        patch.setattr("lbr_st.adaptation.queries.write_text", full)
        with pytest.raises(UnfinishedError, match="No space left on device") as refused:
            write_queries(QueriesConfig(**of_server))
    assert "3 answers are kept in" in said(refused.value)
    server.answer = answer
    server.asked.clear()
    assert write_queries(QueriesConfig(**of_server)).about["kinds"]["question"] == 2 and len(server.asked) == 3


def test_no_query_at_all(of_server, server, docs, tmp_path):
    server.answer = lambda content: "I cannot"
    kinds = {"kinds": ["question", "claim"]}
    with pytest.raises(
        InputError, match="no queries: 5 .2 question: written for several passages, 2 claim: .* other --k"
    ):
        write_queries(QueriesConfig(**of_server, **kinds))
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.work").exists()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "a.txt").write_text("No heading here.")
    with pytest.raises(InputError, match="no queries and no titles; give --model or --generator"):
        write_queries(QueriesConfig(sources=[tmp_path / "bare"], output_dir=tmp_path / "out"))
    with pytest.raises(InputError, match="no queries: 1 .1 passage: fewer than 8 words"):
        write_queries(QueriesConfig(**of_server | {"sources": [tmp_path / "bare"]}))


def test_a_folder_that_holds_something_is_refused_first(of_server, server, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("")
    with pytest.raises(InputError, match="out is not empty"):
        write_queries(QueriesConfig(**of_server))
    assert not server.asked


def test_rows_that_cannot_be_used_stop_or_are_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"query": "Why?", "document": "So."}\n{"query": 5, "document": "So."}\n')
    settings = {"sources": [tmp_path / "a.jsonl"], "output_dir": tmp_path / "out"}
    with pytest.raises(InputError, match="a.jsonl, line 2"):
        write_queries(QueriesConfig(**settings))
    assert write_queries(QueriesConfig(**settings, on_error="skip")).about["lost"] == {"cannot be read: not text": 1}


WRITES = {"generator": "http://localhost:1", "generator_model": "m"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sources": []}, "no source: name a prepared set"),
        ({"model": "m", **WRITES}, "--model and --generator are two ways"),
        ({"generator": "http://a"}, "--generator URL and --generator-model NAME belong together"),
        ({"generator_model": "m"}, "--generator URL and --generator-model NAME belong together"),
        ({"kinds": ["title", "poem"]}, "--kinds poem: there are given, title, question"),
        ({"kinds": ["title", "claim"]}, "--kinds claim are written by a language model; give --model or --generator"),
        ({"kinds": ["title"], **WRITES}, "--kinds title: none of these is written, so leave out the model"),
        ({"most": 5}, "--most is for queries that are written; give --model or --generator"),
        ({"temperature": 0.5}, "--temperature is for queries that are written"),
        ({"per_passage": 0, **WRITES}, "--per-passage must be at least 1, got 0"),
        ({"most": 0, **WRITES}, "--most must be at least 1, got 0"),
        ({"temperature": -1.0, **WRITES}, "--temperature must be a number from 0, got -1.0"),
        ({"temperature": float("nan"), **WRITES}, "--temperature must be a number from 0"),
        ({"dtype": "int8", "model": "m"}, "--dtype must be one of float32, float16, bfloat16, got int8"),
        ({"dtype": "float16", **WRITES}, "--dtype float16 is for --model"),
        ({"on_error": "go"}, "--on-error must be one of stop, skip, got go"),
    ],
)
def test_what_cannot_be_meant(settings, said):
    with pytest.raises(InputError, match=re.escape(said)):
        QueriesConfig(**{"sources": ["a"], "output_dir": "out"} | settings)


def test_the_same_is_not_written_twice(of_server):
    with pytest.raises(InputError, match="--per-passage 4 asks for several of a kind .* add --temperature 0.7"):
        write_queries(QueriesConfig(**of_server, per_passage=4))


def test_a_model_that_learned_doc2query_writes_questions_alone(docs, model, tmp_path, monkeypatch):
    monkeypatch.setattr("lbr_st.adaptation.writers.MOST_NEW_TOKENS", 8)
    model[0].history = [{"stage": "learn", "objective": "doc2query", "arm": "cut-off"}]
    lbr_st.save(model, tmp_path / "model")
    settings = {"sources": docs, "output_dir": tmp_path / "out", "model": str(tmp_path / "model")}
    with pytest.raises(InputError, match="--kinds claim: --model .* learned doc2query, which writes question$"):
        write_queries(QueriesConfig(**settings, kinds=["question", "claim"]))
    about = write_queries(QueriesConfig(**settings)).about
    assert about["kinds"]["title"] > 0 and {k.partition(":")[0] for k in about["lost"]} <= {
        "question",
        "title",
        "passage",
    }
    assert about["written_by"]["model"] == "model"


def test_what_is_no_folder_of_queries(tmp_path):
    with pytest.raises(InputError, match="it has no lbr_queries.json"):
        QuerySet.open(tmp_path)
    for content in (
        "[]", "{", '{"kinds": {}}', '{"kinds": [], "lost": {}, "passages": {}}',
        '{"kinds": {"title": "2"}, "lost": {}, "passages": {}}', '{"kinds": {}, "lost": {}, "passages": []}',
    ):  # fmt: skip
        (tmp_path / "lbr_queries.json").write_text(content)
        with pytest.raises(InputError, match="is not what lbr data queries wrote"):
            QuerySet.open(tmp_path)


def test_the_command_of_a_configuration():
    config = QueriesConfig(sources=["a b"], output_dir="o", kinds=["title", "claim"], most=4, seed=2, **WRITES)
    assert shlex.split(config.command) == (
        "lbr data queries".split() + ["a b"] + "--generator http://localhost:1 --generator-model m".split()
        + "--kinds title claim --most 4 --seed 2 --output-dir DIR".split()
    )  # fmt: skip
