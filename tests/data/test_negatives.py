"""Hard negatives that are no texts, as readers of records see them."""

import logging

import pytest

from lbr_st.data.records import read_tuples
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl

DOCUMENT = "Iron tablets restore the red cells."


def tuples(folder, *negatives, document=DOCUMENT):
    write_jsonl(
        folder / "f.jsonl",
        [{"query": f"q {n}", "positive": document, "neg": [*each]} for n, each in enumerate(negatives)],
    )
    return [record["negatives"] for record in read_tuples(folder / "f.jsonl")]


@pytest.mark.parametrize(
    "mark", ["-", "--", "–", "?", "???", ".", "…", "n/a".upper()[1], " / ", "TBD", "(blank)", "n.a.", "none."]
)
def test_marks_that_stand_for_nothing_are_no_negatives(tmp_path, caplog, mark):
    with caplog.at_level(logging.INFO):
        assert tuples(tmp_path, [mark, "Zinc is a metal."], ["∅"]) == [["Zinc is a metal."], ["∅"]]
    assert "1 hard negatives left out that say nothing" in caplog.text


def test_a_list_that_is_written_out_and_meant_as_text_is_named(tmp_path, caplog):
    write_jsonl(tmp_path / "f.jsonl", [{"query": "q", "output": "['D d', 'E e']"}])
    with caplog.at_level(logging.INFO):
        read_tuples(tmp_path / "f.jsonl")
    assert "1 with a list that is written out, taken as a text as it stands" in caplog.text


@pytest.mark.parametrize("reference", ["d1", "17", "0.0", "FALSE", "doc_12", "PMC123-4", "MED-10"])
def test_ids_are_no_negatives(tmp_path, caplog, reference):
    with pytest.raises(InputError, match=r"f.jsonl: the hard negatives are no texts \(\"" + reference):
        tuples(tmp_path, [reference], [reference, "d2"])
    with caplog.at_level(logging.INFO):  # among texts it may be one
        assert tuples(tmp_path, [reference], ["Zinc is a metal."]) == [[reference], ["Zinc is a metal."]]
    assert "1 hard negatives that look like an id or a number, taken as texts" in caplog.text


def test_numbers_are_negatives_of_numbers(tmp_path):
    assert tuples(tmp_path, ["1492"], document="1493") == [["1492"]]


@pytest.mark.parametrize("mark", ["|", " || ", "\n"])
def test_several_negatives_in_one_text_are_named(tmp_path, caplog, mark):
    text = f"Bread rises.{mark}Zinc is a metal."
    with caplog.at_level(logging.INFO):
        assert tuples(tmp_path, [text]) == [[text]]
    assert "1 hard negatives of several lines or with | in them, each taken as one text" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):  # documents have lines, too
        tuples(tmp_path, [text], document=f"Iron{mark}helps.")
    assert "several lines" not in caplog.text


@pytest.mark.parametrize("mark", ["|", " ||| ", "\n"])
@pytest.mark.parametrize(
    ("positives", "negatives"), [("positives", "negatives"), ("positive_passages", "hard_negatives"), ("pos", "neg")]
)
def test_cells_of_several_texts_that_are_one_are_counted_in_every_column_of_several(
    tmp_path, caplog, mark, positives, negatives
):
    good, bad = f"Iron tablets help.{mark}Red meat helps.", f"Bread rises.{mark}Zinc is a metal."
    write_jsonl(tmp_path / "f.jsonl", [{"query": "how is anemia treated", positives: good, negatives: bad}])
    with caplog.at_level(logging.INFO):
        assert [record["document"] for record in read_tuples(tmp_path / "f.jsonl")] == [good]
    assert (
        "; 1 documents of several lines or with | in them, each taken as one text; "
        "1 hard negatives of several lines or with | in them, each taken as one text"
    ) in caplog.text
    caplog.clear()
    write_jsonl(
        tmp_path / "f.jsonl", [{"query": "q", positives: ["Iron tablets help.", "Red meat"], negatives: ["Zinc"]}]
    )
    with caplog.at_level(logging.INFO):
        read_tuples(tmp_path / "f.jsonl")
    assert "several lines" not in caplog.text


@pytest.mark.parametrize(("text", "is_named"), [("a ||| b", True), ("a [SEP] b", True), ("a\nb | c", False)])
def test_documents_that_people_joined_are_counted(tmp_path, caplog, text, is_named):
    with caplog.at_level(logging.INFO):
        tuples(tmp_path, [f"{text} c"], document=text)
    assert ("1 documents of several lines" in caplog.text) is is_named
    assert ("1 hard negatives of several lines" in caplog.text) is is_named


@pytest.mark.parametrize("name", ["positive", "document", "positives"])
def test_documents_that_are_ids_are_refused(tmp_path, caplog, name):
    rows = [{"query": "how is anemia treated", name: id_} for id_ in ("MED-10", "d2")]
    write_jsonl(tmp_path / "f.jsonl", rows)
    with pytest.raises(
        InputError, match=r'f.jsonl: the documents are no texts \("MED-10", "d2"\): put the texts there'
    ):
        read_tuples(tmp_path / "f.jsonl")
    rows += [{"query": "when did it begin", name: text} for text in ("1492", "In spring.")]
    write_jsonl(tmp_path / "f.jsonl", rows)
    with caplog.at_level(logging.INFO):  # among texts they may be some
        assert len(read_tuples(tmp_path / "f.jsonl")) == 4
    assert "; 1 documents that are a number alone; 2 documents that look like an id, taken as texts" in caplog.text


def test_a_query_that_is_its_own_document_is_named(tmp_path, caplog):
    write_jsonl(tmp_path / "f.jsonl", [{"query": "text", "positive": "text"}, {"query": "q", "positive": "d"}])
    with caplog.at_level(logging.INFO):
        read_tuples(tmp_path / "f.jsonl")
    assert "2 pairs; columns used: query, positive; 1 with a query that is its own document" in caplog.text


def test_a_mark_is_no_document(tmp_path):
    write_jsonl(tmp_path / "f.jsonl", [{"query": "q", "positive": "--"}])
    with pytest.raises(InputError, match="line 1: nothing is left of the document once it is clean"):
        read_tuples(tmp_path / "f.jsonl")
