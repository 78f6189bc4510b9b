"""Passages: what is cut where, and that ids lead back."""

import unicodedata
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbr_st.data.account import Account
from lbr_st.data.folders import note_files, text_files
from lbr_st.data.passages import Chunker, passages_of, read_text_files
from lbr_st.data.records import read_passages, read_text_records
from lbr_st.data.words import count_words
from lbr_st.errors import InputError

PIECES = st.lists(
    st.sampled_from(["word", "Ünïcode 中文", "sentence. Another one!", "    indented", "a=b;", "", " ", "\t", "#"]),
    max_size=30,
)


PIECES_OF_LONG = [
    "word",
    "水在一百",
    "น้ำเดือด",
    "one. Two! ",
    "a=b;",
    "    in",
    "x" * 30,
    " " * 200,
    "e\u0301",
    "👩🏽\u200d🔬",
]


@settings(deadline=None)
@given(pieces=PIECES, breaks=st.lists(st.sampled_from([" ", "\n", "\n\n", "\n\n\n"]), min_size=30, max_size=30))
def test_chunks_are_the_text_itself(pieces, breaks):
    """In order, none too long, nothing lost but white space, each on the line it says."""
    text = "".join(piece + space for piece, space in zip(pieces, breaks, strict=False))
    chunks = list(Chunker(5).cut(text))
    assert "".join("".join(chunk.split()) for _, chunk in chunks) == "".join(text.split())
    at = 0
    for line, chunk in chunks:
        start = text.index(chunk, at)
        at = start + len(chunk)
        assert text.count("\n", 0, start) + 1 == line
        assert count_words(chunk) <= 5 and chunk.strip()


@settings(deadline=None, max_examples=100)
@given(
    pieces=st.lists(st.sampled_from([*PIECES_OF_LONG, " ", "\n", "\n\n", "\n\n\n"]), max_size=200),
    tokens=st.integers(1, 6),
)
def test_a_text_is_cut_as_it_is_as_a_whole(pieces, tokens):
    """Long ones are cut a block at a time, which nobody can see."""
    text = "".join(pieces)
    chunker = Chunker(tokens)
    assert list(chunker._chunks(text)) == list(chunker._splitter.chunk_indices(text))


def test_boundaries():
    """Paragraphs before lines, lines before sentences, and functions whole."""
    assert [c for _, c in Chunker(4).cut("One two.\n\nThree four. Five six.")] == [
        "One two.",
        "Three four.",
        "Five six.",
    ]
    code = "def a():\n    return 1\n\n\ndef b():\n    return 2\n"
    assert [(n, c) for n, c in Chunker(8).cut(code)] == [(1, "def a():\n    return 1"), (5, "def b():\n    return 2")]


MARKDOWN = """Before any heading.

# Guide
Intro.

## Install
```
# no heading
pip
```

Setext
------
Text *of* it.

### Deep
d

# Other
"""


def test_headings_are_the_queries_of_their_passages():
    found = [(p["id"], p.get("query"), p["document"]) for p in passages_of("a.md", MARKDOWN, Chunker(50))]
    assert found == [
        ("a.md:1", None, "Before any heading."),
        ("a.md:4", "Guide", "Intro."),
        ("a.md:7", "Guide > Install", "```\n# no heading\npip\n```"),
        ("a.md:14", "Guide > Setext", "Text *of* it."),
        ("a.md:17", "Guide > Setext > Deep", "d"),
    ]


def test_a_quoted_heading_is_text():
    [passage] = passages_of("a.md", "# A\n\n> # quoted\n> text", Chunker(50))
    assert (passage["query"], passage["document"]) == ("A", "> # quoted\n> text")


def test_long_sections_are_cut():
    text = "# A\n" + "\n\n".join(f"Paragraph number {n}." for n in range(4))
    found = list(passages_of("a.md", text, Chunker(8)))
    assert [(p["id"], p["query"]) for p in found] == [("a.md:2", "A"), ("a.md:6", "A")]


