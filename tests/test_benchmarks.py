"""The benchmark programs themselves, at toy size."""

import json
from pathlib import Path

import pytest
import torch

import lbr_st
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl


@pytest.fixture
def argv(tmp_path, monkeypatch):
    """Arguments for a program over medical data, with a backbone and texts of toy size."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    import foundation_medical
    import results

    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(foundation_medical, "DOCSTRINGS", 20)
    source = [("torch", Path("functional.py"), Path(torch.functional.__file__))]
    monkeypatch.setattr(foundation_medical, "installed_files", lambda: source)
    monkeypatch.setattr(foundation_medical, "BACKBONE", "--vocab-size 300 --hidden-size 64 --layers 2")
    monkeypatch.setattr(foundation_medical, "COMMON", "--max-length 16")
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "dev", "test"):
        rows = [{"id": str(n), "question": f"{name} q {n}", "answer": f"{name} a {n}"} for n in range(12)]
        write_jsonl(data / f"{name}.jsonl", rows)
    return ["--data", str(data), "--work-dir", str(tmp_path / "work"), "--max-steps", "2"]


def read_summary(tmp_path, program):
    return json.loads((tmp_path / "results" / program / "summary.json").read_text())


def test_program_of_the_medical_run(tmp_path, argv):
    """Both arms, their files and the summary; other settings are refused."""
    import foundation_medical
    import results

    foundation_medical.main(argv)
    summary = read_summary(tmp_path, "foundation_medical")
    names = [f"{m}_at_10_{c}" for m in ("recall", "ndcg") for c in ("test", "full")]
    assert set(summary["figures"]) == {name + suffix for name in names for suffix in ("", "_no_stage1")}
    with pytest.raises(InputError, match="measured with other settings"):
        foundation_medical.main([*argv, "--weight-decay", "0.1"])
    arms = [results.read_arm("foundation_medical", arm, 0) for arm in ("ibgl_cl", "cl")]
    stages = [[s["stage"] for s in lbr_st.load(str(tmp_path / "work" / f"{a['arm']}-seed0"))[0].history] for a in arms]
    assert stages == [["ibgl", "grcl"], ["grcl"]]
    assert all(0 <= value <= 1 for arm in arms for value in arm["scores"].values())


def test_program_of_bos_visibility(tmp_path, argv):
    """Two arms that differ in one switch, on a backbone with BOS; means over the seeds that were asked for."""
    import bos_visibility
    import results

    bos_visibility.main([*argv, "--seeds", "0"])
    figures = read_summary(tmp_path, "bos_visibility")["figures"]
    for arm, hidden in (("visible", False), ("hidden", True)):
        scores = results.read_arm("bos_visibility", arm, 0)["scores"]
        for name, value in scores.items():
            expected = round(value, 4)
            assert [figures[f"{name}_{arm}{end}"] for end in ("", "_min", "_max")] == [expected] * 3
        module = lbr_st.load(str(tmp_path / "work" / f"{arm}-seed0"))[0]
        assert (module.hide_bos, module.num_prefix_tokens) == (hidden, 1)
        assert [stage["stage"] for stage in module.history] == ["ibgl", "grcl"]
    assert len(figures) == 2 * 3 * 5
