"""Times as numbers of seconds."""

from datetime import UTC, date, datetime

import pytest

from lbr_st.recommending.times import seconds

NOON = 1704110400.0  # 2024-01-01 12:00 UTC


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (5, 5.0),
        ("5.5", 5.5),
        ("2024-01-01 12:00:00", NOON),
        (" 2024-01-01T12:00:00Z ", NOON),
        ("2024-01-01 12:00:00 UTC", NOON),
        ("2024-01-01T14:00+02:00", NOON),
        ("2024-01-01", NOON - 12 * 3600),
        (date(2024, 1, 1), NOON - 12 * 3600),
        (datetime(2024, 1, 1, 12, tzinfo=UTC), NOON),
        *((none, None) for none in ("01.01.2024", "12/31/2024", "soon", "", "inf", None, float("nan"), [1])),
    ],
)
def test_seconds(value, right):
    assert seconds(value) == right
