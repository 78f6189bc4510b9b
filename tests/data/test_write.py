"""Which records are in which file."""

import pytest
from shapes import PAIRS, SHAPES, about, qa, read, write_jsonl

from lbr_st.errors import InputError


def test_stages_share_no_record_unless_they_ask_for_more_than_there_is(prepare, tmp_path):
    folder = prepare(**qa(tmp_path), test=6, dev=4, learn=30, align=20)
    learn, align = ({row["id"] for row in read(folder, name)} for name in ("learn", "align"))
    assert (len(learn), len(align)) == (30, 20) and not learn & align
    assert len(read(folder, "passages")) == 30  # stage 1 sees no passage of the others
    more = prepare(**qa(tmp_path), test=6, dev=4, learn=40, align="40%", folder="more")
    learn, align = ({row["id"] for row in read(more, name)} for name in ("learn", "align"))
    assert (len(learn), len(align), len(learn & align)) == (40, 20, 10) and about(more)["in_both_stages"] == 10


def test_regimes(prepare, tmp_path):
    """Corpus-taught: stage 1 sees what is searched, and still no question of test."""
    strict = prepare(**qa(tmp_path))
    taught = prepare(**qa(tmp_path), regime="corpus-taught", folder="taught")
    for name in ("learn", "align", "dev", "test", "corpus"):
        assert read(strict, name) == read(taught, name)
    assert read(taught, "passages") == read(taught, "corpus")
    test = {row["document"] for row in read(strict, "test")}
    assert test.isdisjoint(row["document"] for row in read(strict, "passages"))
    assert (about(strict)["objective"], about(taught)["objective"]) == ("sft", "sft:0.5,reconstruct:0.5")
    assert "Regime: **corpus-taught**" in (taught / "README.md").read_text()


def test_pairs_that_lose_all_their_hard_negatives_stay_pairs(prepare, tmp_path):
    rows = [row | {"negative": PAIRS[n - 1]["answer"]} for n, row in enumerate(PAIRS)]
    folder = prepare(write_jsonl(tmp_path / "qa.jsonl", rows))
    having = sum("negatives" in row for row in read(folder, "align"))
    assert 0 < having == about(folder)["pairs_with_hard_negatives"] < len(read(folder, "align"))
    assert len(read(folder, "align")) == len(read(folder, "learn"))


def test_documents_that_differ_in_capitals_are_two_in_the_corpus(prepare, tmp_path):
    rows = [{"question": "benzene", "answer": "c1ccccc1"}, {"question": "cyclohexane", "answer": "C1CCCCC1"}]
    folder = prepare(write_jsonl(tmp_path / "f.jsonl", rows), test=0, dev=0)
    assert {row["document"] for row in read(folder, "corpus")} == {"c1ccccc1", "C1CCCCC1"}


def test_a_set_to_ask_with(prepare, tmp_path):
    """A collection with judgements for test alone, as many have."""
    source = SHAPES["beir"](tmp_path)
    for name in ("train", "dev"):
        (tmp_path / "beir" / "qrels" / f"{name}.tsv").unlink()
    folder = prepare(**source)
    assert set(about(folder)["files"]) == {"test", "corpus"}
    assert len(read(folder, "corpus")) == len(PAIRS)


def test_more_than_there_is(prepare, tmp_path):
    for name, message in (("test", "only 60 records to cut it from"), ("learn", "only 51 training records")):
        with pytest.raises(InputError, match=f"--{name} 500, but there are {message}"):
            prepare(**qa(tmp_path), **{name: 500})
