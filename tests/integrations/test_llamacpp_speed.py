"""The benchmark beside llama.cpp, at toy size, with llama.cpp itself."""

import json

import numpy as np
import pytest
from environments import environment

pytestmark = pytest.mark.integration


def test_program_of_llamacpp_speed(tmp_path, monkeypatch):
    """All arms give the same vectors; what was measured is not measured again."""
    import llamacpp_speed
    import results

    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    argv = ["--scale", "tiny", "--llamacpp", str(environment("llamacpp"))]
    llamacpp_speed.main([*argv, "--beside", "tests"])
    arm = results.read_arm("llamacpp_speed_tiny", llamacpp_speed.ARM, 0)
    found = arm["found"]
    assert arm["beside"] == "tests" and "AVX" in found["llamacpp"]
    assert {len(each) for each in found["seconds"].values()} == {len(found["tokens"])} == {3}
    assert min(found["least_cosines"].values()) > 0.999
    figures = json.loads((tmp_path / "results" / "llamacpp_speed_tiny" / "summary.json").read_text())["figures"]
    rates = np.array(found["tokens"]) / found["seconds"]["llamacpp"]
    assert figures["tokens_per_second_llamacpp"] == pytest.approx(np.median(rates), abs=1e-3)
    monkeypatch.setattr(llamacpp_speed, "measure", lambda *args: pytest.fail("measured again"))
    llamacpp_speed.main(argv)
