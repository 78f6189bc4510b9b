"""The benchmark of runtimes, at toy size: figures by another way of counting."""

import json

import numpy as np
import pytest
from helpers import MANY

import lbr_st
from lbr_st.files import write_jsonl
from lbr_st.use.runtimes import Computing


def test_program_of_runtimes(tmp_path, monkeypatch, backbone):
    """Two ways beside the default; figures are those of the file, and what was measured is not measured again."""
    import results
    import runtimes

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(runtimes, "WAYS", {"torch": Computing("torch", "float32"), "torch_bf16": Computing("torch")})
    lbr_st.save(lbr_st.from_backbone(backbone, num_bottleneck_tokens=1, max_seq_length=24), tmp_path / "model")
    pairs = [{"query": row["question"], "document": row["answer"]} for row in MANY]
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    argv = ["--model", str(tmp_path / "model"), "--data", str(tmp_path / "pairs.jsonl"), "--repeats", "3"]
    runtimes.main(argv)
    file = tmp_path / "results" / "runtimes" / "summary.json"
    figures = json.loads(file.read_text())["figures"]
    found = results.read_arm("runtimes", "all", 0)["found"]
    seconds = found["seconds"]["queries"]
    expected = np.median(np.array(seconds["torch"]) / np.array(seconds["torch_bf16"]))
    assert figures["throughput_torch_bf16_over_torch_queries"] == pytest.approx(expected, abs=1e-4)
    assert figures["least_cosine_torch"] == pytest.approx(1, abs=1e-5)
    assert len(seconds["default"]) == 3 and len(found["seconds"]["latency"]["torch"]) == 20
    written = (file.parent / "all-seed0.json").read_bytes()
    runtimes.main(argv)
    assert (file.parent / "all-seed0.json").read_bytes() == written
