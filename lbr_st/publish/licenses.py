"""What the Hub and mteb take for a license and a language of a model."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches

from lbr_st.errors import InputError

# The form of an id of the Hub, whose list of licenses grows.
_ID = re.compile("[a-z0-9][a-z0-9.+-]*")
# What a name of a license has beside that of its id: MIT License, Apache License, Version 2.0.
_BESIDE = re.compile(r"\b(the|license|licence|version|v(?=[\d.]))|,")


def check_license(license: str, ids: Collection[str] | None = None, whose: str = "the Hub") -> None:
    """Refuse a license that is no id, such as a name.

    Args:
        license: What the user says.
        ids: All that there are; default is whatever has the form of an id.
        whose: Who takes no other, for the message.

    Raises:
        InputError: With an id.
    """
    if _ID.fullmatch(license) if ids is None else license in ids:
        return
    if ids is None:
        raise InputError(f"--license {license}: {whose} takes ids, such as apache-2.0 or mit; other is for all others")
    plain = "-".join(_BESIDE.sub(" ", license.lower()).split())
    near = [] if _ID.fullmatch(license) else get_close_matches(plain, sorted(ids), n=1)
    said = f"ids, such as {near[0]}" if near else "ids of its list alone, or an address, https://..."
    raise InputError(f"--license {license}: {whose} takes {said}")


def check_language(language: str) -> None:
    """Refuse a language that is no code of ISO 639, such as a name.

    Raises:
        InputError: If it is none.
    """
    if not re.fullmatch("[a-z]{2,3}|multilingual", language):
        raise InputError(f"--language {language}: the Hub takes codes of ISO 639, such as en or de, or multilingual")
