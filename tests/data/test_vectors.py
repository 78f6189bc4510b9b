"""Vectors of another model, a name and its numbers a line."""

import gzip

import numpy as np
import pytest

from lbr_st.data.vectors import read_vectors
from lbr_st.errors import InputError

WANTED = {"iron", "folic acid", "item 7"}


@pytest.mark.parametrize("first", ["", "4 2\n"])
def test_a_name_and_its_numbers(tmp_path, first):
    (tmp_path / "v.vec").write_text(f"{first}iron 1.5 -2\nfolic acid 0 1e-1\nother 9 9\n\niron 7 7\n")
    found = read_vectors(tmp_path / "v.vec", WANTED)
    assert {name: vector.tolist() for name, vector in found.items()} == {
        "iron": [1.5, -2],
        "folic acid": [0, pytest.approx(0.1)],
    }
    assert all(vector.dtype == np.float32 for vector in found.values())


def test_names_that_end_with_a_number_and_compressed_files(tmp_path):
    with gzip.open(tmp_path / "v.txt.gz", "wt") as file:
        file.write("1 2\nitem 7 1 2\n")
    assert read_vectors(tmp_path / "v.txt.gz", WANTED)["item 7"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("other 1 2\niron x 2\n", "v.vec, line 2: 2 numbers are needed"),
        ("iron 1 2\n3 4\n", "v.vec, line 2: a name and 2 numbers are needed"),
        ("iron\n", "v.vec, line 1: a name and its numbers are needed"),
        ("iron 1 nan\n", "v.vec, line 1: a number is not finite"),
        ("gold 1 2\n", "v.vec: none of its 1 names is a term, or a word that the model has a token of"),
        ("", "v.vec: none of its 0 names"),
    ],
)
def test_refusals(tmp_path, text, message):
    (tmp_path / "v.vec").write_text(text)
    with pytest.raises(InputError, match=message):
        read_vectors(tmp_path / "v.vec", WANTED)


def test_a_compressed_file_that_was_cut_off(tmp_path):
    whole = gzip.compress("".join(f"name{i} {i} 1\n" for i in range(2000)).encode())
    (tmp_path / "v.txt.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="v.txt.gz: cannot be read to its end"):
        read_vectors(tmp_path / "v.txt.gz", WANTED)


def test_other_forms_are_named_with_what_makes_text_of_them(tmp_path):
    numbers = np.linspace(-1, 1, 300, dtype=np.float32)
    (tmp_path / "v.bin").write_bytes(b"2 300\niron " + numbers.tobytes() + b"\ngold " + numbers.tobytes())
    with pytest.raises(InputError, match=r"v.bin: is word2vec's binary form, .*save_word2vec_format"):
        read_vectors(tmp_path / "v.bin", WANTED)
    (tmp_path / "v.bin").write_bytes(b"\xba\x16\x4f\x2f\x0c\0\0\0")
    with pytest.raises(InputError, match=r"v.bin: is fastText's binary form, .* the .vec file"):
        read_vectors(tmp_path / "v.bin", WANTED)
    with pytest.raises(InputError, match="is a folder, a file of vectors is needed"):
        read_vectors(tmp_path, WANTED)