@pytest.mark.parametrize(
    ("head", "lines"),
    [
        ("---\ntitle: My page\ntags: [a]\n---\n", 4),
        ("+++\ntitle = 'My page'\n+++\n", 3),
        ("---\ntitle: 'My page'\n...\n", 3),
    ],
)
def test_front_matter_is_a_title_and_no_text(head, lines):
    """Its title is above all headings, and ids are lines of the file."""
    body = "Before.\n\n# My Page\nIntro.\n\n## Install\npip\n\n# Other\nText.\n"
    found = [(p["id"], p["query"], p["document"]) for p in passages_of("a.md", head + body, Chunker(50))]
    assert found == [
        (f"a.md:{lines + 1}", "My page", "Before."),
        (f"a.md:{lines + 4}", "My page", "Intro."),
        (f"a.md:{lines + 7}", "My page > Install", "pip"),
        (f"a.md:{lines + 10}", "My page > Other", "Text."),
    ]


def test_front_matter_of_html_and_of_pages_without_a_title():
    [page] = passages_of("a.html", "---\nlayout: page\ntitle: T\n---\n<p>One.</p>", Chunker(50))
    assert (page["query"], page["document"]) == ("T", "One.")
    [page] = passages_of("a.md", "---\nlayout: page\n---\nOne.", Chunker(50))
    assert page == {"id": "a.md:4", "document": "One."}
    [page] = passages_of("a.txt", "---\ntitle: T\n---\nOne.", Chunker(50))
    assert page == {"id": "a.txt:4", "document": "One."}


def test_the_title_of_html_without_a_heading_is_that_of_its_page():
    head = "<html><head><title>Zinc \n in food</title></head>"
    [page] = passages_of("a.html", f"{head}<body><p>One.</p></body></html>", Chunker(50))
    assert (page["query"], page["document"]) == ("Zinc in food", "One.")
    [page] = passages_of("a.html", f"---\ntitle: T\n---\n{head}<h2>Uses</h2><p>One.</p>", Chunker(50))
    assert page["query"] == "T > Uses"


def test_a_text_of_lines_that_are_sentences_is_said():
    for text, number in (("It is. \n" * 5, 1), ("It is.\n" * 4, 0), ("A line that is\nbroken here.\n" * 3, 0)):
        account = Account()
        assert len(list(passages_of("a.txt", text, Chunker(50), account))) == 1
        assert ("1 of lines that each end a sentence, joined to passages" in account.notes) is bool(number)


@pytest.mark.parametrize("end", ["", "</head>"])
def test_html_whose_head_does_not_end(end):
    """Which HTML allows: what follows is no part of it."""
    text = f"<html><head><title>Zinc</title><style>p {{}}</style>{end}<body><h1>Guide</h1><p>One.</p></body></html>"
    [page] = passages_of("a.html", text, Chunker(50))
    assert (page["query"], page["document"]) == ("Guide", "One.")


def test_html():
    text = (
        "<html><head><title>t</title></head><nav>menu</nav><h1>Guide</h1><p>Intro &amp; more.</p><script>x</script>"
        "<h2>Install</h2><p>pip</p>"
    )
    found = [(p["id"], p["query"], p["document"]) for p in passages_of("a.html", text, Chunker(50))]
    assert found == [("a.html#1", "Guide", "Intro & more."), ("a.html#2", "Guide > Install", "pip")]


PYTHON = '''import os


@cache
def first(a):
    """Return the first of all."""
    return a


class B:
    def second(self):
        return 2
'''


def test_python():
    """A documented function is asked for by its docstring; the rest of the file is passages."""
    found = [(p["id"], p.get("query"), p["document"]) for p in passages_of("m.py", PYTHON, Chunker(50))]
    assert found == [
        ("m.py:5", "Return the first of all.", "def first(a):\n    return a"),
        ("m.py:1", None, "import os"),
        ("m.py:10", None, "class B:\n    def second(self):\n        return 2"),
    ]
    assert [p["document"] for p in passages_of("n.py", "print 'python 2'", Chunker(50))] == ["print 'python 2'"]
    line = 'def size(self) -> int: """Count the rows."""'  # of which nothing would be left without its docstring
    assert [(p.get("query"), p["document"]) for p in passages_of("s.py", line, Chunker(50))] == [(None, line)]


