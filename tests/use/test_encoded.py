"""The output of ``lbr encode``: what is read of it, and what is refused."""

import errno
import json
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import TEXTS
from sentence_transformers import SentenceTransformer

from lbr_st.errors import InputError
from lbr_st.files import write_json, write_jsonl
from lbr_st.use.encode import EncodeConfig, encode_corpus
from lbr_st.use.encoded import Encoded
from lbr_st.use.passages import open_encoded, require_sources

DOCUMENTS = [f"{n} {text}" for n, text in enumerate([*TEXTS, *TEXTS])]


@pytest.fixture
def copied(encoded, tmp_path):
    """A copy of the output in a precision."""

    def copy(precision):
        return shutil.copytree(encoded(precision), tmp_path / precision)

    return copy


def change_manifest(folder, **values):
    about = json.loads((folder / "_manifest.json").read_text())
    write_json(folder / "_manifest.json", about | values)


def read(encoded, model):
    encoded.columns()
    encoded.vectors(model)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "binary"])
def test_vectors_of_every_precision(precision, encoded, saved, opened):
    """Against those of the model: rounded, to 256 steps between the extremes of all rows, and their signs."""
    found = open_encoded(str(encoded(precision)), str(saved)).vectors(opened)
    exact = opened.encode_document(DOCUMENTS)
    assert isinstance(found.array, np.memmap) and len(found) == len(DOCUMENTS)
    if precision == "binary":
        assert set(np.unique(found[:])) == {-1, 1}
        assert (found[:] == np.where(exact > 0, 1, -1)).mean() > 0.99
    else:
        step = (exact.max(axis=0) - exact.min(axis=0)).max() / 255
        most = {"float32": 1e-6, "float16": 1e-3, "int8": 0.51 * step + 1e-5}[precision]
        assert np.abs(found[:] - exact).max() < most
    assert (found[3:7] == found[[3, 4, 5, 6]]).all()


def test_passages_by_their_rows(encoded, saved):
    """Of several files, in any order, and no other file is read."""
    found = open_encoded(str(encoded("float32")), str(saved)).records([11, 0, 5, 0])
    assert found == {row: {"id": f"d{row}", "document": DOCUMENTS[row]} for row in (0, 5, 11)}
    without = open_encoded(str(encoded("float32", with_text=False)), str(saved))
    assert without.records([7]) == {7: {"id": "d7"}}


def test_only_files_that_have_what_was_found_are_read(copied, saved):
    folder = copied("float32")
    (folder / "part-00001.parquet").write_bytes(b"damaged")
    encoded = open_encoded(str(folder), str(saved))
    assert encoded.records([0, 11])[11]["id"] == "d11"
    with pytest.raises(InputError, match="part-00001.parquet is not what lbr encode wrote"):
        encoded.records([0, 5])


def test_rows_of_texts(encoded, saved):
    """By the text alone; the first one of those that are there twice."""
    encoded_ = open_encoded(str(encoded("float32")), str(saved))
    assert encoded_.rows_of([f" {DOCUMENTS[9]}\n", DOCUMENTS[2]]) == {DOCUMENTS[9]: 9, DOCUMENTS[2]: 2}
    with pytest.raises(InputError) as error:
        encoded_.rows_of([*DOCUMENTS, "absent " * 20, "too"])
    assert str(error.value) == (
        f"--vectors {encoded('float32')}: 2 of 14 documents are not in it, such as "
        f"'{('absent ' * 20)[:57].rstrip()}...'; encode all that is searched"
    )


def test_texts_that_were_not_kept(encoded, saved):
    folder = encoded("float32", with_text=False)
    with pytest.raises(InputError) as error:
        open_encoded(str(folder), str(saved)).rows_of(DOCUMENTS)
    assert str(error.value) == (f"--vectors needs the texts, and {folder} has none: run lbr encode with --with-text")


