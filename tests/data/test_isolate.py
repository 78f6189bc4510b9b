"""Nothing of test and dev is in what is trained on, and the other way round nothing is lost."""

import pytest
from shapes import PAIRS, SHAPES, about, qa, read, sides, write_jsonl

from lbr_st.errors import InputError


def test_overlap_is_taken_from_training_never_from_test(prepare, tmp_path):
    """Exact, but for capitals, and nearly; of dev too."""
    sides(tmp_path)
    test, dev = PAIRS[48], PAIRS[40]
    long = " ".join(f"long{n}" for n in range(60))
    changed = [
        {"id": "exact", "question": test["question"], "answer": "Another answer altogether."},
        {"id": "capitals", "question": "Asked anew", "answer": test["answer"].upper()},
        {"id": "of dev", "question": dev["question"], "answer": "And another."},
        {"id": "near", "question": "And again", "answer": long + " more"},
    ]
    write_jsonl(tmp_path / "sides" / "train.jsonl", [*PAIRS[:40], *changed])
    write_jsonl(tmp_path / "sides" / "test.jsonl", [*PAIRS[48:], {"id": "long", "question": "Of it", "answer": long}])
    twin = {"id": "dev twin", "question": test["question"], "answer": "In dev."}
    write_jsonl(tmp_path / "sides" / "dev.jsonl", [*PAIRS[40:48], twin])
    folder = prepare(tmp_path / "sides")
    assert {row["id"] for row in read(folder, "test")} == {*(row["id"] for row in PAIRS[48:]), "long"}
    assert {row["id"] for row in read(folder, "align")} == {row["id"] for row in PAIRS[:40]}
    assert {row["id"] for row in read(folder, "dev")} == {row["id"] for row in PAIRS[40:48]}
    said = about(folder)
    assert said["dropped"] == {"dev overlaps what is held out": 1, "train overlaps what is held out": 4}
    assert said["overlaps_taken_out"] == {
        "query": {"exact": 3, "normalised": 0, "near": 0},
        "document": {"exact": 0, "normalised": 1, "near": 1},
        "negative": {"exact": 0, "normalised": 0, "near": 0},
    }
    assert not any(n for kinds in said["overlaps_left"].values() for n in kinds.values())
    assert {row["document"] for row in read(folder, "corpus")}.isdisjoint({"And another.", "In dev."})
    near = prepare(tmp_path / "sides", near_duplicates=0, folder="near")
    assert "near" in {row["id"] for row in read(near, "align")}
    assert "| not compared |" in (near / "README.md").read_text()


def test_pairs_and_their_mirrors_are_on_one_side(prepare, tmp_path):
    """Of duplicate questions a text is a query here and a document there; nothing is lost by it."""
    pairs = [(f"How is metal {n} made at home?", f"What makes metal {n} where people live?") for n in range(150)]
    rows = [{"id": f"{q} {side}", "query": q, "document": d} for side, (q, d) in enumerate(pairs)]
    rows += [{"id": f"{q} mirror", "query": d, "document": q} for q, d in pairs]
    folder = prepare(write_jsonl(tmp_path / "f.jsonl", rows), near_duplicates=0)
    texts = {
        side: {text for row in read(folder, side) for text in (row["query"], row["document"])}
        for side in ("align", "dev", "test")
    }
    assert len(texts["test"]) == 30 and not texts["test"] & (texts["align"] | texts["dev"])
    assert not texts["dev"] & texts["align"] and about(folder)["dropped"] == {}


def test_strict_is_strict_whatever_is_isolated(prepare, tmp_path):
    """By queries alone, a document of a test pair may be that of a training pair; else stage 1 does not see it."""
    folder = prepare(**SHAPES["beir"](tmp_path), isolate="query")
    assert {row["document"] for row in read(folder, "passages")} == {row["document"] for row in read(folder, "learn")}


