"""A small encoder of queries: what it learns, and the one directory that stock classes open without this package."""

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import MANY, TEXTS, kill_after_checkpoint, make_bert
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.cli import distill as command
from lbr_st.cli.main import main
from lbr_st.distilling.config import DistillConfig
from lbr_st.distilling.run import distill
from lbr_st.distilling.students import save_both
from lbr_st.errors import InputError, UnfinishedError
from lbr_st.files import write_jsonl
from lbr_st.training.resume import State, state_of
from lbr_st.use.encode import EncodeConfig, encode_corpus
from lbr_st.use.export import require_exportable
from lbr_st.use.passages import open_encoded

STUDENTS = ["table", "layers:1"]

# What anyone runs: no code of this package can be imported.
STOCK = """
import sys
sys.modules["lbr_st"] = None
import json, numpy as np
from sentence_transformers import SentenceTransformer
texts = json.loads(sys.argv[1])
for folder in sys.argv[2:]:
    model = SentenceTransformer(folder, device="cpu")
    np.save(folder + ".query.npy", model.encode_query(texts))
    np.save(folder + ".document.npy", model.encode_document(texts))
"""


@pytest.fixture(scope="module")
def folder(backbone, tmp_path_factory):
    """A model with prompts, and queries."""
    folder = tmp_path_factory.mktemp("distilling")
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24, dtype=torch.float32)
    model.prompts = {"query": "ask: ", "document": "find this: "}
    lbr_st.save(model, folder / "model")
    write_jsonl(folder / "queries.jsonl", [{"query": row["question"]} for row in MANY])
    return folder


@pytest.fixture(scope="module")
def config(folder):
    return DistillConfig(
        model=str(folder / "model"),
        queries=str(folder / "queries.jsonl"),
        output_dir="none",
        num_train_epochs=40,
        per_device_train_batch_size=8,
    )


@pytest.fixture(scope="module")
def done(config, folder):
    """Both kinds of students, with what came of them."""
    return {
        kind: distill(replace(config, student=kind, output_dir=str(folder / kind.replace(":", "-"))))
        for kind in STUDENTS
    }


@pytest.mark.slow
def test_stock_classes_take_the_student_for_queries_and_the_model_for_documents(done, config, folder):
    """In a process of its own; documents have the very vectors of the model, prompts included."""
    texts = [*TEXTS, "", "Ümläute, 漢字", "many words " * 30]
    folders = [str(folder / kind.replace(":", "-")) for kind in STUDENTS]
    subprocess.run([sys.executable, "-c", STOCK, json.dumps(texts), *folders], check=True, cwd="/")
    model = SentenceTransformer(config.model)
    expected = model.encode(["find this: " + text for text in texts], prompt="")
    for kind, saved in zip(STUDENTS, folders, strict=True):
        documents, queries = (np.load(f"{saved}.{role}.npy") for role in ("document", "query"))
        np.testing.assert_allclose(documents, expected, atol=1e-6)
        np.testing.assert_allclose(queries, done[kind].model.encode_query(texts), atol=1e-6)
        assert np.abs(queries - model.encode_query(texts)).max() > 1e-3  # not the model
        np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_vectors_of_the_model_stay_valid(done, config, folder, tmp_path):
    """What the model encoded is searched with the student, as long as its files are those that were saved."""
    write_jsonl(tmp_path / "documents.jsonl", [{"text": text} for text in TEXTS])
    encode_corpus(
        EncodeConfig(model=config.model, data=[str(tmp_path / "documents.jsonl")], output_dir=tmp_path / "vectors")
    )
    student = shutil.copytree(folder / "table", tmp_path / "student")
    vectors = open_encoded(str(tmp_path / "vectors"), str(student)).vectors(SentenceTransformer(str(student)))
    expected = SentenceTransformer(str(student)).encode_document(TEXTS)
    np.testing.assert_allclose(np.asarray(vectors[0 : len(TEXTS)]), expected, atol=1e-5)
    (student / "config_sentence_transformers.json").write_text("{}")
    with pytest.raises(InputError, match="was encoded with another model"):
        open_encoded(str(tmp_path / "vectors"), str(student))


