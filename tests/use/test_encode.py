"""A corpus into files of embeddings: the numbers, the prompts, and that nothing is lost or there twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sentence_transformers import SentenceTransformer

from lbr_st.errors import InputError, UnfinishedError
from lbr_st.files import alone_in, write_jsonl
from lbr_st.model import encoding
from lbr_st.use import dtypes, encode, shards
from lbr_st.use.encode import EncodeConfig, encode_corpus
from lbr_st.use.encoded import Encoded

ROWS = [{"id": f"row {n}", "text": f"passage {n} of some length" + " and more" * (n % 7)} for n in range(25)]
TYPES = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8(), "binary": pa.uint8()}


@pytest.fixture
def config(saved, tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", ROWS)
    return EncodeConfig(
        model=str(saved),
        data=[str(tmp_path / "corpus.jsonl")],
        output_dir=tmp_path / "output",
        shard_rows=10,
        batch_tokens=64,
    )


@pytest.fixture(scope="session")
def original(saved):
    """The model as everyone opens it."""
    return SentenceTransformer(str(saved))


@pytest.fixture(scope="session")
def straight(saved, tmp_path_factory):
    """A run that nothing interrupted, with one precision; made when it is asked for."""
    made = {}

    def run_of(precision):
        if precision not in made:
            folder = tmp_path_factory.mktemp(precision)
            write_jsonl(folder / "corpus.jsonl", ROWS)
            made[precision] = folder / "output"
            source = str(folder / "corpus.jsonl")
            settings = {"precision": precision, "shard_rows": 10, "batch_tokens": 64}
            encode_corpus(EncodeConfig(model=str(saved), data=[source], output_dir=made[precision], **settings))
        return made[precision]

    return run_of


def read(folder):
    """Return ids and embeddings as any reader of Parquet gets them."""
    table = pq.read_table(folder)
    return table["id"].to_pylist(), np.array(table["embedding"].to_pylist())


def expected(model, role="document"):
    return model.encode([model.prompts[role] + row["text"] for row in ROWS], prompt="")


def manifest_of(folder):
    return json.loads((folder / "_manifest.json").read_text())


@pytest.mark.parametrize("role", ["document", "query"])
def test_the_embeddings_of_the_model(config, original, tmp_path, role):
    """Row by row, in the order of the data, with the prompt of their role."""
    manifest = encode_corpus(replace(config, role=role))
    ids, embeddings = read(tmp_path / "output")
    assert ids == [row["id"] for row in ROWS]
    assert np.allclose(embeddings, expected(original, role), atol=1e-6)
    on_disk = manifest_of(tmp_path / "output")
    assert [each["rows"] for each in on_disk["files"]] == [10, 10, 5] and on_disk["finished"]
    assert (manifest.rows, manifest.shards, manifest.finished) == (25, 3, True)
    assert sorted(os.listdir(tmp_path / "output")) == ["_manifest.json", *(f"part-0000{n}.parquet" for n in range(3))]
    assert [file.name for file in manifest.files] == [each["file"] for each in on_disk["files"]]


def test_precisions(config, original, tmp_path, monkeypatch):
    """Half floats; 256 steps between the extremes of some rows of each file; signs of eight dimensions in a byte."""
    monkeypatch.setattr(encode, "CALIBRATION_ROWS", 12)
    exact = expected(original)
    found = {}
    for precision in ("float16", "int8", "binary"):
        folder = tmp_path / precision
        encode_corpus(replace(config, output_dir=folder, precision=precision))
        _, found[precision] = read(folder)
        assert pq.read_schema(folder / "part-00000.parquet").field("embedding").type.value_type == TYPES[precision]
    assert (
        np.allclose(found["float16"], exact, atol=1e-3) and (found["float16"] == exact.astype(np.float16)).mean() > 0.99
    )
    some = exact[[0, 3, 6, 9, 10, 13, 16, 19, 20, 22, 24]]
    low, high = some.min(axis=0), some.max(axis=0)
    steps = np.clip(np.floor((exact - low) / (high - low) * 255), 0, 255) - 128
    assert np.abs(found["int8"] - steps).max() <= 1
    bits = (exact > 0).reshape(len(ROWS), -1, 8) @ (2 ** np.arange(7, -1, -1))
    assert (found["binary"] == bits).mean() > 0.99


def test_text_beside_the_embedding(config, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "refuse_slow", lambda model, dtype: None)  # not every machine has the type
    encode_corpus(replace(config, with_text=True, dtype="bfloat16"))
    table = pq.read_table(tmp_path / "output" / "part-00002.parquet")
    assert table["document"].to_pylist() == [row["text"] for row in ROWS[20:]]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_an_interrupted_run_goes_on(config, straight, tmp_path, monkeypatch, precision):
    """Its shards stay as they are, the others are those of a straight run, byte for byte; so with int8's ranges."""
    config = replace(config, precision=precision)
    write = shards.write_table

    def fail(table, path):
        if path == tmp_path / "output" / "part-00001.parquet":
            raise KeyboardInterrupt
        write(table, path)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_table", fail)
        with pytest.raises(KeyboardInterrupt):
            encode_corpus(config)
    first = tmp_path / "output" / "part-00000.parquet"
    manifest = manifest_of(tmp_path / "output")
    assert manifest["files"] == [{"file": first.name, "rows": 10}] and not manifest["finished"]
    before = first.stat().st_mtime_ns
    with monkeypatch.context() as patch:  # the ranges are those that the run was begun with
        patch.setattr(encode.Encoder, "calibrate", lambda self, shards: pytest.fail("calibrated again"))
        encode_corpus(config)
    assert first.stat().st_mtime_ns == before
    for file in straight(precision).iterdir():
        if file.suffix == ".parquet":
            assert file.read_bytes() == (tmp_path / "output" / file.name).read_bytes()
    with monkeypatch.context() as patch:  # finished: nothing is done again
        patch.setattr(encode, "open_model", lambda job: pytest.fail("was opened"))
        assert encode_corpus(config).rows == 25
    assert first.stat().st_mtime_ns == before


