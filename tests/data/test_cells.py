"""What stands in cells for nothing, and for line breaks."""

import json

import pytest

from lbr_st.data.records import read_records
from lbr_st.data.rows import read_rows
from lbr_st.errors import InputError


@pytest.mark.parametrize("gone", ["[deleted]", "[removed]", " [Removed by Reddit] ", "[ Removed by moderator ]"])
def test_a_text_that_is_gone_is_empty_and_counted(gone, tmp_path):
    (tmp_path / "f.jsonl").write_text(json.dumps({"question": "q", "answer": gone, "negatives": ["a", gone]}))
    [row] = read_rows(tmp_path / "f.jsonl")
    assert row.values == {"question": "q", "answer": "", "negatives": ["a", ""]}
    assert row.notes == ("with cells of [deleted], [removed] or the like alone, which are empty",)
    with pytest.raises(InputError, match=r"the text is empty: a cell of \[deleted\], \[removed\] or the like alone is"):
        read_records(tmp_path / "f.jsonl")
    (tmp_path / "f.jsonl").write_text(json.dumps({"question": "q", "answer": f"They wrote {gone} there."}))
    assert next(read_rows(tmp_path / "f.jsonl")).notes == ()


def test_what_excel_writes_for_line_breaks_is_read_as_such(tmp_path):
    (tmp_path / "f.csv").write_text('q,a\nx,"one_x000D_\ntwo_x000a__x0009_three_x0007_"\nvar_x00,snake_x000d\n')
    rows = list(read_rows(tmp_path / "f.csv"))
    assert [row.values["a"] for row in rows] == ["one\ntwo\n\tthree", "snake_x000d"]
    assert [row.notes for row in rows] == [
        ("with _x000D_ or the like, as Excel writes a line break, read as what it stands for",), ()
    ]  # fmt: skip


def test_nan_in_json_is_counted(tmp_path):
    (tmp_path / "f.jsonl").write_text(
        '{"query": "q", "positive": "d", "negative": NaN}\n{"query": "r", "positive": "e"}'
    )
    rows = list(read_rows(tmp_path / "f.jsonl"))
    assert [row.notes for row in rows] == [("with NaN, which is empty",), ()]
    assert rows[0].values == {"query": "q", "positive": "d", "negative": None}  # in no template the text "nan"
