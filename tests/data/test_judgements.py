"""Which rows that are no answer become hard negatives, and of which answers."""

from lbr_st.data.judgements import MOST_NEGATIVES, join


def test_of_the_answers_of_their_query():
    """One whose document is an answer by another row is left out, and one whose query has no answer."""
    queries, documents = ["q", "q", "q", "q", "r"], ["a", "b", "c", "a", "d"]
    joined = join(queries, documents, [True, False, True, False, False])
    assert joined.negatives == {0: [1], 2: [1]}
    assert joined.left_out == [3, 4]


def test_a_query_has_no_more_than_so_many():
    """With hundreds of answers and of others, each answer would hold all of them."""
    number = MOST_NEGATIVES + 5
    joined = join(["q"] * (number + 2), list(range(number + 2)), [True, True, *[False] * number])
    assert joined.negatives == {row: list(range(2, 2 + MOST_NEGATIVES)) for row in (0, 1)}
    assert joined.left_out == list(range(2 + MOST_NEGATIVES, number + 2))
