"""Text files whose lines begin with marks of a format."""

import pytest

from lbr_st.data.account import Account
from lbr_st.data.marked_lines import note_marks, references_of
from lbr_st.data.passages import Chunker, passages_of

FILES = {
    "PubMed": "\ufeff\nPMID- 7\nOWN - NLM\nTI  - Malaria in\n      children\nAB  - A parasite\n      causes it.\n"
    "AU  - Smith J\nAU  - Poe E\n\nPMID- 8\nTI  - Anemia\nAB  - Iron helps.\nAU  - Roe\n",
    "RIS": "TY  - JOUR\nID  - 7\nT1  - Malaria in children\nAB  - A parasite causes it.\nAU  - Smith\nER  - \n\n"
    "TY  - JOUR\nID  - 8\nTI  - Anemia\nN2  - Iron helps.\nER  - \n",
    "EndNote": "%0 Journal Article\n%T Malaria in children\n%A Smith\n%X A parasite causes it.\n%M 7\n\n"
    "%0 Book\n%T Anemia\n%X Iron helps.\n%M 8\n",
    "Web of Science": "FN Clarivate\nVR 1.0\nPT J\nAU Smith, J\n   Poe, E\nTI Malaria in\n   children\nAB A parasite\n"
    "   causes it.\nUT 7\nER\n\nPT J\nTI Anemia\nAB Iron helps.\nUT 8\nER\n\nEF\n",
}


@pytest.mark.parametrize("kind", FILES)
def test_each_record_of_a_file_of_references_is_a_document(kind):
    account = Account()
    found = references_of(FILES[kind], account)
    assert [(each.id, each.text) for each in found] == [
        ("7", "Malaria in children A parasite causes it."),
        ("8", "Anemia Iron helps."),
    ]
    assert f"2 documents, each a record of {kind}" in account.notes
    assert "fields, which were not used: " in account.notes


def test_records_of_references_are_passages_with_their_ids():
    found = list(passages_of("a.txt", FILES["PubMed"], Chunker(99), Account()))
    assert [each["id"] for each in found] == ["7", "8"]


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        (
            "__label__neg A b\n__label__pos C d\n__label__neg E\n__label__neg F",
            "__label__neg, __label__pos, as those of f",
        ),
        ("BEGIN:VCARD\nVERSION:3.0\nFN:Jo\nEND:VCARD\n", "BEGIN:VCARD, as those of vCard"),
        (
            "1\n00:00:00,000 --> 00:00:02,000\nHi there.\n\n2\n00:00:02,000 --> 00:00:04,000\nYou.\n",
            "-->, as times of su",
        ),
        (
            "@article{a,\n  title = {T},\n  abstract = {A},\n}\n@book{b,\n title={U},\n}\n@article{c,\n}",
            "as those of BibTeX",
        ),
        ('{"a": 1}\n{"a": 2}\n{"a": 3}\n{"a": 4}\n', "named .jsonl"),
        ("Question: a\nAnswer: b\n\nQuestion: c\nAnswer: d\n", "Question:, Answer:, as fields do"),
        ("From jo@x.org Mon Jan  1 00:00:00 2024\nSubject: s\n\nHello.\n", "From, as mail in an mbox"),
        ("WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nHi\n", "-->, as times of subtitles"),
        ("\\documentclass{article}\n\\begin{document}\nHi.\n", "\\documentclass, as commands of LaTeX"),
        ("#+TITLE: Notes\n* One\nText.\n", "#+TITLE, as those of Org"),
        ("[2024-01-01, 10:00] Jo: hi\n[2024-01-01, 10:01] Al: ho\n[2024-01-02, 10:00] Jo: a\nb\n", "a log or a chat"),
        ("a\tb c\nd\te f\ng\th i\nj\tk l\n", "with columns between tabs or commas"),
        ("question,answer\na,b\nc,d\ne,f\n", "with columns between tabs or commas"),
    ],
)
def test_a_format_that_nothing_reads_is_named(text, noted):
    account = Account()
    list(passages_of("a.txt", text, Chunker(99), account))
    assert noted in account.notes


@pytest.mark.parametrize(
    "text",
    [
        "Iron helps.\nMalaria is caused by a parasite.\nZinc is a metal.\nA note: it is needed.\nBut not much.\n",
        "Dear Jo,\n\nFrom 2023 on: we met.\nIt was fine.\nNote: bring it.\nBye\n",
        "1\n2\n3\n4\n5\n",
        "- one\n- two\n- three\n- four\n",
        "PT is a city.\nTI is a note.\nAB too.\n" * 3,
    ],
)
def test_running_text_has_no_marks(text):
    account = Account()
    assert references_of(text, account) == []
    note_marks(text, account)
    assert account.notes == ""