def test_the_batches_of_a_run_are_those_that_it_was_begun_with(config, tmp_path, monkeypatch):
    """Another measurement would round other numbers: it is made once, before the first file, and kept."""
    config, measured = replace(config, batch_tokens=None), []

    def measure(self, characters):
        measured.append(characters)
        return 48

    monkeypatch.setattr(encoding.TextEncoder, "budget", lambda self, characters: self.batch_tokens or 9999)
    with monkeypatch.context() as patch:
        patch.setattr(encoding.TextEncoder, "budget", measure)
        interrupted(config, monkeypatch, Killed(), shard=1)
    assert sum(len(row["text"]) for row in ROWS[:10]) * 25 / 10 in measured
    assert manifest_of(tmp_path / "output")["batch_tokens"] == 48
    budgets, own = [], encoding.batches_of
    monkeypatch.setattr(encoding, "batches_of", lambda lengths, budget: budgets.append(budget) or own(lengths, budget))
    encode_corpus(config)
    assert set(budgets) == {48}
    encode_corpus(replace(config, output_dir=tmp_path / "straight", batch_tokens=48))
    for file in (tmp_path / "straight").glob("*.parquet"):
        assert file.read_bytes() == (tmp_path / "output" / file.name).read_bytes()
    with pytest.raises(InputError, match="was begun without --batch-tokens, now it is 48; go on with what it was"):
        encode_corpus(replace(config, batch_tokens=48))
    with pytest.raises(InputError, match="was begun with --batch-tokens 48, now it is left out"):
        encode_corpus(replace(config, output_dir=tmp_path / "straight"))


def test_a_run_killed_before_its_manifest_is_begun_again(config, straight, tmp_path):
    """Texts that are there without a manifest, or in part, are laid down anew."""
    folder = tmp_path / "output"
    for leftover in (folder / shards.TEXTS, folder / f".{shards.TEXTS}-killed.unfinished"):
        leftover.mkdir(parents=True)
        (leftover / "part-00000.parquet").write_bytes(b"half")
        (leftover / "part-00007.parquet").write_bytes(b"of another corpus")
    (folder / ".part-00001.parquet.unfinished").write_bytes(b"half")
    encode_corpus(config)
    assert sorted(os.listdir(folder)) == sorted(os.listdir(straight("float32")))
    assert (folder / "part-00001.parquet").read_bytes() == (straight("float32") / "part-00001.parquet").read_bytes()


class Killed(BaseException):
    """Stands for a signal that nobody can catch."""


def interrupted(config, monkeypatch, error, shard=0):
    """Run until a shard is to be encoded, and fail there, or be killed there: then nothing is taken back."""
    whole = encode.Encoder.encode

    def fail(self, number, *args):
        if number == shard:
            raise error
        whole(self, number, *args)

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(encode.Encoder, "encode", fail)
        if isinstance(error, Killed):
            patch.setattr(encode, "_leaving_nothing", lambda folder: nullcontext())
        encode_corpus(config)


