"""Words and marks: what stands for tokens where no tokenizer is given."""

from __future__ import annotations

import re

WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")
# What the counts of `count_words` are called, see `lbr_st.data.table.counter_of`.
WORDS = "words and marks"


def count_words(text: str) -> int:
    """Return the number of words and marks of a text."""
    return sum(1 for _ in WORD_OR_MARK.finditer(text))
