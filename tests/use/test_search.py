"""What is found, and how it is laid out."""

import pytest
from helpers import TEXTS
from sentence_transformers import SentenceTransformer

from lbr_st.data.records import read_passages
from lbr_st.use.search import format_hits, search


def test_the_nearest_passage_to_a_text_is_that_text(saved, tmp_path):
    for number, text in enumerate(TEXTS):
        (tmp_path / f"{number}.md").write_text(text)
    model = SentenceTransformer(str(saved))
    model.prompts.update(query="", document="")
    for text, hits in zip(TEXTS, search(model, read_passages(tmp_path), TEXTS, 2), strict=True):
        assert len(hits) == 2 and hits[0][0] > hits[1][0]
        assert hits[0][1]["document"] == text
        assert hits[0][0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("weight", [None, 0.5])
def test_passages_that_are_equal_are_encoded_once(saved, monkeypatch, weight):
    """By the encoder that tokenizes them once, also beside BM25."""
    model, read = SentenceTransformer(str(saved)), []
    preprocess = model.preprocess
    monkeypatch.setattr(model, "preprocess", lambda texts, **more: read.extend(texts) or preprocess(texts, **more))
    passages = [{"id": str(number), "document": text} for number, text in enumerate([*TEXTS, *TEXTS])]
    [hits] = search(model, passages, [TEXTS[1]], 12, weight)
    assert len(hits) == 12 and sorted(read) == sorted([*TEXTS, TEXTS[1]])


def test_prompts_are_applied(saved):
    model = SentenceTransformer(str(saved))
    [[(cosine, _)]] = search(model, [{"id": "1", "document": TEXTS[1]}], [TEXTS[0]])
    query, document = model.encode(["ask: " + TEXTS[0], "find this: " + TEXTS[1]], prompt="")
    assert cosine == pytest.approx(float(query @ document), abs=1e-5)


def test_what_is_longer_than_the_model_reads_is_said(saved, caplog):
    """Questions and passages together; half a surrogate pair in a question is left out."""
    model = SentenceTransformer(str(saved))
    passages = [{"id": "1", "document": TEXTS[1]}, {"id": "2", "document": "word " * 30}]
    [[(cosine, _)]] = search(model, passages, [f"\ud83d{TEXTS[0]}\n"], 1)
    assert cosine == pytest.approx(search(model, passages, [TEXTS[0]], 1)[0][0][0], abs=1e-6)
    limit = 24
    texts = ["ask: " + TEXTS[0], *("find this: " + passage["document"] for passage in passages)]
    number = sum(len(ids) > limit for ids in model.tokenizer(texts, truncation=False)["input_ids"])
    said = [record.getMessage() for record in caplog.records if "the model reads" in record.getMessage()]
    assert number and said[0] == (
        f"{number} of 3 texts are longer than the 24 tokens the model reads: the rest of them was not read"
    )


def test_with_bm25(saved):
    """By the weighted sum and by ranks, against sums of the scores of all passages; each hit has both ranks."""
    model, question = SentenceTransformer(str(saved)), "Is anaemia treated with iron?"
    passages = [{"id": str(n), "document": text} for n, text in enumerate(TEXTS)]
    cosines = model.encode_query([question]) @ model.encode_document(TEXTS).T
    by_model = sorted(range(6), key=lambda n: -cosines[0, n])
    # 2 and 3 alone have words of the question; 3, where both are and iron too, is the first.
    by_words = [3, 2]
    [hits] = search(model, passages, [question + "\ud83d"], 6, "rrf")
    scores = [1 / (61 + by_model.index(n)) + (1 / (61 + by_words.index(n)) if n in by_words else 0) for n in range(6)]
    order = sorted(range(6), key=lambda n: (-scores[n], by_model.index(n)))
    assert [int(passage["id"]) for _, passage in hits] == order
    assert [score for score, _ in hits] == pytest.approx([scores[n] for n in order])
    for _, passage in hits:
        number = int(passage["id"])
        in_bm25 = by_words.index(number) + 1 if number in by_words else None
        assert passage["ranks"] == {"model": by_model.index(number) + 1, "bm25": in_bm25}
    assert "ranks" not in passages[0]
    [alone], [words] = search(model, passages, [question], 6, 1.0), search(model, passages, [question], 2, 0.0)
    assert [int(passage["id"]) for _, passage in alone] == by_model
    assert [int(passage["id"]) for _, passage in words] == by_words
    assert search(model, passages[:1], [question] * 2, 3, "rrf")[1][0][1]["ranks"]["model"] == 1


def test_layout():
    document = "\n".join([f"line {number}" for number in range(8)])
    hits = [(0.98765, {"id": "a.md:3", "document": document}), (0.5, {"id": "b", "document": "x" * 200})]
    assert format_hits("why?", hits).splitlines() == [
        "",
        "> why?",
        "  0.988  a.md:3",
        *(f"    line {number}" for number in range(6)),
        "    ... (2 more lines)",
        "  0.500  b",
        "    " + "x" * 116,
    ]
    ranks = {"model": 12, "bm25": None}
    hits = [(0.03, {"id": "a", "document": "x", "ranks": ranks}), (0.02, {"id": "b", "document": "y"})]
    assert format_hits("why?", hits) == "\n> why?\n  0.030  a  (model 12, bm25 -)\n    x\n  0.020  b\n    y"
