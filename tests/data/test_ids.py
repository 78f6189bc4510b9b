"""Ids of rows: under their usual names, and what is none."""

import sys
import tracemalloc

import pytest

from lbr_st.data.ids import IdReader, UniqueIds, id_text, part_id


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("MED-10", "MED-10"),
        (7, "7"),
        (7.0, "7"),  # as pandas has it beside a row without an id
        (7.5, "7.5"),
        (0, "0"),
        ("a\ud83db\x00", "ab"),
        ("a\nb\tc", "a b c"),
        (" 26 ", "26"),  # of a cell that is filled up
        ({"$oid": "507f1f77bcf86cd799439011"}, "507f1f77bcf86cd799439011"),
        (None, None),
        (float("nan"), None),
        ("", None),
        (" ", None),
        ("\ud83d", None),
    ],
)
def test_ids_as_text(value, text):
    assert id_text(value) == text


@pytest.mark.parametrize(
    ("values", "alone", "pair"),
    [
        ({"_id": "MED-10"}, {"id": "MED-10"}, {"id": "MED-10"}),
        ({"docid": "d3"}, {"id": "d3"}, {"id": "d3", "document_id": "d3"}),
        ({"DocID": 3}, {"id": "3"}, {"id": "3", "document_id": "3"}),
        ({"qid": "q7"}, {"id": "q7"}, {"id": "q7"}),
        ({"query-id": "q7", "corpus-id": "d3"}, {"id": "d3"}, {"id": "q7:d3", "document_id": "d3"}),
        ({"id": 1, "docid": "d3", "qid": "q7"}, {"id": "1"}, {"id": "1"}),
        ({"id": None, "docno": "FT911-1"}, {"id": "FT911-1"}, {"id": "FT911-1", "document_id": "FT911-1"}),
        (
            {"docid": "d", "pid": "p1"},
            {"id": "p1"},
            {"id": "p1", "document_id": "p1"},
        ),  # of a document and a part of it
        ({"sku": "S1"}, {"id": "S1"}, {"id": "S1", "document_id": "S1"}),
        ({"pid": "", "passage_id": 0}, {"id": "0"}, {"id": "0", "document_id": "0"}),
        ({"text": "no id"}, {}, {}),
        ({"pmid": 12}, {"id": "12"}, {"id": "12", "document_id": "12"}),
        ({"DOI": "10.1/x"}, {"id": "10.1/x"}, {"id": "10.1/x", "document_id": "10.1/x"}),
        ({"node_id": "n1", "parent_id": "n0"}, {"id": "n1"}, {"id": "n1"}),
        ({"itemId": 7, "user_id": 1}, {"id": "7"}, {"id": "7"}),
        ({"qa_id": 7, "id": 1}, {"id": "1"}, {"id": "1"}),
        ({"user_id": 7, "valid": "v", "child_ids": [1], "class-id": 2, "ID of a friend": 3}, {}, {}),
    ],
)
def test_ids_of_rows(values, alone, pair):
    """The id of a document is the same whether it is read alone or with a query."""
    assert IdReader()(values, is_pair=False) == alone
    assert IdReader()(values, is_pair=True) == pair
    assert pair.get("document_id", pair.get("id")) == alone.get("id")


def test_the_column_that_the_user_names():
    read = IdReader("key")
    assert read({"key": 5, "id": 1}, is_pair=True) == {"id": "5"}
    assert read({"id": 1}, is_pair=True) == {}


def test_columns_that_were_used():
    read = IdReader()
    read({"id": None, "docid": 3, "uid": 4}, is_pair=False)
    assert read.used == {"docid"}


def test_several_records_of_a_row():
    assert [part_id("a", part, 2) for part in (1, 2)] == ["a#1", "a#2"]
    assert part_id("a", 1, 1) == "a"


def test_ids_that_come_again_get_their_number():
    unique = UniqueIds()
    assert [unique(id_, number) for number, id_ in enumerate(["a", None, "a", "2", "a"], start=1)] == [
        "a", "2", "a#3", "2#4", "a#5",
    ]  # fmt: skip


def test_many_ids_need_little_memory():
    """Against a set of all of them; the table grows several times."""
    unique, seen = UniqueIds(), set()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    found = [unique(f"document-{number % 7000}", number) for number in range(10_000)]
    own = tracemalloc.get_traced_memory()[0] - before - sum(map(sys.getsizeof, found)) - sys.getsizeof(found)
    tracemalloc.stop()
    for number, id_ in enumerate(found):
        again = f"document-{number % 7000}"
        assert id_ == (f"{again}#{number}" if again in seen else again)
        seen.add(again)
    assert own < 32 * 10_000


def test_the_id_of_a_task_is_none_of_a_row():
    assert IdReader()({"task_id": 1, "text": "d"}, is_pair=False) == {}


@pytest.mark.parametrize(("value", "text"), [(["d1"], "d1"), (["d1", "d2"], None), ([], None)])
def test_a_list_of_one_id_is_that_id(value, text):
    assert id_text(value) == text
