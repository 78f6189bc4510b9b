"""Where query, document and hard negatives are found in a row."""

from contextlib import nullcontext
from dataclasses import replace

import pytest

from lbr_st.data.columns import Columns
from lbr_st.data.drops import OF_ALL_ROWS
from lbr_st.data.row_reader import RowReader
from lbr_st.data.templates import Template, excerpt
from lbr_st.errors import InputError, RowError

COMPOUND = {
    "names": ["etaconazole", "vangard"],
    "iupac": "1-[...]",
    "n": 5,
    "weight": 1.5,
    "nested": {"a": {"b": "deep"}},
}


NO_COLUMNS = Columns()


def records(*rows, columns=NO_COLUMNS, needed=("query", "document"), optional=("negatives",)):
    reader = RowReader(columns, needed, optional)
    return [record for row in rows for record in reader("f, line 2", row)]


def read(values, columns=NO_COLUMNS, needed=("query", "document"), optional=("negatives",)):
    [record] = records(values, columns=columns, needed=needed, optional=optional)
    return record


def pairs(*rows, **kwargs):
    """Return (query, document, negatives) of each record."""
    return [(r["query"], r["document"], r["negatives"]) for r in records(*rows, **kwargs)]


def judged(*rows, **kwargs):
    """Return what is said of each document of pairs: 1 where it answers."""
    return [r.get("relevance", 1) for r in records(*({"query": "q", "document": "d"} | row for row in rows), **kwargs)]


def account(*rows, optional=("negatives",), needed=("query", "document"), **settings):
    """Return the line that is said of a source."""
    reader = RowReader(Columns(**settings), needed, optional)
    for row in rows:
        reader("f, line 1", row)
    reader.say("f")
    return str(reader.account)


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


def test_a_value_in_a_message_is_spelled_as_it_is():
    assert excerpt(["ja \ud83d", "是否"]) == '["ja ", "是否"]'


@pytest.mark.parametrize("template", ["no field", "{}", "{ }", "{a", "a}", "{a{b}", "{a}}", ""])
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
        ({"anchor": "q", "positive": "d", "title": "t"}, "q", "t d"),
        ({"question": "q", "Doc_Title": "t", "text": "d"}, "q", "t d"),
        ({"question": "q", "title": "t", "text": " "}, "q", "t"),
        ({"instruction": "q", "input": "more", "output": "d"}, "q\nmore", "d"),
        ({"instruction": "q", "input": "", "output": "d"}, "q", "d"),
        ({"question": "q", "input": "not asked", "output": "d"}, "q", "d"),
        (
            {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
                          {"role": "assistant", "content": "d"}, {"role": "user", "content": "r"}]},
            "q", "d",
        ),
        ({"messages": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "d"}]}, "q", "d"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "d"}]}, "q", "d"),
        ({"conversation": [{"role": "user", "content": [{"type": "text", "text": "q"}]},
                           {"role": "model", "content": "d"}]}, "q", "d"),
        ({"systemInstruction": {"parts": [{"text": "s"}]},
          "contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "d"}]}]},
         "q", "d"),
        ({"prompt": "q", "completion": "d"}, "q", "d"),
        ({"prompt": [{"role": "user", "content": "q"}], "completion": "d"}, "q", "d"),
        ({"prompt": {"text": "q"}, "answer": "d"}, "q", "d"),
        ({"query": {"title": "t", "abstract": "q", "id": 1}, "pos": {"title": "u", "abstract": "d"}}, "t q", "u d"),
        ({"QUERY": "q", "positivePassages": [{"docid": "1", "title": "t", "text": "d"}]}, "q", "t d"),
    ],
)  # fmt: skip
def test_usual_names(values, query, document):
    found = read(values)
    assert (found["query"], found["document"]) == (query, document)


def test_a_query_where_there_is_one():
    """Optional: a document alone is a passage, and its title is a part of it."""
    assert "query" not in read({"text": "d"}, needed=("document",), optional=("query",))
    for title, document in (("t", "t d"), (None, "d"), ("", "d"), (7, "7 d")):
        found = read({"title": title, "text": "d"}, needed=("document",), optional=("query",))
        assert found == {"document": document}
    assert "query" not in read({"question": "q", "text": "d"}, needed=("document",))


def test_a_title_is_a_query_where_the_user_says_so():
    """Then it is no part of the document; nor is it where the document is a template."""
    values = {"title": "t", "text": "d"}
    found = read(values, Columns(query=Template("What is {title}?")))
    assert found == {"query": "What is t?", "document": "d", "negatives": []}
    assert read(values, Columns(document=Template("{text}!")), needed=("document",))["document"] == "d!"
    with pytest.raises(RowError, match="no column for the query; found: _id, title, text, url; .* --query '{title}'"):
        read({"_id": "MED-10", **values, "url": "https://x.org"})


def test_a_title_of_several_documents_is_of_none():
    values = {"query": "q", "title": "t", "pos": ["d", "e"]}
    assert [record["document"] for record in records(values)] == ["d", "e"]
    assert read(values | {"pos": ["d"]})["document"] == "t d"


def test_a_title_that_is_no_text():
    with pytest.raises(RowError, match="f, line 2, column 'title': expected a title, found"):
        read({"title": {"en": "t"}, "text": "d"}, needed=("document",))


def test_templates_before_names():
    columns = Columns(query=Template("{names[0]}"), document=Template("{iupac}"), negatives=(Template("{names[1]}"),))
    assert read(COMPOUND, columns) == {"query": "etaconazole", "document": "1-[...]", "negatives": ["vangard"]}


CHOICE = {"query": "q", "document": "b", "negatives": ["a", "c"], "is_choice": True}


@pytest.mark.parametrize(
    "values",
    [
        {"question": "q", "choices": ["a", "b", "c"], "answer": 1},
        {"question": "q", "choices": ["a", "b", "c"], "answer": "B"},
        {"question": "q", "choices": {"1": "a", "2": "b", "3": "c"}, "answer": 2},
        {"question": "q", "choices": ["a", "b", "c"], "answer": 1.0},  # as pandas writes it beside a blank
        {"question": "q", "options": {"A": "a", "B": "b", "C": "c"}, "answer": "b", "answer_idx": "B"},
        {"question": "q", "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]}, "answerKey": "2"},
        {"question": "q", "options": ["a", "b", "c", " b "], "label": "b"},  # an option equal to the right one is none
    ],
)
def test_multiple_choice(values):
    """The right option is the document, the others hard negatives."""
    assert read(values) == CHOICE


@pytest.mark.parametrize(
    ("numbers", "first", "found"),
    [
        ([1, 2, 1], 1, ["a", "b", "a"]),
        ([1, 2, 1], 0, ["b", "c", "b"]),
        ([1, 0, 2], None, ["b", "a", "c"]),
        (["1", "2"], None, "f: numbers of options count from 0, and the least in 'answer' is 1; .*--first-option 1 if"),
        ([1, 3], None, "3 is none of the 3 options counted from 0; lbr data prepare --first-option 1"),
    ],
)
def test_numbers_of_options_that_may_count_from_1(numbers, first, found):
    reader = RowReader(Columns(first_option=first), ("query", "document"), ("negatives",))
    rows = [{"question": "q", "options": ["a", "b", "c"], "answer": number} for number in numbers]
    if isinstance(found, list):
        assert [reader("f, line 2", row)[0]["document"] for row in rows] == found
        reader.say("f")
        return
    with pytest.raises(InputError, match=found) as error:
        _ = [reader("f, line 2", row) for row in rows], reader.say("f")
    assert not isinstance(error.value, RowError) or error.value.reason in OF_ALL_ROWS


BLOOD = ["AB", "A", "O", "B"]
NUMBERS = '"1" is the text of one option and the number of another, .*-option 1'


@pytest.mark.parametrize(
    ("answers", "options", "first", "found"),
    [
        # By its letter, as no other row says how; where other rows have texts alone, it was meant as one.
        (["A"], BLOOD, None, ["AB"]),
        (
            ["A", "O"],
            BLOOD,
            None,
            '"A" is the letter of one option and the text of another, and other rows have the te',
        ),
        (["A", "C"], BLOOD, None, ["AB", "O"]),
        # By its text, where it may be a number; by its number where the user says so.
        (["1", "8"], ["8", "6", "3", "1"], None, ["1", "8"]),
        (["1", "0"], ["8", "6", "3", "1"], None, NUMBERS),
        (["1", "2"], ["8", "6", "3", "1"], 0, ["6", "3"]),
        (["1", "2"], ["8", "6", "3", "1"], 1, ["8", "6"]),
        (["1", "8"], ["8", "6", "3", "1"], 0, ["6", "8"]),  # 8 is no number of an option
        (["3", "2"], ["1", "2", "3", "5"], None, ["3", "2"]),  # 2 is no other text, but another number
    ],
)
def test_an_answer_that_may_be_two_options(answers, options, first, found):
    reader = RowReader(Columns(first_option=first), ("query", "document"), ("negatives",))
    rows = [{"question": "q", "options": options, "answer": answer} for answer in answers]
    if isinstance(found, list):
        assert [reader("f, line 2", row)[0]["document"] for row in rows] == found
        reader.say("f")
        return
    with pytest.raises(InputError, match=found):
        _ = [reader("f, line 2", row) for row in rows], reader.say("f")


def test_an_option_by_its_number_is_not_judged_by_it():
    row, columns = {"goal": "q", "sol1": "a", "sol2": "b", "label": 0}, Columns(Template("{goal}"), Template("{sol1}"))
    with pytest.raises(
        RowError, match="'label' may say which of sol1, sol2 is right: lbr data prepare takes --choices"
    ):
        read(row, columns)
    assert judged(row, columns=replace(columns, judged_by="label")) == [0]
    row = {"query": "q", "options": ["a", "b"], "correct_option": 0}
    with pytest.raises(RowError, match="; lbr data prepare --answer correct_option reads it there$"):
        read(row)


def test_an_answer_that_is_an_option_by_its_column_is_no_letter():
    columns = Columns(choices=tuple(map(Template, ("{right}", "{wrong}", "{other}"))), answer="right")
    found = read({"question": "q", "right": "B", "wrong": "A", "other": "C"}, columns)
    assert (found["document"], found["negatives"]) == ("B", ["A", "C"])


def test_rows_of_one_source_may_have_other_columns():
    """Each is read by its own; none decides for those that follow."""
    read = RowReader(Columns(), ("document",), ("query", "negatives"))
    rows = [{"answer": "d"}, {"question": "q", "answer": "d"}, {"question": "q", "choices": ["a", "d"], "answer": 1}]
    assert ["query" in record for row in rows for record in read("w", row)] == [False, True, True]
    assert read("w", rows[2])[0]["negatives"] == ["a"]
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


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2, 2), ("1", 1), (0, 0), (3.0, 3), (-1, 0), (None, 1), (float("nan"), 1), ([1], 1), ([0], 0)],
)
def test_relevance(value, expected):
    """This package's own column, of whole numbers: a grade from 1, else no answer; where nothing is said, an answer."""
    assert judged({"relevance": value}) == [expected]


