"""What the steps that train are told."""

import json
from types import SimpleNamespace

from lbr_st.adaptation import training_steps
from lbr_st.adaptation.training_steps import dev_corpus


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
