"""Whatever a user names as a model is opened, or refused in one line that says why."""

import errno
import json
import os
import resource
import shutil
from pathlib import Path

import pytest
import torch
from helpers import fork, make_backbone, make_bert
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.errors import InputError
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.model.contract import fingerprint
from lbr_st.model.named import check_embedder_exists, check_model_exists
from lbr_st.model.opening import open_model, open_sentence_transformer, open_with_language_model
from lbr_st.model.saving import save_other
from lbr_st.model.trainable import DEFAULT_MAX_LENGTH


def test_a_backbone_is_started_from(backbone):
    model = open_model(backbone, num_bottleneck_tokens=3, max_seq_length=24)
    assert (model[0].num_bottleneck_tokens, model.max_seq_length, model.dtype) == (3, 24, torch.float32)
    assert open_model(backbone, max_seq_length=24, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_the_length_of_a_backbone_unless_told(backbone, tmp_path, caplog):
    """512, or what it reads in a row where that is less; tests/model/test_positions.py has what is said then."""
    model = open_model(make_backbone(tmp_path / "longer", max_position_embeddings=1024), texts_in_a_row=2)
    assert model[0].num_bottleneck_tokens == 1
    assert model.max_seq_length == DEFAULT_MAX_LENGTH == 512
    assert not [record for record in caplog.records if record.name.startswith("lbr_st")]
    assert open_model(backbone).max_seq_length == 256


def test_a_saved_model_is_gone_on_with(portable, native):
    model = open_model(portable)
    assert (model[0].num_bottleneck_tokens, model.max_seq_length, model.dtype) == (2, 24, torch.float32)
    assert open_model(portable, num_bottleneck_tokens=2, max_seq_length=12).max_seq_length == 12
    assert open_model(native, compression_ratio=5)[0].compression_ratio == 5


@pytest.mark.parametrize(
    ("asked_for", "flag", "has"),
    [
        ({"num_bottleneck_tokens": 3}, "--bottleneck-tokens", 2),
        ({"compression_ratio": 5.0}, "--compression-ratio", None),
    ],
)
def test_other_numbers_than_the_saved_ones_are_refused(portable, asked_for, flag, has):
    [number] = asked_for.values()
    with pytest.raises(InputError) as refused:
        open_model(portable, **asked_for)
    assert str(refused.value) == f"--model {portable} has {flag} {has}; it cannot be opened with {flag} {number}"


def test_an_embedding_model_of_any_kind(bert, portable, native):
    assert not isinstance(open_sentence_transformer(bert)[0], BottleneckTransformer)
    assert not isinstance(open_sentence_transformer(portable)[0], BottleneckTransformer)  # as everyone does
    assert isinstance(open_sentence_transformer(native)[0], BottleneckTransformer)  # without any flag


def test_with_the_language_model(bert, portable, native):
    assert isinstance(open_with_language_model(portable)[0], BottleneckTransformer)
    assert isinstance(open_with_language_model(native)[0], BottleneckTransformer)
    assert not isinstance(open_with_language_model(bert)[0], BottleneckTransformer)


def test_what_is_no_model(tmp_path, backbone):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "no such type"}')
    missing, broken = tmp_path / "missing", tmp_path / "broken"
    for name, reason in {
        tmp_path / "empty": "the directory has no config.json",
        tmp_path / "file": "it is a file; name its directory",
        missing: "no such directory",
        "https://the.hub/owner/name": "it is an address; name a model of the Hub as owner/name",
        "./here": "no such directory",
        "a/b/c": "no such directory",
    }.items():
        with pytest.raises(InputError) as refused:
            check_model_exists(str(name), "--backbone")
        assert str(refused.value) == f"--backbone {name} is not a model: {reason}"
        with pytest.raises(InputError, match="^--model .* is not a model: "):
            open_model(str(name))
    with pytest.raises(InputError, match="^--model is empty; name a model$"):
        check_model_exists(" ")
    check_model_exists("owner/name")  # only the Hub knows
    for open_ in (open_model, open_with_language_model):
        with pytest.raises(InputError) as refused:
            open_(str(broken))
        assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="is a language model, not an embedding model: it has no modules.json"):
        open_sentence_transformer(backbone)


