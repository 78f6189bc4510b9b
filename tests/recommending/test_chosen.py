"""Which rows are choices, by ratings, likes, quantities and events."""

import pytest

from lbr_st.data.account import Account
from lbr_st.errors import InputError, RowError
from lbr_st.recommending.chosen import Chosen

OUT = "judged to be no choice, and left out"


def chosen(column, values, **settings):
    """Return which rows with these values are choices, and what is said."""
    account, choice = Account(), Chosen(**settings)
    found = [choice(f"t, line {at}", {column: value}, account) for at, value in enumerate(values, start=2)]
    choice.end("t")
    return found, str(account)


@pytest.mark.parametrize(
    ("column", "values", "settings", "right"),
    [
        ("clicked", ["0", "1", "1"], {}, [0, 1, 1]),
        ("liked", [False, True, True], {}, [0, 1, 1]),
        ("feedback_label", ["1", "-1"], {"judged_by": "feedback_label"}, [1, 0]),
        ("Disliked", ["0", "1"], {"judged_by": "Disliked"}, [1, 0]),
        ("rating", ["0.5", "4", "3.5", ""], {"min_score": 3.5}, [0, 1, 1, 1]),
        ("overall", [1.0, 5.0], {"min_score": 5}, [0, 1]),
        ("rating", ["0.5", "4"], {"judged_by": "none"}, [1, 1]),
        ("genre", ["PG-13", "x"], {}, [1, 1]),
        ("label", ["drama", "western"], {}, [1, 1]),  # a topic
        ("Quantity", ["6", "-1", "0"], {}, [1, 0, 0]),
        ("event_type", ["purchase", "purchase"], {}, [1, 1]),
        ("event_type", ["purchase", "view"], {"judged_by": "none"}, [1, 1]),
        ("member", ["1", "0", "1"], {"judged_by": "none"}, [1, 1, 1]),
    ],
)
def test_which_rows_are_choices(column, values, settings, right):
    found, said = chosen(column, values, **settings)
    assert found == [bool(each) for each in right]
    assert ("left out" in said) == (0 in right)


def test_what_is_left_out_is_counted():
    assert f"2 {OUT}" in chosen("clicked", ["0", "0", "1"])[1]
    assert "1 not judged, and taken for choices" in chosen("clicked", ["1", ""])[1]
    assert "1 with a quantity of 0 or less, as what was sent back, and left out" in chosen("qty", ["1", "-2"])[1]


@pytest.mark.parametrize(
    ("column", "values", "settings", "said"),
    [
        (
            "rating",
            ["1", "4.5"],
            {},
            r"t, line 3: column 'rating' rates what users chose \(1, 4.5\): say --min-score S",
        ),
        ("rating", ["0", "-1"], {}, r"rates what users chose \(-1, 0\).*--judged-by none if every row"),
        ("event_type", ["view", "cart"], {}, r"line 3: column 'event_type' says what users did \(\"cart\", \"view\"\)"),
        ("action_type", ["0", "2"], {}, "column 'action_type' says what users did"),
        ("what", ["buy", "pv"], {}, "t: column 'what' says what users did.*say --judged-by none"),
        ("member", ["1", "0", "1"], {}, "t: 'member' looks like judgements .*say --judged-by 'member' if it says"),
        ("what", ["like", "dislike"], {}, "t: 'what' looks like judgements .*say --judged-by 'what' if it says"),
        ("genre", ["x"], {"min_score": 3}, "t: --min-score 3: no column has scores by its name; --judged-by says"),
    ],
)
def test_what_nothing_says_is_asked_for(column, values, settings, said):
    with pytest.raises(InputError, match=said) as error:
        chosen(column, values, **settings)
    assert not isinstance(error.value, RowError)  # and not left out by --on-error skip


def test_a_value_that_is_no_judgement():
    with pytest.raises(RowError, match=r"line 2, column 'rating': expected a number, or yes or no, found \"PG-13\""):
        chosen("rating", ["PG-13"])
    with pytest.raises(RowError, match=r"no column liked, which --judged-by names \(found: rating\)"):
        chosen("rating", ["1"], judged_by="liked")


def test_an_event_beside_a_rating_is_not_asked_about():
    account, choice = Account(), Chosen(min_score=3)
    rows = [{"rating": 5, "action": "rate"}, {"rating": 1, "action": "view"}]
    assert [choice("t", row, account) for row in rows] == [True, False]
    choice.end("t")
    assert chosen("activity", ["a long walk", "a swim"])[0] == [True, True]