def test_a_table_is_the_mean_of_its_rows_and_a_projection(done, folder):
    """By hand, from the files: without the prompt of the model, and without tokens that nobody wrote."""
    saved = folder / "table"
    model = SentenceTransformer(str(saved))
    [parts] = [json.loads((saved / "router_config.json").read_text())["structure"]["query"]]
    rows = load_file(saved / parts[0] / "model.safetensors")["embedding.weight"]
    dense = load_file(saved / parts[1] / "model.safetensors")
    tokenizer = SentenceTransformer(str(folder / "model")).tokenizer
    ids = tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    vector = dense["linear.weight"] @ rows[ids].mean(dim=0) + dense["linear.bias"]
    assert model.encode_query(TEXTS[0]) == pytest.approx((vector / vector.norm()).numpy(), abs=1e-5)
    assert model.prompts["query"] == ""


def test_layers_read_the_prompt_of_the_model(done, folder):
    model = SentenceTransformer(str(folder / "layers-1"))
    assert model.prompts["query"] == "ask: "
    [name] = [path.name for path in (folder / "layers-1").glob("query_0_*")]
    assert json.loads((folder / "layers-1" / name / "config.json").read_text())["num_hidden_layers"] == 1
    assert (folder / "layers-1" / "document_0_Transformer" / "config.json").is_file()


@pytest.mark.parametrize("kind", STUDENTS)
def test_a_student_learns_the_vectors_of_the_model(done, config, folder, kind):
    """The loss falls, and what is said of held-out queries is their mean cosine."""
    found, saved = done[kind], folder / kind.replace(":", "-")
    losses = [entry["loss"] for entry in json.loads((saved / "training_log.json").read_text()) if "loss" in entry]
    assert losses[-1] < losses[0] / 2
    assert found.held_out == 2 and found.cosine > 0.5
    assert 0 < found.student_seconds and 0 < found.model_seconds
    queries = [row["question"] for row in MANY]
    cosines = (SentenceTransformer(config.model).encode_query(queries) * found.model.encode_query(queries)).sum(axis=1)
    held_out = random.Random(config.seed).sample(range(24), 2)
    assert found.cosine == pytest.approx(cosines[held_out].mean(), abs=1e-5)


def test_a_killed_run_goes_on_to_the_same_weights(config, folder, tmp_path):
    """And asks the model for its vectors once; a folder of another run, or of a finished one, is told."""
    killed = tmp_path / "killed"
    argv = ["--model", config.model, "--queries", config.queries, "--output-dir", str(killed)]
    argv += ["--num-train-epochs", "40", "--per-device-train-batch-size", "8", "--save-steps", "20"]
    kill_after_checkpoint("lbr_st.cli.distill", argv, killed, step=20)
    [answers] = killed.glob("checkpoints/teacher-*/*.safetensors")
    written = answers.stat().st_mtime_ns
    again = replace(config, output_dir=str(killed), save_steps=20)
    with pytest.raises(InputError, match="not empty; choose another, or add --resume"):
        distill(again)
    with pytest.raises(InputError, match="a run with other settings .*student: was 'table', now 'layers:1'"):
        distill(replace(again, student="layers:1", resume=True))
    assert state_of(killed) is State.RUNNING
    distill(replace(again, resume=True))
    assert answers.stat().st_mtime_ns == written
    assert state_of(killed) is State.FINISHED
    for part in ("query_0_StaticEmbedding", "query_1_Dense"):
        one, two = (load_file(each / part / "model.safetensors") for each in (folder / "table", killed))
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert distill(replace(again, resume=True)) is None


