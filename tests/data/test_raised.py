"""A number with an exponent is no other number."""

import pytest

from lbr_st.data.cleaning import clean
from lbr_st.data.passages import Chunker, passages_of


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("10<sup>2</sup> cells", "10² cells"),
        ("5 &times; 10<sup>-3</sup> g", "5 × 10⁻³ g"),
        ("5 × 10<sup>−3</sup> g", "5 × 10⁻³ g"),
        ("10<sup>-3.5</sup>", "10^-3.5"),
        ("mc<SUP>2</SUP>", "mc²"),
        ("10<sup><b>6</b></sup>", "10⁶"),
        ('10<sup class="x">6</sup>', "10⁶"),
        ("2<sup>n</sup>, x<sup>k</sup>, e<sup>x+1</sup>", "2ⁿ, x^k, e^(x+1)"),
        ("Ca<sup>2+</sup> and SO<sub>4</sub><sup>2-</sup>", "Ca²⁺ and SO4²⁻"),
        ("<sup>14</sup>C", "¹⁴C"),
        ("so.<sup>12,13</sup> Next", "so.¹²,¹³ Next"),
        ("the 1<sup>st</sup> and 2<sup>nd</sup>, a mark<sup>TM</sup>, 5<sup>*</sup>", "the 1st and 2nd, a markTM, 5*"),
        ("word<sup>[12]</sup>", "word[12]"),
        ("log<sub>2</sub>8", "log₂8"),
        ("x<sub>1</sub>2, 10<sub>2.5</sub>", "x₁2, 10_2.5"),
        ("CO<sub>2</sub>, IC<sub>50</sub> and K<sub>m</sub>", "CO2, IC50 and Km"),
        ("<p>a <sup>that is never closed and goes on</p><p>b2", "a that is never closed and goes on\nb2"),
    ],
)
def test_superscripts_and_subscripts(html, text):
    assert clean(html) == text
    assert clean(clean(html)) == text


def test_pages():
    page = "<p>10<sup>2</sup> cells, log<sub>2</sub>8, H<sub>2</sub>O<sup><a href='#1'>[1]</a></sup></p>"
    assert [each["document"] for each in passages_of("a.html", page, Chunker(50))] == [
        "10² cells, log₂8, H2O[[1]](#1)"
    ]  # fmt: skip
