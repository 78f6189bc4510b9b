"""Public tests of mteb over local data of their schema, against nDCG by hand."""

import json
import math
from types import SimpleNamespace

import mteb
import pytest
import yaml
from datasets import Dataset, DatasetDict
from helpers import PAIRS, TEXTS
from sentence_transformers import SentenceTransformer

from lbr_st.errors import InputError
from lbr_st.evaluation import public_tests
from lbr_st.evaluation.own_data import open_for_evaluation
from lbr_st.evaluation.public_tests import Outcome, evaluate_on_tasks, format_outcomes, tasks_of, trained_on
from lbr_st.files import write_json, write_jsonl

REVISION = "0123456789" * 4


@pytest.fixture
def nfcorpus(tmp_path, monkeypatch):
    """The task of mteb by that name, over local data of its schema."""
    folder = tmp_path / "nfcorpus"
    folder.mkdir()
    corpus = ({"_id": f"d{n}", "title": "", "text": pair["document"]} for n, pair in enumerate(PAIRS))
    write_jsonl(folder / "corpus.jsonl", corpus)
    write_jsonl(folder / "queries.jsonl", ({"_id": f"q{n}", "text": pair["query"]} for n, pair in enumerate(PAIRS)))
    judgements = ({"query-id": f"q{n}", "corpus-id": f"d{n}", "score": 1} for n in range(len(PAIRS)))
    write_jsonl(folder / "qrels.jsonl", judgements)
    configs = [
        {"config_name": name, "data_files": [{"split": split, "path": f"{file}.jsonl"}]}
        for name, split, file in (
            ("corpus", "corpus", "corpus"),
            ("queries", "queries", "queries"),
            ("default", "test", "qrels"),
        )
    ]
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    task = type(mteb.get_task("NFCorpus"))
    dataset = {"path": str(folder), "revision": REVISION}
    monkeypatch.setattr(task, "metadata", task.metadata.model_copy(update={"dataset": dataset}))


def test_texts_longer_than_the_model_reads_are_counted(saved, nfcorpus, tmp_path, caplog):
    """With the prompts that mteb chooses; of a result that is there already nothing is said."""
    model = SentenceTransformer(str(saved))
    texts = [model.prompts[name] + pair[name] for pair in PAIRS for name in ("query", "document")]
    number = sum(len(ids) > 24 for ids in model.tokenizer(texts, truncation=False)["input_ids"])
    line = f"{number} of 6 texts are longer than the 24 tokens the model reads: the rest of them was not read"
    for times in (1, 0):
        caplog.clear()
        evaluate_on_tasks({"ours": open_for_evaluation(saved)}, tasks_of(["NFCorpus"]), tmp_path / "results")
        said = [record.getMessage() for record in caplog.records if "the model reads" in record.getMessage()]
        assert number and said == [line] * times


def test_scores_of_what_can_be_loaded(saved, nfcorpus, tmp_path):
    """What cannot be loaded says why; a result that is there for the same weights is taken."""
    models = {"ours": open_for_evaluation(saved), "bm25": open_for_evaluation("bm25")}
    found, not_loaded = evaluate_on_tasks(models, tasks_of(["NFCorpus", "SciFact"]), tmp_path / "results")
    model = SentenceTransformer(str(saved))
    similar = model.encode_query([pair["query"] for pair in PAIRS]) @ (
        model.encode_document([pair["document"] for pair in PAIRS]).T
    )
    ranks = (similar > similar.diagonal()[:, None]).sum(axis=1)
    ndcg = sum(1 / math.log2(rank + 2) for rank in ranks if rank < 10) / len(PAIRS)
    assert found == Outcome("NFCorpus", "ndcg_at_10", {"ours": pytest.approx(ndcg, abs=1e-4), "bm25": found[2]["bm25"]})
    assert 0 < found.scores["bm25"] <= 1
    assert (not_loaded.task, not_loaded.scores) == ("SciFact", {}) and 0 < len(not_loaded.why_not) <= 160
    [again] = evaluate_on_tasks({"ours": DoesNotEncode(saved)}, tasks_of(["NFCorpus"]), tmp_path / "results")
    assert again.scores["ours"] == found.scores["ours"]


def test_a_task_of_several(saved, nfcorpus, tmp_path):
    """It has no data of its own, and the mean of its parts; one that cannot be loaded says why."""
    several = mteb.get_task("CQADupstackRetrieval")
    models = {"ours": open_for_evaluation(saved)}
    [part] = evaluate_on_tasks(models, tasks_of(["NFCorpus"]), tmp_path / "results")
    for parts, scores in ((["NFCorpus"], part.scores), (["NFCorpus", "SciFact"], {})):
        tasks = [mteb.get_task(name) for name in parts]
        own = type("Own", (type(several),), {"metadata": several.metadata.model_copy(update={"tasks": tasks})})
        [found] = evaluate_on_tasks(models, [own()], tmp_path / "results")
        assert (found.task, found.scores) == ("CQADupstackRetrieval", scores)


class DoesNotEncode:
    def __init__(self, saved):
        self.mteb_model_meta = open_for_evaluation(saved).mteb_model_meta


