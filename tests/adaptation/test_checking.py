"""What an adaptation refuses before its first step: one line, and nothing is made."""

import json
import shutil
from dataclasses import replace

import pytest
from helpers import make_backbone
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from transformers import AutoModelForCausalLM, AutoTokenizer

from lbr_st.adaptation import checking
from lbr_st.adaptation.checking import check, least_room
from lbr_st.adaptation.layout import Layout
from lbr_st.adaptation.run import adapt
from lbr_st.errors import InputError, UnfinishedError


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"model": "absent/"}, "^--model absent/ is not a model"),
        ({"teacher": "./absent"}, "^--teacher ./absent is not a model"),
        ({"queries": "absent.jsonl"}, "^--queries absent.jsonl: no such file"),
        ({"pairs": "absent.jsonl"}, "^--pairs absent.jsonl: no such file"),
        ({"general": "absent.jsonl"}, "^--general absent.jsonl: no such file"),
        ({"sources": ["absent.md"]}, "^absent.md: no such file"),
        (
            {"model": "no-such-model"},
            "^--model no-such-model is not a model: there is no such directory",
        ),
        ({"teacher": "typo"}, "^--teacher typo is not a model: there is no such directory"),
        ({"learn": {"objective": "foo"}}, "^--objective foo: 'foo' is none of sft"),
        ({"align": {"matryoshka_dims": [1000]}}, "^--matryoshka-dims must be from 1 to 32, the width"),
        ({"align": {"optim": "adamw_8bit"}}, "^--optim adamw_8bit: .*bitsandbytes"),
        ({"learn": {"report_to": "wandb"}}, "^--report-to wandb needs wandb"),
        ({"learn": {"layers": 9}}, "^--layers 9"),
        ({"learn": {"bottleneck_tokens": 150}}, "^--bottleneck-tokens 150: "),
        (
            {"align": {"bottleneck_tokens": 2}},
            "^--align bottleneck_tokens: stage 2 has the bottleneck of stage 1; write --learn bottleneck_tokens=2$",
        ),
        (
            {"align": {"query_prompt": "ask: "}},
            "^--align query_prompt: the end is merged .* write --learn query_prompt=... too, or add --skip merge$",
        ),
        ({"align": {"nested": True}}, "^--align nested: .* write --learn nested=True$"),
        ({"max_length": 100_000}, "^--max-length 100000: "),
        ({"max_length": 200}, "^--max-length 200: stage 1 reads a text and its target in one row"),
    ],
)
def test_what_is_refused_before_any_work(config, told, message):
    with pytest.raises(InputError, match=message):
        adapt(replace(config, **told))
    assert not config.work.exists()


@pytest.mark.parametrize("flag", ["queries", "pairs", "general"])
def test_a_folder_where_a_file_of_pairs_is_needed(config, handbook, tmp_path, flag):
    written = tmp_path / "written"
    written.mkdir()
    (written / "lbr_queries.json").write_text("{}")
    message = "is a folder, where a file of queries with their passages is needed, or a prepared set"
    for folder, said in (
        (handbook, f"{message}$"),
        (written, f"{message}; give {written / 'queries.jsonl'}$"),
        (config.model, "is a model, where data are needed"),
    ):
        with pytest.raises(InputError, match=f"^--{flag} {folder}: {said}"):
            adapt(replace(config, **{flag: str(folder)}))
    assert not config.work.exists()


def test_a_corpus_with_titles_is_asked_by_them(config):
    check(replace(config, queries=None))


@pytest.mark.parametrize("skip", [(), ("filter",)])
def test_too_few_passages_are_known_at_the_start(config, tmp_path, skip):
    """Also where the data ask for them: two notes are cut into 18 passages, and three given ones are others."""
    notes = tmp_path / "notes"
    notes.mkdir()
    text = "\n\n".join(f"## Part {n}\n\nMuch of it is found in place number {n}." for n in range(9))
    for name in ("one", "two"):
        (notes / f"{name}.md").write_text(text.replace("it is", f"{name} is"))
    rows = [{"query": f"q {n}", "document": f"d {n}"} for n in (1, 2, 3, 3)]
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for queries, number in ((None, 18), (str(tmp_path / "few.jsonl"), 21)):
        with pytest.raises(InputError) as error:
            adapt(replace(config, sources=[notes], queries=queries, skip=skip))
        assert str(error.value) == (
            f"{notes}: {number} passages, and at least 40 with a query are needed to train on some and be judged by "
            "others; give more text, or a set with its own dev and test as --pairs"
        )
    assert not config.work.exists()


