"""Files of JSON that are one object: which rows they are."""

import json
import logging
import re

import pytest

from lbr_st.data.json_objects import BY_NAME, rows_of_object
from lbr_st.data.rows import read_rows
from lbr_st.errors import InputError

ROWS = [{"query": "q", "positive": "d"}, {"query": "r", "positive": "e"}]
CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "d"}]}
ONE = {"query": ["q", "r"], "positive": "d"}


@pytest.mark.parametrize(
    ("found", "rows"),
    [
        ({"columns": ["query", "positive"], "index": [0, 1], "data": [["q", "d"], ["r", "e"]]}, ROWS),
        ({"0": ROWS[0], "1": ROWS[1]}, ROWS),
        ({"7": ROWS[0], "3": ROWS[1]}, [{"id": "7", **ROWS[0]}, {"id": "3", **ROWS[1]}]),  # no numbers of rows
        ({"a": ROWS[0], "b": ROWS[1]}, [{"id": "a", **ROWS[0]}, {"id": "b", **ROWS[1]}]),
        ({"query": {"a": "q", "b": "r"}, "positive": {"a": "d", "b": "e"}}, ROWS),
        ({"query": {"0": "q", "1": "r"}, "positive": {"0": "d", "1": "e"}}, ROWS),
        ({"query": ["q", "r"], "positive": ["d", "e"]}, ROWS),
        ({"version": 1, "data": ROWS}, ROWS),
        (ONE, [ONE]),
        ({"query": {"text": "q"}, "positive": {"title": "t"}}, [{"query": {"text": "q"}, "positive": {"title": "t"}}]),
        # One row: a list in it is not all of it.
        ({"question": "q", "passages": ROWS}, [{"question": "q", "passages": ROWS}]),
        (CHAT, [CHAT]),
        ({}, [{}]),
    ],
)
def test_rows_of_objects(found, rows):
    assert rows_of_object(found).rows == rows


def test_texts_by_id_and_which_of_them_belong_together():
    found = {
        "queries": {"q0": "q", "q1": "r"},
        "corpus": {"d0": "d", "d1": "e"},
        "relevant_docs": {"q0": ["d0"], "q1": {"d1": 1, "d0": 0}, "q2": None},
        "mode": "text",
    }
    rows = [
        {"query_id": "q0", "document_id": "d0", "query": "q", "document": "d"},
        {"query_id": "q1", "document_id": "d1", "query": "r", "document": "e", "relevance": 1},
        {"query_id": "q1", "document_id": "d0", "query": "r", "document": "d", "relevance": 0},
    ]
    assert rows_of_object(found) == (rows, "not used: mode")
    found["corpus"] |= {"d2": "f"}
    assert rows_of_object(found) == (rows, "documents of no query, which are not used: 1; not used: mode")


def test_columns_of_one_name():
    with pytest.raises(InputError, match="'columns' names several of them document; give each a name of its own"):
        rows_of_object({"columns": ["query", "document", "document"], "data": [["q", "d", "e"]]})


CHROMA = {"ids": ["a", "b"], "documents": ["d", "e"], "metadatas": [{"title": "t"}, None], "embeddings": None}
COLUMNS = [{"id": "a", "document": "d", "metadata": {"title": "t"}}, {"id": "b", "document": "e", "metadata": None}]


@pytest.mark.parametrize(
    ("found", "rows", "said"),
    [
        (CHROMA, COLUMNS, "columns are its lists of 2: ids, documents, metadatas; empty: embeddings"),
        (CHROMA | {"included": ["x"] * 3}, COLUMNS,
         "columns are its lists of 2: ids, documents, metadatas; not used: included; empty: embeddings"),
        ({"label": [1, 0], "queries": ["q", "r"]}, [{"label": 1, "query": "q"}, {"label": 0, "query": "r"}],
         "columns are its lists of 2: label, queries"),
        # Lists in lists are several texts.
        ({"query": ["q", "r"], "positives": [["d"], ["e", "f"]]},
         [{"query": "q", "positives": ["d"]}, {"query": "r", "positives": ["e", "f"]}],
         "columns are its lists of 2: query, positives"),
        ({"columns": ["query"], "index": [0], "data": [["q"]]}, [{"query": "q"}], "not used: index"),
        ({"version": 1, "data": ROWS, "tags": ["a", "b"]}, ROWS,
         "rows are the list under data; not used: version, tags"),
        ({"MED-10": "Iron", "MED-11": "Rest"}, [{"MED-10": "Iron", "MED-11": "Rest"}], BY_NAME.format(2)),
        ({"took": 1, "hits": {"total": 2, "hits": ROWS}}, ROWS,
         "rows are the list under hits[hits]; not used: took, hits[total]"),
    ],
)  # fmt: skip
def test_parallel_lists_are_columns_and_a_list_never_stands_for_the_file_unsaid(tmp_path, caplog, found, rows, said):
    (tmp_path / "f.json").write_text(json.dumps(found))
    with caplog.at_level(logging.INFO):
        assert [row.values for row in read_rows(tmp_path / "f.json")] == rows
    assert caplog.messages == [f"{tmp_path / 'f.json'}: {said}"]


@pytest.mark.parametrize(
    ("found", "held"),
    [
        ({"ids": ["a"], "documents": ["d", "e"], "metadatas": [{"title": "t"}] * 2, "embeddings": None},
         "ids: 1 texts, documents: 2 texts, metadatas: 2 objects, embeddings: nothing"),
        ({"queries": ["q", "r"], "documents": ["d", "e", "f"]}, "queries: 2 texts, documents: 3 texts"),
        ({"queries": ["q"], "documents": ROWS}, "queries: 1 texts, documents: 2 objects"),
        ({"notes": ["a text of words"], "data": [{"n": 1}], "k": {"a": 1}, "v": "v", "w": 1},
         "notes: 1 texts, data: 1 objects, k: an object of 1, v: a text, w: a value"),
        ({"query": ["q", "r"], "document": ["d", "e"], "x": [["a text of words"], 1, 2]},
         "query: 2 texts, document: 2 texts, x: 3 values"),
    ],
)  # fmt: skip
def test_lists_that_are_no_columns_are_refused_by_all_the_names_there_are(found, held):
    with pytest.raises(InputError, match=f"nothing says which part of it is the rows \\({re.escape(held)}\\)"):
        rows_of_object(found)


def test_a_row_of_a_frame_with_another_number_of_cells_is_refused():
    with pytest.raises(InputError, match="item 2 of 'data' has 1 cells, for 2 names in 'columns'"):
        rows_of_object({"columns": ["query", "positive"], "data": [["q", "d"], ["r"]]})


def test_several_lists_of_rows_are_refused(tmp_path):
    (tmp_path / "f.json").write_text(json.dumps({"train": ROWS, "test": ROWS}))
    with pytest.raises(InputError, match=r"f.json: has several lists of rows \(train, test\); write each to a file"):
        list(read_rows(tmp_path / "f.json"))
