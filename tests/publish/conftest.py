import pytest
from helpers import PAIRS

import lbr_st
from lbr_st.evaluation.own_data import LocalRetrieval, evaluate, open_for_evaluation

REVISION = "0123456789" * 4


@pytest.fixture
def revision() -> str:
    """A commit of the Hub."""
    return REVISION


@pytest.fixture
def saved(model, tmp_path):
    """A saved model that was trained on what one task of mteb tests."""
    step = {"data_sha256": "ab" * 32, "mteb_tasks": ["NFCorpus"], "model": "Qwen/Qwen2-1.5B", "data": "owner/pairs"}
    model[0].history.append({"stage": "align", **step})
    model.prompts["query"] = "ask: "
    lbr_st.save(model, tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def results(saved, tmp_path):
    """mteb's result files of the model: of pairs of one's own, and the same as if they were of a public test."""
    records = [{"id": str(n), **pair} for n, pair in enumerate(PAIRS)]
    task = LocalRetrieval(records, name="pairs", revision=REVISION)
    evaluate(open_for_evaluation(saved), task, results_dir=tmp_path / "results")
    [file] = (tmp_path / "results").rglob("pairs.json")
    public = file.read_text().replace('"task_name": "pairs"', '"task_name": "NFCorpus"')
    assert '"NFCorpus"' in public
    file.with_name("NFCorpus.json").write_text(public)
    return tmp_path / "results"