def test_why_not_is_one_line(tmp_path):
    class Gated:
        metadata = mteb.get_task("SciFact").metadata

        def load_data(self):
            raise OSError("ask\n  for access " + "here " * 100)

    [outcome] = evaluate_on_tasks({"ours": None}, [Gated()], tmp_path)
    assert outcome.why_not.startswith("ask for access here here") and len(outcome.why_not) <= 160


def test_what_was_trained_on_is_marked(saved):
    outcomes = [
        Outcome("NFCorpus", "ndcg_at_10", {"ours": 0.17491, "bm25": 0.3}),
        Outcome("SciFact", "ndcg_at_10", {}, "no network"),
        Outcome("Other", "map", {"ours": 0.5, "bm25": 0.25}),
    ]
    assert format_outcomes(outcomes, {"ours": {"NFCorpus"}, "bm25": set()}) == (
        "| task     |                ours |   bm25 | metric     |\n"
        "| -------- | ------------------: | -----: | ---------- |\n"
        "| NFCorpus | (trained on) 0.1749 | 0.3000 | ndcg_at_10 |\n"
        "| Other    |              0.5000 | 0.2500 | map        |\n"
        "\n"
        "ours was trained on the sources of NFCorpus; scores there are not those of a test.\n"
        "\n"
        "Not run, 1 of 3:\n"
        "  SciFact: no network"
    )
    assert format_outcomes(outcomes[1:2], {}).startswith("Not run, 1 of 1")


def test_bm25_where_there_is_nothing_to_search(saved, tmp_path, monkeypatch):
    """It is left out where another model is scored, and why is said where it is alone."""
    task = mteb.get_task("Banking77Classification")

    def load_data(self, **kwargs):
        rows = [{"text": f"{text} {label}", "label": label} for text in TEXTS for label in (0, 1)]
        self.dataset, self.data_loaded = (
            DatasetDict({name: Dataset.from_list(rows) for name in ("train", "test")}),
            True,
        )

    monkeypatch.setattr(type(task), "load_data", load_data)
    models = {"bm25": open_for_evaluation("bm25"), "ours": open_for_evaluation(saved)}
    [found] = evaluate_on_tasks(models, [task], tmp_path / "results")
    assert [*found.scores] == ["ours"]
    row = f"| Banking77Classification |    - | {found.scores['ours']:.4f} | accuracy |"
    assert row in format_outcomes([found], dict.fromkeys(models, set()))
    [alone] = evaluate_on_tasks({"bm25": models["bm25"]}, [task], tmp_path / "results")
    assert (alone.scores, alone.why_not) == ({}, "bm25 only searches, and this is no search")


def test_scores_are_of_what_is_asked_for(saved, nfcorpus, tmp_path):
    """mteb keeps the scores of all splits that were ever asked for in one file."""
    models = {"ours": open_for_evaluation(saved)}
    [found] = evaluate_on_tasks(models, tasks_of(["NFCorpus"]), tmp_path / "results")
    [file] = (tmp_path / "results").rglob("NFCorpus.json")
    kept = json.loads(file.read_text())
    kept["scores"]["dev"] = [kept["scores"]["test"][0] | {"main_score": 0.0}]
    write_json(file, kept)
    assert evaluate_on_tasks(models, tasks_of(["NFCorpus"]), tmp_path / "results") == [found]
    assert found.scores["ours"] > 0


def test_tasks_of_two_benchmarks_are_each_what_its_benchmark_asks_for(monkeypatch):
    parts = [mteb.get_task("BelebeleRetrieval", languages=[language]) for language in ("deu", "fra")]
    benchmarks = [SimpleNamespace(name=f"B{n}", tasks=[part]) for n, part in enumerate(parts)]
    monkeypatch.setattr(mteb, "get_benchmarks", lambda: benchmarks)
    assert tasks_of(["B0", "B1", "B0"]) == parts


def test_what_a_model_says_that_it_was_trained_on(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    assert trained_on(tmp_path / "model") == trained_on("owner/name") == set()
    write_json(tmp_path / "model" / "lbr_config.json", {})
    history = [{"mteb_tasks": ["NFCorpus"]}, {}, {"mteb_tasks": ["SciFact", "NFCorpus"]}]
    monkeypatch.setattr(public_tests, "read", lambda model: {"history": history})
    assert trained_on(tmp_path / "model") == {"NFCorpus", "SciFact"}


def test_tasks_and_benchmarks_by_name():
    """Those that the project is about, tasks alone, and the nearest name to one that is none."""
    for name in ("MTEB(Medical, v1)", "ChemTEB(v1.1)", "MTEB(Code, v1)", "MTEB(Law, v1)"):
        assert tasks_of([name])
    [task] = tasks_of(["NFCorpus", "NFCorpus"])
    assert task.metadata.name == "NFCorpus"
    message = r"--tasks MTEB\(Medicine, v1\): mteb has no benchmark or task of that name; the nearest are .*Medical, v1"
    with pytest.raises(InputError, match=message):
        tasks_of(["MTEB(Medicine, v1)"])
