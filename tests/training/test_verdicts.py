"""The verdict of a stage, against the start and the end evaluated anew; of runs that are resumed, too."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers import MANY

import lbr_st
from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import align
from lbr_st.files import write_jsonl
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.run import learn
from lbr_st.model.opening import open_model
from lbr_st.training.held_out import HeldOutEvaluator
from lbr_st.training.verdicts import read_verdict


def configured(stage, backbone, folder, **changes):
    """Return settings of a run of some steps of a stage, with dev data, and the function that runs it."""
    data = str(folder / "pairs.jsonl")
    write_jsonl(data, MANY)
    class_, run = {"learn": (LearnConfig, learn), "align": (AlignConfig, align)}[stage]
    settings = {
        "model": backbone, "data": [data] if stage == "learn" else data,
        "dev_data": [data] if stage == "learn" else data, "allow_overlap": True, "max_length": 24,
        "per_device_train_batch_size": 8, "learning_rate": 1e-2, "max_steps": 6, "eval_steps": 2, "save_steps": 2,
        "save_total_limit": 9, "output_dir": str(folder / "out"),
    }  # fmt: skip
    return class_(**settings | changes), run


def recall_of(model):
    """Return the recall@10 of each query: each has one document, and there are 24."""
    queries = model.encode_query([row["question"] for row in MANY])
    documents = model.encode_document([row["answer"] for row in MANY])
    scores = queries @ documents.T
    return np.array([float((row > row[n]).sum() < 10) for n, row in enumerate(scores)])


@pytest.mark.parametrize("stage", [pytest.param("learn", marks=pytest.mark.slow), "align"])
def test_it_compares_the_saved_model_with_the_start(stage, backbone, tmp_path):
    config, run = configured(stage, backbone, tmp_path)
    run(config)
    found = read_verdict(tmp_path / "out")
    before = recall_of(open_model(backbone, max_seq_length=24).eval())
    after = recall_of(lbr_st.load(str(tmp_path / "out")))
    assert before.mean() != after.mean()
    assert found.recall == pytest.approx(after.mean())
    assert found.difference == pytest.approx(after.mean() - before.mean())
    half = 1.96 * (after - before).std() / np.sqrt(len(MANY))
    assert (found.low, found.high) == pytest.approx((found.difference - half, found.difference + half), abs=0.05)
    assert (found.queries, found.against) == (24, "the start, whose bottleneck tokens are untrained")
    log = (tmp_path / "out" / "training_log.json").read_text()
    assert "eval_dev_cosine_recall@10" in log and "recalls" not in log


def test_the_kept_weights_count_and_not_the_last(backbone, tmp_path):
    """A rate at which the model is ruined in the end; the best step is what is saved and judged."""
    config, run = configured("align", backbone, tmp_path, learning_rate=0.3, max_steps=12)
    run(config)
    log = json.loads((tmp_path / "out" / "training_log.json").read_text())
    recalls = {e["step"]: e["eval_dev_cosine_recall@10"] for e in log if "eval_dev_cosine_recall@10" in e}
    ndcg = {e["step"]: e["eval_dev_cosine_ndcg@10"] for e in log if "eval_dev_cosine_ndcg@10" in e and e["step"]}
    best = max(ndcg, key=ndcg.get)
    assert recalls[best] != recalls[12]
    assert read_verdict(tmp_path / "out").recall == pytest.approx(recalls[best])


def test_against_a_model_that_was_trained(backbone, tmp_path):
    config, run = configured("align", backbone, tmp_path, dev_data=None, max_steps=1, output_dir=str(tmp_path / "one"))
    run(config)
    assert read_verdict(tmp_path / "one") is None
    config, run = configured("align", str(tmp_path / "one"), tmp_path, max_steps=1, max_length=None)
    run(config)
    assert read_verdict(tmp_path / "out").against == "the start"


@pytest.mark.parametrize("stage", ["learn", pytest.param("align", marks=pytest.mark.slow)])
def test_a_resumed_run_knows_the_start(stage, backbone, tmp_path):
    config, run = configured(stage, backbone, tmp_path)
    run(config)
    out = tmp_path / "out"
    straight = (out / "verdict.json").read_text()
    for name in ("config.json", "verdict.json"):
        (out / name).unlink()
    for step in (4, 6):
        shutil.rmtree(out / "checkpoints" / f"checkpoint-{step}")
    run(replace(config, resume=True))
    assert (out / "verdict.json").read_text() == straight


@pytest.mark.parametrize(("row", "has_verdict"), [({"question": "why?"}, True), ({}, False)])
def test_an_objective_that_reads_documents_alone(row, has_verdict, backbone, tmp_path):
    """Its dev data may have queries, and then they are asked."""
    write_jsonl(tmp_path / "dev.jsonl", [{"answer": f"because of {n}", **row} for n in range(3)])
    dev = {"objective": "reconstruct", "dev_data": [str(tmp_path / "dev.jsonl")]}
    config, run = configured("learn", backbone, tmp_path, max_steps=1, **dev)
    run(config)
    assert (read_verdict(tmp_path / "out") is not None) == has_verdict
    assert "eval_loss" in (tmp_path / "out" / "training_log.json").read_text()


def test_recalls_are_of_queries_with_several_documents(model):
    """Each is a share of the documents that answer it."""
    records = [{"query": "a", "document": f"{n} stones"} for n in range(12)] + [{"query": "b", "document": "0 stones"}]
    evaluator = HeldOutEvaluator(records)
    found = evaluator(model)
    assert evaluator.recalls[0] == pytest.approx(10 / 12)  # every document answers it, and ten are looked at
    assert evaluator.recalls[1] in (0, 1)
    assert np.mean(evaluator.recalls) == pytest.approx(found["dev_cosine_recall@10"])
    assert evaluator.ndcgs[0] == pytest.approx(1)
    assert np.mean(evaluator.ndcgs) == pytest.approx(found["dev_cosine_ndcg@10"])