def test_the_command_says_how_near_and_how_fast(config, tmp_path, capsys):
    """With an embedding model of another kind; other commands open what comes out of it."""
    bert, saved = make_bert(tmp_path / "bert"), str(tmp_path / "out")
    write_jsonl(tmp_path / "pairs.jsonl", MANY)
    pairs = str(tmp_path / "pairs.jsonl")
    command.main(["--model", bert, "--queries", pairs, "--output-dir", saved, "--max-steps", "2"])
    said = capsys.readouterr().out
    assert f"Saved {saved}: encode_query takes the student, encode_document the model.\n" in said
    assert "on 2 held-out queries\none query: " in said and f"next: lbr evaluate --model {saved} {bert} --data" in said
    for argv, expected in (
        (["search", "--model", saved, "--data", pairs, "why?"], "Searched 24 passages."),
        (["inspect", "--model", saved, "--data", pairs], "24 queries, 24 documents"),
        (["encode", "--model", saved, "--data", pairs, "--output-dir", str(tmp_path / "vectors")], "24 rows in 1"),
        (["evaluate", "--model", saved, "--data", pairs, "--results-dir", str(tmp_path / "results")], "| recall@10 |"),
    ):
        main(argv)
        assert expected in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["verify", saved])
    assert "FAIL  router_config.json: a model of two encoders is not verified" in capsys.readouterr().out
    with pytest.raises(InputError, match="is a model of two encoders; export the one that encodes documents"):
        require_exportable(Path(saved))


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ("bert", "--student bert: there are table and layers:N, as in layers:6"),
        ("layers", "--student layers: there are table and layers:N"),
        ("layers:2", "--student layers:2: .* has 2 layers; a number from 1 to 1"),
        ("layers:0", "--student layers:0: .* has 2 layers; a number from 1 to 1"),
    ],
)
def test_students_that_there_are_not(config, tmp_path, monkeypatch, student, message):
    """It is said before the queries are read."""
    monkeypatch.setattr("lbr_st.distilling.run.read_queries", lambda *args: pytest.fail("the queries are read"))
    with pytest.raises(InputError, match=message):
        distill(replace(config, student=student, output_dir=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_distilled(config, done, backbone, folder, tmp_path):
    few = str(tmp_path / "few.jsonl")
    write_jsonl(few, [{"query": f"{n}?"} for n in (1, 2, 2)])
    model = lbr_st.from_backbone(backbone, compression_ratio=4, max_seq_length=24, dtype=torch.float32)
    lbr_st.save(model, tmp_path / "native")
    short = SentenceTransformer(config.model, truncate_dim=8)
    short.save_pretrained(str(tmp_path / "short"), create_model_card=False)
    for changes, message in (
        ({"queries": few}, "2 different queries; 10 are the fewest"),
        ({"queries": str(tmp_path / "absent.jsonl")}, "absent.jsonl: no such file"),
        ({"model": backbone}, "--model .* is a language model, not an embedding model"),
        ({"model": str(folder / "table")}, "--model .* is no transformer, but begins with Router"),
        ({"model": str(tmp_path / "short")}, "--model .* keeps the first 8 numbers of its vectors, and a student"),
        ({"model": str(tmp_path / "native")}, "the number of its bottleneck tokens follows the length of a text"),
    ):
        with pytest.raises(InputError, match=message):
            distill(replace(config, output_dir=str(tmp_path / "out"), **changes))
    with pytest.raises(InputError, match="--router-mapping: the student is trained alone"):
        replace(config, router_mapping={"query": "query"})
    assert not (tmp_path / "out").exists()


def test_other_vectors_are_not_saved(config, done, folder, tmp_path, monkeypatch):
    model = SentenceTransformer(config.model)
    student = SentenceTransformer(str(folder / "model"))
    monkeypatch.setattr(student, "encode_query", lambda *args, **kwargs: model.encode(["other"], prompt="") + 1)
    with pytest.raises(UnfinishedError, match="what was written gives other query vectors"):
        save_both(student, model, tmp_path / "out", TEXTS[:1], "model")
    assert not (tmp_path / "out").exists()
