"""Superscripts and subscripts of HTML as plain text: ``10²`` and ``CO2``, never ``102`` for a ten with an exponent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

SUP, SUB = "sup", "sub"
_LONGEST = 20  # characters that stand above or below a line; more is an element that was never closed
_WRITTEN = "0123456789+-\u2212\u2013=()n"
_SUP = str.maketrans(_WRITTEN, "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻⁼⁽⁾ⁿ")
_SUB = str.maketrans(_WRITTEN, "₀₁₂₃₄₅₆₇₈₉₊₋₋₋₌₍₎ₙ")
# What has a character of its own; several such things are parted by commas, as references are.
_HAS_OWN = re.compile(rf"[{re.escape(_WRITTEN)}]+([,\s]+[{re.escape(_WRITTEN)}]+)*")
# Letters that go on with a word or a number: 1st, 2nd, M. for Monsieur as Mgr, XIXe, No.
_OF_A_WORD = re.compile(r"st|nd|rd|th|er|re|ers|res|ère|ème|e|o|os|as|me|mes|lle|gr|tm|sm|c|r", re.IGNORECASE)
_ONE = re.compile(r"[-+\u2212]?\w[\w.]*")
_OF_A_FORMULA = re.compile(r"(?=.*\w)[\w.+\-\u2212\u2013*/=(), ]+")


def raised(kind: str, text: str, before: str, after: str) -> str:
    """Return the text of a superscript or a subscript as it stands between two others.

    A superscript keeps its place: by Unicode's own characters where it has them, else behind ``^``. Ordinals and
    marks of trade are written on. A subscript is written on too, as people write CO2 and IC50, but next to digits.

    Args:
        kind: ``sup`` or ``sub``.
        text: What stands there.
        before: The text before it.
        after: The text behind it.
    """
    bare = text.strip()
    if not bare or len(bare) > _LONGEST:
        return text
    has_own = _HAS_OWN.fullmatch(bare)
    if kind == SUB:
        meets_digits = re.search(r"\d$", before) or re.match(r"\d", after)
        if not (meets_digits and re.search(r"\d", bare)):
            return text
        return bare.translate(_SUB) if has_own else _behind("_", bare)
    if has_own:
        return bare.translate(_SUP)
    is_exponent = _OF_A_FORMULA.fullmatch(bare) and re.search(r"[\w)\]}]$", before)
    return _behind("^", bare) if is_exponent and not _OF_A_WORD.fullmatch(bare) else text


def _behind(mark: str, text: str) -> str:
    return f"{mark}{text}" if _ONE.fullmatch(text) else f"{mark}({text})"


def raise_in(soup: Any) -> None:
    """Put such text in the place of the elements of a page that Beautiful Soup has read."""
    for element in soup([SUP, SUB]):
        if element.find("a") is None:  # a reference is a link
            before, after = (
                each.get_text() if each else "" for each in (element.previous_sibling, element.next_sibling)
            )
            element.replace_with(raised(element.name, element.get_text(), before, after))


def joined(pieces: Sequence[tuple[str, str]]) -> str:
    """Return pieces of text as one, each with ``sup``, ``sub`` or "" before it."""
    runs = [(kind, "".join(text for _, text in group)) for kind, group in groupby(pieces, key=lambda piece: piece[0])]
    before = ["", *(text for _, text in runs)]
    # A superscript that follows is no digit that a subscript could be read with.
    after = ["" if kind == SUP else text for kind, text in runs[1:]] + [""]
    return "".join(raised(kind, text, before[at], after[at]) if kind else text for at, (kind, text) in enumerate(runs))
