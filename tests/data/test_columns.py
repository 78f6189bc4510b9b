"""Where query, document and hard negatives are found in a row."""

import pytest

from lbr_st.data.columns import Columns, RowReader, Template
from lbr_st.errors import InputError, RowError

COMPOUND = {
    "names": ["etaconazole", "vangard"],
    "iupac": "1-[...]",
    "n": 5,
    "weight": 1.5,
    "nested": {"a": {"b": "deep"}},
}


NO_COLUMNS = Columns()


def read(values, columns=NO_COLUMNS, needed=("query", "document"), optional=()):
    return RowReader(columns, needed, optional)("f, line 2", values)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{names[0]}", "etaconazole"),
        ("{names[-1]}; {n} {weight}", "vangard; 5 1.5"),
        ("{nested[a][b]} {nested.a.b}", "deep deep"),
        ("{{{iupac}}}", "{1-[...]}"),
    ],
)
def test_template(template, text):
    assert Template(template).fill("w", COMPOUND) == text


@pytest.mark.parametrize("template", ["no field", "{}", "{a", "a}", "{a!r}", "{a:>3}", "{a[}", "{.a}"])
def test_templates_that_are_none(template):
    with pytest.raises(InputError, match="^template "):
        Template(template)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{absent}", r"w: no field 'absent' \(found: names, iupac, n, weight, nested\)"),
        ("{names[2]}", r"w: no names\[2\]: there are 2 entries"),
        ("{names}", r"w: field 'names': expected text or a number, found \[\"etaconazole"),
        ("{nested[a][c]}", r"no field 'nested\[a\]\[c\]' \(found: b\)"),
        ("{iupac[0]}", r"no field 'iupac\[0\]'"),  # a letter is no field
        ("{n.__class__}", r"no field 'n\[__class__\]'"),  # only data is in reach
    ],
)
def test_fields_that_are_not_there(template, message):
    with pytest.raises(RowError, match=message):
        Template(template).fill("w", COMPOUND)


@pytest.mark.parametrize(("value", "found"), [(None, "null"), (True, "true"), (["a"], '."a".')])
def test_neither_text_nor_number(value, found):
    with pytest.raises(RowError, match=f"field 'a': expected text or a number, found {found}"):
        Template("{a}").fill("w", {"a": value})


@pytest.mark.parametrize(
    ("values", "query", "document"),
    [
        ({"Question": "q", "ANSWER": "d"}, "q", "d"),
        ({"anchor": "q", "positive": "d", "title": "t"}, "q", "d"),
        ({"title": "q", "text": "d"}, "q", "d"),
        ({"instruction": "q", "input": "more", "output": "d"}, "q\nmore", "d"),
        ({"instruction": "q", "input": "", "output": "d"}, "q", "d"),
        ({"question": "q", "input": "not asked", "output": "d"}, "q", "d"),
        (
            {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
                          {"role": "assistant", "content": "d"}, {"role": "user", "content": "r"}]},
            "q", "d",
        ),
        ({"messages": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "d"}]}, "q", "d"),
    ],
)  # fmt: skip
def test_usual_names(values, query, document):
    found = read(values)
    assert (found["query"], found["document"]) == (query, document)


def test_a_query_where_there_is_one():
    """Optional: a document alone is a passage, also under a title that is empty in some rows."""
    assert "query" not in read({"text": "d"}, needed=("document",), optional=("query",))
    assert "query" not in read({"title": None, "text": "d"}, needed=("document",), optional=("query",))
    assert read({"title": "t", "text": "d"}, needed=("document",), optional=("query",))["query"] == "t"
    assert "query" not in read({"question": "q", "text": "d"}, needed=("document",))


def test_templates_before_names():
    columns = Columns(query=Template("{names[0]}"), document=Template("{iupac}"), negatives=(Template("{names[1]}"),))
    assert read(COMPOUND, columns) == {"query": "etaconazole", "document": "1-[...]", "negatives": ["vangard"]}


CHOICE = {"query": "q", "document": "b", "negatives": ["a", "c"], "is_choice": True}


