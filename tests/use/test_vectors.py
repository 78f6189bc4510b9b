"""Vectors on disk: what whole numbers stand for, and how much of them is in memory."""

import tracemalloc

import numpy as np
import pytest
import torch
from helpers import Sizes
from sentence_transformers import SentenceTransformer
from sentence_transformers.util.quantization import quantize_embeddings

from lbr_st.evaluation.ranking import nearest, rows_within, similarities
from lbr_st.use.vectors import Vectors, from_bits, from_int8

ROWS, DIMENSIONS, MIB = 20_000, 64, 2**20


def test_int8_stands_for_the_middle_of_a_step():
    """Half a step is the most that is lost; a dimension that is the same everywhere is what it was."""
    vectors = np.random.default_rng(0).uniform(-2, 1, (50, 5)).astype(np.float32)
    vectors[:, 3] = 0.25
    ranges = np.stack([vectors.min(axis=0), vectors.max(axis=0)])
    numbers = quantize_embeddings(vectors, "int8", ranges)
    found = from_int8(numbers, ranges)
    step = (ranges[1] - ranges[0]) / 255
    assert found.dtype == np.float32
    assert (np.abs(found - vectors).max(axis=0) <= step / 2 + 1e-6).all()
    assert np.abs(found - vectors).max() > np.abs(vectors).max() / 1000  # something was lost
    by_hand = from_int8(np.array([[-128, 0, 127]], np.int8), np.array([[0, -1, 0], [255, 254, 255]], np.float32))
    assert by_hand.tolist() == [[0.5, 127.5, 255.5]]


@pytest.mark.parametrize("dimensions", [8, 11])
def test_bits_stand_for_signs(dimensions):
    vectors = np.random.default_rng(0).standard_normal((9, dimensions)).astype(np.float32)
    found = from_bits(quantize_embeddings(vectors, "ubinary"), dimensions)
    assert found.dtype == np.float32 and (found == np.where(vectors > 0, 1, -1)).all()


@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "uint8"])
def test_a_part_at_a_time_finds_what_all_at_once_finds(precision, saved, tmp_path):
    """In the same order, equal scores by their row: all numbers are whole or halves, so that products are exact.

    As many vectors are in memory as the bound allows.
    """
    rng = np.random.default_rng(0)
    numbers = rng.integers(-3, 4, (ROWS, DIMENSIONS)).astype(precision)
    if precision == "uint8":
        numbers = rng.integers(0, 256, (ROWS, DIMENSIONS // 8)).astype(np.uint8)
        bits = (numbers[:, :, None] >> np.arange(7, -1, -1)) & 1
        whole = (2.0 * bits - 1).reshape(ROWS, DIMENSIONS).astype(np.float32)
    else:
        whole = numbers.astype(np.float32) + (0.5 if precision == "int8" else 0)
    np.save(tmp_path / "vectors.npy", numbers)
    ranges = np.array([[-128] * DIMENSIONS, [127] * DIMENSIONS], np.float32) if precision == "int8" else None
    vectors = Vectors(np.load(tmp_path / "vectors.npy", mmap_mode="r"), DIMENSIONS, ranges)
    queries = rng.integers(-3, 4, (3, DIMENSIONS)).astype(np.float32)
    scores = queries @ whole.T
    model = SentenceTransformer(str(saved), device="cpu")
    read = []

    def read_some(some):
        read.append(len(range(ROWS)[some]))
        return vectors[some]

    for similarity in ("cosine", "dot"):
        model.similarity_fn_name = similarity
        read.clear()
        tracemalloc.start()
        with Sizes() as sizes:
            found = nearest(similarities(model, torch.from_numpy(queries), read_some, ROWS, 1), 50)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(read) > 5 and sum(read) == ROWS and set(read[:-1]) == {rows_within(1, DIMENSIONS, 3)}
        assert peak + max(sizes.of.values()) < 1.1 * MIB < whole.nbytes / 4
    assert [[row for _, row in of_query] for of_query in found] == (
        np.argsort(-scores, axis=1, kind="stable")[:, :50].tolist()
    )
    assert [[score for score, _ in of_query] for of_query in found] == (-np.sort(-scores, axis=1)[:, :50]).tolist()
    assert any(len({score for score, _ in of_query}) < 50 for of_query in found)  # some are equal


def test_rows_by_their_numbers():
    vectors = Vectors(np.arange(12, dtype=np.float16).reshape(4, 3), 3)
    assert len(vectors) == 4
    assert vectors[[2, 0]].tolist() == [[6, 7, 8], [0, 1, 2]] and vectors[[2, 0]].dtype == np.float32
