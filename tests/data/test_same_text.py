"""What is one text and what is two, at each level."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_st.data.same_text import AUTO, CASE, EXACT, LEVELS, LOOSE, is_formula, is_notation, same_text

FORMULAS = [
    ("c1ccccc1", "C1CCCCC1"),  # benzene, cyclohexane
    ("CO", "Co"),
    ("CA", "Ca"),
    ("NO", "No"),
    ("Na", "NA"),
    ("mM", "MM"),
    ("mg", "Mg"),
    ("kPa", "KPa"),
    ("10²", "102"),
    ("x²", "x2"),
    ("H₂O", "H2O"),
    ("½", "12"),
    ("Ⅳ", "IV"),
    ("™", "TM"),
    ("①", "1"),
    ("1 0", "10"),
    ("Δ", "δ"),
    ("x_1", "x1"),
    ("def F(x)", "def f(x)"),
    ("x = Foo", "x = foo"),
    ("class Foo: pass", "class foo: pass"),
    ("import Foo", "import foo"),
    ("os.Path", "os.path"),
    ("/etc/Foo", "/etc/foo"),
    ("ls -L", "ls -l"),
    ("\\Gamma", "\\gamma"),
    ("$X^2$", "$x^2$"),
    ("QUJD", "qujd"),  # Base64
    ("COS", "cos"),
    ("ısı", "isi"),
    ("(2R,3S)-2,3-dihydroxybutanedioic acid", "(2r,3s)-2,3-dihydroxybutanedioic acid"),
    ("N-butyl bromide", "n-butyl bromide"),
    ("CC(=O)Oc1ccccc1C(=O)O", "CC(=O)OC1CCCCC1C(=O)O"),
]
IN_RUNNING_TEXT = [
    ("Is CO toxic?", "Is Co toxic?"),
    ("What is the mass of Ca?", "What is the mass of CA?"),
    ("a solution of 5 mM", "a solution of 5 MM"),
    ("a dose of 5 mg", "a dose of 5 Mg"),
    ("a current of 10 A", "a current of 10 a"),
    ("10² cells were seen", "102 cells were seen"),
    ("10 2 cells were seen", "102 cells were seen"),
    ("water is H₂O", "water is H2O"),
    ("a frequency in MHz", "a frequency in mHz"),
    ("the value of pH", "the value of PH"),
    ("CO的分子量是多少", "Co的分子量是多少"),
    ("частота 5 МГц", "частота 5 мГц"),
    ("about 'CO' again", "about 'Co' again"),
    ("Acme™ is good", "AcmeTM is good"),
    ("the dotless ı here", "the dotless i here"),
]
THE_SAME = [
    ("What is Aspirin?", "what is aspirin?"),
    ("What is  Anaemia ?", "what is anaemia"),
    ("WHAT IS ASPIRIN?", "What is aspirin"),
    ("What's new?", "WHAT'S NEW?"),
    ("TREATMENT OF CO POISONING", "Treatment of CO poisoning"),
    ("What is COVID-19?", "what is covid-19?"),
    ("Gene(s) of Wilson", "gene(s) of wilson"),
    ("Aspirin", "aspirin"),
    ("5 mM of salt", "5mM  of salt."),
    ("ﬁne text", "fine text"),
    ("Die Straße", "DIE STRASSE"),
    ("Ｗｈａｔ is ｶﾞ", "What is ガ"),
    ("什么是 阿司匹林？", "什么是阿司匹林？"),
    ("В чём дело?", "в чём дело?"),
    ("Élan vital ici", "ÉLAN VITAL ICI"),
    ("cafe\u0301 au lait", "café au lait"),
    ("a\u00a0word of\u2009it", "a word of it"),
]


@pytest.mark.parametrize(("a", "b"), [*FORMULAS, *IN_RUNNING_TEXT])
def test_formulas_are_told_apart(a, b):
    assert same_text(a) != same_text(b)
    assert same_text(a, EXACT) != same_text(b, EXACT)


@pytest.mark.parametrize(("a", "b"), THE_SAME)
def test_running_text_is_not(a, b):
    assert same_text(a) == same_text(b)
    assert same_text(a, LOOSE) == same_text(b, LOOSE)


@pytest.mark.parametrize(
    ("a", "b", "levels"),
    [
        ("c1ccccc1 \n", "c1ccccc1", LEVELS),
        ("x  =\t1", "x = 1", LEVELS),
        ("n\u0303", "ñ", LEVELS),
        ("What is it?", "what is it?", {AUTO, CASE, LOOSE}),
        ("What is it?", "What is it", {AUTO, LOOSE}),
        ("CO", "Co", {CASE, LOOSE}),
        ("10²", "102", {LOOSE}),
        ("x = 1", "x=1", {LOOSE}),
        ("ﬁne ①", "fine 1", {LOOSE}),
        ("Maße des Tisches", "Masse des Tisches", {AUTO, CASE, LOOSE}),  # as in STRASSE, and in Switzerland
        ("C=C", "C#C", set()),
        ("a - b", "a + b", set()),
        ("?", "!", set()),
        ("İ", "i", set()),
    ],
)
def test_levels(a, b, levels):
    assert {level for level in LEVELS if same_text(a, level) == same_text(b, level)} == set(levels)


def test_formulas_and_running_text():
    names = ["CC(=O)O", "2-acetoxybenzoic acid; C9H8O4; CC(=O)Oc1ccccc1C(=O)O", "https://a.com/b", "[Na+].[Cl-]"]
    texts = ["What is it?", "什么是水？它从哪里来？有多少？是吗？好。", "a (b) c", "Aspirin", "one\ntwo", "", "x " * 40]
    assert [is_formula(text) for text in names] == [True] * 4
    assert [is_formula(text) for text in texts] == [False] * 7
    code = ["f(x)", "a->b", "std::move", "$HOME is set", "<b>", "array[0] is"]
    assert [is_notation(text) for text in code] == [True] * 6
    assert not any(map(is_notation, ("What is the cost, $5?", "gene(s) and (so) on", "e.g. this", "under p < 0.05")))


@given(st.text(st.characters(codec="utf-8") | st.sampled_from(" =.?AIaiCO2²\n\u0301中ß")))
def test_any_text(text):
    """White space, and how a letter is composed, say nothing at any level."""
    for level in LEVELS:
        for same in (f" {text}\n", text.replace(" ", "\t\u00a0"), unicodedata.normalize("NFD", text)):
            assert same_text(same, level) == same_text(text, level)
