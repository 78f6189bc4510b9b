"""Rankings of passages: the same whatever fits into memory, and what tells nothing apart finds nothing."""

import numpy as np
import pytest
from helpers import TEXTS, make_bert
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.errors import InputError
from lbr_st.evaluation.bm25 import BM25Ranker
from lbr_st.evaluation.own_data import LocalRetrieval, open_for_evaluation
from lbr_st.evaluation.ranking import DenseRanker, first_of, fuse, nearest, ranks, ranks_of, standardized

CHINESE = ["水在一百度沸腾但是在高山上更低", "盐提高血压", "铁治疗贫血", "图有节点和边"]


class Given:
    """A ranker with scores that are given, a row for each query."""

    def __init__(self, rows):
        self.rows = np.array(rows, np.float32)
        self.size = self.rows.shape[1]

    def scores(self, queries):
        yield from ((start, self.rows[start : start + 1]) for start in range(len(queries)))


def all_of(ranker, queries):
    found = list(ranker.scores(queries))
    assert [start for start, _ in found] == np.cumsum([0, *(len(rows) for _, rows in found[:-1])]).tolist()
    return np.concatenate([rows for _, rows in found])


@pytest.mark.parametrize("texts", [TEXTS, CHINESE, [*CHINESE, *TEXTS[:4]]], ids=["English", "Chinese", "both"])
def test_bm25_is_what_evaluate_scores(texts):
    """To the last digit, by whichever tokenizer."""
    records = [{"id": str(n), "query": text[:12], "document": text} for n, text in enumerate(texts)]
    task = LocalRetrieval(records, name="f", revision="1")
    searcher = open_for_evaluation("bm25")
    task.load_data()
    data = task.dataset["default"]["test"]
    settings = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}}
    searcher.index(data["corpus"], **settings)
    expected = searcher.search(data["queries"], top_k=len(texts), **settings)
    ranker = BM25Ranker(list(task.documents))
    assert ranker.tokens == task.tokens and ranker.size == len(texts)
    ids = list(task.documents.values())
    for row, of_query in zip(all_of(ranker, list(task.queries)), expected.values(), strict=True):
        assert row.max() > 0
        found = dict(zip(ids, row.tolist(), strict=True))
        assert {id_: score for id_, score in found.items() if score > 0} == of_query


def test_bm25_of_words_that_are_nowhere():
    scores = all_of(BM25Ranker(TEXTS), ["anaemia iron", "zebra", "the", "", "?"])
    assert scores[0].argmax() == 3 and not scores[1:].any()
    with pytest.raises(InputError, match="^BM25 finds not one word in 2 texts, but .* take a model alone$"):
        BM25Ranker(["?!", "of the"])


def test_a_model_applies_its_prompts_and_its_similarity(saved, tmp_path):
    for model, similarity in (
        (lbr_st.load(saved) if not (saved / "modules.json").is_file() else SentenceTransformer(str(saved)), None),
        (SentenceTransformer(make_bert(tmp_path / "bert")), "euclidean"),
    ):
        if similarity:
            model.similarity_fn_name = similarity
        expected = model.similarity(model.encode_query(TEXTS[:2]), model.encode_document(TEXTS)).numpy()
        assert np.abs(all_of(DenseRanker(model, TEXTS), TEXTS[:2]) - expected).max() < 1e-5


def test_blocks_change_nothing(saved, monkeypatch):
    rankers = [BM25Ranker(TEXTS), DenseRanker(SentenceTransformer(str(saved)), TEXTS)]
    rankers.append(DenseRanker(rankers[1].model, TEXTS, vectors=rankers[1].model.encode_document(TEXTS)))
    whole = [all_of(ranker, TEXTS) for ranker in rankers]
    assert np.abs(whole[2] - whole[1]).max() < 1e-6
    monkeypatch.setattr("lbr_st.evaluation.ranking.SCORES_AT_A_TIME", 2 * len(TEXTS) + 1)
    monkeypatch.setattr("lbr_st.evaluation.ranking.rows_within", lambda *bounds: 4)
    for ranker, expected in zip(rankers, whole, strict=True):
        assert [len(rows) for _, rows in ranker.scores(TEXTS)] == [2, 2, 2]
        assert np.abs(all_of(ranker, TEXTS) - expected).max() < 1e-6
        assert ranks_of(ranker, TEXTS, range(len(TEXTS))).tolist() == [1] * len(TEXTS)


def test_ranks_by_hand():
    nan = float("nan")
    rows = [[0.5, 0.9, 0.1], [0.5, 0.5, 0.1], [0.2, 0.2, 0.2], [nan, 0.3, nan]]
    assert ranks_of(Given(rows), [""] * 4, [0, 0, 0, 0]).tolist() == [2, 2, 3, 3]
    assert ranks_of(Given(rows), [""] * 4, [1, 2, 1, 1]).tolist() == [1, 3, 3, 3]
    assert first_of(Given(rows[:3]), [""] * 3, 2) == [[1, 0], [0, 1], [0, 1]]
    assert ranks(np.array(rows[:3])).tolist() == [[2, 1, 3], [1, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize("rows", [1, 2, 5, 17, 40])
def test_the_nearest_of_all_parts_are_the_first_of_all_scores_sorted(rows):
    """Of equal ones the first comes first, wherever a part begins; NaN is the worst."""
    scores = np.random.default_rng(rows).integers(0, 4, (3, 17)).astype(np.float32)
    scores[1, ::5] = np.nan
    for k in (1, 3, 16, 17, 30):
        found = nearest(((slice(at, at + rows), scores[:, at : at + rows]) for at in range(0, 17, rows)), k)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        assert [[position for _, position in of_query] for of_query in found] == order.tolist()
        values = np.array([[score for score, _ in of_query] for of_query in found])
        assert np.array_equal(values, np.take_along_axis(scores, order, axis=1), equal_nan=True)


def test_fused_by_hand():
    dense, lexical = np.array([[0.9, 0.5, 0.1]]), np.array([[0.0, 4.0, 0.0]])
    assert fuse(dense, lexical, "rrf")[0] == pytest.approx([1 / 61, 1 / 62 + 1 / 61, 1 / 63])
    half = 1.5**0.5
    assert fuse(dense, lexical, 0.75)[0] == pytest.approx(
        [0.75 * half - 0.25 * 0.5**0.5, 0.25 * 2**0.5, -0.75 * half - 0.25 * 0.5**0.5]
    )


def test_standard_scores():
    scores = standardized(np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
    assert scores[0] == pytest.approx([-(1.5**0.5), 0, 1.5**0.5]) and scores[1].tolist() == [0, 0, 0]
