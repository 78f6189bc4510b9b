"""What is left out as a duplicate, and what is kept."""

import pytest
from shapes import PAIRS, about, read, write_jsonl


def test_duplicates(prepare, tmp_path):
    long = " ".join(f"w{n}" for n in range(60))
    extra = [
        {"id": "copy", "question": PAIRS[0]["question"] + " ", "answer": PAIRS[0]["answer"]},
        {"id": "same", "question": PAIRS[1]["question"].upper(), "answer": PAIRS[1]["answer"]},
        {"id": "a", "question": "A long one?", "answer": long},
        {"id": "b", "question": "a long one", "answer": long + " end"},
        {"id": "c", "question": "Another question on it?", "answer": long + " end."},  # kept: another question
    ]
    folder = prepare(write_jsonl(tmp_path / "qa.jsonl", [*PAIRS, *extra]))
    assert about(folder)["dropped"] == {"exact duplicate": 1, "normalised duplicate": 1, "near-duplicate": 1}
    kept = {row["id"]: side for side in ("align", "dev", "test") for row in read(folder, side)}
    assert len(kept) == len(PAIRS) + 2 and len({"a", "b"} & set(kept)) == 1
    assert kept["c"] == kept[({"a", "b"} & set(kept)).pop()]  # documents alike are on one side
    samples = read(folder, "dropped")
    assert {(s["reason"], s["id"]) for s in samples} >= {("exact duplicate", "copy")}
    near = next(s for s in samples if s["reason"] == "near-duplicate")
    assert {near["id"], near["like_id"]} == {"a", "b"} and {near["text"], near["like"]} == {"A long one?", "a long one"}


def test_the_order_of_rows_counts_for_nothing(prepare, tmp_path):
    """Nor where a text comes in two spellings, of which a third is nearly one and not the other."""
    rows = []
    for n in range(40):
        words = [f"{letter}{chr(97 + n % 20)}{chr(97 + n // 20)}" for letter in "abcdefghijklmnopqrst"]
        for query in (" ".join(words), " ".join(words) + "?", " ".join(words[:-1])):
            rows.append({"query": query, "document": f"document {len(rows)} of nothing else"})
    found = []
    for name, order in (("one", rows), ("other", rows[::-1])):
        folder = prepare(write_jsonl(tmp_path / f"{name}.jsonl", order), folder=name, test="20%", dev="10%")
        found.append(
            {side: {(r["query"], r["document"]) for r in read(folder, side)} for side in ("test", "dev", "align")}
        )
    assert found[0] == found[1] and all(found[0].values())


FORMULAS = [
    {"id": "carbon monoxide", "question": "CO", "answer": "[C-]#[O+]"},
    {"id": "cobalt", "question": "Co", "answer": "[c-]#[o+]"},
    {"id": "benzene", "question": "which ring?", "answer": "c1ccccc1"},
    {"id": "cyclohexane", "question": "Which ring?", "answer": "C1CCCCC1"},
    {"id": "hundred", "question": "10²", "answer": "So many."},
    {"id": "others", "question": "102", "answer": "so many"},
    {"id": "big", "question": "def F(x)", "answer": "return X"},
    {"id": "small", "question": "def f(x)", "answer": "return x"},
    {"id": "prose", "question": "Which ring?", "answer": "The ring of benzene."},
    {"id": "PROSE", "question": "WHICH RING?", "answer": "the ring of Benzene."},
]


@pytest.mark.parametrize(("level", "normalised"), [("auto", 1), ("exact", 0), ("case", 4), ("loose", 5)])
def test_what_is_the_same_text(prepare, tmp_path, level, normalised):
    """By default formulas and code are kept apart, and sentences are not; the set says how it was made."""
    folder = prepare(write_jsonl(tmp_path / "f.jsonl", FORMULAS), test=0, dev=0, same_text=level)
    assert about(folder)["same_text"] == level
    assert about(folder)["dropped"] == ({"normalised duplicate": normalised} if normalised else {})
    assert len(read(folder, "align")) == 10 - normalised


def test_what_was_taken_out_is_shown(prepare, tmp_path, caplog):
    """Three of it, beside what stays."""
    rows = [{"id": n, "question": f"Which {n * 'x'}?", "answer": "That."} for n in range(3, 9)]
    rows += [row | {"id": f"copy {row['id']}", "question": row["question"].upper()} for row in rows]
    caplog.set_level("INFO")
    folder = prepare(write_jsonl(tmp_path / "f.jsonl", rows), test=0, dev=0)
    [examples] = about(folder)["dropped_examples"].values()
    assert about(folder)["dropped"] == {"normalised duplicate": 6} and len(examples) == 3
    assert {text.replace("copy ", "").lower() for text in examples} <= {
        f"'which {n * 'x'}?' ({n}) like 'which {n * 'x'}?' ({n})" for n in range(3, 9)
    }
    assert f"left out 6, normalised duplicate: {'; '.join(examples)}" in caplog.text
    card = (folder / "README.md").read_text()
    assert all(f"- normalised duplicate: `{text}`" in card for text in examples)


def test_near_duplicates_of_near_duplicates_are_none(prepare, tmp_path):
    """Each shares 58 of 62 shingles with the next, and the first little with the last."""
    words = [f"w{n}" for n in range(200)]
    rows = [{"id": n, "question": "The same?", "answer": " ".join(words[2 * n : 2 * n + 62])} for n in range(40)]
    folder = prepare(write_jsonl(tmp_path / "f.jsonl", rows), test=0, dev=0)
    starts = sorted(int(row["id"]) for row in read(folder, "align"))
    assert 14 <= len(starts) <= 25 and all(b - a >= 2 for a, b in zip(starts, starts[1:], strict=False))


@pytest.mark.parametrize("near", [0.0, 0.8])
def test_a_pair_that_is_said_once_for_each_negative_keeps_them_all(prepare, tmp_path, near):
    """Also where another spelling of it is left out; what answers the query itself is none of them."""
    pairs = [{"query": f"what is {n}?", "positive": f"it is number {n}"} for n in range(4)]
    rows = [pair | {"negative": f"no, {n} {k}"} for n, pair in enumerate(pairs) for k in range(3)]
    rows.append({"query": "What is 0?", "positive": "It is number 0", "negative": "another"})
    folder = prepare(write_jsonl(tmp_path / "f.jsonl", rows), test=0, dev=0, near_duplicates=near)
    found = {row["query"].casefold(): sorted(row["negatives"]) for row in read(folder, "align")}
    expected = {f"what is {n}?": sorted(f"no, {n} {k}" for k in range(3)) for n in range(4)}
    assert found == expected | {"what is 0?": sorted(["another", *expected["what is 0?"]])}
    assert about(folder)["pairs_with_hard_negatives"] == 4


def test_a_negative_that_comes_with_a_copy_is_kept_apart_from_what_is_held_out(prepare, tmp_path):
    test = write_jsonl(tmp_path / "test.jsonl", [{"query": "which?", "positive": "this one is held out"}])
    rows = [
        {"query": "what is iron?", "positive": "a metal", "negative": text}
        for text in ("no metal", "this one is held out", "a gas", "a metal")
    ]
    folder = prepare(write_jsonl(tmp_path / "f.jsonl", [*rows, {"query": "q", "positive": "d"}]), test=test, dev=0)
    [negatives] = [row["negatives"] for row in read(folder, "align") if row["query"] != "q"]
    assert sorted(negatives) == ["a gas", "no metal"]