def test_what_vectors_are_called(encoded, saved, copied):
    assert open_encoded(str(encoded("float32")), str(saved)).kind == ""
    folder = copied("int8")
    assert open_encoded(str(folder), str(saved)).kind == "int8"
    change_manifest(folder, dtype="bfloat16")
    assert open_encoded(str(folder), str(saved)).kind == "bfloat16-int8"
    job = json.loads((folder / "_manifest.json").read_text())["job"]
    change_manifest(folder, job=job | {"runtime": "onnx-int8"})
    assert open_encoded(str(folder), str(saved)).kind == "onnx-int8-bfloat16-int8"


def test_vectors_that_are_others(copied, saved, tmp_path):
    """None, of queries, not finished, of another model: by its weights, or by its name on the Hub."""
    with pytest.raises(InputError, match="^absent holds no vectors: lbr encode makes such a folder"):
        open_encoded("absent", str(saved))
    write_jsonl(tmp_path / "queries.jsonl", [{"text": "why"}])
    source, queries = str(tmp_path / "queries.jsonl"), tmp_path / "queries"
    encode_corpus(EncodeConfig(model=str(saved), data=[source], output_dir=queries, role="query"))
    with pytest.raises(InputError, match="queries holds vectors of queries; encode documents, with --role document"):
        open_encoded(str(queries), str(saved))
    folder = copied("float32")
    change_manifest(folder, finished=False)
    with pytest.raises(InputError, match="lbr encode has not finished it; the same command goes on"):
        open_encoded(str(folder), str(saved))
    change_manifest(folder, finished=True, model_sha256="0" * 64)
    with pytest.raises(InputError, match=f"was encoded with another model, {saved}; encode it with {saved}"):
        open_encoded(str(folder), str(saved))
    with pytest.raises(InputError, match="encode it with owner/name$"):
        open_encoded(str(folder), "owner/name")
    (folder / "_manifest.json").write_text("{}")
    with pytest.raises(InputError, match="_manifest.json is not what lbr encode wrote"):
        open_encoded(str(folder), str(saved))


@pytest.mark.parametrize("with_text", [True, False])
def test_vectors_that_were_not_copied_whole(with_text, encoded, saved, tmp_path):
    """A part that is missing, the manifest that is missing, one part alone: what to copy, or to give."""
    folder = shutil.copytree(encoded("float32", with_text=with_text), tmp_path / "vectors")
    for missing, said in (
        ("part-00001.parquet", "part-00001.parquet"),
        ("part-00002.parquet", "part-00001.parquet and 1 others"),
    ):
        (folder / missing).unlink()
        with pytest.raises(InputError) as error:
            open_encoded(str(folder), str(saved))
        assert str(error.value) == (
            f"{folder} lacks {said}, which lbr encode wrote: copy it again, or encode in another folder"
        )
    part = str(folder / "part-00000.parquet")
    whole = f"{part} is one file of what lbr encode wrote, without texts; give the folder, {folder}"
    alone = "{}: vectors of lbr encode without their _manifest.json: copy it too, into their folder"
    for source, expected in ((part, whole), (str(folder), alone), (part, alone)):
        if expected is alone:
            (folder / "_manifest.json").unlink(missing_ok=True)
        if source == part and with_text:  # it is read as a table of texts
            require_sources([source])
            continue
        with pytest.raises(InputError) as error:
            require_sources([source])
        assert str(error.value) == expected.format(source)
    with pytest.raises(InputError, match="vectors of lbr encode without their _manifest.json: copy it too"):
        open_encoded(str(folder), str(saved))


@pytest.mark.parametrize(("precision", "has"), [("float16", "32"), ("binary", "at most 32")])
def test_another_number_of_dimensions(precision, has, copied, saved):
    shorter = SentenceTransformer(str(saved), truncate_dim=8)
    folder = copied(precision)
    with pytest.raises(InputError) as error:
        open_encoded(str(folder), str(saved)).vectors(shorter)
    assert str(error.value) == f"{folder} has vectors of {has} dimensions, and the model gives 8"


