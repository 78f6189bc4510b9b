"""The quickstart at toy size: its steps, its rows, and starting it again."""

import pytest
from conftest import TEXTS
from sentence_transformers import SentenceTransformer

from lbr_st import code_domain, nano, quickstart
from lbr_st.files import write_jsonl


def write_toy_domain(folder):
    folder.mkdir(parents=True)
    for name in ("train", "dev", "test"):
        rows = [{"id": f"{n}", "query": f"{name} {n} {q}", "document": f"{d} {name} {n}"}
                for n in range(8) for q, d in [TEXTS[:2]]]  # fmt: skip
        write_jsonl(folder / f"{name}.jsonl", rows)
    write_jsonl(folder / "corpus.jsonl", [{"id": str(n), "document": text} for n, text in enumerate(TEXTS)])


@pytest.fixture
def toy(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(code_domain, "write_code_domain", write_toy_domain)
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
    assert "8 docstrings as queries, 8 functions" in printed
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
