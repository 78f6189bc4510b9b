"""What is on two sides, against a comparison of each with each."""

import pytest
from shapes import variants

from lbr_st.data.near_duplicates import shingles, similarity
from lbr_st.data.overlap import HeldOutTexts, Overlap, count, overlaps, refuse_overlap
from lbr_st.errors import InputError


def record(id_, query, document):
    return {"id": id_, "query": query, "document": document}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", [0.8, 0.9, 1.0])
def test_near_duplicates_exactly(seed, threshold):
    texts = variants(seed, 200)
    train, held_out = texts[:100], texts[100:]
    index = HeldOutTexts([(str(n), text) for n, text in enumerate(held_out)], threshold)
    sets = [shingles(other) for other in held_out]
    found = 0
    for text in train:
        own = shingles(text)
        values = [similarity(own, other) for other in sets]
        if max(values) < threshold:
            assert index.find(text) is None
            continue
        found += 1
        kind, other, value, like = index.find(text)
        assert like == held_out[int(other)]
        assert value == max(values) == values[int(other)]
        assert kind == ("exact" if text in held_out else "near")
    assert found > 5


def test_at_the_threshold():
    """18 of 20 shingles are 0.9; sets that are equal are 1, also of texts that are not."""
    words = [f"w{n}" for n in range(22)]
    index = HeldOutTexts([("t", " ".join(words[:20]))])
    assert index.find(" ".join(words)) == ("near", "t", 0.9, " ".join(words[:20]))
    assert index.find(" ".join([*words, "one", "more"])) is None
    assert HeldOutTexts([("t", "x y z x y z")], 1.0).find("x y z x y z x y z")[:3] == ("near", "t", 1.0)


HELD_OUT = [record("t1", "What is anaemia ?", "Too little iron in the blood, and what follows from that."),
            record("t2", "Other question", "Other document")]  # fmt: skip


def test_kinds():
    train = [
        record("a", "What is anaemia ?", "d1"),
        record("b", "what is  ANAEMIA", "d2"),
        record("c", "q", "Too little iron in the blood, and what follows from that"),
        record("d", "Other document", "Other question"),  # the mirror of a pair, as of duplicate questions
        {"id": "e", "document": "Other document"},
    ]
    found = list(overlaps(train, HELD_OUT))
    assert [(o.kind, o.field, o.id, o.held_out_id) for o in found] == [
        ("exact", "query", "a", "t1"),
        ("normalised", "query", "b", "t1"),
        ("normalised", "document", "c", "t1"),
        ("exact", "query", "d", "t2"),
        ("exact", "document", "d", "t2"),
        ("exact", "document", "e", "t2"),
    ]
    assert count(found) == {
        "query": {"exact": 2, "normalised": 1, "near": 0},
        "document": {"exact": 2, "normalised": 1, "near": 0},
        "negative": {"exact": 0, "normalised": 0, "near": 0},
    }
    assert [o.id for o in overlaps(train, HELD_OUT, ["query"])] == ["a", "b"]


def test_hard_negatives_are_documents():
    train = [record("a", "q", "d") | {"negatives": ["fine", "other DOCUMENT"]}]
    found = list(overlaps(train, HELD_OUT))
    assert [(o.kind, o.field, o.id, o.held_out_id, o.text) for o in found] == [
        ("normalised", "negative", "a", "t2", "other DOCUMENT")
    ]
    assert not list(overlaps(train, HELD_OUT, ["query"]))


@pytest.mark.parametrize(("level", "found"), [("auto", 0), ("exact", 0), ("case", 2), ("loose", 2)])
def test_formulas_that_differ_in_case(level, found):
    """Carbon monoxide is in no test on cobalt."""
    train = [record("a", "CO", "c1ccccc1")]
    kinds = [(o.kind, o.text, o.held_out) for o in overlaps(train, [record("t", "Co", "C1CCCCC1")], level=level)]
    assert kinds == [("normalised", "CO", "Co"), ("normalised", "c1ccccc1", "C1CCCCC1")][:found]


def test_off():
    words = " ".join(f"w{n}" for n in range(60))
    assert [o.kind for o in overlaps([record("a", "q", words + " x")], [record("t", "r", words)])] == ["near"]
    assert not list(overlaps([record("a", "q", words + " x")], [record("t", "r", words)], threshold=0))


def test_refusal_names_what_and_what_to_do():
    train = [record(f"a{n}", "What is anaemia?", f"d{n}") for n in range(5)]
    message = (
        r"the training data and dev\.jsonl overlap in 5 queries \(5 normalised\): query of a0 and of t1, query of a1 "
        r"and of t1, query of a2 and of t1, \.\.\.; --allow-overlap trains all the same, and lbr data prepare "
    )
    with pytest.raises(InputError, match=message):
        refuse_overlap(train, HELD_OUT, "dev.jsonl")
    refuse_overlap(train, HELD_OUT, "dev.jsonl", ["document"])


def test_an_overlap_says_how_alike():
    words = " ".join(f"w{n}" for n in range(40))
    found = list(overlaps([record("a", "q", words + " x")], [record("t", "r", words)]))
    assert found == [Overlap("near", "document", "a", "t", 38 / 39, words + " x", words)]
