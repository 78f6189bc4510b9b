"""What is left out as a duplicate, and what is kept."""

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
    assert any(s["text"].startswith("like ") for s in samples if s["reason"] == "near-duplicate")


def test_near_duplicates_of_near_duplicates_are_none(prepare, tmp_path):
    """Each shares 58 of 62 shingles with the next, and the first little with the last."""
    words = [f"w{n}" for n in range(200)]
    rows = [{"id": n, "question": "The same?", "answer": " ".join(words[2 * n : 2 * n + 62])} for n in range(40)]
    folder = prepare(write_jsonl(tmp_path / "f.jsonl", rows), test=0, dev=0)
    starts = sorted(int(row["id"]) for row in read(folder, "align"))
    assert 14 <= len(starts) <= 25 and all(b - a >= 2 for a, b in zip(starts, starts[1:], strict=False))
