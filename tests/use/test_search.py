"""What is found, and how it is laid out."""

import json

import numpy as np
import pytest
from helpers import TEXTS
from sentence_transformers import SentenceTransformer

from lbr_st.data.records import read_passages
from lbr_st.errors import InputError
from lbr_st.model.encoding import TextEncoder
from lbr_st.use.nested import encode_vectors
from lbr_st.use.passages import open_encoded
from lbr_st.use.search import format_hits, search, search_encoded

QUESTIONS = ["Is anaemia treated with iron?", TEXTS[2]]
PASSAGES = [{"id": f"d{n}", "document": f"{n} {text}"} for n, text in enumerate([*TEXTS, *TEXTS])]


def whole(model, documents, k):
    """Positions and cosines of the first passages for each question, from one product with all vectors."""
    vectors = np.array(documents, np.float64)
    queries = np.array(model.encode_query(QUESTIONS), np.float64)
    cosines = queries @ vectors.T / np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(vectors, axis=1))
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order.tolist(), np.take_along_axis(cosines, order, axis=1)


@pytest.fixture
def four_at_once(monkeypatch):
    """Let four vectors be compared at once, and return how many texts a model was given each time."""
    given, encode = [], TextEncoder.encode
    monkeypatch.setattr("lbr_st.evaluation.ranking.rows_within", lambda *bounds: 4)

    def counted(self, texts, *args, **kwargs):
        given.append(len(texts))
        return encode(self, texts, *args, **kwargs)

    monkeypatch.setattr(TextEncoder, "encode", counted)
    return given


def test_passages_are_encoded_and_compared_a_part_at_a_time(opened, four_at_once):
    """With what one product with all vectors gives; no vectors are kept."""
    order, cosines = whole(opened, opened.encode_document([passage["document"] for passage in PASSAGES]), 7)
    for hits, rows, of_question in zip(search(opened, PASSAGES, QUESTIONS, 7), order, cosines, strict=True):
        assert [passage for _, passage in hits] == [PASSAGES[row] for row in rows]
        assert [score for score, _ in hits] == pytest.approx(of_question, abs=1e-6)
    assert four_at_once == [2, 4, 4, 4]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "binary"])
def test_vectors_that_lbr_encode_wrote(precision, encoded, saved, opened, four_at_once):
    """What one product with all of them gives, and nothing but the questions is encoded."""
    folder = encoded(precision)
    four_at_once.clear()
    found = search_encoded(opened, open_encoded(str(folder), str(saved)), QUESTIONS, 7)
    [file] = folder.glob(".vectors-*.npy")
    numbers = np.load(file)
    if precision == "int8":
        least, largest = np.array(json.loads((folder / "_manifest.json").read_text())["ranges"])
        numbers = least + (numbers + 128.5) * (largest - least) / 255
    if precision == "binary":
        numbers = 2.0 * np.unpackbits(numbers, axis=1) - 1
    order, cosines = whole(opened, numbers, 7)
    for hits, rows, of_question in zip(found, order, cosines, strict=True):
        assert [passage for _, passage in hits] == [PASSAGES[row] for row in rows]
        assert [score for score, _ in hits] == pytest.approx(of_question, abs=1e-6)
    assert four_at_once == [2]
    # Together with BM25, too, they are the vectors of the passages.
    if precision == "float32":
        for question in QUESTIONS:
            [one] = search_encoded(opened, open_encoded(str(folder), str(saved)), [question], 7, "rrf")
            [other] = search(opened, PASSAGES, [question], 7, "rrf")
            assert [passage for _, passage in one] == [passage for _, passage in other]
            assert [score for score, _ in one] == pytest.approx([score for score, _ in other])


def test_vectors_without_texts(encoded, saved, opened):
    kept = open_encoded(str(encoded("float32", with_text=False)), str(saved))
    [hits] = search_encoded(opened, kept, QUESTIONS[:1], 2)
    [expected] = search(opened, PASSAGES, QUESTIONS[:1], 2)
    assert [passage for _, passage in hits] == [{"id": passage["id"]} for _, passage in expected]
    assert format_hits("why?", hits) == "\n> why?\n" + "\n".join(f"  {score:.3f}  {p['id']}" for score, p in hits)
    with pytest.raises(InputError, match="^--fuse bm25 needs the texts, and .* has none: run lbr encode with --with-t"):
        search_encoded(opened, kept, QUESTIONS, 2, "rrf")


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


def test_one_text_is_no_list_of_texts(model):
    """Each of its letters would be one."""
    for call in (
        lambda: search(model, [{"id": "a", "document": "iron"}], "what is iron?"),
        lambda: TextEncoder(model).encode("what is iron?"),
        lambda: encode_vectors(model, "what is iron?"),
    ):
        with pytest.raises(TypeError, match="expected a list of texts, got the text 'what is iron\\?': put it into a"):
            call()