@pytest.mark.parametrize(
    "values",
    [
        {"question": "q", "choices": ["a", "b", "c"], "answer": 1},
        {"question": "q", "choices": ["a", "b", "c"], "answer": "B"},
        {"question": "q", "options": {"A": "a", "B": "b", "C": "c"}, "answer": "b", "answer_idx": "B"},
        {"question": "q", "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]}, "answerKey": "2"},
        {"question": "q", "options": ["a", "b", "c", " b "], "label": "b"},  # an option equal to the right one is none
    ],
)
def test_multiple_choice(values):
    """The right option is the document, the others hard negatives."""
    assert read(values) == CHOICE


def test_an_answer_that_is_an_option_by_its_column_is_no_letter():
    columns = Columns(choices=tuple(map(Template, ("{right}", "{wrong}", "{other}"))), answer="right")
    found = read({"question": "q", "right": "B", "wrong": "A", "other": "C"}, columns)
    assert (found["document"], found["negatives"]) == ("B", ["A", "C"])


def test_rows_of_one_source_may_have_other_columns():
    """Each is read by its own; none decides for those that follow."""
    read = RowReader(Columns(), ("document",), ("query",))
    rows = [{"answer": "d"}, {"question": "q", "answer": "d"}, {"question": "q", "choices": ["a", "d"], "answer": 1}]
    assert ["query" in read("w", row) for row in rows] == [False, True, True]
    assert read("w", rows[2])["negatives"] == ["a"]
    for row, message in (
        ({"question": "q"}, "w: no column for the document; found: question"),
        (
            {"question": "q", "choices": None, "answer": "B"},
            "column 'choices': expected the options of a question, found null",
        ),
        ({"question": "q", "choices": ["a"]}, "nothing says which option is right"),
    ):
        with pytest.raises(RowError, match=message):
            read("w", row)


@pytest.mark.parametrize(("value", "expected"), [(2, 2), ("1", 1), (0, 0), (3.0, 3), (None, None)])
def test_relevance(value, expected):
    assert read({"question": "q", "answer": "d", "relevance": value}).get("relevance") == expected


@pytest.mark.parametrize("value", [1.5, "high", float("nan"), float("inf"), [1]])
def test_relevance_that_is_none(value):
    with pytest.raises(RowError, match="column 'relevance': expected a whole number, found"):
        read({"question": "q", "answer": "d", "relevance": value})


def test_options_in_columns_of_their_own():
    columns = Columns(choices=tuple(map(Template, ("{opa}", "{opb}", "{opc}"))), answer="cop")
    assert read({"question": "q", "opa": "a", "opb": "b", "opc": "c", "cop": 1}, columns) == CHOICE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": 3}, "column 'answer': 3 is none of the 3 options"),
        ({"answer": -1}, "-1 is none of"),
        ({"answer": True}, "true is none of"),
        ({"answer": None}, "null is none of"),
        ({"choices": []}, r"column 'choices': expected the options of a question, found \[\]"),
        ({"choices": ["a", None, "c"]}, "expected the options"),
    ],
)
def test_choices_without_a_right_one(change, message):
    first = {"question": "q", "choices": ["a", "b", "c"], "answer": 1}
    with pytest.raises(RowError, match=message):
        read(first | change)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"question": "q", "answer": 5}, "f, line 2, column 'answer': expected text, found 5"),
        ({"question": "q", "answer": {"text": ["d"]}}, "column 'answer': expected text, found {\"text\""),
        ({"question": None, "answer": "d"}, "column 'question': expected text, found null"),
        ({"question": " ", "answer": "d"}, "column 'question': the text is empty"),
        ({"answer": "d"}, "line 2: no column for the query; found: answer; looked for: query, question, anchor"),
        ({"messages": [{"role": "user", "content": "q"}]}, "no question of a user with an answer"),
        ({"messages": ["q"]}, "expected messages"),
    ],
)
def test_rows_that_cannot_be_used(values, message):
    with pytest.raises(RowError, match=message):
        read(values)


@pytest.mark.parametrize(
    ("options", "answer", "right"),
    [
        (["mM", "MM"], "MM", "MM"),
        (["Co", "CO"], "CO", "CO"),
        (["10²", "102"], "102", "102"),
        (["Paris", "Rome"], "paris", "Paris"),
        (["CO2", "H2O"], "h₂o", "H2O"),
    ],
)
def test_the_right_option_by_its_text(options, answer, right):
    """Exactly, where there is one; the others are wrong, also where they differ from it in case alone."""
    record = read({"question": "q", "choices": options, "answer": answer})
    assert record["document"] == right and record["negatives"] == [each for each in options if each != right]
