"""What is searched: the same as ``lbr search`` finds; what is read again, and what is kept of it."""

import copy
import json
import shutil
import sys

import numpy as np
import pytest
from helpers import TEXTS

from lbr_st.data.records import read_passages
from lbr_st.errors import InputError
from lbr_st.evaluation.ranking import best_of
from lbr_st.files import write_json, write_jsonl
from lbr_st.serving.index import Index
from lbr_st.use.encode import EncodeConfig, encode_corpus
from lbr_st.use.passages import chunker_of, open_encoded
from lbr_st.use.runtimes import Computing
from lbr_st.use.search import search, search_encoded

QUESTIONS = ["Is anaemia treated with iron?", "How is a list sorted?", TEXTS[2]]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.md").write_text(text)
    return folder


class Counting:
    """Embeds as the server does, and keeps what it was given."""

    def __init__(self, model):
        self.model, self.texts = model, []

    def __call__(self, texts):
        self.texts += texts
        return self.model.encode_document(list(texts))


def load(index, model):
    embed = Counting(model)
    return index.load(model, embed), embed.texts


def test_a_search_writes_no_bar(folder, saved, opened, capfd):
    index = Index(str(folder), str(saved))
    load(index, opened)
    capfd.readouterr()
    assert found(index, opened, QUESTIONS[0], "fused")
    assert capfd.readouterr().err == ""


def found(index, model, question, by, k=4):
    return index.search(question, model.encode_query(question), k, by)


def test_it_finds_what_lbr_search_finds(folder, saved, opened):
    """Alone and together with BM25: scores, texts and ranks."""
    index = Index(str(folder), str(saved))
    load(index, opened)
    passages = read_passages(folder, lambda: chunker_of(opened))
    assert len(index) == len(passages)
    for question in QUESTIONS:
        for by, weight in (("dense", None), ("fused", "rrf"), ("bm25", 0.0)):
            [expected] = search(opened, passages, [question], 4, weight)
            hits = found(index, opened, question, by)
            if by == "bm25":  # whose scores are its own there
                expected = [each for each in expected if each[1]["ranks"]["bm25"]]
            else:
                assert [hit.score for hit in hits] == pytest.approx([score for score, _ in expected], abs=1e-6)
            assert [(hit.id, hit.text) for hit in hits] == [(p["id"], p["document"]) for _, p in expected]
            if by == "fused":
                ranks = [{"dense": p["ranks"]["model"], "bm25": p["ranks"]["bm25"]} for _, p in expected]
                assert [hit.ranks for hit in hits] == ranks


def test_what_did_not_change_keeps_its_vector(folder, saved, opened):
    """Files that are added, changed, moved and removed: no text is encoded twice."""
    index = Index(str(folder), str(saved))
    first, texts = load(index, opened)
    assert first == (len(index), len(index), 0, 0) and sorted(texts) == sorted(
        passage["document"] for passage in read_passages(folder, lambda: chunker_of(opened))
    )
    state = index._state.passages
    vectors = dict(zip(state.ids, state.vectors.copy(), strict=True))
    assert load(index, opened) == ((len(index), 0, len(index), 0), [])

    (folder / "new.md").write_text("A new text.")
    (folder / "0.md").write_text("Changed.")
    (folder / "1.md").rename(folder / "moved.md")
    (folder / "2.md").unlink()
    gone = {id_ for id_ in vectors if id_.startswith(("0.md", "2.md"))}
    change, texts = load(index, opened)
    assert sorted(texts) == ["A new text.", "Changed."]
    assert change == (len(vectors) - len(gone) + 2, 2, len(vectors) - len(gone), len(gone))
    state = index._state.passages
    assert len(index) == change.passages == len(state.vectors) and not gone & set(state.ids[1:])
    for id_, text, vector in zip(state.ids, state.texts, state.vectors, strict=True):
        before = vectors.get(id_.replace("moved", "1"))
        if text in texts:
            assert np.abs(vector - opened.encode_document(text)).max() < 1e-6
        else:
            assert (vector == before).all()  # of the same bits
    hit = found(index, opened, "A new text.", "bm25", 1)[0]
    assert hit.text == "A new text." and hit.id == "new.md:1"


