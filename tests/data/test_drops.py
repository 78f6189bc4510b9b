"""What is left out: counted by reason, with some of each, and said in one line."""

import pytest

from lbr_st.data.drops import Drops, on_wrong_row
from lbr_st.data.parts import Reading, parts_of
from lbr_st.data.records import read_tuples
from lbr_st.errors import InputError, RowError


def test_one_line_says_how_many_why_and_names_some():
    drops = Drops()
    skip = on_wrong_row("skip", drops)
    for line in (3, 9):
        skip(RowError(f"f.jsonl, line {line}, column 'text'", "empty text", "the text is empty"))
    skip(RowError("f.jsonl, line 4", "not JSON", "not JSON: Expecting value, in '\ud83d'"))
    assert drops.describe() == (
        "rows left out: 3 (2 cannot be read: empty text, 1 cannot be read: not JSON), such as "
        "f.jsonl, line 3, column 'text': the text is empty; f.jsonl, line 4: not JSON: Expecting value, in ''"
    )


def test_the_first_stops():
    drops = Drops()
    with pytest.raises(RowError, match="f, line 3: empty text"):
        on_wrong_row("stop", drops)(RowError("f, line 3", "empty text"))
    assert not drops.counts


@pytest.mark.parametrize("read", [read_tuples, lambda path, on_error: prepared(path, on_error)])
def test_to_skip_rows_is_no_remedy_where_none_would_be_left(tmp_path, read):
    lines = ['{"query": "q", "document": ""}', "{", '{"query": "", "document": "d"}']
    path = tmp_path / "f.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match="line 1, .*the text is empty; none of the 3 rows can be used$"):
        read(path, on_error="stop")
    path.write_text(lines[0])
    with pytest.raises(InputError, match="the text is empty$"):
        read(path, on_error="stop")
    path.write_text("\n".join([*lines, '{"query": "q", "document": "d"}']))
    with pytest.raises(InputError, match="line 1, .*the text is empty; --on-error skip leaves such rows out$"):
        read(path, on_error="stop")
    assert [record["document"] for record in read(path, on_error="skip")] == ["d"]
    path.write_text("\n".join(lines[:1] * 1001 + ['{"query": "q", "document": "d"}']))
    with pytest.raises(InputError, match="none of the 1,000 rows can be used$"):  # no more of them are tried
        read(path, on_error="stop")


def prepared(path, on_error):
    reading = Reading(wrong=on_wrong_row(on_error, Drops()))
    return [record for part in parts_of(str(path), reading) for record in part.records()]