def test_an_answer_that_is_the_name_of_a_column_means_that_option():
    columns = Columns(choices=tuple(map(Template, ("{Option 1}", "{Option 2}", "{Option 3}"))), answer="key")
    row = {"question": "q", "Option 1": "a", "Option 2": "b", "Option 3": "option 1"}
    assert [pairs(row | {"key": key}, columns=columns)[0][1] for key in ("Option 2", "option_2", "Option 1")] == [
        "b", "b", "option 1",
    ]  # fmt: skip
    with pytest.raises(RowError, match='"Option 4" is none of the 3 options'):
        read(row | {"key": "Option 4"}, columns)


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
        ({"messages": [{"role": "assistant", "content": "d"}]}, "column 'messages': no question of a user"),
        ({"messages": ["q"]}, "expected messages"),
        ({"title": None, "text": "d"}, "no column for the query; found: title, text"),
        ({"question": "q", "pos": []}, r"column 'pos': expected text, found \[\]"),
        ({"question": "q", "pos": ["d", " "]}, "column 'pos': the text is empty"),
        ({"question": "q", "text": ["d", "e"]}, "column 'text': expected text, found"),
        ({"question": "q", "answer": "d", "rejected": 7}, "column 'rejected': expected text, found 7"),
        ({"question": "q", "answer": "d", "negatives": {"bm25": [7]}}, "column 'negatives': expected text, found 7"),
        ({"question": "q", "answer": "d", "negatives": {"bm25": "e"}}, "column 'negatives': expected text, found {"),
        (
            {"question": "q", "docs": ["d", "e"], "labels": [1]},
            "nothing says which of the 2 documents answer the query",
        ),
        ({"question": "q", "passages": {"is_selected": [], "passage_text": []}}, "expected passages, found {"),
        (
            {"question": "q", "chosen": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
            "column 'chosen': no answer of an assistant",
        ),
        (
            {"question": "q", "pos": {"role": "user", "content": [{"type": "image", "url": "u"}]}},
            "column 'pos': a message has no text: ",
        ),
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


# Judgements.
@pytest.mark.parametrize(
    "column",
    [
        "label", "labels", "score", "scores", "relevance", "is_relevant", "relevant", "similarity", "judgement",
        "judgment", "rating", "grade", "target", "Label", "IS-RELEVANT", "isRelevant", "relevance_score", "gold_label",
        "esci_label", "is_duplicate", "is_match", "is_correct", "Relevance Label", "is_selected",
        "cosine_similarity", "cross_encoder_score", "rerank_score", "relatedness_score", "is_positive", "answerable",
        "gold", "accepted", "is_accepted", "rel", "qrel", "votes", "upvotes", "helpful", "helpfulness",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("yes", "no"),
    [(1, 0), (1.0, 0.0), ("1", "0"), ("1.0", "0.0"), (True, False), ("true", "False"), ("Yes", "no"), (1, -1),
     ("good", "bad"), ("Relevant", "Not relevant"), ("helpful", "unhelpful"), ("+", "-"),
     ("duplicate", "non-duplicate"), ("\U0001f44d", "\U0001f44e"), (["yes"], ["no"])],
)  # fmt: skip
def test_judgements_are_used(column, yes, no):
    assert judged({column: no}, {column: yes}, {column: None}, {column: ""}) == [0, 1, 1, 1]
    assert (
        account({"query": "q", "document": "d", column: no}) == f"no records; columns used: query, document, {column}"
    )


@pytest.mark.parametrize("column", ["is_irrelevant", "isNegative", "not_relevant", "is_hard_negative"])
def test_judgements_that_deny(column):
    assert judged({column: True}, {column: "0"}) == [0, 1]


@pytest.mark.parametrize(
    ("column", "values", "found"),
    [
        ("score", [0.0, 0.7], "0, 0.7"), ("label", [1, 2], "1, 2"), ("similarity", ["4.5"], "4.5"),
        ("label", [0, -1], "0, -1"), ("relevance", [1, 0.5], "1, 0.5"), ("rating", [5], "5"), ("score", [-7.5], "-7.5"),
    ],
)  # fmt: skip
def test_grades_ask_for_the_least(column, values, found):
    """The column, some values and the flag; no row error, which a reader could skip."""
    rows = [{column: value} for value in values]
    with pytest.raises(InputError) as error:
        judged(*rows)
    assert str(error.value).startswith(
        f"f, line 2: column {column!r} grades the documents ({found}): say --min-score S"
    )
    assert not isinstance(error.value, RowError)


def test_the_least_score():
    assert judged(*({"score": score} for score in (0.2, 0.5, "0.9", None)), columns=Columns(min_score=0.5)) == [
        0,
        1,
        1,
        1,
    ]
    assert judged({"relevance": 1}, {"relevance": 3}, columns=Columns(min_score=2)) == [0, 3]
    assert judged({"label": 0}, {"label": 19}, columns=Columns(min_score=0)) == [1, 1]
    assert judged({"label": "no"}, {"label": "yes"}, columns=Columns(min_score=0)) == [0, 1]


def test_labels_that_are_topics_are_named_and_not_taken_for_judgements():
    rows = [{"query": "q", "document": "d", "label": topic} for topic in ("sports", "chemistry")]
    assert account(*rows) == "2 pairs; columns used: query, document; not used: label"
    assert judged(*rows) == [1, 1]
    for *labels, beside in (("sports", 0, "other text"), (1, "sports", "1"), ("REFUTES", "neutral", "REFUTES")):
        with pytest.raises(RowError, match=f"column 'label': .* beside {beside}: rows say different things there"):
            judged(*({"label": label} for label in labels))


def test_of_several_grades_one_is_to_be_named():
    with pytest.raises(InputError, match="its query; lbr data prepare --judged-by correctness says that it is"):
        judged({"helpfulness": 4, "correctness": 3})


@pytest.mark.parametrize(
    "column", ["relevance", "score", "is_relevant", "similarity", "judgement", "gold_label", "rating", "votes", "rel",
               "quality", "answer_quality"]
)  # fmt: skip
def test_what_can_only_be_a_judgement_must_be_understood(column):
    with pytest.raises(RowError, match=f"column '{column}': expected a number, or yes or no, found .high."):
        judged({column: "high"})


def watched(*values, column="made_up", **settings):
    """Read pairs with a column that nobody knows, one after the other, and say what was made of them."""
    reader = RowReader(Columns(**settings), ("query", "document"), ("negatives",))
    for value in values:
        reader("f, line 1", {"query": "q", "document": "d", column: value})
    reader.say("f")
    return reader


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ((True, False), "made_up"),
        (("TRUE", "", "false"), "made_up"),
        (("y", "n"), "made_up"),
        (("Relevant", "Irrelevant"), "made_up"),
        (("+", "-"), "made_up"),
        ((1, 0, 1), "made_up"),
        (("1", "-1", "1"), "made_up"),
        ((["yes"], ["no"]), "made_up[0]"),
        (({"ok": True, "by": "A"}, {"ok": False, "by": "A"}), "made_up[ok]"),
        (([{"result": [{"choices": ["Relevant"]}]}], [{"result": [{"choices": ["Not relevant"]}]}]),
         "made_up[0][result][0][choices][0]"),
    ],
)  # fmt: skip
def test_values_that_look_like_judgements_are_refused_under_any_name(values, path):
    """Unless the user says that they are some, or that they are none."""
    with pytest.raises(InputError) as error:
        watched(*values)
    assert str(error.value).startswith(f"f: {path!r} looks like judgements (")
    assert str(error.value).endswith(", else --judged-by none")
    assert f": lbr data prepare --judged-by '{path}' if it says whether the document of a row" in str(error.value)
    watched(*values, judged_by="none")
    watched(*values, column="a.b", judged_by="none")
    if len(values) == 2:
        reader = RowReader(Columns(judged_by=path.replace("made_up", "a.b")), ("query", "document"))
        rows = [{"query": "q", "document": "d", "a.b": value} for value in values]
        if "marginally relevant" in values:
            with pytest.raises(RowError, match="column 'b': expected a number, or yes or no, found"):
                reader("f", rows[0])
        else:
            assert [r.get("relevance", 1) for row in rows for r in reader("f", row)] == [1, 0]
            reader.say("f")
            assert "columns used: query, document, a.b" in str(reader.account)


@pytest.mark.parametrize(
    "values",
    [
        (True, True), ("en", "de"), (0, 1), (1, 2, 1), (0, 1, 2, 0), ("yes", "yes"),
        ("a", "b", "c", "d", "e", "yes", "no"), ({"n": 1}, {"n": 2}), ([], []), (None, ""),
        ("positive thinking", "relativity"), (1.5, 0.5),
    ],
)  # fmt: skip
def test_values_that_do_not_look_like_judgements(values):
    assert watched(*values).account.counts["pair"] == len(values)


def test_ids_and_what_stands_beside_a_judgement_are_not_watched():
    assert watched(1, 0, 1, column="topic_id").account.counts["pair"] == 3
    rows = [{"query": "q", "document": "d", "label": n, "is_english": bool(n)} for n in (1, 0)]
    reader = RowReader(Columns(), ("query", "document"))
    assert [r.get("relevance", 1) for row in rows for r in reader("f", row)] == [1, 0]
    reader.say("f")
    assert str(reader.account).endswith("columns used: query, document, label; not used: is_english")