@pytest.mark.parametrize("open_", [open_sentence_transformer, open_model], ids=["to encode", "to train"])
def test_a_model_without_its_vocabulary(open_, bert, portable, backbone, tmp_path):
    """transformers makes a tokenizer without words in its place, and every text has the same vector."""
    plain = shutil.copytree(backbone, tmp_path / "plain")
    for name in (bert, portable) if open_ is open_sentence_transformer else (str(plain),):
        for file in ("tokenizer.json", "vocab.txt"):
            Path(name, file).unlink(missing_ok=True)
        with pytest.raises(InputError, match="tokenizer.json") as refused:
            open_(name)
        assert "\n" not in str(refused.value)
        assert "missing" in str(refused.value)


def test_a_damaged_model_of_ours_is_not_used_by_stock_classes(portable):
    path = Path(portable, "tokenizer.json")
    tokenizer = json.loads(path.read_text())
    path.write_text(json.dumps(tokenizer | {"post_processor": None}))
    SentenceTransformer(portable)  # who see nothing wrong
    with pytest.raises(InputError, match=f"^--model {portable} cannot be used: tokenizer.json: "):
        open_sentence_transformer(portable)


def test_a_tokenizer_of_another_version_is_refused(portable, native):
    """Its texts get other tokens, and other vectors; nothing else of the files is damaged."""
    for name in (portable, native):
        file = Path(name) / "tokenizer.json"
        tokenizer = json.loads(file.read_text())
        ids = tokenizer["model"]["vocab"]
        ids["a"], ids["b"] = ids["b"], ids["a"]
        file.write_text(json.dumps(tokenizer))
        for look in (check_embedder_exists, open_sentence_transformer):
            with pytest.raises(InputError, match="cannot be used: tokenizer.json is not the file that was saved"):
                look(name)
        lbr_st.save(lbr_st.load(name), f"{name}-meant")
        assert open_sentence_transformer(f"{name}-meant").encode("a").ndim == 1


def test_another_kind_is_saved_as_it_saves_itself(bert, tmp_path):
    """Whole or not at all, and a card that is there stays."""
    model = SentenceTransformer(bert)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")
    save_other(model, tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text() == "mine"
    again = SentenceTransformer(str(tmp_path / "out"))
    assert (again.encode("one") == model.encode("one")).all()
    assert not list((tmp_path / "out").glob("*.unfinished"))


def test_what_the_machine_fails_is_no_fault_of_the_model(backbone, tmp_path):
    """A disk that takes nothing more while a model is opened; that its files may not be read is said of the model."""

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        open_model(backbone, num_bottleneck_tokens=2)

    with open(tmp_path / "said.txt", "wb") as file:
        process = fork(lambda: run_command(work), file.fileno(), file.fileno())
        process.join(60)
    said = (tmp_path / "said.txt").read_text().splitlines()[-1]
    assert (process.exitcode, said) == (1, "error: File too large (os error 27); let files be larger, with ulimit -f")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.EACCES])
def test_what_the_machine_fails_is_told_from_what_is_no_model(backbone, monkeypatch, number):
    def fail(*args, **kwargs):
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise OSError("Can't load it") from error

    monkeypatch.setattr("lbr_st.model.opening.from_backbone", fail)
    with pytest.raises(InputError if number == errno.EACCES else OSError, match="Can't load it"):
        open_model(backbone, num_bottleneck_tokens=2)


def test_a_router_is_known_by_its_parts_and_keeps_each_within_its_positions(backbone, tmp_path, caplog):
    """Its root has no weights; static embeddings beside a transformer have no longest text to be cut to."""
    bert = SentenceTransformer(make_bert(tmp_path / "bert"))
    table = StaticEmbedding(bert.tokenizer, embedding_dim=16)
    router = Router.for_query_document([table], list(bert.children()))
    SentenceTransformer(modules=[router]).save_pretrained(str(tmp_path / "router"))
    model = open_sentence_transformer(str(tmp_path / "router"))
    assert model[0].sub_modules["document"][0].max_seq_length == 512
    before = fingerprint(tmp_path / "router")
    weights = tmp_path / "router" / "query_0_StaticEmbedding" / "model.safetensors"
    save_file({"embedding.weight": load_file(weights)["embedding.weight"] + 1}, weights)
    assert fingerprint(tmp_path / "router") != before
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match="model.safetensors: not whole"):
        check_model_exists(str(tmp_path / "router"))


