"""The quickstart at toy size: its steps, its rows, and starting it again."""

import pytest
from helpers import TEXTS
from sentence_transformers import SentenceTransformer

from lbr_st.data import installed_packages as installed
from lbr_st.quickstart import nano
from lbr_st.quickstart import run as quickstart


def toy_pairs():
    for package in range(30):
        for n, (query, document) in enumerate(zip(TEXTS[:3], TEXTS[3:], strict=True)):
            name = f"package {package} number {n}"
            yield {"id": f"{package}.py:{n}", "query": f"{name} {query}", "document": f"{document} {name}",
                   "package": f"p{package}"}  # fmt: skip


@pytest.fixture
def toy(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(installed, "installed_pairs", toy_pairs)
    monkeypatch.setattr(quickstart, "TEST_PAIRS", "9")
    monkeypatch.setattr(quickstart, "DEV_PAIRS", "9")
    for name in ("NANO_STEPS", "STAGE1_STEPS", "STAGE2_STEPS"):
        monkeypatch.setattr(quickstart, name, 2)
    monkeypatch.setattr(quickstart, "BLOCK_LENGTH", 32)
    config = nano.nano_config
    monkeypatch.setattr(nano, "nano_config", lambda vocab_size, *_: config(vocab_size, 64, 2, 0))


def test_steps_rows_and_starting_again(toy, tmp_path, capsys, monkeypatch):
    """A second start trains nothing again, even where a timing of precisions would now turn out otherwise."""
    quickstart.main(["--baseline"])
    printed = capsys.readouterr().out
    assert [f"[{n}/6]" in printed for n in range(1, 7)] == [True] * 6
    assert "9 docstrings as queries, 9 functions" in printed
    assert all(row in printed for row in ("| BM25 ", "| stage 2 alone ", "| stage 1 + stage 2 "))
    assert all(f"> {question}" in printed for question in quickstart.QUESTIONS)
    assert SentenceTransformer("lbr-model").encode(["one"]).shape == (1, 64)

    weights = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    before = quickstart.bf16_is_faster()
    monkeypatch.setattr(quickstart, "bf16_is_faster", lambda: not before)
    quickstart.main(["--baseline"])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == weights


def test_a_real_backbone_gets_folders_of_its_own(toy, backbone, tmp_path):
    quickstart.main([])
    quickstart.main(["--backbone", backbone])
    names = sorted(path.name for path in tmp_path.glob("lbr-model*"))
    assert len(names) == 2
    assert SentenceTransformer(names[-1]).encode(["one"]).shape == (1, 32)