def test_hard_negatives_that_are_held_out_go(prepare, tmp_path):
    rows = [
        row | {"negative": PAIRS[n - 1]["answer"], "negative_2": f"<b>Nobody's</b>\x00 answer {n}."}
        for n, row in enumerate(PAIRS)
    ]
    folder = prepare(write_jsonl(tmp_path / "qa.jsonl", rows))
    held_out = {row["document"] for name in ("dev", "test") for row in read(folder, name)}
    negatives = [set(row["negatives"]) for row in read(folder, "align")]
    assert all(any(text.startswith("Nobody's answer") for text in each) for each in negatives)  # cleaned
    assert len(negatives) == len(read(folder, "learn"))
    assert not set.union(*negatives) & held_out
    lost = sum(len(each) == 1 for each in negatives)
    assert about(folder)["dropped"]["train: hard negative is held out"] == lost > 0
    assert about(folder)["overlaps_taken_out"]["negative"]["exact"] >= lost
    assert about(folder)["pairs_with_hard_negatives"] == len(negatives)
    assert "hard negatives on two sides" in (folder / "README.md").read_text()


def test_groups_of_a_given_test_are_held_out(prepare, tmp_path):
    write_jsonl(tmp_path / "s" / "train.jsonl", PAIRS[:51])  # three of a topic that test has, too
    write_jsonl(tmp_path / "s" / "test.jsonl", PAIRS[51:])
    folder = prepare(tmp_path / "s", group_by="focus", dev=0)
    assert len(read(folder, "align")) == 48 and about(folder)["dropped"] == {"train: its group is held out": 3}
    with pytest.raises(InputError, match="--group-by focus: .* is a collection of BEIR, whose rows have no groups"):
        prepare(**SHAPES["beir"](tmp_path), group_by="focus", folder="beir-set")


def test_multiple_choice_among_others(prepare, tmp_path):
    sources = [*SHAPES["choice"](tmp_path)["sources"], *qa(tmp_path)["sources"]]
    with pytest.raises(InputError, match="multiple choice and others in one set: say what to keep apart"):
        prepare(*sources)
    assert about(prepare(*sources, isolate="query"))["isolated"] == ["query"]


def test_nothing_left_to_train_on_is_an_error(prepare, tmp_path):
    """Compounds whose names are those of a test but for case stay; loosely, it is said which step took how many."""
    pairs = [("CO", "Gas"), ("Si", "B"), ("co", "gas")]
    rows = [{"id": n, "question": question, "answer": answer} for n, (question, answer) in enumerate(pairs)]
    write_jsonl(tmp_path / "s" / "train.jsonl", rows)
    held_out = [{"id": "cobalt", "question": "Co", "answer": "C"}, {"id": "unit", "question": "SI", "answer": "D"}]
    write_jsonl(tmp_path / "s" / "test.jsonl", held_out)
    assert len(read(prepare(tmp_path / "s", dev=0), "align")) == 3
    with pytest.raises(InputError) as error:
        prepare(tmp_path / "s", dev=0, same_text="loose", folder="loose")
    message = str(error.value)
    said = "nothing is left to train on; left out were 2 train overlaps what is held out, 1 normalised duplicate ("
    assert message.startswith(said) and "'Si' (1) like 'SI' (unit)" in message and "like 'Co' (cobalt)" in message
    assert message.endswith("--isolate and --group-by what is kept apart")
    assert not (tmp_path / "loose").exists()
    to_ask_with = prepare(tmp_path / "s", dev=0, same_text="loose", learn=0, align=0, folder="loose")
    assert set(about(to_ask_with)["files"]) == {"test", "corpus"}


def test_nothing_left_of_a_side_that_is_named(prepare, tmp_path):
    """Of dev, which is test; of training, whose groups are held out; of a file whose rows are of no use."""
    sides(tmp_path)
    folder = tmp_path / "sides"
    write_jsonl(folder / "dev.jsonl", PAIRS[48:52])
    with pytest.raises(InputError, match="^nothing is left of dev; left out were 4 dev overlaps what is held out"):
        prepare(folder)
    write_jsonl(folder / "dev.jsonl", [PAIRS[41] | {"answer": "<br>"}])
    with pytest.raises(InputError, match="^nothing is left of dev; left out were 1 document empty$"):
        prepare(folder)
    (folder / "dev.jsonl").unlink()
    write_jsonl(folder / "train.jsonl", PAIRS[:3])
    write_jsonl(folder / "test.jsonl", [PAIRS[4], *PAIRS[48:]])
    with pytest.raises(InputError, match="^nothing is left to train on; left out were 3 train: its group is held out"):
        prepare(folder, dev=0, group_by="focus")
