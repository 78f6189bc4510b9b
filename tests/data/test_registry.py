"""The public sets: that their entries mean what they say, on local stand-ins of the same columns."""

import sys

import mteb
import pytest
from datasets import Dataset

from lbr_st.data import parts as reading
from lbr_st.data import registry
from lbr_st.data.parts import Reading, parts_of
from lbr_st.errors import InputError

# One row as the Hub has it, and what is read of it. The types are those of the datasets' own cards.
SCHEMAS = {
    "camel_chemistry": ({"topic;": "t", "sub_topic": "s", "message_1": "q", "message_2": "d"}, ("q", "d", [])),
    "chemrxiv_train": ({"paragraph": "d", "generated_query": "q"}, ("q", "d", [])),
    "sciq": (
        {"question": "q", "distractor3": "c", "distractor1": "a", "distractor2": "b", "correct_answer": "d"},
        ("q", "d", ["a", "b", "c"]),
    ),
    "codesearchnet_go": (
        {"func_name": "f", "func_documentation_string": "q", "func_code_string": "d", "language": "go"}, ("q", "d", []),
    ),
    "synthetic_text2sql": ({"id": 1, "sql_prompt": "q", "sql": "d", "sql_context": "c"}, ("q", "d", [])),
    "financial_qa_10k": ({"question": "q", "answer": "a", "context": "d", "ticker": "T"}, ("q", "d", [])),
    "t2ragbench_finqa": ({"id": "1", "question": "q", "context": "d", "program_answer": "5"}, ("q", "d", [])),
    "billsum": ({"text": "d", "summary": "q", "title": "t"}, ("q", "d", [])),
    "law_stackexchange": (
        {"question_id": 1, "question_title": "q", "question_body": "<p>b</p>", "answers": [{"body": "d", "score": 3}]},
        ("q", "d", []),
    ),
    "open_australian_legal_qa": ({"question": "q", "answer": "a", "source": {"text": "d"}}, ("q", "d", [])),
    "medmcqa": (
        {"id": "x", "question": "q", "opa": "a", "opb": "b", "opc": "d", "opd": "c", "cop": 2, "exp": None},
        ("q", "d", ["a", "b", "c"]),
    ),
    "medqa_usmle": (
        {"question": "q", "answer": "d", "options": {"A": "a", "B": "d", "C": "b", "D": "c"}, "answer_idx": "B"},
        ("q", "d", ["a", "b", "c"]),
    ),
    "medquad": ({"document_id": "1", "question_focus": "f", "question": "q", "answer": "d"}, ("q", "d", [])),
    "pubmedqa": ({"pubid": 1, "question": "q", "context": {"contexts": ["c"]}, "long_answer": "d"}, ("q", "d", [])),
}  # fmt: skip
BEIR = {"cosqa", "fiqa"}


def test_every_set_is_tested():
    assert set(SCHEMAS) | BEIR == set(registry.load())


@pytest.fixture
def hub(monkeypatch):
    """Splits by dataset, configuration and name, in place of the Hub."""
    splits = {}

    def load_dataset(name, config=None, *, split):
        return splits[name, config, split]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return splits


@pytest.mark.parametrize("name", SCHEMAS)
def test_columns(name, hub):
    entry = registry.load()[name]
    row, (query, document, negatives) = SCHEMAS[name]
    for theirs in entry.splits.values():
        hub[entry.hub, entry.config, theirs] = Dataset.from_list([row])
    parts = parts_of(name, Reading())
    assert [part.side for part in parts] == ([None] if len(entry.splits) == 1 else list(entry.splits))
    for part in parts:
        [record] = part.records()
        assert (record["query"], record["document"], record["negatives"]) == (query, document, negatives)


