"""What the steps that train are told."""

import json
from types import SimpleNamespace

import pytest

from lbr_st.adaptation import training_steps
from lbr_st.adaptation.training_steps import dev_corpus, find_negatives
from lbr_st.errors import InputError


def test_dev_queries_are_asked_of_so_many_passages_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(training_steps, "DEV_CORPUS", 5)
    rows = [{"id": f"{n}", "query": f"what is {n}", "document": f"{n} is that"} for n in range(12)]
    for name, some in (("corpus", rows), ("dev", [*rows[:2], rows[1] | {"query": "and one"}])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    layout = SimpleNamespace(set=tmp_path, config=SimpleNamespace(seed=0))
    drawn = [record["document"] for record in dev_corpus(layout)]
    assert len({*drawn}) == 3 and {*drawn} <= {row["document"] for row in rows[2:]}
    assert drawn == [record["document"] for record in dev_corpus(layout)]
    monkeypatch.setattr(training_steps, "DEV_CORPUS", 1)
    assert dev_corpus(layout) == []


@pytest.mark.parametrize("reranker", [None, "a"])
def test_a_reranker_has_nothing_to_teach_without_hard_negatives(tmp_path, monkeypatch, reranker):
    """Without one, stage 2 does without them."""

    def none(*args):
        raise InputError("2 hard negatives were found for none of 1 pairs")

    pairs = [{"id": "1", "query": "q", "document": "d", "negatives": []}]
    own = SimpleNamespace(file=lambda name: tmp_path / name, same_text="auto")
    config = SimpleNamespace(reranker=reranker)
    layout = SimpleNamespace(set=tmp_path, searcher="model", config=config)
    for name, value in {
        "opened_set": lambda folder: own, "read_tuples": lambda file: pairs, "read_records": lambda *file: [],
        "without_held_out": lambda own, corpus: corpus, "open_sentence_transformer": lambda name: None,
        "with_negatives": none,
    }.items():  # fmt: skip
        monkeypatch.setattr(training_steps, name, value)
    if reranker is None:
        assert find_negatives(layout, tmp_path) == {"pairs": 1, "with_hard_negatives": 0}
    else:
        with pytest.raises(InputError, match="for none of 1 pairs; --reranker teaches how they rank: leave it out$"):
            find_negatives(layout, tmp_path)
