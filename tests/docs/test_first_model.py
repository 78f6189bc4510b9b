"""The first example that a reader runs, from pairs to a score."""

import importlib.util
import re

import pytest
from helpers import ROOT, make_backbone

import lbr_st


@pytest.mark.slow
def test_first_model(tmp_path, capsys, monkeypatch):
    """On a part of its pairs."""
    backbone = make_backbone(tmp_path / "backbone")
    spec = importlib.util.spec_from_file_location("first_model", ROOT / "examples" / "first_model.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    pairs = list(example.pairs())
    assert len(pairs) > 200
    monkeypatch.setattr(example, "pairs", lambda: pairs[:160])
    example.main(["--model", backbone, "--output-dir", str(tmp_path / "made")])
    printed = capsys.readouterr().out
    scores = re.findall(r"^(\S+): recall@10 (\d\.\d+), nDCG@10 (\d\.\d+)$", printed, flags=re.MULTILINE)
    assert [name.rpartition("/")[2] for name, *_ in scores] == ["bm25", "model"]
    assert float(scores[0][1]) > 0.3  # BM25 finds functions by the words of their docstrings
    assert lbr_st.load(tmp_path / "made" / "model").encode_query("split a string").shape == (32,)
