"""What is found query by query, and that documents which two scores share are encoded once, to the same numbers."""

from types import SimpleNamespace

import numpy as np
import pytest

from lbr_st.adaptation.scoring import EncodesOnce, Judge, fused
from lbr_st.evaluation.own_data import LocalRetrieval, open_for_evaluation
from lbr_st.model.encoding import TextEncoder


def test_what_a_judge_finds():
    """Two queries, of which one has two documents: recall, nDCG, ranks and examples by hand."""
    records = [
        {"id": "a", "query": "one", "document": "d0"},
        {"id": "b", "query": "one", "document": "d2"},
        {"id": "c", "query": "two", "document": "d1"},
    ]
    more = [{"id": f"m{n}", "document": f"d{n}"} for n in range(3, 14)]
    judge = Judge(LocalRetrieval(records, more, name="toy", revision="1"))
    position = {text: number for number, text in enumerate(judge.documents)}
    scores = np.tile(-np.arange(14, dtype=np.float32), (2, 1))
    scores[0, position["d0"]], scores[0, position["d2"]] = 9, -99  # first, and last
    scores[1, position["d1"]] = -2.5  # fourth, or behind whatever is before it
    found = judge.found(["a", "c"], scores)
    rank = int((scores[1] > -2.5).sum()) + 1
    assert found.recall.tolist() == [0.5, 1.0]
    assert found.ranks.tolist() == [1, rank]
    ideal = 1 + 1 / np.log2(3)
    assert found.ndcg == pytest.approx((1 / ideal + 1 / np.log2(rank + 1)) / 2)
    [one, two] = judge.examples(["a", "c"], found, found)
    assert (one.query, one.document, one.before, one.first_after) == ("one", "d0", 1, "d0")
    assert (two.query, two.document, two.after) == ("two", "d1", rank)


def test_what_has_no_word_of_a_query_finds_nothing():
    """The documents that answer stand first in the corpus: of equal scores they have the last rank."""
    records = [{"id": str(n), "query": f"asks {n}", "document": f"d{n}"} for n in range(3)]
    more = [{"id": f"m{n}", "document": f"d{n}"} for n in range(3, 14)]
    judge = Judge(LocalRetrieval(records, more, name="toy", revision="1"))
    assert judge.documents[:3] == ["d0", "d1", "d2"]
    scores = np.zeros((3, 14), np.float32)
    scores[1, 8:] = 1  # six others have a word of it, and eight none
    scores[2, [2, 5]] = 1  # its own, and another that is as good
    found = judge.found(["0", "1", "2"], scores)
    assert (found.ranks.tolist(), found.recall.tolist()) == ([14, 14, 2], [0, 0, 1])
    assert found.ndcg == pytest.approx(1 / np.log2(3) / 3)


def test_documents_are_encoded_once_to_the_same_scores(embedding_model, monkeypatch):
    """Dev and test ask of one corpus, which each has in its own order."""
    rows = [{"id": str(n), "query": f"where is {n}", "document": "iron " * (n % 5) + str(n)} for n in range(30)]
    dev, test = (Judge(LocalRetrieval(own, rows, name="toy", revision="1")) for own in (rows[20:26], rows[6:12]))
    asked = []
    encode = TextEncoder.encode

    def counted(self, texts, *args, **kwargs):
        asked.append(len(texts))
        return encode(self, texts, *args, **kwargs)

    apart = [judge.scores(open_for_evaluation(embedding_model)) for judge in (test, dev)]
    once = EncodesOnce(embedding_model)
    monkeypatch.setattr(TextEncoder, "encode", counted)
    together = [judge.scores(once) for judge in (test, dev)]
    assert sum(asked) == len(test.documents) + 12  # and not twice
    for judge, one, two in zip((test, dev), apart, together, strict=True):
        assert (one.queries, one.documents) == (two.queries, two.documents)
        assert np.allclose(one.scores, two.scores, atol=1e-6)
        of_one, of_two = (judge.found(each.queries, each.scores) for each in (one, two))
        assert (of_one.ndcg, of_one.recall.tolist()) == (of_two.ndcg, of_two.recall.tolist())
        assert of_one.ranks.tolist() == of_two.ranks.tolist()


def test_fused_are_the_scores_of_the_same_query():
    """BM25 may have the queries in another order."""
    dense = SimpleNamespace(queries=["a", "b"], scores=np.float32([[1, 0], [0, 1]]))
    lexical = SimpleNamespace(queries=["b", "a"], scores=np.float32([[0, 4], [4, 0]]))
    assert fused(dense, lexical, 0.5).tolist() == [[1, -1], [-1, 1]]
