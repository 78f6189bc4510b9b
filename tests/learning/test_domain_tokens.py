"""Stage 1 with domain tokens: given or found, kept in the model, and the same when a run goes on."""

import shutil
from dataclasses import replace

import pytest
import torch
from helpers import PAIRS, cut_off, make_backbone, same_weights
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

import lbr_st
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.run import learn, prepare
from lbr_st.model.cutoff import BOTTLENECK, TARGET
from lbr_st.model.domain_tokens import terms_of

TERM = "zzyzxin acid"
RECORDS = [{"query": f"{TERM} {p['query']}", "document": f"{n} {TERM}, zzyzxin: {p['document']}"}
           for n in range(6) for p in PAIRS]  # fmt: skip


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A tiny Qwen3: transformers takes the tokenizer of a Qwen2 for its own."""
    return make_backbone(tmp_path_factory.mktemp("backbone"), "qwen3")


@pytest.fixture
def config(backbone, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", RECORDS)
    (tmp_path / "terms.txt").write_text(f"{TERM}\n")
    return LearnConfig(
        model=backbone,
        data=[str(tmp_path / "train.jsonl")],
        output_dir=str(tmp_path / "out"),
        domain_tokens=str(tmp_path / "terms.txt"),
        max_length=24,
        learning_rate=1e-2,
        max_steps=4,
        save_steps=2,
        per_device_train_batch_size=4,
    )


@pytest.mark.parametrize("rank", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_keeps_them_and_goes_on_with_them(config, tmp_path, rank):
    """The rows learn, all of them and by LoRA; a run that goes on has the terms of the one that was cut off."""
    config = replace(config, lora_rank=rank)
    out = tmp_path / "out"
    model = learn(config)
    ids = model[0].domain_token_ids
    assert terms_of(model.tokenizer, ids) == [TERM]
    started = prepare(replace(config, output_dir=str(tmp_path / "other")), config.for_trainer())
    start = started[1].sentence_transformer[0].model.get_input_embeddings().weight.detach()
    assert (model[0].model.get_input_embeddings().weight[ids] - start[ids]).abs().min(dim=1).values.max() > 0
    opened = SentenceTransformer(str(out), device="cpu")
    assert opened.tokenizer(f"a {TERM}")["input_ids"] == model.tokenizer(f"a {TERM}")["input_ids"]
    assert ids[0] in opened.tokenizer(f"a {TERM}")["input_ids"]
    [stage] = lbr_st.load(str(out))[0].history
    assert stage["domain_tokens"] == "terms.txt" and len(stage["domain_tokens_sha256"]) == 64
    with pytest.raises(
        InputError, match=r"^--domain-tokens: --model .*out has 2 domain tokens already; they are given"
    ):
        learn(replace(config, model=str(out), data=["absent.jsonl"], output_dir=str(tmp_path / "again")))
    shutil.copytree(out, tmp_path / "straight")
    cut_off(out, 2)
    learn(replace(config, resume=True))
    assert same_weights(tmp_path / "straight", out)
    cut_off(out, 2)
    (tmp_path / "terms.txt").write_text(f"{TERM}\nanother\n")
    with pytest.raises(InputError, match="holds a run with other settings .*domain_tokens_sha256"):
        learn(replace(config, resume=True))


def test_found_in_the_training_data_alone(config, tmp_path, caplog):
    write_jsonl(tmp_path / "dev.jsonl", [{"query": f"{n}?", "document": f"{n} heldoutword"} for n in range(30)])
    config = replace(config, domain_tokens="auto", dev_data=[str(tmp_path / "dev.jsonl")])
    caplog.set_level("INFO", logger="lbr_st")
    _, trainer = prepare(config, config.for_trainer())
    module = trainer.sentence_transformer[0]
    terms = terms_of(module.tokenizer, module.domain_token_ids)
    assert terms == ["zzyzxin", "acid"]
    assert "2 terms of --data get a token, the first: zzyzxin (39 times" in caplog.text


def test_examples_are_read_with_them(config):
    """X, Z and Y as ever: one token for the term, the read-out before Y, and all of Y with a loss."""
    _, trainer = prepare(config, config.for_trainer())
    module = trainer.sentence_transformer[0]
    for row in trainer.train_dataset:
        at = row["segments"].index(BOTTLENECK)
        assert row["input_ids"][at] == module.bottleneck_token_ids[0] and row["segments"][at + 1] == TARGET
        assert module.domain_token_ids[1] == row["input_ids"][0]  # at the start of a text
        assert module.domain_token_ids[0] in row["labels"][at:]


def test_they_start_from_vectors(config, tmp_path, caplog):
    words = {word for word in AutoTokenizer.from_pretrained(config.model).get_vocab() if word.isalpha()}
    torch.manual_seed(0)
    lines = [f"{word} {' '.join(f'{x:.4f}' for x in torch.randn(2).tolist())}" for word in sorted({*words, TERM})]
    (tmp_path / "v.vec").write_text("\n".join(lines))
    caplog.set_level("INFO", logger="lbr_st")
    prepare(replace(config, domain_vectors=str(tmp_path / "v.vec")), config.for_trainer())
    assert "vectors to input embeddings: a map fitted on " in caplog.text
    assert "1 terms start from their vectors" in caplog.text


@pytest.fixture
def without_data(config, tmp_path):
    """The same, where whatever reads the data fails."""
    (tmp_path / "train.jsonl").write_text("no JSON\n")
    return config


def test_files_and_settings_are_refused_before_the_data_are_read(without_data, tmp_path):
    """Terms, vectors, and the bottleneck that is asked for."""
    (tmp_path / "terms.txt").write_text("# terms\n")
    (tmp_path / "v.vec").write_text("iron 1 nan\n")
    (tmp_path / "v.bin").write_bytes(b"1 2\niron \0\0\0\0\0\0\0\0\n")
    for settings, message in (
        ({}, "terms.txt, line 1: the term '# terms' must begin"),
        ({"domain_tokens": str(tmp_path)}, "is a folder, a file of terms"),
        ({"domain_tokens": "auto", "domain_vectors": str(tmp_path / "v.bin")}, "v.bin: is word2vec's binary form"),
        ({"domain_tokens": None, "nested": True}, "^--nested needs bottleneck tokens to choose from"),
    ):
        with pytest.raises(InputError, match=message):
            learn(replace(without_data, **settings))
    (tmp_path / "terms.txt").write_text("iron\n")
    with pytest.raises(InputError, match="v.vec, line 1: a number is not finite"):
        learn(replace(without_data, domain_vectors=str(tmp_path / "v.vec")))
    assert not (tmp_path / "out").exists()


def test_how_many_terms_come_in_the_data_is_said_and_none_is_refused(config, tmp_path, caplog):
    file = tmp_path / "terms.txt"
    caplog.set_level("INFO", logger="lbr_st")
    file.write_text("quasar\nZZYZXIN\n")
    with pytest.raises(InputError, match=r"none of its 2 terms comes in a text of --data.* \(quasar, ZZYZXIN\)"):
        learn(config)
    assert not (tmp_path / "out").exists()
    file.write_text(f"{TERM}\nquasar\nZZYZXIN\n")
    prepare(config, config.for_trainer())
    assert "2 of 3 terms come in no text of --data, and their tokens learn nothing; leave them out: qua" in caplog.text


def test_refusals(config, tmp_path):
    with pytest.raises(InputError, match="^--domain-vectors is for --domain-tokens: give the terms"):
        replace(config, domain_tokens=None, domain_vectors="v.vec")
    with pytest.raises(InputError, match="absent.txt: no such file"):
        learn(replace(config, domain_tokens=str(tmp_path / "absent.txt")))
    write_jsonl(tmp_path / "few.jsonl", PAIRS)
    with pytest.raises(InputError, match="^--domain-tokens auto: no word .* 10 times .* lbr data terms with a lower"):
        learn(replace(config, domain_tokens="auto", data=[str(tmp_path / "few.jsonl")]))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
