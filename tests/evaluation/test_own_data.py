"""Scores through real mteb, against recall and nDCG by hand."""

import json
import math
import re
import shutil
import sys

import mteb
import numpy as np
import pytest
from helpers import TEXTS
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.data.prepared_set import PreparedSet
from lbr_st.errors import InputError
from lbr_st.evaluation.fusion import AllScores
from lbr_st.evaluation.own_data import local_task, open_for_evaluation
from lbr_st.files import write_jsonl
from lbr_st.model.contract import fingerprint
from lbr_st.model.encoding import TextEncoder

PAIRS = [{"id": f"p{n}", "question": f"{n} {q}", "answer": f"{n} {d}"} for n in range(12) for q, d in [TEXTS[:2]]]
ANSWERS = [pair["answer"] for pair in PAIRS]


@pytest.fixture(scope="session")
def original(saved):
    """The model as everyone opens it."""
    return SentenceTransformer(str(saved))


@pytest.fixture
def pairs(tmp_path):
    """A file of test pairs, with other documents beside it."""
    write_jsonl(tmp_path / "train.jsonl", [{"text": text} for text in TEXTS])
    write_jsonl(tmp_path / "test.jsonl", PAIRS)
    return tmp_path / "test.jsonl"


def by_hand(model, documents):
    queries = model.encode([p["question"] for p in PAIRS], prompt="q: ")
    corpus = model.encode(documents, prompt="d: ")
    recall = ndcg = 0.0
    for query, pair in zip(queries, PAIRS, strict=True):
        order = np.argsort(-(corpus @ query), kind="stable")[:10]
        found = [documents[i] for i in order]
        if pair["answer"] in found:
            rank = found.index(pair["answer"])
            recall += 1 / len(PAIRS)
            ndcg += 1 / math.log2(rank + 2) / len(PAIRS)
    return {"recall_at_10": pytest.approx(recall, abs=1e-4), "ndcg_at_10": pytest.approx(ndcg, abs=1e-4)}


def main_scores(scores):
    return {name: scores[name] for name in ("recall_at_10", "ndcg_at_10")}


@pytest.mark.parametrize("extra", [False, True])
def test_scores(saved, original, pairs, tmp_path, extra):
    """Query and document prompts are applied, and the corpus is that which was asked for."""
    results = tmp_path / "results"
    more = tmp_path / "train.jsonl" if extra else None
    scores = lbr_st.evaluate(saved, pairs, corpus_extra=more, results_dir=results)
    expected = by_hand(original, ANSWERS + (TEXTS if extra else []))
    assert main_scores(scores) == expected
    assert 0 < scores["recall_at_10"] < 1
    [file] = results.rglob("test*.json")
    assert file.parent.name == fingerprint(saved)[:40]
    assert main_scores(json.loads(file.read_text())["scores"]["test"][0]) == expected


