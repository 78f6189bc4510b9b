"""Which side each record is on: splits, duplicates, isolation, regimes."""

import pytest
from shapes import ASPECTS, PAIRS, SHAPES, TOPICS, about, qa, read, sides, write_jsonl

from lbr_st.errors import InputError


def test_given_sides_stay(prepare, tmp_path):
    folder = prepare(**sides(tmp_path))
    assert {row["id"] for row in read(folder, "test")} == {row["id"] for row in PAIRS[48:]}
    assert {row["id"] for row in read(folder, "dev")} == {row["id"] for row in PAIRS[40:48]}
    again = prepare(**sides(tmp_path), resplit=True, folder="again")
    assert {row["id"] for row in read(again, "test")} != {row["id"] for row in PAIRS[48:]}


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
    assert {row["id"] for row in read(folder, "cl")} == {row["id"] for row in PAIRS[:40]}
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
    assert "near" in {row["id"] for row in read(near, "cl")}
    assert "| not compared |" in (near / "README.md").read_text()


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
    kept = {row["id"]: side for side in ("cl", "dev", "test") for row in read(folder, side)}
    assert len(kept) == len(PAIRS) + 2 and len({"a", "b"} & set(kept)) == 1
    assert kept["c"] == kept[({"a", "b"} & set(kept)).pop()]  # documents alike are on one side
    samples = read(folder, "dropped")
    assert {(s["reason"], s["id"]) for s in samples} >= {("exact duplicate", "copy")}
    assert any(s["text"].startswith("like ") for s in samples if s["reason"] == "near-duplicate")


def test_groups_stay_together(prepare, tmp_path):
    folder = prepare(**qa(tmp_path), group_by="focus", test=18, dev=18)
    sides = {name: {row["id"].split("-")[0] for row in read(folder, name)} for name in ("cl", "dev", "test")}
    assert sum(map(len, sides.values())) == len(TOPICS) == len(set.union(*sides.values()))
    assert all(len(read(folder, name)) == len(ASPECTS) * len(sides[name]) for name in sides)
    assert len(sides["test"]) == len(sides["dev"]) == 3


def test_stages_share_no_record_unless_they_ask_for_more_than_there_is(prepare, tmp_path):
    folder = prepare(**qa(tmp_path), test=6, dev=4, learn=30, align=20)
    gl, cl = ({row["id"] for row in read(folder, name)} for name in ("gl", "cl"))
    assert (len(gl), len(cl)) == (30, 20) and not gl & cl
    assert len(read(folder, "passages")) == 30  # stage 1 sees no passage of the others
    more = prepare(**qa(tmp_path), test=6, dev=4, learn=40, align="40%", folder="more")
    gl, cl = ({row["id"] for row in read(more, name)} for name in ("gl", "cl"))
    assert (len(gl), len(cl), len(gl & cl)) == (40, 20, 10) and about(more)["in_both_stages"] == 10


def test_regimes(prepare, tmp_path):
    """Corpus-taught: stage 1 sees what is searched, and still no question of test."""
    strict = prepare(**qa(tmp_path))
    taught = prepare(**qa(tmp_path), regime="corpus-taught", folder="taught")
    for name in ("gl", "cl", "dev", "test", "corpus"):
        assert read(strict, name) == read(taught, name)
    assert read(taught, "passages") == read(taught, "corpus")
    test = {row["document"] for row in read(strict, "test")}
    assert test.isdisjoint(row["document"] for row in read(strict, "passages"))
    assert (about(strict)["objective"], about(taught)["objective"]) == ("sft", "sft:0.5,reconstruct:0.5")
    assert "Regime: **corpus-taught**" in (taught / "README.md").read_text()


def test_one_group_cannot_be_split(prepare, tmp_path):
    rows = [row | {"answer": "The same answer."} for row in PAIRS]
    source = write_jsonl(tmp_path / "qa.jsonl", rows)
    with pytest.raises(InputError, match="come in groups of 60 to 60. Ask for more, or .* --isolate query"):
        prepare(source, test=6)
    none = prepare(source, folder="none")  # nobody asked for one
    assert (
        not (none / "test.jsonl").exists()
        and "There is no test: nothing is held out" in (none / "README.md").read_text()
    )
    folder = prepare(tmp_path / "qa.jsonl", isolate="query")
    assert len(read(folder, "test")) == 6


def test_a_test_file_is_not_split_again(prepare, tmp_path):
    """`--resplit` forgets what sources are called, not what the user says."""
    sides(tmp_path)
    test = write_jsonl(
        tmp_path / "held-out.jsonl", [row | {"question": row["question"] + " Tell me."} for row in PAIRS[:9]]
    )
    folder = prepare(tmp_path / "sides", test=test, resplit=True, dev=5)
    assert len(read(folder, "test")) == 9 and all(row["query"].endswith("me.") for row in read(folder, "test"))
    assert len(read(folder, "dev")) == 5 and len(read(folder, "cl")) == len(PAIRS) - 9 - 5


def test_strict_is_strict_whatever_is_isolated(prepare, tmp_path):
    """By queries alone, a document of a test pair may be that of a training pair; else stage 1 does not see it."""
    folder = prepare(**SHAPES["beir"](tmp_path), isolate="query")
    assert {row["document"] for row in read(folder, "passages")} == {row["document"] for row in read(folder, "gl")}


