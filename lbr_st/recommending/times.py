"""When a choice was made, as a number of seconds."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from typing import Any

_DAY, _CLOCK = re.compile(r"\d{4}-\d{2}-\d{2}"), re.compile(r"(\d{1,2})(:\d{2}(?::\d{2}(?:\.\d+)?)?)")
_UTC = re.compile(r"\s*(UTC|GMT)")


def seconds(value: Any) -> float | None:
    """Return a time as a number; None for what is none.

    Args:
        value: A number, which stays as it is, also as text; or a date, of Python or in ISO's form, such as
            ``2024-01-31`` or ``2024-01-31 10:00:00 UTC``. Without a time zone it is taken for one in UTC.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        moment = _moment(value)
        return None if moment is None else moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    return number if math.isfinite(number) else None


def with_clock(day: Any, clock: Any) -> str | None:
    """Return a day and a time of that day, of two columns, as one date; None where they are not such."""
    if not (isinstance(day, str) and isinstance(clock, str) and _DAY.fullmatch(day.strip())):
        return None
    found = _CLOCK.fullmatch(clock.strip())
    return found and f"{day.strip()} {found[1]:0>2}{found[2]}"


def _moment(value: Any) -> datetime | None:
    if isinstance(value, date):
        return value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(_UTC.sub("Z", value.strip()))
    except ValueError:
        return None