def test_a_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "hidden.md").write_text("# no")
    (tmp_path / "sub" / "b.txt").write_bytes("\ufeffline one\r\n\r\nline three".encode())
    (tmp_path / "a.rs").write_text("fn main() {}")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    found = list(read_text_files(text_files(tmp_path), tmp_path, Chunker(2)))
    assert [(p["id"], p["document"], p["file"]) for p in found] == [
        ("a.rs:1", "fn main", "a.rs"),
        ("a.rs:1#2", "()", "a.rs"),
        ("a.rs:1#3", "{}", "a.rs"),
        ("sub/b.txt:1", "line one", "sub/b.txt"),
        ("sub/b.txt:3", "line three", "sub/b.txt"),
    ]


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="no text in files that end in"):
        list(read_text_files(text_files(tmp_path), tmp_path, Chunker()))
    (tmp_path / "a.txt").write_bytes(b"fine\ncaf\xe9")
    with pytest.raises(InputError, match=r"a\.txt, line 2, column 4: not UTF-8: byte 0xe9"):
        list(read_text_files(text_files(tmp_path), tmp_path, Chunker()))
    (tmp_path / "b.txt").write_text("b")
    errors = []
    assert [p["id"] for p in read_text_files(text_files(tmp_path), tmp_path, Chunker(), wrong=errors.append)] == [
        "b.txt:1"
    ]
    assert len(errors) == 1
    assert [p["document"] for p in read_text_files(text_files(tmp_path), tmp_path, Chunker(), "latin-1")] == [
        "fine\ncafé",
        "b",
    ]


def test_what_this_package_made_within_a_folder_is_no_text_of_it(tmp_path):
    """A set that was prepared from a folder into it, a model, a run: their cards would be documents."""
    (tmp_path / "a.txt").write_text("a")
    for name, mark in (("set", "lbr_set.json"), ("deep/model", "modules.json"), ("run", "lbr_run.json")):
        (tmp_path / name / "1_Pooling").mkdir(parents=True)
        (tmp_path / name / mark).write_text("{}")
        (tmp_path / name / "README.md").write_text("a card")
        (tmp_path / name / "1_Pooling" / "b.txt").write_text("b")
    assert text_files(tmp_path) == [tmp_path / "a.txt"]
    account = Account()
    note_files(account, tmp_path, text_files(tmp_path))
    assert "3 made by lbr, or models, left aside: deep/model, run, set" in str(account)
    assert text_files(tmp_path / "set")  # it was named itself


def test_passages_of_one_line_have_ids_of_their_own(tmp_path):
    (tmp_path / "long.txt").write_text(" ".join(f"Sentence {n} is one of many." for n in range(30)) + "\nAnother line.")
    ids = [each["id"] for each in read_text_files(text_files(tmp_path), tmp_path, Chunker(tokens=40))]
    assert ids[:3] == ["long.txt:1", "long.txt:1#2", "long.txt:1#3"]
    assert len(ids) == len(set(ids))