def test_what_is_nested_deep_is_not_looked_into():
    deep = "yes"
    for _ in range(900):
        deep = [deep]
    assert watched(deep, deep).account.counts["pair"] == 2
    with pytest.raises(RowError, match="no column for the document"):
        read({"query": "q", "made_up": {"a": deep}})


def test_the_column_of_judgements_that_the_user_names():
    rows = [{"query": "q", "document": "d", "score": 0.9, "meta": {"is_irrelevant": n}} for n in (0, 1)]
    assert judged(*rows, columns=Columns(judged_by="meta[is_irrelevant]")) == [1, 0]
    assert judged(*rows, columns=Columns(judged_by="meta.is_irrelevant")) == [1, 0]
    assert judged(*rows, columns=Columns(judged_by="none")) == [1, 1]
    with pytest.raises(InputError, match="f: no row has a judgement in 'absent', which --judged-by names"):
        watched(1, judged_by="absent")
    with pytest.raises(
        RowError, match=r"column 'made_up': expected a judgement of each of 1 documents, found \[1, 0\]"
    ):
        watched([1, 0], judged_by="made_up")


def test_the_least_score_is_of_one_column():
    """Or it is refused: the likeliest judgement may not be the one that is meant."""
    for other in (0, "no", True):
        row = {"score": 0.9, "label": other}
        with pytest.raises(InputError) as error:
            judged(row, columns=Columns(min_score=0.5))
        assert str(error.value) == (
            "f, line 2: --min-score 0.5 may be of 'label' or of 'score': lbr data prepare --judged-by says which"
        )
        assert judged(row, columns=Columns(min_score=0.5, judged_by="score")) == [1]
    assert judged({"score": 0.9, "label": "sports"}, {"score": 0.1, "label": ""}, columns=Columns(min_score=0.5)) == [
        1,
        0,
    ]


def test_the_likeliest_of_several_judgements_is_taken():
    rows = [{"query": "q", "document": "d", "score": 0.7, "label": 0, "rating": 4}]
    assert judged(*rows) == [0]
    assert account(*rows) == "no records; columns used: query, document, label; not used: score, rating"
    rows = [{"query": "q", "document": "d", "label": "chemistry", "is_correct": "yes"}]
    assert account(*rows) == "1 pair; columns used: query, document, is_correct; not used: label"


def test_documents_alone_have_no_query_to_be_judged_for():
    """A text with a class is one to search, whatever its class is; so is a document that answers something else."""
    rows = [{"text": "a", "label": 0}, {"text": "b", "label": 7}, {"query": "q", "document": "d", "score": 0.3}]
    assert records(*rows, needed=("document",), optional=()) == [
        {"document": "a"},
        {"document": "b"},
        {"document": "d"},
    ]
    assert records(rows[0], rows[1], needed=("document",), optional=("query",)) == [
        {"document": "a"},
        {"document": "b"},
    ]
    assert account(*rows, needed=("document",), optional=()) == (
        "3 documents; columns used: text, document; not used: label, query, score"
    )


def test_a_label_beside_options_is_the_answer():
    row = {"question": "q", "options": ["a", "b", "c"], "label": 1, "score": 0.3}
    assert read(row) == CHOICE
    assert account(row, first_option=0) == "1 pair; columns used: question, options, label; not used: score"


def test_documents_that_are_judged_one_by_one():
    """Lists beside each other, and a list of passages that say it themselves, as a list or as lists by key."""
    expected = [("q", "a", 0), ("q", "b", 1), ("q", "c", 0)]
    for row in (
        {"query": "q", "docs": ["a", "b", "c"], "labels": [0, 1, 0]},
        {"query": "q", "positive": ["a", "b", "c"], "scores": [0.0, 1.0, 0.0]},
        {"query": "q", "passages": {"is_selected": [0, 1, 0], "passage_text": ["a", "b", "c"], "url": ["", "", ""]}},
        {"query": "q", "passages": [{"text": t, "is_selected": n} for t, n in zip("abc", (0, 1, 0), strict=True)]},
    ):
        assert [(r["query"], r["document"], r.get("relevance", 1)) for r in records(row)] == expected
        assert [r["document"] for r in records(row, needed=("document",), optional=())] == ["a", "b", "c"]
    assert account({"query": "q", "passages": [{"text": "a", "is_selected": 1}], "query_id": 5}) == (
        "1 pair; columns used: query, passages, is_selected; not used: query_id"
    )


# Hard negatives.
@pytest.mark.parametrize(
    "column",
    [
        "neg", "negs", "negative", "negatives", "negative1", "negative_1", "neg_1", "hard_neg", "hard_negs",
        "hard_negative", "hard_negatives", "hardNegatives", "Hard-Negatives", "rejected", "rejected_response",
        "negative_passages",
        "negative_ctxs", "hard_negative_ctxs", "negative_documents", "negative_docs", "bm25_negatives", "distractor2",
        "wrong_answers", "incorrect_answers", "irrelevant_passages", "negative_messages", "random_negatives",
        "non_preferred_output", "dispreferred", "rejected_output", "worse_answer", "response_k",
    ],
)  # fmt: skip
def test_names_of_hard_negatives(column):
    row = {"query": "q", "document": "d"}
    for value in ("n", ["n"], [{"text": "n"}], ["n", "", None], [{"role": "user", "content": "n"}]):
        assert pairs(row | {column: value}) == [("q", "d", ["n"])]
    assert pairs(row | {column: [{"docid": 3, "title": "t", "text": "n"}, {"title": "", "text": "m"}]}) == [
        ("q", "d", ["t n", "m"])
    ]
    assert account(row | {column: "n"}) == f"1 pair; columns used: query, document, {column}"
    assert account(row | {column: "n"}, optional=()) == f"1 pair; columns used: query, document; not used: {column}"


@pytest.mark.parametrize(
    "column", ["neg_scores", "negative_ids", "n_negatives", "negatively", "negotiation", "negative_score"]
)
def test_names_that_are_no_hard_negatives(column):
    row = {"query": "q", "document": "d", column: [1]}
    assert account(row) == f"1 pair; columns used: query, document; not used: {column}"


@pytest.mark.parametrize("value", [None, "", "  ", [], [""], [None, " "], float("nan")])
def test_a_blank_negative_is_none(value):
    """In any format: CSV knows no null."""
    assert pairs({"query": "q", "document": "d", "negative": value}) == [("q", "d", [])]
    if not isinstance(value, list):
        columns = Columns(negatives=(Template("{no}"), Template("{other}")))
        assert pairs({"query": "q", "document": "d", "no": value, "other": "n"}, columns=columns) == [("q", "d", ["n"])]
        with pytest.raises(RowError, match="no field 'other'"):
            pairs({"query": "q", "document": "d", "no": value}, columns=columns)


def test_lists_that_a_csv_spells_out():
    """Only in columns that hold several by their name: an answer may be a list in JSON."""
    row = {"query": "q", "pos": "['a', \"b's\"]", "negatives": '["n", "m"]'}
    assert pairs(row) == [("q", "a", ["n", "m"]), ("q", "b's", ["n", "m"])]
    assert pairs({"query": "q", "answer": '["a"]', "negative": "[1]"}) == [("q", '["a"]', ["[1]"])]
    assert pairs({"query": "q", "pos": "[a, b]"}) == [("q", "[a, b]", [])]


def test_hard_negatives_by_the_system_that_found_them():
    row = {"query": "q", "positive": "d"}
    assert pairs(row | {"negatives": {"bm25": ["n"], "dense": ["m", "o"]}}) == [("q", "d", ["n", "m", "o"])]
    assert pairs(row | {"negatives": {"text": ["n", "m"], "score": [1.5, 2.5]}}) == [("q", "d", ["n", "m"])]


# Positives.
@pytest.mark.parametrize(
    "column",
    [
        "pos", "positive", "positives", "positive_passages", "positive_ctxs", "pos_docs", "relevant_passages", "answer",
        "positiveDocuments", "chosen", "response", "positive_messages", "preferred_output", "correct_answers",
    ],
)  # fmt: skip
def test_several_positives_are_several_pairs(column):
    for value in (["a", "b"], [{"text": "a"}, {"text": "b"}]):
        assert pairs({"query": "q", column: value, "neg": "n"}) == [("q", "a", ["n"]), ("q", "b", ["n"])]
    assert pairs({"query": "q", column: "a"}) == pairs({"query": "q", column: ["a"]}) == [("q", "a", [])]


def test_positives_in_numbered_columns():
    row = {"query": "q", "positive_2": "b", "positive_1": "a", "positive_3": ""}
    assert pairs(row) == [("q", "a", []), ("q", "b", [])]


def test_the_best_answer_is_one_of_the_correct_ones():
    row = {"question": "q", "best_answer": "a", "correct_answers": ["a", "b"], "incorrect_answers": ["n"]}
    assert pairs(row) == [("q", "a", ["n"]), ("q", "b", ["n"])]
    assert account(row).endswith("columns used: question, best_answer, correct_answers, incorrect_answers")


# Conversations.
def said(role, content):
    return {"role": role, "content": content}


