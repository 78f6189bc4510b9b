"""Letters of options are no documents, and few documents of many pairs are said."""

import pytest

from lbr_st.data.account import Account
from lbr_st.data.answers import MOST_FEW, Answers
from lbr_st.data.columns import Columns
from lbr_st.data.row_reader import RowReader
from lbr_st.data.templates import Template
from lbr_st.errors import InputError

OPTIONS = "Which is a metal?\nA. Zinc\nB) Salt\nC. Oil"


def watched(*pairs, **kwargs):
    """Return what is said of pairs of a query and a document."""
    answers, account = Answers(**kwargs), Account()
    answers({"query": query, "document": document} for query, document in pairs)
    answers.check("f", len(pairs), account)
    return account.notes


@pytest.mark.parametrize("letter", ["A", "(B)", "c.", "The answer is A", "Option B", "**A**", "A, C", "A and B"])
@pytest.mark.parametrize(
    "query", [OPTIONS, "q (1) zinc (2) salt", "q: a) zinc b) salt", "\u54ea\u4e2aA\u3001\u950c B\u3001\u76d0"]
)
def test_letters_of_options_that_stand_in_the_query_are_refused(letter, query):
    with pytest.raises(InputError, match="f: all documents are letters of options .* the options stand in"):
        watched((query, letter), (query, "A"))
    assert watched((query, letter), (query, "Zinc is one.")) == ""


@pytest.mark.parametrize(
    ("query", "document"),
    [("Which vitamin is in oranges?", "C"), (OPTIONS, "Zinc"), (OPTIONS, "AB"), ("It is in grade 1.5 or 2.5", "1")],
)
def test_what_is_no_letter_of_an_option_is_read(query, document):
    assert watched((query, document)) == ""


def test_digits_of_options_are_those_of_many_pairs():
    """Of a few they may be numbers that the questions ask for."""
    pairs = [(f"{n} {OPTIONS}", str(n % 3 + 1)) for n in range(8)]
    assert watched(*pairs[:7]) == ""
    with pytest.raises(InputError, match="f: all documents are letters of options"):
        watched(*pairs)


def test_the_user_may_say_that_letters_are_meant():
    row = {"question": OPTIONS, "answer": "A"}
    reader = RowReader(Columns(document=Template("{answer}")), ("query", "document"))
    assert reader("f, line 1", row) == [{"query": OPTIONS, "document": "A"}]
    reader.say("f")
    reader = RowReader(Columns(), ("query", "document"))
    reader("f, line 1", row)
    with pytest.raises(
        InputError, match="if the letters are meant, name their column with lbr data prepare --document"
    ):
        reader.say("f")


def test_few_documents_of_many_pairs_are_said():
    assert watched(*((str(n), f"d{n % 4}") for n in range(8))) == "4 different documents for 8 pairs"
    assert watched(*((str(n), f"d{n % 5}") for n in range(8))) == ""
    assert watched(*((str(n), f"d{n % 3}") for n in range(7))) == ""
    assert watched(*((str(n), f"d{n // 2}") for n in range(2 * MOST_FEW + 2))) == ""
