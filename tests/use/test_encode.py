"""A corpus into files of embeddings: the numbers, the prompts, and that nothing is lost or there twice."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.use import encode

ROWS = [{"id": f"row {n}", "text": f"passage {n} of some length" + " and more" * (n % 7)} for n in range(25)]


@pytest.fixture
def saved(model, tmp_path):
    """A portable model with prompts."""
    model.prompts |= {"query": "ask: ", "document": "find this: "}
    lbr_st.save(model, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def argv(saved, tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", ROWS)
    paths = ["--model", str(saved), "--data", str(tmp_path / "corpus.jsonl"), "--output", str(tmp_path / "output")]
    return [*paths, "--shard-rows", "10", "--batch-size", "4"]


def read(folder):
    """Return ids and embeddings as any reader of Parquet gets them."""
    table = pq.read_table(folder)
    return table["id"].to_pylist(), np.array(table["embedding"].to_pylist())


def expected(saved, role="document"):
    model = SentenceTransformer(str(saved))
    return model.encode([model.prompts[role] + row["text"] for row in ROWS], prompt="")


@pytest.mark.parametrize("role", ["document", "query"])
def test_the_embeddings_of_the_model(argv, saved, tmp_path, role):
    """Row by row, in the order of the data, with the prompt of their role."""
    encode.main([*argv, "--role", role])
    ids, embeddings = read(tmp_path / "output")
    assert ids == [row["id"] for row in ROWS]
    assert np.allclose(embeddings, expected(saved, role), atol=1e-6)
    manifest = json.loads((tmp_path / "output" / "_manifest.json").read_text())
    assert [each["rows"] for each in manifest["files"]] == [10, 10, 5] and manifest["finished"]
    assert sorted(os.listdir(tmp_path / "output")) == ["_manifest.json", *(f"part-0000{n}.parquet" for n in range(3))]


def test_precisions(argv, saved, tmp_path, monkeypatch):
    """Half floats; 256 steps between the extremes of the first rows; the signs of eight dimensions in a byte."""
    monkeypatch.setattr(encode, "CALIBRATION_ROWS", 8)
    exact = expected(saved)
    found = {}
    for precision in ("float16", "int8", "binary"):
        folder = tmp_path / precision
        encode.main([*argv, "--output", str(folder), "--precision", precision])
        _, found[precision] = read(folder)
        assert (
            pq.read_schema(folder / "part-00000.parquet").field("embedding").type.value_type == encode.TYPES[precision]
        )
    assert (
        np.allclose(found["float16"], exact, atol=1e-3) and (found["float16"] == exact.astype(np.float16)).mean() > 0.99
    )
    low, high = exact[:8].min(axis=0), exact[:8].max(axis=0)
    steps = np.clip(np.floor((exact - low) / (high - low) * 255), 0, 255) - 128
    assert np.abs(found["int8"] - steps).max() <= 1
    bits = (exact > 0).reshape(len(ROWS), -1, 8) @ (2 ** np.arange(7, -1, -1))
    assert (found["binary"] == bits).mean() > 0.99


def test_text_beside_the_embedding(argv, tmp_path):
    encode.main([*argv, "--with-text", "--dtype", "bfloat16"])
    table = pq.read_table(tmp_path / "output" / "part-00002.parquet")
    assert table["document"].to_pylist() == [row["text"] for row in ROWS[20:]]


def test_an_interrupted_run_goes_on(argv, saved, tmp_path, monkeypatch):
    """Its shards stay as they are, the others are those of a straight run, byte for byte."""
    straight = tmp_path / "straight"
    encode.main([*argv, "--output", str(straight)])
    write = encode._write

    def fail(table, path):
        if path == tmp_path / "output" / "part-00001.parquet":
            raise KeyboardInterrupt
        write(table, path)

    monkeypatch.setattr(encode, "_write", fail)
    with pytest.raises(KeyboardInterrupt):
        encode.main(argv)
    first = tmp_path / "output" / "part-00000.parquet"
    manifest = json.loads((tmp_path / "output" / "_manifest.json").read_text())
    assert manifest["files"] == [{"file": first.name, "rows": 10}] and not manifest["finished"]
    before = first.stat().st_mtime_ns
    monkeypatch.undo()
    encode.main(argv)
    assert first.stat().st_mtime_ns == before
    for file in straight.iterdir():
        if file.suffix == ".parquet":
            assert file.read_bytes() == (tmp_path / "output" / file.name).read_bytes()
    encode.main(argv)  # finished: nothing is done again
    assert first.stat().st_mtime_ns == before


@pytest.mark.slow
def test_killed_runs_lose_nothing(argv, tmp_path):
    """Killed while it reads, while it encodes, and once more."""
    encode.main([*argv, "--output", str(tmp_path / "straight")])
    command = [sys.executable, "-m", "lbr_st.cli.main", "encode", *argv]
    for wait in ("corpus", ".texts", "part-00000.parquet"):
        process = subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        for _ in range(600):
            if (tmp_path / "output" / wait).exists() or (wait == "corpus" and (tmp_path / "output").exists()):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    encode.main(argv)
    assert read(tmp_path / "output")[0] == [row["id"] for row in ROWS]
    assert (read(tmp_path / "output")[1] == read(tmp_path / "straight")[1]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--precision", "int8"], "was begun with precision 'float32', now it is 'int8'; go on with what it was"),
        (["--batch-size", "8"], "was begun with batch_size 4, now it is 8"),
    ],
)
def test_other_settings_are_another_run(argv, tmp_path, change, message):
    encode.main(argv)
    with pytest.raises(InputError, match=message):
        encode.main([*argv, *change])


def test_data_and_model_that_changed_are_another_run(argv, saved, tmp_path, model):
    encode.main(argv)
    write_jsonl(tmp_path / "corpus.jsonl", ROWS[:3])
    with pytest.raises(InputError, match="was begun with data that has changed since"):
        encode.main(argv)
    write_jsonl(tmp_path / "corpus.jsonl", ROWS)
    config = saved / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(InputError, match="was begun with another model by that name"):
        encode.main(argv)


def test_what_cannot_be_read_is_said_before_the_model_is_opened(argv, tmp_path, monkeypatch):
    write_jsonl(tmp_path / "corpus.jsonl", [*ROWS, {"id": "x", "text": " "}])
    monkeypatch.setattr(encode, "open_model", lambda job: pytest.fail("was opened"))
    with pytest.raises(InputError, match=r"corpus.jsonl, line 26, column 'text': the text is empty"):
        encode.main(argv)
    write_jsonl(tmp_path / "corpus.jsonl", ROWS)
    with pytest.raises(InputError, match="must be at least 1"):
        encode.main([*argv, "--shard-rows", "0"])
    (tmp_path / "output" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="is not an empty folder"):
        encode.main(argv)


def test_several_sources(argv, saved, tmp_path):
    """A folder and a file; ids say which."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("one text\n")
    encode.main([*argv, "--data", str(tmp_path / "texts"), str(tmp_path / "corpus.jsonl")])
    ids, _ = read(tmp_path / "output")
    assert ids[:2] == ["texts:a.txt:1", "corpus.jsonl:row 0"] and len(ids) == 26


def test_lists_that_are_too_long():
    class Wide:
        size, shape = 2**31, (2**20, 2**11)

        def __len__(self):
            return 2**20

    with pytest.raises(InputError, match="--shard-rows 1048576: a file of embeddings as wide has at most 1048575 rows"):
        encode.as_lists(Wide())


def test_ray_is_an_extra(argv, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--engine ray needs an extra: pip install 'lbr-st\[ray\]'"):
        encode.main([*argv, "--engine", "ray"])