def test_conversations_with_documents_beside_them():
    """Those of ms-swift, and preferences in their usual forms."""
    ask, good, bad = said("user", "q"), said("assistant", "d"), said("assistant", "n")
    swift = {"messages": [ask], "positive_messages": [[said("user", "d")]],
             "negative_messages": [[said("user", "n")], [said("system", "s"), said("user", "m")]]}  # fmt: skip
    assert pairs(swift) == [("q", "d", ["n", "m"])]
    assert pairs(swift | {"positive_messages": [[said("user", "d")], [said("user", "e")]]}) == [
        ("q", "d", ["n", "m"]), ("q", "e", ["n", "m"]),
    ]  # fmt: skip
    for row in (
        {"messages": [ask, good], "rejected_response": "n"},
        {"messages": [ask, good], "rejected_response": ["n"]},
        {"messages": [ask, good], "rejected": [ask, bad]},
        {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "d"},
         "rejected": {"from": "gpt", "value": "n"}},
        {"prompt": "q", "chosen": "d", "rejected": "n"},
        {"prompt": [ask], "chosen": [good], "rejected": [bad]},
        {"prompt": "q", "chosen": [ask, good], "rejected": [ask, bad]},
        {"chosen": [ask, good], "rejected": [ask, bad]},
        {"instruction": "q", "input": "", "chosen": "d", "rejected": "n"},
        {"query": "q", "response": "d", "rejected_response": ["n"]},
        {"question": "q", "response_j": "d", "response_k": "n"},
        {"input": {"messages": [ask]}, "preferred_output": [good], "non_preferred_output": [bad]},
        {"chosen": "\n\nHuman: q\n\nAssistant: d", "rejected": "\n\nHuman: q\n\nAssistant: n"},
        {"chosen": "User: q\n\nAI: d", "rejected": "User: q\n\nAI: n"},
        {"chosen": "### Human: q\n\n### Assistant: d", "rejected": "### Human: q\n\n### Assistant: n"},
        {"chosen": "Human: a\n\nAssistant: b\n\nHuman: q\n\nAssistant: d",
         "rejected": "Human: a\n\nAssistant: b\n\nHuman: q\n\nAssistant: n"},
    ):  # fmt: skip
        assert pairs(row) == [("q", "d", ["n"])], row
        assert "not used" not in account(row)
    # What differs between two conversations is their last answer.
    before = [said("user", "first"), said("assistant", "same")]
    assert pairs({"chosen": [*before, ask, good], "rejected": [*before, ask, bad]}) == [("q", "d", ["n"])]
    assert judged(swift | {"label": 0.0}) == [0]


def test_what_is_left_of_a_conversation_is_counted():
    talk = [said("system", "s"), said("user", "q"), said("assistant", "d"), said("user", "r"), said("assistant", "e")]
    assert account({"messages": talk}, {"messages": talk[1:3]}) == (
        "2 pairs; columns used: messages; 3 messages of conversations were not used"
    )


# What is said.
def test_every_column_is_named_as_used_or_not():
    rows = [
        {"query": "q", "document": "d", "label": "x", "meta": {"a": 1}},
        {"query": "q", "answer": "d", "pos_scores": [1]},
        {"question": "q", "title": "t", "text": "d", "url": "u"},
    ]  # fmt: skip
    assert account(rows[0]) == "1 pair; columns used: query, document; not used: label, meta"
    assert account(*rows) == (
        "3 pairs; columns used: query, document, answer, question, title, text; not used: label, meta, pos_scores, url"
    )
    assert account({"a": "q", "b": [{"c": "d"}], "e": 1}, query=Template("{a}"), document=Template("{b[0][c]}")) == (
        "1 pair; columns used: a, b; not used: e"
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"question": "q", "reply": "d"}, "lbr data prepare takes templates: --document '{reply}'"),
        ({"input": "q", "output": "d"}, "lbr data prepare takes templates: --query '{input}'"),
        ({"sentence1": "one", "sentence2": "two", "label": 0},
         "lbr data prepare takes templates: --query '{sentence1}' --document '{sentence2}'"),
        ({"claim": "c is", "evidence": "so", "label": "SUPPORTS"},
         "lbr data prepare takes templates: --query '{claim}' --document '{evidence}'"),
        ({"question": "q", "contexts": {"abstract": "d"}}, "takes templates: --document '{contexts[abstract]}'"),
        ({"query": "q", "ids": ["a1", "a2"], "pid": "x7"}, "and no other column has a text that could be it"),
        ({"question": "same", "reply": "Same. "}, "and no other column has a text that could be it"),
        ({"question": "q"}, "and no other column has a text that could be it"),
        ({"question": "q", "n": "12", "neg": "no"}, "and no other column has a text that could be it"),
        ({"qid1": "1", "qid2": "2", "question1": "one", "question2": "two", "is_duplicate": "0"},
         "lbr data prepare takes templates: --query '{question1}' --document '{question2}'"),
        ({"page_body": "a text", "notes": {"title": "T", "source": "u v"}},
         "lbr data prepare takes templates: --query '{notes[title]}' --document '{page_body}'"),
        ({"passage": "d", "a}b": "no template spells this"}, "and no other column has a text that could be it"),
    ],
)  # fmt: skip
def test_a_remedy_was_tried_on_the_row(values, said):
    """None makes a document its own query; where there is none, nothing is suggested."""
    with pytest.raises(RowError, match="no column for the") as error:
        read(values)
    assert str(error.value).endswith(said)
    for flag, template in zip(
        *[iter(str(error.value).partition("templates: ")[2].replace("'", "").split())] * 2, strict=True
    ):
        assert Template(template).fill("w", values) and flag in ("--query", "--document")


def test_a_remedy_for_documents_that_may_have_a_query():
    """Where there may be one, it is said for both sides; else, or where there is one text, for the document."""
    for row, optional, said in (
        ({"question1": "one", "question2": "two"}, ("query",), "--query '{question1}' --document '{question2}'"),
        ({"abstract": "one"}, ("query",), "--document '{abstract}'"),
        ({"query": "q", "abstract": "one"}, ("query",), "--document '{abstract}'"),
    ):
        with pytest.raises(RowError, match="no column for the document; found") as error:
            read(row, needed=("document",), optional=optional)
        assert str(error.value).endswith(f"lbr data prepare takes templates: {said}")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        # One of several options, answers or contents; one of which is the rejected one.
        ({"question": "q", "answer_a": "one", "answer_b": "two"}, ", --document; texts are in {answer_a}, {answer_b}"),
        ({"question": "q", "opa": "a", "opb": "b", "opc": "c", "why": "e e"}, "texts are in {why}"),
        ({"prompt": "q", "response_0": "one", "response_1": "two"}, "texts are in {response_0}, {response_1}"),
        ({"instruction": "q", "win": "a good one", "lose": "a bad one"}, "texts are in {win}, {lose}"),
        ({"question": "q", "context": "c c", "explanation": "e e"}, "texts are in {context}, {explanation}"),
        ({"question": "q", "human_answers": ["a a", "b b"]},
         ", --document; human_answers may have several, of which a template takes one"),
        ({"title": "t t", "answers": {"text": ["a a", "b b"], "score": [3, 1]}},
         "--query and --document; texts are in {title}; answers[text] may have several, of which a template takes one"),
        ({"title": "t t", "body": "b b", "answers": [{"body": "a a"}, {"body": "c c"}]},
         "texts are in {title}, {body}; answers may have several, of which a template takes one"),
        ({"title": "t", "paragraphs": [{"context": "c c", "qas": []}]},
         "{title}; paragraphs may have several, of which a template takes one"),
        ({"set": ["one", "two", "three"]},
         "--query and --document; set may have several, of which a template takes one"),
        ({"title": "t t", "topic_name": "s s", "answers": {"text": ["a a", "b b"], "score": [3, 1]}},
         "answers[text] may have several, of which a template takes one"),
        ({"user_input": "q q", "reference_contexts": "['d d', 'e e']"},
         "reference_contexts has a list that is written out: if it is of documents, call the column 'positives', and "
         "each is one"),
        ({"index": {"_id": "1"}}, "write one object a line for each document, with its '_id' in it"),
        ({"page_body": "a text", "metadata": {"file": "my notes"}}, "texts are in {page_body}, {metadata[file]}"),
        # What says who speaks, or what a row is.
        ({"system": {"role": "system", "type": "x"}}, "and no other column has a text that could be it"),
        # A first line of data.
        ({"how is anemia treated": "q", "Iron helps the red cells.": "d"},
         "if the first line is data, put one above it that names the columns; else lbr data prepare takes templates"),
        ({"0": "1", "Iron tablets": "d d"}, "else lbr data prepare takes templates"),
        ({"D0": "D1", "http://x.org/0": "u", "Title 0": "t"}, "else lbr data prepare takes templates"),
    ],
)  # fmt: skip
def test_a_remedy_is_no_guess(values, said):
    """Where several columns may be meant, they are named and none is taken."""
    with pytest.raises(RowError, match="no column for the") as error:
        read(values)
    assert str(error.value).endswith(said) and "templates: " not in str(error.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"question": "q", "opa": "a", "opb": "b", "opc": "c", "cop": 0}, "--choices opa opb opc --answer cop"),
        ({"question": "q", "A": "a", "B": "b", "C": "c", "answer": "B"}, "--choices A B C --answer answer"),
        ({"question": "q", "choice2": "b", "choice1": "a", "choice3": "c", "correct_answer": "b"},
         "--choices choice1 choice2 choice3 --answer correct_answer"),
        ({"ctx": "q", "ending0": "a", "ending1": "b", "ending2": "c", "label": "2"},
         "--query '{ctx}' --choices ending0 ending1 ending2 --answer label"),
        ({"question": "q", "option_1": "a", "option_2": "b", "option_3": "c", "correct": 1},
         "--choices option_1 option_2 option_3 --answer correct, with --first-option 1 if it counts from 1"),
        ({"question": "q", "A": "a", "B": "b", "C": "c", "answer": 3},
         "--choices A B C --answer answer, with --first-option 1 if it counts from 1"),
        ({"goal": "q", "sol1": "a", "sol2": "b", "label": 0},
         "--query '{goal}' --choices sol1 sol2 --answer label"),
        ({"Question": "q", "Option 1": "a", "Option 2": "b", "Option 3": "c", "Correct Option": "Option 2"},
         "--choices 'Option 1' 'Option 2' 'Option 3' --answer 'Correct Option'"),
        ({"question": "q", "opt_a": "a", "opt_b": "b", "opt_c": "c", "Correct Answer": "Opt A"},
         "--choices opt_a opt_b opt_c --answer 'Correct Answer'"),
    ],
)  # fmt: skip
def test_options_in_columns_of_their_own_are_no_documents(values, said):
    """Nor is the letter of the right one."""
    for needed in (("query", "document"), ("document",)):
        with pytest.raises(RowError) as error:
            read(values, needed=needed, optional=("query", "negatives"))
        assert str(error.value).endswith(f"lbr data prepare takes {said}")
    negatives = {f"negative_{number}": "n" for number in (1, 2, 3)}
    assert judged(negatives | {"label": 1}) == [1]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ctx": "q", "endings": ["a", "b"], "label": "1"}, "--query '{ctx}' --choices endings --answer label"),
        ({"question": "q", "alternatives": ["a", "b"], "correct": 0}, "--choices alternatives --answer correct"),
        ({"premise": "q q", "solutions": ["a", "b"], "gold": 1, "tags": ["x", "y"]},
         "--query '{premise}' --choices solutions --answer gold"),
    ],
)  # fmt: skip
def test_options_in_a_list_of_another_name(values, said):
    with pytest.raises(RowError) as error:
        read(values)
    assert str(error.value).endswith(f"lbr data prepare takes {said}")


