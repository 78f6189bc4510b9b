"""Words and marks, counted by hand: of scripts with spaces and without."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_st.data.words import count_words, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It's (not) x_1.", ["It", "'", "s", "(", "not", ")", "x_1", "."]),
        ("水的沸点是100度。", ["水", "的", "沸", "点", "是", "100", "度", "。"]),
        ("水H2O很多", ["水", "H2O", "很", "多"]),
        ("カタカナとｱｲ", ["カ", "タ", "カ", "ナ", "と", "ｱ", "ｲ"]),
        ("물은 끓는다", ["물", "은", "끓", "는", "다"]),
        ("น้ำดื่ม", ["น้", "ำ", "ดื่", "ม"]),  # tones and vowels above belong to their consonant
        ("ນ້ຳດື່ມ", ["ນ້", "ຳ", "ດື່", "ມ"]),
        ("ទឹក", ["ទឹ", "ក"]),
        ("ရေ ပူ", ["ရေ", "ပူ"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # a word, and not its consonants
        ("cafe\u0301 naïve", ["cafe\u0301", "naïve"]),
        ("שָׁלוֹם", ["שָׁלוֹם"]),
        ("👩🏽‍🔬👍", ["👩🏽‍", "🔬", "👍"]),
        ("Привет, мир", ["Привет", ",", "мир"]),
    ],
)
def test_words_of_every_script(text, found):
    assert words(text) == found
    assert count_words(text) == len(found)


def test_long_runs_count_by_characters():
    """A sequence, a key, Base64: one for each four characters, where a word of up to twenty is one."""
    assert count_words("a" * 20) == 1
    assert count_words("a" * 21) == 6
    assert count_words("ACGT" * 250 + " is a gene") == 250 + 3
    assert count_words("é" * 400) == 100
    assert count_words("汉" * 400) == 400


@given(st.text())
def test_nothing_is_left_out(text):
    """But white space, and marks that stand upon it."""
    joined = "".join(words(text))
    assert joined == re.sub(r"\s", "", text)


@given(st.text(st.characters(max_codepoint=0x2FF)))
def test_of_latin_letters_they_are_what_they_always_were(text):
    assert words(text) == re.findall(r"\w+|[^\w\s]", text)
