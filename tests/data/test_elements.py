"""Text files of several documents, each in an element of its own."""

import logging

import pytest

from lbr_st.data.account import Account
from lbr_st.data.elements import elements_of
from lbr_st.data.passages import Chunker, passages_of
from lbr_st.data.records import read_passages

WIKI = """<doc id="12" url="https://x?curid=12" title="The &amp; "Iron"">
The & "Iron"

Iron tablets treat anemia.
</doc>
<doc id="13" url="https://x?curid=13" title="Zinc">
Zinc

Zinc is a metal. Enzymes need it.

It is in nuts.
</doc>
"""
TREC = """<DOC>
<DOCNO> FT-1 </DOCNO>
<DATE>1999</DATE>
<HEADLINE>Iron</HEADLINE>
<TEXT>
<P>Tablets treat anemia &amp; more.</P>
</TEXT>
<TEXT>Red cells return.</TEXT>
</DOC>
<DOC>
<DOCNO>FT-2</DOCNO>
Zinc is a metal.
</DOC>
"""
PAGES = """<page>
  <title>Zinc</title>
  <id>7</id>
  <revision>
    <text bytes="3">Zinc is a metal.</text>
  </revision>
</page>
"""


# As MediaWiki exports it: what it says of the site, then all versions of each page, the last of which is the text.
EXPORT = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="en">
  <siteinfo>
    <sitename>Wiki</sitename>
  </siteinfo>
  <page>
    <title>Zinc</title>
    <id>7</id>
    <revision>
      <text bytes="3">Zinc was a metal.</text>
    </revision>
    <revision>
      <text bytes="3">Zinc is a metal.</text>
    </revision>
  </page>
  <page>
    <title>Iron</title>
    <id>8</id>
    <revision>
      <text bytes="3">Iron is, too.</text>
    </revision>
  </page>
</mediawiki>
"""


def test_versions_that_are_not_used_are_said():
    account = Account()
    elements_of(EXPORT, account)
    assert "1 versions of a text before its last one, which were not used" in account.notes
    assert "<revision>" not in account.notes


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (WIKI, [("12", 'The & "Iron"\n\nIron tablets treat anemia.', 1),
                ("13", "Zinc\n\nZinc is a metal. Enzymes need it.\n\nIt is in nuts.", 6)]),
        (f"\ufeff\n{WIKI}"[:-8], [("12", 'The & "Iron"\n\nIron tablets treat anemia.', 2),
                                  ("13", "Zinc\n\nZinc is a metal. Enzymes need it.\n\nIt is in nuts.", 7)]),
        (TREC, [("FT-1", "Iron Tablets treat anemia & more.\n\nRed cells return.", 1),
                ("FT-2", "Zinc is a metal.", 10)]),
        (PAGES, [("7", "Zinc Zinc is a metal.", 1)]),
        (EXPORT, [("7", "Zinc Zinc is a metal.", 5), ("8", "Iron Iron is, too.", 15)]),
        ("Iron tablets.\n<doc id=\"1\">\nx\n</doc>", []),
        ("plain text", []),
    ],
)  # fmt: skip
def test_each_element_is_a_document_with_its_id_and_title(text, found):
    assert [each[:3] for each in elements_of(text, Account())] == found


def test_what_is_left_aside_of_a_file_of_elements_is_said(tmp_path, caplog):
    (tmp_path / "wiki.txt").write_text(f"{WIKI}outside\n", encoding="utf-8")
    (tmp_path / "trec.txt").write_text(TREC)
    with caplog.at_level(logging.INFO):
        records = read_passages(tmp_path)
    assert {record["id"] for record in records} == {"12", "13", "FT-1", "FT-2"}
    line = caplog.messages[-1]
    assert "2 documents, each in an element <DOC> of its own; 1 with <date>, which was not used" in line
    assert "; 2 with url, which was not used" in line
    assert "; 2 documents, each in an element <doc> of its own" in line
    assert "1 lines outside of the elements, which were not used" in line


def test_markup_that_stays_in_a_text_is_said(tmp_path, caplog):
    (tmp_path / "topics.txt").write_text("<top>\n<num> 301\n<title> zinc and iron\n</top>\n")
    (tmp_path / "plain.txt").write_text("Iron < zinc, <b>says</b> the book.\n<hr>\n")
    with caplog.at_level(logging.INFO):
        read_passages(tmp_path)
    assert "1 with lines of markup, such as <top>, <num>, <title>, which stays in the text" in caplog.messages[-1]
    assert "<hr>" not in caplog.messages[-1]


def test_passages_of_an_element_have_the_ids_of_those_of_a_row():
    found = list(passages_of("a.txt", WIKI, Chunker(11)))
    assert [each["id"] for each in found] == ["12", "13#1", "13#2"]
    assert [each["document"] for each in found][1:] == [
        "Zinc\n\nZinc is a metal. Enzymes need it.",
        "Zinc\n\nIt is in nuts.",
    ]
    assert [each["id"] for each in passages_of("a.txt", "<doc>\nZinc is a metal.\n</doc>", Chunker(9))] == ["a.txt:1"]
