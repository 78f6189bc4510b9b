"""What is left out: counted by reason, with some of each, and said in one line."""

import pytest

from lbr_st.data.drops import Drops, on_wrong_row
from lbr_st.errors import RowError


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