def test_an_embedding_model_that_cannot_be_trained_is_refused_before_any_work(config, tmp_path):
    """A table of words is no transformer, nor are two encoders in one directory."""
    table = SentenceTransformer(modules=[StaticEmbedding(AutoTokenizer.from_pretrained(config.model), embedding_dim=8)])
    router = Router.for_query_document(list(table.children()), list(table.children()))
    for name, model in (("table", table), ("router", SentenceTransformer(modules=[router]))):
        model.save_pretrained(str(tmp_path / name), create_model_card=False)
        with pytest.raises(InputError) as error:
            adapt(replace(config, model=str(tmp_path / name), learn={}))
        assert str(error.value) == (
            f"--model {tmp_path / name}: a model without config.json, which is no transformer, cannot be trained"
        )
    assert not config.work.exists()


def test_several_queries_of_a_model_that_writes_one(config):
    with pytest.raises(InputError, match="^--per-passage 2: .* has no chat template, and writes one question"):
        adapt(replace(config, queries=None, per_passage=2))
    check(replace(config, queries=None, per_passage=1))
    assert not config.work.exists()


def test_a_folder_that_holds_something_is_refused(config, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(InputError, match="^--output-dir .* is not empty"):
        adapt(config)


@pytest.fixture
def wrong_row(tmp_path):
    file = tmp_path / "wrong.jsonl"
    file.write_text(json.dumps({"query": "one", "document": "two"}) + "\n" + json.dumps({"query": "three"}) + "\n")
    return str(file)


@pytest.mark.parametrize("flag", ["queries", "pairs", "general"])
def test_files_are_read_before_any_work(config, wrong_row, flag):
    with pytest.raises(InputError, match="wrong.jsonl, line 2: no column for the document"):
        adapt(replace(config, **{flag: wrong_row}))
    assert not config.work.exists()


def test_teachers_are_opened_before_any_work(config, embedding_model, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(embedding_model, damaged)
    (damaged / "1_Pooling" / "config.json").write_text("{")
    for told, message in (
        ({"teacher": str(damaged)}, "^--teacher .*damaged"),
        ({"teacher": config.model}, "^--teacher .* is a language model, not an embedding model"),
        ({"reranker": embedding_model}, "^--reranker .* is no reranker: it is a Bert.* without a head for scores"),
    ):
        with pytest.raises(InputError, match=message):
            adapt(replace(config, **told))
    assert not config.work.exists()


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((503, "starting", {}), UnfinishedError, "does not answer: HTTP 503: starting; is it running"),
        ((404, "no model m", {}), InputError, "HTTP 404: no model m; is --generator-model m there"),
        ((400, "no chat here", {}), InputError, "refuses what it is asked: HTTP 400: no chat here"),
    ],
)
def test_a_server_is_asked_before_any_work(config, server, answer, error, message):
    server.answer = lambda content: answer
    with pytest.raises(error, match=message):
        adapt(replace(config, queries=None, generator=server.url, generator_model="m"))
    assert not config.work.exists()


def test_a_writer_needs_room_for_a_passage(config, tmp_path):
    small = make_backbone(tmp_path / "small", max_position_embeddings=100)
    tokenizer = AutoTokenizer.from_pretrained(small)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(small)
    with pytest.raises(InputError, match="leaves no room for a passage beside what it is told"):
        adapt(replace(config, model=str(small), queries=None))
    assert not config.work.exists()


def test_the_room_on_the_disk(config, monkeypatch):
    """By hand: start, two stages, merged and saved, and the checkpoint of the second stage beside three models."""
    model = AutoModelForCausalLM.from_pretrained(config.model)
    size = 4 * sum(each.numel() for each in model.parameters())
    layout = Layout(config)
    assert least_room(layout, layout.names) == 6 * size
    assert least_room(Layout(replace(config, align={"lora_rank": 2}, learn={"lora_rank": 2})), layout.names) == 5 * size
    assert least_room(layout, ["verdict"]) == size
    monkeypatch.setattr(checking, "free_room", lambda layout: 6 * size - 1)
    with pytest.raises(InputError, match="^--output-dir .*: the models on the way take at least 0.0 GiB of disk"):
        adapt(config)
    monkeypatch.setattr(checking, "free_room", lambda layout: 6 * size)
    check(config)
    assert not config.work.exists()
