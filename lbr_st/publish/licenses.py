"""What the Hub and mteb take for a license and a language of a model."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches

from lbr_st.errors import InputError

# Ids of the Hub's list of licenses; it refuses a card with another one.
LICENSES = frozenset(
    """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0
    eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research
    intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit
    mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openmdw-1.0 openmdw-1.1 openrail openrail++ osl-3.0 other pddl postgresql
    unknown unlicense wtfpl zlib
    """.split()
)
# What a name of a license has beside that of its id: MIT License, Apache License, Version 2.0.
_BESIDE = re.compile(r"\b(the|license|licence|version|v(?=[\d.]))|,")


def check_license(license: str, ids: Collection[str] = LICENSES, whose: str = "the Hub") -> None:
    """Refuse a license that is no id of a list.

    Args:
        license: What the user says.
        ids: The list.
        whose: Who takes no other, for the message.

    Raises:
        InputError: With the nearest ids.
    """
    if license in ids:
        return
    plain = "-".join(_BESIDE.sub(" ", license.lower()).split())
    if near := get_close_matches(plain, sorted(ids), n=1, cutoff=0.6):
        raise InputError(f"--license {license}: {whose} takes ids of licenses; {near[0]} is the nearest")
    other = "; other is for what is none of them" if "other" in ids else ""
    raise InputError(f"--license {license}: {whose} takes ids of licenses, such as apache-2.0 or mit{other}")


def check_language(language: str) -> None:
    """Refuse a language that is no code of ISO 639, such as a name.

    Raises:
        InputError: If it is none.
    """
    if not re.fullmatch("[a-z]{2,3}|multilingual", language):
        raise InputError(f"--language {language}: the Hub takes codes of ISO 639, such as en or de, or multilingual")