def test_a_number_that_is_of_no_option_or_of_which_list():
    for row in ({"endings": ["a", "b"], "label": 2}, {"endings": ["a", "b"], "starts": ["c", "d"], "label": 1}):
        with pytest.raises(RowError) as error:
            read({"question": "q"} | row)
        assert "--choices" not in str(error.value)
    row = {"question": "q", "answer": "d", "aliases": ["d", "e"]}
    assert pairs(row) == [("q", "d", [])]


def test_what_an_index_holds_is_under_source():
    hit = {"_index": "wiki", "_id": "1", "_score": 1.0, "_source": {"title": "Zinc", "text": "Zinc is a metal."}}
    with pytest.raises(RowError) as error:
        read(hit, needed=("document",), optional=())
    assert str(error.value).endswith("--document '{_source[title]} {_source[text]}'")
    assert read(hit, Columns(document=Template("{_source[text]}")), ("document",), ()) == {
        "document": "Zinc is a metal."
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"question": "q", "answer": {"value": "d", "aliases": ["d", "e"]}}, "--document '{answer[value]}'"),
        ({"prompt": {"value": "q"}, "answer": "d"}, "--query '{prompt[value]}'"),
        ({"question": "q", "passage": "d", "answer": True}, "--document '{passage}'"),
    ],
)  # fmt: skip
def test_a_usual_name_that_holds_no_text(values, said):
    with pytest.raises(RowError, match="expected text, found") as error:
        read(values)
    assert str(error.value).endswith(f"lbr data prepare takes templates: {said}")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"question_stem": "q q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"},
         "lbr data prepare takes templates: --query '{question_stem}'"),
        ({"title": "Zinc", "mapping": {"a1": {"message": None, "children": ["b"]}}, "current_node": "a1"},
         "write the messages of one branch as a list 'messages' of objects with 'role' and 'content'"),
        ({"sku": "S1", "name": "Zinc box", "description": "A box of zinc."}, "--document '{name} {description}'"),
        ({"title": "Zinc box", "body_of": "A box.", "details": '{"Brand": "Acme"}'}, "--document '{title} {body_of}'"),
        ({"name": "Zinc box", "parent_asin": "B0", "summary": "A box."}, "--document '{name} {summary}'"),
        ({"summary": "All of zinc.", "node": "0a1b2c3d-0000-4000-8000-0123456789ab"}, "--document '{summary}'"),
        ({"summary": "All of zinc.", "start": "first_step", "steps": {"first_step": 1}}, "--document '{summary}'"),
    ],
)  # fmt: skip
def test_a_remedy_offers_no_id_and_leaves_no_name_out(values, said):
    with pytest.raises(RowError) as error:
        records(values, needed=("document",), optional=("query", "negatives"))
    assert str(error.value).endswith(said)


def test_hard_negatives_that_are_objects_with_texts_are_not_ids():
    row = {"query": "q", "pos": {"title": "t", "abstract": "d"}, "neg": {"title": "u", "abstract": "n", "corpus_id": 2}}
    assert pairs(row) == [("q", "t d", ["u n"])]


def test_the_two_texts_of_a_list_are_a_pair():
    with pytest.raises(RowError, match=r"templates: --query '\{set\[0\]\}' --document '\{set\[1\]\}'$"):
        read({"set": ["q", "d"]})


def test_a_remedy_joins_the_title():
    """As a usual name would; the title and the body of a question are one text, too."""
    row = {"id": "1", "title": "t", "authors": "A B", "abstract": "a long one"}
    with pytest.raises(RowError, match=r"templates: --document '\{title\} \{abstract\}'$"):
        read(row, needed=("document",), optional=())
    with pytest.raises(RowError) as error:
        read(row, needed=("document",), optional=("query",))
    assert str(error.value).endswith(
        "templates: --query '{title}' --document '{abstract}', or for documents alone --document '{title} {abstract}'"
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"question_title": "q", "question_body": "I ask", "answer": "d", "category": "LIFE"},
         "--query '{question_title} {question_body}'"),
        ({"title": "a title", "best_answer": "d"}, "--query '{title}'"),
        ({"input": "what is it", "output": "d"}, "--query '{input}'"),
        ({"question_text": "q", "passage": "d"}, "--query '{question_text}'"),
        ({"user_query": "q", "document": "d"}, "--query '{user_query}'"),
    ],
)  # fmt: skip
def test_a_question_under_another_name_is_not_left_aside(values, said):
    """Where a query is read if there is one: pairs would become documents."""
    with pytest.raises(RowError, match="no column for the query") as error:
        read(values, needed=("document",), optional=("query", "negatives"))
    document = next(name for name in ("answer", "best_answer", "output", "passage", "document") if name in values)
    assert f"takes templates: {said}; --document '{{{document}}}' is for documents alone" in str(error.value)
    columns = Columns(document=Template(f"{{{document}}}"))
    assert read(values, columns, needed=("document",), optional=("query",)) == {"document": "d"}


def test_documents_alone_beside_what_asks_nothing():
    for values in (
        {"answer": "d", "source": "x"},
        {"text": "d", "author": "Bob Smith", "question_id": "q 7", "prompt_type": "a b"},
    ):
        assert read(values, needed=("document",), optional=("query",)) == {"document": "d"}


def test_hard_negatives_of_no_query_are_refused():
    """They would be said to be used; a document that the user names may have them."""
    for row in ({"text": "d", "rejected": "n"}, {"chosen": "d", "rejected": "n"}, {"passage": "d", "neg": ["n"]}):
        with pytest.raises(RowError, match="no column for the query; found"):
            read(row, needed=("document",), optional=("query", "negatives"))
    row = {"text": "d", "rejected": "n"}
    alone = {"needed": ("document",), "optional": ("query", "negatives"), "document": Template("{text}")}
    assert account(row, **alone) == "1 document; columns used: text; not used: rejected"


@pytest.mark.parametrize(
    "row",
    [
        {"title": "t", "question": "q", "answer": "d"},
        {"Title": "t", "Question": "q", "Response": "d"},
        {"heading": "t", "prompt": "q", "completion": "d"},
        {"title": "What is  IT", "query": "what is it", "text": "d"},
        {"title": "what is it for", "query": "Please, what is it for?", "text": "d"},
    ],
)
def test_a_title_that_may_be_the_questions(row):
    """Before the document it would tell the answer which question it is of."""
    title, query, document = row
    for needed in (("query", "document"), ("document",)):
        with pytest.raises(RowError) as error:
            read(row, needed=needed)
        assert str(error.value) == (
            f"f, line 2: column {title!r} may belong to {query!r} or to {document!r}: lbr data prepare takes "
            f"templates, --query '{{{title}}} {{{query}}}', --document '{{{title}}} {{{document}}}' or, without it, "
            f"--document '{{{document}}}'"
        )
    for columns in (
        Columns(query=Template(f"{{{title}}} {{{query}}}")),
        Columns(document=Template(f"{{{title}}} {{{document}}}")),
        Columns(document=Template(f"{{{document}}}")),
    ):
        assert read(row, columns)
    assert read(row | {title: ""})["document"] == "d"
    reader = RowReader(Columns(), ("query", "document"))
    assert reader("f, line 1", row | {title: ""})  # it does not say what those after it mean
    with pytest.raises(RowError, match="may belong to"):
        reader("f, line 2", row)


def test_titles_that_are_the_documents():
    for row in (
        {"query": "what is anemia", "title": "Anemia", "text": "d"},
        {"question": "q", "doc_title": "Anemia", "answer": "d"},
        {"name": "Anemia", "text": "d"},
        {"header": "Anemia", "section": "Results", "text": "d"},
        {"Section Title": "Anemia", "content": "d"},
    ):
        assert read(row, needed=("document",), optional=("query",))["document"] == "Anemia d"
    assert read({"query": "q", "name": "Ann", "text": "d"})["document"] == "d"


def test_multiple_choice_has_one_right_option_for_every_reader():
    """Also where documents alone are read: a letter is no document."""
    row = {"question": "q", "choices": ["a", "b", "c"], "answer": "B"}
    assert records(row, needed=("document",), optional=()) == [{"document": "b", "is_choice": True}]


YES, NO = {"role": "assistant", "content": "yes"}, {"role": "assistant", "content": "no"}


@pytest.mark.parametrize("is_not", [{"weight": 0}, {"weight": 0.0}, {"loss": False}, {"loss": 0}, {"train": False}])
def test_messages_that_are_not_to_be_learned_from_are_passed_over(is_not):
    """With the question that they answer; and a conversation of them alone is refused."""
    asked, again = {"role": "user", "content": "q"}, {"role": "user", "content": "q again"}
    learned = {key: 1 for key in is_not}
    assert pairs({"messages": [asked, NO | is_not, again, YES | learned]}) == [("q again", "yes", [])]
    with pytest.raises(RowError, match="no question of a user with an answer to be learned from"):
        records({"messages": [asked, NO | is_not]})


def test_messages_that_are_judged():
    def conversation(answer):
        return {"messages": [{"role": "user", "content": "q"}, answer]}

    for key in ("score", "label", "rating", "is_correct"):
        assert judged(conversation(YES | {key: 1}), conversation(NO | {key: 0})) == [1, 0]
    with pytest.raises(InputError, match=r"column 'score' grades the documents \(0.2\)"):
        judged(conversation(YES | {"score": 0.2}))
    reader = RowReader(Columns(), ("query", "document"))
    for answer in (YES | {"feedback": "good"}, NO | {"feedback": "bad"}):
        reader("f, line 2", conversation(answer))
    with pytest.raises(InputError, match=r"'messages\[1\]\[feedback\]' looks like judgements"):
        reader.say("f")