@pytest.mark.parametrize(
    ("open_", "flag"),
    [(open_sentence_transformer, "--teacher"), (open_model, "--teacher"), (open_with_language_model, "--model")],
)
def test_settings_that_were_changed_by_hand_are_said(portable, open_, flag, caplog):
    options = {} if open_ is open_with_language_model else {"flag": flag}
    open_(portable, **options)
    assert not caplog.messages
    for name, change in (
        ("config_sentence_transformers.json", {"prompts": {"query": "ask: ", "document": ""}}),
        ("generation_config.json", {"transformers_version": "5.0.0"}),
    ):
        file = Path(portable, name)
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    open_(portable, **options)
    assert caplog.messages == [
        f"{flag} {portable} was changed since it was saved: config_sentence_transformers.json, generation_config.json; "
        "its prompts are query 'ask: ', document ''"
    ]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", "[1]", "is a list, not an object with fields"),
        ("config.json", "3", "is a int, not an object with fields"),
        ("tokenizer_config.json", "null", "is a NoneType, not an object with fields"),
        ("sentence_bert_config.json", "[]", "is a list, not an object with fields"),
        ("config_sentence_transformers.json", '"a"', "is a str, not an object with fields"),
        ("modules.json", "{}", "is not a list of modules"),
    ],
)
def test_a_file_of_another_kind_of_value_is_named(bert, file, content, said):
    """What the libraries say of it is an error of theirs."""
    Path(bert, file).write_text(content)
    with pytest.raises(InputError) as refused:
        open_sentence_transformer(bert, "--teacher")
    assert str(refused.value) == f"--teacher {bert} cannot be used: {file}: {said}"


def test_which_of_two_files_of_weights_is_read_is_said(bert, tmp_path, caplog):
    caplog.set_level("INFO")
    plain = make_backbone(tmp_path / "plain")
    for folder, open_, said in ((plain, open_model, plain), (bert, open_sentence_transformer, f"--model {bert}")):
        torch.save(load_file(f"{folder}/model.safetensors"), f"{folder}/pytorch_model.bin")
        open_(folder)
        line = f"{said}: its weights are read from model.safetensors; not read: pytorch_model.bin"
        assert [each for each in caplog.messages if "are read from" in each] == [line]
        caplog.clear()


def edit_json(file, change):
    found = json.loads(Path(file).read_text())
    Path(file).write_text(json.dumps(change(found)))


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (
            "modules.json",
            lambda modules: modules[:1],
            "cannot be used: it has a vector for each token and none for a text: its modules.json names no pooling",
        ),
        (
            "modules.json",
            lambda modules: [modules[0], modules[2]],
            "cannot be used: it has a vector for each token and none for a text: its modules.json names no pooling",
        ),
        *(
            (
                "config_sentence_transformers.json",
                lambda config, name=name: config | {"model_type": name},
                f"is a {name} of sentence-transformers, not a SentenceTransformer: it does not give a text one dense "
                "vector; take a model that does",
            )
            for name in ("SparseEncoder", "CrossEncoder", "ColBERT")
        ),
    ],
)
def test_a_model_without_one_dense_vector_for_a_text(bert, file, change, said):
    edit_json(f"{bert}/{file}", change)
    with pytest.raises(InputError) as refused:
        open_sentence_transformer(bert, "--teacher")
    assert str(refused.value) == f"--teacher {bert} {said}"


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ({"web_search_query": "find: "}, "web_search_query 'find: '"),
        ({"s2p_query": "a", "query": "", "retrieval.query": "b"}, "s2p_query 'a', retrieval.query 'b'"),
        ({"query": "q: ", "search_document": "d: "}, "search_document 'd: '"),
        ({"query": "q: ", "passage": "p: "}, "passage 'p: '"),
        ({"query": "q: ", "document": "d: ", "clustering": "c: "}, None),
        ({"query": "q: "}, None),
    ],
)
def test_prompts_that_are_not_used_are_said(bert, prompts, said, caplog):
    edit_json(f"{bert}/config_sentence_transformers.json", lambda config: config | {"prompts": prompts})
    open_sentence_transformer(bert)
    line = (
        f"--model {bert} has prompts that are not used: {said}; queries get the one that is named query, documents "
        "that named document: rename it in config_sentence_transformers.json, or train with --query-prompt or "
        "--document-prompt"
    )
    assert caplog.messages == ([line] if said else [])