def test_a_model_and_a_task_in_memory(original, pairs, tmp_path, monkeypatch):
    """A task keeps its name over evaluations; without a folder for them, mteb writes no result files."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    task = local_task(pairs, tmp_path / "train.jsonl")
    assert (len(task.queries), len(task.documents)) == (12, 18)
    expected = by_hand(original, ANSWERS + TEXTS)
    before = sorted(tmp_path.rglob("*"))
    assert main_scores(lbr_st.evaluate(original, task)) == expected
    assert sorted(tmp_path.rglob("*")) == before
    assert main_scores(lbr_st.evaluate(original, task, results_dir=tmp_path / "results")) == expected
    [file] = (tmp_path / "results").rglob("test*.json")
    assert file.stem == task.metadata.name
    with pytest.raises(InputError, match="the corpus of a task is made already"):
        lbr_st.evaluate(original, task, corpus_extra=pairs)


def test_another_model_in_memory_never_gets_the_score_of_the_first(original, model, pairs, tmp_path):
    """mteb does not know them apart: they have neither a name nor a revision."""
    model.prompts.update(query="q: ", document="d: ")
    weight = model[0].model.get_input_embeddings().weight.data
    weight.copy_(weight.roll(1, dims=0))
    for each in (original, model):
        expected = by_hand(each, ANSWERS)
        assert main_scores(lbr_st.evaluate(each, pairs, results_dir=tmp_path / "results")) == expected
    assert expected != main_scores(lbr_st.evaluate(original, pairs))


def test_documents_are_searched_some_at_a_time(original, pairs, tmp_path, monkeypatch):
    """As many as memory is there for; the scores are those of all at once."""
    encoded, encode, asked = [], TextEncoder.encode, []

    def kept(self, texts, *args):
        encoded.append(len(texts))
        return encode(self, texts, *args)

    def five(*bounds):
        asked.append(bounds)
        return 5

    monkeypatch.setattr(TextEncoder, "encode", kept)
    monkeypatch.setattr("lbr_st.evaluation.own_data.rows_within", five)
    scores = lbr_st.evaluate(original, pairs, corpus_extra=tmp_path / "train.jsonl", memory_mib=3)
    assert main_scores(scores) == by_hand(original, ANSWERS + TEXTS)
    assert asked == [(3, 32, 12)] and encoded == [12, 5, 5, 5, 3]


def test_a_prepared_set(original, tmp_path):
    """Its test queries are asked of its whole corpus."""
    folder = tmp_path / "set"
    folder.mkdir()
    write_jsonl(folder / "test.jsonl", [{"query": p["question"], "document": p["answer"]} for p in PAIRS])
    write_jsonl(folder / "corpus.jsonl", [{"document": text} for text in ANSWERS + TEXTS])
    about = {"name": "my set", "files": {"test": {}, "corpus": {}}, "objective": "sft", "isolated": [], "mteb": []}
    prepared = PreparedSet(folder, about | {"regime": "strict"})
    task = local_task(prepared)
    assert re.fullmatch("my-set-test-corpus-[0-9a-f]{8}", task.metadata.name) and len(task.documents) == 18
    expected = by_hand(original, ANSWERS + TEXTS)
    assert main_scores(lbr_st.evaluate(original, prepared)) == expected


def test_documents_are_called_what_their_rows_call_them(pairs, tmp_path):
    """In predictions too; two that have one id stay two."""
    rows = [{"_id": "MED-10", "title": "Gout", "text": "It hurts."}, {"docid": 7, "text": PAIRS[0]["answer"]},
            {"_id": "MED-10", "text": "Another."}, {"_id": "d3", "text": "One more."}]  # fmt: skip
    write_jsonl(tmp_path / "extra.jsonl", rows)
    documents = local_task(pairs, tmp_path / "extra.jsonl").documents
    assert documents["Gout It hurts."] == "MED-10" and documents[PAIRS[0]["answer"]] == "7"
    assert documents[PAIRS[3]["answer"]] == "d3" and len(set(documents.values())) == len(documents) == 15
    assert documents["Another."].startswith("MED-10#") and documents["One more."].startswith("d3#")


def test_hard_negatives_are_searched_among(original, tmp_path):
    """As they are in a file: without them it would be easier than it is."""
    rows = [{"query": p["question"], "positive": p["answer"], "negatives": TEXTS} for p in PAIRS]
    write_jsonl(tmp_path / "hard.jsonl", rows)
    task = local_task(tmp_path / "hard.jsonl")
    assert [*task.documents] == ANSWERS + TEXTS and sum(map(len, task.judgements.values())) == len(PAIRS)
    assert main_scores(lbr_st.evaluate(original, task)) == by_hand(original, ANSWERS + TEXTS)


def test_a_pair_that_comes_twice_has_its_higher_grade(tmp_path):
    rows = [{"query": "q", "document": "d", "relevance": grade} for grade in (2, 3, 1)]
    write_jsonl(tmp_path / "f.jsonl", rows)
    assert [*local_task(tmp_path / "f.jsonl").judgements.values()] == [{"d0": 3}]


def test_other_data_have_another_file_of_results(pairs, tmp_path):
    """Whatever their file is called: what was measured before is kept, and no public test's name is taken."""
    renamed = shutil.copy(pairs, tmp_path / "SciFact.jsonl")
    one, same = local_task(pairs).metadata, local_task(renamed).metadata
    assert one.revision == same.revision and same.name == f"SciFact-{same.revision[:8]}"
    others = [local_task(pairs, tmp_path / "train.jsonl").metadata]
    for changed in ({"question": "other"}, {"answer": "other"}, {"relevance": 2}):
        write_jsonl(tmp_path / "test.jsonl", [PAIRS[0] | changed, *PAIRS[1:]])
        others.append(local_task(pairs).metadata)
    assert len({each.name for each in (one, *others)}) == len({each.revision for each in (one, *others)}) == 5


