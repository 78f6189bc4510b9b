"""What is measured on held-out pairs while a model trains."""

import logging

import pytest
import torch
from helpers import PAIRS, examples_of
from sentence_transformers.base.evaluation import SequentialEvaluator
from transformers import TrainerState

from lbr_st import metrics
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.measures import LanguageModelEvaluator, held_out_loss
from lbr_st.training.callbacks import WarnOfCollapse
from lbr_st.training.held_out import HeldOutEvaluator

RECORDS = [
    {"id": str(n), **pair} for n, pair in enumerate([*PAIRS, {"query": "one more", "document": PAIRS[0]["document"]}])
]


def test_evaluator_is_the_metrics_of_what_the_model_encodes(model):
    model.prompts |= {"query": "q: ", "document": "d: "}
    evaluator = HeldOutEvaluator(RECORDS, [{"document": "another"}], batch_size=2)
    language_model = LanguageModelEvaluator(CutOffModel(model[0].model), model, RECORDS)
    found = SequentialEvaluator([evaluator, language_model])(model)
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
        "lm_loss": held_out_loss(CutOffModel(model[0].model), examples_of(RECORDS, model)),
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
        WarnOfCollapse(1.0).on_evaluate(
            None, state, None, metrics={f"eval_{name}": value for name, value in found.items()}
        )
    assert not caplog.records


def test_documents_that_all_answer_have_nothing_to_separate(model):
    found = HeldOutEvaluator([{"query": "why", "document": document} for document in "ab"])(model)
    assert "dev_separation_ratio" not in found and found["dev_cosine_recall@10"] == 1 and "dev_variance" in found
