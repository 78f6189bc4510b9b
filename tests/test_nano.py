"""The nano backbone: an ordinary language model directory, trained on what it was given."""

import json
import math
from pathlib import Path

import pytest
import torch
from conftest import TEXTS
from transformers import AutoModelForCausalLM, AutoTokenizer

import lbr_st
from lbr_st import nano
from lbr_st.code_domain import functions_of_file, split_by_package
from lbr_st.errors import InputError
from lbr_st.nano import nano_config, pack, train_tokenizer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    (folder / "text.md").write_text("\n".join(TEXTS) * 40)
    nano.main(
        ["--text", str(folder / "text.md"), "--output-dir", str(folder / "out"), "--vocab-size", "300",
         "--hidden-size", "64", "--layers", "1", "--block-length", "32", "--num-train-epochs", "8"]
    )  # fmt: skip
    return folder / "out"


def test_is_an_ordinary_directory_that_learned(trained):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(trained), AutoTokenizer.from_pretrained(trained)
    ids = tokenizer("\n".join(TEXTS), return_tensors="pt")["input_ids"][:, :64]
    assert model(ids, labels=ids).loss < 0.7 * math.log(300)
    assert tokenizer.decode(tokenizer(TEXTS[-1])["input_ids"]) == TEXTS[-1]
    assert lbr_st.from_backbone(str(trained), max_seq_length=16).encode(TEXTS).shape == (6, 64)


def test_size_of_the_default():
    """5 to 10 million parameters, counted from the shapes."""
    config = nano_config(vocab_size=8192, hidden_size=256, num_layers=4, eos_token_id=0)
    parameters = AutoModelForCausalLM.from_config(config).num_parameters()
    layer = 4 * 256 * 256 + 3 * 256 + 3 * 256 * 768 + 2 * 256  # attention with q, k, v biases, MLP, norms
    assert parameters == 8192 * 256 + 4 * layer + 256
    assert 5e6 < parameters < 10e6


def test_blocks_are_the_stream_of_texts_with_eos():
    tokenizer = train_tokenizer(TEXTS, 300)
    blocks = pack(TEXTS, tokenizer, 8)
    stream = [i for text in TEXTS for i in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]]
    assert [i for block in blocks for i in block["input_ids"]] == stream[: len(stream) // 8 * 8]
    assert blocks["labels"] == blocks["input_ids"]


SOURCE = '''
import os


class Thing:
    @staticmethod
    def first(a):
        """Return the first thing of all.

        More words.
        """
        if a:
            return 1
        return 2

    async def second(self): "Wait for the second."; return 2

    def without(self):
        return 3
'''


def test_functions_of_a_file(tmp_path):
    """Docstring and decorators cut out, indentation taken away, line numbers right."""
    (tmp_path / "a.py").write_text(SOURCE)
    first, second = functions_of_file(tmp_path / "a.py")
    assert first == (7, "Return the first thing of all.", "def first(a):\n    if a:\n        return 1\n    return 2")
    assert second[:2] == (16, "Wait for the second.")
    (tmp_path / "b.py").write_text("print 'python 2'")
    assert functions_of_file(tmp_path / "b.py") == []


def test_no_package_is_on_two_sides():
    pairs = [
        {"id": f"{p}-{n}", "query": f"q {p} {n}", "document": f"d {p} {n}", "package": f"p{p}"}
        for p in range(60)
        for n in range(500 if p == 0 else 70)
    ]
    split = split_by_package(pairs)
    sides = {name: {row["package"] for row in rows} for name, rows in split.items()}
    assert not sides["train"] & sides["test"] and not sides["train"] & sides["dev"] and not sides["dev"] & sides["test"]
    assert sum(map(len, split.values())) == len(pairs)
    assert 1000 <= len(split["test"]) < 1070
    assert 500 <= len(split["dev"]) < 570
    assert "p0" in sides["train"]
    assert split == split_by_package(pairs[::-1])


def test_program_of_the_medical_run(tmp_path, monkeypatch):
    """The benchmark program itself, at toy size: both arms, their files and the summary."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    import foundation_medical
    import results

    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(foundation_medical, "DOCSTRINGS", 20)
    source = [("torch", Path("functional.py"), Path(torch.functional.__file__))]
    monkeypatch.setattr(foundation_medical, "installed_files", lambda: source)
    monkeypatch.setattr(foundation_medical, "BACKBONE", "--vocab-size 300 --hidden-size 64 --layers 1")
    monkeypatch.setattr(foundation_medical, "COMMON", "--max-length 16")
    from lbr_st.files import write_jsonl

    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "dev", "test"):
        rows = [{"id": str(n), "question": f"{name} q {n}", "answer": f"{name} a {n}"} for n in range(12)]
        write_jsonl(data / f"{name}.jsonl", rows)
    argv = ["--data", str(data), "--work-dir", str(tmp_path / "work"), "--max-steps", "2"]
    foundation_medical.main(argv)
    summary = json.loads((tmp_path / "results" / "foundation_medical" / "summary.json").read_text())
    names = [f"{m}_at_10_{c}" for m in ("recall", "ndcg") for c in ("test", "full")]
    assert set(summary["figures"]) == {name + suffix for name in names for suffix in ("", "_no_stage1")}
    with pytest.raises(InputError, match="measured with other settings"):
        foundation_medical.main([*argv, "--weight-decay", "0.1"])
    arms = [results.read_arm("foundation_medical", arm, 0) for arm in ("ibgl_cl", "cl")]
    stages = [[s["stage"] for s in lbr_st.load(str(tmp_path / "work" / f"{a['arm']}-seed0"))[0].history] for a in arms]
    assert stages == [["ibgl", "grcl"], ["grcl"]]
    assert all(0 <= value <= 1 for arm in arms for value in arm["scores"].values())
