"""Files of JSON that are one object: which rows they are."""

import json

import pytest

from lbr_st.data.json_objects import rows_of_object
from lbr_st.data.rows import read_rows
from lbr_st.errors import InputError

ROWS = [{"query": "q", "positive": "d"}, {"query": "r", "positive": "e"}]
ONE = {"query": ["q", "r"], "positive": "d"}


@pytest.mark.parametrize(
    ("found", "rows"),
    [
        ({"columns": ["query", "positive"], "index": [0, 1], "data": [["q", "d"], ["r", "e"]]}, ROWS),
        ({"0": ROWS[0], "1": ROWS[1]}, ROWS),
        ({"a": ROWS[0], "b": ROWS[1]}, [{"id": "a", **ROWS[0]}, {"id": "b", **ROWS[1]}]),
        ({"query": {"a": "q", "b": "r"}, "positive": {"a": "d", "b": "e"}}, ROWS),
        ({"query": {"0": "q", "1": "r"}, "positive": {"0": "d", "1": "e"}}, ROWS),
        ({"query": ["q", "r"], "positive": ["d", "e"]}, ROWS),
        ({"version": 1, "data": ROWS}, ROWS),
        (ONE, [ONE]),
        ({"query": {"text": "q"}, "positive": {"title": "t"}}, [{"query": {"text": "q"}, "positive": {"title": "t"}}]),
        ({}, [{}]),
    ],
)
def test_rows_of_objects(found, rows):
    assert rows_of_object(found) == rows


def test_texts_by_id_and_which_of_them_belong_together():
    found = {
        "queries": {"q0": "q", "q1": "r"},
        "corpus": {"d0": "d", "d1": "e"},
        "relevant_docs": {"q0": ["d0"], "q1": {"d1": 1}},
        "mode": "text",
    }
    assert rows_of_object(found) == [
        {"query_id": "q0", "document_id": "d0", "query": "q", "document": "d"},
        {"query_id": "q1", "document_id": "d1", "query": "r", "document": "e"},
    ]


def test_several_lists_of_rows_are_refused(tmp_path):
    (tmp_path / "f.json").write_text(json.dumps({"train": ROWS, "test": ROWS}))
    with pytest.raises(InputError, match=r"f.json: has several lists of rows \(train, test\); write each to a file"):
        list(read_rows(tmp_path / "f.json"))
