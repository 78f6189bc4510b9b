"""What an adaptation refuses before its first step: one line, and nothing is made."""

import json
import shutil
from dataclasses import replace

import pytest
from helpers import make_backbone
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
