"""BM25 and an embedding model as one searcher, against sums written out."""

import mteb
import numpy as np
import pytest
from helpers import make_backbone

import lbr_st
from lbr_st.evaluation.fusion import (
    AllScores,
    Fused,
    best,
    choose_weight,
    evaluate_with_bm25,
    in_order_of,
    ndcgs_at_10,
)
from lbr_st.evaluation.own_data import BM25, LocalRetrieval, evaluate, local_task, open_for_evaluation
from lbr_st.evaluation.ranking import RRF, fuse
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
    for model in (dense, Fused(dense, lexical), Fused(dense, lexical, RRF)):
        evaluate(model, task, results_dir=tmp_path)
    names = {result.model_name for result in mteb.ResultCache(tmp_path).load_results()}
    assert names == {"local/model", "local/model-with-bm25-0.7", "local/model-with-bm25-rrf"}


def test_fused_by_reciprocal_ranks(searched):
    """Against the sum written out; BM25 adds nothing for documents that have no word of the query."""
    _, _, dense, lexical, _ = searched
    found = Fused(dense, lexical, RRF).search(None, top_k=6)
    for row, query in enumerate(dense.queries):
        by_model = sorted(range(6), key=lambda n: -dense.scores[row, n])
        by_words = [n for n in sorted(range(6), key=lambda n: -lexical.scores[row, n]) if lexical.scores[row, n]]
        assert 0 < len(by_words) < 6
        for number, document in enumerate(dense.documents):
            expected = 1 / (61 + by_model.index(number))
            expected += 1 / (61 + by_words.index(number)) if number in by_words else 0
            assert found[query][document] == pytest.approx(expected, abs=1e-7)


def test_the_memory_of_all_scores_is_bounded(searched, monkeypatch):
    """A few queries at a time give what all of them give."""
    task, model, dense, lexical, _ = searched
    monkeypatch.setattr("lbr_st.evaluation.ranking.SCORES_AT_A_TIME", 13)  # two queries
    for whole, name in ((dense, model), (lexical, BM25)):
        again = AllScores(open_for_evaluation(name) if name == BM25 else whole.searcher.model)
        evaluate(again, task)
        assert np.abs(again.scores - whole.scores).max() < 1e-6 and again.queries == whole.queries
    dev = task.judgements
    with monkeypatch.context() as at_once:
        at_once.setattr("lbr_st.evaluation.ranking.SCORES_AT_A_TIME", 2**24)
        chosen = choose_weight(dense, lexical, dev)
    assert choose_weight(dense, lexical, dev) == chosen
    columns = {"id": dense.queries}
    for weight in (RRF, 0.6):
        found = Fused(dense, lexical, weight).search(columns, top_k=3)
        scores = fuse(dense.scores, in_order_of(dense.queries, lexical), weight)
        assert list(found) == dense.queries
        for row, of_query in zip(scores, found.values(), strict=True):
            first = np.argsort(-row, kind="stable")[:3]
            assert of_query == {dense.documents[n]: pytest.approx(float(row[n]), abs=1e-6) for n in first}


def given(scores):
    """What a searcher remembers that gave these scores."""
    remembered = AllScores(open_for_evaluation(BM25))
    remembered.scores = np.array(scores, np.float32)
    remembered.queries = [f"q{n}" for n in range(len(scores))]
    remembered.documents = [f"d{n}" for n in range(len(scores[0]))]
    return remembered


def test_the_weight_is_the_one_that_ranks_dev_best():
    """Each is right for all, or the model for nine of ten queries and BM25 for the tenth."""
    right, wrong = [0.0, 3.0, 0.0, 1.0], [3.0, 0.0, 0.0, 1.0]
    judgements = {f"q{n}": {"d1": 1} for n in range(10)}
    assert choose_weight(given([right] * 10), given([wrong] * 10), judgements) == 0.7  # nearest to the usual one
    assert choose_weight(given([wrong] * 10), given([right] * 10), judgements) == 0.4
    # For eight the model is right, and for the others it nearly is: there BM25 decides.
    nearly = [3.0, 2.9, 0.0, 1.0]
    mostly, little = given([right] * 8 + [nearly] * 2), given([wrong] * 8 + [right] * 2)
    assert choose_weight(mostly, little, judgements) == 0.7
    assert choose_weight(mostly, given([right] * 10), {**judgements, "q8": {"d0": 1}, "q9": {"d0": 1}}) == 1.0


def test_one_query_does_not_choose_the_weight():
    """Which way it points is a matter of chance."""
    right, nearly = [0.0, 3.0, 0.0, 1.0], [3.0, 2.9, 0.0, 1.0]
    judgements = {f"q{n}": {"d1": 1} for n in range(9)} | {"q9": {"d0": 1}}
    assert choose_weight(given([right] * 9 + [nearly]), given([right] * 10), judgements) == 0.7


def test_ndcg_is_that_of_mteb(searched):
    """Of graded judgements, one query with two documents; the model has no two equal scores."""
    grades = [{"query": q, "document": d, "relevance": 1} for q, d in zip(QUERIES, DOCUMENTS, strict=True)]
    grades += [{"query": QUERIES[0], "document": DOCUMENTS[4], "relevance": 3}]
    records = [{"id": str(n), **each} for n, each in enumerate(grades)]
    task = LocalRetrieval(records, name="graded", revision="1")
    model = AllScores(searched[2].searcher.model)
    expected = evaluate(model, task)["ndcg_at_10"]
    column = {name: number for number, name in enumerate(model.documents)}
    relevant = [{column[d]: g for d, g in task.judgements[query].items()} for query in model.queries]
    assert {2, 1} <= {len(each) for each in relevant} and expected < 1
    assert ndcgs_at_10(model.scores, relevant).mean() == pytest.approx(expected, abs=1e-5)


def test_models_alone_and_with_bm25(searched, tmp_path):
    """The weight of each is chosen on dev; without dev it is the one that is given."""
    task, _, dense, lexical, scores = searched
    dev = LocalRetrieval(
        [{"id": "1", "query": "iron water", "document": DOCUMENTS[4]}],
        [{"id": str(n), "document": text} for n, text in enumerate(DOCUMENTS)],
        name="dev",
        revision="1",
    )
    models = {"ours": dense.searcher.model}
    metrics = ("ndcg_at_10", "recall_at_1")
    for settings in ({"dev": dev}, {"weight": 0.2}, {}):
        of_bm25, found = evaluate_with_bm25(models, task, results_dir=tmp_path, **settings)
        weight = found["ours"].weight
        both = [evaluate(Fused(dense, lexical, each), task) for each in (RRF, weight)]
        expected = [scores[1], scores[0], *both]
        for one, other in zip([of_bm25, *found["ours"][:3]], expected, strict=True):
            assert [one[each] for each in metrics] == pytest.approx([other[each] for each in metrics])
        if settings:
            on_dev = [AllScores(open_for_evaluation(BM25)), AllScores(models["ours"])]
            for each in on_dev:
                evaluate(each, dev)
            assert weight == settings.get("weight", choose_weight(on_dev[1], on_dev[0], dev.judgements))
        else:
            assert weight == 0.7


def test_only_the_best_are_returned():
    assert best(["q"], ["a", "b", "c"], np.array([[1.0, 3.0, 2.0]]), 2) == {"q": {"b": 3.0, "c": 2.0}}