@pytest.mark.parametrize("existed", [False, True])
def test_a_run_that_fails_before_it_made_something_leaves_nothing(config, tmp_path, monkeypatch, existed):
    """Not even the folders that were made for it; one that was there stays."""
    config = replace(config, output_dir=tmp_path / "new" / "output")
    if existed:
        (tmp_path / "new" / "output").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    interrupted(config, monkeypatch, RuntimeError("out of memory"))
    assert sorted(tmp_path.rglob("*")) == before


def test_embeddings_that_exist_are_never_taken_back(config, straight, tmp_path, monkeypatch):
    interrupted(config, monkeypatch, RuntimeError("out of memory"), shard=1)
    folder = tmp_path / "output"
    before = (folder / "part-00000.parquet").read_bytes()
    interrupted(config, monkeypatch, RuntimeError("out of memory"), shard=1)  # went on, and made nothing more
    with pytest.raises(InputError, match="was begun with --batch-tokens 64, now it is 8"):
        encode_corpus(replace(config, batch_tokens=8))
    assert (folder / "part-00000.parquet").read_bytes() == before and (folder / shards.TEXTS).is_dir()
    encode_corpus(config)
    for file in straight("float32").glob("*.parquet"):
        assert file.read_bytes() == (folder / file.name).read_bytes()


@pytest.mark.parametrize("change", [{"batch_tokens": 8}, {"role": "query"}, {"shard_rows": 7}])
def test_another_run_may_begin_where_one_made_nothing(config, original, tmp_path, monkeypatch, change):
    """As one that was stopped with a typing error in its command."""
    interrupted(config, monkeypatch, Killed())
    assert (tmp_path / "output" / "_manifest.json").is_file()
    config = replace(config, **change)
    encode_corpus(config)
    ids, embeddings = read(tmp_path / "output")
    assert ids == [row["id"] for row in ROWS]
    assert np.allclose(embeddings, expected(original, config.role), atol=1e-6)
    job = manifest_of(tmp_path / "output")["job"]
    assert {name: job[name] for name in change} == change


def test_what_another_run_cannot_do_leaves_the_first_as_it_is(config, backbone, tmp_path, monkeypatch):
    """Its texts are laid down already, and a mistake in between costs nothing."""
    interrupted(config, monkeypatch, Killed())
    before = {file: file.read_bytes() for file in (tmp_path / "output").rglob("*") if file.is_file()}
    with pytest.raises(InputError, match="--model ./absent is not a model"):
        encode_corpus(replace(config, model="./absent"))
    with pytest.raises(InputError, match="is a language model, not an embedding model"):
        encode_corpus(replace(config, model=backbone))
    assert {file: file.read_bytes() for file in (tmp_path / "output").rglob("*") if file.is_file()} == before
    (tmp_path / "output" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="is not empty"):
        encode_corpus(replace(config, batch_tokens=8))


