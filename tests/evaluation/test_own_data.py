"""Scores through real mteb, against recall and nDCG by hand."""

import json
import math

import mteb
import numpy as np
import pytest
from helpers import TEXTS
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.errors import InputError
from lbr_st.evaluation import own_data as evaluation
from lbr_st.files import write_jsonl
from lbr_st.model.contract import fingerprint
from lbr_st.use import search

PAIRS = [{"id": f"p{n}", "question": f"{n} {q}", "answer": f"{n} {d}"} for n in range(12) for q, d in [TEXTS[:2]]]


@pytest.fixture
def saved(model, tmp_path):
    model.prompts.update(query="q: ", document="d: ")
    lbr_st.save(model, tmp_path / "model")
    write_jsonl(tmp_path / "test.jsonl", PAIRS)
    write_jsonl(tmp_path / "train.jsonl", [{"text": text} for text in TEXTS])
    return tmp_path


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
    return recall, ndcg


@pytest.mark.parametrize("extra", [False, True])
def test_scores_and_table(saved, model, capsys, extra):
    """Query and document prompts are applied, and the corpus is that which was asked for."""
    arguments = ["--model", str(saved / "model"), "--data", str(saved / "test.jsonl")]
    arguments += ["--results-dir", str(saved / "results")]
    arguments += ["--corpus-extra", str(saved / "train.jsonl")] if extra else []
    evaluation.main(arguments)
    recall, ndcg = by_hand(model, [p["answer"] for p in PAIRS] + (TEXTS if extra else []))
    assert 0 < recall < 1
    printed = capsys.readouterr().out
    assert f"12 queries, {18 if extra else 12} documents" in printed
    assert f"| {recall:9.3f} | {ndcg:7.3f} |" in printed
    [file] = (saved / "results").rglob("test*.json")
    revision = fingerprint(saved / "model")[:40]
    assert file.parent.name == revision
    assert json.loads(file.read_text())["scores"]["test"][0]["recall_at_10"] == pytest.approx(recall, abs=1e-4)


def test_other_weights_never_get_an_old_score(saved, model, tmp_path):
    """Same folder name, same task: the revision follows the weights, the prompts and the lengths."""
    revisions = {fingerprint(saved / "model")}
    model.prompts["query"] = "other: "
    lbr_st.save(model, saved / "model")
    revisions.add(fingerprint(saved / "model"))
    model.max_seq_length = 20
    lbr_st.save(model, saved / "model")
    revisions.add(fingerprint(saved / "model"))
    weight = model[0].model.get_input_embeddings().weight
    weight.data.neg_()
    lbr_st.save(model, saved / "model")
    revisions.add(fingerprint(saved / "model"))
    assert len(revisions) == 4
    lbr_st.save(model, saved / "copy")
    assert fingerprint(saved / "copy") in revisions


def test_bm25_beside_it(saved, capsys):
    files = ["--data", str(saved / "test.jsonl"), "--results-dir", str(saved / "r")]
    evaluation.main(["--model", "bm25", str(saved / "model"), *files])
    printed = capsys.readouterr().out
    assert printed.count("\n| ") == 4
    assert len(list((saved / "r").rglob("test.json"))) == 2


def test_portable_passes_mock_run(saved):
    """mteb's own check of a model, over a mock task of each of its kinds."""
    result = mteb.mock_run(SentenceTransformerEncoderWrapper(SentenceTransformer(str(saved / "model"))))
    assert result.all_passed


def test_native_layout_runs_in_mteb(saved, model):
    model.save_pretrained(str(saved / "native"))
    native = SentenceTransformer(str(saved / "native"), trust_remote_code=True)
    task = evaluation.local_task(saved / "test.jsonl")
    plain = evaluation.evaluate(native, task, saved / "results")
    task = evaluation.local_task(saved / "test.jsonl")
    ours = evaluation.evaluate(evaluation.open_for_evaluation(str(saved / "native")), task, saved / "results")
    assert (
        plain["ndcg_at_10"]
        == ours["ndcg_at_10"]
        == pytest.approx(by_hand(model, [p["answer"] for p in PAIRS])[1], abs=1e-4)
    )


def test_a_language_model_is_refused(saved, backbone):
    files = ["--data", str(saved / "test.jsonl")]
    with pytest.raises(InputError, match="is a language model, not an embedding model"):
        evaluation.main(["--model", backbone, *files])
    with pytest.raises(InputError, match="never-saved is not a model"):
        evaluation.main(["--model", "never-saved", *files])
    (saved / "model" / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match="is not a model"):
        evaluation.main(["--model", str(saved / "model"), *files])


def test_search_finds_the_text_itself(saved, capsys):
    """The nearest passage to a text is that text; file and folder are both searched."""
    folder = saved / "folder"
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.md").write_text(text)
    model = SentenceTransformer(str(saved / "model"))
    model.prompts.update(query="", document="")
    passages = lbr_st.data.records.read_passages(folder)
    for text, hits in zip(TEXTS, search.search(model, passages, TEXTS), strict=True):
        assert hits[0][1]["document"] == text
        assert hits[0][0] == pytest.approx(1, abs=1e-5)
    search.main(["--model", str(saved / "model"), "--data", str(saved / "train.jsonl"), "--top-k", "2", "one", "two"])
    printed = capsys.readouterr().out
    assert printed.count("> ") == 2
    assert printed.count("\n    ") == 4
