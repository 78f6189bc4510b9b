"""Pairs from outside the domain, and what a model finds of them."""

import pytest
from helpers import PAIRS
from sentence_transformers.util import cos_sim

from lbr_st.data.installed_packages import installed_files, is_good_pair, sampled_pairs
from lbr_st.errors import InputError
from lbr_st.evaluation import general
from lbr_st.evaluation.general import general_pairs, general_score
from lbr_st.files import write_jsonl

MANY = [{"query": f"{n} {pair['query']}", "document": f"{pair['document']} {n}"} for n in range(5) for pair in PAIRS]


def test_pairs_of_installed_packages(monkeypatch):
    """The same by seed, each of another file."""
    files = installed_files()[::40]
    monkeypatch.setattr("lbr_st.data.installed_packages.installed_files", lambda: [*files])
    found = sampled_pairs(6, seed=1)
    assert len({record["id"].rpartition(":")[0] for record in found}) == len({r["query"] for r in found}) == 6
    assert all(is_good_pair(record["query"], record["document"]) for record in found)
    assert sampled_pairs(6, seed=1) == found
    assert sampled_pairs(6, seed=2) != found


def test_a_docstring_or_a_function_comes_once(tmp_path, monkeypatch):
    function = 'def f():\n    """Return the number of it."""\n    x = {}\n    return x\n'
    for name in "abc":
        (tmp_path / f"{name}.py").write_text(function.format(name))
    files = [("p", f"p/{name}.py", tmp_path / f"{name}.py") for name in "abc"]
    monkeypatch.setattr("lbr_st.data.installed_packages.installed_files", lambda: [*files])
    assert len(sampled_pairs(3, seed=0)) == 1
    monkeypatch.setattr("lbr_st.data.installed_packages.installed_files", list)
    with pytest.raises(InputError, match="no function with a docstring is installed here"):
        general_pairs()


def test_default_is_500_of_them(monkeypatch):
    monkeypatch.setattr(general, "sampled_pairs", lambda number, seed: [{"number": number, "seed": seed}])
    assert general_pairs(seed=3) == [{"number": 500, "seed": 3}]


def test_a_file_of_pairs(tmp_path, prepare):
    path = str(tmp_path / "pairs.jsonl")
    write_jsonl(path, MANY)
    texts = [record["query"] for record in general_pairs(path)]
    assert texts == [pair["query"] for pair in MANY]
    few = [record["query"] for record in general_pairs(path, seed=1, most=4)]
    assert len(few) == 4 and set(few) < {*texts}
    assert [record["query"] for record in general_pairs(path, seed=1, most=4)] == few
    assert [record["query"] for record in general_pairs(path, seed=2, most=4)] != few
    folder = prepare(path, test="4", dev="2")
    assert len(general_pairs(str(folder))) == 4


def test_score_is_recall_in_all_documents(model):
    queries = model.encode_query([pair["query"] for pair in MANY])
    documents = model.encode_document([pair["document"] for pair in MANY])
    ranks = [(row > row[n]).sum() for n, row in enumerate(cos_sim(queries, documents))]
    expected = sum(int(rank) < 10 for rank in ranks) / len(MANY)
    assert 0 < expected < 1
    assert general_score(model, MANY, batch_size=4) == pytest.approx(expected)
