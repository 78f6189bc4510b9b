"""What is measured on held-out pairs, and the command that prints it."""

import logging

import pytest
import torch
from helpers import PAIRS, make_bert
from sentence_transformers import SentenceTransformer
from transformers import TrainerState

import lbr_st
from lbr_st import metrics
from lbr_st.errors import InputError
from lbr_st.evaluation import inspect as separation
from lbr_st.files import write_jsonl
from lbr_st.learning.masked_model import IBGLModel
from lbr_st.learning.objectives import build_examples
from lbr_st.training.held_out import HeldOutEvaluator, Watch

RECORDS = [
    {"id": str(n), **pair} for n, pair in enumerate([*PAIRS, {"query": "one more", "document": PAIRS[0]["document"]}])
]


def test_evaluator_is_the_metrics_of_what_the_model_encodes(model):
    model.prompts |= {"query": "q: ", "document": "d: "}
    evaluator = HeldOutEvaluator(RECORDS, [{"document": "another"}], batch_size=2)
    evaluator.watch(IBGLModel(model[0].model), model, RECORDS)
    found = evaluator(model)
    assert set(evaluator.names) <= set(found)
    pairs = metrics.Pairs.of(RECORDS, [{"document": "another"}])
    assert (len(pairs.documents), len(pairs.queries)) == (4, 4)
    queries = model.encode_query(pairs.queries, convert_to_tensor=True)
    documents = model.encode_document(pairs.documents, convert_to_tensor=True)
    expected = {
        "separation_ratio": metrics.separation_ratio(queries, documents, pairs.relevant),
        "alignment": metrics.alignment(queries, documents, pairs.relevant),
        "uniformity": metrics.uniformity(documents),
        "mean_cosine": metrics.anisotropy(documents),
        "variance": metrics.variance(documents),
        "lm_loss": metrics.held_out_loss(IBGLModel(model[0].model), build_examples(RECORDS, model, "sft")),
    }
    for name, value in expected.items():
        assert found[f"dev_{name}"] == pytest.approx(value, abs=1e-5)
    ranks = [
        (row > row[position]).sum().item()
        for row, [position] in zip(queries @ documents.T, pairs.relevant, strict=True)
    ]
    assert found["dev_cosine_accuracy@1"] == sum(rank == 0 for rank in ranks) / len(ranks)
    discounts = torch.tensor([1 / torch.log2(torch.tensor(rank + 2.0)) for rank in ranks])
    assert found["dev_cosine_ndcg@10"] == pytest.approx(discounts.mean().item(), abs=1e-6)


def test_half_precision_is_close(model):
    half, whole = HeldOutEvaluator(RECORDS, dtype=torch.bfloat16), HeldOutEvaluator(RECORDS)
    found, expected = half(model), whole(model)
    assert found["dev_alignment"] == pytest.approx(expected["dev_alignment"], rel=0.05)
    assert found["dev_alignment"] != expected["dev_alignment"]


def test_one_document_has_nothing_to_separate(model, caplog):
    found = HeldOutEvaluator([RECORDS[0]])(model)
    assert not {"dev_separation_ratio", "dev_variance"} & set(found) and found["dev_cosine_recall@10"] == 1
    state = TrainerState(global_step=3, is_world_process_zero=True)
    with caplog.at_level(logging.WARNING):
        Watch(1.0).on_evaluate(None, state, None, metrics={f"eval_{name}": value for name, value in found.items()})
    assert not caplog.records


def test_command(model, tmp_path, capsys):
    """For a saved model of this package and for any other."""
    write_jsonl(tmp_path / "pairs.jsonl", RECORDS)
    lbr_st.save(model, tmp_path / "ours")
    separation.main(["--model", str(tmp_path / "ours"), "--data", str(tmp_path / "pairs.jsonl")])
    printed = capsys.readouterr().out
    expected = separation.measure(model, RECORDS)
    lines = {line[:17].strip(): line[17:].split()[0] for line in printed.splitlines()[1:] if line[:17].strip()}
    assert set(lines) == set(separation.MEANINGS)
    assert all(float(value) == pytest.approx(expected[name], abs=1e-3) for name, value in lines.items())
    assert printed.startswith("4 queries, 3 documents\n")
    assert f"{expected['low']:8.4f} to {expected['high']:.4f}" in printed

    bert = make_bert(tmp_path / "bert")
    separation.main(["--model", bert, "--data", str(tmp_path / "pairs.jsonl")])
    printed = capsys.readouterr().out
    found = separation.measure(SentenceTransformer(bert), RECORDS)
    assert f"Separation Ratio  {found['Separation Ratio']:8.4f} " in printed
    assert "nats" not in found and "bottleneck" not in printed

    write_jsonl(tmp_path / "one.jsonl", RECORDS[:1])
    with pytest.raises(InputError, match="at least two different documents"):
        separation.main(["--model", bert, "--data", str(tmp_path / "one.jsonl")])
    with pytest.raises(InputError, match="--batch-size must be at least 1, got 0"):
        separation.main(["--model", bert, "--data", str(tmp_path / "pairs.jsonl"), "--batch-size", "0"])
    (tmp_path / "ours" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="ours"):
        separation.main(["--model", str(tmp_path / "ours"), "--data", str(tmp_path / "pairs.jsonl")])
