"""Parquet and datasets, and what the numbers of their classes mean."""

import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, Features, List
from helpers import values_in

from lbr_st.data.labelled_rows import hub_rows
from lbr_st.data.records import read_records
from lbr_st.data.rows import read_rows
from lbr_st.errors import InputError


def test_rows_of_a_dataset_repository(tmp_path):
    """A local folder goes the way of a Hub id through `datasets`."""
    Dataset.from_list([{"question": "q", "answer": "d"}]).to_parquet(tmp_path / "validation-00000-of-00001.parquet")
    row = next(hub_rows(str(tmp_path), None, "validation"))
    assert row.values == {"question": "q", "answer": "d"} and row.number == 1
    with pytest.raises(InputError, match="is a folder that the package datasets does not read as rows .*split"):
        next(hub_rows(str(tmp_path), None, "test"))


def test_texts_in_parquet_that_are_bytes(tmp_path):
    """Spark and Impala write them so; a picture stays what it is."""
    table = {"text": ["für".encode(), None], "image": [b"\xff\xd8", b"\x89"]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "f.parquet")
    assert values_in(tmp_path / "f.parquet") == [
        {"text": "für", "image": b"\xff\xd8"},
        {"text": None, "image": b"\x89"},
    ]


@pytest.mark.parametrize(
    ("meant", "numbers", "read"),
    [
        (["entailment", "not_entailment"], [0, 1, -1], ["entailment", "not_entailment", None]),
        (["neg", "pos"], [1, 0, None], ["pos", "neg", None]),
        (["World", "Sports"], [0, 1, 1], ["World", "Sports", "Sports"]),
        (["a", "b"], [0, 1, 1], [0, 1, 1]),  # options
        (["choice1", "choice2"], [0, 1, 1], [0, 1, 1]),
        (["0", "1"], [0, 1, 1], [0, 1, 1]),
    ],
)
def test_what_numbers_of_classes_mean(tmp_path, meant, numbers, read):
    """To GLUE 0 is entailment: it would be read as no answer."""
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": numbers})
    rows = rows.cast_column("label", ClassLabel(names=meant))
    rows.to_parquet(str(tmp_path / "train.parquet"))
    assert [row["label"] for row in values_in(tmp_path / "train.parquet")] == read
    assert [row.values["label"] for row in hub_rows(str(tmp_path), None, "train")] == read


def test_what_numbers_of_classes_in_a_list_mean(tmp_path):
    rows = Dataset.from_dict({"labels": [[0, 1], []]}, Features({"labels": List(ClassLabel(names=["good", "bad"]))}))
    rows.to_parquet(str(tmp_path / "train.parquet"))
    assert [row["labels"] for row in values_in(tmp_path / "train.parquet")] == [["good", "bad"], []]


def test_a_parquet_file_whose_texts_are_no_utf_8(tmp_path):
    raw = pyarrow.array([b"\xac\xff"], pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 1, raw.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"query": text}), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match="rows.parquet: not a Parquet file that can be read"):
        list(read_rows(tmp_path / "rows.parquet"))


def test_columns_of_one_name(tmp_path):
    """The last would take the place of the others."""
    table = pyarrow.table([["q"], ["d"], ["e"]], names=["query", "document", "document"])
    pyarrow.parquet.write_table(table, tmp_path / "f.parquet")
    with pytest.raises(InputError, match="f.parquet: several columns are named document; give each a name of its own"):
        list(read_rows(tmp_path / "f.parquet"))


def test_a_column_of_type_map(tmp_path):
    """pyarrow makes pairs of it; what is in them may be lists."""
    tags = pyarrow.array([[("a", ["b"])]] * 3, pyarrow.map_(pyarrow.string(), pyarrow.list_(pyarrow.string())))
    table = pyarrow.table({"query": ["q", "r", "s"], "document": ["d", "e", "f"], "tags": tags})
    pyarrow.parquet.write_table(table, tmp_path / "f.parquet")
    assert [record["document"] for record in read_records(tmp_path / "f.parquet")] == ["d", "e", "f"]


def test_a_folder_that_is_no_dataset_is_said_to_be_one(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("A text.")
    with pytest.raises(
        InputError, match="notes: is a folder that the package datasets does not read as rows; lbr data p"
    ):
        next(hub_rows(str(tmp_path / "notes"), None, "train"))