def test_vectors_may_lie_in_the_folder_that_is_encoded(config, tmp_path):
    """They are not read, nor is what is hidden: the texts are the same ones when a run goes on."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("iron")

    def data():
        return shards.describe_origin(config.job, [str(tmp_path / "docs")])["data"]

    first = data()
    for name in ("vectors/_manifest.json", "vectors/part-00000.parquet", ".git/index"):
        (tmp_path / "docs" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "docs" / name).write_text("{}")
    assert data() == first
    (tmp_path / "docs" / "b.md").write_text("salt")
    assert data() != first


def test_a_file_that_is_gone_since(config, straight, tmp_path):
    shutil.copytree(straight("float32"), tmp_path / "output")
    manifest = manifest_of(tmp_path / "output")
    manifest["data"] = shards.describe_origin(config.job, config.data)["data"]
    (tmp_path / "output" / "_manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "output" / "part-00001.parquet").unlink()
    assert "part-00001.parquet is gone since; begin again in another --output-dir" in refusal(config, tmp_path)


def test_a_folder_that_cannot_be_written(config, tmp_path, monkeypatch):
    """Found out before the model is opened where it can be; a full disk leaves what is there."""
    interrupted(config, monkeypatch, Killed(), shard=1)

    def fail(table, path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_table", fail)
        new = tmp_path / "new"
        with pytest.raises(UnfinishedError) as full:
            encode_corpus(replace(config, output_dir=new))
        assert str(full.value) == f"--output-dir {new} was not written: No space left on device; make room on the disk"
        assert not new.exists()
        with pytest.raises(UnfinishedError) as full:
            encode_corpus(config)
        assert full.value.__notes__ == ["The same command goes on with what is there"]
        assert (tmp_path / "output" / "part-00000.parquet").is_file()
        patch.setattr(encode, "open_model", lambda job: pytest.fail("was opened"))
        file = tmp_path / "corpus.jsonl"
        assert (
            refusal(config, tmp_path, output_dir=file / "x")
            == f"--output-dir {file / 'x'}: {file} is a file; a folder is needed"
        )


@pytest.mark.parametrize(
    "settings", [{"actors": 2}, {"ray_address": "foo"}, {"cpus_per_actor": 2}, {"gpus_per_actor": 1}], ids=str
)
def test_what_is_for_a_cluster_is_refused_without_one(config, settings):
    [name] = settings
    with pytest.raises(InputError, match=f"^--{name.replace('_', '-')} is for a cluster: give --engine ray$"):
        replace(config, **settings)
    assert replace(config, engine="ray", **settings)


def test_ctrl_c_before_the_first_file_leaves_nothing(config, tmp_path, monkeypatch):
    """It says so; after the first file, the message says how to go on."""
    nothing = "No file of embeddings was whole yet, and nothing is left of it"
    for shard, note in ((0, nothing), (1, "The same command goes on with what is there")):
        with pytest.raises(KeyboardInterrupt) as ended:
            interrupted_at(config, monkeypatch, shard)
        assert ended.value.__notes__ == [note]
        assert (tmp_path / "output").exists() == (note != nothing)


def interrupted_at(config, monkeypatch, shard):
    original = encode.Encoder.encode

    def stops(self, number, on_rows=None):
        if number == shard:
            raise KeyboardInterrupt
        return original(self, number, on_rows)

    with monkeypatch.context() as patch:
        patch.setattr(encode.Encoder, "encode", stops)
        encode_corpus(config)


def test_a_manifest_that_is_none(config, tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "_manifest.json").write_text("{")
    assert "_manifest.json is not what lbr encode wrote" in refusal(config, tmp_path)


def test_a_model_that_cannot_encode_is_refused_before_the_texts_are_laid_down(config, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "lay_down", lambda *args: pytest.fail("were laid down"))

    def fail(self, texts):
        raise RuntimeError("\"addmm_impl_cpu_\" not implemented\nfor 'Half'")

    monkeypatch.setattr(encode.Encoder, "embed", fail)
    said = refusal(config, tmp_path, dtype="float16")
    assert said == (
        f"--model {config.model}, --dtype float16: it encodes no text: \"addmm_impl_cpu_\" not implemented for 'Half'"
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [({"nothing": 1}, "line 1: no column for the document; found: nothing"), ({"text": 3}, "expected text, found 3")],
)
def test_first_rows_are_read_before_the_model_is_opened(config, tmp_path, monkeypatch, row, message):
    """Of every source, not of the first alone."""
    monkeypatch.setattr(encode, "open_model", lambda job: pytest.fail("was opened"))
    write_jsonl(tmp_path / "other.jsonl", [row])
    assert message in refusal(config, tmp_path, data=[*config.data, str(tmp_path / "other.jsonl")])
    (tmp_path / "empty").mkdir()
    assert "no text in files that end in" in refusal(config, tmp_path, data=[*config.data, str(tmp_path / "empty")])


def test_what_the_machine_is_slower_in_is_refused(config, tmp_path, monkeypatch):
    """Before the texts are laid down; a cluster may have other machines than this one."""
    monkeypatch.setattr(encode, "lay_down", lambda *args: pytest.fail("were laid down"))
    monkeypatch.setattr(dtypes, "measure_rates", lambda model, dtype: dtypes.Rates(35.0, 193.0))
    said = refusal(config, tmp_path, dtype="bfloat16")
    assert said.startswith("--dtype bfloat16 is slower here than float32: this machine multiplies matrices of")


def test_the_type_of_a_run_is_the_one_that_was_chosen(config, original, tmp_path, monkeypatch):
    """By the first texts, once: a run that goes on computes in it, and is refused with another flag."""
    monkeypatch.setattr(encode, "COMPARED", 7)
    asked, opened, own = [], [], encode.open_model

    def choose(model, texts, role):
        asked.append((model.dtype, texts, role))
        return "bfloat16"

    monkeypatch.setattr(encode, "open_model", lambda job: opened.append(job.dtype) or own(job))
    monkeypatch.setattr(encode, "choose_dtype", choose)
    config = replace(config, dtype="auto", role="query")
    interrupted(config, monkeypatch, Killed(), shard=1)
    assert asked == [(torch.float32, [row["text"] for row in ROWS[:7]], "query")] and opened == ["auto", "bfloat16"]
    assert manifest_of(tmp_path / "output")["dtype"] == "bfloat16"
    assert encode_corpus(config).dtype == "bfloat16"
    assert len(asked) == 1 and opened == ["auto", "bfloat16", "bfloat16"]
    assert manifest_of(tmp_path / "output")["job"]["dtype"] == "auto"
    encode_corpus(replace(config, output_dir=tmp_path / "straight"))
    for file in (tmp_path / "straight").glob("*.parquet"):
        assert file.read_bytes() == (tmp_path / "output" / file.name).read_bytes()
    half = SentenceTransformer(config.model, model_kwargs={"dtype": torch.bfloat16})
    _, found = read(tmp_path / "output")
    assert np.abs(found - expected(original, "query")).max() > 1e-4
    exact = half.encode_query([row["text"] for row in ROWS], convert_to_tensor=True).float().numpy()
    assert np.abs(found - exact).max() < 0.05
    with pytest.raises(InputError, match="was begun with --dtype auto, now it is float32"):
        encode_corpus(replace(config, dtype="float32"))


@pytest.mark.slow
def test_the_runtime_is_of_the_run(config, original, exported, cache, tmp_path):
    """It decides the vectors: the manifest has it, and another one is another run."""
    config = replace(config, runtime="onnx")
    encode_corpus(config)
    _, found = read(tmp_path / "output")
    assert cache == ["onnx"] and np.abs(found - expected(original)).max() < 1e-5
    job = manifest_of(tmp_path / "output")["job"]
    assert (job["runtime"], job["dtype"]) == ("onnx", "float32")
    with pytest.raises(InputError, match="was begun with --runtime onnx, now it is torch"):
        encode_corpus(replace(config, runtime=None))
    with pytest.raises(InputError, match="was begun with --runtime onnx, now it is torch"):
        encode_corpus(replace(config, runtime="torch"))
    # The folder of an export is a model, whose runtime is its own.
    encode_corpus(replace(config, model=str(exported("onnx")), runtime=None, output_dir=tmp_path / "another"))
    _, found = read(tmp_path / "another")
    manifests = [manifest_of(tmp_path / name) for name in ("output", "another")]
    assert np.abs(found - expected(original)).max() < 1e-5 and manifests[1]["job"]["runtime"] == "onnx"
    assert manifests[0]["model_sha256"] == manifests[1]["model_sha256"]  # either searches what the other encoded
    assert "is for --runtime torch" in refusal(config, tmp_path, dtype="auto", output_dir=tmp_path / "new")


def test_the_first_dimensions(config, original, tmp_path):
    encode_corpus(replace(config, dimensions=8))
    exact = expected(original)[:, :8]
    _, found = read(tmp_path / "output")
    assert np.abs(found - exact / np.linalg.norm(exact, axis=1, keepdims=True)).max() < 1e-6
    assert manifest_of(tmp_path / "output")["job"]["dimensions"] == 8
    with pytest.raises(InputError, match="was begun with --dimensions 8, now it is left out"):
        encode_corpus(config)
    assert "was trained for 8, 16, 32" in refusal(config, tmp_path, dimensions=9, output_dir=tmp_path / "new")


def test_queries_are_scaled_as_the_documents_are(config, original, straight, tmp_path, monkeypatch):
    """Their own ranges are others; a run that goes on keeps those that it was begun with."""
    documents = straight("int8")
    config = replace(config, precision="int8", role="query", ranges_from=str(documents))
    interrupted(config, monkeypatch, Killed(), shard=1)
    ranges = manifest_of(documents)["ranges"]
    assert manifest_of(tmp_path / "output")["ranges"] == ranges
    encode_corpus(config)
    low, high = np.array(ranges, np.float32)
    queries = expected(original, "query")
    assert np.abs(queries.min(axis=0) - low).max() > 0.01
    steps = np.clip(np.floor((queries - low) / (high - low) * 255), 0, 255) - 128
    _, found = read(tmp_path / "output")
    assert np.abs(found - steps).max() <= 1
    assert manifest_of(tmp_path / "output")["job"]["ranges_from"] == str(documents)


def test_ranges_that_are_no_ranges_of_the_model(config, backbone, straight, tmp_path):
    """Refused before a model is opened; queries without those of the documents, too."""
    with pytest.raises(InputError, match="^--role query: int8 queries are scaled as the documents are: .*--ranges"):
        replace(config, precision="int8", role="query")
    with pytest.raises(InputError, match="^--ranges-from goes with --precision int8$"):
        replace(config, ranges_from="vectors")
    with pytest.raises(InputError, match="^--dtype auto is found out on this machine, and a cluster may have others"):
        replace(config, dtype="auto", engine="ray")
    of_int8, floats, other = straight("int8"), straight("float32"), tmp_path / "other"
    shutil.copytree(config.model, other)
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    config = replace(config, precision="int8", output_dir=tmp_path / "new", ranges_from=str(of_int8))
    for changes, message in (
        ({"ranges_from": str(tmp_path)}, "there is no _manifest.json in it: name a folder that lbr encode wrote"),
        ({"ranges_from": str(floats)}, f"--ranges-from {floats} has no ranges: it was made with --precision float32"),
        ({"model": str(other)}, f"was made with another model, {config.model}: its ranges are others"),
        ({"dimensions": 8}, "was made with --dimensions left out: its ranges are others"),
    ):
        assert message in refusal(config, tmp_path, **changes)


def longer_than_read(caplog):
    return [record.getMessage() for record in caplog.records if "the model reads" in record.getMessage()]


def test_texts_longer_than_the_model_reads_are_counted(config, original, tmp_path, monkeypatch, caplog):
    """Over all files, also those that another process made."""
    rows = [{"text": str(n) if n % 3 else f"{n} and so on and so on"} for n in range(25)]
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    texts = [original.prompts["document"] + row["text"] for row in rows]
    assert sum(len(ids) > 24 for ids in original.tokenizer(texts, truncation=False)["input_ids"]) == 9
    interrupted(config, monkeypatch, Killed(), shard=1)
    assert not longer_than_read(caplog)
    encode_corpus(config)
    line = "9 of 25 texts are longer than the 24 tokens the model reads: the rest of them was not read"
    assert longer_than_read(caplog) == [line]
    caplog.clear()
    write_jsonl(tmp_path / "corpus.jsonl", [{"text": "a"}])
    encode_corpus(replace(config, output_dir=tmp_path / "short"))
    assert not longer_than_read(caplog)


def test_passages_of_a_folder_fit_the_model(config, original, tmp_path, caplog):
    """Measured in its own tokens, with its prompt and bottleneck tokens."""
    (tmp_path / "texts").mkdir()
    words = " ".join(f"word{n}" for n in range(60))
    (tmp_path / "texts" / "a.md").write_text(f"---\ntitle: T\n---\n# Head\n\n{words}\n\n日本語の文章は空白がない。\n")
    encode_corpus(replace(config, data=[str(tmp_path / "texts")], with_text=True))
    table = pq.read_table(tmp_path / "output")
    texts = [original.prompts["document"] + text for text in table["document"].to_pylist()]
    lengths = [len(ids) for ids in original.tokenizer(texts, truncation=False)["input_ids"]]
    assert len(texts) > 3 and 20 < max(lengths) <= 24
    # The headings take more than half of what the model reads: they are before the first passage alone.
    whole = "".join(table["document"].to_pylist()).replace(" ", "").replace("\n", "")
    assert whole == f"T>Head{words}日本語の文章は空白がない。".replace(" ", "")
    assert not longer_than_read(caplog)


def test_a_run_killed_at_its_very_end_leaves_no_texts(config, straight, tmp_path, monkeypatch):
    """A finished folder is not looked at again: the copy of the corpus goes before it says so."""
    finish = shards.Manifest.finish

    def kill(*args, **kwargs):
        raise KeyboardInterrupt

    def killed(self):
        monkeypatch.setattr(shards.shutil, "rmtree", kill)
        finish(self)

    with monkeypatch.context() as patch:
        patch.setattr(shards.Manifest, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            encode_corpus(config)
    monkeypatch.undo()
    encode_corpus(config)
    assert sorted(os.listdir(tmp_path / "output")) == sorted(os.listdir(straight("float32")))


@pytest.mark.slow
def test_killed_runs_lose_nothing(config, straight, tmp_path):
    """Killed while it reads, while it encodes, and once more."""
    flags = {"--model": config.model, "--data": config.data[0], "--output-dir": str(config.output_dir)}
    flags |= {"--shard-rows": "10", "--batch-tokens": "64"}
    command = [sys.executable, "-m", "lbr_st.cli.main", "encode", *(part for flag in flags.items() for part in flag)]
    for wait in ("", shards.TEXTS, "part-00000.parquet"):
        process = subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        for _ in range(600):
            if (tmp_path / "output" / wait).exists():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    encode_corpus(config)
    assert read(tmp_path / "output")[0] == [row["id"] for row in ROWS]
    for file in straight("float32").glob("*.parquet"):
        assert file.read_bytes() == (tmp_path / "output" / file.name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "int8"}, "was begun with --precision float32, now it is int8; go on with what it was"),
        ({"batch_tokens": 8}, "was begun with --batch-tokens 64, now it is 8"),
        ({"data": [__file__]}, "was begun with data that has changed since"),
    ],
)
def test_other_settings_are_another_run(config, straight, tmp_path, change, message):
    shutil.copytree(straight("float32"), tmp_path / "output")
    manifest = manifest_of(tmp_path / "output")
    manifest["data"] = shards.describe_origin(config.job, config.data)["data"]
    (tmp_path / "output" / "_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=message):
        encode_corpus(replace(config, **change))
    assert encode_corpus(config).finished


def test_a_model_of_the_hub_that_changed_is_another_run(config, saved, tmp_path, monkeypatch):
    """Also where its id stays: half of the vectors would be of other weights. Nor are its queries asked of the old."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    of_model = tmp_path / "hub" / "models--owner--name"
    for revision in ("a" * 40, "b" * 40):
        shutil.copytree(saved, of_model / "snapshots" / revision)
    (of_model / "refs").mkdir()
    (of_model / "refs" / "main").write_text("a" * 40)
    config = replace(config, model="owner/name")
    encode_corpus(config)
    assert len(Encoded.open(config.output_dir, "owner/name")) == len(ROWS)
    (of_model / "refs" / "main").write_text("b" * 40)
    with pytest.raises(InputError, match="was begun with another model by that name"):
        encode_corpus(config)
    with pytest.raises(InputError, match="was encoded with another model, owner/name"):
        Encoded.open(config.output_dir, "owner/name")


