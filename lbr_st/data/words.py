"""Words and marks: what stands for tokens where no tokenizer is given, and what near-duplicates share.

Where a script has no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan ...), each character
is a word, as a tokenizer takes it for one, or for more. So is a syllable of Korean, of which a word with its endings is
several tokens. What is written upon a letter belongs to it: an accent, a vowel sign, the skin of an emoji.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby

# Scripts whose characters are words here, as ranges of a regular expression.
UNSPACED = (
    "\u0e00-\u0fff"  # Thai, Lao, Tibetan
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Burmese, Shan
    "\u1780-\u17ff"  # Khmer
    "\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf"  # Tai Le, New Tai Lue, Tai Tham, Tai Viet
    "\u1b00-\u1b7f\ua980-\ua9df"  # Balinese, Javanese
    "\u1100-\u11ff\ua960-\ua97f\uac00-\ud7ff\uffa0-\uffdc"  # Korean
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3040-\u31ff\uff66-\uff9f"  # Japanese, radicals
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00016fe0-\U00018dff\U0001aff0-\U0001b2ff\U00020000-\U0003ffff"  # Chinese
    "\ua000-\ua4cf"  # Yi
)


def _marks() -> str:
    """Return what belongs to the character before it, as ranges: combining marks, joiners, tones of emoji."""
    # Where they are: neither below U+0300, nor among the characters of Chinese and Korean.
    places = (*range(0x300, 0x3100), *range(0xA66F, 0xAC00), *range(0xFB1E, 0xFE30), *range(0x10000, 0x12000))
    found = [code for code in places if unicodedata.category(chr(code)).startswith("M")]
    found += [0x200C, 0x200D, *range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080), *range(0xE0100, 0xE01F0)]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(sorted(found)), lambda each: each[1] - each[0])]
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)


MARKS = _marks()
# Patterns: a character of such a script with what is written upon it, and a word of any other.
CHARACTER = f"[{UNSPACED}][{MARKS}]*"
LETTER = rf"[^\W{UNSPACED}]"
WORD = f"{LETTER}+(?:[{MARKS}]+{LETTER}*)*"

_WORD_OR_MARK = re.compile(rf"{CHARACTER}|{WORD}|[^\w\s][{MARKS}]*")
_OF_ASCII = re.compile(r"\w+|[^\w\s]")

# A longer run is no word but a name in code, a sequence, Base64: a tokenizer takes some four characters at a time.
LONGEST_WORD = 20
CHARACTERS_OF_A_TOKEN = 4
# What the counts of `count_words` are called, see `lbr_st.data.table.counter_of`.
WORDS = "words and marks"


def words(text: str) -> list[str]:
    """Return the words and marks of a text, in order."""
    return (_OF_ASCII if text.isascii() else _WORD_OR_MARK).findall(text)


def count_words(text: str) -> int:
    """Return the number of words and marks of a text; a run of over 20 letters and digits is one for each four."""
    found = words(text)
    return len(found) + sum(-(-len(word) // CHARACTERS_OF_A_TOKEN) - 1 for word in found if len(word) > LONGEST_WORD)
