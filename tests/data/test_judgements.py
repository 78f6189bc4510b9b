"""Which rows that are no answer become hard negatives, and of which answers."""

import pytest

from lbr_st.data.judgements import MOST_NEGATIVES, Watch, join


def test_of_the_answers_of_their_query():
    """One whose query has no answer is left out, and one whose document is an answer by another row is told apart."""
    queries, documents = ["q", "q", "q", "q", "r"], ["a", "b", "c", "a", "d"]
    joined = join(queries, documents, [True, False, True, False, False])
    assert joined.negatives == {0: [1], 2: [1]}
    assert joined.left_out == [4]
    assert joined.both_ways == [3]


def test_a_query_has_no_more_than_so_many():
    """With hundreds of answers and of others, each answer would hold all of them."""
    number = MOST_NEGATIVES + 5
    joined = join(["q"] * (number + 2), list(range(number + 2)), [True, True, *[False] * number])
    assert joined.negatives == {row: list(range(2, 2 + MOST_NEGATIVES)) for row in (0, 1)}
    assert joined.left_out == list(range(2 + MOST_NEGATIVES, number + 2))


@pytest.mark.parametrize(
    ("values", "is_found"),
    [
        (["grounded", "ungrounded"], True),
        (["useful answer", "no useful answer"], True),
        (["cardiology", "surgery"], False),
    ],
)
def test_two_words_of_which_one_is_the_other_with_a_no_look_like_judgements(values, is_found):
    watch = Watch()
    for value in values:
        watch(["kind"], {"kind": value})
    assert (watch.found() is not None) is is_found