def test_what_cannot_be_read_changes_nothing(tmp_path, saved, opened):
    data = tmp_path / "corpus.jsonl"
    write_jsonl(data, [{"text": text} for text in TEXTS])
    index = Index(str(data), str(saved))
    load(index, opened)
    data.write_text('{"text": ""}\n{"text": "other"}\n')
    with pytest.raises(InputError, match="line 1, column 'text': the text is empty; --on-error skip"):
        load(index, opened)
    assert len(index) == len(TEXTS) and found(index, opened, TEXTS[1], "dense", 1)
    lines = [json.dumps({"text": TEXTS[0]}), "{"]
    data.write_text("\n".join(lines))
    skipping = Index(str(data), str(saved), "skip")
    assert load(skipping, opened)[0].passages == 1
    data.write_text("\n".join(reversed(lines)))  # also where it is the first
    assert load(Index(str(data), str(saved), "skip"), opened)[0].passages == 1


def test_a_prepared_set(prepare, tmp_path, saved, opened):
    write_jsonl(tmp_path / "pairs.jsonl", [{"question": f"What of {n}?", "answer": t} for n, t in enumerate(TEXTS)])
    index = Index(str(prepare(str(tmp_path / "pairs.jsonl"), near_duplicates=0)), str(saved))
    load(index, opened)
    assert {hit.text for hit in found(index, opened, "x", "dense", 10)} == set(TEXTS)


@pytest.fixture
def corpus(tmp_path):
    rows = [{"_id": f"d{number}", "text": text} for number, text in enumerate(TEXTS)]
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    return str(tmp_path / "corpus.jsonl")


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_what_lbr_encode_wrote_is_mapped(corpus, precision, saved, opened, tmp_path):
    """And nothing of it is encoded again; the file of numpy is written once, and anew where a run wrote others."""
    config = EncodeConfig(model=str(saved), data=corpus, output_dir=tmp_path / "vectors", shard_rows=4, with_text=True,
                          precision=precision)  # fmt: skip
    encode_corpus(config)
    index = Index(str(tmp_path / "vectors"), str(saved))
    assert load(index, opened) == ((6, 0, 6, 0), [])
    vectors = index._state.passages.vectors
    assert isinstance(vectors.array, np.memmap) and vectors.array.dtype == precision
    other = Index(corpus, str(saved))
    load(other, opened)
    exact = precision == "float32"
    for question in QUESTIONS:
        for by in ("dense", "bm25", "fused"):
            one, two = found(index, opened, question, by), found(other, opened, question, by)
            assert [hit.score for hit in one] == pytest.approx([hit.score for hit in two], abs=1e-6 if exact else 1e-3)
            assert not exact or [(hit.id, hit.text) for hit in one] == [(hit.id, hit.text) for hit in two]
    [file] = (tmp_path / "vectors").glob(".vectors-*.npy")
    written = file.stat().st_mtime_ns
    load(index, opened)
    assert file.stat().st_mtime_ns == written
    part = next((tmp_path / "vectors").glob("part-*.parquet"))
    part.touch()
    load(index, opened)
    [again] = (tmp_path / "vectors").glob(".vectors-*.npy")
    assert again != file


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("precision", ["float16", "int8", "binary"])
def test_what_lbr_encode_wrote_is_searched_as_by_lbr_search(corpus, precision, similarity, saved, opened, tmp_path):
    """Whatever its numbers are, by the similarity of the model."""
    folder, model = str(tmp_path / "vectors"), copy.copy(opened)
    model.similarity_fn_name = similarity
    encode_corpus(EncodeConfig(model=str(saved), data=corpus, output_dir=folder, with_text=True, precision=precision))
    index = Index(folder, str(saved))
    load(index, model)
    found_there = search_encoded(model, open_encoded(folder, str(saved)), QUESTIONS, 4)
    for question, expected in zip(QUESTIONS, found_there, strict=True):
        hits = found(index, model, question, "dense")
        assert [(hit.id, hit.text) for hit in hits] == [(p["id"], p["document"]) for _, p in expected]
        within = 1e-3 if precision == "float16" and similarity == "cosine" else 1e-6
        assert [hit.score for hit in hits] == pytest.approx([score for score, _ in expected], abs=within)
        assert len(found(index, model, question, "fused")) == 4