def test_hard_negatives_that_are_held_out_go(prepare, tmp_path):
    rows = [
        row | {"negative": PAIRS[n - 1]["answer"], "negative_2": f"<b>Nobody's</b>\x00 answer {n}."}
        for n, row in enumerate(PAIRS)
    ]
    folder = prepare(write_jsonl(tmp_path / "qa.jsonl", rows))
    held_out = {row["document"] for name in ("dev", "test") for row in read(folder, name)}
    negatives = [set(row["negatives"]) for row in read(folder, "cl")]
    assert all(any(text.startswith("Nobody's answer") for text in each) for each in negatives)  # cleaned
    assert len(negatives) == len(read(folder, "gl"))
    assert not set.union(*negatives) & held_out
    lost = sum(len(each) == 1 for each in negatives)
    assert about(folder)["dropped"]["train: hard negative is held out"] == lost > 0
    assert about(folder)["overlaps_taken_out"]["negative"]["exact"] >= lost
    assert about(folder)["pairs_with_hard_negatives"] == len(negatives)
    assert "hard negatives on two sides" in (folder / "README.md").read_text()


def test_pairs_that_lose_all_their_hard_negatives(prepare, tmp_path):
    """Stage 2 takes pairs that all have some: they are no pairs of it, and are counted."""
    rows = [row | {"negative": PAIRS[n - 1]["answer"]} for n, row in enumerate(PAIRS)]
    folder = prepare(write_jsonl(tmp_path / "qa.jsonl", rows))
    assert all(row["negatives"] for row in read(folder, "cl"))
    lost = about(folder)["dropped"]["cl: no hard negative is left"]
    assert len(read(folder, "cl")) == len(read(folder, "gl")) - lost < len(read(folder, "gl"))


def test_more_than_there_is(prepare, tmp_path):
    for flag, message in (("--test", "only 60 records to cut it from"), ("--gl", "only 51 training records")):
        with pytest.raises(InputError, match=f"{flag} 500, but there are {message}"):
            prepare(flag, "500", **qa(tmp_path))


def test_pairs_of_which_some_have_hard_negatives(prepare, tmp_path, caplog):
    rows = [row | ({"negative": f"Nobody's answer {n}."} if n % 2 else {}) for n, row in enumerate(PAIRS)]
    folder = prepare(write_jsonl(tmp_path / "qa.jsonl", rows))
    having = sum("negatives" in row for row in read(folder, "cl"))
    assert f"{having} of {len(read(folder, 'cl'))} pairs have hard negatives; stage 2 takes" in caplog.text


def test_groups_of_a_given_test_are_held_out(prepare, tmp_path):
    write_jsonl(tmp_path / "s" / "train.jsonl", PAIRS[:51])  # three of a topic that test has, too
    write_jsonl(tmp_path / "s" / "test.jsonl", PAIRS[51:])
    folder = prepare(tmp_path / "s", group_by="focus", dev=0)
    assert len(read(folder, "cl")) == 48 and about(folder)["dropped"] == {"train: its group is held out": 3}
    with pytest.raises(InputError, match="--group-by focus: .* is a collection of BEIR, whose rows have no groups"):
        prepare(**SHAPES["beir"](tmp_path), group_by="focus", folder="beir-set")


def test_a_given_test_asks_with_queries(prepare, tmp_path):
    """What has none there is searched."""
    rows = [{"title": row["question"] if n % 2 else "", "text": row["answer"]} for n, row in enumerate(PAIRS)]
    write_jsonl(tmp_path / "s" / "train.jsonl", rows[:40])
    write_jsonl(tmp_path / "s" / "test.jsonl", rows[40:])
    folder = prepare(tmp_path / "s", dev=0)
    assert len(read(folder, "test")) == 10 and all("query" in row for row in read(folder, "test"))
    assert len(read(folder, "corpus")) == len(PAIRS)


def test_multiple_choice_among_others(prepare, tmp_path):
    sources = [*SHAPES["choice"](tmp_path), *qa(tmp_path)]
    with pytest.raises(InputError, match="multiple choice and others in one set: say what to keep apart"):
        prepare(*sources)
    assert about(prepare(*sources, isolate="query"))["isolated"] == ["query"]


def test_near_duplicates_of_near_duplicates_are_none(prepare, tmp_path):
    """Each shares 58 of 62 shingles with the next, and the first little with the last."""
    words = [f"w{n}" for n in range(200)]
    rows = [{"id": n, "question": "The same?", "answer": " ".join(words[2 * n : 2 * n + 62])} for n in range(40)]
    folder = prepare(write_jsonl(tmp_path / "f.jsonl", rows), test=0, dev=0)
    starts = sorted(int(row["id"]) for row in read(folder, "cl"))
    assert 14 <= len(starts) <= 25 and all(b - a >= 2 for a, b in zip(starts, starts[1:], strict=False))


def test_documents_that_differ_in_capitals_are_two_in_the_corpus(prepare, tmp_path):
    rows = [{"question": "benzene", "answer": "c1ccccc1"}, {"question": "cyclohexane", "answer": "C1CCCCC1"}]
    folder = prepare(write_jsonl(tmp_path / "f.jsonl", rows), test=0, dev=0)
    assert {row["document"] for row in read(folder, "corpus")} == {"c1ccccc1", "C1CCCCC1"}


def test_a_set_to_ask_with(prepare, tmp_path):
    """A collection with judgements for test alone, as many have."""
    source = SHAPES["beir"](tmp_path)
    for name in ("train", "dev"):
        (tmp_path / "beir" / "qrels" / f"{name}.tsv").unlink()
    folder = prepare(*source)
    assert set(about(folder)["files"]) == {"test", "corpus"}
    assert len(read(folder, "corpus")) == len(PAIRS)


def test_an_empty_test_is_no_test(prepare, tmp_path):
    sides(tmp_path)
    (tmp_path / "sides" / "test.jsonl").write_text("")
    with pytest.raises(InputError, match="test.jsonl: no records"):
        prepare(tmp_path / "sides")
