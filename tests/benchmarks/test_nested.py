"""The program of nested bottlenecks, at toy size: every arm and reading, and what is measured by another way."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from lbr_st.metrics import Pairs


def test_program(tmp_path, argv, monkeypatch):
    import arms
    import nested as program
    import results

    toy = dataclasses.replace(
        arms.SCALES["nano"], epochs={4: 1}, length=64, learning_rates=(1e-3,), temperatures=(0.02,)
    )
    monkeypatch.setitem(arms.SCALES, "paper", toy)  # which is taken as it is
    monkeypatch.setattr(program, "LENGTHS", (5, 50))
    argv = [*argv, "--scale", "paper"]
    program.main(argv)
    figures = json.loads((tmp_path / "results" / "nested" / "summary.json").read_text())["figures"]
    found = results.read_arm("nested", "nested", 0)
    readings = found["readings"]
    ways = ["1", "2", "4", "8", *(f"{way}_{m}" for way in ("loss", "length") for m in program.MARGINS)]
    assert {*readings} == {f"{way}_{kind}" for way in ways for kind in ("last", "best")}
    assert [readings[f"{k}_best"]["vectors"] for k in (1, 2, 4, 8)] == [1, 2, 4, 8]
    assert all(readings[f"{way}_last"]["vectors"] == 1 for way in ways)
    for margin in program.MARGINS:
        by_loss, by_length = (readings[f"{way}_{margin}_best"]["vectors"] for way in ("loss", "length"))
        assert by_loss == by_length and 1 <= by_loss <= 8
    assert readings["1_last"] == readings["1_best"]
    assert figures["one_last_vectors"] == figures["r500_last_vectors"] == figures["r500_last_tokens"] == 1
    difference = np.mean(readings["1_last"]["recall_at_10"]) - figures["one_last_recall_at_10"]
    assert figures["nested_1_last_less_one_last_recall_at_10"] == pytest.approx(difference, abs=1e-4)
    assert figures["queries"] == 4
    monkeypatch.setattr(program, "run_arm", lambda *args: pytest.fail("it is there"))
    program.main(argv)


def test_recall_by_the_best_match():
    """Twelve documents on an axis each; the right one is found by its second vector alone."""
    import nested as program

    axes = torch.eye(13)
    documents = [axes[n : n + 1] for n in range(11)] + [axes[[12, 11]]]
    query = torch.linspace(1, 0.1, 11)
    pairs = Pairs(["q", "p"], [*"abcdefghijkl"], [[11, 10], [0]])
    queries = [torch.cat([query, torch.tensor([2.0, 0])])[None], axes[:1]]
    assert program.recall_at_10(queries, documents, pairs) == [0.5, 1.0]
    assert program.recall_at_10(queries, [each[:1] for each in documents], pairs) == [0.0, 1.0]


def test_the_same_numbers_by_length():
    import nested as program

    assert program.by_length([8, 1, 2, 1], [30, 20, 40, 10]) == [2, 1, 8, 1]
