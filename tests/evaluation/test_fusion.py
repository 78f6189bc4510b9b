"""BM25 and an embedding model as one searcher, against sums written out."""

import mteb
import numpy as np
import pytest
from helpers import make_backbone

import lbr_st
from lbr_st.evaluation.fusion import AllScores, Fused, best, standardized
from lbr_st.evaluation.own_data import BM25, evaluate, local_task, open_for_evaluation
from lbr_st.files import write_jsonl

DOCUMENTS = [
    "Anaemia is treated with iron.", "Asthma is treated with steroids.", "Sorting takes n log n comparisons.",
    "Salt raises blood pressure.", "Iron rusts in water.", "A graph has nodes and edges.",
]  # fmt: skip
QUERIES = ["How is anaemia treated?", "steroids", "What takes n log n?", "blood", "rust", "nodes"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A task, and an embedding model and BM25 that have searched it."""
    folder = tmp_path_factory.mktemp("fusion")
    model = lbr_st.from_backbone(make_backbone(folder / "backbone"), max_seq_length=24)
    lbr_st.save(model, folder / "model")
    write_jsonl(folder / "test.jsonl", [{"query": q, "document": d} for q, d in zip(QUERIES, DOCUMENTS, strict=True)])
    task = local_task(folder / "test.jsonl")
    dense, lexical = AllScores(open_for_evaluation(folder / "model")), AllScores(open_for_evaluation(BM25))
    scores = [evaluate(each, task) for each in (dense, lexical)]
    return task, model, dense, lexical, scores


def test_remembering_changes_no_score(searched, tmp_path):
    task, model, dense, lexical, scores = searched
    for found, searcher in zip(scores, (model, open_for_evaluation(BM25)), strict=True):
        plain = evaluate(searcher, task)
        assert {name: found[name] for name in ("ndcg_at_10", "recall_at_1", "mrr_at_10")} == {
            name: pytest.approx(plain[name]) for name in ("ndcg_at_10", "recall_at_1", "mrr_at_10")
        }


def test_scores_are_those_of_all_documents(searched):
    _, model, dense, lexical, _ = searched
    cosines = model.encode_query(QUERIES) @ model.encode_document(DOCUMENTS).T
    assert dense.scores.shape == (6, 6) and np.abs(dense.scores - cosines).max() < 1e-5
    assert lexical.scores[1, 1] > 0 and lexical.scores[1, 0] == 0  # "steroids" stands in the second alone


def test_fused_is_the_weighted_sum_of_standard_scores(searched):
    task, _, dense, lexical, _ = searched

    def z(values):
        mean = sum(values) / len(values)
        deviation = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        return [(value - mean) / deviation for value in values]

    found = Fused(dense, lexical).search(None, top_k=2)
    for row, query in enumerate(dense.queries):
        by_hand = [
            0.7 * d + 0.3 * b
            for d, b in zip(z(dense.scores[row].tolist()), z(lexical.scores[row].tolist()), strict=True)
        ]
        order = sorted(range(6), key=lambda n: -by_hand[n])[:2]
        assert list(found[query]) == [dense.documents[n] for n in order]
        assert list(found[query].values()) == pytest.approx([by_hand[n] for n in order], abs=1e-5)
    assert 0 <= evaluate(Fused(dense, lexical), task)["ndcg_at_10"] <= 1


def test_queries_in_another_order(searched):
    """BM25 may have answered in another order than the model."""
    _, _, dense, lexical, _ = searched
    turned = AllScores(open_for_evaluation(BM25))
    turned.documents, turned.queries, turned.scores = lexical.documents, lexical.queries[::-1], lexical.scores[::-1]
    assert Fused(dense, turned).search(None, top_k=6) == Fused(dense, lexical).search(None, top_k=6)


def test_results_have_a_name_of_their_own(searched, tmp_path):
    task, _, dense, lexical, _ = searched
    for model in (dense, Fused(dense, lexical)):
        evaluate(model, task, results_dir=tmp_path)
    names = {result.model_name for result in mteb.ResultCache(tmp_path).load_results()}
    assert names == {"local/model", "local/model-with-bm25"}


def test_standard_scores():
    scores = standardized(np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
    assert scores[0] == pytest.approx([-(1.5**0.5), 0, 1.5**0.5]) and scores[1].tolist() == [0, 0, 0]
    assert best(["q"], ["a", "b", "c"], np.array([[1.0, 3.0, 2.0]]), 2) == {"q": {"b": 3.0, "c": 2.0}}