@pytest.mark.parametrize(
    ("column", "yes", "no"),
    [
        ("positive", {"label": 1}, {"label": 0}),
        ("pos", {"is_relevant": True}, {"is_relevant": False}),
        ("positive_passages", {"relevance": 1}, {"relevance": 0}),
        ("positive_passages", {}, {"label": None}),
        ("answer", {"selected": "yes"}, {"selected": "no"}),
        ("response", {"score": 1}, {"score": 0}),
    ],
)
def test_documents_whose_objects_are_judged(column, yes, no):
    row = {"query": "q", column: [{"text": "d"} | yes, {"text": "x"} | no]}
    expected = [1, 0] if yes else [1, 1]
    assert [record.get("relevance", 1) for record in records(row)] == expected
    assert len(records(row, columns=Columns(judged_by="none"))) == 2
    if yes:
        assert [r.get("relevance", 1) for r in records({"query": "q", column: {"text": "x"} | no})] == [0]


def test_objects_with_grades_ask_for_the_least():
    row = {"query": "q", "answer": [{"text": "d", "score": 12}, {"text": "x", "score": -3}]}
    with pytest.raises(InputError, match=r"column 'score' grades the documents \(12\)"):
        records(row)
    assert [r.get("relevance", 1) for r in records(row, columns=Columns(min_score=0))] == [1, 0]


def test_scores_of_what_is_called_positive_or_negative_are_named():
    """They are of the search that found it, as in the data of DPR."""
    row = {"query": "q", "positive_ctxs": [{"text": "d", "score": 1000}], "negatives": [{"text": "x", "score": 0.9}]}
    assert pairs(row) == [("q", "d", ["x"])]
    assert account(row).endswith("; not used: negatives[score], positive_ctxs[score]")


def test_objects_in_documents_are_watched():
    reader = RowReader(Columns(), ("query", "document"))
    for feedback in ("good", "bad"):
        reader("f, line 2", {"query": "q", "answer": [{"text": "d", "feedback": feedback}]})
    with pytest.raises(InputError, match=r"'answer\[0\]\[feedback\]' looks like judgements"):
        reader.say("f")


def test_a_template_takes_no_entry_of_judged_ones_whatever_it_says():
    entries = [{"text": "x", "pm_score": 0, "selected": False}, {"text": "d", "pm_score": 5, "selected": True}]
    document, row = Template("{answers[0][text]}"), {"question": "q", "answers": entries}
    with pytest.raises(RowError, match=r"whether they answer \(selected\), and a template") as error:
        records(row, columns=Columns(document=document))
    assert str(error.value).endswith("whatever it says: leave --document out, so that each is read as judged")
    by_path = records(row, columns=Columns(document=document, judged_by="answers[0][selected]"))
    assert [r["relevance"] for r in by_path] == [0]
    assert len(records(row, columns=Columns(document=document, judged_by="none"))) == 1
    assert [r.get("relevance", 1) for r in records(row)] == [0, 1]
    renamed = records({"question": "q", "passages": entries})
    assert [r.get("relevance", 1) for r in renamed] == [0, 1]


@pytest.mark.parametrize(
    ("yes", "no"), [("accept", "reject"), ("accept", "ignore"), ("Yes", "no"), ("accept", "accept")]
)
def test_an_answer_that_judges_the_text_beside_it_is_no_document(yes, no):
    for query, needed in (({"question": "q of it"}, ("query", "document")), ({}, ("document",))):
        reader = RowReader(Columns(), needed, ("query",))
        for answer in (yes, no):
            reader("f, line 2", query | {"text": "What is said of it", "label": "M", "answer": answer})
        with pytest.raises(InputError, match="column 'answer' has nothing but judgements") as error:
            reader.say("f")
        assert "lbr data prepare --document '{text}', with --judged-by answer" in str(error.value)
    rows = [{"question": "q", "text": text, "answer": said} for text, said in (("d", "accept"), ("x", "reject"))]
    assert [(r["document"], r.get("relevance")) for r in records(*rows, columns=Columns(judged_by="answer"))] == [
        ("d", None),
        ("x", 0),
    ]


@pytest.mark.parametrize(
    "rows",
    [
        [{"question": "q", "answer": "yes"}, {"question": "r", "answer": "no"}],  # and no text beside it
        [{"question": "q", "answer": said, "text": "some words"} for said in ("yes", "It is a metal.")],
    ],
)
def test_answers_that_are_answers(rows):
    reader = RowReader(Columns(), ("query", "document"))
    assert [reader("f, line 2", row)[0]["document"] for row in rows] == [row["answer"] for row in rows]
    reader.say("f")


@pytest.mark.parametrize(
    ("text", "pair"),
    [("text", "text_pair"), ("text", "textPair"), ("text", "text_b"), ("content", "content2"), ("text", "pair")],
)
def test_two_texts_of_a_pair_are_no_lone_documents(text, pair):
    row = {text: "what is zinc", pair: "Zinc is a metal.", "labels": 1}
    for needed, optional in ((("document",), ("query",)), (("query", "document"), ())):
        with pytest.raises(RowError, match="no column for the query") as error:
            records(row, needed=needed, optional=optional)
        assert f"--query '{{{text}}}' --document '{{{pair}}}'" in str(error.value)
    asked = Columns(query=Template(f"{{{text}}}"), document=Template(f"{{{pair}}}"))
    assert pairs(row, columns=asked) == [("what is zinc", "Zinc is a metal.", [])]


def test_judgements_with_a_decimal_comma():
    assert judged({"label": "1,0"}, {"label": "0,0"}, {"label": "1"}) == [1, 0, 1]
    assert judged({"score": "0,95"}, {"score": "0,030"}, columns=Columns(min_score=0.5)) == [1, 0]
    for thousands in ("1,000", "12,500", "1,0,0"):
        with pytest.raises(RowError, match="expected a number"):
            judged({"score": thousands}, columns=Columns(min_score=0.5))


@pytest.mark.parametrize(
    ("column", "yes", "no"),
    [
        ("label", "LABEL_1", "LABEL_0"),
        ("label", "pos", "hard_negative"),
        ("label", "accept", "reject"),
        ("is_best_answer", 1, 0),
        ("isBest", True, False),
        ("clicks", 1, 0),
        ("clicked", "oui", "non"),
        ("rating", "thumbs_up", "thumbs-down"),
    ],
)
def test_words_and_names_that_judge(column, yes, no):
    assert judged({column: yes}, {column: no}) == [1, 0]


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("positive", "hard_negative"),
        ("pos", "neg"),
        ("thumbs_up", "thumbs_down"),
        ("oui", "non"),
        ("ja", "nein"),
        ("是", "否"),
    ],
)
def test_words_that_judge_are_seen_under_any_name(yes, no):
    with pytest.raises(InputError, match="'made_up' looks like judgements"):
        watched(yes, no)


def test_clicks_are_grades():
    with pytest.raises(InputError, match=r"'clicks' grades the documents \(37\).*--judged-by none"):
        judged({"clicks": 37})


def test_a_flag_that_is_blank_where_it_does_not_say_yes():
    """A blank of ``is_best_answer`` may say no."""
    reader = RowReader(Columns(), ("query", "document"))
    for flag in (1, None, ""):
        reader("f, line 2", {"question": "q", "answer": "d", "is_best_answer": flag})
    with pytest.raises(
        InputError, match="'is_best_answer' is blank in 2 rows and says yes in all others: write 1 and 0"
    ):
        reader.say("f")


def test_a_list_that_can_only_judge_and_is_of_no_documents_is_refused():
    with pytest.raises(
        RowError, match=r"'helpful': expected a judgement of each of 1 documents, found \[8, 9\]; write"
    ):
        judged({"helpful": [8, 9]})
    assert judged({"scores": [1.0, 0.0], "negative": "x"}) == [1]  # of a teacher


def test_judgements_that_are_not_understood_are_to_be_written_as_numbers():
    for rows in (({"label": 1}, {"label": "NOT ENOUGH INFO"}), ({"relevance": "high"},)):
        with pytest.raises(RowError, match="write 1 and 0 there.*--judged-by none"):
            judged(*rows)


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"query": ["i", "q"], "pos": ["i", "d"], "neg": ["i", "n"], "task_id": 1}, ("q", "d", ["n"])),
        ({"query": ["i", "q"], "pos": [["", "d"]], "neg": [["", "n"], ["", "m"]]}, ("q", "d", ["n", "m"])),
        ({"query": ["i", "q"], "positive": "d"}, ("q", "d", [])),
    ],
)
def test_instructions_before_texts_are_no_texts(row, found):
    assert pairs(row) == [found]
    assert "; 1 with instructions before the texts, which were not used" in account(row)


def test_lists_of_two_queries_are_no_instructions():
    """An instruction comes again; what differs in every row is another query."""
    rows = [{"query": ["q", "r"], "positive": "d"}, {"query": ["s", "t"], "positive": "e"}]
    for last, message in ((rows[1], "call the column 'queries'"), (rows[0], None)):
        reader = RowReader(NO_COLUMNS, ("query", "document"))
        assert [reader("f, line 1", row)[0]["query"] for row in (rows[0], last)][0] == "r"
        with pytest.raises(InputError, match=message) if message else nullcontext():
            reader.say("f")


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"queries": ["q", "r"], "document": "d"}, [("q", "d"), ("r", "d")]),
        ({"predicted_queries": '["q", "r"]', "text": "d"}, [("q", "d"), ("r", "d")]),
        ({"questions": [["q", "r"]], "positive": ["d"]}, [("q", "d"), ("r", "d")]),
        ({"query": ["q", "r", "s"], "positive": "d"}, [("q", "d"), ("r", "d"), ("s", "d")]),
        ({"Questions": "q", "answer": "d"}, [("q", "d")]),
        ({"questions": ["q", "r"], "positives": ["d", "e"]}, "several queries and several documents"),
        ({"questions": '[{"a": 1}]', "positive": "d"}, "column 'questions': expected text"),
        ({"questions": '["", ""]', "positive": "d"}, "column 'questions': the text is empty"),
    ],
)
def test_several_queries_are_several_pairs(row, found):
    if isinstance(found, str):
        with pytest.raises(RowError, match=found):
            read(row, needed=("document",), optional=("query",))
        return
    assert [(q, d) for q, d, _ in pairs(row, needed=("document",), optional=("query", "negatives"))] == found