def test_what_joins_a_corpus_that_is_there_already_is_said(pairs, tmp_path, caplog):
    rows = [{"_id": "MED-10", "text": "It hurts."}, {"_id": "MED-10", "text": "Another."},
            {"_id": "d3", "text": "One more."}, {"_id": "x", "text": PAIRS[0]["answer"]}]  # fmt: skip
    write_jsonl(tmp_path / "extra.jsonl", rows)
    write_jsonl(tmp_path / "own.jsonl", [{"_id": "a", "text": "It hurts."}])
    with caplog.at_level("INFO"):
        local_task(pairs, tmp_path / "own.jsonl")
        assert not [each for each in caplog.messages if "already" in each or "another" in each]
        local_task(pairs, tmp_path / "extra.jsonl")
    file = tmp_path / "extra.jsonl"
    assert (
        f"{file}: 4 documents; columns used: text, _id; 1 with the id of another row above, which are called id#row"
        in (caplog.text.replace("_id, text", "text, _id"))
    )
    assert f"{file}: 1 of its 4 documents are in the corpus already" in caplog.messages
    assert (
        f"{file}: 1 documents have an id that another text has: mteb's files call them by a number too, such as "
        "d3#d14 for d3"
    ) in caplog.messages


def test_texts_longer_than_the_model_reads_are_counted(original, tmp_path, caplog):
    """Also of a model that is opened for mteb already; BM25 reads all."""
    rows = [{"question": "short?", "answer": "word " * 40}, {"question": "other?", "answer": "two"}]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    line = "1 of 4 texts are longer than the 24 tokens the model reads: the rest of them was not read"
    for model in (original, SentenceTransformerEncoderWrapper(original), AllScores(open_for_evaluation("bm25"))):
        caplog.clear()
        lbr_st.evaluate(model, tmp_path / "pairs.jsonl")
        said = [record.getMessage() for record in caplog.records if "the model reads" in record.getMessage()]
        assert said == ([] if isinstance(model, AllScores) else [line])


def test_predictions(original, pairs, tmp_path):
    """The documents that each query found, best first."""
    lbr_st.evaluate(original, pairs, predictions=tmp_path / "predictions")
    [file] = (tmp_path / "predictions").rglob("*.json")
    found = json.loads(file.read_text())["default"]["test"]
    queries, corpus = original.encode_query([p["question"] for p in PAIRS]), original.encode_document(ANSWERS)
    for number, pair in enumerate(PAIRS):
        ranked = sorted(found[pair["id"]], key=found[pair["id"]].get, reverse=True)
        assert ranked[0] == f"d{(corpus @ queries[number]).argmax()}"


