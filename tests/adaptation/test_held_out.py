"""What is held out is held out by passage, depends on nothing but the texts, and is real where it can be."""

import random

import pytest

from lbr_st.adaptation.held_out import hold_out, kinds_in_words
from lbr_st.errors import InputError


def rows(passages, kinds=("title", "question")):
    return [
        {"id": f"{n}-{kind}", "query": f"{kind} {n}", "document": f"passage {n}", "kind": kind}
        for n in range(passages)
        for kind in kinds
    ]


def test_no_passage_is_on_two_sides():
    sides = hold_out(rows(400), seed=0)
    of_sides = [{row["document"] for row in side} for side in sides]
    assert [len(side) for side in of_sides] == [360, 20, 20]
    assert not of_sides[0] & of_sides[1] and not of_sides[0] & of_sides[2] and not of_sides[1] & of_sides[2]
    assert sum(map(len, sides)) == 800


def test_it_depends_on_the_texts_and_the_seed_alone():
    shuffled = rows(400)
    random.Random(1).shuffle(shuffled)
    ids = [{row["id"] for row in side} for side in hold_out(rows(400), seed=0)]
    assert [{row["id"] for row in side} for side in hold_out(shuffled, seed=0)] == ids
    assert [{row["id"] for row in side} for side in hold_out(rows(400), seed=1)] != ids


def test_passages_of_one_heading_stay_together():
    """In any order; a heading of very many is trained on."""
    shared = rows(400, ("title",))
    for number, row in enumerate(shared):
        row["query"] = f"heading {number // 4}" if number < 300 else "the same for a hundred"
    for each in (shared, shared[::-1]):
        sides = hold_out(each, seed=0)
        asked = [{row["query"] for row in side} for side in sides]
        assert not asked[0] & asked[1] and not asked[0] & asked[2] and not asked[1] & asked[2]
        assert "the same for a hundred" in asked[0]
        assert len(sides.test) == len(sides.dev) == 20
    assert {row["id"] for row in hold_out(shared, seed=0).test} == {row["id"] for row in hold_out(shared[::-1], 0).test}


def test_real_queries_alone_where_there_are_enough():
    """Of 40 held-out passages of a side all have a real one; with few passages there are too few of them."""
    many = hold_out(rows(800, ("given", "title")), seed=0)
    assert {row["kind"] for row in many.test} == {row["kind"] for row in many.dev} == {"given"}
    assert {row["kind"] for row in many.train} == {"given", "title"}
    few = hold_out(rows(100, ("given", "title")), seed=0)
    assert len({row["document"] for row in few.test}) == 10
    assert kinds_in_words(few.test) == "10 real, 10 titles"


def test_sizes():
    assert len(hold_out(rows(40, ("title",)), seed=0).test) == 10
    assert len(hold_out(rows(20_000, ("title",)), seed=0).test) == 500
    with pytest.raises(InputError, match="39 passages have a query, and at least 40 are needed"):
        hold_out(rows(39), seed=0)


def test_kinds_in_words():
    assert kinds_in_words(rows(1100, ("question",))[:1099]) == "1,099 written (question)"


def test_passages_that_cannot_be_parted():
    alike = [row | {"query": "one heading"} for row in rows(100, ("title",))]
    with pytest.raises(InputError, match="no passages can be held out: more than 4 of them hang together"):
        hold_out(alike, seed=0)