def test_a_document_without_its_queries_is_alone():
    for blank in ([], ["", " "], None, "", 5, [{"a": 1}]):
        assert records({"questions": blank, "text": "d"}, needed=("document",), optional=("query",)) == [
            {"document": "d"}
        ]


def test_several_queries_beside_lists_of_one_length_are_no_pairs():
    row, columns = {"questions": ["q", "r"], "replies": ["d", "e"]}, Columns(document=Template("{replies[0]}"))
    with pytest.raises(RowError, match="nothing says which are a pair: write a row for each"):
        read(row, columns)
    assert [r["document"] for r in records(row | {"replies": ["d"]}, columns=columns)] == ["d", "d"]


@pytest.mark.parametrize(
    "text",
    [
        "### Human: q### Assistant: d",
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nq [/INST] d </s><s>[INST] r [/INST] e </s>",
        "Below is an instruction.\n\n### Instruction:\nq\n\n### Response:\nd",
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nd<|im_end|>\n",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nd<|eot_id|>",
        "<bos><start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\nd<end_of_turn>\n",
        "<|user|>\nq</s>\n<|assistant|>\nd</s>",
        "A chat between a user and an assistant. USER: q ASSISTANT: d</s>",
        "<human>: q\n<bot>: d",
        "Human: q\nAssistant: d",
    ],
)
def test_a_chat_that_is_one_text_is_a_pair(text):
    """As templates of training write it; a text that shows one, or that nobody answers, is a text."""
    rows = {"needed": ("document",), "optional": ("query", "negatives")}
    assert pairs({"text": text}, **rows) == [("q", "d", [])]
    assert "1 of turns of a chat that are one text" in account({"text": text}, **rows)
    assert records({"text": text}, needed=("document",))[0]["document"].strip() == text.strip()
    for other in (f"How it is written: {text}", "Human: q\nAssistant:", "You are here.", "### Response: d"):
        assert records({"text": other}, **rows) == [{"document": other, "negatives": []}]


def test_what_is_asked_in_a_prompt_with_marks():
    assert pairs({"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": "d", "rejected": "n"}) == [("q", "d", ["n"])]
    assert pairs({"instruction": "[INST] more [/INST]", "input": "", "output": "d"}) == [("more", "d", [])]
    assert pairs({"query": "User: unknown", "document": "d"}) == [("User: unknown", "d", [])]


def test_elements_of_lists_that_templates_take_are_counted():
    columns = {"query": Template("{questions[0]}"), "document": Template("{a[b][-1]} {a[b][0]}")}
    line = account(
        {"questions": ["q", "r"], "a": {"b": ["d", "e"]}}, {"questions": ["s"], "a": {"b": ["d"]}}, **columns
    )
    assert line.endswith("; questions: 2 of 3 elements used")
    columns |= {"document": Template("{a[b][1]}"), "negatives": (Template("{a[b][7]} {n}"),)}
    assert account({"questions": ["q"], "a": {"b": ["d", "e"]}, "n": ""}, **columns).endswith(
        "; a[b]: 1 of 2 elements used"
    )


def test_a_question_of_schema_org_is_its_name():
    row = {"@type": "Question", "name": "q", "acceptedAnswer": {"@type": "Answer", "text": "d"}}
    assert pairs(row) == [("q", "d", [])]
    assert records({"@type": "Drug", "name": "t", "text": "d"}, needed=("document",))[0]["document"] == "t d"


def test_turns_that_are_a_list_of_texts():
    assert pairs({"conversations": ["q", "d", "r", "e"]}) == [("q", "d", [])]
    assert "2 messages of conversations were not used" in account({"conversations": ["q", "d", "r", "e"]})


def test_a_question_and_its_answer_in_one_text_are_said():
    line = account({"text": "Question: q\nAnswer: d"}, needed=("document",))
    assert "1 that begin with a question and go on with its answer, which stay one text" in line


@pytest.mark.parametrize("about", ["meta", "metadata", "extra_info", "payload"])
def test_negatives_and_titles_of_an_object_are_read(about):
    row = {"query": "q", "document": "d", about: {"hard_negatives": ["n"], "title": "of what?"}}
    assert pairs(row) == [("q", "d", ["n"])]
    assert account(row) == f"1 pair; columns used: query, document, {about}[hard_negatives]; not used: {about}"
    assert pairs(row | {"negative": "own"}) == [("q", "d", ["own"])]
    alone = {"needed": ("document",), "optional": ("query",)}
    assert read({"text": "d", about: {"title": "T"}}, **alone) == {"document": "T d"}
    assert read({"text": "d", "title": "own", about: {"title": "T"}}, **alone) == {"document": "own d"}
    assert read({"text": "d", "author": {"title": "Dr"}}, **alone) == {"document": "d"}


def test_titles_of_both_sides_are_joined():
    """Else a title alone would tell the positive from its hard negatives."""
    row = {"query": "q", "positive": "d", "negative": "n", "negative_title": "N"}
    assert pairs(row | {"title": "T"}) == [("q", "T d", ["N n"])]
    assert pairs(row | {"positive_title": "T"}) == [("q", "T d", ["N n"])]
    assert pairs(row) == [("q", "d", ["n"])]


@pytest.mark.parametrize("name", ["irrelevant", "non_relevant", "contradiction", "hn", "hard_contradiction", "worst"])
def test_more_names_of_negatives(name):
    row = {"query": "q", "document": "d", name: "The capital is Paris."}
    assert pairs(row) == [("q", "d", ["The capital is Paris."])]


def test_a_distance_says_how_far_a_document_is():
    rows = {"distance": 0.1}, {"distance": 0.9}
    with pytest.raises(InputError, match="the least of one that does not answer its query"):
        judged(*rows)
    assert judged(*rows, columns=Columns(min_score=0.5)) == [1, 0]


def test_lists_of_one_text_are_that_text():
    assert pairs({"query": ["q"], "document": ["d"], "title": ["T"]}) == [("q", "T d", [])]
    with pytest.raises(RowError, match="expected text, found"):
        pairs({"query": "q", "document": ["d", "e"]})


def test_a_message_that_calls_a_tool_answers_nothing():
    called = {"role": "assistant", "content": None, "tool_calls": [{}]}
    talk = [{"role": "user", "content": "q"}, called, {"role": "tool", "content": "t"}]
    assert pairs({"messages": [*talk, {"role": "assistant", "content": "d"}]}) == [("q", "d", [])]


def test_a_remedy_takes_sentences_whatever_their_column_is_called():
    """But no word of a protocol."""
    row = {"source": "how is anemia treated", "target": "Iron tablets restore red cells.", "neg": ["n"]}
    with pytest.raises(RowError, match=r"templates: --query '\{source\}' --document '\{target\}'$"):
        read(row)
    body = {"messages": [{"role": "user", "content": "q"}]}
    with pytest.raises(RowError, match=r"--query and --document; body\[messages\] may have several"):
        read({"custom_id": "0", "method": "POST", "url": "/v1", "body": body})


def test_numbers_of_inference_are_no_judgements():
    """Words are: an entailment answers."""
    columns = Columns(query=Template("{premise}"), document=Template("{hypothesis}"))
    row = {"premise": "q", "hypothesis": "d"}
    with pytest.raises(RowError, match="column 'label': 0 may be a class of inference, where 0 is entailment; write 1"):
        pairs(row | {"label": 0}, columns=columns)
    said = [row | {"label": label} for label in ("entailment", "contradiction")]
    assert [record.get("relevance", 1) for record in records(*said, columns=columns)] == [1, 0]


def test_judgements_of_an_object_about_the_row_are_judgements():
    rows = {"metadata": {"is_relevant": True}}, {"metadata": {"is_relevant": False}}
    assert judged(*rows) == [1, 0]
    with pytest.raises(InputError, match=r"column 'metadata\[rating\]' grades the documents \(5\): say --min-score S"):
        judged({"metadata": {"rating": 5}})
    assert judged({"metadata": {"rating": 5}, "relevant": 0}) == [0]
    assert judged({"metadata": {"rating": 5}}, columns=Columns(judged_by="none")) == [1]


def test_a_title_on_one_side_alone_is_named():
    row = {"query": "q", "title": "T", "text": "d", "negatives": ["n"]}
    assert "; 1 with a title before the document and none before its hard negatives" in account(row)
    for other in ({"negatives": [{"text": "n", "title": "N"}]}, {"negatives": []}, {"title": None}):
        assert "before its hard" not in account({**row, **other})


@pytest.mark.parametrize(("yes", "no"), [("up", "down"), ("PASS", "FAIL"), ("valid", "invalid"), ("ok", "not ok")])
def test_more_words_that_judge(yes, no):
    reader = RowReader(NO_COLUMNS, ("query", "document"))
    for word in (yes, no):
        reader("f, line 1", {"query": "q", "document": "d", "verdict": word})
    with pytest.raises(InputError, match="'verdict' looks like judgements"):
        reader.say("f")