@pytest.mark.parametrize("ranges", [None, [[0.0], [1.0]], "wide"])
def test_ranges_that_are_damaged(ranges, copied, saved, opened):
    folder = copied("int8")
    change_manifest(folder, ranges=ranges)
    with pytest.raises(InputError, match="_manifest.json is not what lbr encode wrote: .*; encode again"):
        open_encoded(str(folder), str(saved)).vectors(opened)


def test_files_that_are_damaged(copied, saved, opened):
    """No Parquet, half of it, another table, an absent id, a number that is none: by name, and in one line."""
    folder = copied("float32")
    file = folder / "part-00000.parquet"
    whole, table = file.read_bytes(), pq.read_table(file)
    column = table["embedding"].to_pylist()
    nan = pa.array([[float("nan")] * len(column[0]), *column[1:]], table["embedding"].type)
    encoded = open_encoded(str(folder), str(saved))
    for content, said in (
        (b"", "bytes"), (whole[:-9], "arquet"), (table.slice(1), f"{len(table) - 1} rows, not {len(table)}"),
        (table.drop(["id"]), "No match"), (table.drop(["embedding"]), "No match"),
        (table.set_column(0, "id", pa.array([None, *table["id"].to_pylist()[1:]])), "a value is absent"),
        (table.set_column(table.column_names.index("embedding"), "embedding", nan), "a number in it is none"),
    ):  # fmt: skip
        file.write_bytes(content) if isinstance(content, bytes) else pq.write_table(content, file)
        with pytest.raises(InputError, match=f"part-00000.parquet is not what lbr encode wrote: .*{said}.*; encode"):
            read(encoded, opened)
    file.write_bytes(whole)
    ids, texts = encoded.columns()
    assert list(ids)[0] == "d0" and texts[11] == DOCUMENTS[11] and len(encoded.vectors(opened)) == 12


def test_two_first_searches_write_the_vectors_once(copied, saved, opened, monkeypatch):
    folder = copied("float32")
    for file in folder.glob(".vectors-*"):
        file.unlink()
    encoded, writes, write = open_encoded(str(folder), str(saved)), [], Encoded._write

    def slowly(self, file, model):
        writes.append(file)
        time.sleep(0.2)
        write(self, file, model)

    monkeypatch.setattr(Encoded, "_write", slowly)
    with ThreadPoolExecutor(2) as pool:
        found = [*pool.map(lambda _: encoded.vectors(opened)[:], range(2))]
    assert len(writes) == 1 and np.array_equal(*found) and len(found[0]) == 12


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOLCK])
def test_vectors_in_a_folder_that_cannot_be_written_to(number, copied, saved, opened, tmp_path, monkeypatch, caplog):
    """They are mapped from a temporary file, which nothing is left of; a full disk is an error."""
    folder = copied("float32")
    for file in folder.glob(".vectors-*"):
        file.unlink()
    (folder / ".vectors.lock").unlink(missing_ok=True)
    encoded, before = open_encoded(str(folder), str(saved)), sorted(folder.iterdir())
    expected = opened.encode_document(DOCUMENTS)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    def refuse(number):
        def mapped(path):
            raise OSError(number, os.strerror(number), str(path))

        monkeypatch.setattr("lbr_st.use.encoded.FileLock", mapped)

    refuse(number)
    found = encoded.vectors(opened)
    assert isinstance(found.array, np.memmap) and np.abs(found[:] - expected).max() < 1e-6
    assert sorted(folder.iterdir()) == before and not any((tmp_path / "temporary").iterdir())
    said = f"{folder} cannot be written to ({os.strerror(number)}): its vectors are laid out in {tmp_path}/temporary"
    assert caplog.messages[-1:] == [said]
    refuse(errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        encoded.vectors(opened)