@pytest.mark.parametrize("name", sorted(BEIR))
def test_beir(name, hub):
    entry = registry.load()[name]
    texts = {"corpus": [{"_id": "d1", "title": "t", "text": "d"}, {"_id": "d2", "title": "", "text": "e"}],
             "queries": [{"_id": "q1", "text": "q"}]}  # fmt: skip
    for kind, rows in texts.items():
        part = getattr(entry, kind)
        hub[part["hub"], part["config"], part["split"]] = Dataset.from_list(rows)
    judged = [{"query-id": "q1", "corpus-id": "d1", "score": 1.0}]
    for theirs in entry.splits.values():
        hub[entry.qrels["hub"], entry.qrels["config"], theirs] = Dataset.from_list(judged)
    *sides, corpus = parts_of(name, Reading())
    assert [part.side for part in sides] == ["train", "dev", "test"]
    [record] = sides[0].records()
    assert (record["query"], record["document"], record["relevance"]) == ("q", "t d", 1)
    assert [record["document"] for record in corpus.records()] == ["t d", "e"]


@pytest.mark.slow
def test_tasks_exist_in_mteb():
    every = {task.metadata.name for task in mteb.get_tasks(exclude_superseded=False)}
    named = {task for entry in registry.load().values() for task in entry.mteb}
    assert named and named <= every


def test_tasks_behind_data():
    assert registry.mteb_tasks(["medquad"]) == ["MedicalQARetrieval"]
    assert registry.mteb_tasks(["keivalya/MedQuad-MedicalQnADataset:train"]) == ["MedicalQARetrieval"]
    assert registry.mteb_tasks([], [{"source": "5_NIDDK_QA"}, {"source": "x"}]) == ["MedicalQARetrieval"]
    # Its own data, and by mteb's word tasks adapted from it.
    found = registry.mteb_tasks(["mteb/nfcorpus"])
    assert {"NFCorpus", "NanoNFCorpusRetrieval", "NFCorpus-NL", "NFCorpus-NL.v2"} <= set(found)  # the last by the third
    assert registry.mteb_tasks(["lavita/medquad"]) == ["MedicalQARetrieval"]  # the Hub knows no capitals
    assert registry.mteb_tasks(["mine.jsonl", "owner/unknown"], [{"source": "mine.jsonl"}, {}]) == []


def test_angle_brackets_of_code_are_its_own(hub):
    row = SCHEMAS["codesearchnet_go"][0] | {"func_code_string": "    a <b>\n"}
    hub["claudios/code_search_net", "go", "train"] = Dataset.from_list([row])
    [record] = parts_of("codesearchnet_go", Reading())[0].records()
    assert record["document"] == "    a <b>"
    hub["lavita/MedQuAD", None, "train"] = Dataset.from_list([SCHEMAS["medquad"][0] | {"answer": "    a <b>\n"}])
    assert next(parts_of("medquad", Reading())[0].records())["document"] == "a"


def test_rows_without_an_answer(hub):
    """Some public sets are known to have them; they are not what stops a run, and they are counted."""
    rows = [{"question": "q", "answer": None}, {"question": "q", "answer": "d"}]
    hub["lavita/MedQuAD", None, "train"] = Dataset.from_list(rows)
    counted = []
    [part] = parts_of("medquad", Reading(incomplete=counted.append))
    assert [record["document"] for record in part.records()] == ["d"]
    assert [error.reason for error in counted] == ["not text"]
    hub["qiaojin/PubMedQA", "pqa_artificial", "train"] = Dataset.from_list([{"question": "q", "long_answer": None}])
    with pytest.raises(InputError, match="expected text or a number, found null"):
        list(parts_of("pubmedqa", Reading(incomplete=counted.append))[0].records())


def test_names_that_are_unknown():
    registry.check_names(["medquad", "owner/name"])
    with pytest.raises(InputError, match="--derived-from medquat: no set of the registry .camel_chemistry, "):
        registry.check_names(["medquat"])
    with pytest.raises(InputError, match="medquat: no such file or folder, no id of a Hub dataset, and none of camel"):
        parts_of("medquat", Reading())
    assert reading.INSTALLED not in registry.load()


def test_without_mteb_the_tasks_of_the_registry_are_named(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mteb", None)
    registry._every_task.cache_clear()
    assert registry.mteb_tasks(["medquad"]) == ["MedicalQARetrieval"]
    assert registry.mteb_tasks(["mteb/nfcorpus"]) == []
    assert "needs mteb, which is not installed: pip install 'lbr-st[eval]'; those of lbr data list are" in caplog.text
    registry._every_task.cache_clear()