@pytest.mark.parametrize(
    ("row", "document", "said"),
    [
        # No column of a usual name: to rename it works, and the path to an entry that is no answer does not.
        ({"question": "q", "posts": [{"text": "x", "is_correct": False}, {"text": "d", "is_correct": True}]},
         "{posts[0][text]}", "leave --document out and rename the column 'passages', so that each is read as judged"),
        # Entries whose text has no usual name: the path to the one that is taken, of which it is an answer.
        ({"question": "q", "posts": [{"say": "x", "is_correct": False}, {"say": "d", "is_correct": True}]},
         "{posts[1][say]}",
         "lbr data prepare --judged-by 'posts[1][is_correct]', or --judged-by none if they say something else"),
        ({"question": "q", "posts": [{"say": "x", "is_correct": False}, {"say": "d", "is_correct": True}]},
         "{posts[0][say]}", "lbr data prepare --judged-by none if they say something else"),
    ],
)  # fmt: skip
def test_a_remedy_for_judged_entries_leaves_an_answer_of_the_row(row, document, said):
    with pytest.raises(RowError) as error:
        records(row, columns=Columns(document=Template(document)))
    assert str(error.value).endswith(f"whatever it says: {said}")


@pytest.mark.parametrize("listed", ["answers", "comments", "ctxs"])
def test_objects_that_were_said_in_reply_are_read_as_judged_where_there_is_no_other_document(listed):
    entries = [{"body": "x", "is_accepted": False, "score": -1}, {"body": "d", "is_accepted": True, "score": 9}]
    found = records({"question": "q", listed: entries})
    assert [(record["document"], record.get("relevance", 1)) for record in found] == [("x", 0), ("d", 1)]
    assert pairs({"question": "q", "document": "e", listed: entries}) == [("q", "e", [])]
    flags = [{"text": "x", "score": 81.2, "has_answer": False}, {"text": "d", "score": 80.1, "has_answer": True}]
    assert [record.get("relevance", 1) for record in records({"question": "q", listed: flags})] == [0, 1]


@pytest.mark.parametrize(
    "name", ["spam", "is_spam", "hallucinated", "toxicity_label", "error", "answer_is_wrong", "flagged"]
)
def test_columns_that_judge_in_reverse_say_so_and_are_read_so(name):
    rows = [{"query": "q", "passage": passage, name: is_wrong} for passage, is_wrong in (("d", False), ("x", True))]
    reader = RowReader(Columns(), ("query", "document"))
    for row in rows:
        reader("f, line 2", row)
    with pytest.raises(InputError) as error:
        reader.say("f")
    assert str(error.value).endswith(
        f"--judged-by '{name}' if it says whether the document of a row answers its query (true: it does not), else "
        "--judged-by none"
    )
    judged = [records(row, columns=Columns(judged_by=name)) for row in rows]
    assert [found[0].get("relevance", 1) for found in judged] == [1, 0]
    # What is said of them in words is no judgement, and no hard negative.
    assert pairs({"query": "q", "passage": "d", name: "the other end hung up early"}) == [("q", "d", [])]


def test_which_of_two_values_counts_is_said_and_what_to_do_where_it_is_the_other():
    rows = [{"query": "q", "passage": passage, "verdict": word} for passage, word in (("d", "good"), ("x", "bad"))]
    reader = RowReader(Columns(), ("query", "document"))
    for row in rows:
        reader("f, line 2", row)
    with pytest.raises(
        InputError, match=r'\("good": it does; call it is_irrelevant if it is the other way round\), else'
    ):
        reader.say("f")
    renamed = [{"is_irrelevant" if name == "verdict" else name: value for name, value in row.items()} for row in rows]
    assert [records(row)[0].get("relevance", 1) for row in renamed] == [0, 1]


@pytest.mark.parametrize("name", ["rejected", "negative", "is_negative", "hard_negative"])
def test_a_flag_under_the_name_of_hard_negatives_judges(name):
    rows = [{"query": "q", "document": text, name: is_one} for text, is_one in (("d", False), ("x", True))]
    assert [records(row)[0].get("relevance", 1) for row in rows] == [1, 0]


@pytest.mark.parametrize(
    ("row", "query", "document"),
    [
        ({"repo": "a/b", "func_name": "f", "code": "def f(x): return x", "docstring": "a b c"}, "docstring", "code"),
        ({"whole_func_string": "def f: pass # no", "func_code_string": "def f: pass",
          "func_documentation_string": "does nothing at all"}, "func_documentation_string", "func_code_string"),
        ({"snippet": "ls -l | wc", "intent": "count the files"}, "intent", "snippet"),
        ({"article": "Iron tablets treat it.", "highlights": "Iron helps it."}, "highlights", "article"),
        ({"definition": "a metal of cells", "term": "zinc of cells"}, "term", "definition"),
        ({"target": "das ist Zink", "source": "this is zinc"}, "source", "target"),
    ],
)  # fmt: skip
def test_known_pairs_of_columns_are_offered_the_right_way_round(row, query, document):
    for values in (row, dict(reversed(row.items()))):
        with pytest.raises(RowError) as error:
            read(values)
        assert str(error.value).endswith(f"takes templates: --query '{{{query}}}' --document '{{{document}}}'")


def test_of_two_texts_of_unknown_names_none_is_said_to_be_the_query():
    for row in ({"spam": "a text", "eggs": "another text"}, {"eggs": "another text", "spam": "a text"}):
        with pytest.raises(RowError, match=r"takes templates, --query and --document; texts are in \{"):
            read(row)


@pytest.mark.parametrize(
    "value", [{"docid": "d3"}, [{"docid": "d3"}, {"docid": "d4"}], [3, 4], {"id": 7, "title": "t"}]
)
def test_negatives_given_by_id_need_their_texts(value):
    with pytest.raises(RowError, match="which stands for a text of another file: put the text there in its place"):
        read({"query": "q", "positive": "d", "negatives": value})


def test_parts_of_messages_are_read_and_those_that_are_no_text_are_counted():
    image = {"type": "image_url", "image_url": {"url": "u"}}
    asked = {"role": "user", "content": [image, {"type": "text", "text": "q"}, {"type": "text", "text": "r"}]}
    talk = [asked, {"role": "assistant", "content": [{"type": "text", "text": "d"}]}]
    assert pairs({"messages": talk}) == [("q\nr", "d", [])]
    said = "1 parts of messages that are no text, such as images, were not used"
    assert account({"messages": talk}).endswith(said)
    row = {"query": [{"type": "text", "text": "q"}], "positive": [image, {"type": "text", "text": "d"}]}
    assert pairs(row) == [("q", "d", [])]
    assert account(row).endswith(said)
    assert pairs({"query": "q", "chosen": [*talk[:1], {"role": "model", "parts": ["d", "e"]}]}) == [("q", "d\ne", [])]


def test_a_title_of_two_sides_is_offered_only_as_it_works():
    with pytest.raises(RowError) as error:
        read({"title": "t t", "question": "is it", "answer": {"text": "d"}})
    assert str(error.value).endswith("to 'answer': lbr data prepare takes templates, --query '{title} {question}'")


@pytest.mark.parametrize("word", ["checked", "yes", True, "\u2713"])
def test_a_box_that_is_ticked_or_not_looks_like_judgements(word):
    reader = RowReader(Columns(), ("query", "document"))
    rows = [{"query": "q", "document": text, "Approved": said} for text, said in (("d", word), ("e", word), ("x", ""))]
    for row in rows:
        reader("f, line 2", row)
    with pytest.raises(InputError, match="'Approved' is blank in some rows and says yes .* write 1 and 0 there"):
        reader.say("f")
    named = RowReader(Columns(judged_by="Approved"), ("query", "document"))
    for row in rows:
        named("f, line 2", row)
    with pytest.raises(InputError, match="column 'Approved' is blank in 1 rows and says yes in all others"):
        named.say("f")


def test_of_two_columns_that_ask_one_may_be_what_is_asked_for():
    with pytest.raises(RowError, match=r"--query and --document; texts are in \{question\}, \{query\}$"):
        read({"question": "how many are there", "query": "SELECT COUNT(*) FROM t", "db_id": "x"})


@pytest.mark.parametrize(
    "name",
    ["median_relevance", "mean_relevance_score", "avg_rating", "human_label", "relevance_mean", "majority_label"],
)
def test_judgements_that_were_made_one_are_judgements(name):
    with pytest.raises(InputError, match=f"column '{name}' grades the documents .4.: say --min-score S"):
        judged({name: 4})
    assert judged({name: 4}, {name: 1}, columns=Columns(min_score=3)) == [1, 0]


def test_a_remedy_has_the_title_before_the_text_of_a_product():
    with pytest.raises(RowError, match=r"templates: --document '\{product_title\} \{product_description\}'$"):
        read({"query": "q of us", "product_title": "Malaria", "product_description": "A parasite causes it."})


def test_a_remedy_for_an_answer_of_a_model_is_no_word_of_the_service():
    body = {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "A parasite."}}]}
    with pytest.raises(RowError, match=r"--document '\{response\[body\]\[choices\]\[0\]\[message\]\[content\]\}'"):
        read({"response": {"status_code": 200, "body": body}}, needed=("document",))
    with pytest.raises(RowError, match="and no other column has a text that could be it"):
        read({"response": {"body": {"shape": "chat.completion"}}}, needed=("document",))


def test_a_prompt_and_its_completion_may_be_messages():
    asked = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "why?"}]
    row = {"prompt": asked, "completion": [{"role": "assistant", "content": "so"}]}
    assert pairs(row) == [("why?", "so", [])]


@pytest.mark.parametrize(
    "values",
    [
        ("Relevant", "Not relevant", "Partially relevant"),
        ("good", None, "bad", "fair"),
        ("highly relevant", "marginally relevant"),
    ],
)
def test_words_that_judge_beside_others_are_to_be_written_as_numbers(values):
    reader = RowReader(NO_COLUMNS, ("query", "document"))
    for said in values:
        reader("f, line 2", {"query": "q", "document": "d", "choice": said})
    with pytest.raises(InputError, match="nothing says which of them are of answers: write 1 and 0 there"):
        reader.say("f")


def test_a_list_of_sentences_is_to_be_joined():
    with pytest.raises(
        RowError, match="a template takes one; where abstract has the sentences of one text, join them f"
    ):
        read(
            {"doc_id": 4, "title": "Malaria", "abstract": ["A parasite causes it.", "So it is."]}, needed=("document",)
        )


def test_of_many_columns_some_are_named():
    with pytest.raises(RowError, match=r"found: c0, .*, c29 and 10 more; looked for") as error:
        read({f"c{number}": number for number in range(40)})
    assert "c30" not in str(error.value)
