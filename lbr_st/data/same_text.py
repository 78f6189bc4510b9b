r"""When two texts are the same: exactly, but for case, loosely; by default each word as what it is written as.

Case says nothing in a word of running text, and everything in a formula: ``CO`` and ``Co``, ``5 mM`` and ``5 MM``,
``c1ccccc1`` and ``C1CCCCC1``. By default it is ignored in ordinary words alone: those of three letters or more, and
short ones such as *is* and *of*. It counts

- in what is no ordinary word: ``Mg``, ``2R``, ``mM``, ``x1``, ``NaCl``;
- in all of a text that has a sign of code: ``=``, ``{``, ``_``, ``\``, ``^``, ``f(``;
- in all of a text without a word of three letters, of one word in capitals (``CCO``), or that hangs together as names
  of compounds do.

Unicode's compatibility forms are others, whatever the case: ``10²`` is not ``102``, ``H₂O`` not ``H2O``, ``½`` not
``12``, ``Ⅳ`` not ``IV``, ``™`` not ``TM``. In running text the width of letters, the forms of Arabic ones and ligatures
say nothing, and ``ß`` is ``ss``. A dotless ``ı`` is no ``i``.

Where it is in doubt, texts are two: a copy that stays costs less than a formula that is taken for another.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict

from lbr_st.data.words import UNSPACED, words

AUTO, EXACT, CASE, LOOSE = LEVELS = ("auto", "exact", "case", "loose")
MEANINGS = {
    AUTO: "case counts in formulas, units and code alone",
    EXACT: "all but Unicode form and white space counts",
    CASE: "all but case, Unicode form and white space counts",
    LOOSE: "neither case, white space, superscripts nor the last mark count",
}

# ---- code and formulas, in which case counts throughout
SIGNS = ("=", "{", "}", "\\", "^", "_", "`", "->", "::")
# Each begins with a rare character, so that looking for it is fast: a call or an index, but no "gene(s)"; a name with a
# dot in it; a variable of a shell; a tag.
SIGNS_BY_PATTERN = tuple(
    map(
        re.compile,
        (
            r"\((?<=[A-Za-z0-9]\()(?!s\))",
            r"\[(?<=[A-Za-z0-9]\[)",
            r"\.(?<=[A-Za-z]{2}\.)(?=[A-Za-z]{2})",
            r"\$[A-Za-z]",
            r"<[A-Za-z/]",
        ),
    )
)
KEYWORD = "(?:class|def|enum|import|interface|package|struct|using)"
STATEMENT = re.compile(rf"\s*{KEYWORD}\s+[\w.]+\s*(?:[:({{;]|$|{KEYWORD}\b)")
RUNNING = re.compile(rf"[^\W\d_]{{3}}|[{UNSPACED}]")
OF_UNSPACED = re.compile(f"[{UNSPACED}]")
# Formulas and names of compounds are a line of few pieces, each of several words and marks: "2-acetoxybenzoic acid;
# CC(=O)O". Running text has little more than one.
MOST_PIECES, WORDS_OF_A_PIECE = 32, 4

# ---- ordinary words, in which case says nothing
# Short words of the languages of Europe. Units and symbols have one or two letters too, so that all others stay as they
# are; a capital that stands alone in both is taken for a word.
SHORT = (
    "a am an as at be by do go he hi i if in is it me my no of oh ok on or so to up us we "  # English
    "ab da du er es im ja ob um wo zu "  # German
    "au ce de el en et eu il je la le lo na ne ni nu os ou où se si su sa ta te tu un y yo à è é "  # Romance
    "al di ha ho li mi op "  # Italian, Dutch
    "af av ej få nå og på så ut "  # Nordic
    "а в и к о с у я бы во до ли же за из на не ни но об он от по со то ты "  # Russian
    "να με οι σε τα τι το"  # Greek
).split()


def _letters() -> tuple[str, str]:
    """Return the capitals and the small letters of Latin, Greek, Cyrillic and Armenian."""
    letters = list(map(chr, (*range(0x250), *range(0x370, 0x590), *range(0x1E00, 0x2000))))
    of = {kind: "".join(each for each in letters if unicodedata.category(each) == kind) for kind in ("Lu", "Ll")}
    return of["Lu"], of["Ll"]


CAPITALS, SMALL = _letters()


def _kept(short: list[str]) -> re.Pattern[str]:
    """Return what finds each word that is not ordinary, from its first capital on: what keeps its case.

    It begins with a capital, which is found fast. One after a small letter or a digit is within such a word, as in *mM*
    and *2R*. One after an apostrophe is not, and after a number a short word is a unit.

    Args:
        short: The short words that are ordinary.
    """
    letter, digit = rf"[^\W\d_{UNSPACED}]", rf"[^\W{UNSPACED}]"  # a digit may be a letter
    endings = defaultdict(list)
    for word in short:
        endings[word[0]].append(word[1:])
    of_short = "|".join(f"(?<={first})(?:{'|'.join(each)})" for first, each in endings.items())
    small, capital = rf"[^\W\d_{UNSPACED}{CAPITALS}]", rf"[^\W\d_{UNSPACED}{SMALL}]"
    ordinary = rf"(?:{small}{{2,}}\d*|{capital}{{2,}}\d*|(?<!\d\s[{CAPITALS}])(?:{of_short}))(?!{digit})"
    within = rf"(?<={small}[{CAPITALS}])|(?<=\d[{CAPITALS}])"
    first = rf"(?<!{digit}[{CAPITALS}])(?<!{letter}['’][{CAPITALS}])(?!{ordinary})"
    return re.compile(rf"[{CAPITALS}](?:{within}|{first}){digit}*")


KEPT = _kept([word.capitalize() for word in SHORT])
KEPT_AMONG_CAPITALS = _kept([word.upper() for word in SHORT])
NUMBERS_APART = re.compile(r"\d (?=\d)")
SPACE_BUT_IN_NUMBERS = re.compile(r"(?<!\d) | (?!\d)")


def _forms() -> dict[int, str]:
    """Return what full and half width, small and vertical forms, and the forms of Arabic letters stand for."""
    kinds = ("<wide>", "<narrow>", "<small>", "<vertical>", "<isolated>", "<initial>", "<medial>", "<final>")
    found = {}
    for code in (*range(0xFB50, 0xFE00), *range(0xFE10, 0xFE20), *range(0xFE30, 0xFFF0)):
        kind, *plain = unicodedata.decomposition(chr(code)).split() or [""]
        if kind in kinds:
            found[code] = "".join(chr(int(each, 16)) for each in plain)
    return found


FORMS = _forms()


def is_formula(text: str) -> bool:
    """Tell whether a text is one line whose words and marks hang together, as those of a formula do."""
    pieces = text.split(None, MOST_PIECES)
    if not pieces or len(pieces) > MOST_PIECES or "\n" in text:
        return False
    found = words(text)
    spaced = len(found) - sum(1 for word in found if OF_UNSPACED.match(word))
    return spaced >= WORDS_OF_A_PIECE * len(pieces) and 2 * spaced > len(found)


def is_notation(text: str) -> bool:
    """Tell whether a text is a formula or code, so that case counts in all of it."""
    return (
        any(sign in text for sign in SIGNS)
        or RUNNING.search(text) is None
        or any(pattern.search(text) for pattern in SIGNS_BY_PATTERN)
        or (text.isupper() and len(text.split(None, 1)) == 1)
        or STATEMENT.match(text) is not None
        or is_formula(text)
    )


def folded(text: str, level: str = AUTO) -> str:
    """Return a text without what counts for nothing at a level, white space and the last mark apart.

    Args:
        text: Any string.
        level: One of `LEVELS`.
    """
    if level == AUTO:
        return unicodedata.normalize("NFC", text) if is_notation(text) else _ordinary(text)
    if level == LOOSE:
        return unicodedata.normalize("NFKC", text).casefold()
    text = unicodedata.normalize("NFC", text)
    return text.casefold() if level == CASE else text


def same_text(text: str, level: str = AUTO) -> str:
    """Return what texts have in common that are the same: of others it is not equal.

    Args:
        text: Any string.
        level: One of `LEVELS`.
    """
    if level == LOOSE:
        closed_up = "".join(folded(text, LOOSE).split())
        return closed_up.rstrip(".?!") or closed_up
    text = " ".join(folded(text, CASE if level == CASE else EXACT).split())
    if level != AUTO or is_notation(text):
        return text
    text = _ordinary(text)
    return (SPACE_BUT_IN_NUMBERS.sub("", text) if NUMBERS_APART.search(text) else text.replace(" ", "")).rstrip(".?!")


def _ordinary(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFC", text.translate(FORMS))
    parts, at = [], 0
    for match in (KEPT_AMONG_CAPITALS if text.isupper() else KEPT).finditer(text):
        parts += [text[at : match.start()].casefold(), match.group()]
        at = match.end()
    return "".join([*parts, text[at:].casefold()])
