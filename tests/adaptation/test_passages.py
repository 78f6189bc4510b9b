"""Which passages queries are written for, and which titles and queries they have already."""

import pytest
from shapes import PAIRS, beir, markdown, read, sides, write_jsonl

from lbr_st.adaptation.passages import Passage, read_passages_of
from lbr_st.data.drops import Drops
from lbr_st.data.parts import Reading
from lbr_st.errors import InputError


def found(*sources, pairs=None, lost=None):
    return read_passages_of([*map(str, sources)], pairs, Reading(), Drops() if lost is None else lost)


def test_text_files_have_headings_and_docstrings(tmp_path):
    """Documents keep their markup; the title of the page is above its headings."""
    (tmp_path / "a.md").write_text("---\ntitle: Guide\n---\n# Lists\n\nA `List<T>` has <b>many</b> items.\n")
    (tmp_path / "b.html").write_text("<h1>Gout</h1><p>It hurts.</p>")
    (tmp_path / "c.py").write_text('def f(x):\n    """Return it twice."""\n    return 2 * x\n')
    (tmp_path / "d.txt").write_text("Text alone.")
    assert found(tmp_path) == [
        Passage("a.md:6", "A `List<T>` has <b>many</b> items.", tmp_path.name, ["Guide > Lists"], []),
        Passage("b.html#1", "It hurts.", tmp_path.name, ["Gout"], []),
        Passage("c.py:1", "def f(x):\n    return 2 * x", tmp_path.name, ["Return it twice."], []),
        Passage("d.txt:1", "Text alone.", tmp_path.name, [], []),
    ]


def test_rows_have_queries_titles_or_neither(tmp_path):
    """A title is a part of the document everywhere, and a query too. A text is one passage, whatever it answers."""
    rows = [
        {"id": "1", "question": "Why?", "answer": "Because."},
        {"id": "2", "question": "How so?", "answer": "because"},
        {"id": "3", "title": "Gout ", "text": "It hurts."},
        {"id": "4", "text": "Alone."},
        {"id": "5", "question": "Why?", "answer": "No answer.", "label": 0},
    ]
    files = [write_jsonl(tmp_path / f"{row['id']}.jsonl", [row]) for row in rows]
    assert found(*files) == [
        Passage("1", "Because.", "1.jsonl", [], ["Why?", "How so?"]),
        Passage("3", "Gout It hurts.", "3.jsonl", ["Gout"], []),
        Passage("4", "Alone.", "4.jsonl", [], []),
        Passage("5", "No answer.", "5.jsonl", [], []),
    ]


def test_a_title_is_said_once_to_the_model():
    assert Passage("1", "It hurts.", "s", ["Gout"]).titled == "Gout\nIt hurts."
    assert Passage("1", "Gout It hurts.", "s", ["Gout"]).titled == "Gout It hurts."
    assert Passage("1", "It hurts.", "s").titled == "It hurts."


def test_beir_has_titles(tmp_path):
    beir(tmp_path)
    (tmp_path / "beir" / "qrels" / "dev.tsv").unlink()
    (tmp_path / "beir" / "qrels" / "test.tsv").unlink()
    passages = {passage.id: passage for passage in found(tmp_path / "beir")}
    assert len(passages) == len(PAIRS)
    first = passages[PAIRS[0]["id"]]
    assert first.titles == [PAIRS[0]["focus"]] and first.given == [PAIRS[0]["question"]]
    assert all(not passage.given for id_, passage in passages.items() if id_ in {p["id"] for p in PAIRS[30:50]})


def test_no_passage_of_a_set_is_held_out(prepare, tmp_path):
    """Its corpus without dev and test; headings are told from queries in a prepared set too."""
    folder = prepare(**markdown(tmp_path), test=6, dev=3)
    lost = Drops()
    passages = found(folder, lost=lost)
    held_out = {row["document"] for name in ("test", "dev") for row in read(folder, name)}
    documents = {passage.document for passage in passages}
    assert len(held_out) == 9 and not documents & held_out
    assert documents | held_out == {row["document"] for row in read(folder, "corpus")}
    assert lost.counts == {"passage: held out": 9}
    titles = {row["document"]: row["query"] for row in read(folder, "align")}
    assert {passage.document: passage.titles for passage in passages} == {d: [q] for d, q in titles.items()}
    assert not any(passage.given for passage in passages)
    assert {passage.document for passage in found(folder / "corpus.jsonl")} == documents
    with pytest.raises(InputError, match="no passages to write queries for; left out were 6 passage: held out"):
        found(folder / "test.jsonl")


def test_queries_of_a_set_are_given(prepare, tmp_path):
    folder = prepare(**sides(tmp_path))
    given = {passage.document: passage.given for passage in found(folder) if passage.given}
    assert given == {row["document"]: [row["query"]] for row in read(folder, "align")}


def test_a_folder_with_sides_is_read_without_what_it_holds_out(tmp_path):
    [folder] = sides(tmp_path)["sources"]
    write_jsonl(
        tmp_path / "sides" / "train.jsonl", [*PAIRS[:40], {"question": "Again?", "answer": PAIRS[50]["answer"]}]
    )
    lost = Drops()
    assert [passage.document for passage in found(folder, lost=lost)] == [pair["answer"] for pair in PAIRS[:40]]
    assert lost.counts == {"passage: held out": 1}


def test_pairs_join_the_passages_they_answer(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Gout\n\nIt hurts.\n")
    rows = [("7", "Does gout hurt?", "It hurts."), ("a.md:3", "Else?", "Something else.")]
    pairs = write_jsonl(
        tmp_path / "few.jsonl", [dict(zip(("id", "query", "document"), row, strict=True)) for row in rows]
    )
    assert found(tmp_path / "docs", pairs=pairs) == [
        Passage("a.md:3", "It hurts.", "docs", ["Gout"], ["Does gout hurt?"]),
        Passage("a.md:3#2", "Something else.", "few.jsonl", [], ["Else?"]),
    ]


def test_hard_negatives_that_are_not_kept_are_counted(tmp_path, caplog):
    rows = [{"query": f"q{n}", "positive": f"d{n}", "negatives": [f"x{n}", f"y{n}"]} for n in range(3)]
    assert [passage.given for passage in found(write_jsonl(tmp_path / "rows.jsonl", rows))] == [["q0"], ["q1"], ["q2"]]
    assert "not kept: 6 hard negatives, as queries have none" in caplog.text