def test_data_and_model_that_changed_are_another_run(config, saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    config = replace(config, model=str(tmp_path / "model"))
    encode_corpus(config)
    write_jsonl(tmp_path / "corpus.jsonl", ROWS[:3])
    with pytest.raises(InputError, match="was begun with data that has changed since"):
        encode_corpus(config)
    shutil.rmtree(tmp_path / "output")
    encode_corpus(config)
    file = tmp_path / "model" / "config.json"
    file.write_text(file.read_text() + " ")
    with pytest.raises(InputError, match="was begun with another model by that name"):
        encode_corpus(config)


def refusal(config, tmp_path, **changes):
    """Return why a run is refused, which leaves nothing behind."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as error:
        encode_corpus(replace(config, **changes))
    assert sorted(tmp_path.rglob("*")) == before
    return str(error.value)


def test_refusals_leave_nothing_behind(config, backbone, tmp_path):
    new = tmp_path / "new" / "deep"
    config = replace(config, output_dir=new)
    assert "--model ./absent is not a model" in refusal(config, tmp_path, model="./absent")
    assert "is a language model, not an embedding model" in refusal(config, tmp_path, model=backbone)
    assert "absent.jsonl: no such file" in refusal(config, tmp_path, data=[*config.data, "absent.jsonl"])
    write_jsonl(tmp_path / "corpus.jsonl", [*ROWS, {"id": "x", "text": " "}])
    assert "corpus.jsonl, line 26, column 'text': the text is empty" in refusal(config, tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    assert "--output-dir" in refusal(config, tmp_path, output_dir=tmp_path / "full")


def test_what_can_be_refused_is_refused_before_the_model_is_opened(config, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "open_model", lambda job: pytest.fail("was opened"))
    for field in ("shard_rows", "batch_tokens", "actors"):
        flag = field.replace("_", "-")
        assert f"--{flag} must be a whole number of at least 1, got 0" in refusal(config, tmp_path, **{field: 0})
    assert "--cpus-per-actor must be above 0" in refusal(config, tmp_path, cpus_per_actor=0)
    assert "--role must be one of document, query, got neither" in refusal(config, tmp_path, role="neither")
    assert "absent.jsonl: no such file" in refusal(config, tmp_path, data="absent.jsonl")
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "mine.txt").write_text("x")
    assert "is not empty" in refusal(config, tmp_path)


def test_the_model_is_opened_before_the_texts_are_laid_down(config, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "lay_down", lambda *args: pytest.fail("were laid down"))

    def refuse(job):
        raise InputError("no model")

    monkeypatch.setattr(encode, "open_model", refuse)
    assert refusal(config, tmp_path) == "no model"


def test_lists_that_are_too_long(config, tmp_path):
    """Refused for the width of the model, of binary an eighth, before texts are laid down."""
    assert shards.require_room(2**20 - 1, 2**11) is None
    message = "--shard-rows 1048576: a file of embeddings as wide has at most 1048575 rows"
    with pytest.raises(InputError, match=message):
        shards.require_room(2**20, 2**11)
    assert "has at most 67108863 rows" in refusal(config, tmp_path, shard_rows=2**26)  # 32 numbers each
    assert "has at most 536870911 rows" in refusal(config, tmp_path, shard_rows=2**29, precision="binary")


def test_several_sources(config, tmp_path):
    """A folder and a file; ids say which."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("one text\n")
    encode_corpus(replace(config, data=[str(tmp_path / "texts"), *config.data]))
    ids, _ = read(tmp_path / "output")
    assert ids[:2] == ["texts:a.txt:1", "corpus.jsonl:row 0"] and len(ids) == 26


def test_ray_is_an_extra(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ray.data", raising=False)
    message = "--engine ray needs ray, which is not installed: pip install 'lbr-st[ray]'"
    assert refusal(config, tmp_path, engine="ray") == message


def test_queries_of_a_file_of_pairs(config, original, tmp_path):
    """Its questions are encoded, and not its answers; a file of queries alone is one; a folder has none."""
    rows = [{"id": f"q{n}", "query": f"What is {n}?", "document": f"It is {n}."} for n in range(6)]
    pairs, alone = tmp_path / "pairs.jsonl", tmp_path / "alone.jsonl"
    for file, keys in ((pairs, ("id", "query", "document")), (alone, ("id", "query"))):
        file.write_text(
            "".join(json.dumps({key: row[key] for key in keys}) + "\n" for row in [*rows, rows[0] | {"id": "q6"}])
        )
    lines = tmp_path / "lines.txt"
    lines.write_text("What is 0?\n\nWhat is 1?\n")
    exact = original.encode_query([row["query"] for row in [*rows, rows[0]]])
    for file in (pairs, alone, lines):
        encode_corpus(replace(config, data=[str(file)], role="query", output_dir=tmp_path / f"of-{file.stem}"))
        ids, found = read(tmp_path / f"of-{file.stem}")
        assert ids == (["lines.txt:1", "lines.txt:3"] if file == lines else [f"q{n}" for n in range(7)])
        assert np.allclose(found, exact[: len(ids)], atol=1e-5)
    with pytest.raises(InputError, match="--role query: .* is a folder; name the file with the queries"):
        encode_corpus(replace(config, data=[str(tmp_path)], role="query", output_dir=tmp_path / "of-folder"))


def test_two_at_once(config, tmp_path):
    """The second one is refused, and changes nothing; afterwards the folder is free."""
    with alone_in(config.output_dir), pytest.raises(InputError, match="another process is at work in .*: wait for it"):
        encode_corpus(config)
    assert not Path(config.output_dir).exists()
    assert encode_corpus(config).finished


def test_a_manifest_without_a_setting_that_came_later(config, tmp_path):
    """It has the default of it; one with a setting that nobody knows is of another version."""
    encode_corpus(config)
    file = Path(config.output_dir) / "_manifest.json"
    about = json.loads(file.read_text())
    del about["job"]["ranges_from"]
    file.write_text(json.dumps(about))
    assert encode_corpus(config).finished
    with pytest.raises(InputError, match="was begun without --ranges-from|without --dimensions"):
        encode_corpus(replace(config, dimensions=16))
    file.write_text(json.dumps(about | {"job": about["job"] | {"another": 1}}))
    with pytest.raises(InputError, match="was begun by another version of lbr-st"):
        encode_corpus(config)


def test_ranges_of_a_corpus_whose_first_rows_are_alike(config, tmp_path, monkeypatch, caplog):
    """Texts from all over the corpus, each once, say how far a dimension goes; few of them are said."""
    monkeypatch.setattr(encode, "CALIBRATION_ROWS", 12)
    rows = [{"id": f"{n}", "text": "Copyright 2024" if n < 20 else f"passage {n} of {n % 3}"} for n in range(40)]
    (tmp_path / "alike.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    encode_corpus(replace(config, data=[str(tmp_path / "alike.jsonl")], precision="int8"))
    _, found = read(Path(config.output_dir))
    assert len(np.unique(found, axis=0)) == 21
    assert "--precision int8 is scaled by 11 different texts alone" in caplog.text


def test_a_file_that_was_renamed_is_another_corpus(config, tmp_path):
    """Its ids name the file that is not there any more."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "2023.txt").write_text("A text of some words.")
    of_folder = replace(config, data=[str(tmp_path / "texts")])
    encode_corpus(of_folder)
    (tmp_path / "texts" / "2023.txt").rename(tmp_path / "texts" / "2021.txt")
    with pytest.raises(InputError, match="was begun with data that has changed since"):
        encode_corpus(of_folder)