JAPANESE = "水は百度で沸騰しますが気圧が低い山の上ではもっと低い温度で沸騰するので料理に時間がかかります"
SCRIPTS = {
    "Chinese": "水在一百度沸腾但是在高山上因为气压低所以沸点也低煮饭需要更长的时间",
    "Japanese": JAPANESE,
    "Korean": "물은백도에서끓지만산위에서는기압이낮아서더낮은온도에서끓기때문에밥을짓는데시간이걸립니다",
    "Thai": "น้ำเดือดที่หนึ่งร้อยองศาแต่บนภูเขาสูงน้ำเดือดที่อุณหภูมิต่ำกว่าเพราะความกดอากาศต่ำ",
    "Lao": "ນ້ຳຟົດທີ່ໜຶ່ງຮ້ອຍອົງສາແຕ່ຢູ່ເທິງພູສູງນ້ຳຟົດທີ່ອຸນຫະພູມຕ່ຳກວ່າ",
    "Khmer": "ទឹកពុះនៅមួយរយអង្សាប៉ុន្តែនៅលើភ្នំខ្ពស់ទឹកពុះនៅសីតុណ្ហភាពទាបជាង",
    "Burmese": "ရေသည်ဒီဂရီတစ်ရာတွင်ဆူပွက်သော်လည်းတောင်ပေါ်တွင်အပူချိန်နိမ့်၍ဆူပွက်သည်",
    "Chinese and English": "使用Transformer模型对DNA序列进行分类然后用BM25检索相关文献",
    "emoji": "👩🏽‍🔬👨‍👩‍👧🇩🇪👍🏿",
    "accents": "e\u0301a\u0308o\u0302" * 10,
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_text_without_spaces_is_cut(script):
    """Into passages of the length asked for, none of them tiny; and never between a letter and what stands upon it."""
    text = SCRIPTS[script] * 40
    chunks = [chunk for _, chunk in Chunker(32).cut(text)]
    assert "".join(chunks) == text
    assert all(count_words(chunk) <= 32 for chunk in chunks)
    assert all(count_words(chunk) > 16 for chunk in chunks[:-1])
    for chunk in chunks:
        assert not unicodedata.category(chunk[0]).startswith("M") and chunk[0] != "\u200d" and chunk[-1] != "\u200d"


def test_text_of_a_language_without_spaces_is_as_long_as_another():
    """Some 256 characters, where it were 20,000."""
    chunks = [chunk for _, chunk in Chunker().cut(JAPANESE * 400)]
    assert [len(chunk) <= 256 for chunk in chunks] == [True] * len(chunks) and len(chunks[0]) > 200


@pytest.mark.parametrize("text", ["ACGT" * 5000, "QUJDREVGRw" * 2000, "x" * 20_000, "0123456789abcdef" * 1000])
def test_a_sequence_is_cut_by_its_characters(text):
    chunks = [chunk for _, chunk in Chunker().cut(text)]
    assert "".join(chunks) == text and max(map(len, chunks)) == 1024


def test_tokens_of_a_model_are_what_is_counted():
    """Whoever knows the model that will read the passages says how its tokens are counted: here, bytes."""
    text = JAPANESE + ". One two. " * 3
    chunks = [chunk for _, chunk in Chunker(30, count=lambda text: len(text.encode())).cut(text)]
    assert all(len(chunk.encode()) <= 30 for chunk in chunks)
    assert "".join("".join(chunks).split()) == "".join(text.split())


def test_headings_of_what_is_searched(tmp_path):
    """They stand before each passage and are counted; docstrings stay in their functions; ids are those of a set."""
    long = " ".join(f"Dose {n} is taken at night." for n in range(30))
    (tmp_path / "drugs.md").write_text(f"Before.\n\n# Metoprolol\n\n{long}\n\n## Deep\n\n---\n\nMore.\n")
    (tmp_path / "code.py").write_text('X = 1\n\n\ndef g(s):\n    """Parse a date."""\n    return s\n')
    make = partial(Chunker, 40)
    found = {each["id"]: each["document"] for each in read_passages(tmp_path, make)}
    assert found["code.py:4"] == 'def g(s):\n    """Parse a date."""\n    return s'
    assert found["drugs.md:1"] == "Before."
    [*_, last] = found.values()
    assert last.startswith("Metoprolol > Deep\n") and last.endswith("More.")
    of_long = [text for id_, text in found.items() if id_.startswith("drugs.md:5")]
    assert len(of_long) > 3 and all(text.startswith("Metoprolol\n") and count_words(text) <= 40 for text in of_long)
    assert " ".join(text.removeprefix("Metoprolol\n") for text in of_long) == long
    in_a_set = [each["id"] for each in read_text_records(tmp_path, make())]
    assert {"code.py:4", "code.py:1", "drugs.md:1", "drugs.md:5"} <= set(in_a_set) & set(found)