def test_other_weights_never_get_an_old_score(saved, model, tmp_path):
    """Same folder name, same task: the revision follows the weights, the prompts and the lengths."""
    shutil.copytree(saved, tmp_path / "model")
    saved = tmp_path / "model"
    revisions = {fingerprint(saved)}
    model.prompts["query"] = "other: "
    lbr_st.save(model, saved)
    revisions.add(fingerprint(saved))
    model.max_seq_length = 20
    lbr_st.save(model, saved)
    revisions.add(fingerprint(saved))
    weight = model[0].model.get_input_embeddings().weight
    weight.data.neg_()
    lbr_st.save(model, saved)
    revisions.add(fingerprint(saved))
    assert len(revisions) == 4
    shutil.copytree(saved, tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") in revisions
    [meta] = {open_for_evaluation(saved).mteb_model_meta.revision}
    assert meta == fingerprint(saved)[:40]


def test_a_model_that_is_run_otherwise_has_scores_of_its_own(saved, original):
    """mteb would take those that it finds for the same name and revision."""
    asked = []
    opened = open_for_evaluation(saved, None, lambda name: asked.append(name) or original, "-onnx-8d")
    assert opened.model is original and asked == [str(saved)]
    assert opened.mteb_model_meta.revision == f"{fingerprint(saved)[:40]}-onnx-8d"


def test_bm25(pairs, tmp_path, monkeypatch):
    scores = lbr_st.evaluate("bm25", pairs, results_dir=tmp_path / "results")
    assert scores["recall_at_10"] > 0.5
    assert len(list((tmp_path / "results").rglob("test-*.json"))) == 1
    monkeypatch.setitem(sys.modules, "bm25s", None)
    message = r"--model bm25 needs bm25s, which is not installed: pip install 'lbr-st\[eval\]'"
    with pytest.raises(InputError, match=message):
        lbr_st.evaluate("bm25", pairs)


@pytest.mark.slow
def test_portable_passes_mock_run(original):
    """mteb's own check of a model, over a mock task of each of its kinds."""
    result = mteb.mock_run(SentenceTransformerEncoderWrapper(original))
    assert result.all_passed


def test_native_layout_runs_in_mteb(saved, original, pairs, tmp_path):
    lbr_st.load(str(saved)).save_pretrained(str(tmp_path / "native"))
    native = SentenceTransformer(str(tmp_path / "native"), trust_remote_code=True)
    plain = lbr_st.evaluate(native, pairs)
    ours = lbr_st.evaluate(tmp_path / "native", pairs)
    assert main_scores(plain) == main_scores(ours) == by_hand(original, ANSWERS)


def test_what_cannot_be_evaluated(saved, backbone, pairs, tmp_path):
    with pytest.raises(InputError, match="absent.jsonl: no such file"):
        lbr_st.evaluate(saved, "absent.jsonl")
    with pytest.raises(InputError, match="is a language model, not an embedding model"):
        lbr_st.evaluate(backbone, pairs)
    with pytest.raises(InputError, match="never-saved is not a model"):
        lbr_st.evaluate("never-saved", pairs)
    shutil.copytree(saved, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match="cannot be used: model.safetensors: is a Git LFS pointer"):
        lbr_st.evaluate(tmp_path / "broken", pairs)


def test_a_document_that_is_judged_no_answer_is_asked_for_by_no_query(tmp_path):
    write_jsonl(tmp_path / "f.jsonl", [{"query": "q", "document": f"d{n}", "score": n / 4} for n in range(4)])
    with pytest.raises(InputError, match="column 'score' grades the documents .* say --min-score S"):
        local_task(tmp_path / "f.jsonl")
    task = local_task(tmp_path / "f.jsonl", min_score=0.5)
    task.load_data()
    assert task.dataset["default"]["test"]["relevant_docs"] == {"3": {"d0": 1, "d1": 1}}
    assert task.documents == {"d2": "d0", "d3": "d1", "d0": "d2", "d1": "d3"}  # the others are searched among
    with pytest.raises(InputError, match="--min-score 0.5: the pairs of a task are read already"):
        local_task(task, min_score=0.5)
