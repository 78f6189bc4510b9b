"""What is left of an answer, and what is lost with which reason."""

import pytest

from lbr_st.adaptation.query_text import (
    EMPTY,
    ITSELF,
    LONGER,
    LOOPS,
    NOT_ENDED,
    REFUSED,
    SEVERAL,
    TOLD,
    TOO_MANY,
    Answer,
    query_of,
)  # fmt: skip

DOCUMENT = "Anaemia is treated with iron, folic acid or vitamin B12, and the blood is looked at again after four weeks."


@pytest.mark.parametrize(
    ("kind", "text", "query"),
    [
        ("question", "How is anaemia treated?", "How is anaemia treated?"),
        ("question", "  \n How  is it\ttreated? \n", "How is it treated?"),
        ("question", "1. How is it treated?", "How is it treated?"),
        ("question", "- (2) How is it treated?", "How is it treated?"),
        ("question", '"How is it treated?"', "How is it treated?"),
        ("question", "„Wie wird es behandelt?“", "Wie wird es behandelt?"),
        ("question", "「どう治療しますか?」", "どう治療しますか?"),
        ("question", "Question: How is it treated?", "How is it treated?"),
        ("question", "**Question 1:** How is it treated?", "How is it treated?"),
        ("question", 'Question: "How is it treated?"', "How is it treated?"),
        ("question", '"Question: How is it treated?"', "How is it treated?"),
        ("question", "Frage: Wie wird es behandelt?", "Wie wird es behandelt?"),
        ("question", "问题：如何治疗？", "如何治疗？"),
        ("question", "**How is it treated?**", "How is it treated?"),
        ("question", "Here is a question:\n\nHow is it treated?", "How is it treated?"),
        ("question", "<think>It is about\niron.</think>\nHow is it treated?", "How is it treated?"),
        ("question", "```\nHow is it treated?\n```", "How is it treated?"),
        ("question", "What is `sort` for, and what is `sorted` for?", "What is `sort` for, and what is `sorted` for?"),
        ("question", "Is a query: answer pair enough?", "Is a query: answer pair enough?"),
        ("question", "How does List<T> differ from List<?>", "How does List<T> differ from List<?>"),
        ("keywords", "anaemia iron, folic acid; B12", "anaemia iron folic acid B12"),
        ("keywords", "Keywords:\n- anaemia\n- iron\n* folic acid", "anaemia iron folic acid"),
        ("keywords", "貧血、鉄", "貧血 鉄"),
        ("keywords", "anaemia, iron, Iron, anaemia", "anaemia iron"),
        (
            "keywords",
            "anaemia, a b c d, e f g h, iron, folic acid, B12, and more",
            "anaemia a b c d e f g h iron folic acid",
        ),
        ("keywords", "a, b, c, d, e, f, g, h, i, j, k, l, m", "a b c d e f"),
        ("claim", "Claim: Iron helps against anaemia.", "Iron helps against anaemia."),
    ],
)
def test_a_query_is_taken_out_of_an_answer(kind, text, query):
    assert query_of(Answer(text), kind, DOCUMENT) == (query, None)


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("question", "", EMPTY),
        ("question", ' \n "?" \n', EMPTY),
        ("question", "<think>I wonder", EMPTY),
        ("question", "How is it treated?\nWho gets it?", SEVERAL),
        ("claim", DOCUMENT[:-1], ITSELF),
        ("claim", "Much is said about how anaemia is best treated, which is " + DOCUMENT, LONGER),
        ("keywords", "anaemia is treated with iron folic acid and vitamin B12 in four weeks", TOO_MANY),
        ("keywords", "Anaemia is treated with iron, folic acid, or vitamin B12, and is looked at again", TOO_MANY),
        ("question", 'The text asks: "It must be clear to somebody who"', TOLD),
        ("question", "What is iron, iron, iron?", LOOPS),
        ("claim", "It is said that it is said that it is said that", LOOPS),
    ],
)
def test_what_is_no_query_is_lost_with_a_reason(kind, text, reason):
    assert query_of(Answer(text), kind, DOCUMENT)[1] == reason


def test_an_answer_that_did_not_end():
    """Its last line is a part of a line; what is before it is whole."""
    assert query_of(Answer("How is it trea", ended=False), "question", DOCUMENT)[1] == NOT_ENDED
    assert (
        query_of(Answer("How is it treated?\nIt is tr", ended=False), "question", DOCUMENT)[0] == "How is it treated?"
    )


def test_keywords_that_did_not_end():
    """What is behind the last comma may be a part of a word."""
    endless = "anaemia, iron, treatment" + ", treatment" * 20
    assert query_of(Answer(endless, ended=False), "keywords", DOCUMENT) == ("anaemia iron treatment", None)
    assert query_of(Answer("anaemia, ir", ended=False), "keywords", DOCUMENT) == ("anaemia", None)
    assert query_of(Answer("anaem", ended=False), "keywords", DOCUMENT)[1] == NOT_ENDED
    assert query_of(Answer("- anaemia\n- ir", ended=False), "keywords", DOCUMENT) == ("anaemia", None)


def test_what_an_endpoint_refused():
    assert query_of(Answer("", refused="HTTP 400: too long"), "question", DOCUMENT) == ("HTTP 400: too long", REFUSED)


def test_twice_is_no_loop():
    assert query_of(Answer("Is it very very bad?"), "question", DOCUMENT)[1] is None