def test_what_lbr_encode_wrote_with_another_model_is_refused_at_once(corpus, saved, tmp_path):
    encode_corpus(EncodeConfig(model=str(saved), data=corpus, output_dir=tmp_path / "vectors"))
    about = json.loads((tmp_path / "vectors" / "_manifest.json").read_text())
    write_json(tmp_path / "vectors" / "_manifest.json", about | {"model_sha256": "0" * 64})
    with pytest.raises(InputError, match="was encoded with another model"):
        Index(str(tmp_path / "vectors"), str(saved))


def test_a_model_that_was_exchanged_is_not_searched_with(corpus, saved, opened, tmp_path):
    """Vectors of the new one on disk are not what the old one in memory gives: the server keeps what it has."""
    shutil.copytree(saved, tmp_path / "served")
    served, folder = str(tmp_path / "served"), tmp_path / "vectors"
    encode_corpus(EncodeConfig(model=served, data=corpus, output_dir=folder))
    index = Index(str(folder), served)
    load(index, opened)
    before = found(index, opened, TEXTS[0], "dense", 1)
    config = tmp_path / "served" / "config.json"
    config.write_text(config.read_text() + " ")
    shutil.rmtree(folder)
    encode_corpus(EncodeConfig(model=served, data=corpus, output_dir=folder))
    with pytest.raises(InputError, match="served is another model by now than what answers: start the server again"):
        load(index, opened)
    assert found(index, opened, TEXTS[0], "dense", 1) == before
    load(Index(str(folder), served), opened)


def test_encoded_without_texts(corpus, saved, opened, tmp_path):
    encode_corpus(EncodeConfig(model=str(saved), data=corpus, output_dir=tmp_path / "vectors"))
    index = Index(str(tmp_path / "vectors"), str(saved))
    load(index, opened)
    assert found(index, opened, TEXTS[0], "dense", 1)[0].text is None
    assert index.missing("dense") is None
    assert index.missing("bm25") == index.missing("fused") == "BM25 needs the texts: run lbr encode with --with-text"


def test_vectors_of_other_dimensions_than_the_model_gives(corpus, saved, opened, tmp_path):
    encode_corpus(EncodeConfig(model=str(saved), data=corpus, output_dir=tmp_path / "vectors", dimensions=8))
    index = Index(str(tmp_path / "vectors"), str(saved))
    message = "vectors has vectors of 8 dimensions, and the model gives 32: give --dimensions 8$"
    with pytest.raises(InputError, match=message):
        load(index, opened)
    load(index, Computing(dimensions=8).open(str(saved)))
    assert len(index) > 0


def test_bm25_that_is_not_there(folder, saved, opened, tmp_path, monkeypatch):
    """Its packages, or words: the vectors are searched all the same."""
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks" / "a.txt").write_text("?!")
    index = Index(str(tmp_path / "marks"), str(saved))
    load(index, opened)
    for by in ("bm25", "fused"):  # also where they went after the question was let in
        with pytest.raises(InputError, match="finds not one word"):
            found(index, opened, "x", by, 1)
    assert "finds not one word" in index.missing("fused") and found(index, opened, "x", "dense", 1)[0].text == "?!"
    monkeypatch.setitem(sys.modules, "mteb", None)
    monkeypatch.delitem(sys.modules, "lbr_st.evaluation.bm25")
    index = Index(str(folder), str(saved))
    load(index, opened)
    assert index.missing("fused") == "BM25 needs mteb, which is not installed: pip install 'lbr-st[eval]'"
    assert len(found(index, opened, "x", "dense", 2)) == 2


@pytest.mark.parametrize("k", [1, 3, 7, 100])
def test_the_best_of_many_are_the_first_of_all_sorted(k):
    """Of equal ones the first comes first; NaN is the worst."""
    for seed in range(20):
        scores = np.random.default_rng(seed).integers(0, 5, 50).astype(np.float32)
        scores[seed::11] = np.nan
        assert best_of(scores, k) == np.argsort(-scores, kind="stable")[:k].tolist()
